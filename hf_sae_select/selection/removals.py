"""Removals: which rows `dedup` removed, in whose favour and why; and how a dataset carries them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..features.kernels import Floats, Int64s
from ..features.leaders import unit_rows
from ..features.shares import Shares

if TYPE_CHECKING:  # annotations only
    import pandas as pd
    from datasets import Dataset

    from ..sae.labels import Labels

ATTRIBUTE = "_sae_removals"  # of a Dataset; `filter` and `with_format` copy it, `map` and `select` drop it
MOST_SHARED = 3  # features of a pair that are named
STEPS = ("text", "minhash", "features")


class Near(NamedTuple):
    """Say why a row is removed."""

    step: str
    """"text", "minhash" or "features"."""
    kept: int
    """The row that stays in its place."""
    similarity: float
    """1 for equal texts, else the Jaccard similarity of stretches of words, or the cosine of features."""


@dataclass(frozen=True, eq=False)
class Removals:
    """Hold the rows that `dedup` removed, with the reason of each.

    Example: row 4 has the text of row 1, and row 7 has nearly the features of row 2: rows [4, 7], kept [1, 2], steps
    ["text", "features"], similarity [1.0, 0.97].
    """

    rows: Int64s
    """The rows that were removed, ascending: [m]."""
    kept: Int64s
    """Of each the row that stays in its place: [m]."""
    steps: list[str]
    """Of each what told: "text", "minhash" or "features"."""
    similarity: Floats
    """Of each how similar it is to the row that stays: 1 for equal texts, the Jaccard similarity of stretches of five
    words, or the cosine of the shares of features: [m]. A row with the text of a removed row has its similarity."""
    features: list[tuple[int, ...]]
    """Of each the features that it shares with the row that stays, up to three, the largest part of the cosine
    first."""
    titles: dict[int, str]
    """The number and the name of each of these features, such as `#551 concentration`."""
    parameters: dict[str, Any]
    """What `dedup` was asked for: `threshold`, `minhash` and `quality`."""
    pool_rows: int
    """The number of all rows."""
    blank_rows: int
    """The number of rows without text. They stay."""

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Removals(rows={len(self):,} of {self.pool_rows:,}, groups={len(self.groups):,}, steps={self.counts})"

    @property
    def counts(self) -> dict[str, int]:
        """The number of removed rows by what told."""
        counts = Counter(self.steps)
        return {step: counts[step] for step in STEPS if counts[step]}

    @cached_property
    def groups(self) -> list[tuple[int, ...]]:
        """Of each group the row that stays, and then the rows that were removed.

        The largest group is first.
        """
        members: dict[int, list[int]] = {}
        for row, kept in zip(self.rows.tolist(), self.kept.tolist(), strict=True):
            members.setdefault(kept, []).append(row)
        groups = [(kept, *members[kept]) for kept in sorted(members)]
        return sorted(groups, key=len, reverse=True)

    def to_pandas(self) -> pd.DataFrame:
        """Return a line for each removed row.

        Returns:
            `pandas.DataFrame`: `row`, `kept`, `step`, `similarity`, and `shared`, the features that both rows have.
        """
        import pandas as pd  # datasets needs it too, and loads it late

        shared = [", ".join(self.titles[feature] for feature in own) for own in self.features]
        columns = {"row": self.rows, "kept": self.kept, "step": self.steps, "similarity": self.similarity}
        return pd.DataFrame({**columns, "shared": shared})


def removals(
    near: Mapping[int, Near],
    shares: Shares,
    labels: Labels | None,
    parameters: dict[str, Any],
    pool_rows: int,
    blank_rows: int,
) -> Removals:
    """Make Removals of the reason of each removed row, and the shares of all rows."""
    rows = sorted(near)
    unit = unit_rows(shares.features.offsets, shares.amounts)
    features = [_shared(shares, unit, row, near[row].kept) for row in rows]
    shown = sorted({feature for own in features for feature in own})
    titles = {feature: f"#{feature}" if labels is None else labels.title(feature) for feature in shown}
    return Removals(
        np.array(rows, np.int64),
        np.array([near[row].kept for row in rows], np.int64),
        [near[row].step for row in rows],
        np.array([near[row].similarity for row in rows]),
        features,
        titles,
        parameters,
        pool_rows,
        blank_rows,
    )


def attach(dataset: Dataset, removed: Removals) -> None:
    """Attach to a dataset what was removed from it."""
    setattr(dataset, ATTRIBUTE, removed)


def removals_of(dataset: Dataset) -> Removals:
    """Return what `dedup` removed from a dataset: the attribute `sae_removals`.

    Raises:
        AttributeError: Nothing is attached.
        ValueError: Rows were filtered since, so that it describes other rows.
    """
    removed: Removals | None = getattr(dataset, ATTRIBUTE, None)
    if removed is None:
        raise AttributeError(
            "this dataset has no `sae_removals`: `sae_dedup` attaches it, and `map`, `select`, `shuffle`, saving and "
            "loading drop it"
        )
    if len(dataset) != removed.pool_rows - len(removed):
        raise ValueError(
            f"`sae_removals` is of {removed.pool_rows - len(removed):,} rows that stay, but this dataset has "
            f"{len(dataset):,}: rows were filtered out since; read it before"
        )
    return removed


def _shared(shares: Shares, unit: Any, row: int, kept: int) -> tuple[int, ...]:
    """Return the features with the largest parts of the cosine of two rows."""
    offsets, ids = shares.features.offsets, shares.features.ids
    own, others = (slice(offsets[i], offsets[i + 1]) for i in (row, kept))
    shared, first, second = np.intersect1d(ids[own], ids[others], assume_unique=True, return_indices=True)
    parts = unit[own][first] * unit[others][second]
    largest = np.argsort(-parts, kind="stable")[:MOST_SHARED]
    return tuple(shared[largest[parts[largest] > 0]].tolist())
