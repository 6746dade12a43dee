"""Distances of rows to a target: in features, and by the kernel of `herding`.

Both are of each row's 256 strongest features, whatever a method's cuts, and of the shares above the pool's mean
(`features/shares.py`). So selections by different methods can be compared.

Hellinger distance: sqrt(1 - sum_j sqrt(p_j q_j)), where p and q are the distributions over features of the rows and of
the target. It is 0 for equal distributions, and 1 where no feature is shared.

Kernel distance: the maximum mean discrepancy, the square root of the mean kernel of all pairs of the rows, plus that
of all pairs of the target's rows, less twice that of all pairs of a row and a row of the target. It is 0 for equal
rows, and at most sqrt(2). Rows without features do not count. A seeded sample stands for more than `MOST_ROWS` rows.
"""

from __future__ import annotations

from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from ..features.kernels import Floats, Int64s
from ..features.matrix import FeatureMatrix
from ..features.shares import STRONGEST, Shares
from .concept_rules import ConceptRules, excluded_rows
from .cuts import Cuts
from .herd import TARGET_WIDTH
from .herding import UNITS, Herding
from .result import Selection
from .sharded.features import Features, mean_and_total, pool_frequency
from .target_overlap import TargetOverlap
from .targets import Target, TargetPart

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

MOST_ROWS = 2000  # of which all pairs are compared
MOST_MISSING = 100  # features that are recorded
DISTANCES = ("hellinger", "kernel")


class TargetDistance:
    """Measure how far rows of a pool are from a target.

    Args:
        features: all features of the rows, before any cut.
        pool: the rows that could be selected.
        target: the target, before any cut.
        threshold: above which a feature counts as one that a row has, for `missing`.
    """

    def __init__(self, features: Features, pool: Int64s, target: Target, threshold: float = 0.0) -> None:
        cuts = Cuts(0.0, STRONGEST)
        self._all, self.pool, self._threshold = features, pool, threshold
        self._features, self._uncut = cuts.apply(features), target
        self._target = target.cut(cuts, features, ())
        self._mean, self._total = mean_and_total(self._features, pool)
        self._distribution = self._target.distribution(self._mean)

    def of(self, rows: Int64s) -> dict[str, float | None]:
        """Return both distances of some rows."""
        return {"hellinger": self.hellinger(rows), "kernel": self.kernel(rows)}

    def random(self, size: int) -> Int64s:
        """Return a seeded sample of the pool."""
        return _sample(self.pool, size)

    def hellinger(self, rows: Int64s) -> float:
        """Return the Hellinger distance of some rows; 1 where they have no feature."""
        is_pool = rows is self.pool  # whose sum is known
        mass = self._total if is_pool else Shares.above(self._mean, self._features.take(rows)).total
        affinity = float(np.sqrt(mass / max(float(mass.sum()), 1e-300) * self._distribution).sum())
        return sqrt(max(1 - affinity, 0.0))

    def kernel(self, rows: Int64s) -> float | None:
        """Return the kernel's distance of some rows; None where they have no feature, or the target's are unknown."""
        rows = _sample(rows[self._features.counts[rows] > 0], MOST_ROWS)
        if not len(rows) or not self._parts:
            return None
        own = self._features.take(rows)
        near = sum(share * self._mean_kernel(own, part) for share, part in self._parts)
        return sqrt(max(self._mean_kernel(own, own) + self._within_target - 2 * near, 0.0))

    def missing(self) -> dict[str, Any]:
        """Return the features of the target that no row of the pool has, with their share of its distribution."""
        has = self._uncut.cut(Cuts(self._threshold), self._all, ()).has()
        gone = np.setdiff1d(np.arange(len(self._all)), self.pool)
        holders = pool_frequency(self._all.above(self._threshold), gone)
        missing = np.flatnonzero(has & (holders == 0))
        shares = self._distribution[missing]
        order = np.argsort(-shares, kind="stable")[:MOST_MISSING]
        return {
            "features": len(missing),
            "share": float(shares.sum()),
            "largest": [[int(missing[i]), float(shares[i])] for i in order],
        }

    @cached_property
    def _parts(self) -> list[tuple[float, FeatureMatrix]]:
        """The share and the rows of each part of the target; empty where only sums over them were recorded."""
        parts = []
        for part in self._target.parts:
            if not isinstance(part, TargetPart):
                return []
            rows = np.flatnonzero(part.features.counts)
            parts.append((part.share, part.features.take(_sample(rows, MOST_ROWS))))
        return parts

    @cached_property
    def _within_target(self) -> float:
        pairs = [(s * t, one, other) for s, one in self._parts for t, other in self._parts]
        return sum(share * self._mean_kernel(one, other) for share, one, other in pairs)

    @cached_property
    def _weights(self) -> Floats:
        return self._target.weights(self._mean, self._total)

    def _mean_kernel(self, rows: FeatureMatrix, others: FeatureMatrix) -> float:
        """Return the mean of the kernel over all pairs of a row and another one."""
        herding = Herding(rows, self._mean, TARGET_WIDTH, self._weights)
        return int(herding.closeness(herding.vectors_of(others).index, herding.vectors_of(rows)).sum()) / (
            len(rows) * len(others) * UNITS
        )


def target_record_again(
    recorded: Selection, again: Selection, features: FeatureMatrix, target: Target
) -> dict[str, Any]:
    """Return what a selection that was repeated says of its target; rows that repeat those of the target as recorded.

    The distances are as recorded where the rows of the target are not at hand.
    """
    if not recorded.target or not all(isinstance(part, TargetPart) for part in target.parts):
        return recorded.target
    measured = target_record(again, features, target, TargetOverlap("keep"))
    return {**measured, "overlap": recorded.target.get("overlap", measured["overlap"])}


def distance_of(
    selection: Selection, features: Features, target: Target, encoded: Dataset | None = None
) -> TargetDistance:
    """Measure rows of the pool of a selection; features and target are not cut.

    Args:
        encoded: the encoded rows, where `features` are in shards: rules by concepts are read from it.
    """
    ruled = features if isinstance(features, FeatureMatrix) else None
    rules = ConceptRules.of_record(selection.parameters["constraints"])
    if rules and ruled is None and encoded is not None:
        ruled = rules.read(encoded)
    excluded = excluded_rows(selection.parameters, ruled, selection.indices)
    pool = np.setdiff1d(np.arange(len(features)), excluded)
    return TargetDistance(features, pool, target, selection.parameters["encoding"].get("threshold", 0.0))


def target_record(
    selection: Selection,
    features: Features,
    target: Target,
    overlap: TargetOverlap,
    encoded: Dataset | None = None,
) -> dict[str, Any]:
    """Return what a selection says of its target, as JSON values; nothing is cut, see `distance_of`."""
    distance, picks = distance_of(selection, features, target, encoded), selection.indices
    rows = {"subset": picks, "random": distance.random(len(picks)), "pool": distance.pool}
    parts = zip(target.record(), target.parts, strict=True)
    return {
        "rule": {"method": selection.method, "options": selection.parameters["options"]},
        "parts": [{**record, "blank": part.rows - part.size} for record, part in parts],
        "overlap": overlap.record(selection.left_out),
        "distances": {name: distance.of(own) for name, own in rows.items()},
        "missing": distance.missing(),
    }


def _sample(rows: Int64s, size: int) -> Int64s:
    """Return a seeded sample of rows, in their order; all of them where they are no more."""
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, size, replace=False))
