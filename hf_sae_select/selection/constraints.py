"""Constraints: what the user asks of a selection, checked and turned into arrays of one number a row. No method here.

Columns are named, and looked up in whatever is subscripted by names: a Dataset, or a dict of lists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s
from .coverage import ConstraintState

if TYPE_CHECKING:  # annotations only
    from .result import Selection

Quota = str | Mapping[str, Mapping[Any, int]]

AMOUNT = re.compile(r"\s*(\d{1,3}(?:,\d{3})+|\d[\d_]*)(\.\d+)?\s*([kKmMbB]?)\s+(\S.*?)\s*")
TOLERANCE = 1 + 1e-9  # a budget buys what costs exactly as much, whatever a sum of fractions is in floating point
SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


@dataclass(frozen=True, eq=False)
class Constraints:
    """Say what a selection among n rows has to obey.

    Example, three rows: row 2 first, never row 0, and costs of 5, 7 and 9 with 20 to spend::

        first [2], first_rounds [0], excluded [0], cost [5, 7, 9], purse 20
    """

    first: Int64s
    """Rows picked before any other, in this order."""
    first_rounds: Int64s
    """Positions in `first` at which a round began."""
    excluded: Int64s
    """Rows that are as good as not there."""
    group: Int64s
    """[n]: the group of each row."""
    room: Int64s
    """[groups]: how many rows of each group may be picked."""
    cost: Floats
    """[n]: what picking a row costs."""
    purse: float
    """What may be spent; infinite where the budget is in rows."""
    scale: Floats
    """[n]: what a row's gain is multiplied by: its quality, over a power of its length."""

    @classmethod
    def none(cls, n: int) -> Constraints:
        """Return no constraint at all, on n rows."""
        nothing = np.empty(0, np.int64)
        return cls(nothing, nothing, nothing, np.zeros(n, np.int64), np.array([n]), np.zeros(n), np.inf, np.ones(n))

    @property
    def costly(self) -> bool:
        """Tell whether the budget is in costs and not in rows."""
        return self.purse < np.inf

    @property
    def pool(self) -> Int64s:
        """The rows that are not excluded, in order."""
        return np.setdiff1d(np.arange(len(self.group)), self.excluded, assume_unique=True)

    def per_cost(self) -> Constraints:
        """Return the same with gains counted by what they cost."""
        scale = np.divide(self.scale, self.cost, out=np.zeros_like(self.scale), where=self.cost > 0)
        return replace(self, scale=scale)

    def limits(self, order: Int64s) -> ConstraintState:
        """Open the ledger: nothing picked; `order` decides among equal rows."""
        unpicked = np.ones(len(self.group), np.bool_)
        unpicked[self.excluded] = False
        purse = np.array([self.purse * TOLERANCE])
        return ConstraintState(order, unpicked, self.group, self.room.copy(), self.cost, purse, self.scale)


@dataclass(frozen=True, eq=False)
class Asked:
    """Hold the constraints as a user gives them; `selecting.select` says what each means."""

    must_include: Sequence[int] = ()
    exclude: Sequence[int] = ()
    quota: Quota | None = None
    quality: str | None = None
    cost: str | None = None
    per_token: float = 0.0
    extend: Selection | None = None

    def resolve(self, n: int, columns: Any, tokens: NDArray[Any], budget: float) -> Constraints:
        """Turn them into Constraints on n rows; each is checked, and named where it is wrong.

        `budget` is in rows or, with `cost`, in what that counts; `columns` holds the columns named.
        """
        rows, excluded = _rows("must_include", self.must_include, n), self.excluded(n)
        first, first_rounds = _first(rows, self.extend, n)
        if len(both := np.intersect1d(first, excluded)):
            raise ValueError(f"row {both[0]} is in `exclude` and in `must_include` or `extend`; it can be in one only")
        if self.cost is None and len(first) > budget:
            raise ValueError(f"`must_include` and `extend` have {len(first)} rows, but `budget={budget}`; raise it")
        found = replace(Constraints.none(n), first=first, first_rounds=first_rounds, excluded=excluded)
        if self.quota is not None:
            found = _with_quota(found, columns, self.quota, budget, in_rows=self.cost is None)
        if self.cost is not None:
            found = replace(found, cost=costs_of(columns, tokens, self.cost), purse=float(budget))
            if (spent := found.cost[first].sum()) > budget * TOLERANCE:
                raise ValueError(
                    f"`must_include` and `extend` cost {spent:g} {self.cost}, but `budget={budget:g}`; raise it"
                )
        return replace(found, scale=self._scale(columns, tokens))

    def excluded(self, n: int) -> Int64s:
        """Return the rows that are as good as not there."""
        return _rows("exclude", self.exclude, n)

    def _scale(self, columns: Any, tokens: NDArray[Any]) -> Floats:
        if not (is_number(self.per_token) and 0 <= self.per_token < np.inf):
            raise ValueError(f"`per_token={self.per_token!r}` must be a number from 0 on: a power of a row's tokens")
        n = len(tokens)
        scale = np.ones(n) if self.quality is None else _numbers("quality", self.quality, columns, n)
        divided: Floats = scale / np.maximum(tokens, 1).astype(np.float64) ** self.per_token
        return divided

    def recorded(self) -> dict[str, Any]:
        """Return, as JSON values, those that were given."""
        found: dict[str, Any] = {name: getattr(self, name) for name in ("quality", "cost")}
        found |= {name: [int(row) for row in getattr(self, name)] for name in ("must_include", "exclude")}
        found |= {"per_token": float(self.per_token), "extend": None if self.extend is None else len(self.extend)}
        found["quota"] = self.quota
        if isinstance(self.quota, Mapping):  # pairs, since the keys of a JSON object are strings
            found["quota"] = {name: [[plain(x) for x in pair] for pair in r.items()] for name, r in self.quota.items()}
        return {name: value for name, value in found.items() if value not in (None, [], 0)}


