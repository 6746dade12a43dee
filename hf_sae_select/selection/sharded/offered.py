"""Offered: the rows that shards offered in a round, on the driver, which computes their gains again after picks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...features.codes import with_more
from ...features.kernels import Floats, Int64s
from ..coverage import Csr, Objective
from ..coverage_kernels import row_gains
from .messages import Offer
from .ranked import Ranked


class Entries(NamedTuple):
    """The features of one row, and what they count in a mass objective."""

    ids: NDArray[Any]
    amounts: NDArray[np.float32]

    def counting(self, objective: Objective) -> Entries:
        """Leave out the features that add nothing to a gain any more."""
        return (
            Entries(self.ids[objective.marginal_value[self.ids] > 0], self.amounts) if not len(self.amounts) else self
        )

    def csr(self) -> Csr:
        return Csr(np.zeros(1, np.int64), np.full(1, len(self.ids)), self.ids, self.amounts)


class Offered:
    """Find the best of the rows that were offered, again and again, while their scores only fall.

    Args:
        objective: what a pick gains.
        scale: what gains are multiplied by, by place: [n].
    """

    def __init__(self, objective: Objective, scale: Floats) -> None:
        self._objective = objective
        self._ranked = Ranked(self._gains, scale)
        self._slots, self._rows = dict[int, int](), list[int]()  # the slot of a place, and the row in a slot
        self._starts, self._filled = np.zeros(1, np.int64), 0
        self._ids, self._amounts = np.empty(0, np.uint16), np.empty(0, np.float32)

    def __len__(self) -> int:
        return len(self._ranked.places)

    def add(self, offer: Offer, now: int) -> None:
        """Take rows of a shard, whose gains are those after `now` picks."""
        self._slots.update((place, slot) for slot, place in enumerate(offer.places.tolist(), len(self._rows)))
        self._rows += offer.numbers.tolist()
        self._starts = np.concatenate([self._starts, self._filled + offer.rows.counts.cumsum()])
        self._ids = with_more(self._ids, offer.rows.ids, self._filled)
        if len(offer.rows.amounts):
            self._amounts = with_more(self._amounts, offer.rows.amounts, self._filled)
        self._filled += len(offer.rows.ids)
        self._ranked.add(offer.places, offer.gains, now)

    def best(self, now: int, rest: tuple[float, int]) -> tuple[int, float, Entries] | None:
        """Return the best row after `now` picks, with its gain, and forget it; None where it is not above `rest`.

        `rest` is a score and a negative place.
        """
        top = self._ranked.first(rest, now)
        if top is None:
            return None
        slot, gain = self._slots[int(self._ranked.places[top])], float(self._ranked.gains[top])
        self._ranked.drop(np.array([top]))
        entries = slice(self._starts[slot], self._starts[slot + 1])
        return self._rows[slot], gain, Entries(self._ids[entries], self._amounts[entries])

    def _gains(self, places: Int64s) -> Floats:
        """Return the gains of rows by their places, in units."""
        slots, gains = np.array([self._slots[place] for place in places.tolist()]), np.zeros(len(places))
        csr = Csr(self._starts[slots], self._starts[slots + 1], self._ids, self._amounts)
        row_gains(0, len(slots), csr, self._objective, np.ones(len(slots), np.bool_), gains)
        return gains
