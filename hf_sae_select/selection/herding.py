"""Kernel herding: rows that are near those of a pool or a target, and far from each other. Arrays in, arrays out.

A row's vector u_i are its shares above the pool's mean (`features/shares.py`), each times the weight of its feature;
the `STRONGEST` largest of a row count, scaled to length 1. A feature's weight says how it tells the target from
the pool, see `Target.weights`; without a target it is 1. With the kernel
K(i, j) = (exp((<u_i, u_j> - 1) / width) - exp(-1 / width)) / (1 - exp(-1 / width)), which is 1 for equal vectors and 0
for rows that share no feature, a row i scores, after the picks S,

    gain(i) = mean over rows t of K(i, t)  +  redundancy * (1 - sum over p in S of K(i, p) / (|S| + 1))

The rows t are those of the target, or without one of the pool (`targets.sample_of`). The next pick is the row with
the largest gain times its `scale`. It is kernel herding (Chen, Welling & Smola 2010). The gain is not submodular, and
no bound of greedy algorithms holds for it. A row that shares no feature with the rows t is no candidate.

Several targets take turns: the next turn is of the target whose picks are farthest behind its share of them. Then only
its rows, and only the picks of its turns, count.

Why whole numbers: entries of vectors, products and kernel values are whole numbers of a unit, so the sums are exact,
whatever the order of rows and the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, blocks, compiled, compiled_beyond, largest_of_rows
from ..features.matrix import FeatureMatrix
from ..features.shares import Shares
from .coverage import ConstraintState, commit, fitting

LENGTH = 4096  # of a vector: the product of two is at most 2^24, but for rounding
SHIFT = 10  # products are cut to 2^14 steps
STEPS = LENGTH**2 >> SHIFT
WIDTH, REDUNDANCY = 0.5, 1.25  # where none is passed, without a target
COST_REDUNDANCY = (
    1.0  # and where rows have costs: more than 1 spreads the picks, and does not keep the mix of the pool
)
TARGET_WIDTH, TARGET_REDUNDANCY = 0.3, 0.5  # and with one
STRONGEST = 128  # weighted shares of a row that count
COMMON = 0.1  # the share of the rows from which on a feature has a column
UNITS = 2**32  # of the kernel: sums over a million rows stay below 2^53

Products = NDArray[np.int32]
Entries = NDArray[np.int32]


class Postings(NamedTuple):
    """Which of the rows from `low` to `high` have each feature; a row is its number from 0 on.

    The entries of a feature that many of the rows have are a column with an entry for each row: adding a column up
    takes less time than a tenth of its rows one by one.
    """

    low: int
    high: int
    starts: Int64s  # [d_sae + 1], of features without a column
    rows: NDArray[np.int32]
    entries: NDArray[np.int16]
    column_of: NDArray[np.int32]  # [d_sae]: -1 without a column
    columns: NDArray[np.int16]  # [columns, rows]


@dataclass(frozen=True, eq=False)
class Herding:
    """Compute the kernel between the rows of a pool, and any others."""

    shares: Shares
    """The shares of the rows of the pool."""
    width: float
    """The width of the kernel."""
    weights: Floats
    """The factor of each feature's shares: [d_sae]."""

    @cached_property
    def entries(self) -> Entries:
        """The vectors of the pool: [nnz]."""
        return self.vectors_of(self.shares)

    @cached_property
    def parts(self) -> list[Postings]:
        """The postings of the pool, a range of rows for each thread."""
        features = self.shares.features
        ranges = [(low, high) for low, high in blocks(features.offsets) if low < high]
        return [_postings(features, self.entries, *part) for part in ranges]

    @cached_property
    def table(self) -> Int64s:
        """The kernel at each product of two vectors, in units."""
        least = np.exp(-1 / self.width)
        values = (np.exp((np.arange(STEPS + 1) / STEPS - 1) / self.width) - least) / (1 - least)
        units: Int64s = np.rint(values * UNITS).astype(np.int64)
        return units

    def closeness(self, others: FeatureMatrix) -> Int64s:
        """Return the sum, over the rows of another matrix, of the kernel with each row of the pool: [n], in units."""
        shares = Shares.above(self.shares.mean, others)
        sums, entries = np.zeros(len(self.shares.features), np.int64), self.vectors_of(shares)

        def add(part: Postings) -> None:
            _add_rows(others.offsets, others.ids, entries, part, self.table, sums[part.low : part.high])

        with ThreadPoolExecutor(len(self.parts)) as threads:
            list(threads.map(add, self.parts))
        return sums

    @cached_property
    def own(self) -> Int64s:
        """The kernel of each row of the pool with itself: [n], in units; 0 for rows without features."""
        sums = np.concatenate([[0], np.square(self.entries, dtype=np.int64).cumsum()])
        offsets = self.shares.features.offsets
        squares = sums[offsets[1:]] - sums[offsets[:-1]]
        return np.asarray(self.table[np.minimum(squares >> SHIFT, STEPS)])

    def row(self, i: int) -> tuple[NDArray[Any], Entries]:
        """Return the vector of a row of the pool: features and entries."""
        features = self.shares.features
        entries = slice(features.offsets[i], features.offsets[i + 1])
        return features.ids[entries], self.entries[entries]

    def vectors_of(self, shares: Shares) -> Entries:
        """Return the vectors of rows, scaled to `LENGTH`: [nnz]."""
        offsets = shares.features.offsets
        amounts = shares.amounts * self.weights[shares.features.ids]
        strongest = largest_of_rows(offsets, amounts.astype(np.float32).view(np.uint32), STRONGEST)
        kept = np.zeros_like(amounts)
        kept[strongest] = amounts[strongest]
        return _scaled(offsets, kept)


