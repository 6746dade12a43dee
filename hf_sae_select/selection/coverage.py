"""Coverage search: which rows together have the most features. Arrays in, arrays out.

For a set S of rows, the search maximises the objective

    f(S) = sum over features j of  weight[j] * curve(x_j),    x_j = how much of feature j the rows of S have

with a concave curve. An objective is of one of two kinds:

    count objective   x_j is the number of rows that have j. One more row gains `weight[j] * increments[x_j]` by it;
                      the increments [1, 0] are plain coverage.
    mass objective    x_j is the total of the rows' amounts of j, and the curve is the square root or log(1 + x).
                      With the curve "max", x_j is their largest amount.

Invariant: f is submodular, so the marginal gain of a row never grows within a round. A stale gain, which was computed
before the last pick, is therefore an upper bound of the gain.

Why whole numbers: a sum of floats depends on its order, a sum of whole numbers below 2^53 does not. Marginal values of
a count objective are whole numbers of a `unit`. So neither the number of threads nor dropping covered features changes
a gain, and equal rows have equal gains. Gains of a mass objective are floats, summed in the order of the row's ids.

The score of a row is its gain times its `scale`. Of equal scores, the row that is first in `order` is picked. When no
row adds anything more, `restart` begins a new round: coverage is reset, and the remaining rows are picked in the same
way. Without `restart` there is one round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, blocks, in_threads
from ..features.matrix import FeatureMatrix
from .compaction import compact_rows
from .coverage_kernels import (
    begin_round,
    commit,
    cover,
    fill,
    fits,
    gain_parts,
    lazy_greedy,
    next_best,
    row_gains,
    scan_nearest,
    scan_union,
    take_in_order,
    take_initial,
)
from .coverage_state import (
    CURVES,
    LIVE_IDS,
    PICKED,
    SQRT,
    UNCOVERED,
    ConstraintState,
    Csr,
    Objective,
    Search,
    fitting,
)
from .frontier import Frontier
from .screen import Screen

__all__ = [
    "Amounts",
    "ConstraintState",
    "Csr",
    "Measure",
    "Objective",
    "Picks",
    "Progress",
    "Search",
    "all_gains",
    "commit",
    "compact",
    "count_objective",
    "fits",
    "fitting",
    "greedy_cover",
    "mass_objective",
    "new_search",
    "parts_of",
    "replayed_gains",
    "replayed_parts",
    "replayed_scores",
    "runners_up",
    "scan",
    "take_in_order",
]

PATIENCE = 512  # rows that a scan refuses, one after another, before it asks a screen which rows may pass
SCANS_BEFORE_SCREEN = 4  # scans of all rows: making a screen takes about as long
Picks = tuple[Int64s, NDArray[Any], Int64s]  # rows, gains, and the positions at which rounds began
Parts = Sequence[tuple[int, int]]  # ranges of rows, one a thread
Progress = Callable[[int], Any]  # is called with the number of picks so far

# Rows are compacted, where that drops many ids, when this share of the ids was read since the last time. So
# compactions read at most twice as many ids as lazy evaluation does.
READ_SHARE = 0.5
# The first compaction needs memory for the ids that it keeps: at most a third of all.
FIRST_COMPACTION_SHARE = 1 / 3
# A later compaction works in place. It at least halves the ids, so all of them together write no more than the first.
COMPACTION_SHARE = 0.5


Amounts = Callable[[FeatureMatrix], NDArray[np.float32]]
"""From features to what each entry counts in a mass objective: [nnz]."""


class Measure(NamedTuple):
    """What a search maximises: how to make the objective, and the amounts of a mass objective, from the features."""

    objective: Callable[[], Objective]
    amounts: Amounts | None = None


def count_objective(weight: Floats, increments: Sequence[float] | Floats) -> Objective:
    """Make the objective in which the (c + 1)-th row that has feature j gains `weight[j] * increments[c]`.

    `increments` must not grow, and the last one holds for all larger counts.
    """
    increments = np.asarray(increments, np.float64)
    is_whole = bool(np.isin(weight, (0, 1)).all() and np.isin(increments, (0, 1)).all())
    # All values together are 2^52 units: the sum over any row is a whole number that float64 holds.
    unit = 1.0 if is_whole else float((weight * increments[0]).sum()) / 2**52 or 1.0
    initial_value = np.rint(weight * increments[0] / unit).astype(np.uint8 if is_whole else np.int64)
    counts = np.zeros(len(weight))
    return Objective(initial_value.copy(), initial_value, counts, np.empty(0), weight / unit, increments, SQRT, unit)


def mass_objective(weight: Floats, curve: str) -> Objective:
    """Make the objective `sum_j weight[j] * curve(mass_j)`; the curve is "sqrt", "log" or "max"."""
    ones = np.ones(len(weight), np.uint8)  # no feature is ever covered
    mass, sqrt_mass = np.zeros((2, len(weight)))
    return Objective(ones, ones, mass, sqrt_mass, weight, np.empty(0), CURVES.index(curve), 1.0)


def new_search(csr: Csr, objective: Objective, holders: Int64s, state: ConstraintState, budget: int) -> Search:
    """Begin a selection of `budget` rows. `holders` [d_sae] counts the rows of the pool that have each feature."""
    counters = np.zeros(3, np.int64)
    return Search(csr, objective, holders, state, np.empty(budget, np.int64), np.empty(budget), counters)


def greedy_cover(
    search: Search,
    initial: Int64s,
    initial_rounds: Int64s,
    restart: bool,
    last: Int64s,
    progress: Progress = lambda picks: None,
) -> Picks:
    """Pick the row with the largest score, again and again: exact greedy, by lazy evaluation (Leskovec et al. 2007).

    The rows `initial` are picked first; rounds begin at the positions `initial_rounds` among them. When no row adds
    anything, the rows `last` fill the budget. Example: rows 0, 1, 2 have the features {0, 1}, {1, 2, 3}, {3}. With
    `restart` the picks are indices [1, 0, 2], gains [3, 1, 1], round starts [0, 2].
    """
    parts = parts_of(search.csr)
    starts, ends, ids, amounts = search.csr
    spare = Csr(np.empty_like(starts), np.empty_like(ends), np.empty_like(ids), amounts)  # no memory until written
    begin_round(search)
    frontier = Frontier(search, all_gains(search, search.csr, parts))

    def pick_round(_: int) -> None:
        _greedy_round(search, frontier, spare, parts, progress)

    return _pick_rounds(search, pick_round, initial, initial_rounds, restart, last, progress)


def scan(
    search: Search,
    initial: Int64s,
    initial_rounds: Int64s,
    restart: bool,
    last: Int64s,
    order: Int64s,
    max_overlap: float,
    nearest: bool,
    progress: Progress = lambda picks: None,
) -> Picks:
    """Go through the rows in `order` and pick each that has at most a share `max_overlap` of its features covered.

    Features count by their initial values. Without `nearest`, all picks of the round together cover features, and a
    row must add something. With `nearest`, no pick of the round alone may cover a larger share. The other arguments
    are as in `greedy_cover`.
    Example: rows 0, 1, 2 have the features {0, 1}, {1, 2, 3}, {3} and are scanned in this order, with `max_overlap`
    0.5 and `restart`. A third of row 1 is covered, and all of row 2: indices [0, 1, 2], gains [2, 2, 1], round starts
    [0, 2].
    """
    begin_round(search)
    parts = parts_of(search.csr)
    totals = all_gains(search, search.csr, parts)
    if nearest:
        pick_round: Callable[[int], None] = partial(scan_nearest, search, order, totals, max_overlap)
    else:
        pick_round = _union_rounds(search, order, totals, max_overlap, parts)
    return _pick_rounds(search, pick_round, initial, initial_rounds, restart, last, progress)


def _union_rounds(
    search: Search, order: Int64s, totals: Floats, max_overlap: float, parts: Parts
) -> Callable[[int], None]:
    """Return what picks a round of a scan against all picks together.

    scan until many rows in a row are refused
    scan the others that a screen lets pass
    """
    counters, screen, rows_read = search.counters, None, 0

    def pick_round(_: int) -> None:
        nonlocal screen, rows_read
        if screen is None and rows_read > SCANS_BEFORE_SCREEN * len(order):
            screen = Screen.of(search.csr, search.holders, parts)
        next_place = scan_union(search, order, totals, max_overlap, len(order) if screen is None else PATIENCE)
        rows_read += next_place
        if screen is not None and counters[PICKED] < len(search.indices) and counters[UNCOVERED] > 0:
            value = search.objective.marginal_value
            passing = screen.passing(value, order[next_place:], totals, max_overlap)
            scan_union(search, passing, totals, max_overlap, len(passing))

    return pick_round


def _pick_rounds(
    search: Search,
    pick_round: Callable[[int], None],
    initial: Int64s,
    initial_rounds: Int64s,
    restart: bool,
    last: Int64s,
    progress: Progress,
) -> Picks:
    """Pick `initial`, finish their last round, begin new rounds until one adds nothing, and fill up with `last`.

    `pick_round` picks the rest of the round that began at the position that it gets.
    """
    counters, budget, round_starts = search.counters, len(search.indices), initial_rounds.tolist()
    take_initial(search, initial, initial_rounds)
    if len(initial) and counters[PICKED] < budget:
        pick_round(round_starts[-1])
    while counters[PICKED] < budget and (restart or not round_starts):
        round_start = int(counters[PICKED])
        begin_round(search)
        pick_round(round_start)
        progress(int(counters[PICKED]))
        if counters[PICKED] == round_start:
            # what the picks of the last round cover, again
            for row in search.indices[round_starts[-1] if round_starts else 0 : round_start]:
                cover(search.csr, search.objective, row)
            break
        round_starts.append(round_start)
    if counters[PICKED] < budget:
        fill(search, last)
    progress(int(counters[PICKED]))
    picked, unit = counters[PICKED], search.objective.unit
    in_features = len(search.csr.amounts) == 0 and unit == 1
    gains = search.gains[:picked].astype(np.int64) if in_features else search.gains[:picked] * unit
    return search.indices[:picked], gains, np.array(round_starts or [0][:picked], np.int64)


def _greedy_round(search: Search, frontier: Frontier, spare: Csr, parts: Parts, progress: Progress) -> None:
    """Pick greedily until the round is over.

        until no row adds anything:
            compute the scores of the rows with the largest upper bounds
            pick among them by lazy evaluation, while another row cannot be better

    When few ids are of uncovered features, these are copied to `spare`, and the round goes on with the copy.
    """
    csr, size, compaction_share = search.csr, len(search.csr.ids), FIRST_COMPACTION_SHARE
    frontier.begin_round(csr)
    while search.counters[PICKED] < len(search.indices) and search.counters[UNCOVERED] > 0:
        ranking = frontier.step()
        if not len(ranking.places):
            return
        frontier.ids_read += lazy_greedy(search, csr, ranking, frontier.bounds, frontier.rest)
        progress(int(search.counters[PICKED]))
        has_read_enough = len(csr.amounts) == 0 and frontier.ids_read > most_read(csr, size)
        if has_read_enough and search.counters[LIVE_IDS] <= compaction_share * size:
            gains = compact(search, csr, spare, parts)
            csr, size, compaction_share = spare, int(search.counters[LIVE_IDS]), COMPACTION_SHARE
            frontier.refresh(csr, gains)


def most_read(csr: Csr, size: int) -> int:
    """Return how many of `size` ids are read before rows are compacted, which visits all: one read more for each."""
    return int(READ_SHARE * size) + len(csr.starts)


# A selection gone through again


def replayed_parts(search: Search, rows: Int64s, round_starts: Int64s, picks: Sequence[int]) -> Iterator[Floats]:
    """Pick `rows` again; before each of the ascending `picks`, yield what each feature of the row adds to its gain."""
    done = 0
    for pick in picks:
        take_initial(search, rows[done:pick], round_starts[round_starts >= done] - done)
        if pick in round_starts:
            begin_round(search)
        yield gain_parts(search.csr, search.objective, rows[pick]) * search.objective.unit
        done = pick


def runners_up(
    new_search: Callable[[], Search], rows: Int64s, round_starts: Int64s, picks: Int64s
) -> tuple[Int64s, Floats]:
    """Return, for each of the ascending `picks`, the row with the largest score beside it, and its gain.

    The score is that in the state before the pick, among rows that fitted; -1 without such a row. Threads share the
    picks, and each goes through the selection by a search of its own.
    """
    if not len(picks):
        return np.empty(0, np.int64), np.empty(0)
    first = new_search()
    begin_round(first)
    parts = parts_of(first.csr)
    scores = all_gains(first, first.csr, parts) * first.constraints.scale
    others, gains = np.full(len(rows), -1), np.zeros(len(rows))
    tasks = []
    for part in np.array_split(picks, len(parts)):
        if len(part):
            wanted = np.zeros(len(rows), np.bool_)
            wanted[part] = True
            tasks.append((new_search(), wanted[: part[-1] + 1]))
    in_threads(next_best, tasks, scores, rows, round_starts, _typical_amounts(first), others, gains)
    return others[picks], gains[picks] * first.objective.unit


def _typical_amounts(search: Search) -> Floats:
    """[d_sae]: the mean amount of each feature where the curve is "sqrt"; empty for other objectives."""
    csr, objective = search.csr, search.objective
    if len(csr.amounts) == 0 or objective.curve != SQRT:
        return np.empty(0)
    sums = np.bincount(csr.ids, csr.amounts, minlength=len(objective.weight))
    return sums / np.maximum(np.bincount(csr.ids[csr.amounts > 0], minlength=len(objective.weight)), 1)


def replayed_gains(search: Search, rows: Int64s, round_starts: Int64s, row: int) -> Floats:
    """Pick `rows` again, and return the gain of another row before each pick and after the last: [rows + 1]."""
    gains, of_rows, fitting = np.empty(len(rows) + 1), np.empty(row + 1), np.ones(row + 1, np.bool_)
    for pick in range(len(gains)):
        if pick in round_starts:
            begin_round(search)
        row_gains(row, row + 1, search.csr, search.objective, fitting, of_rows)
        gains[pick] = of_rows[row]
        take_initial(search, rows[pick : pick + 1], round_starts[:0])
    return gains * search.objective.unit


def replayed_scores(search: Search, rows: Int64s, round_starts: Int64s, pick: int) -> Floats:
    """Pick `rows` again up to a pick, and return the scores that all rows that fit have then; 0 for others: [n]."""
    take_initial(search, rows[:pick], round_starts)
    if pick in round_starts:
        begin_round(search)
    gains = all_gains(search, search.csr, parts_of(search.csr))
    return gains * search.objective.unit * search.constraints.scale


# Passes over all rows, in threads


def parts_of(csr: Csr) -> Parts:
    """Cut the rows into ranges of about as many ids."""
    return blocks(np.append(csr.starts, len(csr.ids)))


def all_gains(search: Search, csr: Csr, parts: Parts) -> Floats:
    """[n]: the marginal gains of the rows that fit, in units; 0 for other rows."""
    gains = np.zeros(len(csr.starts))
    in_threads(row_gains, parts, csr, search.objective, fitting(search.constraints), gains)
    return gains


def compact(search: Search, source: Csr, target: Csr, parts: Parts) -> Floats:
    """Copy the uncovered ids of the rows that fit to `target`, which may be `source`; return gains as `all_gains`."""
    gains = np.zeros(len(source.starts))
    value = search.objective.marginal_value
    in_threads(compact_rows, parts, source, value, fitting(search.constraints), target, gains)
    return gains
