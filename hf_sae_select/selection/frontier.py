"""Frontier: upper bounds of the scores of all rows, and the few rows whose scores are computed.

A stale score is an upper bound of a score within a round, see `coverage.py`. A step lowers the `least` score that is
looked for, so that about one row of `SHARE` has a bound of at least that, and computes the scores of these rows in
their order. That takes less time than to fetch them from all over the memory, one after another, as a queue does.
"""

from __future__ import annotations

import numpy as np

from ..features.kernels import Floats, Int64s, blocks, in_threads
from .coverage_kernels import row_gains
from .coverage_state import Csr, Ranking, Rest, Search, fitting

SHARE = 64  # the bounds of that many rows are read in the time in which the gain of one is computed, about
MOST_SAMPLED = 2**14  # bounds by which the least score is chosen
FEWEST = 64  # rows of a step, about


class Frontier:
    """Find the rows with the largest scores of a round, step by step.

    Args:
        search: the search; its `order` has the rows that may be picked.
        gains: upper bounds of the gains of all rows when a round begins: [n].
    """

    def __init__(self, search: Search, gains: Floats) -> None:
        state = search.constraints
        self._search, self._place = search, np.full(len(gains), -1)
        self._place[state.order] = np.arange(len(state.order))
        self._first = np.where(self._place >= 0, gains * state.scale, 0.0)
        self.bounds: Floats = np.empty(len(gains))
        """An upper bound of the score of each row; 0 for one that can no longer be picked: [n]."""
        self.begin_round(search.csr)

    def begin_round(self, csr: Csr) -> None:
        """Forget what was computed; from now on gains are computed from `csr`."""
        self.bounds[:] = self._first
        self.least = np.inf
        """All rows that score at least this were returned."""
        self._use(csr)

    def refresh(self, csr: Csr, gains: Floats) -> None:
        """Take the gains of all rows; from now on gains are computed from `csr`."""
        np.multiply(gains, self._search.constraints.scale, out=self.bounds, where=self.bounds > 0)
        self.least = np.inf
        self._use(csr)

    def _use(self, csr: Csr) -> None:
        self._csr, self.ids_read = csr, 0

    @property
    def bound(self) -> float:
        """An upper bound of the scores of all rows but those that were returned."""
        return float(np.nextafter(self.least, 0))

    @property
    def rest(self) -> Rest:
        """What bounds these rows."""
        return Rest(self.bound, 0)

    def give_back(self, places: Int64s, scores: Floats) -> None:
        """Take rows that were returned, and whose scores are below `least` now."""
        self.bounds[self._search.constraints.order[places]] = scores

    def step(self) -> Ranking:
        """Lower `least` until rows have such scores, and return these rows; none when no row adds anything more.

        Their bounds become 0: to look at them again is up to the caller.
        """
        while (least := self._next_least()) > 0:
            rows = np.flatnonzero(self.bounds >= least)
            self.least = least
            scores = self._scores(rows)
            is_high = scores >= least
            self.bounds[rows] = np.where(is_high, 0.0, scores)
            if is_high.any():
                return self._ranked(rows[is_high], scores[is_high])
        self.least = 0.0
        return Ranking(np.empty(0, np.int64), np.empty(0))

    def _next_least(self) -> float:
        """Return a score that about one row of `SHARE` may have; 0 where no row adds anything."""
        stride = max(len(self.bounds) // MOST_SAMPLED, 1)
        sample = self.bounds[::stride]
        sample = sample[sample > 0]
        wanted = max(len(self.bounds) // SHARE, FEWEST) // stride
        if len(sample) > wanted:
            return float(np.partition(sample, -wanted)[-wanted])
        positive = self.bounds[self.bounds > 0]
        return float(positive.min()) if len(positive) else 0.0

    def _scores(self, rows: Int64s) -> Floats:
        """Return the scores of rows, 0 for those that do not fit."""
        csr, state, gains = self._csr, self._search.constraints, np.zeros(len(rows))
        starts, ends = csr.starts[rows], csr.ends[rows]
        offsets = np.concatenate([[0], np.cumsum(ends - starts)])
        some = Csr(starts, ends, csr.ids, csr.amounts)
        in_threads(row_gains, blocks(offsets), some, self._search.objective, fitting(state, rows), gains)
        self.ids_read += int(offsets[-1])
        return gains * state.scale[rows]

    def _ranked(self, rows: Int64s, scores: Floats) -> Ranking:
        """Sort rows by their scores, the largest first, of equal ones the first in order."""
        places = self._place[rows]
        by_score = np.lexsort((places, -scores))
        return Ranking(places[by_score], scores[by_score])
