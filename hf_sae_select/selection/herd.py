"""Herd: kernel herding, pick after pick, among all rows or among candidates drawn in random order.

With the kernel K of `herding.py`, a row i scores, after the picks S,

    gain(i) = mean over rows t of K(i, t)  +  redundancy * (1 - sum over p in S of K(i, p) / (|S| + 1))

The rows t are those of the target, or without one of the pool (`targets.sample_of`). The next pick is the row with
the largest gain times its `scale`. It is kernel herding (Chen, Welling & Smola 2010). The gain is not submodular, and
no bound of greedy algorithms holds for it. A row that shares no feature with the rows t cannot be picked.

Several targets take turns: the next turn is of the target whose picks are farthest behind its share of them. Then only
its rows, and only the picks of its turns, count.

Which rows are compared:

- Without a target, a fixed number of candidates: the first rows in the order of ties that fit, those of larger scale
  first. After each quarter of that number of picks, the next rows take the places of those that were picked or no
  longer fit. So the time of a pick does not grow with the pool, and a smaller budget has the first picks of a larger.
- Else all rows. Those whose upper bound, nearness and redundancy times the scale, is below the best score are not
  looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, blocks, compiled_beyond
from .coverage import ConstraintState, commit, fitting
from .herding import MOST_ROWS, UNITS, Advance, Herding, Postings, Products, Vector, Vectors, add_row
from .targets import Target

WIDTH, REDUNDANCY = 0.5, 1.25  # where none is passed, without a target
COST_REDUNDANCY = 1.0  # and where rows have costs: more than 1 spreads the picks, and does not keep the pool's mix
TARGET_WIDTH, TARGET_REDUNDANCY = 0.3, 0.5  # and with one
CANDIDATES = 8192  # rows that are compared at a pick
STEP = 4096  # rows that are looked at together where all may be compared
NO_ROWS = np.empty(0, np.int64)


class Herd:
    """Pick rows by herding, one after another.

    Args:
        herding: the kernel.
        aim: what rows are picked near to.
        redundancy: what nearness to earlier picks counts, where nearness to the aim counts 1.
        state: the constraints, and what remains of them.
        candidates: the number of rows that are compared at a pick; None for all rows.
        closeness: where all rows are compared, the sums of the kernel of each with the rows of each target:
            [targets, n], in units.
        watched: rows whose gains are wanted at every pick, whether they are candidates or not.
    """

    def __init__(
        self,
        herding: Herding,
        aim: Target,
        redundancy: float,
        state: ConstraintState,
        candidates: int | None,
        closeness: Int64s | None,
        watched: Int64s = NO_ROWS,
    ) -> None:
        n, turns = len(state.order), len(aim.parts)
        self.state, self._herding, self._aim, self._redundancy = state, herding, aim, redundancy
        self._sizes, self._shares, self._size = aim.sizes(), aim.shares, candidates or 0
        self._counts = np.zeros(turns, np.int64)
        self._picks: list[list[Vector]] = [[] for _ in range(turns)]
        self._is_taken = np.zeros(n, np.bool_)
        self._watched = watched
        self._place = np.empty(n, np.int64)
        self._place[state.order] = np.arange(n)
        self._local = np.full(n, -1)  # the position of a row in the block, -1 for rows that are not in it
        self._is_candidate = np.zeros(n, np.bool_)
        self._next = np.zeros(turns, np.int64)  # of each row of `_waiting`
        self._known = closeness
        self._waiting = self._order_of_candidates()
        no_sums = np.empty((turns, 0), np.int64)
        self._set_block(NO_ROWS, herding.vectors(NO_ROWS), no_sums, no_sums)
        self._enter(NO_ROWS)
        if closeness is None:
            self._fill()

    # ---- picks

    def pick(self, budget: int, initial: Int64s, advance: Advance) -> tuple[Int64s, Floats]:
        """Pick `initial`, and then rows up to the budget; return the rows and their gains."""
        rows, gains = list[int](), list[float]()
        with ThreadPoolExecutor() as threads:
            for row, turn in self._choices(budget, initial, threads):
                rows.append(row)
                gains.append(self.gain(row, turn))
                self.take(row, turn, threads)
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
            scores = [(0.0, 0, -1)]
            scores += _in_threads(threads, self._best_of, [(part, turn, beside) for part in self._parts])
            score, _, row = max(scores)
            if self._known is None or not self._may_win(turn, score):
                return row if score > 0 else -1
            self._enter(self._next_rows(turn, STEP))

    def take(self, row: int, turn: int, threads: ThreadPoolExecutor) -> None:
        """Pick a row, and add its kernel to the sums of a target."""
        state, group, local = self.state, self.state.group[row], self._local[row]
        vector = self._vectors[local]
        commit(state, row)
        self._is_taken[row] = True
        self._counts[turn] += 1
        self._picks[turn].append(vector)
        self._n_live -= bool(self._fits[local]) and bool(self._closeness[:, local].any())
        self._fits[local] = False
        if state.remaining_per_group[group] == 0 or state.remaining_budget[0] < np.inf:
            self._look_again()
        sums = self._sums[turn]
        _in_threads(
            threads,
            lambda part, products: add_row(*vector, part, products, self._herding.table, sums[part.low : part.high]),
            list(zip(self._parts, self._products, strict=True)),
        )
        if self._known is None and (self._counts.sum() % max(self._size // 4, 1) == 0 or not self._n_live):
            self._fill()

    # ---- gains and scores

    def gain(self, row: int, turn: int) -> float:
        """Return what a row gains in the turn of a target; 0 where it shares no feature with it."""
        closeness, total = self._closeness[turn, self._local[row]], self._sums[turn, self._local[row]]
        return float(_gain(closeness, total, *self._factors(turn))) if closeness else 0.0

    def nearness(self, row: int, turn: int) -> float:
        """Return the mean kernel of a row with the rows of a target."""
        return float(self._closeness[turn, self._local[row]]) / self._factors(turn)[0]

    def is_candidate(self, row: int) -> bool:
        """Tell whether a row is compared at the next pick, where it fits."""
        return self._known is not None or bool(self._is_candidate[row])

    def scores(self, turn: int) -> Floats:
        """Return the scores of the rows that are compared, and 0 for others: [n]."""
        if self._known is not None:
            self._enter(self._next_rows(turn, len(self._local)))
        closeness, (of_target, of_picks, redundancy) = self._closeness[turn], self._factors(turn)
        gains = closeness / of_target + redundancy * (1 - self._sums[turn] / of_picks)
        rows, scores = self._rows, np.zeros(len(self._local))
        scores[rows] = np.where(self._fits & (closeness > 0), gains * self.state.scale[rows], 0.0)
        return scores

    def _factors(self, turn: int) -> tuple[float, float, float]:
        """Return what closeness and sums are divided by, and the weight of redundancy."""
        return float(max(self._sizes[turn], 1) * UNITS), float((self._counts[turn] + 1) * UNITS), self._redundancy

    def _best_of(self, part: Postings, turn: int, beside: int) -> tuple[float, int, int]:
        """Return the largest score among some rows, the row's negative place in the order of ties, and the row."""
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

    def _order_of_candidates(self) -> list[Int64s]:
        """Return, for each target, the rows in the order in which they begin to be compared."""
        state = self.state
        if self._known is None:
            return [state.order[np.argsort(-state.scale[state.order], kind="stable")]]
        bounds = [self._bounds(turn, np.arange(len(state.order))) for turn in range(len(self._known))]
        orders = [np.argsort(-bound, kind="stable") for bound in bounds]
        return [order[bound[order] > 0] for order, bound in zip(orders, bounds, strict=True)]

    def _bounds(self, turn: int, rows: Int64s) -> Floats:
        """Return upper bounds of the scores of rows for a target: what they score where no pick is near them."""
        assert self._known is not None
        closeness, (of_target, _, redundancy) = self._known[turn, rows], self._factors(turn)
        return np.where(closeness > 0, (closeness / of_target + redundancy) * self.state.scale[rows], 0.0)

    def _may_win(self, turn: int, score: float) -> bool:
        """Tell whether a row that was not looked at may score as much."""
        waiting = self._waiting[turn][self._next[turn] :][:1]
        return bool(len(waiting) and self._bounds(turn, waiting)[0] >= score)

    def _next_rows(self, turn: int, most: int) -> Int64s:
        """Return the next rows of a target that fit and are not compared yet, up to a number of them."""
        rows, waiting = NO_ROWS, self._waiting[turn]
        while len(rows) < most and self._next[turn] < len(waiting):
            start = int(self._next[turn])
            new = waiting[start : start + most - len(rows)]
            self._next[turn] += len(new)
            new = new[fitting(self.state, new) & (self.state.scale[new] > 0) & ~self._is_candidate[new]]
            rows = np.concatenate([rows, new])
        return rows

    def _fill(self) -> None:
        """Let rows take the places of candidates that were picked, no longer fit, or share no feature with the aim."""
        while len(rows := self._next_rows(0, self._size - self._n_live)):
            self._enter(rows)

    def _enter(self, rows: Int64s) -> None:
        """Begin to compare rows. Those that can no longer win are compared no more."""
        self._is_candidate[rows] = True
        old, watched = self._rows, self._watched[~self._is_taken[self._watched]]
        stays = (self._fits & self._closeness.any(axis=0)) | np.isin(old, watched)
        new = np.setdiff1d(np.concatenate([rows, watched]), old[stays])
        vectors = self._herding.vectors(new)
        sums = np.zeros((len(self._counts), len(new)), np.int64)
        for turn, picks in enumerate(self._picks):
            if picks:
                self._herding.add(_joined(picks, vectors.d_sae), vectors.postings(0, len(new)), sums[turn])
        closeness = self._aim.closeness(self._herding, new) if self._known is None else self._known[:, new]
        self._local[old] = -1
        self._set_block(
            np.concatenate([old[stays], new]),
            self._vectors.taken(stays).joined(vectors),
            np.concatenate([self._closeness[:, stays], closeness], axis=1),
            np.concatenate([self._sums[:, stays], sums], axis=1),
        )

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
        self._fits = self._is_candidate[self._rows] & fitting(self.state, self._rows)
        self._n_live = int(np.count_nonzero(self._fits & self._closeness.any(axis=0)))


def _ranges(offsets: Int64s) -> list[tuple[int, int]]:
    """Cut rows into ranges for the threads, each of which one index can hold."""
    cuts = [range(low, high, MOST_ROWS) for low, high in blocks(offsets)]
    return [(low, min(low + MOST_ROWS, part.stop)) for part in cuts for low in part]


def _joined(picks: list[Vector], d_sae: int) -> Vectors:
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in picks])])
    ids, entries = (np.concatenate(column) for column in zip(*picks, strict=True))
    return Vectors(offsets, ids, entries, d_sae)


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


def _in_threads(threads: ThreadPoolExecutor, work: Callable[..., Any], parts: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call a function with the arguments of each part, in threads where there are several."""
    if len(parts) < 2:
        return [work(*part) for part in parts]
    return list(threads.map(lambda part: work(*part), parts))
