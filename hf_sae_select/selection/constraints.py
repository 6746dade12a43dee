"""Constraints: what a selection must obey, checked once and held as arrays of one number a row. No method here.

Columns are named, and looked up in anything that is subscripted by names: a Dataset, or a dict of lists.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .._validation import check_number, is_number
from ..features.kernels import Floats, Int64s
from .budget import TOLERANCE, Budget
from .columns import column_numbers, column_values
from .concept_rules import RULES, ConceptRules
from .coverage import ConstraintState
from .quota import Quota, Quotas, column_of, recorded

if TYPE_CHECKING:
    from .result import Selection


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
    max_cost_per_group: Floats
    """[groups]: what the rows of each group may cost; infinite where a quota is in rows."""
    scale: Floats
    """[n]: the factor of a row's gain: its quality, divided by a power of its length."""
    quotas: Quotas | None = None
    """What each group may have, as it was passed; None without a quota."""
    boost: Mapping[int, float] = field(default_factory=dict)
    """The factor of each feature's weight that is not 1."""

    @classmethod
    def none(cls, n: int) -> Constraints:
        """Return constraints that allow everything.

        Args:
            n (`int`):
                Number of rows.

        Returns:
            `Constraints`: No initial or excluded rows, one group, no costs, all factors 1.
        """
        no_rows, one_group = np.empty(0, np.int64), np.zeros(n, np.int64)
        unlimited = np.array([np.inf])
        return cls(
            no_rows, no_rows, no_rows, one_group, np.array([n]), np.zeros(n), np.inf, unlimited, scale=np.ones(n)
        )

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
        constraints = replace(self, cost=cost, max_cost=max_cost)
        return constraints if self.quotas is None else constraints._with_cost_per_group(budget.unit)

    def _with_cost_per_group(self, unit: str | None) -> Constraints:
        """Share the budget out over the groups, where the quota is in shares."""
        groups, quotas = len(self.max_per_group), cast(Quotas, self.quotas)
        totals = np.bincount(self.group[self.pool], self.cost[self.pool], minlength=groups)
        allowed = quotas.costs(totals.astype(np.float64), self.max_cost)
        spent = np.bincount(self.group[self.initial], self.cost[self.initial], minlength=groups)
        if len(exceeded := np.flatnonzero(spent > allowed * TOLERANCE)):
            g = exceeded[0]
            raise ValueError(
                f"`must_include` and `extend` cost {spent[g]:g} {unit} in rows of {quotas.names[g]}, but `quota` "
                f"allows {allowed[g]:g}"
            )
        return replace(self, max_cost_per_group=allowed)

    def check_buys(self, budget: Budget, worth: NDArray[np.bool_] | None = None) -> None:
        """Check that a budget in costs buys any row.

        Args:
            budget (`Budget`):
                The budget as it was passed.
            worth (`np.ndarray`, *optional*):
                The rows that are worth buying, [n], bool. By default all rows.

        Raises:
            ValueError: If it does not; the message names the cheapest row.
        """
        if not self.has_costs or len(self.initial):
            return
        rows = self.pool[(self.scale[self.pool] > 0) & (self.max_per_group[self.group[self.pool]] > 0)]
        rows = rows if worth is None else rows[worth[rows]]
        most = np.minimum(self.max_cost_per_group[self.group[rows]], self.max_cost)
        rows, most = rows[most > 0], most[most > 0]
        if (self.cost[rows] <= most * TOLERANCE).any():
            return
        if not len(rows):
            raise ValueError(f"`budget={budget.amount:.12g}` buys no row: none is left that is worth its cost")
        needed = self.cost[rows] * (self.max_cost / most)  # a row of a group that gets a share needs more
        row, least = rows[needed.argmin()], budget.least(float(needed.min()), float(self.cost[self.pool].sum()))
        of_all = f", {self.max_cost:.6g} {budget.unit}," if budget.is_fraction else ""
        raise ValueError(
            f"`budget={budget.amount:.12g}`{of_all} buys no row: the cheapest, row {row}, costs {self.cost[row]:.12g} "
            f"{budget.unit}; pass at least {least}"
        )

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
        limits = self.max_per_group.copy(), self.max_cost_per_group * TOLERANCE
        return ConstraintState(order, available, self.group, *limits, self.cost, remaining, self.scale)


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
    left_out: Mapping[str, Sequence[int] | Int64s] = field(default_factory=dict)
    """Rows that other arguments exclude, by the name of what excludes them; rows that are picked first stay."""
    concepts: ConceptRules = field(default_factory=ConceptRules)
    """`avoid`, `require`, `require_all` and `boost`. The rows that they leave out are in `left_out` once the features
    are known. They are not recorded: the rules give them again."""

    def parse(self, n: int, columns: Any, budget: Budget) -> Constraints:
        """Check the arguments and turn them into Constraints on `n` rows, but for what needs the rows' tokens.

        Args:
            columns: the columns that the arguments name.

        Raises:
            TypeError, ValueError: If an argument is not allowed; the message names it.
        """
        check_number("per_token", self.per_token, "[0, 10]")  # a larger power overflows
        excluded = row_indices("exclude", self.exclude, n)
        initial, initial_rounds = _initial_rows(row_indices("must_include", self.must_include, n), self.extend, n)
        if len(both := np.intersect1d(initial, excluded)):
            raise ValueError(f"row {both[0]} is in `exclude` and in `must_include` or `extend`; it can be in one only")
        for name, rows in self.left_out.items():
            others = row_indices(f"left_out[{name!r}]", rows, n)
            others = np.setdiff1d(others, np.concatenate([initial, excluded]), assume_unique=True)
            excluded = np.sort(np.concatenate([excluded, others]))
        boost = {item.feature: float(item.value or 0) for item in self.concepts.boost}
        constraints = replace(Constraints.none(n), initial=initial, initial_rounds=initial_rounds, excluded=excluded)
        constraints = replace(constraints, boost=boost)
        most = budget.rows(n - len(excluded)) if budget.unit is None else None
        if most is not None and len(initial) > most:
            raise ValueError(f"`must_include` and `extend` have {len(initial)} rows, but `budget={most}`; raise it")
        if self.quality is not None:
            constraints = replace(constraints, scale=column_numbers("quality", self.quality, columns, n))
        if self.quota is not None:
            constraints = _with_quota(constraints, columns, self.quota, most)
        if budget.unit not in (None, "tokens"):
            constraints = constraints.with_costs(_costs(budget.unit, columns, n), budget)
            constraints.check_buys(budget)
        return constraints

    def check(self) -> None:
        """Check what needs no row.

        Raises:
            TypeError, ValueError: If an argument is not allowed; the message names it.
        """
        check_number("per_token", self.per_token, "[0, 10]")  # a larger power overflows
        excluded, included = (row_indices(name, getattr(self, name), None) for name in ("exclude", "must_include"))
        if len(both := np.intersect1d(included, excluded)):
            raise ValueError(f"row {both[0]} is in `exclude` and in `must_include` or `extend`; it can be in one only")
        if self.quota is not None and not isinstance(self.quota, str):
            column_of(self.quota)

    def check_columns(self, columns: Any, n: int) -> None:
        """Check the columns that the arguments name by `n` of their rows.

        Raises:
            TypeError, ValueError: If there is no such column, or it holds something else than it must.
        """
        if self.quality is not None:
            column_numbers("quality", self.quality, columns, n)
        if self.quota is not None:
            column_values("quota", self.quota if isinstance(self.quota, str) else column_of(self.quota)[0], columns, n)
        if self.cost not in (None, "tokens"):
            _costs(self.cost, columns, n)

    def record(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults, as JSON values."""
        values: dict[str, Any] = {name: getattr(self, name) for name in ("quality", "cost", "quota")}
        values |= {name: [int(row) for row in getattr(self, name)] for name in ("must_include", "exclude")}
        values |= {"per_token": float(self.per_token), "extend": None if self.extend is None else len(self.extend)}
        if isinstance(self.quota, Mapping):  # pairs, since the keys of a JSON object are strings
            values["quota"] = {
                name: [[recorded(value), plain(amount)] for value, amount in amounts.items()]
                for name, amounts in self.quota.items()
            }
        recorded_rows = {name: rows for name, rows in self.left_out.items() if name not in RULES}
        values["left_out"] = {name: [int(row) for row in rows] for name, rows in recorded_rows.items()}
        values |= self.concepts.record()
        return {name: value for name, value in values.items() if value not in (None, [], 0, {})}


def token_costs(tokens: NDArray[Any]) -> Floats:
    """Return what rows cost in tokens; a blank row costs 1."""
    costs: Floats = np.maximum(tokens, 1).astype(np.float64)
    return costs


def plain(value: Any) -> Any:
    """Return a scalar or an array of numpy as a plain Python value, and anything else as it is."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def row_indices(name: str, rows: Any, n: int | None) -> Int64s:
    """Check row indices: integers from 0 to n - 1, all different; None where the number of rows is not known yet."""
    if isinstance(rows, str | Mapping) or not isinstance(rows, Collection) or getattr(rows, "ndim", 1) != 1:
        raise TypeError(f"`{name}={rows!r}` must be a list of row indices")
    most = np.iinfo(np.int64).max if n is None else n
    if isinstance(rows, np.ndarray) and rows.dtype == np.int64 and (np.diff(rows, prepend=-1, append=most) > 0).all():
        return rows  # ascending from 0 to n - 1, so no row is there twice
    indices = list(rows)
    for row in indices:
        if not (is_number(row, Integral) and 0 <= row < most):
            raise ValueError(
                f"`{name}` has {row!r}; it must be a row index from 0 {'on' if n is None else f'to {n - 1}'}"
            )
    if len(set(indices)) < len(indices):
        twice = next(row for i, row in enumerate(indices) if row in indices[:i])
        raise ValueError(f"`{name}` has row {twice} twice")
    return np.array(indices, np.int64)


def _initial_rows(rows: Int64s, extend: Selection | None, n: int) -> tuple[Int64s, Int64s]:
    """Put the rows to extend before the rows to include; return them and where rounds begin among them."""
    if extend is None:
        return rows, np.zeros(min(1, len(rows)), np.int64)
    earlier = row_indices("extend", extend.indices.tolist(), n)
    initial = np.concatenate([earlier, rows[~np.isin(rows, earlier)]])
    starts = extend.round_starts if len(extend.round_starts) or not len(initial) else np.zeros(1, np.int64)
    return initial, starts.astype(np.int64)


def _with_quota(constraints: Constraints, columns: Any, quota: Quota, rows: int | None) -> Constraints:
    """Group the rows by the quota's column, and limit the rows of each group; `rows` is None for a budget in costs."""
    quotas = Quotas.parse(quota, columns, len(constraints.group))
    groups = len(quotas.names)
    allowed = quotas.rows(np.bincount(quotas.group[constraints.pool], minlength=groups), rows)
    exceeded = np.flatnonzero(np.bincount(quotas.group[constraints.initial], minlength=groups) > allowed)
    if len(exceeded):
        raise ValueError(
            f"`must_include` and `extend` have more rows of {quotas.names[exceeded[0]]} than `quota` allows"
        )
    if not allowed.sum():
        raise ValueError("`quota` allows no row; raise it")
    if rows is not None and quotas.limits is not None and allowed.sum() < rows:
        raise ValueError(f"`quota` allows {allowed.sum()} rows, but `budget={rows}`; raise a quota or lower it")
    unlimited = np.full(groups, np.inf)
    return replace(constraints, group=quotas.group, max_per_group=allowed, max_cost_per_group=unlimited, quotas=quotas)


def _costs(name: Any, columns: Any, n: int) -> Floats:
    """Return a column of positive numbers."""
    costs = column_numbers("cost", name, columns, n)
    if len(zero := np.flatnonzero(costs == 0)):
        raise ValueError(f"column `{name}` (from `cost`) is 0 in row {zero[0]}; a cost must be above 0")
    return costs
