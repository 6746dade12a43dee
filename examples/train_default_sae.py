"""Train the default SAE of the package, on permissively licensed text.

    python examples/train_default_sae.py --data FOLDER --out hf_sae_select/sae/default

FOLDER holds the Parquet files named in SOURCES. The training takes less than an hour on two cores. The same files,
seed and library versions give the same SAE. Two percent of the documents, chosen by a hash of their text, are held
out; the metrics are measured on them.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset
from torch import Tensor

from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.encoding.pretrained import PACKAGED
from hf_sae_select.training.config import SaeTrainingConfig
from hf_sae_select.training.evaluation import calibrate_feature_threshold, evaluate_sae_on_activations
from hf_sae_select.training.train import train_sae

MODEL, REVISION = "sentence-transformers/all-MiniLM-L6-v2", "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
HOOK, CONTEXT_SIZE = "encoder.layer.4", 256
COMMAND = "python examples/train_default_sae.py --data FOLDER --out hf_sae_select/sae/default"
CONFIG = SaeTrainingConfig(
    d_sae=8192, k=32, training_tokens=4_000_000, train_batch_size_tokens=1024, learning_rate=1e-3
)
OPTIONS = ("d_sae", "k", "training_tokens", "train_batch_size_tokens", "learning_rate", "seed")  # of the command line
PASSAGE = 1000  # characters; novels are cut into passages of this length


@dataclass(frozen=True)
class Source:
    """A Parquet file, how to write a row as text, the maximum number of documents to draw, and the licence."""

    file: str
    text: Callable[[dict[str, Any]], str]
    limit: int
    origin: str
    licence: str


def lines(*columns: str) -> Callable[[dict[str, Any]], str]:
    """Return a function that joins the columns of a row that are not empty."""
    return lambda row: "\n".join(row[name] for name in columns if row[name])


SOURCES = (
    Source("dolly_15k", lines("instruction", "context", "response"), 10**6, "databricks-dolly-15k", "CC BY-SA 3.0"),
    Source("oasst1_en_train_texts", lines("text"), 10**6, "OpenAssistant oasst1, English", "Apache-2.0"),
    Source("gsm8k_train", lines("question", "answer"), 10**6, "GSM8K, train", "MIT"),
    Source("t0_train_50k", lines("prompt", "completion"), 20_000, "P3 sample of self-instruct (T0)", "Apache-2.0"),
    Source("text_novels100", lines("text"), 12_000, "100 English novels, passages", "public domain"),
)


def read_documents(folder: Path, seed: int) -> tuple[list[str], list[str]]:
    """Return the (training, held-out) documents, shuffled. Equal texts are in the same part."""
    documents: list[str] = []
    for source in SOURCES:
        rows: Dataset = load_dataset("parquet", data_files=str(folder / f"{source.file}.parquet"), split="train")
        texts = [source.text(row) for row in rows]
        if source.file == "text_novels100":
            texts = [text[i : i + PASSAGE] for text in texts for i in range(0, len(text), PASSAGE)]
        random.Random(seed).shuffle(texts)
        documents += [text for text in texts if text.strip()][: source.limit]
    random.Random(seed).shuffle(documents)
    training: list[str] = []
    held_out: list[str] = []
    for text in documents:
        (held_out if hashlib.sha256(text.encode()).digest()[0] < 5 else training).append(text)
    return training, held_out


def blocks(model: LanguageModel, texts: Sequence[str]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (token counts, hidden states) of the first window of each document, one forward pass at a time."""
    for start in range(0, len(texts), 512):
        windows = model.windows(texts[start : start + 512], max_length=model.window - 2)
        for group, states in model.states(windows):
            yield [sum(window.is_text) for window in group], states


def main() -> None:
    args = arguments()
    training, held_out = read_documents(args.data, args.seed)
    config = replace(CONFIG, **{name: getattr(args, name) for name in OPTIONS})
    hook = f"encoder.layer.{args.layer - 1}"
    sae = train_sae(
        Dataset.from_dict({"text": training}),
        model=MODEL,
        model_revision=REVISION,
        hook=hook,
        context_size=CONTEXT_SIZE,
        max_length=CONTEXT_SIZE - 2,  # the first window of a document; two of its tokens are special
        config=config,
        output_dir=args.checkpoints,
    )
    # The package holds the SAE in half precision: round the weights before measuring.
    sae = sae.half().float()
    model = LanguageModel.from_pretrained(MODEL, hook, revision=REVISION, window=CONTEXT_SIZE)
    held_out_blocks = list(blocks(model, held_out))
    quality = evaluate_sae_on_activations(sae, (states for _, states in held_out_blocks))
    print(quality)
    maxima = torch.cat([sae.encode_max(states, lengths) for lengths, states in held_out_blocks])
    facts = {
        "layer": args.layer,
        "documents": len(training),
        "held_out_documents": len(held_out),
        "model_sha256": PACKAGED[MODEL].sha256,
        "text": [f"{source.origin} ({source.licence})" for source in SOURCES],
        "language": "en",
        "license": "apache-2.0",
        "command": COMMAND,
    }
    sae.config = replace(
        sae.config,
        feature_threshold=calibrate_feature_threshold(maxima, args.k),
        training=sae.config.training | quality.facts() | facts,
    )
    (args.out / "README.md").unlink(missing_ok=True)  # `save_pretrained` keeps an existing card
    sae.half().save_pretrained(args.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the SAE to")
    parser.add_argument("--layer", type=int, default=5, help="layers before the SAE (default: 5)")
    for name in OPTIONS:
        default = getattr(CONFIG, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument(
        "--checkpoints", type=Path, help="folder for a checkpoint, from which an interrupted training resumes"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
