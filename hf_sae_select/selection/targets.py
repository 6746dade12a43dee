"""Target: what a selection is made towards, as the features of its rows. Several parts share the budget."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..features import kernels
from ..features.kernels import Floats, Int64s
from ..features.matrix import FeatureMatrix
from ..features.shares import Shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .herding import Herding, Vectors
    from .sharded.features import Features


SMOOTHING = 8.0  # of the weights of features
SAMPLE = 4096  # rows of a larger pool that stand for it


class Part(Protocol):
    """Say what methods ask of one target: of its rows (`TargetPart`), or of numbers that were recorded of them."""

    @property
    def name(self) -> str:
        """Its name; empty where it is the only one."""

    @property
    def share(self) -> float:
        """Its share of the budget."""

    @property
    def sha256(self) -> str:
        """The digest of all features that its rows were encoded to."""

    @property
    def rows(self) -> int:
        """The number of its rows."""

    @property
    def size(self) -> int:
        """The number of its rows with features."""

    @property
    def holders(self) -> Int64s:
        """The number of its rows that have each feature: [d_sae]."""

    @property
    def activation(self) -> Floats:
        """The share of each feature in a row's activation, summed over the rows: [d_sae]."""

    def cut(self, cuts: Any, pool: Features, excluded: Collection[int]) -> Part:
        """Cut the features as those of a pool are cut."""

    def mass(self, mean: Floats) -> Floats:
        """Sum the shares of each feature above the pool's `mean`: [d_sae]."""

    def closeness(self, herding: Herding, rows: Int64s, vectors: Vectors) -> Int64s:
        """Sum the kernel of rows of the pool, which have `vectors`, with those of the target: [rows], in units."""


@dataclass(frozen=True, eq=False)
class TargetPart:
    """Hold the rows of one target."""

    features: FeatureMatrix
    """The features of its rows."""
    sha256: str
    """The digest of all features that they were encoded to."""
    share: float = 1.0
    """Its share of the budget."""
    name: str = ""
    """Its name; empty where it is the only one."""

    @property
    def rows(self) -> int:
        return len(self.features)

    @property
    def size(self) -> int:
        return int(np.count_nonzero(self.features.counts))

    @property
    def holders(self) -> Int64s:
        return self.features.frequency

    @property
    def activation(self) -> Floats:
        features = self.features
        return kernels.mass(features.offsets, features.ids, features.acts, np.arange(len(features)), features.d_sae)

    def cut(self, cuts: Any, pool: Features, excluded: Collection[int]) -> TargetPart:
        return replace(self, features=cuts.apply_as(self.features, pool, excluded))

    def mass(self, mean: Floats) -> Floats:
        return Shares.above(mean, self.features).total

    def closeness(self, herding: Herding, rows: Int64s, vectors: Vectors) -> Int64s:
        return herding.closeness(herding.others(self.features).index, vectors)


