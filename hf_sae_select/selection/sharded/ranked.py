"""Ranked: the rows of a shard by upper bounds of their scores, of which the best are computed when they are wanted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...features.kernels import Floats, Int64s
from ..coverage_state import Ranking

MORE = 64  # rows of the ranking that are looked at together, at least


class Ranked:
    """Find the rows with the largest scores again and again, while scores only fall: CELF, Leskovec et al. 2007.

    Args:
        ranking: rows by upper bounds of their scores.
        gains_of: computes the gains of rows, by their places; 0 for one that no longer fits.
        scale: what gains are multiplied by, by place: [n].
    """

    def __init__(self, ranking: Ranking, gains_of: Callable[[Int64s], Floats], scale: Floats) -> None:
        self._ranking, self._gains_of, self._scale = ranking, gains_of, scale
        self._next = 0  # of the ranking: those before were looked at
        self.places, self.gains, self._scores = np.empty(0, np.int64), np.empty(0), np.empty(0)
        self._computed_at = np.empty(0, np.int64)

    def best(self, most: int, now: int) -> Int64s:
        """Return which of `places` have the largest scores, at most `most`, of equal scores the first in order.

        `now` is the number of picks so far: what was computed before another one is computed anew.
        """
        batch = max(MORE, most)
        while True:
            top = self._top(most)
            least = self._scores[top[-1]] if len(top) == most else 0.0
            if self._bound >= least and self._next < len(self._ranking.places):
                self._look_at(batch)
            elif not (self._computed_at[top] < now).any():
                return top
            self._compute(batch, now)
            batch *= 2  # few batches suffice even if all rows must be computed

    def _compute(self, batch: int, now: int) -> None:
        """Compute the largest scores among those that are stale."""
        stale = np.flatnonzero(self._computed_at < now)
        if len(stale) > batch:
            stale = stale[np.argpartition(self._scores[stale], -batch)[-batch:]]
        self.gains[stale] = self._gains_of(self.places[stale])
        self._scores[stale] = self.gains[stale] * self._scale[self.places[stale]]
        self._computed_at[stale] = now
        if not self._scores[stale].all():
            self._keep(self._scores > 0)

    def rest(self, top: Int64s) -> tuple[float, int]:
        """Return an upper bound of the scores of all rows but the `top`, and the first place that has it.

        The place is -1 where any row may have it.
        """
        others = np.ones(len(self.places), np.bool_)
        others[top] = False
        bound = self._scores[others].max(initial=0.0)
        if self._bound >= bound:  # of the ranking only the bound is known
            return self._bound, -1
        return float(bound), int(self.places[others & (self._scores == bound)].min())

    @property
    def _bound(self) -> float:
        """An upper bound of the scores of all rows that were not looked at."""
        bounds = self._ranking.upper_bounds
        return float(bounds[self._next]) if self._next < len(bounds) else 0.0

    def _top(self, most: int) -> Int64s:
        """Return which rows have the largest scores or bounds, the largest first, of equal ones the first in order."""
        rows = np.arange(len(self.places))
        if len(rows) > most:
            least = np.partition(self._scores, -most)[-most]
            rows = np.flatnonzero(self._scores >= least)
        return rows[np.lexsort((self.places[rows], -self._scores[rows]))][:most]

    def _look_at(self, count: int) -> None:
        """Take more rows of the ranking."""
        new = slice(self._next, self._next + count)
        places = self._ranking.places[new]
        self.places = np.concatenate([self.places, places])
        self.gains = np.concatenate([self.gains, np.zeros(len(places))])
        self._scores = np.concatenate([self._scores, self._ranking.upper_bounds[new]])
        self._computed_at = np.concatenate([self._computed_at, np.full(len(places), -1)])
        self._next += len(places)

    def _keep(self, mask: NDArray[np.bool_]) -> None:
        self.places, self.gains = self.places[mask], self.gains[mask]
        self._scores, self._computed_at = self._scores[mask], self._computed_at[mask]
