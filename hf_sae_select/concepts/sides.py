"""Sides: two sets of rows, and the features that one has more often than the other."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..features.kernels import Int64s, holders
from ..features.matrix import FeatureMatrix
from ..features.peaks import Peaks
from .chance import CHANCE, adjusted, lift_intervals, lifts, log_likelihood_ratios, tails
from .contrast import Contrast, ExampleRow, FeatureContrast, Presence
from .texts import Texts

if TYPE_CHECKING:  # annotations only
    from ..sae.labels import Labels


@dataclass(frozen=True, eq=False)
class Side:
    """Hold one set of rows."""

    name: str
    features: FeatureMatrix
    """The features of the rows, above the threshold."""
    rows: Int64s
    """Which rows of the matrix belong to it."""
    texts: Texts | None = None
    """The texts of the rows, where they may be shown."""

    @cached_property
    def counts(self) -> Int64s:
        """The number of rows that have each feature: [d_sae]."""
        features = self.features
        if len(self.rows) == len(features):
            return features.frequency
        return holders(features.offsets, features.ids, self.rows, features.d_sae)

    def presences(self, features: Int64s, most: int) -> list[Presence]:
        """Return how many rows have each of some features, with the `most` strongest rows as examples."""
        peaks, counts, size = Peaks.of(self.features, features, self.rows, most), self.counts[features], len(self.rows)
        texts = self._texts(peaks.rows[peaks.rows >= 0].tolist())
        lines = zip(counts.tolist(), peaks.rows.tolist(), peaks.activations.tolist(), strict=True)
        presences = []
        for count, rows, activations in lines:
            strongest = [(row, act) for row, act in zip(rows, activations, strict=True) if row >= 0]
            examples = tuple(ExampleRow(row, act, texts.get(row, "")) for row, act in strongest)
            presences.append(Presence(count, count / size, examples))
        return presences

    def _texts(self, rows: Iterable[int]) -> dict[int, str]:
        """Return the texts of rows; a warning says where they cannot be read."""
        if self.texts is None:
            return {}
        texts = self.texts.of_rows(sorted(set(rows)))
        for problem in self.texts.problems:
            warnings.warn(f"rows of `{self.name}`: {problem}", stacklevel=4)
        return texts


def contrast(
    base: Side,
    other: Side,
    *,
    threshold: float = 0.0,
    least_lift: float = 1.0,
    with_less: bool = False,
    most_chance: float = CHANCE,
    labels: Labels | None = None,
    examples: int = 3,
) -> Contrast:
    """Compare how often two sets of rows have each feature.

    Args:
        least_lift: features with a smaller lift are left out.
        with_less: whether those are kept that `other` has less often, with a lift of at most `1 / least_lift`.
        most_chance: features with a larger q-value are left out.
    """
    n, other_n = len(base.rows), len(other.rows)
    features = np.flatnonzero(base.counts + other.counts)
    counts, other_counts = base.counts[features], other.counts[features]
    lift = lifts(other_counts, other_n, counts, n)
    q_values = adjusted(tails(n + other_n, other_n, counts + other_counts, other_counts))
    is_kept = (lift >= least_lift) & (lift > 1)
    if with_less:
        is_kept |= (lift <= 1 / least_lift) & (lift < 1)
    kept = np.flatnonzero(is_kept & (q_values <= most_chance))
    ratios = log_likelihood_ratios(other_counts[kept], other_n, counts[kept], n)
    order = np.argsort(-ratios, kind="stable")
    kept, ratios = kept[order], ratios[order]
    lows, highs = lift_intervals(other_counts[kept], other_n, counts[kept], n)
    numbers = np.stack([lift[kept], lows, highs, q_values[kept], ratios], axis=1).tolist()
    ids = features[kept]
    sides = zip(ids.tolist(), base.presences(ids, examples), other.presences(ids, examples), numbers, strict=True)
    result = tuple(
        FeatureContrast(feature, "" if labels is None else labels.name(feature), own, others, *values)
        for feature, own, others, values in sides
    )
    return Contrast((base.name, other.name), (n, other_n), threshold, result)


def split(side: Side, rows: Int64s, names: tuple[str, str]) -> tuple[Side, Side]:
    """Return the other rows of a set, and those that are named."""
    rest = np.setdiff1d(side.rows, rows)
    return replace(side, name=names[0], rows=rest), replace(side, name=names[1], rows=rows)
