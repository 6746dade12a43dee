"""Coverage kernels: which rows together have the most features, compiled by numba. Arrays in, arrays out.

A pool is CSR arrays: row i has the features `ids[starts[i]:ends[i]]`. What is maximised is

    f(S) = sum over features j of  weight_j * curve(how much of j the rows S have)

with a concave curve, so that what a row adds, its gain, never grows while S does. A `Objective` is f at some S, and counted
or massed:

    counted  how many rows of S have j counts; `steps[c]` is what one more row adds where c have it already, and
             [1, 0] is plain coverage. `worth[j] = weight_j * steps[had_j]` is a whole number of `unit`s, so a row's
             gain, the sum over its features, is exact in whatever order and by however many threads it is summed.
    massed   the amounts that the rows of S have of j are added up, and the curve is the square root or log(1 + x);
             or, with "max", only the largest amount counts.

Rows are picked by score, gain times `scale`; of equal scores the first in `order`. `ConstraintState` says which rows fit.
A round begins with nothing had. With `restart`, a round in which no row adds anything more is followed by another over
the rows left; without it the first round is all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import log1p, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, blocks, compiled, in_threads

Picks = tuple[Int64s, NDArray[Any], Int64s]  # rows, gains, and the pick positions at which the rounds began

PATIENCE = 0.5  # after reading this share of all ids row by row, reading them all at once, in threads, pays


class ConstraintState(NamedTuple):
    """Keep the books of one selection; arrays over n rows, changed as rows are picked."""

    order: Int64s  # the rows, of equal ones the first first
    available: NDArray[np.bool_]  # not picked and not excluded
    group: Int64s
    remaining_per_group: Int64s  # [groups]: how many more rows of each group may be picked
    cost: Floats
    remaining_budget: Floats  # [1]: what may still be spent
    scale: Floats  # a row's gain times this is its score


@compiled
def fits(limits: ConstraintState, i: int) -> bool:
    """Tell whether row i may be picked now. What does not fit never fits again: room and purse only shrink."""
    return bool(
        limits.available[i]
        and limits.remaining_per_group[limits.group[i]] > 0
        and limits.cost[i] <= limits.remaining_budget[0]
    )


@compiled
def commit(limits: ConstraintState, i: int) -> None:
    """Note that row i is picked."""
    limits.available[i] = False
    limits.remaining_per_group[limits.group[i]] -= 1
    limits.remaining_budget[0] -= limits.cost[i]


@compiled
def take_in_order(limits: ConstraintState, order: Int64s, budget: int) -> Int64s:
    """Pick the rows of `order` that fit, one after another, at most `budget`."""
    picks, n = np.empty(budget, np.int64), 0
    for i in order:
        if n == budget:
            break
        if fits(limits, i):
            picks[n] = i
            n += 1
            commit(limits, i)
    return picks[:n]


class Csr(NamedTuple):
    """Row i has the features `ids[starts[i]:ends[i]]`, and `amounts` of them, unless they are counted."""

    starts: Int64s
    ends: Int64s
    ids: NDArray[np.unsignedinteger[Any]]
    amounts: NDArray[np.float32]


class Objective(NamedTuple):
    """f at the rows taken so far; see the top of the file."""

    worth: NDArray[Any]  # [d_sae], whole numbers: what one more row that has the feature gains by it
    fresh: NDArray[Any]  # [d_sae]: `worth` when a round begins
    had: Floats  # [d_sae]: how many rows have the feature, or how much of it they have
    root: Floats  # [d_sae]: the square root of that, where it is needed
    weight: Floats  # [d_sae], in units
    steps: Floats
    curve: int  # of the masses: a place in CURVES
    unit: float


class Search(NamedTuple):
    """Hold a selection under way: what the kernels read and change."""

    csr: Csr
    goal: Objective
    holders: Int64s  # [d_sae]: how many of the rows left have the feature
    limits: ConstraintState
    indices: Int64s  # [budget]
    gains: Floats  # [budget], in units
    at: Int64s  # [3]: picks made; features that some row left would add; how often the rows left have those


N, LEFT, LIVE = 0, 1, 2  # places in `Search.at`
CURVES = ("sqrt", "log", "max")
SQRT, LOG, MAX = 0, 1, 2


def count_objective(weight: Floats, steps: Sequence[float] | Floats) -> Objective:
    """Make the goal in which the (c + 1)-th row that has feature j adds `weight[j] * steps[c]`, steps falling."""
    steps = np.asarray(steps, np.float64)
    whole = bool(np.isin(weight, (0, 1)).all() and np.isin(steps, (0, 1)).all())
    # 2^52 units in all: no row's sum leaves the whole numbers that float64 holds
    unit = 1.0 if whole else float((weight * steps[0]).sum()) / 2**52 or 1.0
    fresh = np.rint(weight * steps[0] / unit).astype(np.uint8 if whole else np.int64)
    return Objective(fresh.copy(), fresh, np.zeros(len(weight)), np.empty(0), weight / unit, steps, SQRT, unit)


def mass_objective(weight: Floats, curve: str) -> Objective:
    """Make the goal `sum_j weight[j] * curve(mass_j)`, curve being "sqrt", "log" or "max"."""
    always = np.ones(len(weight), np.uint8)
    had, root = np.zeros((2, len(weight)))
    return Objective(always, always, had, root, weight, np.empty(0), CURVES.index(curve), 1.0)


def new_search(csr: Csr, goal: Objective, holders: Int64s, limits: ConstraintState, budget: int) -> Search:
    """Make ready to pick `budget` rows; `holders` counts the rows that may be picked, and those picked beforehand."""
    return Search(csr, goal, holders, limits, np.empty(budget, np.int64), np.empty(budget), np.zeros(3, np.int64))


def greedy_cover(race: Search, first: Int64s, begun: Int64s, restart: bool, last: Int64s) -> Picks:
    """Pick again and again the row of the largest score: exact greedy, by lazy evaluation (CELF, Leskovec 2007).

    `first` are rows picked already, and at the positions `begun` in it rounds began; `last` are rows that fill the
    budget when no row adds anything. Example, features of rows 0, 1, 2 being {0, 1}, {1, 2, 3}, {3}, with restart:
    indices [1, 0, 2], gains [3, 1, 1], round_starts [0, 2].
    """
    parts = _parts(race.csr)
    starts, ends, ids, amounts = race.csr
    spare = Csr(np.empty_like(starts), np.empty_like(ends), np.empty_like(ids), amounts)  # no memory until written
    _begin(race)
    at_start = _ranked(race, _all_gains(race, race.csr, parts))

    def one_round(began: int) -> None:
        # `bounds` are scores that the rows of `rich` do not exceed, since gains only fall; exact after each pass.
        kept, size, share = race.csr, len(race.csr.ids), 1 / 3  # a first copy is worth its memory once it is small
        rich, bounds = at_start if race.at[N] == began else _ranked(race, _all_gains(race, kept, parts))
        while not _lazy(race, kept, rich, bounds, int(PATIENCE * size) + len(kept.starts)):
            if len(race.csr.amounts) == 0 and race.at[LIVE] <= share * size:
                gains = _shrunk(race, kept, spare, parts)
                kept, size, share = spare, int(race.at[LIVE]), 0.5
            else:
                gains = _all_gains(race, kept, parts)
            rich, bounds = _ranked(race, gains)

    return _by_rounds(race, one_round, first, begun, restart, last)


def scan(
    race: Search,
    first: Int64s,
    begun: Int64s,
    restart: bool,
    last: Int64s,
    order: Int64s,
    max_overlap: float,
    nearest: bool,
) -> Picks:
    """Go through the rows in `order` and pick each that has at most a share `max_overlap` of its worth covered.

    Covered by the round's picks together, and then a row must add something; with `nearest`, by any one of them.
    Example, features of rows 0, 1, 2 being {0, 1}, {1, 2, 3}, {3}, scanned in that order with max_overlap 0.5 and
    restart: row 1 has 1/3 covered, row 2 all: indices [0, 1, 2], gains [2, 2, 1], round_starts [0, 2].
    """
    _begin(race)
    totals = _all_gains(race, race.csr, _parts(race.csr))

    def one_round(began: int) -> None:
        if nearest:
            _scan_nearest(race, order, totals, max_overlap, began)
        else:
            _scan_union(race, order, totals, max_overlap)

    return _by_rounds(race, one_round, first, begun, restart, last)


def _by_rounds(
    race: Search, one_round: Callable[[int], None], first: Int64s, begun: Int64s, restart: bool, last: Int64s
) -> Picks:
    """Take the rows `first`, go on with the round they are in, begin others until one adds nothing, and take `last`.

    `one_round` is told the pick position at which the round in hand began.
    """
    starts = begun.tolist()
    _take_first(race, first, begun)
    if len(first) and race.at[N] < len(race.indices):
        one_round(starts[-1])
    while race.at[N] < len(race.indices) and (restart or not starts):
        began = int(race.at[N])
        _begin(race)
        one_round(began)
        if race.at[N] == began:
            _remember(race, race.indices[starts[-1] if starts else 0 : began])
            break
        starts.append(began)
    _take_what_fits(race, last)
    starts = starts or [0][: race.at[N]]
    n, goal = race.at[N], race.goal
    counts = len(race.csr.amounts) == 0 and goal.unit == 1
    gains = race.gains[:n].astype(np.int64) if counts else race.gains[:n] * goal.unit
    return race.indices[:n], gains, np.array(starts, np.int64)


@compiled
def _lazy(race: Search, kept: Csr, rich: Int64s, bounds: Floats, patience: int) -> bool:
    """Pick until the round is over, and return True; or a row at least, until `patience` ids are read from `kept`.

    Rows looked at and not picked wait in the heap, the others in `rich` (as places in `order`) from `looked` on. The
    best of both has the largest bound. If its gain was taken after the last pick, its score beats or ties that of
    every other row, and ties go to the first in `order`: it is the exact pick.
    """
    # Arrays are taken out of the tuples first: numba would count references to them at every turn.
    starts, ends, ids, amounts = kept
    worth, had, root = race.goal.worth, race.goal.had, race.goal.root
    weight, curve = race.goal.weight, race.goal.curve
    limits, at, order, scale, massed = race.limits, race.at, race.limits.order, race.limits.scale, len(amounts) > 0
    heap = [(0.0, 0, 0, 0.0) for _ in range(0)]  # (-score, place in `order`, number of picks when taken, gain)
    looked = read = 0
    begun = at[N]
    while at[N] < len(race.indices) and at[LEFT] > 0:
        if read >= patience and at[N] > begun:
            return False
        if looked < len(rich) and (len(heap) == 0 or (-bounds[looked], rich[looked], 0, 0.0) < heap[0]):
            bound, place, when, gain = bounds[looked], rich[looked], -1, 0.0
            looked += 1
        elif len(heap) > 0:
            top = heappop(heap)
            bound, place, when, gain = -top[0], top[1], top[2], top[3]
        else:
            return True
        i = order[place]
        if not fits(limits, i):
            continue
        if when < at[N]:
            if massed:
                gain = _massed_gain(ids[starts[i] : ends[i]], amounts[starts[i] : ends[i]], had, root, weight, curve)
            else:
                gain = _counted_gain(ids[starts[i] : ends[i]], worth)
            read += ends[i] - starts[i]
            if gain * scale[i] < bound:
                if gain * scale[i] > 0:
                    heappush(heap, (-gain * scale[i], place, at[N], gain))
                continue
        _pick(race, i, gain)
    return True


@compiled
def _scan_union(race: Search, order: Int64s, totals: Floats, max_overlap: float) -> None:
    starts, ends, ids, _ = race.csr
    worth, limits, at = race.goal.worth, race.limits, race.at
    # What is covered only grows within a round, so a row refused once stays refused: one pass is the whole round.
    for i in order:
        if at[N] == len(race.indices) or at[LEFT] == 0:
            break
        if fits(limits, i):
            gain = _counted_gain(ids[starts[i] : ends[i]], worth)
            if gain > 0 and (totals[i] - gain) / totals[i] <= max_overlap:
                _pick(race, i, gain)


@compiled
def _scan_nearest(race: Search, order: Int64s, totals: Floats, max_overlap: float, began: int) -> None:
    csr, fresh = race.csr, race.goal.fresh
    mark = np.zeros_like(fresh)  # what each feature of the row in hand is worth; nothing for all others
    for i in order:
        if race.at[N] == len(race.indices):
            break
        if totals[i] > 0 and fits(race.limits, i):
            row = csr.ids[csr.starts[i] : csr.ends[i]]
            for feature in row:
                mark[feature] = fresh[feature]
            most = 0
            for other in race.indices[began : race.at[N]]:
                shared = 0
                for feature in csr.ids[csr.starts[other] : csr.ends[other]]:
                    shared += mark[feature]
                most = max(most, shared)
                if most / totals[i] > max_overlap:
                    break
            for feature in row:
                mark[feature] = 0
            if most / totals[i] <= max_overlap:
                _pick(race, i, _counted_gain(row, race.goal.worth))


@compiled
def _take_first(race: Search, rows: Int64s, begun: Int64s) -> None:
    csr, goal = race.csr, race.goal
    for n, i in enumerate(rows):
        if n in begun:
            _begin(race)
        ids, amounts = csr.ids[csr.starts[i] : csr.ends[i]], csr.amounts[csr.starts[i] : csr.ends[i]]
        if len(csr.amounts) > 0:
            _pick(race, i, _massed_gain(ids, amounts, goal.had, goal.root, goal.weight, goal.curve))
        else:
            _pick(race, i, _counted_gain(ids, goal.worth))


@compiled
def _take_what_fits(race: Search, order: Int64s) -> None:
    for i in order:
        if race.at[N] == len(race.indices):
            break
        if fits(race.limits, i):
            _take_first(race, np.array([i]), np.array([-1]))


@compiled
def _begin(race: Search) -> None:
    """Begin a round: nothing is had."""
    goal, at = race.goal, race.at
    goal.had[:] = 0
    goal.root[:] = 0
    goal.worth[:] = goal.fresh
    at[LEFT] = at[LIVE] = 0
    for feature, holders in enumerate(race.holders):
        if goal.fresh[feature] > 0 and holders > 0:
            at[LEFT] += 1
            at[LIVE] += holders


@compiled
def _counted_gain(ids: NDArray[Any], worth: NDArray[Any]) -> float:
    total = 0
    for feature in ids:
        total += worth[feature]
    return float(total)


@compiled
def _massed_gain(
    ids: NDArray[Any], amounts: NDArray[np.float32], had: Floats, root: Floats, weight: Floats, curve: int
) -> float:
    """Return what a row adds. Rounding, too, leaves the square root's gain falling as `had` grows: no bound lies."""
    gain = 0.0
    for feature, amount in zip(ids, amounts):  # noqa: B905 -- numba knows no `strict`
        if curve == MAX:
            gain += weight[feature] * max(0.0, amount - had[feature])
        elif curve == LOG:
            gain += weight[feature] * log1p(amount / (1 + had[feature]))
        elif amount > 0:  # sqrt(had + amount) - sqrt(had)
            gain += weight[feature] * (amount / (sqrt(had[feature] + amount) + root[feature]))
    return gain


