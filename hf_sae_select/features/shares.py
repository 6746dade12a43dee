"""Shares: each row's distribution over features as `match` has it, and how like a pool's the distribution of rows is.

x_ij is the share of feature j in the square roots of row i's activations. A row's shares are the parts of x_ij above
the pool's mean share of j, divided by their sum: so every row weighs 1, long or short, and features at or below the
mean weigh 0. A row without any feature above the mean keeps x_ij. The distribution of rows is the sum of their shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .kept import STRONGEST as STRONGEST
from .kernels import Floats, Int64s
from .matrix import FeatureMatrix

BLOCK_ROWS = 2**12  # rows whose roots of activations are in memory together
DRAWS = 4  # random orders of the pool whose likeness is averaged: of one, the number of rows is off by about 2 %


@dataclass(frozen=True, eq=False)
class Shares:
    """Hold the shares of all rows, and their sum over a pool.

    Example, rows {0, 1}, {0, 1}, {0, 2}, all equally active: all share feature 0, so the shares of the rows are
    {1: 1}, {1: 1}, {2: 1}, and their sum is [0, 2, 1].
    """

    features: FeatureMatrix
    """The features that the shares are of."""
    amounts: NDArray[np.float32]
    """The share of each entry in its row: float32 [nnz]. The shares of a row with features sum to 1."""
    total: Floats
    """The sum of the shares over the pool: float64 [d_sae]."""
    mean: Floats
    """The pool's mean share of each feature in the roots of activations, above which shares are: float64 [d_sae]."""

    @classmethod
    def of(cls, features: FeatureMatrix, pool: Int64s) -> Shares:
        """Compute the shares of `features` as they are, above the mean of the rows `pool`."""
        return cls.above(mean_shares(features, pool), features, pool)

    @classmethod
    def above(cls, mean: Floats, features: FeatureMatrix, pool: Int64s | None = None) -> Shares:
        """Compute the shares of `features` above a mean; their sum is over the rows `pool`, by default over all."""
        pool = np.arange(len(features)) if pool is None else pool
        offsets, ids, d_sae = features.offsets, features.ids, features.d_sae
        amounts = amounts_above(mean, features)
        return cls(features, amounts, kernels.mass(offsets, ids, amounts, pool, d_sae), mean)

    @classmethod
    def of_strongest(cls, features: FeatureMatrix, pool: Int64s) -> Shares:
        """Compute the shares of the strongest features of each row: those that `match` reads by default."""
        return cls.of(features.above(0.0).top(STRONGEST), pool)

    def likeness(self, rows: Int64s) -> float:
        """Return the Bhattacharyya affinity of the distributions of `rows` and of the pool, from 0 to 1.

        It is 0 where the rows have no feature of the pool, and nan where the pool has no feature.
        """
        features = self.features
        mass = kernels.mass(features.offsets, features.ids, self.amounts, rows, features.d_sae)
        weight = math.sqrt(self.total.sum() * mass.sum())
        if not self.total.any():
            return math.nan
        return min(float(np.sqrt(self.total * mass).sum()) / weight, 1.0) if weight else 0.0

    def curve(self, rows: Int64s) -> Floats:
        """Return the likeness of the first row, of the first two rows, and so on to all of `rows`: float64 [k]."""
        features = self.features
        if not self.total.any():
            return np.full(len(rows), math.nan)
        return kernels.affinities(features.offsets, features.ids, self.amounts, rows, self.total)

    def random_curve(self, pool: Int64s) -> Floats:
        """Return the likeness of the first 1, 2, ... of the rows `pool` in random order, a mean of several draws."""
        rng = np.random.default_rng(0)
        curves = np.stack([self.curve(rng.permutation(pool)) for _ in range(DRAWS)])
        mean: Floats = curves.mean(axis=0)
        return mean


def mean_shares(features: FeatureMatrix, pool: Int64s) -> Floats:
    """Return the mean share of each feature in the roots of activations, over the ascending rows `pool`: [d_sae]."""
    sums = np.zeros(features.d_sae)
    add_shares(features, pool, sums)
    return mean_of(sums)


def add_shares(features: FeatureMatrix, pool: Int64s, sums: Floats) -> None:
    """Add the shares of the ascending rows `pool` in the roots of their activations to `sums` [d_sae]."""
    offsets = features.offsets
    for start in range(0, len(pool), BLOCK_ROWS):  # the roots of all activations would be as large as these
        rows = pool[start : start + BLOCK_ROWS]
        first, last = rows[0], rows[-1] + 1
        entries = slice(offsets[first], offsets[last])
        of_rows, ids, roots = offsets[first : last + 1], features.ids[entries], np.sqrt(features.acts[entries])
        kernels.add_mass(of_rows - of_rows[0], ids, roots, rows - first, sums)


def mean_of(sums: Floats) -> Floats:
    """Return the mean shares by their sums [d_sae]: each row with features has shares that sum to 1."""
    return np.asarray(sums / max(sums.sum(), 1))


def amounts_above(mean: Floats, features: FeatureMatrix) -> NDArray[np.float32]:
    """Return each entry's share above a mean [d_sae], as a share of its row: float32 [nnz]."""
    return kernels.shares_above(features.offsets, features.ids, np.sqrt(features.acts), mean)


def random_rows(likeness: float, curve: Floats) -> float:
    """Return how many random rows have a likeness, by the curve of random rows; all rows where none reach it."""
    if math.isnan(likeness):
        return math.nan
    reaches = np.flatnonzero(curve >= likeness)
    return float(reaches[0] + 1 if len(reaches) else len(curve)) if likeness else 0.0


def likeness_text(likeness: float | None) -> str:
    """Return a likeness with four digits; one below 1 is never rounded to 1."""
    if likeness is None or math.isnan(likeness):
        return "-"
    return f"{1 if likeness > 1 - 1e-9 else min(likeness, 0.9999):.4f}"  # sums of floats that are 1 fall short of it
