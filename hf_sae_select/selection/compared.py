"""Which rows herding compares at a pick: all that may win, or the candidates that a quick estimate ranks first.

The estimate of a score has, in place of the mean of the kernel with some rows, a line through it at the mean product
of their vectors: two sums over the features of a row, where the mean of the kernel takes one for each of the rows.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, blocks, compiled, in_threads
from .coverage import ConstraintState, fitting
from .herding import LENGTH, UNITS, Entries, Herding, Vector, Vectors
from .targets import PoolSample, Target

STEP = 4096  # rows that are looked at first where all may win; then as many as were looked at before
GROWTH = 12  # candidates are ranked anew after a twelfth more picks, and before as large a part of them is picked
FIRST = 128  # candidates of the first picks; later there are two for each pick, up to their number


class Compared(Protocol):
    """Say which rows are compared."""

    mask: NDArray[np.bool_]
    """[n]: the rows that are compared, those included that no longer fit."""
    has_all: bool
    """Whether all rows that may win are compared."""

    def vectors(self, rows: Int64s) -> Vectors:
        """Return the vectors of some rows."""

    def closeness(self, rows: Int64s) -> Int64s:
        """Return the sums of the kernel of some rows with the rows of each target: [targets, rows], in units."""

    def begin(self) -> None:
        """Choose the rows to compare before the first pick."""

    def after(self, vector: Vector, n_live: int) -> bool:
        """Choose the rows anew after a pick; tell whether they were. `n_live` is the number of those that can win."""

    def beyond(self, turn: int, score: float) -> bool:
        """Add rows that may score as much as the best for a target; tell whether there are any."""


class AllRows:
    """Compare all rows whose upper bound, nearness and redundancy times the scale, reaches the best score."""

    has_all = True

    def __init__(
        self, herding: Herding, sizes: Int64s, redundancy: float, state: ConstraintState, closeness: Int64s
    ) -> None:
        self._herding, self._state, self._closeness = herding, state, closeness
        self.mask = np.zeros(closeness.shape[1], np.bool_)
        of_target = (np.maximum(sizes, 1) * UNITS).astype(np.float64)
        self._bounds = np.where(closeness > 0, (closeness / of_target[:, None] + redundancy) * state.scale, 0.0)
        self._waiting = [np.argsort(-bounds, kind="stable") for bounds in self._bounds]
        self._next = np.zeros(len(closeness), np.int64)

    def vectors(self, rows: Int64s) -> Vectors:
        return self._herding.vectors(rows)

    def closeness(self, rows: Int64s) -> Int64s:
        return self._closeness[:, rows]

    def begin(self) -> None:
        pass  # `beyond` adds rows before the first pick

    def after(self, vector: Vector, n_live: int) -> bool:
        return False

    def beyond(self, turn: int, score: float) -> bool:
        start, waiting = int(self._next[turn]), self._waiting[turn]
        if start == len(waiting) or not 0 < self._bounds[turn, waiting[start]] >= score:
            return False
        self._next[turn] = min(start + max(STEP, int(self.mask.sum())), len(waiting))
        self.mask[waiting[start : self._next[turn]]] = True
        return True


class Candidates:
    """Compare the rows of the largest estimate of the score, which are ranked anew after some picks.

    When they are ranked depends on the picks before alone. So a smaller budget has the first picks of a larger one.
    """

    def __init__(
        self,
        herding: Herding,
        aim: Target,
        redundancy: float,
        state: ConstraintState,
        vectors: Vectors,
        size: int,
    ) -> None:
        n = len(state.order)
        (part,) = aim.parts
        assert isinstance(part, PoolSample)
        self._herding, self._part, self._redundancy, self._state = herding, part, redundancy, state
        self._size, self._next, self.has_all = size, 1, n <= size
        self._vectors, self.mask = vectors, np.zeros(n, np.bool_)
        self._closeness, self._is_known = np.zeros((1, n), np.int64), np.zeros(n, np.bool_)
        self._may_win = (np.diff(vectors.offsets) > 0) & (state.scale > 0)  # with a feature, near itself at least
        self._place = np.empty(n, np.int64)
        self._place[state.order] = np.arange(n)
        self._picked = np.zeros(herding.features.d_sae, np.int64)  # the sum of the vectors of the picks
        self._n_picks = 0
        sample = vectors.take(part.places)
        herding.keep(part.features, sample)
        total = np.bincount(sample.ids, sample.entries, len(self._picked)).astype(np.int64)  # whole, below 2^53
        self._near_aim = mean_products(self._vectors, total, max(len(sample), 1))

    def vectors(self, rows: Int64s) -> Vectors:
        return self._vectors.take(rows)

    def closeness(self, rows: Int64s) -> Int64s:
        new = rows[~self._is_known[rows]]
        self._closeness[0, new] = self._part.closeness(self._herding, new, self._vectors.take(new))
        self._is_known[new] = True
        return self._closeness[:, rows]

    def begin(self) -> None:
        self.mask[:] = False
        self.mask[self._first()] = True

    def after(self, vector: Vector, n_live: int) -> bool:
        ids, entries = vector
        self._picked[ids] += entries
        self._n_picks += 1
        if self.has_all or (n_live and self._n_picks < self._next):
            return False
        self._next = self._n_picks + max(min(self._n_picks, self._size) // GROWTH, 1)
        self.begin()
        return True

    def beyond(self, turn: int, score: float) -> bool:
        return False

    def _first(self) -> Int64s:
        """Return the rows of the largest estimates among those that fit, of equal ones the first in order of ties."""
        may_win = fitting(self._state) & self._may_win
        if np.count_nonzero(may_win) <= self._size:
            return np.flatnonzero(may_win)
        size = min(max(2 * self._n_picks, FIRST), self._size)
        estimates = np.where(may_win, self._estimates(), -np.inf)
        least = np.partition(estimates, -size)[-size]
        above, equal = np.flatnonzero(estimates > least), np.flatnonzero(estimates == least)
        equal = equal[np.argsort(self._place[equal])]
        return np.concatenate([above, equal[: size - len(above)]])

    def _estimates(self) -> Floats:
        """Return an estimate of the score of each row: [n]."""
        least = np.exp(-1 / self._herding.width)
        slope = least / (1 - least) / self._herding.width / LENGTH**2
        near_picks = mean_products(self._vectors, self._picked, self._n_picks + 1)
        near_picks *= self._redundancy
        lines = np.subtract(self._near_aim, near_picks, out=near_picks)
        lines *= slope
        lines += self._redundancy
        lines *= self._state.scale
        return lines


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
