"""Offered: the rows that shards offered in a round, on the driver, which picks the best of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...features.codes import stretches, with_more
from ..coverage_kernels import lazy_greedy
from ..coverage_state import PICKED, Csr, Ranking, Rest, Search
from .messages import Offer


class Entries(NamedTuple):
    """The features of one row, or of several together, and what they count in a mass objective."""

    ids: NDArray[Any]
    amounts: NDArray[np.float32]

    def counting(self, marginal_value: NDArray[Any]) -> Entries:
        """Leave out the features that add nothing to a gain any more: only in a count objective."""
        return self if len(self.amounts) else Entries(self.ids[marginal_value[self.ids] > 0], self.amounts)

    def csr(self) -> Csr:
        return Csr(np.zeros(1, np.int64), np.full(1, len(self.ids)), self.ids, self.amounts)


class Offered:
    """Pick the best of the rows that were offered, while no other row can be better.

    Args:
        search: the search; its rows are those of the pool, and it has no entries.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._rows, self._places, self._bounds = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        self._starts, self._filled = np.zeros(1, np.int64), 0
        self._ids, self._amounts = np.empty(0, np.uint16), np.empty(0, np.float32)

    def is_empty(self) -> bool:
        """Tell whether no row that was offered may add anything."""
        return not self._bounds.any()

    def add(self, offer: Offer) -> None:
        """Take rows of a shard, whose gains bound what they add from now on."""
        scores = offer.gains * self._search.constraints.scale[offer.numbers]
        self._rows, self._places = np.append(self._rows, offer.numbers), np.append(self._places, offer.places)
        self._bounds = np.append(self._bounds, scores)
        self._starts = np.append(self._starts, self._filled + offer.rows.counts.cumsum())
        self._ids = with_more(self._ids, offer.rows.ids, self._filled)
        if len(offer.rows.amounts):
            self._amounts = with_more(self._amounts, offer.rows.amounts, self._filled)
        self._filled += len(offer.rows.ids)

    def pick(self, rest_score: float, rest_place: int) -> Entries:
        """Pick rows while they come before the rest; return the entries of all of them together."""
        search, state = self._search, self._search.constraints
        slots = np.flatnonzero((self._bounds >= rest_score) & (self._bounds > 0))
        slots = slots[np.argsort(self._places[slots])]
        rows, places, bounds = self._rows[slots], self._places[slots], np.zeros(len(slots))
        own = {name: getattr(state, name)[rows] for name in ("available", "group", "cost", "scale")}
        csr = Csr(self._starts[:-1][slots], self._starts[1:][slots], self._ids, self._amounts)
        among = search._replace(csr=csr, constraints=state._replace(order=np.arange(len(rows)), **own))
        by_score = np.argsort(-self._bounds[slots], kind="stable")
        ranking = Ranking(by_score, self._bounds[slots[by_score]])
        start, rest = search.counters[PICKED], Rest(rest_score, int(np.searchsorted(places, rest_place)))
        lazy_greedy(among, csr, ranking, bounds, rest)
        self._bounds[slots] = bounds
        picks = search.indices[start : search.counters[PICKED]]
        starts, ends = csr.starts[picks], csr.ends[picks]
        picks[:] = rows[picks]
        state.available[picks] = False
        amounts = stretches(self._amounts, starts, ends) if len(self._amounts) else self._amounts
        return Entries(stretches(self._ids, starts, ends), amounts)
