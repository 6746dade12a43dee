"""Train the SAE that ships in the package, from permissively licensed text.

    python examples/train_default_sae.py --data FOLDER --out hf_sae_select/default

FOLDER holds the Parquet files named in SOURCES. Under an hour on two cores; the same files, seed and versions give the
same SAE. Two in a hundred documents, told by a hash of their text, are never trained on; figures are measured there.
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
from hf_sae_select.training.evaluation import evaluate
from hf_sae_select.training.train import calibrate, train_sae

MODEL, REVISION = "sentence-transformers/all-MiniLM-L6-v2", "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
HOOK, WINDOW = "encoder.layer.4", 256
COMMAND = "python examples/train_default_sae.py --data FOLDER --out hf_sae_select/default"
RECIPE = SaeTrainingConfig(d_sae=8192, k=32, tokens=4_000_000, batch=1024, lr=1e-3)
PASSAGE = 1000  # characters: novels are read in passages


@dataclass(frozen=True)
class Source:
    """Name a Parquet file, how its rows are written out, how many documents are drawn, and its licence."""

    file: str
    text: Callable[[dict[str, Any]], str]
    most: int
    origin: str
    licence: str


def lines(*columns: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: "\n".join(row[name] for name in columns if row[name])


SOURCES = (
    Source("dolly_15k", lines("instruction", "context", "response"), 10**6, "databricks-dolly-15k", "CC BY-SA 3.0"),
    Source("oasst1_en_train_texts", lines("text"), 10**6, "OpenAssistant oasst1, English", "Apache-2.0"),
    Source("gsm8k_train", lines("question", "answer"), 10**6, "GSM8K, train", "MIT"),
    Source("t0_train_50k", lines("prompt", "completion"), 20_000, "P3 sample of self-instruct (T0)", "Apache-2.0"),
    Source("text_novels100", lines("text"), 12_000, "100 English novels, passages", "public domain"),
)


def documents(folder: Path, seed: int) -> tuple[list[str], list[str]]:
    """Return (training, held-out) documents, shuffled; equal texts fall on the same side."""
    kept: list[str] = []
    for source in SOURCES:
        rows: Dataset = load_dataset("parquet", data_files=str(folder / f"{source.file}.parquet"), split="train")
        texts = [source.text(row) for row in rows]
        if source.file == "text_novels100":
            texts = [text[i : i + PASSAGE] for text in texts for i in range(0, len(text), PASSAGE)]
        random.Random(seed).shuffle(texts)
        kept += [text for text in texts if text.strip()][: source.most]
    random.Random(seed).shuffle(kept)
    held_out = [hashlib.sha256(text.encode()).digest()[0] < 5 for text in kept]
    return (
        [text for text, out in zip(kept, held_out, strict=True) if not out],
        [text for text, out in zip(kept, held_out, strict=True) if out],
    )


def blocks(model: LanguageModel, texts: Sequence[str]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (tokens of each document, states) of the documents' first windows, a forward pass at a time."""
    for start in range(0, len(texts), 512):
        windows = model.windows(texts[start : start + 512], max_length=model.window - 2)
        for group, states in model.states(windows):
            yield [sum(window.is_text) for window in group], states


def main() -> None:
    args = arguments()
    training, held_out = documents(args.data, args.seed)
    asked = {name: getattr(args, name) for name in ("d_sae", "k", "tokens", "batch", "lr", "seed")}
    config, hook = replace(RECIPE, **asked), f"encoder.layer.{args.layer - 1}"
    sae = train_sae(
        Dataset.from_dict({"text": training}),
        model=MODEL,
        model_revision=REVISION,
        hook=hook,
        window=WINDOW,
        max_length=WINDOW - 2,  # the first window of a document, beside the two special tokens
        config=config,
        checkpoints=args.checkpoints,
    )
    # What ships is rounded to half precision: round first, then measure.
    sae = sae.half().float()
    model = LanguageModel.from_pretrained(MODEL, hook, revision=REVISION, window=WINDOW)
    unseen = list(blocks(model, held_out))
    quality = evaluate(sae, (states for _, states in unseen))
    print(quality)
    sae = calibrate(sae, torch.cat([sae.encode_max(states, lengths) for lengths, states in unseen]), args.k)
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
    sae.config = replace(sae.config, training=sae.config.training | quality.facts() | facts)
    (args.out / "README.md").unlink(missing_ok=True)  # the card is written anew
    sae.half().save_pretrained(args.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the SAE to")
    parser.add_argument("--layer", type=int, default=5, help="layers run before the SAE (default: 5)")
    for name, kind in (("d_sae", int), ("k", int), ("tokens", int), ("batch", int), ("lr", float), ("seed", int)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(RECIPE, name))
    parser.add_argument("--checkpoints", type=Path, help="folder; a training that was interrupted goes on from there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