@compiled
def _pick(race: Search, i: int, gain: float) -> None:
    """Pick row i. `left` then is exact while every row fits; else it is too high, and rounds end a little later."""
    starts, ends, ids, _ = race.csr
    holders, worth, at = race.holders, race.goal.worth, race.at
    race.indices[at[N]], race.gains[at[N]] = i, gain
    at[N] += 1
    commit(race.limits, i)
    for feature in ids[starts[i] : ends[i]]:
        holders[feature] -= 1
        at[LIVE] -= worth[feature] > 0
        at[LEFT] -= worth[feature] > 0 and holders[feature] == 0
    for feature in _count_in(race.csr, race.goal, i):  # those that are worth nothing from now on
        at[LIVE] -= holders[feature]
        at[LEFT] -= holders[feature] > 0


@compiled
def _count_in(csr: Csr, goal: Objective, i: int) -> list[int]:
    """Add row i to what is had; return the features that another row now gains nothing by."""
    starts, ends, ids, amounts = csr
    had, root, worth, weight, steps = goal.had, goal.root, goal.worth, goal.weight, goal.steps
    spent = [0 for _ in range(0)]
    for p in range(starts[i], ends[i]):
        feature = ids[p]
        if len(amounts) > 0:
            amount = float(amounts[p])
            had[feature] = max(had[feature], amount) if goal.curve == MAX else had[feature] + amount
            root[feature] = sqrt(had[feature])
            continue
        had[feature] += 1
        now = round(weight[feature] * steps[min(int(had[feature]), len(steps) - 1)])
        if now == 0 and worth[feature] > 0:
            spent.append(feature)
        worth[feature] = now
    return spent