@dataclass(frozen=True, eq=False)
class Target:
    """Hold what a selection is made towards: one part, or several that share the budget. Shares sum to 1.

    Its features are those of the pool's SAE; a method sees them cut as it sees the pool's.
    """

    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def shares(self) -> Floats:
        """The share of each part: [parts]."""
        return np.array([part.share for part in self.parts])

    def cut(self, cuts: Any, pool: Features, excluded: Collection[int]) -> Target:
        """Cut the features as those of a pool are cut."""
        return Target(tuple(part.cut(cuts, pool, excluded) for part in self.parts))

    def mass(self, mean: Floats, sharpen: float) -> Floats:
        """Return the mass of each feature, to the power `sharpen`: [d_sae].

        A feature's mass is the sum of its shares above the pool's `mean`. Parts count by their share of the budget.
        """
        masses = [part.mass(mean) ** sharpen for part in self.parts]
        return masses[0] if len(masses) == 1 else self._mixed(masses)

    def weights(self, mean: Floats, total: Floats) -> Floats:
        """Return how features tell the target from the pool: [d_sae].

        With t and p the target's and the pool's distribution over features (their masses, divided by the sums), a
        feature weighs (t + e) / (p + e). The term e is `SMOOTHING` times the mean of p over the pool's features: it
        keeps features that few rows have near 1. Parts count by their share of the budget. Weights are rounded to
        float32, so that the order of the rows, and with it that of sums, cannot show.

        Args:
            mean: the mean shares of the pool: [d_sae].
            total: the sum of the shares above them over the pool: [d_sae].
        """
        pool = total / max(float(total.sum()), 1e-300)
        target = self.distribution(mean)
        e = SMOOTHING / max(int(np.count_nonzero(pool)), 1)
        return np.asarray((target + e) / (pool + e)).astype(np.float32).astype(np.float64)

    def activation(self) -> Floats:
        """Return the share of each feature in a row's activation, a mean over the parts: [d_sae]."""
        return self._mixed([part.activation for part in self.parts])

    def distribution(self, mean: Floats) -> Floats:
        """Return the target's distribution over features: its mass above the pool's `mean`, with sum 1: [d_sae]."""
        return self._mixed([part.mass(mean) for part in self.parts])

    def _mixed(self, masses: list[Floats]) -> Floats:
        """Scale the mass of each part to a sum of its share, and add them up: [d_sae]."""
        return np.asarray(sum(s * mass / max(mass.sum(), 1e-300) for s, mass in zip(self.shares, masses, strict=True)))

    def has(self) -> NDArray[np.bool_]:
        """Tell of each feature whether any row has it: [d_sae]."""
        return np.asarray(sum(part.holders for part in self.parts)) > 0

    def closeness(self, herding: Herding, rows: Int64s, vectors: Vectors) -> Int64s:
        """Sum the kernel of rows of the pool with those of each part: [parts, rows], in units."""
        return np.stack([part.closeness(herding, rows, vectors) for part in self.parts])

    def sizes(self) -> Int64s:
        """Return the number of rows with features of each part: [parts]."""
        return np.array([part.size for part in self.parts])

    def record(self) -> list[dict[str, Any]]:
        """Return what is recorded of the parts, as JSON values."""
        return [
            {"name": part.name, "rows": part.rows, "share": part.share, "sha256": part.sha256} for part in self.parts
        ]


@dataclass(frozen=True, eq=False)
class PoolSample(TargetPart):
    """Hold rows of the pool that stand for all of it, where a selection has no target."""

    places: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    """Which rows of the pool they are: [rows]."""
    pool_rows: int = 0
    """The number of rows of the pool that have features."""

    def closeness(self, herding: Herding, rows: Int64s, vectors: Vectors) -> Int64s:
        """Sum the kernel of each of some rows with as many rows of the pool as the sample has: [rows], in units.

        A row's kernel with itself is many times that with others. So a sample counts it apart, for every row by its
        share of the pool: otherwise the rows of the sample would be picked for being in it.
        """
        sums, m = super().closeness(herding, rows, vectors), len(self.places)
        if m < self.pool_rows:
            own, is_itself = herding.own(vectors), np.isin(rows, self.places, kind="table")
            sums[is_itself] = (sums[is_itself] - own[is_itself]) * m // max(m - 1, 1)
            sums += own * m // self.pool_rows
        return sums

    def counts_for(self, row: int) -> tuple[Floats, float]:
        """Return how often each row of the sample, and a row itself beside them, counts in the sum of the row."""
        m, is_itself = len(self.places), self.places == row
        if m == self.pool_rows:
            return np.ones(m), 0.0
        return np.where(is_itself, 0.0, m / max(m - 1, 1) if is_itself.any() else 1.0), m / self.pool_rows


def sample_of(features: FeatureMatrix, order: Int64s) -> Target:
    """Return what stands for a pool where a selection has no target: all its rows, or `SAMPLE` of a larger one.

    They are taken evenly from the rows of the pool in some `order`. Rows without features do not count.
    """
    rows = order[features.counts[order] > 0]
    places = rows[np.arange(SAMPLE) * len(rows) // SAMPLE] if len(rows) > SAMPLE else rows
    return Target((PoolSample(features.take(places), "", places=places, pool_rows=len(rows)),))


def digest_of(features: FeatureMatrix) -> str:
    """Return the SHA-256 of features, row by row: counts, ids, activations and tokens as little-endian numbers."""
    digest = sha256()
    for array, kind in ((features.counts, "<i8"), (features.ids, "<u4"), (features.acts, "<f4")):
        digest.update(array.astype(kind).tobytes())
    digest.update(features.tokens.astype("<i4").tobytes())
    return digest.hexdigest()