def parse_budget(budget: Any, cost: str | None) -> tuple[float, str | None]:
    """Return (amount, unit) of a budget: unit None for rows, else "tokens" or a column. `"200k tokens"` -> 200000."""
    if not isinstance(budget, str):
        return budget, cost
    found = AMOUNT.fullmatch(budget)
    number = Decimal(re.sub("[_,]", "", found[1]) + (found[2] or "")) if found and len(budget) < 100 else Decimal(0)
    if not found or number <= 0:
        raise ValueError(f"`budget={budget!r}` is no amount; write it as '200k tokens', '1.5M tokens' or '3000 rows'")
    amount, unit = number * SUFFIXES[found[3].lower()], found[4]
    if cost not in (None, unit):
        raise ValueError(f"`budget={budget!r}` counts {unit}, but `cost={cost!r}`; leave `cost` out")
    if unit != "rows":
        return float(amount), unit
    if amount != int(amount):
        raise ValueError(f"`budget={budget!r}` is no whole number of rows")
    return int(amount), None


def plain(value: Any) -> Any:
    """Return what JSON knows for a scalar or an array of numpy's; anything else as it is."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def is_number(value: Any, kind: type = Real) -> bool:
    """Tell whether `value` is a number and not a truth value."""
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


def _rows(name: str, rows: Any, n: int) -> Int64s:
    """Check row indices: whole numbers from 0 to n - 1, none twice."""
    if isinstance(rows, str | Mapping) or not isinstance(rows, Collection) or getattr(rows, "ndim", 1) != 1:
        raise TypeError(f"`{name}={rows!r}` must be a list of row indices")
    listed = list(rows)
    for row in listed:
        if not (is_number(row, Integral) and 0 <= row < n):
            raise ValueError(f"`{name}` has {row!r}; it must be a row index from 0 to {n - 1}")
    if len(set(listed)) < len(listed):
        twice = next(row for i, row in enumerate(listed) if row in listed[:i])
        raise ValueError(f"`{name}` has row {twice} twice")
    return np.array(listed, np.int64)


def _first(rows: Int64s, extend: Selection | None, n: int) -> tuple[Int64s, Int64s]:
    """Put the rows to extend before those to include, and say where rounds began among them."""
    if extend is None:
        return rows, np.zeros(min(1, len(rows)), np.int64)
    earlier = _rows("extend", extend.indices.tolist(), n)
    first = np.concatenate([earlier, rows[~np.isin(rows, earlier)]])
    starts = extend.round_starts if len(extend.round_starts) or not len(first) else np.zeros(1, np.int64)
    return first, starts.astype(np.int64)


def _with_quota(pool: Constraints, columns: Any, quota: Quota, budget: float, in_rows: bool) -> Constraints:
    """Group the rows by the quota's column; a value without a quota has room for all of its rows."""
    name, asked = (quota, None) if isinstance(quota, str) else _one_column(quota)
    values = [None if value != value else value for value in _column("quota", name, columns, len(pool.group))]  # NaN
    try:
        names = list(dict.fromkeys(values))  # in order of appearance
    except TypeError as error:
        raise TypeError(f"column `{name}` (from `quota`) holds lists; it needs plain values") from error
    places = {value: g for g, value in enumerate(names)}
    group = np.array([places[value] for value in values], np.int64)
    sizes = np.bincount(group[pool.pool], minlength=len(names))
    if asked is None:
        if not in_rows:
            raise ValueError(
                f"`quota={name!r}` shares out a budget in rows; with `cost`, give a number for each value"
            )
        room = balanced(sizes, int(budget))
    else:
        room = sizes.copy()
        for value, most in asked.items():
            if value not in places:
                raise ValueError(f"`quota` has {value!r}, which is not in column `{name}`; it has: {_some(names)}")
            if not (is_number(most, Integral) and most >= 0):
                raise ValueError(f"`quota` gives {value!r} {most!r}; it must be a whole number of rows from 0 on")
            room[places[value]] = min(most, sizes[places[value]])
    over = np.flatnonzero(np.bincount(group[pool.first], minlength=len(names)) > room)
    if len(over):
        raise ValueError(f"`must_include` and `extend` have more rows of {names[over[0]]!r} than `quota` allows")
    if in_rows and room.sum() < budget:
        raise ValueError(f"`quota` allows {room.sum()} rows, but `budget={budget}`; raise a quota or lower the budget")
    return replace(pool, group=group, room=room.astype(np.int64))


