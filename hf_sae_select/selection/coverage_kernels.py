"""Compiled loops of the coverage search. `coverage.py` says what they maximise, and calls them.

A feature is covered when its marginal value is 0: one more row that has it gains nothing by it in this round.

All loops are in one file: numba caches machine code per file, and does not notice a change in another one. A loop
takes its arrays out of their tuples first: numba counts references to a field that is used, which threads wait for.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import log1p, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, compiled, compiled_beyond, compiled_for_bounds
from .coverage_state import (
    LIVE_IDS,
    LOG,
    MAX,
    NEVER,
    PICKED,
    UNCOVERED,
    Candidate,
    ConstraintState,
    Csr,
    Objective,
    Ranking,
    Rest,
    Search,
)


@compiled_beyond(lambda *_: 1)
def fits(state: ConstraintState, i: int) -> bool:
    """Tell whether row i may be picked. A row that does not fit never fits again: what remains only shrinks."""
    return bool(
        state.available[i]
        and state.remaining_per_group[state.group[i]] > 0
        and state.cost[i] <= state.remaining_cost_per_group[state.group[i]]
        and state.cost[i] <= state.remaining_budget[0]
    )


@compiled_beyond(lambda *_: 1)
def commit(state: ConstraintState, i: int) -> None:
    """Take row i, and what it costs, from what remains."""
    state.available[i] = False
    state.remaining_per_group[state.group[i]] -= 1
    state.remaining_cost_per_group[state.group[i]] -= state.cost[i]
    state.remaining_budget[0] -= state.cost[i]


@compiled_beyond(lambda state, order, _: len(order))
def take_in_order(state: ConstraintState, order: Int64s, budget: int) -> Int64s:
    """Pick the rows of `order` that fit, one after another, at most `budget`."""
    picks, n = np.empty(budget, np.int64), 0
    for i in order:
        if n == budget:
            break
        if fits(state, i):
            picks[n] = i
            n += 1
            commit(state, i)
    return picks[:n]


@compiled_beyond(
    lambda search, csr, ranking, *_: int((csr.ends - csr.starts)[search.constraints.order[ranking[0]]].sum())
)
def lazy_greedy(search: Search, csr: Csr, ranking: Ranking, bounds: Floats, rest: Rest) -> int:
    """Pick greedily among ranked rows by lazy evaluation (CELF); return how many ids were read.

    No other row comes before `rest`. Rows that fall behind it leave their score as an upper bound in `bounds`.

        repeat
            pop the row with the largest upper bound, of equal ones the first in `order`
            if its gain is stale:               # never computed, or computed before the last pick
                compute its gain
                push the row again, and continue, if the score is below the bound
            pick the row

    Gains only shrink, so a stale score is an upper bound. The score of the picked row equals its bound, which no bound
    of another row exceeds: exact greedy picks the same row. `ranking` is sorted, so only its next row is in the heap.
    """
    starts, ends, ids, amounts = csr
    objective, counters, budget = search.objective, search.counters, len(search.indices)
    value, mass, sqrt_mass = objective.marginal_value, objective.count_or_mass, objective.sqrt_mass
    weight, curve, is_mass = objective.weight, objective.curve, len(amounts) > 0
    state, order, scale = search.constraints, search.constraints.order, search.constraints.scale
    places, scores = ranking
    heap = [Candidate(-scores[n], places[n], NEVER, 0.0) for n in range(min(1, len(places)))]
    next_ranked, ids_read = 1, 0
    while len(heap) > 0 and counters[PICKED] < budget and counters[UNCOVERED] > 0:
        candidate = heappop(heap)
        if candidate.computed_at == NEVER and next_ranked < len(places):
            heappush(heap, Candidate(-scores[next_ranked], places[next_ranked], NEVER, 0.0))
            next_ranked += 1
        i, gain = order[candidate.place], candidate.gain
        if not fits(state, i):
            continue
        if candidate.computed_at < counters[PICKED]:
            start, end = starts[i], ends[i]
            if is_mass:
                gain = _mass_gain(ids[start:end], amounts[start:end], mass, sqrt_mass, weight, curve)
            else:
                gain = _count_gain(ids[start:end], value)
            ids_read += end - start
            score = gain * scale[i]
            if score < rest.score or (score == rest.score and candidate.place >= rest.place):
                bounds[i] = score
                continue
            if score < -candidate.negative_score:
                heappush(heap, Candidate(-score, candidate.place, counters[PICKED], gain))
                continue
        _pick(search, i, gain)
    return ids_read


@compiled_beyond(lambda search, *_: len(search.csr.ids))
def scan_union(search: Search, order: Int64s, totals: Floats, max_overlap: float, patience: int) -> int:
    """Pick the rows of `order` that add something and have at most a share `max_overlap` of their total covered.

    Return the place in `order` where it stopped, after it refused `patience` rows without a pick in between.
    """
    starts, ends, ids, _ = search.csr
    value, state, counters = search.objective.marginal_value, search.constraints, search.counters
    refused = 0
    # One pass is the whole round: coverage only grows, so a row that was refused stays refused.
    for place, i in enumerate(order):
        if counters[PICKED] == len(search.indices) or counters[UNCOVERED] == 0 or refused == patience:
            return place
        if fits(state, i):
            gain = _count_gain(ids[starts[i] : ends[i]], value)
            refused += 1
            if gain > 0 and (totals[i] - gain) / totals[i] <= max_overlap:
                _pick(search, i, gain)
                refused = 0
    return len(order)


@compiled_beyond(lambda search, *_: len(search.csr.ids) * len(search.indices))
def scan_nearest(search: Search, order: Int64s, totals: Floats, max_overlap: float, round_start: int) -> None:
    """Pick the rows of `order` that share at most `max_overlap` of their total with every pick of the round."""
    csr, initial_value = search.csr, search.objective.initial_value
    value_in_row = np.zeros_like(initial_value)  # [d_sae]: initial values of the features of row i, 0 elsewhere
    for i in order:
        if search.counters[PICKED] == len(search.indices):
            break
        if totals[i] > 0 and fits(search.constraints, i):
            row = csr.ids[csr.starts[i] : csr.ends[i]]
            for feature in row:
                value_in_row[feature] = initial_value[feature]
            largest = np.int64(0)  # value that the row shares with the pick nearest to it
            for pick in search.indices[round_start : search.counters[PICKED]]:
                shared = np.int64(0)
                for feature in csr.ids[csr.starts[pick] : csr.ends[pick]]:
                    shared += value_in_row[feature]
                largest = max(largest, shared)
                if largest / totals[i] > max_overlap:
                    break
            for feature in row:
                value_in_row[feature] = 0
            if largest / totals[i] <= max_overlap:
                _pick(search, i, _count_gain(row, search.objective.marginal_value))


@compiled_beyond(lambda search, rows, _: len(rows) * len(search.csr.ids) // max(1, len(search.csr.starts)))
def take_initial(search: Search, rows: Int64s, round_starts: Int64s) -> None:
    """Pick `rows`, whatever they add; rounds begin at the positions `round_starts`."""
    for n, i in enumerate(rows):
        if n in round_starts:
            begin_round(search)
        _pick(search, i, _gain(search.csr, search.objective, i))


@compiled_beyond(lambda search, order: len(order))
def fill(search: Search, order: Int64s) -> None:
    """Pick the rows of `order` that fit, whatever they add, until the budget is used."""
    for i in order:
        if search.counters[PICKED] == len(search.indices):
            break
        if fits(search.constraints, i):
            _pick(search, i, _gain(search.csr, search.objective, i))


@compiled_beyond(lambda search: len(search.holders))
def begin_round(search: Search) -> None:
    """Reset coverage for a new round."""
    objective, counters = search.objective, search.counters
    objective.count_or_mass[:] = 0
    objective.sqrt_mass[:] = 0
    counters[UNCOVERED] = counters[LIVE_IDS] = 0
    for feature, holders in enumerate(search.holders):
        objective.marginal_value[feature] = objective.initial_value[feature]
        if objective.initial_value[feature] > 0 and holders > 0:
            counters[UNCOVERED] += 1
            counters[LIVE_IDS] += holders


@compiled_beyond(lambda low, high, csr, *_: int((csr.ends - csr.starts)[low:high].sum()))
def row_gains(low: int, high: int, csr: Csr, objective: Objective, fitting: NDArray[np.bool_], gains: Floats) -> None:
    """Compute the gains of the fitting rows from `low` to `high`."""
    starts, ends, ids, amounts = csr
    value, mass, sqrt_mass = objective.marginal_value, objective.count_or_mass, objective.sqrt_mass
    weight, curve, is_mass = objective.weight, objective.curve, len(amounts) > 0
    for i in range(low, high):
        start, end = starts[i], ends[i]
        if fitting[i] and is_mass:
            gains[i] = _mass_gain(ids[start:end], amounts[start:end], mass, sqrt_mass, weight, curve)
        elif fitting[i]:
            gains[i] = _count_gain(ids[start:end], value)


@compiled_beyond(lambda csr, _, i: csr.ends[i] - csr.starts[i])
def gain_parts(csr: Csr, objective: Objective, i: int) -> Floats:
    """Return what each feature of row i adds to the marginal gain of the row, in units: the sum is the gain."""
    start, end = csr.starts[i], csr.ends[i]
    ids, amounts, curve = csr.ids[start:end], csr.amounts, objective.curve
    mass, sqrt_mass, weight = objective.count_or_mass, objective.sqrt_mass, objective.weight
    parts = np.empty(end - start)
    for n, feature in enumerate(ids):
        if len(amounts) > 0:
            parts[n] = _mass_part(amounts[start + n], mass[feature], sqrt_mass[feature], weight[feature], curve)
        else:
            parts[n] = objective.marginal_value[feature]
    return parts


@compiled_beyond(lambda search, wanted, *_: len(search.csr.ids) * len(wanted))
def next_best(
    search: Search,
    wanted: NDArray[np.bool_],
    first_scores: Floats,
    rows: Int64s,
    round_starts: Int64s,
    typical: Floats,
    others: Int64s,
    gains: Floats,
) -> None:
    """Pick the first of `rows`; before each `wanted` one, find the row with the largest score beside it, and its gain.

    `first_scores` [n] are those without picks. `typical` amounts [d_sae] are for tangents; empty where there are none.
    """
    csr, objective = search.csr, search.objective
    bounds, tangents, guess = first_scores.copy(), np.zeros((len(typical), 2)), -1
    for n in range(len(wanted)):
        if n in round_starts:
            begin_round(search)
            bounds[:] = first_scores
            for feature in range(len(typical)):
                _set_tangent(tangents, objective, typical, feature)
        if wanted[n]:
            guess = rows[n + 1] if n + 1 < len(rows) else guess
            guess, gains[n] = _best_beside(search, rows[n], guess, bounds, tangents)
            others[n] = guess
        _pick(search, rows[n], _gain(csr, objective, rows[n]))
        if len(typical) > 0:
            for feature in csr.ids[csr.starts[rows[n]] : csr.ends[rows[n]]]:
                _set_tangent(tangents, objective, typical, feature)


@compiled
def _best_beside(search: Search, row: int, guess: int, bounds: Floats, tangents: Floats) -> tuple[int, float]:
    """Return the row with the largest score beside `row`, of equal ones the first in `order`, and its gain; or -1.

    `bounds` [n] are upper bounds of scores, such as stale ones. A `guess` near the best spares most rows their gain.
    """
    csr, objective, state = search.csr, search.objective, search.constraints
    starts, ends, scale = csr.starts, csr.ends, state.scale
    best, best_gain, largest = -1, 0.0, 0.0
    if guess >= 0 and guess != row and fits(state, guess):
        largest = _gain(csr, objective, guess) * scale[guess]
    for i in state.order:
        # Rows come in the order of ties, so a later one must have a larger score than the best so far.
        if bounds[i] < largest or bounds[i] == 0 or (best >= 0 and bounds[i] == largest) or i == row:
            continue
        if not fits(state, i):
            bounds[i] = 0
            continue
        if len(tangents) > 0:
            bound = _tangent_bound(csr.ids[starts[i] : ends[i]], csr.amounts[starts[i] : ends[i]], tangents) * scale[i]
            if bound < largest:
                bounds[i] = bound
                continue
        gain = _gain(csr, objective, i)
        bounds[i] = gain * scale[i]
        if bounds[i] > largest or (best < 0 and bounds[i] == largest and largest > 0):
            best, best_gain, largest = i, gain, bounds[i]
    return best, best_gain


@compiled
def _set_tangent(tangents: NDArray[np.float64], objective: Objective, typical: Floats, feature: int) -> None:
    """Compute the tangent of a feature's part of a gain at its typical amount: the part is concave, so below it."""
    mass, weight, amount = objective.count_or_mass[feature], objective.weight[feature], typical[feature]
    root = sqrt(mass + amount)
    slope = weight / (2 * root) if root > 0 else 0.0
    tangents[feature, 0] = weight * (root - objective.sqrt_mass[feature]) - slope * amount
    tangents[feature, 1] = slope


