"""Constraints: what a selection must obey, checked once and held as arrays of one number a row. No method here.

Columns are named, and looked up in anything that is subscripted by names: a Dataset, or a dict of lists.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._validation import check_number, is_number
from ..features.kernels import Floats, Int64s
from .budget import TOLERANCE, Budget
from .coverage import ConstraintState

if TYPE_CHECKING:
    from .result import Selection

Quota = str | Mapping[str, Mapping[Any, int]]


@dataclass(frozen=True, eq=False)
class Constraints:
    """Hold what a selection among n rows must obey.

    A method of your own receives it as `constraints`.

    Example, three rows: row 2 is picked first, row 0 never, and rows cost 5, 7 and 9 with 20 to spend::

        initial [2], initial_rounds [0], excluded [0], cost [5, 7, 9], max_cost 20
    """

    initial: Int64s
    """[k]: rows that are picked before any other, in this order."""
    initial_rounds: Int64s
    """Positions in `initial` at which a round begins."""
    excluded: Int64s
    """Rows that are ignored, as if removed."""
    group: Int64s
    """[n]: the group of each row."""
    max_per_group: Int64s
    """[groups]: how many rows of each group may be picked."""
    cost: Floats
    """[n]: what picking a row costs."""
    max_cost: float
    """What may be spent; infinite where the budget is in rows."""
    scale: Floats
    """[n]: the factor of a row's gain: its quality, divided by a power of its length."""

    @classmethod
    def none(cls, n: int) -> Constraints:
        """Return constraints that allow everything.

        Args:
            n (`int`):
                Number of rows.

        Returns:
            `Constraints`: No initial or excluded rows, one group, no costs, all factors 1.
        """
        no_rows = np.empty(0, np.int64)
        return cls(no_rows, no_rows, no_rows, np.zeros(n, np.int64), np.array([n]), np.zeros(n), np.inf, np.ones(n))

    @property
    def has_costs(self) -> bool:
        """Tell whether the budget is in costs and not in rows."""
        return self.max_cost < np.inf

    @property
    def pool(self) -> Int64s:
        """The rows that are not excluded, in order."""
        return np.setdiff1d(np.arange(len(self.group)), self.excluded, assume_unique=True)

    def per_cost(self) -> Constraints:
        """Return the same constraints with gains divided by costs.

        Returns:
            `Constraints`: `scale` divided by `cost`; 0 where a row has no cost.
        """
        scale = np.divide(self.scale, self.cost, out=np.zeros_like(self.scale), where=self.cost > 0)
        return replace(self, scale=scale)

    def with_costs(self, cost: Floats, budget: Budget) -> Constraints:
        """Return the same constraints with a budget in costs.

        Args:
            cost (`np.ndarray`):
                What each row costs, [n], float64.
            budget (`Budget`):
                The amount that may be spent, or a fraction of what all rows cost.

        Returns:
            `Constraints`: With `cost` and `max_cost`.

        Raises:
            ValueError: If all rows together cost less than the budget, or the initial rows cost more.
        """
        max_cost = budget.cost(float(cost[self.pool].sum()))
        if (spent := cost[self.initial].sum()) > max_cost * TOLERANCE:
            raise ValueError(
                f"`must_include` and `extend` cost {spent:g} {budget.unit}, but `budget={max_cost:g}`; raise it"
            )
        return replace(self, cost=cost, max_cost=max_cost)

    def per_token(self, tokens: NDArray[Any], power: float) -> Constraints:
        """Return the same constraints with gains divided by a power of the rows' tokens.

        Args:
            tokens (`np.ndarray`):
                Number of tokens of each row, [n], integers.
            power (`float`):
                The power; 0 changes nothing.

        Returns:
            `Constraints`: With `scale` divided.
        """
        return replace(self, scale=self.scale / np.maximum(tokens, 1).astype(np.float64) ** power)

    def state(self, order: Int64s) -> ConstraintState:
        """Return the state in which no row is picked.

        Args:
            order (`np.ndarray`):
                All rows, [n], int64, in the order in which equal ones are picked.

        Returns:
            `ConstraintState`: What remains of groups and budget; the algorithms change it as they pick.
        """
        available = np.ones(len(self.group), np.bool_)
        available[self.excluded] = False
        remaining = np.array([self.max_cost * TOLERANCE])
        return ConstraintState(
            order, available, self.group, self.max_per_group.copy(), self.cost, remaining, self.scale
        )