@compiled
def _remember(race: Search, rows: Int64s) -> None:
    """Go back to the round of `rows`, which are picked, after another that came to nothing."""
    for i in rows:
        _count_in(race.csr, race.goal, i)


# Passes over all rows, in threads


def _parts(csr: Csr) -> list[tuple[int, int]]:
    return blocks(np.append(csr.starts, len(csr.ids)))


def _all_gains(race: Search, kept: Csr, parts: Sequence[tuple[int, int]]) -> Floats:
    """[n]: what each row that may be picked adds now, in units."""
    gains = np.zeros(len(kept.starts))
    in_threads(_gains, parts, kept, race.goal, _fitting(race.limits), gains)
    return gains


def _fitting(limits: ConstraintState) -> NDArray[np.bool_]:
    return limits.available & (limits.remaining_per_group > 0)[limits.group] & (limits.cost <= limits.remaining_budget)


def _shrunk(race: Search, old: Csr, new: Csr, parts: Sequence[tuple[int, int]]) -> Floats:
    """Keep in `new`, or in `old` itself, what is worth something and may be picked; return each row's gain."""
    gains = np.zeros(len(old.starts))
    in_threads(_shrink, parts, old, race.goal.worth, _fitting(race.limits), new, gains)
    return gains


def _ranked(race: Search, gains: Floats) -> tuple[Int64s, Floats]:
    """Return the places in `order` of the rows that add something, best first, and bounds of their scores."""
    scores = (gains * race.limits.scale)[race.limits.order]
    best = scores.max(initial=0) or 1
    keys = ((best - scores) * (65535 / best)).astype(np.uint16)  # 16 bits: numpy sorts them in linear time
    rich = np.argsort(keys, kind="stable")
    rich = rich[scores[rich] > 0]
    # Rows of one key stand in the order in which equals are picked; their bound is the largest score from there on.
    return rich, np.maximum.accumulate(scores[rich][::-1])[::-1]


