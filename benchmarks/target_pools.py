"""Pools with kinds to aim at, from public data: rows, kinds, and targets drawn from them.

As in labelled.py, rules are chosen on half "a" and confirmed on half "b", and no row is in both but junk. Kinds have
more rows here, so that a reference can be drawn from them and the pool still holds what a budget asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import labelled
import numpy as np
import pandas as pd
from datasets import Dataset
from numpy.typing import NDArray

KINDS, ROWS = 20, 100  # of a pool of T0, of novels and of first words: kinds, and rows of each at most
REFERENCES, BUDGETS = (8, 24, 80), (60, 200, 1000)

SOURCES: dict[str, dict[str, int]] = {  # what is mixed, and rows of each kind at most
    "a": {"dolly": 250, "gsm8k": 400, "code": 400, "ultrachat": 200},
    "b": {"alpaca": 600, "oasst1": 600, "alpaca_eval": 120, "mtbench101": 150},
}
NATURAL = {"a": ("dolly",), "b": ("truthfulqa", "mtbench101")}


class Case(NamedTuple):
    """Hold one pool, and one target to aim at in it."""

    pool: str
    draw: int
    rows: NDArray[np.int64]
    """Rows of the universe that may be picked."""
    kinds: NDArray[np.str_]
    """Kind of each of `rows`; junk is a kind that no target has."""
    reference: NDArray[np.int64]
    """Rows of the universe that show the target; none is in `rows`."""
    mix: dict[str, float]
    """Share of each kind in the target."""


def universe(data: Path) -> Dataset:
    """Return all rows that a pool may use: `text`, `source`, `label` and `origin`, the row that it is a copy of."""
    parts = [few(part, KINDS, ROWS) for part in (labelled.t0(data, ROWS), labelled.verbs(data, ROWS))]
    parts += [few(authors(labelled.novels(data, ROWS)), KINDS, ROWS)]
    sizes = SOURCES["a"] | SOURCES["b"] | {"truthfulqa": 100}
    for part in labelled.instructions(data):
        parts.append(few(part, len(part), sizes[part["source"].iloc[0]]))
    rows = pd.concat(parts, ignore_index=True)
    rows["origin"] = np.arange(len(rows))
    mixed = rows[rows["source"].isin({*SOURCES["a"], *SOURCES["b"]})]
    extra = pd.concat([labelled.copies(mixed), labelled.junk(mixed)], ignore_index=True)
    extra["origin"] = extra["origin"].fillna(pd.Series(np.arange(len(extra)) + len(rows))).astype(int)
    return Dataset.from_pandas(pd.concat([rows, extra], ignore_index=True), preserve_index=False)


def few(rows: pd.DataFrame, kinds: int, most: int) -> pd.DataFrame:
    """Keep, of each source, so many kinds, evenly over their names, and some rows of each."""
    kept = rows.sample(frac=1, random_state=0).groupby(["source", "label"]).head(most).sort_index()
    found = []
    for _, part in kept.groupby("source"):
        names = np.array(sorted(set(part["label"])))
        chosen = names[np.unique(np.linspace(0, len(names) - 1, min(kinds, len(names))).astype(int))]
        found.append(part[part["label"].isin(chosen)])
    return pd.concat(found)


def authors(novels: pd.DataFrame) -> pd.DataFrame:
    return novels.assign(label=novels["label"].str.partition("_")[0])