@compiled_for_bounds
def _tangent_bound(ids: NDArray[Any], amounts: NDArray[np.float32], tangents: NDArray[np.float64]) -> float:
    """Return an upper bound of the marginal gain of a row."""
    bound = 0.0
    for n in range(len(ids)):
        if amounts[n] > 0:
            bound += tangents[ids[n], 0] + tangents[ids[n], 1] * amounts[n]
    return bound * (1 + 1e-9)  # more than rounding


@compiled
def _gain(csr: Csr, objective: Objective, i: int) -> float:
    """Return the marginal gain of row i, in units."""
    ids, amounts = csr.ids[csr.starts[i] : csr.ends[i]], csr.amounts[csr.starts[i] : csr.ends[i]]
    if len(csr.amounts) > 0:
        mass, sqrt_mass = objective.count_or_mass, objective.sqrt_mass
        return _mass_gain(ids, amounts, mass, sqrt_mass, objective.weight, objective.curve)
    return _count_gain(ids, objective.marginal_value)


@compiled
def _count_gain(ids: NDArray[Any], marginal_value: NDArray[Any]) -> float:
    """Return the marginal gain of a row under a count objective."""
    total = np.int64(0)
    for feature in ids:
        total += marginal_value[feature]
    return float(total)


@compiled
def _mass_gain(
    ids: NDArray[Any], amounts: NDArray[np.float32], mass: Floats, sqrt_mass: Floats, weight: Floats, curve: int
) -> float:
    """Return the marginal gain of a row under a mass objective.

    Every operation is monotone in the mass after rounding too. So gains never grow, and stale ones are upper bounds.
    """
    gain = 0.0
    for feature, amount in zip(ids, amounts):  # noqa: B905 -- numba knows no `strict`
        gain += _mass_part(amount, mass[feature], sqrt_mass[feature], weight[feature], curve)
    return gain