class Herd:
    """Pick rows by herding, one after another.

    `closeness` [targets, n] holds the sums over the rows of each target, of which it has `sizes`; `budget_shares` says
    how the targets share the budget.
    """

    def __init__(
        self,
        herding: Herding,
        closeness: Int64s,
        sizes: Int64s,
        budget_shares: Floats,
        redundancy: float,
        state: ConstraintState,
    ) -> None:
        self._herding, self._closeness, self.state = herding, closeness, state
        self._sizes, self._shares, self._redundancy = sizes, budget_shares, redundancy
        self._sums = np.zeros_like(closeness)  # over the picks of each target's turns
        self._counts = np.zeros(len(sizes), np.int64)
        self._place = np.empty(len(state.order), np.int64)
        self._place[state.order] = np.arange(len(state.order))
        self._products = [np.zeros(part.high - part.low, np.int32) for part in herding.parts]
        self._fitting = fitting(state)

    def pick(self, budget: int, initial: Int64s, advance: Callable[[], Any]) -> tuple[Int64s, Floats]:
        """Pick `initial`, and then rows up to the budget; return the rows and their gains."""
        rows, gains = list[int](), list[float]()
        with ThreadPoolExecutor(len(self._herding.parts)) as threads:
            for row in initial.tolist():
                turn = self.turn_of(row)
                rows.append(row)
                gains.append(self.gain(row, turn))
                self.take(row, turn, threads)
                advance()
            while len(rows) < budget:
                row, turn = self._best(threads)
                if row < 0:
                    break
                rows.append(row)
                gains.append(self.gain(row, turn))
                self.take(row, turn, threads)
                advance()
        return np.array(rows, np.int64), np.array(gains, np.float64)

    def turns(self) -> list[int]:
        """Return the targets, the one that is farthest behind its share of the picks first."""
        behind = self._shares * (self._counts.sum() + 1) - self._counts
        return list(np.argsort(-behind, kind="stable"))

    def turn_of(self, row: int) -> int:
        """Return the target for which a row would be picked: the first in turn that it shares a feature with."""
        turns = self.turns()
        return next((turn for turn in turns if self._closeness[turn, row] > 0), turns[0])

    def _best(self, threads: ThreadPoolExecutor) -> tuple[int, int]:
        """Return the row with the largest score, and the target whose turn it is; -1 where no candidate is left."""
        for turn in self.turns():
            row = self.best(turn, threads)
            if row >= 0:
                return row, turn
        return -1, 0

    def best(self, turn: int, threads: ThreadPoolExecutor, beside: int = -1) -> int:
        """Return the row with the largest score for a target, `beside` another one; -1 where no candidate is left."""
        parts = self._herding.parts
        score, _, row = max(threads.map(self._best_of, parts, [turn] * len(parts), [beside] * len(parts)))
        return row if score > 0 else -1

    def _best_of(self, part: Postings, turn: int, beside: int) -> tuple[float, int, int]:
        """Return the largest score among some rows, the row's negative place in the order of ties, and the row."""
        within = slice(part.low, part.high)
        row, score = _best(
            self._closeness[turn, within],
            self._sums[turn, within],
            self._fitting[within],
            self.state.scale[within],
            self._place[within],
            beside - part.low,
            *self._factors(turn),
        )
        return score, -self._place[part.low + row], part.low + row

    def _factors(self, turn: int) -> tuple[float, float, float]:
        """Return what closeness and sums are divided by, and the weight of redundancy."""
        return float(max(self._sizes[turn], 1) * UNITS), float((self._counts[turn] + 1) * UNITS), self._redundancy

    def nearness(self, row: int, turn: int) -> float:
        """Return the mean kernel of a row with the rows of a target."""
        return float(self._closeness[turn, row]) / self._factors(turn)[0]

    def scores(self, turn: int) -> Floats:
        """Return the scores of all candidates for a target, and 0 for other rows: [n]."""
        closeness, (of_target, of_picks, redundancy) = self._closeness[turn], self._factors(turn)
        gains = closeness / of_target + redundancy * (1 - self._sums[turn] / of_picks)
        return np.where(self._fitting & (closeness > 0), gains * self.state.scale, 0.0)

    def gain(self, row: int, turn: int) -> float:
        """Return what a row gains in the turn of a target; 0 where it shares no feature with it."""
        if not self._closeness[turn, row]:
            return 0.0
        return float(_gain(self._closeness[turn, row], self._sums[turn, row], *self._factors(turn)))

    def take(self, row: int, turn: int, threads: ThreadPoolExecutor) -> None:
        """Pick a row, and add its kernel to the sums of a target."""
        state, group = self.state, self.state.group[row]
        commit(state, row)
        self._fitting[row] = False
        if state.remaining_per_group[group] == 0 or state.remaining_budget[0] < np.inf:
            self._fitting = fitting(state)
        self._counts[turn] += 1
        ids, entries = self._herding.row(row)

        def add(part: Postings, products: Products) -> None:
            _add_row(ids, entries, part, products, self._herding.table, self._sums[turn, part.low : part.high])

        list(threads.map(add, self._herding.parts, self._products))


