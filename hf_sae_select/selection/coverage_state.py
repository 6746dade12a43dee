"""The state of a coverage search: named tuples of arrays, which the compiled loops of `coverage_kernels.py` read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s

CURVES = ("sqrt", "log", "max")
SQRT, LOG, MAX = 0, 1, 2  # positions in CURVES
PICKED, UNCOVERED, LIVE_IDS = 0, 1, 2  # positions in `Search.counters`
NEVER = -1  # `Candidate.computed_at` of a gain that was not computed yet


class ConstraintState(NamedTuple):
    """Constraints of one selection among n rows, and what remains of them; changed by `commit`."""

    order: Int64s  # [n]: all rows; of equal rows the first in `order` is picked
    available: NDArray[np.bool_]  # [n]: neither picked nor excluded
    group: Int64s  # [n]
    remaining_per_group: Int64s  # [groups]: number of rows that may still be picked
    remaining_cost_per_group: Floats  # [groups]: what rows may still cost
    cost: Floats  # [n]
    remaining_budget: Floats  # [1], in the unit of `cost`
    scale: Floats  # [n]: the score of a row is its gain times its scale


class Csr(NamedTuple):
    """Sparse rows: row i has the features `ids[starts[i]:ends[i]]`, with `amounts` in a mass objective."""

    starts: Int64s
    ends: Int64s
    ids: NDArray[np.unsignedinteger[Any]]
    amounts: NDArray[np.float32]  # empty in a count objective


class Objective(NamedTuple):
    """The objective f at the rows of the current round. Arrays over the features: [d_sae]."""

    marginal_value: NDArray[Any]  # whole number of units that one more row gains by the feature; 1 in a mass objective
    initial_value: NDArray[Any]  # `marginal_value` when a round begins
    count_or_mass: Floats  # number of rows that have the feature, or their total (curve "max": largest) amount of it
    sqrt_mass: Floats  # square root of the mass; empty in a count objective
    weight: Floats  # in units
    increments: Floats  # [counts]: curve(c + 1) - curve(c) of a count objective; the last one holds for larger c too
    curve: int  # of a mass objective: a position in CURVES
    unit: float


class Search(NamedTuple):
    """The state of one selection."""

    csr: Csr
    objective: Objective
    holders: Int64s  # [d_sae]: number of remaining rows that have the feature
    constraints: ConstraintState
    indices: Int64s  # [budget]: the rows picked
    gains: Floats  # [budget], in units
    counters: Int64s
    """[3]: PICKED rows; UNCOVERED features that a remaining row has; LIVE_IDS, the ids of these in remaining rows."""


class Ranking(NamedTuple):
    """Rows sorted by their scores, the largest first, of equal ones the first in order."""

    places: Int64s  # positions in `ConstraintState.order`
    scores: Floats


class Rest(NamedTuple):
    """What bounds the rows that are not ranked: none has a larger score, or this score and an earlier place."""

    score: float
    place: int  # position in `ConstraintState.order`


class Candidate(NamedTuple):
    """A row in the heap of `lazy_greedy`. The smallest has the largest score, and of equal scores the first place."""

    negative_score: float
    place: int  # position in `ConstraintState.order`
    computed_at: int  # number of rows picked when `gain` was computed
    gain: float


def fitting(state: ConstraintState, rows: Int64s | None = None) -> NDArray[np.bool_]:
    """Tell of `rows`, by default all, whether each `fits`."""
    which = slice(None) if rows is None else rows
    is_open, left = state.remaining_per_group > 0, np.minimum(state.remaining_budget, state.remaining_cost_per_group)
    group = 0 if len(left) == 1 else state.group[which]
    mask = state.available[which] & is_open[group]
    return np.asarray(mask if np.isinf(left).all() else mask & (state.cost[which] <= left[group]))
