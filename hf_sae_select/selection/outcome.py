"""What a method returned: checked against the constraints, measured, and compared with what was asked for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Int64s
from .budget import TOLERANCE
from .constraints import Constraints
from .methods import BASELINES, METHODS
from .request import SelectionRequest
from .result import Selection
from .sharded.features import Features, has_vectors, new_features, pool_frequency


def check_result(name: str, selection: Any, budget: int, n: int, constraints: Constraints) -> Selection:
    """Check what a method returned, which may be the user's own.

    Raises:
        TypeError: If it is not a Selection.
        ValueError: If its rows, gains or rounds are not valid, or it breaks a constraint.
    """
    if not isinstance(selection, Selection):
        raise TypeError(f"`method={name!r}` returned a {type(selection).__name__}; it must return a Selection")
    picks, gains = np.asarray(selection.indices), np.asarray(selection.gains)
    rows = np.unique(picks)
    in_range = len(rows) == 0 or (rows.dtype.kind in "iu" and rows[0] >= 0 and rows[-1] < n)
    if not in_range or len(rows) < len(picks) or len(rows) > budget or len(gains) != len(picks):
        raise ValueError(
            f"`method={name!r}` must return at most {budget} different rows from 0 to {n - 1}, and a gain for each"
        )
    picks = picks.astype(np.int64)
    _check_obeyed(name, picks, constraints)
    starts = np.asarray(selection.round_starts, np.int64) if len(selection.round_starts) else np.arange(len(picks))[:1]
    if len(starts) and (starts[0] != 0 or (np.diff(starts) <= 0).any() or starts[-1] >= max(len(picks), 1)):
        raise ValueError(f"`method={name!r}` returned `round_starts={starts}`: they must rise from 0, below the picks")
    if gains.dtype.kind not in "biuf" or np.isnan(gains).any():
        raise ValueError(f"`method={name!r}` returned `gains` that are not numbers")
    gains = gains.astype(np.float64 if gains.dtype.kind == "f" else np.int64)
    return replace(selection, indices=picks, gains=gains, round_starts=starts)


def _check_obeyed(name: str, picks: np.ndarray[Any, np.dtype[np.int64]], constraints: Constraints) -> None:
    used = np.bincount(constraints.group[picks], minlength=len(constraints.max_per_group))
    broken = np.isin(picks, constraints.excluded).any() or (used > constraints.max_per_group).any()
    spent = np.bincount(constraints.group[picks], constraints.cost[picks], minlength=len(constraints.max_per_group))
    broken |= (spent > constraints.max_cost_per_group * TOLERANCE).any()
    broken |= bool(constraints.cost[picks].sum() > constraints.max_cost * TOLERANCE)
    if broken or not np.array_equal(picks[: len(constraints.initial)], constraints.initial):
        raise ValueError(f"`method={name!r}` returned rows that its `constraints` do not allow")


def measured(selection: Selection, features: Features, constraints: Constraints) -> Selection:
    """Add to a selection how many features its rows cover, whatever its method optimised."""
    new = new_features(features, selection.indices)
    pool_coverage = int(np.count_nonzero(pool_frequency(features, constraints.excluded)))
    return replace(selection, covered=new.cumsum(), pool_coverage=pool_coverage)


def check_blank(request: SelectionRequest, counts: Int64s) -> None:
    """Check that rows of the pool have features, of which `counts` are the numbers before any cut; warn if most lack.

    Raises:
        ValueError: If no row has one.
    """
    pool = request.constraints.pool
    blank = int((counts[pool] == 0).sum())
    text = "see which columns are read as `text`, and whether the SAE is of this model"
    if blank == len(pool):
        raise ValueError(f"all {blank:,} rows are blank, without any feature: {text}")
    if blank > len(pool) / 2:
        warnings.warn(f"{blank:,} of {len(pool):,} rows are blank, without any feature: {text}", stacklevel=4)


def warn_of_no_features(request: SelectionRequest, features: Features, cuts: Mapping[str, Any]) -> None:
    """Warn where a method that goes by features picks among rows that have none after the cuts."""
    if request.name in BASELINES or request.name not in METHODS or request.method.needs_vectors:
        return
    if not (features.counts[request.constraints.pool] > 0).any():
        passed = ", ".join(f"`{name}={value!r}`" for name, value in cuts.items() if value is not None)
        warnings.warn(
            f"`method={request.name!r}` picks by features, and no row has one after the cuts {passed}", stacklevel=4
        )


def worth_buying(request: SelectionRequest, features: Features) -> NDArray[np.bool_]:
    """Tell of each row whether the method may spend a budget in costs on it: not on blank ones, [n]."""
    if request.name in BASELINES:
        return features.tokens > 0
    if request.method.needs_vectors:
        return has_vectors(features)
    return features.counts > 0 if request.name in METHODS else np.ones(len(features), np.bool_)


def shortfall(selection: Selection, rows: int, constraints: Constraints, features: Features) -> str:
    """Say in words that budget remains though rows remain; return "" if it does not."""
    if not constraints.has_costs:
        allowed = min(rows, int(constraints.max_per_group.sum()))  # a quota that allows fewer has warned already
        return f"no row left to pick after {len(selection)} of {rows}" if len(selection) < allowed else ""
    left = np.setdiff1d(constraints.pool[features.counts[constraints.pool] > 0], selection.indices)
    group, cost, picks = constraints.group, constraints.cost, selection.indices
    unspent = constraints.max_cost - cost[picks].sum()
    spent_per_group = np.bincount(group[picks], cost[picks], minlength=len(constraints.max_per_group))
    unspent_per_group = (constraints.max_cost_per_group - spent_per_group)[group[left]]
    if not len(left) or not (constraints.cost[left] <= np.minimum(unspent, unspent_per_group)).any():
        only_initial = len(picks) == len(constraints.initial) and len(left) and unspent > 1e-9 * constraints.max_cost
        return f"the {unspent:g} left by `must_include` and `extend` buy no row" if only_initial else ""
    return f"no row left to pick after {len(selection)}, with {unspent:g} of {constraints.max_cost:g} unspent"


def check_extended(earlier: Selection | None, selection: Selection) -> None:
    """Check that an extended selection without digests is of the same rows: they must gain the same by its method.

    Raises:
        ValueError: If a pick has another gain.
    """
    if earlier is None or earlier.method != selection.method or _measure(earlier) != _measure(selection):
        return  # another method or measure may give other gains
    gains = selection.gains[: len(earlier)]
    differ = np.flatnonzero(~np.isclose(gains, earlier.gains, rtol=1e-6) & (earlier.gains > 0))
    if len(differ):
        pick = differ[0]
        raise ValueError(
            f"`extend` was selected from other rows: its pick {pick + 1}, row {earlier.indices[pick]}, added "
            f"{earlier.gains[pick]:g} then and adds {selection.gains[pick]:g} now"
        )


def _measure(selection: Selection) -> dict[str, Any]:
    """Return the parameters that decide what a given sequence of picks gains."""
    parameters = {name: value for name, value in selection.parameters.items() if name != "budget"}
    free = ("extend", "must_include")
    constraints = {name: value for name, value in parameters.get("constraints", {}).items() if name not in free}
    return parameters | {"constraints": constraints}
