"""Estimates: a quick estimate of what rows score by herding, and the rows whose estimates are largest.

The estimate of a score has, in place of the mean of the kernel with some rows, a line through it at the mean product
of their vectors: two sums over the features of a row, where the mean of the kernel takes one for each of the rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, blocks, compiled, in_threads
from .coverage import ConstraintState, fitting
from .herding import LENGTH, Entries, Vector, Vectors


class Line(NamedTuple):
    """The line that stands for the kernel, and what nearness to picks counts."""

    slope: float
    redundancy: float

    @classmethod
    def of(cls, width: float, redundancy: float) -> Line:
        """Return the line that touches a kernel where rows share nothing."""
        least = np.exp(-1 / width)
        return cls(float(least / (1 - least) / width / LENGTH**2), redundancy)


class Largest(NamedTuple):
    """The rows of the largest estimates."""

    rows: Int64s
    estimates: Floats
    fitting: int
    """How many rows may win; where these are few enough, `rows` are all of them."""


class Estimates:
    """Estimate the scores of rows, again and again while rows are picked.

    Args:
        line: what the estimates go by.
        vectors: those of the rows.
        state: the constraints, and what remains of them.
    """

    def __init__(self, line: Line, vectors: Vectors, state: ConstraintState) -> None:
        self._line, self._vectors, self._state = line, vectors, state
        self._may_win = (np.diff(vectors.offsets) > 0) & (state.scale > 0)  # with a feature, near itself at least
        self._place = np.empty(len(vectors), np.int64)
        self._place[state.order] = np.arange(len(vectors))
        self._near_aim: Floats = np.zeros(len(vectors))
        self._picked = np.zeros(vectors.d_sae, np.int64)  # the sum of the vectors of the picks
        self._n_picks = 0

    def vectors(self, rows: Int64s) -> Vectors:
        """Return the vectors of some rows."""
        return self._vectors.take(rows)

    def aim_at(self, total: Int64s, size: int) -> None:
        """Estimate nearness to `size` rows, the sum of whose vectors is `total` [d_sae]."""
        self._near_aim = mean_products(self._vectors, total, size)

    def add(self, row: int, vector: Vector) -> None:
        """Count the vector of a pick, which is no longer available."""
        self.count(*vector, 1)

    def count(self, ids: NDArray[Any], entries: NDArray[Any], picks: int) -> None:
        """Count the sum of the vectors of some picks."""
        self._picked[ids] += entries
        self._n_picks += picks

    def first(self, size: int, most: int) -> Int64s:
        """Return the `size` rows of the largest estimates among those that fit; all of these where `most` or fewer do.

        Of equal estimates, the first in the order of ties.
        """
        return self.largest(size, most).rows

    def largest(self, size: int, most: int) -> Largest:
        """Return the rows of `first`, with their estimates."""
        rows = np.flatnonzero(fitting(self._state) & self._may_win)
        estimates = self._all()[rows]
        if len(rows) <= most:
            return Largest(rows, estimates, len(rows))
        first = first_of(estimates, self._place[rows], size)
        return Largest(rows[first], estimates[first], len(rows))

    def _all(self) -> Floats:
        """Return an estimate of the score of each row: [n]."""
        near_picks = mean_products(self._vectors, self._picked, self._n_picks + 1)
        near_picks *= self._line.redundancy
        lines = np.subtract(self._near_aim, near_picks, out=near_picks)
        lines *= self._line.slope
        lines += self._line.redundancy
        lines *= self._state.scale
        return lines


def first_of(estimates: Floats, place: Int64s, size: int) -> Int64s:
    """Return the positions of the largest estimates, of equal ones those whose `place` is first."""
    least = np.partition(estimates, -size)[-size]
    above, equal = np.flatnonzero(estimates > least), np.flatnonzero(estimates == least)
    equal = equal[np.argsort(place[equal])]
    return np.concatenate([above, equal[: size - len(above)]])


def mean_products(vectors: Vectors, total: Int64s, size: int) -> Floats:
    """Return the mean product of each vector with `size` others, whose sum is `total` [d_sae]: [vectors]."""
    means = np.empty(len(vectors))
    # Half as large, so that the first cache of a core holds it.
    sums = total.astype(np.int32) if total.max(initial=0) < 2**31 else total

    def compute(low: int, high: int) -> None:
        _mean_products(vectors.offsets[low : high + 1], vectors.ids, vectors.entries, sums, size, means[low:high])

    in_threads(compute, blocks(vectors.offsets))
    return means


@compiled
def _mean_products(
    offsets: Int64s,
    ids: NDArray[np.unsignedinteger[Any]],
    entries: Entries,
    total: NDArray[np.signedinteger[Any]],
    size: int,
    means: Floats,
) -> None:
    for i in range(len(offsets) - 1):
        product = np.int64(0)
        for p in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            product += np.int64(entries[p]) * total[ids[p]]
        means[i] = product / size
