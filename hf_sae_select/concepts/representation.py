"""Representation: which features picks have more or less often than all rows, and which ones no pick has.

Random picks differ from all rows too. So a difference counts only where it is larger than chance makes it, see
`chance.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..features.matrix import FeatureMatrix
from ..features.metrics import frequency
from .chance import CHANCE, adjusted, tails

if TYPE_CHECKING:  # annotations only
    import pandas as pd

    from ..sae.labels import Labels


@dataclass(frozen=True)
class FeatureShare:
    """Hold how many of all rows and of the picks have a feature."""

    feature: int
    """The number of the feature."""
    name: str
    """Its name, "" without labels."""
    pool_rows: int
    """The number of rows of the pool that have it."""
    rows: int
    """The number of picks that have it."""
    pool_share: float
    """The share of the pool."""
    share: float
    """The share of the picks."""
    lift: float
    """`share / pool_share`: 2 where picks have it twice as often as all rows."""
    q_value: float
    """The share of chance among the differences that are as clear as this one, or clearer: 0.05 and less count."""
    kind: str
    """"over" and "under" where picks have it more and less often than random picks would; "missing" where none has it;
    "" otherwise."""


@dataclass(frozen=True, eq=False)
class Representation:
    """Hold the share of all rows and of the picks for each feature of the pool."""

    pool_rows: int
    """The number of rows of the pool."""
    rows: int
    """The number of picks."""
    features: tuple[FeatureShare, ...]
    """The features that any row of the pool has, the most frequent ones first."""

    @cached_property
    def over(self) -> list[FeatureShare]:
        """The over-represented features, the largest lift first."""
        return sorted((share for share in self.features if share.kind == "over"), key=lambda share: -share.lift)

    @cached_property
    def under(self) -> list[FeatureShare]:
        """The under-represented features, the smallest lift first."""
        return sorted((share for share in self.features if share.kind == "under"), key=lambda share: share.lift)

    @cached_property
    def missing(self) -> list[FeatureShare]:
        """The features that no pick has, the most frequent of the pool first."""
        return [share for share in self.features if share.kind == "missing"]

    def to_pandas(self) -> pd.DataFrame:
        """Return the features as a table.

        Returns:
            `pandas.DataFrame`: A line a feature, with the fields of `FeatureShare` as its columns.
        """
        import pandas as pd  # datasets needs it too, and loads it late

        columns = list(FeatureShare.__dataclass_fields__)
        return pd.DataFrame([asdict(share) for share in self.features], columns=columns)

    def __repr__(self) -> str:
        counts = f"over={len(self.over):,}, under={len(self.under):,}, missing={len(self.missing):,}"
        return f"Representation(rows={self.rows:,} of {self.pool_rows:,}, features={len(self.features):,}, {counts})"


def representation(
    features: FeatureMatrix,
    indices: Iterable[int],
    pool: Iterable[int] | None = None,
    *,
    labels: Labels | None = None,
) -> Representation:
    """Compare how many picks and how many of all rows have each feature.

    Args:
        features (`FeatureMatrix`):
            Features of all rows, above the SAE's threshold: weaker activations are mostly noise.
        indices (`Iterable[int]`):
            The picks.
        pool (`Iterable[int]`, *optional*):
            The rows that could be picked. By default all rows.
        labels (`Labels`, *optional*):
            Names of the features.

    Returns:
        `Representation`: The shares of each feature, and which ones differ by more than chance.

    Raises:
        ValueError: If `labels` are of an SAE with another width, or rows do not exist.

    Example:

    ```python
    # rows {0, 1}, {0, 1}, {0, 2}; the picks are the first two
    representation(features, [0, 1]).missing[0].feature  # 2
    ```
    """
    if labels is not None:
        labels.check({"d_sae": features.d_sae})
    picks = np.array(list(indices), np.int64)
    rows = np.arange(len(features)) if pool is None else np.array(list(pool), np.int64)
    pool_counts, counts = frequency(features, rows), frequency(features, picks)
    present = np.flatnonzero(pool_counts)
    present = present[np.argsort(-pool_counts[present], kind="stable")]
    q_values = adjusted(tails(len(rows), len(picks), pool_counts[present], counts[present]))
    n, k = max(len(rows), 1), max(len(picks), 1)
    shares = []
    for feature, q_value in zip(present.tolist(), q_values.tolist(), strict=True):
        pool_share, share = int(pool_counts[feature]) / n, int(counts[feature]) / k
        name = "" if labels is None else labels.name(feature)
        kind = "missing" if share == 0 else ("over" if share > pool_share else "under") if q_value <= CHANCE else ""
        numbers = int(pool_counts[feature]), int(counts[feature]), pool_share, share, share / pool_share
        shares.append(FeatureShare(feature, name, *numbers, q_value, kind))
    return Representation(len(rows), len(picks), tuple(shares))
