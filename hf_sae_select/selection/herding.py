"""The kernel of herding: how near rows are to each other. Arrays in, arrays out; `herd.py` picks rows by it.

A row's vector u_i are its shares above the pool's mean (`features/shares.py`), each times the weight of its feature;
the `STRONGEST` largest of a row count, scaled to length 1. A feature's weight says how it tells the target from
the pool, see `Target.weights`; without a target it is 1. The kernel
K(i, j) = (exp((<u_i, u_j> - 1) / width) - exp(-1 / width)) / (1 - exp(-1 / width)) is 1 for equal vectors and 0
for rows that share no feature.

Why whole numbers: entries of vectors, products and kernel values are whole numbers of a unit, so the sums are exact,
whatever the order of rows and the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import (
    Floats,
    Int64s,
    compiled,
    compiled_beyond,
    cores,
    in_threads,
    largest_of_rows,
    of_rows,
    offsets_of,
)
from ..features.matrix import FeatureMatrix
from ..features.shares import amounts_above

LENGTH = 4096  # of a vector: the product of two is at most 2^24, but for rounding
SHIFT = 10  # products are cut to 2^14 steps
STEPS = LENGTH**2 >> SHIFT
STRONGEST = 128  # weighted shares of a row that count
MOST_ROWS = 2**16  # of one index
UNITS = 2**32  # of the kernel: sums over a million rows stay below 2^53

BLOCK_ROWS = 2048  # rows whose vectors one thread computes at a time
FEW_ROWS = 32  # rows that one thread compares with many others at a time

Products = NDArray[np.int32]
Entries = NDArray[np.int16]
Vector = tuple[NDArray[Any], Entries]
"""The features of a row that count, and its entries for them."""
Advance = Callable[[int], Any]


@dataclass(frozen=True, eq=False)
class Vectors:
    """Hold the vectors of some rows, sparse."""

    offsets: Int64s
    """[m + 1]"""
    ids: NDArray[Any]
    """[nnz]"""
    entries: Entries
    """[nnz], none of them 0."""
    d_sae: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Vector:
        entries = slice(self.offsets[i], self.offsets[i + 1])
        return self.ids[entries], self.entries[entries]

    @cached_property
    def squares(self) -> Int64s:
        """The product of each vector with itself: [m]."""
        sums = np.concatenate([[0], np.square(self.entries, dtype=np.int64).cumsum()])
        return np.asarray(sums[self.offsets[1:]] - sums[self.offsets[:-1]])

    def take(self, rows: Int64s) -> Vectors:
        """Return some of the vectors."""
        offsets = np.concatenate([[0], np.cumsum(self.offsets[rows + 1] - self.offsets[rows])])
        ids, entries = (of_rows(self.offsets, column, rows, offsets) for column in (self.ids, self.entries))
        return Vectors(offsets, ids, entries, self.d_sae)

    @classmethod
    def joined(cls, parts: Sequence[Vectors]) -> Vectors:
        """Return the vectors of all parts, one part after another."""
        if len(parts) == 1:
            return parts[0]
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        ids, entries = np.concatenate([part.ids for part in parts]), np.concatenate([part.entries for part in parts])
        return cls(np.concatenate([[0], counts.cumsum()]), ids, entries, parts[0].d_sae)

    def postings(self, low: int, high: int) -> Postings:
        """Index the vectors from `low` to `high`, at most `MOST_ROWS`."""
        within = slice(self.offsets[low], self.offsets[high])
        ids, entries, starts = self.ids[within], self.entries[within], np.zeros(self.d_sae + 1, np.int64)
        np.cumsum(np.bincount(ids, minlength=self.d_sae), out=starts[1:])
        rows, values = _by_feature(self.offsets[low : high + 1] - self.offsets[low], ids, entries, starts[:-1].copy())
        return Postings(low, high, starts.view(np.uint64), rows, values)

    @cached_property
    def index(self) -> list[Postings]:
        """The postings of all vectors."""
        starts = range(0, len(self), MOST_ROWS)
        return [self.postings(low, min(low + MOST_ROWS, len(self))) for low in starts]


class Postings(NamedTuple):
    """Which of the vectors from `low` to `high` have each feature; a vector is its number from 0 on.

    Numbers without a sign: with one, compiled code would look at each whether it counts from the end.
    """

    low: int
    high: int
    starts: NDArray[np.uint64]  # [d_sae + 1]
    rows: NDArray[np.uint16]
    entries: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Herding:
    """Compute the kernel between the rows of a pool, and any others."""

    features: FeatureMatrix
    """The features of the rows of the pool."""
    mean: Floats
    """The pool's mean share of each feature, above which shares count: [d_sae]."""
    width: float
    """The width of the kernel."""
    weights: Floats
    """The factor of each feature's shares: [d_sae]."""
    _others: dict[FeatureMatrix, Vectors] = field(default_factory=dict, repr=False)

    @cached_property
    def table(self) -> Int64s:
        """The kernel at each product of two vectors, in units."""
        least = np.exp(-1 / self.width)
        values = (np.exp((np.arange(STEPS + 1) / STEPS - 1) / self.width) - least) / (1 - least)
        units: Int64s = np.rint(values * UNITS).astype(np.int64)
        return units

    @cached_property
    def _has_weights(self) -> bool:
        return bool((self.weights != 1).any())

    def vectors(self, rows: Int64s) -> Vectors:
        """Return the vectors of some rows of the pool."""
        blocks = [(rows[start : start + BLOCK_ROWS],) for start in range(0, len(rows), BLOCK_ROWS)] or [(rows,)]
        return Vectors.joined(in_threads(lambda block: self.vectors_of(self.features.take(block)), blocks))

    def others(self, features: FeatureMatrix) -> Vectors:
        """Return the vectors of rows that the pool is compared with again and again; they are computed once."""
        if features not in self._others:
            self.keep(features, self.vectors_of(features))
        return self._others[features]

    def keep(self, features: FeatureMatrix, vectors: Vectors) -> None:
        """Keep the vectors of `others`, which are known already."""
        self._others[features] = vectors

    def vectors_of(self, features: FeatureMatrix) -> Vectors:
        """Return the vectors of any rows."""
        amounts: NDArray[np.floating[Any]] = amounts_above(self.mean, features)
        if self._has_weights:
            amounts = amounts * self.weights.take(features.ids)
        bits = amounts.astype(np.float32, copy=False).view(np.uint32)
        positions = largest_of_rows(features.offsets, bits, STRONGEST)
        offsets = np.concatenate([[0], np.minimum(features.counts, STRONGEST).cumsum()])
        entries = _scaled(offsets, amounts.take(positions).astype(np.float64, copy=False))
        ids, mask = features.ids.take(positions), entries > 0
        if not mask.all():
            offsets, ids, entries = offsets_of(offsets, mask), ids[mask], entries[mask]
        return Vectors(offsets, ids, entries, features.d_sae)

    def closeness(self, others: Sequence[Postings], vectors: Vectors) -> Int64s:
        """Return the sum, over other vectors, of the kernel with each vector: int64 [vectors], in units."""
        sums = np.zeros(len(vectors), np.int64)

        def add(start: int) -> None:
            offsets, block = vectors.offsets[start : start + FEW_ROWS + 1], sums[start : start + FEW_ROWS]
            for index in others:
                add_sums(offsets, vectors.ids, vectors.entries, index, self.table, block)

        in_threads(add, [(start,) for start in range(0, len(vectors), FEW_ROWS)])
        return sums

    def closeness_to(self, others: Vectors, vectors: Vectors) -> Int64s:
        """Return the same as `closeness`, where the other vectors are more and known for this once."""
        sums, n, step = np.zeros(len(vectors), np.int64), len(vectors), max(-(-len(others) // cores()), 1)
        parts = [vectors.postings(low, min(low + BLOCK_ROWS, n)) for low in range(0, n, BLOCK_ROWS)]

        def add(part: Postings, first: int) -> tuple[Postings, Int64s]:
            own = np.zeros(part.high - part.low, np.int64)
            add_rows(others.offsets[first : first + step + 1], others.ids, others.entries, part, self.table, own)
            return part, own

        for part, own in in_threads(add, [(part, first) for part in parts for first in range(0, len(others), step)]):
            sums[part.low : part.high] += own
        return sums

    def own(self, vectors: Vectors) -> Int64s:
        """Return the kernel of each vector with itself: [vectors], in units; 0 for one without features."""
        return np.asarray(self.table[np.minimum(vectors.squares >> SHIFT, STEPS)])


@compiled_beyond(lambda offsets, ids, *_: len(ids))
def _by_feature(
    offsets: Int64s, ids: NDArray[Any], entries: Entries, places: Int64s
) -> tuple[NDArray[np.uint16], Entries]:
    """Sort the entries of rows by feature; `places` [d_sae] are where the first of each feature goes."""
    rows, values = np.empty(len(ids), np.uint16), np.empty(len(ids), np.int16)
    for i in range(len(offsets) - 1):
        for p in range(offsets[i], offsets[i + 1]):
            place = places[ids[p]]
            rows[place], values[place] = i, entries[p]
            places[ids[p]] = place + 1
    return rows, values


@compiled
def _scaled(offsets: Int64s, amounts: Floats) -> Entries:
    """Scale the vector of each row to `LENGTH`, and round it: [nnz]."""
    entries = np.zeros(len(amounts), np.int16)
    for i in range(len(offsets) - 1):
        square = 0.0
        for p in range(offsets[i], offsets[i + 1]):
            square += amounts[p] * amounts[p]
        if square > 0:
            for p in range(offsets[i], offsets[i + 1]):
                entries[p] = np.int16(np.rint(amounts[p] * LENGTH / np.sqrt(square)))
    return entries


@compiled_beyond(lambda ids, entries, part, products, *_: STRONGEST * len(products))
def add_row(
    ids: NDArray[Any], entries: Entries, part: Postings, products: Products, table: Int64s, sums: Int64s
) -> None:
    """Add the kernel of one row with each row of a part to `sums`; `products` are 0 before and after."""
    starts, rows, values = part.starts, part.rows, part.entries  # once: a field of a tuple is slow in a loop
    for p in range(len(ids)):
        entry = np.int32(entries[p])
        for q in range(starts[ids[p]], starts[ids[p] + 1]):
            products[rows[q]] += entry * np.int32(values[q])
    for i in range(len(products)):
        sums[i] += table[np.uint32(min(products[i] >> SHIFT, STEPS))]  # 0 where nothing is shared
        products[i] = 0


@compiled_beyond(lambda offsets, ids, entries, part, *_: len(ids) * (part.high - part.low))
def add_rows(
    offsets: Int64s, ids: NDArray[Any], entries: Entries, part: Postings, table: Int64s, sums: Int64s
) -> None:
    """Add the kernel of each of some rows with each row of a part to `sums`."""
    products = np.zeros(part.high - part.low, np.int32)
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        add_row(ids[start:end], entries[start:end], part, products, table, sums)


@compiled_beyond(lambda offsets, ids, entries, part, *_: len(ids) * (part.high - part.low))
def add_sums(
    offsets: Int64s, ids: NDArray[Any], entries: Entries, part: Postings, table: Int64s, sums: Int64s
) -> None:
    """Add to the sum of each vector its kernel with all rows of a part."""
    starts, rows, values = part.starts, part.rows, part.entries
    products = np.zeros(part.high - part.low, np.int32)
    for i in range(len(offsets) - 1):
        for p in range(np.uint64(offsets[i]), np.uint64(offsets[i + 1])):
            entry = np.int32(entries[p])
            for q in range(starts[ids[p]], starts[ids[p] + 1]):
                products[rows[q]] += entry * np.int32(values[q])
        total = 0
        for t in range(len(products)):
            total += table[np.uint32(min(products[t] >> SHIFT, STEPS))]
            products[t] = 0
        sums[i] += total
