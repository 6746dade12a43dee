"""Ranked: some rows by upper bounds of their scores, of which the best are computed when they are wanted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...features.kernels import Floats, Int64s
from ..frontier import Frontier

MORE = 64  # rows that are computed together, at least


class Ranked:
    """Find the rows with the largest scores again and again, while scores only fall: CELF, Leskovec et al. 2007.

    Args:
        gains_of: computes the gains of rows, by their places; 0 for one that no longer fits.
        scale: what gains are multiplied by, by place: [n].
        frontier: where more rows come from, and where rows go that fall below its least score; None for no more.
    """

    def __init__(self, gains_of: Callable[[Int64s], Floats], scale: Floats, frontier: Frontier | None = None) -> None:
        self._gains_of, self._scale, self._frontier = gains_of, scale, frontier
        self.places, self.gains, self.scores = np.empty(0, np.int64), np.empty(0), np.empty(0)
        self.computed_at = np.empty(0, np.int64)

    def best(self, most: int, now: int) -> Int64s:
        """Return which of `places` have the largest scores, at most `most`, of equal scores the first in order.

        `now` is the number of picks so far: what was computed before another one is computed anew.
        """
        batch = max(MORE, most)
        while True:
            top = self.top(most)
            least = self.scores[top[-1]] if len(top) == most else 0.0
            if 0 < self._bound >= least:
                self._look_further()
            elif not (self.computed_at[top] < now).any():
                return top
            self.compute(batch, now)
            batch *= 2  # few batches suffice even if all rows must be computed

    def first(self, rest: tuple[float, int], now: int) -> int | None:
        """Return which of `places` has the largest score; None where it is not above `rest`, a score and a negative
        place."""
        batch = MORE
        while True:
            top = self.top(1)
            if not len(top) or (self.scores[top[0]], -self.places[top[0]]) <= rest:
                return None
            if self.computed_at[top[0]] == now:
                return int(top[0])
            self.compute(batch, now)
            batch *= 2

    def compute(self, batch: int, now: int) -> None:
        """Compute the largest scores among those that are stale."""
        stale = np.flatnonzero(self.computed_at < now)
        if len(stale) > batch:
            stale = stale[np.argpartition(self.scores[stale], -batch)[-batch:]]
        self.gains[stale] = self._gains_of(self.places[stale])
        self.scores[stale] = self.gains[stale] * self._scale[self.places[stale]]
        self.computed_at[stale] = now
        self._drop_low(stale)

    def _drop_low(self, rows: Int64s) -> None:
        """Forget those of some rows that add nothing, or that the frontier may find again."""
        least = 0.0 if self._frontier is None else self._frontier.least
        low = rows[(self.scores[rows] < least) | (self.scores[rows] == 0)]
        if self._frontier is not None:
            self._frontier.give_back(self.places[low], self.scores[low])
        if len(low):
            self.drop(low)

    def add(self, places: Int64s, gains: Floats, now: int) -> None:
        """Add rows whose gains were computed after `now` picks."""
        self._append(places, gains, gains * self._scale[places], now)

    def drop(self, top: Int64s) -> None:
        """Forget rows."""
        mask = np.ones(len(self.places), np.bool_)
        mask[top] = False
        self._keep(mask)

    def rest(self, top: Int64s) -> tuple[float, int]:
        """Return an upper bound of the scores of all rows but the `top`, and the first place that has it.

        The place is -1 where any row may have it.
        """
        others = np.ones(len(self.places), np.bool_)
        others[top] = False
        bound = self.scores[others].max(initial=0.0)
        if self._bound >= bound:  # of the others only the bound is known
            return self._bound, -1
        return float(bound), int(self.places[others & (self.scores == bound)].min())

    @property
    def _bound(self) -> float:
        """An upper bound of the scores of all rows that the frontier did not return."""
        return 0.0 if self._frontier is None else self._frontier.bound

    def top(self, most: int) -> Int64s:
        """Return which rows have the largest scores or bounds, the largest first, of equal ones the first in order."""
        rows = np.arange(len(self.places))
        if len(rows) > most:
            least = np.partition(self.scores, -most)[-most]
            rows = np.flatnonzero(self.scores >= least)
        return rows[np.lexsort((self.places[rows], -self.scores[rows]))][:most]

    def _look_further(self) -> None:
        """Take more rows of the frontier."""
        assert self._frontier is not None
        places, scores = self._frontier.step()
        self._append(places, np.zeros(len(places)), scores, -1)

    def _append(self, places: Int64s, gains: Floats, scores: Floats, computed_at: int) -> None:
        self.places, self.gains = np.concatenate([self.places, places]), np.concatenate([self.gains, gains])
        self.scores = np.concatenate([self.scores, scores])
        self.computed_at = np.concatenate([self.computed_at, np.full(len(places), computed_at)])

    def _keep(self, mask: NDArray[np.bool_]) -> None:
        self.places, self.gains = self.places[mask], self.gains[mask]
        self.scores, self.computed_at = self.scores[mask], self.computed_at[mask]
