"""Similarity over shards: k-center and the filter, whose rows are in shards. The driver picks among rows they offer.

They pick what `similarity.kcenter` and `similarity.similarity_filter` do, for the same reason as `driver.py`: the
distances of rows only fall, and a row that is near a pick of a round stays so. All products are of whole numbers, so
that those of a shard and of the driver are equal to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...features.codes import with_more
from ...features.kernels import Floats, Int64s
from ..coverage import ConstraintState, commit, fits
from ..distances import Distances
from ..unit_vectors import VectorSum, largest_product
from .constraints import Picked, part_of, places_of
from .features import ShardedFeatures
from .messages import VectorOffer, VectorTask, VectorUpdate
from .ranked import Ranked

FARTHEST = 16  # rows that a shard offers in one trip of k-center, at most
PASSING = 64  # and of the filter
Waiting = tuple[int, int, int, NDArray[np.int16]]
"""A row that was offered: its place, its number, the number of picks it was compared with, and its vector."""


@dataclass(frozen=True, eq=False)
class ShardedVectors:
    """Know where unit vectors are, and ask for them."""

    features: ShardedFeatures
    width: int

    @classmethod
    def begin(cls, features: ShardedFeatures, center: bool) -> ShardedVectors:
        """Let the shards compute the unit vectors of their rows."""
        start = VectorSum.start(features.width)
        mean = features.through("add_vectors", start).mean if center else start.whole
        features.call("begin_similarity", mean)
        return cls(features, features.width)

    def take(self, rows: Int64s) -> NDArray[np.int16]:
        """Return the unit vectors of some rows: [m, d]."""
        shard, vectors = self.features.shard_of(rows), np.empty((len(rows), self.width), np.int16)
        if not len(rows):
            return vectors
        parts = self.features.call_each("similarity", [("take", *own) for own in self.features.split(rows)])
        for i, part in enumerate(parts):
            vectors[shard == i] = part
        return vectors


class _Search:
    """What both searches share: the picks that shards do not know, and the trips to them."""

    def __init__(self, vectors: ShardedVectors, state: ConstraintState, order: Int64s, most: float | None) -> None:
        self._vectors, self._state = vectors, state
        self._unsent_rows, self._unsent = list[int](), list[NDArray[np.int16]]()
        place, tasks = places_of(order, len(state.order)), []
        for start, end in vectors.features.ranges():
            part = part_of(state, start, end, place)
            tasks.append(("begin", VectorTask(start, part, place[start:end][part.order], most)))
        vectors.features.call_each("similarity", tasks)

    def _trip(self, most: int, begins_round: bool = False) -> list[VectorOffer]:
        """Tell the shards what was picked, and ask which rows may be next, each for at most so many."""
        picked = Picked.of(self._state, np.array(self._unsent_rows, np.int64))
        vectors = np.array(self._unsent, np.int16).reshape(-1, self._vectors.width)
        self._unsent_rows, self._unsent = [], []
        update = VectorUpdate(picked, vectors, begins_round)
        offers: list[VectorOffer] = self._vectors.features.call("similarity", "offer", update, most)
        return offers

    def _commit(self, row: int, vector: NDArray[np.int16]) -> None:
        commit(self._state, row)
        self._unsent_rows.append(row)
        self._unsent.append(vector)


class _Farthest(_Search):
    """Pick the farthest row again and again."""

    def __init__(self, vectors: ShardedVectors, state: ConstraintState, bar: Any) -> None:
        super().__init__(vectors, state, state.order, None)
        self._distances = Distances(np.empty((0, vectors.width), np.int16))  # of the rows that were offered
        self._slots, self._rows = dict[int, int](), list[int]()  # the slot of a place, and the row in a slot
        self._ranked = Ranked(self._distances_of, state.scale[state.order])
        self._picks, self._gains, self._bar = list[int](), list[float](), bar

    def __call__(self, budget: int, initial: Int64s) -> tuple[Int64s, Floats]:
        self._pick_initial(initial)
        while len(self._picks) < budget:
            offers = self._trip(min(FARTHEST, budget - len(self._picks)))
            self._add(offers)
            if not len(self._ranked.places):
                break
            rest = max((offer.rest_score, -offer.rest_place) for offer in offers)
            while len(self._picks) < budget and (top := self._ranked.first(rest, len(self._picks))) is not None:
                slot, gain = self._slots[int(self._ranked.places[top])], float(self._ranked.gains[top])
                self._ranked.drop(np.array([top]))
                if fits(self._state, self._rows[slot]):
                    self._pick(self._rows[slot], self._distances.vectors[slot], gain)
        return np.array(self._picks, np.int64), np.array(self._gains) / (self._distances.largest / 2)

    def _pick_initial(self, rows: Int64s) -> None:
        vectors = self._vectors.take(rows)
        distances = Distances(vectors)
        for i, row in enumerate(rows.tolist()):
            self._pick(row, vectors[i], float(distances.to_nearest(np.array([i]))[0]))
            distances.add_center(vectors[i])

    def _pick(self, row: int, vector: NDArray[np.int16], gain: float) -> None:
        self._commit(row, vector)
        self._distances.add_center(vector)
        self._picks.append(row)
        self._gains.append(gain)
        self._bar.update()

    def _add(self, offers: list[VectorOffer]) -> None:
        """Take the rows that shards offer."""
        numbers, places, distances, vectors = (
            np.concatenate([getattr(offer, name) for offer in offers])
            for name in ("numbers", "places", "distances", "vectors")
        )
        self._slots.update((place, slot) for slot, place in enumerate(places.tolist(), len(self._rows)))
        self._rows += numbers.tolist()
        self._distances.add_rows(vectors, distances)
        self._ranked.add(places, distances, len(self._picks))

    def _distances_of(self, places: Int64s) -> Floats:
        return self._distances.to_nearest(np.array([self._slots[place] for place in places.tolist()], np.int64))


def kcenter(
    vectors: ShardedVectors, state: ConstraintState, budget: int, initial: Int64s, bar: Any
) -> tuple[Int64s, Floats]:
    """Pick as `similarity.kcenter` does."""
    return _Farthest(vectors, state, bar)(budget, initial)


class ShardedFilter(_Search):
    """Pick, in an order, rows that are not too similar to any pick of the round: one round a call.

    Args:
        vectors: those of the rows.
        state: the constraints, and what remains of them.
        order: the rows that may be picked.
        max_similarity: the largest cosine with a pick.
    """

    def __init__(self, vectors: ShardedVectors, state: ConstraintState, order: Int64s, max_similarity: float) -> None:
        self._most = largest_product(max_similarity, vectors.width)
        super().__init__(vectors, state, order, self._most)

    def __call__(self, budget: int, near: list[int]) -> list[int]:
        """Pick as `similarity.similarity_filter` does."""
        self._unsent = list(self._vectors.take(np.array(near, np.int64)))
        self._near = np.array(self._unsent, np.float32).reshape(-1, self._vectors.width)
        self._count = len(near)
        picks, waiting, begins = list[int](), list[Waiting](), True
        while len(picks) < budget:
            offers, begins = self._trip(min(PASSING, budget - len(picks)), begins), False
            next_place = min(offer.rest_place for offer in offers)
            for offer in offers:
                for place, row, vector in zip(offer.places, offer.numbers, offer.vectors, strict=True):
                    heappush(waiting, (int(place), int(row), self._count, vector))
            while waiting and waiting[0][0] < next_place and len(picks) < budget:
                _, row, compared, vector = heappop(waiting)
                if fits(self._state, row) and self._passes(vector, compared):
                    self._commit(row, vector)
                    self._near = with_more(self._near, vector[None].astype(np.float32), self._count)
                    self._count += 1
                    picks.append(row)
            if next_place == np.iinfo(np.int64).max:
                break
        return picks

    def _passes(self, vector: NDArray[np.int16], compared: int) -> bool:
        """Tell whether a row, which was compared with the first picks of the round, is near none of the others."""
        products = self._near[compared : self._count] @ vector.astype(np.float32)
        return bool((products <= self._most).all())
