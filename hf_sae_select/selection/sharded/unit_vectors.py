"""UnitVectors: the unit vectors of the rows of a shard, and its part of the searches by them. Picks come from the
driver."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ...features.codes import with_more
from ...features.kernels import Floats, Int64s
from ..coverage import fitting
from ..distances import Distances
from ..similarity_pairs import BLOCK_SIZE, Vectors
from ..unit_vectors import quantized
from .constraints import writable
from .messages import VectorOffer, VectorTask, VectorUpdate
from .ranked import Ranked

MOST_BLOCK = 2**16  # rows that a filter looks at together


class UnitVectors:
    """Hold the unit vectors of rows: whole numbers of two bytes.

    Args:
        blocks: yields the vectors of the rows, a block at a time.
        n: the number of rows.
        mean: what is subtracted from each vector: [d].
    """

    def __init__(self, blocks: Iterable[Vectors], n: int, mean: Floats) -> None:
        self._vectors, start = np.empty((n, len(mean)), np.int16), 0
        for block in blocks:
            if len(block):
                self._vectors[start : start + len(block)] = quantized(block, mean)
            start += len(block)
        self._search: FarthestSearch | FilterSearch | None = None

    def take(self, rows: Int64s) -> NDArray[np.int16]:
        """Return the unit vectors of some rows."""
        return self._vectors[rows]

    def begin(self, task: VectorTask) -> None:
        """Begin a search."""
        self._search = (FarthestSearch if task.most is None else FilterSearch)(self._vectors, task)

    def offer(self, update: VectorUpdate, most: int) -> VectorOffer:
        """Return the rows that may be picked next, at most `most`."""
        assert self._search is not None
        return self._search.offer(update, most)


class FarthestSearch:
    """Find the rows that are farthest from their nearest picks."""

    def __init__(self, vectors: NDArray[np.int16], task: VectorTask) -> None:
        self._vectors, self._task, self._state, self._now = vectors, task, writable(task.state), 0
        self._distances = Distances(vectors)
        order = self._state.order
        places = np.flatnonzero(fitting(self._state, order) & (self._state.scale[order] > 0))
        self._ranked = Ranked(self._distances_of, self._state.scale[order])
        self._ranked.add(places, np.full(len(places), self._distances.largest), 0)

    def offer(self, update: VectorUpdate, most: int) -> VectorOffer:
        """Offer rows that were not offered before."""
        update.picked.take_from(self._state, self._task.first)
        for vector in update.vectors:
            self._distances.add_center(vector)
        self._now += len(update.picked.numbers)
        top = self._ranked.best(most, self._now)
        score, rest_place = self._ranked.rest(top)
        places, distances = self._ranked.places[top], self._ranked.gains[top]
        self._ranked.drop(top)
        rows = self._state.order[places]
        return VectorOffer(
            rows + self._task.first,
            self._task.places[places],
            distances,
            self._vectors[rows],
            score,
            int(self._task.places[rest_place]) if rest_place >= 0 else -1,
        )

    def _distances_of(self, places: Int64s) -> Floats:
        """Return the distances of rows that fit; 0 for others."""
        rows = self._state.order[places]
        fits = fitting(self._state, rows)
        distances = np.zeros(len(rows))
        distances[fits] = self._distances.to_nearest(rows[fits])
        return distances


class FilterSearch:
    """Find, in the order of a scan, the rows that are near no pick of the round."""

    def __init__(self, vectors: NDArray[np.int16], task: VectorTask) -> None:
        self._vectors, self._task, self._state = vectors, task, writable(task.state)
        self._picks, self._count = np.empty((0, vectors.shape[1]), np.float32), 0  # of the round
        self._next = 0  # of the order: those before were looked at

    def offer(self, update: VectorUpdate, most: int) -> VectorOffer:
        """Offer the next `most` rows."""
        update.picked.take_from(self._state, self._task.first)
        if update.begins_round:
            self._next, self._count = 0, 0
        self._picks = with_more(self._picks, update.vectors.astype(np.float32), self._count)
        self._count += len(update.vectors)
        order, places, size = self._state.order, np.empty(0, np.int64), most
        while len(places) < most and self._next < len(order):
            looked = np.arange(self._next, min(self._next + size, len(order)))
            passing = looked[self._passes(order[looked])][: most - len(places)]
            places = np.append(places, passing)
            self._next = int(passing[-1]) + 1 if len(places) == most else int(looked[-1]) + 1
            size = min(2 * size, MOST_BLOCK, max(BLOCK_SIZE // max(1, *self._picks.shape), most))
        rows = order[places]
        is_done = self._next == len(order)
        return VectorOffer(
            rows + self._task.first,
            self._task.places[places],
            np.zeros(len(rows)),
            self._vectors[rows],
            0.0,
            np.iinfo(np.int64).max if is_done else int(self._task.places[self._next]),
        )

    def _passes(self, rows: Int64s) -> NDArray[np.bool_]:
        """Tell which rows may be picked now."""
        passes = fitting(self._state, rows)
        products = self._vectors[rows[passes]].astype(np.float32) @ self._picks[: self._count].T
        passes[passes] = products.max(axis=1, initial=-np.inf) <= self._task.most
        return passes
