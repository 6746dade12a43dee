"""Which rows herding compares at a pick: all that may win, or the candidates that a quick estimate ranks first."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Int64s
from .coverage import ConstraintState
from .herding import UNITS, Herding, Vector, Vectors
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

    def closeness(self, rows: Int64s, vectors: Vectors) -> Int64s:
        """Return the sums of the kernel of some rows with the rows of each target: [targets, rows], in units."""

    def begin(self) -> None:
        """Choose the rows to compare before the first pick."""

    def after(self, row: int, vector: Vector, n_live: int) -> bool:
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

    def closeness(self, rows: Int64s, vectors: Vectors) -> Int64s:
        return self._closeness[:, rows]

    def begin(self) -> None:
        pass  # `beyond` adds rows before the first pick

    def after(self, row: int, vector: Vector, n_live: int) -> bool:
        return False

    def beyond(self, turn: int, score: float) -> bool:
        start, waiting = int(self._next[turn]), self._waiting[turn]
        if start == len(waiting) or not 0 < self._bounds[turn, waiting[start]] >= score:
            return False
        self._next[turn] = min(start + max(STEP, int(self.mask.sum())), len(waiting))
        self.mask[waiting[start : self._next[turn]]] = True
        return True


class Ranking(Protocol):
    """Rank rows by estimates of their scores: `Estimates`, wherever the rows are."""

    def vectors(self, rows: Int64s) -> Vectors:
        """Return the vectors of some rows."""

    def aim_at(self, total: Int64s, size: int) -> None:
        """Estimate nearness to `size` rows, the sum of whose vectors is `total` [d_sae]."""

    def add(self, row: int, vector: Vector) -> None:
        """Count the vector of a pick, which is no longer available."""

    def first(self, size: int, most: int) -> Int64s:
        """Return the `size` rows of the largest estimates; all that may win where `most` or fewer do."""


class Candidates:
    """Compare the rows of the largest estimate of the score, which are ranked anew after some picks.

    When they are ranked depends on the picks before alone. So a smaller budget has the first picks of a larger one.
    """

    def __init__(self, herding: Herding, aim: Target, estimates: Ranking, n: int, size: int) -> None:
        (part,) = aim.parts
        assert isinstance(part, PoolSample)
        self._herding, self._part, self._estimates = herding, part, estimates
        self._size, self._next, self.has_all = size, 1, n <= size
        self._n_picks, self.mask = 0, np.zeros(n, np.bool_)
        self._closeness, self._is_known = np.zeros((1, n), np.int64), np.zeros(n, np.bool_)
        sample = estimates.vectors(part.places)
        herding.keep(part.features, sample)
        total = np.bincount(sample.ids, sample.entries, sample.d_sae).astype(np.int64)  # whole, below 2^53
        estimates.aim_at(total, max(len(sample), 1))

    def vectors(self, rows: Int64s) -> Vectors:
        return self._estimates.vectors(rows)

    def closeness(self, rows: Int64s, vectors: Vectors) -> Int64s:
        is_new = ~self._is_known[rows]
        new, of_new = rows[is_new], vectors.take(np.flatnonzero(is_new))
        self._closeness[0, new] = self._part.closeness(self._herding, new, of_new)
        self._is_known[new] = True
        return self._closeness[:, rows]

    def begin(self) -> None:
        self.mask[:] = False
        size = min(max(2 * self._n_picks, FIRST), self._size)
        self.mask[self._estimates.first(size, self._size)] = True

    def after(self, row: int, vector: Vector, n_live: int) -> bool:
        self._estimates.add(row, vector)
        self._n_picks += 1
        if self.has_all or (n_live and self._n_picks < self._next):
            return False
        self._next = self._n_picks + max(min(self._n_picks, self._size) // GROWTH, 1)
        self.begin()
        return True

    def beyond(self, turn: int, score: float) -> bool:
        return False
