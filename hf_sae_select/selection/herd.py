"""Herd: kernel herding, pick after pick.

With the kernel K of `herding.py`, a row i scores, after the picks S,

    gain(i) = mean over rows t of K(i, t)  +  redundancy * (1 - sum over p in S of K(i, p) / (|S| + 1))

The rows t are those of the target, or without one of the pool (`targets.sample_of`). The next pick is the row with
the largest gain times its `scale`, of those that `compared.py` compares. It is kernel herding (Chen, Welling & Smola
2010). The gain is not submodular, and no bound of greedy algorithms holds for it. A row that shares no feature with
the rows t cannot be picked.

Several targets take turns: the next turn is of the target whose picks are farthest behind its share of them. Then only
its rows, and only the picks of its turns, count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, blocks, compiled_beyond
from .compared import Compared
from .coverage import ConstraintState, commit, fitting
from .herding import (
    MOST_ROWS,
    UNITS,
    Advance,
    Herding,
    Postings,
    Products,
    Vector,
    Vectors,
    add_row,
)
from .targets import Target

WIDTH, REDUNDANCY = 0.5, 1.25  # where none is passed, without a target
COST_REDUNDANCY = 1.0  # and where rows have costs: more than 1 spreads the picks, and does not keep the pool's mix
TARGET_WIDTH, TARGET_REDUNDANCY = 0.3, 0.5  # and with one
CANDIDATES = 2048  # rows that are compared at a pick
NO_ROWS = np.empty(0, np.int64)


class Herd:
    """Pick rows by herding, one after another.

    Args:
        herding: the kernel.
        aim: what rows are picked near to.
        redundancy: what nearness to earlier picks counts, where nearness to the aim counts 1.
        state: the constraints, and what remains of them.
        compared: which rows are compared.
        watched: rows whose gains are wanted at every pick, whether they are compared or not.
    """

    def __init__(
        self,
        herding: Herding,
        aim: Target,
        redundancy: float,
        state: ConstraintState,
        compared: Compared,
        watched: Int64s = NO_ROWS,
    ) -> None:
        n, turns = len(state.order), len(aim.parts)
        self.state, self.compared, self._herding, self._redundancy = state, compared, herding, redundancy
        self._pending: tuple[Vector, int] | None = None  # the last pick, and its turn: not in `_sums` yet
        self._sizes, self._shares = aim.sizes(), aim.shares
        self._counts = np.zeros(turns, np.int64)
        self._picks = [compared.vectors(NO_ROWS)] * turns
        self._new_picks: list[list[Vector]] = [[] for _ in range(turns)]  # that are not in `_picks` yet
        self._is_taken = np.zeros(n, np.bool_)
        self._watched = watched
        self._place = np.empty(n, np.int64)
        self._place[state.order] = np.arange(n)
        self._local = np.full(n, -1)  # the position of a row in the block, -1 for rows that are not in it
        no_sums = np.empty((turns, 0), np.int64)
        self._set_block(NO_ROWS, compared.vectors(NO_ROWS), no_sums, no_sums)
        compared.begin()
        self._refresh()

    # ---- picks

    def pick(self, budget: int, initial: Int64s, advance: Advance) -> tuple[Int64s, Floats]:
        """Pick `initial`, and then rows up to the budget; return the rows and their gains."""
        rows, gains = list[int](), list[float]()
        with ThreadPoolExecutor() as threads:
            for row, turn in self._choices(budget, initial, threads):
                rows.append(row)
                gains.append(self.gain(row, turn))
                self.take(row, turn)
                advance(1)
        return np.array(rows, np.int64), np.array(gains, np.float64)

    def _choices(self, budget: int, initial: Int64s, threads: ThreadPoolExecutor) -> Iterator[tuple[int, int]]:
        """Yield the rows to pick, and the targets whose turns they are."""
        for row in initial.tolist():
            yield row, self.turn_of(row)
        for _ in range(budget - len(initial)):
            best = next(((row, turn) for turn in self.turns() if (row := self.best(turn, threads)) >= 0), None)
            if best is None:
                return
            yield best

    def turns(self) -> list[int]:
        """Return the targets, the one that is farthest behind its share of the picks first."""
        if len(self._counts) == 1:
            return [0]
        behind = self._shares * (self._counts.sum() + 1) - self._counts
        return list(np.argsort(-behind, kind="stable"))

    def turn_of(self, row: int) -> int:
        """Return the target for which a row would be picked: the first in turn that it shares a feature with."""
        turns, near = self.turns(), self._closeness[:, self._local[row]]
        return next((turn for turn in turns if near[turn] > 0), turns[0])

    def best(self, turn: int, threads: ThreadPoolExecutor, beside: int = -1) -> int:
        """Return the row with the largest score for a target, `beside` another one; -1 where none is left."""
        while True:
            results = self._in_parts(lambda part, products: self._best_of(part, products, turn, beside), threads)
            self._pending = None
            score, _, row = max([(0.0, 0, -1), *results])
            if not self.compared.beyond(turn, score):
                return row if score > 0 else -1
            self._refresh()

    def take(self, row: int, turn: int) -> None:
        """Pick a row, and add its kernel to the sums of a target."""
        self._add_pending()
        state, group, local = self.state, self.state.group[row], self._local[row]
        vector = self._vectors[local]
        commit(state, row)
        self._is_taken[row] = True
        self._counts[turn] += 1
        self._new_picks[turn].append(vector)
        self._pending = vector, turn
        self._n_live -= bool(self._fits[local]) and bool(self._closeness[:, local].any())
        self._fits[local] = False
        if state.remaining_per_group[group] == 0 or state.remaining_budget[0] < np.inf:
            self._look_again()
        if self.compared.after(row, vector, self._n_live):
            self._refresh()

    def _add_pending(self) -> None:
        """Add the kernel of the last pick to the sums, where `best` has not done so."""
        if self._pending is not None:
            self._in_parts(self._add, None)
            self._pending = None

    def _add(self, part: Postings, products: Products) -> None:
        assert self._pending is not None
        vector, turn = self._pending
        add_row(*vector, part, products, self._herding.table, self._sums[turn, part.low : part.high])

    def _in_parts(self, work: Callable[[Postings, Products], Any], threads: ThreadPoolExecutor | None) -> list[Any]:
        """Call a function with each part of the rows; all but the first in threads, where there are any."""
        parts = list(zip(self._parts, self._products, strict=True))
        if threads is None or len(parts) < 2:
            return [work(*part) for part in parts]
        started = [threads.submit(work, *part) for part in parts[1:]]
        return [work(*parts[0]), *(future.result() for future in started)]

    # ---- gains and scores

    def gain(self, row: int, turn: int) -> float:
        """Return what a row gains in the turn of a target; 0 where it shares no feature with it."""
        self._add_pending()
        closeness, total = self._closeness[turn, self._local[row]], self._sums[turn, self._local[row]]
        return float(_gain(closeness, total, *self._factors(turn))) if closeness else 0.0

    def nearness(self, row: int, turn: int) -> float:
        """Return the mean kernel of a row with the rows of a target."""
        return float(self._closeness[turn, self._local[row]]) / self._factors(turn)[0]

    def is_candidate(self, row: int) -> bool:
        """Tell whether a row is compared at the next pick, where it fits."""
        return self.compared.has_all or bool(self.compared.mask[row])

    def scores(self, turn: int) -> Floats:
        """Return the scores of the rows that are compared, and 0 for others: [n]."""
        self._add_pending()
        while self.compared.beyond(turn, 0.0):
            self._refresh()
        closeness, (of_target, of_picks, redundancy) = self._closeness[turn], self._factors(turn)
        gains = closeness / of_target + redundancy * (1 - self._sums[turn] / of_picks)
        rows, scores = self._rows, np.zeros(len(self._local))
        scores[rows] = np.where(self._fits & (closeness > 0), gains * self.state.scale[rows], 0.0)
        return scores

    def _factors(self, turn: int) -> tuple[float, float, float]:
        """Return what closeness and sums are divided by, and the weight of redundancy."""
        return float(max(self._sizes[turn], 1) * UNITS), float((self._counts[turn] + 1) * UNITS), self._redundancy

    def _best_of(self, part: Postings, products: Products, turn: int, beside: int) -> tuple[float, int, int]:
        """Return the largest score among some rows, the row's negative place in the order of ties, and the row."""
        if self._pending is not None:
            self._add(part, products)
        within = slice(part.low, part.high)
        skipped = -1 if beside < 0 else int(self._local[beside]) - part.low
        i, score = _best(
            self._closeness[turn, within],
            self._sums[turn, within],
            self._fits[within],
            self._scale[within],
            self._places[within],
            skipped,
            *self._factors(turn),
        )
        row = int(self._rows[part.low + i])
        return score, -int(self._place[row]), row

    # ---- the rows that are compared

    def _refresh(self) -> None:
        """Let the block have the rows that are compared and can win, and those that are watched."""
        self._add_pending()
        old, watched = self._rows, self._watched[~self._is_taken[self._watched]]
        is_wanted, is_watched = self.compared.mask.copy(), np.zeros(len(self._local), np.bool_)
        is_wanted[is_wanted] = fitting(self.state, np.flatnonzero(is_wanted))
        is_watched[watched] = True
        stays = (is_wanted[old] & self._closeness.any(axis=0)) | is_watched[old]
        is_wanted[watched] = True
        is_wanted[old] = False
        new = np.flatnonzero(is_wanted)
        vectors = self.compared.vectors(new)
        sums = np.stack([self._herding.closeness_to(self._joined_picks(i), vectors) for i in range(len(self._counts))])
        self._local[old] = -1
        self._set_block(
            np.concatenate([old[stays], new]),
            Vectors.joined([self._vectors.take(np.flatnonzero(stays)), vectors]),
            np.concatenate([self._closeness[:, stays], self.compared.closeness(new, vectors)], axis=1),
            np.concatenate([self._sums[:, stays], sums], axis=1),
        )

    def _joined_picks(self, turn: int) -> Vectors:
        """Return the vectors of the picks of a target's turns."""
        new = self._new_picks[turn]
        if new:
            ids, entries = (np.concatenate(column) for column in zip(*new, strict=True))
            offsets = np.concatenate([[0], np.cumsum([len(part) for part, _ in new])])
            latest = Vectors(offsets, ids, entries, self._vectors.d_sae)
            self._picks[turn], self._new_picks[turn] = Vectors.joined([self._picks[turn], latest]), []
        return self._picks[turn]

    def _set_block(self, rows: Int64s, vectors: Vectors, closeness: Int64s, sums: Int64s) -> None:
        """Set the rows that are compared, and what is known of them."""
        self._rows, self._vectors, self._closeness, self._sums = rows, vectors, closeness, sums
        self._local[rows] = np.arange(len(rows))
        self._parts = [vectors.postings(low, high) for low, high in _ranges(vectors.offsets)]
        self._products: list[Products] = [np.zeros(part.high - part.low, np.int32) for part in self._parts]
        self._scale, self._places = self.state.scale[rows], self._place[rows]
        self._look_again()

    def _look_again(self) -> None:
        """Look which of the rows may be picked, and how many can win."""
        self._fits = self.compared.mask[self._rows] & fitting(self.state, self._rows)
        self._n_live = int(np.count_nonzero(self._fits & self._closeness.any(axis=0)))


def _ranges(offsets: Int64s) -> list[tuple[int, int]]:
    """Cut rows into ranges for the threads, each of which one index can hold."""
    cuts = [range(low, high, MOST_ROWS) for low, high in blocks(offsets)]
    return [(low, min(low + MOST_ROWS, part.stop)) for part in cuts for low in part]


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