@compiled
def _mass_part(amount: float, mass: float, sqrt_mass: float, weight: float, curve: int) -> float:
    """Return what one feature adds to the marginal gain of a row under a mass objective."""
    if curve == MAX:
        return weight * max(0.0, amount - mass)
    if curve == LOG:  # log(1 + mass + amount) - log(1 + mass)
        return weight * log1p(amount / (1 + mass))
    if amount > 0:  # sqrt(mass + amount) - sqrt(mass)
        return weight * (amount / (sqrt(mass + amount) + sqrt_mass))
    return 0.0


@compiled
def _pick(search: Search, i: int, gain: float) -> None:
    """Pick row i.

    UNCOVERED and LIVE_IDS are exact while all remaining rows fit. Otherwise they are too large: a round may end
    later, with the same picks.
    """
    starts, ends, ids, _ = search.csr
    holders, value, counters = search.holders, search.objective.marginal_value, search.counters
    search.indices[counters[PICKED]], search.gains[counters[PICKED]] = i, gain
    counters[PICKED] += 1
    commit(search.constraints, i)
    for feature in ids[starts[i] : ends[i]]:
        holders[feature] -= 1
        counters[LIVE_IDS] -= value[feature] > 0
        counters[UNCOVERED] -= value[feature] > 0 and holders[feature] == 0
    for feature in cover(search.csr, search.objective, i):
        counters[LIVE_IDS] -= holders[feature]
        counters[UNCOVERED] -= holders[feature] > 0


@compiled_beyond(lambda csr, _, i: csr.ends[i] - csr.starts[i])
def cover(csr: Csr, objective: Objective, i: int) -> list[int]:
    """Add row i to the counts or masses; return the features that are covered from now on."""
    starts, ends, ids, amounts = csr
    count_or_mass, sqrt_mass = objective.count_or_mass, objective.sqrt_mass
    value, weight, increments = objective.marginal_value, objective.weight, objective.increments
    covered = [0 for _ in range(0)]
    for p in range(starts[i], ends[i]):
        feature = ids[p]
        if len(amounts) > 0:
            amount, mass = float(amounts[p]), count_or_mass[feature]
            count_or_mass[feature] = max(mass, amount) if objective.curve == MAX else mass + amount
            sqrt_mass[feature] = sqrt(count_or_mass[feature])
            continue
        count_or_mass[feature] += 1
        new_value = round(weight[feature] * increments[min(int(count_or_mass[feature]), len(increments) - 1)])
        if new_value == 0 and value[feature] > 0:
            covered.append(feature)
        value[feature] = new_value
    return covered