def balanced(sizes: Int64s, budget: int) -> Int64s:
    """Share `budget` rows out over groups of these sizes as evenly as they allow, what is over to the largest groups.

    Example: sizes [10, 2, 9] and a budget of 9 give [4, 2, 3].
    """
    room = np.zeros_like(sizes)
    largest_first = np.argsort(-sizes, kind="stable")
    while (left := min(budget, sizes.sum()) - room.sum()) > 0:
        hungry = largest_first[room[largest_first] < sizes[largest_first]]
        if left < len(hungry):
            room[hungry[:left]] += 1
        else:
            room[hungry] = np.minimum(room[hungry] + left // len(hungry), sizes[hungry])
    return room


def _one_column(quota: Any) -> tuple[str, Mapping[Any, int]]:
    if not isinstance(quota, Mapping) or len(quota) != 1 or not isinstance(next(iter(quota.values())), Mapping):
        raise TypeError(f"`quota={quota!r}` must be {{'column': {{value: rows}}}}, of one column, or 'column'")
    return next(iter(quota.items()))


def costs_of(columns: Any, tokens: NDArray[Any], cost: str) -> Floats:
    """Return what each row costs: its tokens, or a column of positive numbers."""
    if cost == "tokens":  # a blank row is not for nothing
        charged: Floats = np.maximum(tokens, 1).astype(np.float64)
        return charged
    costs = _numbers("cost", cost, columns, len(tokens))
    if len(zero := np.flatnonzero(costs == 0)):
        raise ValueError(f"column `{cost}` (from `cost`) is 0 in row {zero[0]}; a cost must be above 0")
    return costs


def _numbers(argument: str, name: str, columns: Any, n: int) -> Floats:
    """Return a column of finite numbers from 0 on."""
    values = _column(argument, name, columns, n)
    for i, value in enumerate(values):
        if not (is_number(value) and 0 <= value < np.inf):
            raise ValueError(
                f"column `{name}` (from `{argument}`) is {value!r} in row {i}; it must be a number from 0 on"
            )
    return np.array(values, np.float64)


def _column(argument: str, name: Any, columns: Any, n: int) -> list[Any]:
    names = getattr(columns, "column_names", None) or list(columns)
    if name not in names:
        there = ", ".join(map(str, names)) or "no columns: pass `columns={'name': values}`"
        raise ValueError(f"no column {name!r} (from `{argument}`); there is: {there}")
    plain = columns.with_format(None) if hasattr(columns, "with_format") else columns
    values = list(plain[name][:])  # the slice: a Column of datasets reads row by row otherwise
    if len(values) != n:
        raise ValueError(f"column `{name}` (from `{argument}`) has {len(values)} values, but there are {n} rows")
    return values


def _some(values: Sequence[Any]) -> str:
    return ", ".join(map(repr, values[:10])) + (", ..." if len(values) > 10 else "")