@dataclass(frozen=True, eq=False)
class ConstraintArguments:
    """Hold the constraints as `select` takes them; its documentation says what each means."""

    must_include: Sequence[int] = ()
    exclude: Sequence[int] = ()
    quota: Quota | None = None
    quality: str | None = None
    cost: str | None = None
    per_token: float = 0.0
    extend: Selection | None = None

    def parse(self, n: int, columns: Any, budget: Budget) -> Constraints:
        """Check the arguments and turn them into Constraints on `n` rows, but for what needs the rows' tokens.

        Args:
            columns: the columns that the arguments name.

        Raises:
            TypeError, ValueError: If an argument is not allowed; the message names it.
        """
        check_number("per_token", self.per_token, "[0, inf)")
        excluded = _row_indices("exclude", self.exclude, n)
        initial, initial_rounds = _initial_rows(_row_indices("must_include", self.must_include, n), self.extend, n)
        if len(both := np.intersect1d(initial, excluded)):
            raise ValueError(f"row {both[0]} is in `exclude` and in `must_include` or `extend`; it can be in one only")
        constraints = replace(Constraints.none(n), initial=initial, initial_rounds=initial_rounds, excluded=excluded)
        rows = budget.rows(n - len(excluded)) if budget.unit is None else None
        if rows is not None and len(initial) > rows:
            raise ValueError(f"`must_include` and `extend` have {len(initial)} rows, but `budget={rows}`; raise it")
        if self.quality is not None:
            constraints = replace(constraints, scale=_numbers("quality", self.quality, columns, n))
        if self.quota is not None:
            constraints = _with_quota(constraints, columns, self.quota, rows)
        if budget.unit not in (None, "tokens"):
            constraints = constraints.with_costs(_costs(budget.unit, columns, n), budget)
        return constraints

    def record(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults, as JSON values."""
        values: dict[str, Any] = {name: getattr(self, name) for name in ("quality", "cost", "quota")}
        values |= {name: [int(row) for row in getattr(self, name)] for name in ("must_include", "exclude")}
        values |= {"per_token": float(self.per_token), "extend": None if self.extend is None else len(self.extend)}
        if isinstance(self.quota, Mapping):  # pairs, since the keys of a JSON object are strings
            values["quota"] = {
                name: [[plain(x) for x in pair] for pair in r.items()] for name, r in self.quota.items()
            }
        return {name: value for name, value in values.items() if value not in (None, [], 0)}


def token_costs(tokens: NDArray[Any]) -> Floats:
    """Return what rows cost in tokens; a blank row costs 1."""
    costs: Floats = np.maximum(tokens, 1).astype(np.float64)
    return costs


def plain(value: Any) -> Any:
    """Return a scalar or an array of numpy as a plain Python value, and anything else as it is."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def balanced(sizes: Int64s, budget: int) -> Int64s:
    """Share `budget` rows out over groups of these sizes as evenly as they allow, the remainder to the largest groups.

    Example: sizes [10, 2, 9] and a budget of 9 give [4, 2, 3].
    """
    shares = np.zeros_like(sizes)
    largest_first = np.argsort(-sizes, kind="stable")
    while (remaining := min(budget, sizes.sum()) - shares.sum()) > 0:
        unfilled = largest_first[shares[largest_first] < sizes[largest_first]]
        if remaining < len(unfilled):
            shares[unfilled[:remaining]] += 1
        else:
            shares[unfilled] = np.minimum(shares[unfilled] + remaining // len(unfilled), sizes[unfilled])
    return shares


def _row_indices(name: str, rows: Any, n: int) -> Int64s:
    """Check row indices: integers from 0 to n - 1, all different."""
    if isinstance(rows, str | Mapping) or not isinstance(rows, Collection) or getattr(rows, "ndim", 1) != 1:
        raise TypeError(f"`{name}={rows!r}` must be a list of row indices")
    indices = list(rows)
    for row in indices:
        if not (is_number(row, Integral) and 0 <= row < n):
            raise ValueError(f"`{name}` has {row!r}; it must be a row index from 0 to {n - 1}")
    if len(set(indices)) < len(indices):
        twice = next(row for i, row in enumerate(indices) if row in indices[:i])
        raise ValueError(f"`{name}` has row {twice} twice")
    return np.array(indices, np.int64)


def _initial_rows(rows: Int64s, extend: Selection | None, n: int) -> tuple[Int64s, Int64s]:
    """Put the rows to extend before the rows to include; return them and where rounds begin among them."""
    if extend is None:
        return rows, np.zeros(min(1, len(rows)), np.int64)
    earlier = _row_indices("extend", extend.indices.tolist(), n)
    initial = np.concatenate([earlier, rows[~np.isin(rows, earlier)]])
    starts = extend.round_starts if len(extend.round_starts) or not len(initial) else np.zeros(1, np.int64)
    return initial, starts.astype(np.int64)


def _with_quota(constraints: Constraints, columns: Any, quota: Quota, rows: int | None) -> Constraints:
    """Group the rows by the quota's column. A value without a quota is limited by its number of rows only.

    `rows` is the budget; None where it is in costs.
    """
    name, limits = (quota, None) if isinstance(quota, str) else _column_of_quota(quota)
    # A missing number is NaN, which is not equal to itself: all are one value.
    values = [None if value != value else value for value in _column("quota", name, columns, len(constraints.group))]
    try:
        distinct = list(dict.fromkeys(values))  # in order of appearance
    except TypeError as error:
        raise TypeError(f"column `{name}` (from `quota`) holds lists; it needs plain values") from error
    places = {value: g for g, value in enumerate(distinct)}
    group = np.array([places[value] for value in values], np.int64)
    sizes = np.bincount(group[constraints.pool], minlength=len(distinct))
    if limits is not None:
        allowed = _limited(sizes, limits, places, name)
    elif rows is not None:
        allowed = balanced(sizes, rows)
    else:
        raise ValueError(
            f"`quota={name!r}` shares out a budget in rows; with `cost`, pass a number for each value: "
            f"`quota={{{name!r}: {{value: rows}}}}`"
        )
    exceeded = np.flatnonzero(np.bincount(group[constraints.initial], minlength=len(distinct)) > allowed)
    if len(exceeded):
        value = distinct[exceeded[0]]
        raise ValueError(f"`must_include` and `extend` have more rows of {value!r} than `quota` allows")
    if rows is not None and allowed.sum() < rows:
        raise ValueError(f"`quota` allows {allowed.sum()} rows, but `budget={rows}`; raise a quota or lower it")
    return replace(constraints, group=group, max_per_group=allowed.astype(np.int64))


def _limited(sizes: Int64s, limits: Mapping[Any, int], places: Mapping[Any, int], name: str) -> Int64s:
    allowed = sizes.copy()
    for value, limit in limits.items():
        if value not in places:
            raise ValueError(f"`quota` has {value!r}, which is not in column `{name}`; it has: {_some(list(places))}")
        if not (is_number(limit, Integral) and limit >= 0):
            raise ValueError(f"`quota` gives {value!r} {limit!r}; it must be a non-negative integer, a number of rows")
        allowed[places[value]] = min(limit, sizes[places[value]])
    return allowed


def _column_of_quota(quota: Any) -> tuple[str, Mapping[Any, int]]:
    if not isinstance(quota, Mapping) or len(quota) != 1 or not isinstance(next(iter(quota.values())), Mapping):
        raise TypeError(f"`quota={quota!r}` must be {{'column': {{value: rows}}}}, of one column, or 'column'")
    return next(iter(quota.items()))


def _costs(name: Any, columns: Any, n: int) -> Floats:
    """Return a column of positive numbers."""
    costs = _numbers("cost", name, columns, n)
    if len(zero := np.flatnonzero(costs == 0)):
        raise ValueError(f"column `{name}` (from `cost`) is 0 in row {zero[0]}; a cost must be above 0")
    return costs


def _numbers(argument: str, name: Any, columns: Any, n: int) -> Floats:
    """Return a column of finite numbers that are not negative."""
    values = _column(argument, name, columns, n)
    for i, value in enumerate(values):
        if not (is_number(value) and value >= 0):
            raise ValueError(
                f"column `{name}` (from `{argument}`) is {value!r} in row {i}; it must be a non-negative number"
            )
    return np.array(values, np.float64)


def _column(argument: str, name: Any, columns: Any, n: int) -> list[Any]:
    names = getattr(columns, "column_names", None) or list(columns)
    if name not in names:
        known = ", ".join(map(str, names)) or "no columns: pass `columns={'name': values}`"
        raise ValueError(f"no column {name!r} (from `{argument}`); choose one of: {known}")
    unformatted = columns.with_format(None) if hasattr(columns, "with_format") else columns
    values = list(unformatted[name][:])  # the slice: a Column of datasets reads row by row otherwise
    if len(values) != n:
        raise ValueError(f"column `{name}` (from `{argument}`) has {len(values)} values, but there are {n} rows")
    return values


def _some(values: Sequence[Any]) -> str:
    return ", ".join(map(repr, values[:10])) + (", ..." if len(values) > 10 else "")
