"""Pools with kinds to aim at, from public data: rows, their kinds, and targets drawn from them.

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

KINDS, ROWS = 20, 100  # of T0, of novels and of first words: kinds of each half, and rows of each at most
REFERENCES, BUDGETS = (8, 24, 80), (60, 200, 1000)
SIZES = (1, 2, 3, 5)  # kinds of a target
LARGEST = 2500  # rows of a pool of many sources

# Rows of each kind at most. Long texts are cut as all are.
INSTRUCTIONS = {"dolly": 250, "gsm8k": 400, "code": 400, "ultrachat": 200, "truthfulqa": 100}
INSTRUCTIONS |= {"alpaca": 600, "oasst1": 600, "alpaca_eval": 120, "mtbench101": 150}
MIXTURES = labelled.MIXTURES

POOLS: dict[str, dict[str, tuple[str, ...]]] = {
    half: {kind: (f"{kind}-{half}",) for kind in ("t0", "verbs", "novels")}
    | {source: (source,) for source in labelled.NATURAL[half]}
    | {"mixture": MIXTURES[half], "all": (*(f"{kind}-{half}" for kind in ("t0", "verbs", "novels")), *others)}
    for half, others in {"a": ("gsm8k", "code"), "b": ("alpaca", "oasst1")}.items()
}


class Case(NamedTuple):
    """Hold one pool, and one target to aim at in it."""

    half: str
    pool: str
    draw: int
    rows: NDArray[np.int64]
    """Rows of the universe that may be picked."""
    kinds: NDArray[np.str_]
    """The kind of each of `rows`; junk is a kind that no target has."""
    reference: NDArray[np.int64]
    """Rows of the universe that show the target; none is in `rows`."""
    mix: dict[str, float]
    """The share of each kind in the target."""

    @property
    def budgets(self) -> list[int]:
        """Return the smallest budget, and those others that the pool's rows of the target's kinds can fill."""
        there = np.isin(self.kinds, list(self.mix)).sum()
        return [budget for budget in BUDGETS if budget == min(BUDGETS) or budget <= there]

    def distance(self, picks: NDArray[np.int64]) -> float:
        """Return the total variation between the picks' kinds and the target's."""
        kinds, counts = np.unique(self.kinds[picks], return_counts=True)
        shares = dict(zip(kinds.tolist(), counts / len(picks), strict=True))
        return float(sum(abs(shares.get(kind, 0) - self.mix.get(kind, 0)) for kind in shares | self.mix)) / 2

    def share(self, picks: NDArray[np.int64]) -> float:
        """Return the share of the picks that are of the target's kinds."""
        return float(np.isin(self.kinds[picks], list(self.mix)).mean())


def universe(data: Path) -> Dataset:
    """Return all rows that a pool may use: `text`, `source`, `label` and `origin`, the row that it is a copy of."""
    novels = labelled.novels(data, ROWS)
    novels["label"] = novels["label"].str.partition("_")[0]  # the author
    parts = [labelled.few(part, KINDS, ROWS) for part in (labelled.t0(data, ROWS), labelled.verbs(data, ROWS), novels)]
    for part in labelled.instructions(data):
        parts.append(labelled.few(part, len(part), INSTRUCTIONS[part["source"].iloc[0]]))
    rows = pd.concat(parts, ignore_index=True)
    rows["origin"] = np.arange(len(rows))
    mixed = rows[rows["source"].isin({*MIXTURES["a"], *MIXTURES["b"]})]
    extra = pd.concat([labelled.copies(mixed), labelled.junk(mixed)], ignore_index=True)
    extra["origin"] = extra["origin"].fillna(pd.Series(np.arange(len(extra)) + len(rows))).astype(int)
    return Dataset.from_pandas(pd.concat([rows, extra], ignore_index=True), preserve_index=False)


def cases(rows: Dataset, half: str, draws: int) -> Iterator[Case]:
    """Draw so many targets in every pool of a half, and a reference of each size for each."""
    table = rows.select_columns(["source", "label", "origin"]).to_pandas()
    for number, pool in enumerate(sorted(POOLS[half])):
        for draw in range(draws):
            for size in REFERENCES:
                yield case(table, half, pool, draw, size, np.random.default_rng([draw, size, number, 7]))


def case(table: pd.DataFrame, half: str, pool: str, draw: int, size: int, rng: np.random.Generator) -> Case:
    """Draw a target, `size` rows that show it, and the rows to pick from."""
    rows = np.flatnonzero(table["source"].isin(POOLS[half][pool]))
    labels = table["label"].to_numpy().astype(str)
    names, counts = np.unique(labels[rows], return_counts=True)
    count, fits = SIZES[draw % len(SIZES)], False
    while not fits:  # a kind leaves half its rows in the pool at least; a large reference may need more kinds
        kinds, mix = rng.choice(names, count, replace=False), rng.dirichlet(np.full(count, 2.0))
        drawn = rng.multinomial(size, mix)
        fits = bool((drawn <= counts[np.searchsorted(names, kinds)] / 2).all())
        count = count if fits else min(count + (rng.random() < 0.05), len(names), max(SIZES))
    shown = [rng.permutation(rows[labels[rows] == kind])[:n] for kind, n in zip(kinds, drawn, strict=True)]
    reference = np.concatenate(shown)
    left = rng.permutation(np.setdiff1d(rows, reference))
    left = left[:LARGEST] if pool == "all" else left
    if pool == "mixture":
        left = np.concatenate([left, *extras(table, left, rng)])
    left = rng.permutation(left)
    kinds_left = np.where(table["source"].to_numpy()[left] == "junk", "junk", labels[left])
    return Case(half, pool, draw, left, kinds_left, reference, dict(zip(kinds.tolist(), mix.tolist(), strict=True)))


def extras(table: pd.DataFrame, rows: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return near-duplicates, a tenth as many as there are rows, and junk, a twentieth."""
    source, origin = table["source"].to_numpy(), table["origin"].to_numpy()
    copies = np.flatnonzero((source == "copy") & np.isin(origin, rows))
    origins = rng.permutation(np.unique(origin[copies]))[: len(rows) // 10 // labelled.COPIES]
    junk = rng.permutation(np.flatnonzero(source == "junk"))[: len(rows) // 20]
    return [copies[np.isin(origin[copies], origins)], junk]