def _postings(features: FeatureMatrix, entries: Entries, low: int, high: int) -> Postings:
    """Index the rows from `low` to `high`; entries of 0 are left out."""
    within = slice(features.offsets[low], features.offsets[high])
    ids, values = features.ids[within], entries[within]
    rows = np.repeat(np.arange(high - low, dtype=np.int32), features.counts[low:high])
    counts = np.bincount(ids[values > 0], minlength=features.d_sae)
    common = np.flatnonzero(counts > COMMON * (high - low))
    column_of = np.full(features.d_sae, -1, np.int32)
    column_of[common] = np.arange(len(common))
    in_column = column_of[ids] >= 0
    columns = np.zeros((len(common), high - low), np.int16)
    columns[column_of[ids[in_column]], rows[in_column]] = values[in_column]
    others = np.flatnonzero(~in_column & (values > 0))
    order = others[np.argsort(ids[others], kind="stable")]
    starts = np.concatenate([[0], np.bincount(ids[order], minlength=features.d_sae).cumsum()])
    return Postings(low, high, starts, rows[order], values[order].astype(np.int16), column_of, columns)


@compiled
def _scaled(offsets: Int64s, amounts: Floats) -> Entries:
    """Scale the vector of each row to `LENGTH`, and round it: [nnz]."""
    entries = np.zeros(len(amounts), np.int32)
    for i in range(len(offsets) - 1):
        square = 0.0
        for p in range(offsets[i], offsets[i + 1]):
            square += amounts[p] * amounts[p]
        if square > 0:
            for p in range(offsets[i], offsets[i + 1]):
                entries[p] = np.int32(np.rint(amounts[p] * LENGTH / np.sqrt(square)))
    return entries


@compiled_beyond(lambda ids, entries, part, products, *_: STRONGEST * len(products))
def _add_row(
    ids: NDArray[Any], entries: Entries, part: Postings, products: Products, table: Int64s, sums: Int64s
) -> None:
    """Add the kernel of one row with each row of a part to `sums`; `products` are 0 before and after."""
    starts, rows, values = part.starts, part.rows, part.entries  # once: a field of a tuple is slow in a loop
    column_of, columns = part.column_of, part.columns
    for p in range(len(ids)):
        entry, feature = entries[p], ids[p]
        if entry > 0 and column_of[feature] >= 0:
            column = columns[column_of[feature]]
            for i in range(len(products)):
                products[i] += entry * np.int32(column[i])
        elif entry > 0:
            for q in range(starts[feature], starts[feature + 1]):
                products[rows[q]] += entry * np.int32(values[q])
    for i in range(len(products)):
        sums[i] += table[min(products[i] >> SHIFT, STEPS)]  # 0 where nothing is shared
        products[i] = 0


@compiled_beyond(lambda offsets, ids, entries, part, table, sums: len(ids) * len(sums))
def _add_rows(
    offsets: Int64s, ids: NDArray[Any], entries: Entries, part: Postings, table: Int64s, sums: Int64s
) -> None:
    products = np.zeros(len(sums), np.int32)
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        _add_row(ids[start:end], entries[start:end], part, products, table, sums)


@compiled_beyond(lambda *_: 1)
def _gain(closeness: int, total: int, of_target: float, of_picks: float, redundancy: float) -> float:
    return closeness / of_target + redundancy * (1 - total / of_picks)


@compiled_beyond(lambda closeness, *_: len(closeness))
def _best(
    closeness: Int64s,
    sums: Int64s,
    fits: NDArray[np.bool_],
    scale: Floats,
    place: Int64s,
    beside: int,
    of_target: float,
    of_picks: float,
    redundancy: float,
) -> tuple[int, float]:
    """Return the row with the largest score, of equal ones the first in the order of ties, and the score.

    The row `beside` does not count.
    """
    best, largest = 0, 0.0
    for i in range(len(closeness)):
        if fits[i] and closeness[i] > 0 and i != beside:
            score = _gain(closeness[i], sums[i], of_target, of_picks, redundancy) * scale[i]
            if score > largest or (score == largest and largest > 0 and place[i] < place[best]):
                best, largest = i, score
    return best, largest
