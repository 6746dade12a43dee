"""What driver and shards send each other: arrays alone, so that any engine can carry them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...features.kernels import Floats, Int64s
from ..coverage import Amounts, ConstraintState, Objective
from ..herding import Vector
from .compact import Gaps, narrowed
from .constraints import Picked

MOST_CODED = 2**20  # ids of rows that go as gaps: to code one takes about 40 bytes of memory for a while


class Rows(NamedTuple):
    """Some rows: their features, and what each entry counts in a mass objective."""

    counts: Int64s  # [m]
    ids: NDArray[Any]  # [nnz]
    amounts: NDArray[np.float32]  # [nnz]; empty in a count objective

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle fewer bytes."""
        ids = Gaps.of(self.ids, self.counts) if len(self.ids) <= MOST_CODED else self.ids
        return _rows, (narrowed(self.counts), ids, self.amounts)

    def parts(self) -> list[tuple[NDArray[Any], NDArray[np.float32]]]:
        """Return the features and the amounts of each row."""
        cuts = np.cumsum(self.counts)[:-1]
        amounts = np.split(self.amounts, cuts) if len(self.amounts) else [self.amounts] * len(self.counts)
        return list(zip(np.split(self.ids, cuts), amounts, strict=True)) if len(self.counts) else []

    @classmethod
    def joined(cls, parts: list[tuple[NDArray[Any], NDArray[np.float32]]]) -> Rows:
        """Return rows of their features and amounts."""
        no_ids, no_amounts = np.empty(0, np.uint16), np.empty(0, np.float32)
        ids, amounts = [ids for ids, _ in parts] or [no_ids], [amounts for _, amounts in parts] or [no_amounts]
        return cls(np.array([len(ids) for ids, _ in parts], np.int64), np.concatenate(ids), np.concatenate(amounts))


def _rows(counts: NDArray[Any], ids: Gaps | NDArray[Any], amounts: NDArray[np.float32]) -> Rows:
    counts = counts.astype(np.int64)
    return Rows(counts, ids.ids(counts) if isinstance(ids, Gaps) else ids, amounts)


class Update(NamedTuple):
    """What a shard has to know before it answers: the picks since its last answer, and whether a round begins."""

    picked: Picked
    rows: Rows  # those that still count: of the round that goes on
    begins_round: bool


class Task(NamedTuple):
    """A coverage search, as one shard sees it."""

    first: int  # the number that the first row of the shard has in the pool
    objective: Objective
    amounts: Amounts | None
    holders: Int64s  # [d_sae]: in the whole pool
    state: ConstraintState  # of the rows of the shard; `order` has their numbers within it
    places: Int64s  # [m]: the position of each row of `state.order` in the order of the whole pool
    max_overlap: float | None = None  # of a scan
    against_nearest: bool = False  # whether a scan compares a row with single picks


class Offer(NamedTuple):
    """The rows of a shard that may be picked next, and what bounds its others."""

    numbers: Int64s  # [m]: in the pool
    places: Int64s  # [m]: in the order of the whole pool
    gains: Floats  # [m]: in units; of a scan the totals of the rows
    rows: Rows
    rest_score: float
    """No other row has a larger score; of a scan 0."""
    rest_place: int
    """The first place of the others that have this score; of a scan the first place that was not looked at."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle fewer bytes."""
        return _offer, (*map(narrowed, self[:3]), *self[3:])


def _offer(numbers: NDArray[Any], places: NDArray[Any], gains: NDArray[Any], *others: Any) -> Offer:
    return Offer(numbers.astype(np.int64), places.astype(np.int64), gains.astype(np.float64), *others)


class HerdingTask(NamedTuple):
    """The kernel of herding, as one shard sees it."""

    first: int  # the number that the first row of the shard has in the pool
    mean: Floats  # [d_sae]
    width: float
    weights: Floats  # [d_sae]


class Sum(NamedTuple):
    """Picks of herding since the last answer, and the sum of their vectors, where it is not 0."""

    picked: Picked
    ids: NDArray[Any]
    sums: Int64s

    @classmethod
    def of(cls, picked: Picked, vectors: list[Vector]) -> Sum:
        """Add up the vectors of picks."""
        if not vectors:
            return cls(picked, np.empty(0, np.uint16), np.empty(0, np.int64))
        ids, entries = (np.concatenate(column) for column in zip(*vectors, strict=True))
        sums = np.bincount(ids, entries).astype(np.int64)  # whole, below 2^53
        some = np.flatnonzero(sums)
        return cls(picked, some.astype(ids.dtype), sums[some])


class VectorSummary(NamedTuple):
    """What the driver holds of the vectors of a shard."""

    has_vector: NDArray[np.bool_]  # [n]: whether the vector of each row is not zeros
    width: int  # 0 without rows


class VectorTask(NamedTuple):
    """A search by vectors, as one shard sees it."""

    first: int  # the number that the first row of the shard has in the pool
    state: ConstraintState  # of the rows of the shard; `order` has their numbers within it
    places: Int64s  # [m]: the position of each row of `state.order` in the order of the whole pool
    most: float | None = None
    """The largest product with a pick in a filter; None where the farthest rows are picked."""


class VectorUpdate(NamedTuple):
    """What a shard has to know before it answers: the picks since its last answer, and whether a round begins."""

    picked: Picked
    vectors: NDArray[np.int16]  # [m, d]: those of the picks that still count
    begins_round: bool


class VectorOffer(NamedTuple):
    """The rows of a shard that may be picked next, and what bounds its others."""

    numbers: Int64s  # [m]: in the pool
    places: Int64s  # [m]: in the order of the whole pool
    distances: Floats  # [m]: to the nearest pick; of a filter 0
    vectors: NDArray[np.int16]  # [m, d]
    rest_score: float
    """No other row has a larger score; of a filter 0."""
    rest_place: int
    """The first place of the others that have this score; of a filter the first place that was not looked at."""