@compiled
def _gains(low: int, high: int, csr: Csr, goal: Objective, may: NDArray[np.bool_], gains: Floats) -> None:
    starts, ends, ids, amounts = csr
    worth, had, root, weight, curve = goal.worth, goal.had, goal.root, goal.weight, goal.curve
    massed = len(amounts) > 0
    for i in range(low, high):
        if may[i] and massed:
            gains[i] = _massed_gain(ids[starts[i] : ends[i]], amounts[starts[i] : ends[i]], had, root, weight, curve)
        elif may[i]:
            gains[i] = _counted_gain(ids[starts[i] : ends[i]], worth)


@compiled
def _shrink(
    low: int, high: int, old: Csr, worth: NDArray[Any], may: NDArray[np.bool_], new: Csr, gains: Floats
) -> None:
    starts, ends, ids, to = old.starts, old.ends, old.ids, new.ids
    at = starts[low]  # never beyond what is being read: a block of `old` may become itself
    for i in range(low, high):
        start, end, total = starts[i], ends[i], 0
        new.starts[i] = at
        if may[i]:
            for p in range(start, end):
                feature = ids[p]
                to[at] = feature  # written always, kept only if worth something: no branch to mispredict
                at += worth[feature] > 0
                total += worth[feature]
        new.ends[i], gains[i] = at, total
