"""Instruction and chat text to train the decoder's SAE on, and text of the same kinds that is held out.

No row of the labelled pools (`benchmarks/labelled.py`) is among them: what selections are measured on, the SAE has
not seen.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

sys.path.append(str(Path(__file__).parent.parent))
from labelled import joined, universe

HELD_OUT = 13  # of 256 hashes of a text: 5 %


class Source(NamedTuple):
    """A Parquet file, the columns that make a text, and its part in the mixture."""

    file: str
    columns: tuple[str, ...]
    part: int


SOURCES = (
    Source("alpaca_52k", ("instruction", "input", "output"), 3),
    Source("t0_train_50k", ("prompt", "completion"), 3),
    Source("dolly_15k", ("instruction", "context", "response"), 2),
    Source("oasst1_en_train_texts", ("text",), 2),
    Source("evol_codealpaca_4k", ("instruction", "output"), 1),
    Source("gsm8k_train", ("question", "answer"), 1),
)


def documents(data: Path) -> tuple[list[str], list[str]]:
    """Return the training and the held-out texts; any first stretch of them has the sources in their parts.

    Raises:
        SystemExit: `data` lacks a file.
    """
    for source in SOURCES:
        if not (data / f"{source.file}.parquet").is_file():
            raise SystemExit(f"`--data {data}` has no file {source.file}.parquet; pass the folder that has it")
    excluded = set(universe(data)["text"])
    mixture: list[tuple[float, str]] = []
    for source in SOURCES:
        table = pd.read_parquet(data / f"{source.file}.parquet")
        texts = joined(table, *source.columns).drop_duplicates()
        shuffled = texts.iloc[np.random.default_rng(0).permutation(len(texts))]
        kept = [text for text in shuffled if text.strip() and text not in excluded]
        mixture += [(place / source.part, text) for place, text in enumerate(kept)]
    mixture.sort()
    training: list[str] = []
    held_out: list[str] = []
    for _, text in mixture:
        is_held_out = hashlib.sha256(text.encode()).digest()[0] < HELD_OUT
        (held_out if is_held_out else training).append(text)
    return training, held_out
