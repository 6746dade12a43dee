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
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor

from hf_sae_select.activations import PACKAGED, LanguageModel
from hf_sae_select.config import SaeConfig
from hf_sae_select.sae import SparseAutoencoder
from hf_sae_select.training import calibrate, evaluate, shuffled, train_sae

MODEL, REVISION = "sentence-transformers/all-MiniLM-L6-v2", "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
CARDS = Path(__file__).parent.parent / "hub_cards"
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
    torch.manual_seed(args.seed)
    config = SaeConfig(
        d_in=384,
        d_sae=args.d_sae,
        activation="jumprelu",
        model=MODEL,
        model_revision=REVISION,
        hook=f"encoder.layer.{args.layer - 1}",
        context_size=256,
    )
    model = LanguageModel.from_pretrained(MODEL, config.hook, revision=REVISION, window=config.context_size)
    training, held_out = documents(args.data, args.seed)
    passes = chain.from_iterable(blocks(model, training) for _ in range(100))  # again from the start, if it must
    batches = shuffled((states for _, states in passes), args.batch, buffer=2**18, seed=args.seed)
    steps = args.tokens // args.batch
    sae = train_sae(batches, config, k=args.k, steps=steps, lr=args.lr, seed=args.seed)
    # What ships is rounded to half precision: round first, then measure.
    sae = sae.half().float()
    unseen = list(blocks(model, held_out))
    quality = evaluate(sae, (states for _, states in unseen))
    print(quality)
    sae = calibrate(sae, torch.cat([sae.encode_max(states, lengths) for lengths, states in unseen]), args.k)
    facts = {
        "method": "BatchTopK, kept as JumpReLU",
        "k": args.k,
        "layer": args.layer,
        "tokens": steps * args.batch,
        "batch": args.batch,
        "learning_rate": args.lr,
        "seed": args.seed,
        "documents": len(training),
        "held_out_documents": len(held_out),
        "model_sha256": PACKAGED[MODEL][3],
        "text": [f"{source.origin} ({source.licence})" for source in SOURCES],
        "versions": {"torch": torch.__version__},
        "explained_variance": quality.explained_variance,
        "l0": quality.l0,
        "dead": quality.dead,
        "tokens_held_out": quality.tokens,
    }
    sae.config = replace(sae.config, training=facts)
    sae.save_pretrained(args.out, dtype=torch.float16)
    (args.out / "README.md").write_text(card(sae), encoding="utf-8")


def card(sae: SparseAutoencoder) -> str:
    """Render the SAE's model card."""
    cards = Environment(loader=FileSystemLoader(CARDS), undefined=StrictUndefined, keep_trailing_newline=True)
    return cards.get_template("sae/README.md").render(config=sae.config, **sae.config.training)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the SAE to")
    parser.add_argument("--layer", type=int, default=5, help="layers run before the SAE (default: 5)")
    parser.add_argument("--d-sae", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=4_000_000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
