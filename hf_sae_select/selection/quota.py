"""Quota: how many rows of each value of a column may be picked, or which share of the budget they get."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._validation import is_number
from ..features.kernels import Floats, Int64s
from .columns import class_names, column_values

Quota = str | Mapping[str, Mapping[Any, int | float | str]]
REST = "rest"
TO_ONE = 1 + 1e-9  # what shares may sum to: 0.7 + 0.2 + 0.1 is a little more than 1
KINDS = "a number of rows, a share of the budget such as 0.6, or 'rest'"


@dataclass(frozen=True, eq=False)
class Quotas:
    """Hold the groups of the rows, and what each group may have."""

    column: str
    group: Int64s
    """[n]: the group of each row."""
    names: list[str]
    """[groups]: the value of each group, for messages."""
    limits: Int64s | None
    """[groups]: the most rows of each, -1 for no limit; None where the budget is shared out."""
    shares: Floats
    """[groups]: the share of the budget of each; NaN for groups that share what is left."""

    @classmethod
    def parse(cls, quota: Any, columns: Any, n: int) -> Quotas:
        """Read the column of a quota, and check what each value may have.

        Raises:
            TypeError, ValueError: If the column or a value of it does not exist, or may have something else.
        """
        name, wanted = (quota, None) if isinstance(quota, str) else column_of(quota)
        group, distinct = grouped(name, columns, n)
        classes = class_names(name, columns)
        places = {value: g for g, value in enumerate(distinct)}
        names = [_shown(value, classes) for value in distinct]
        if wanted is None:
            return cls(name, group, names, None, np.full(len(distinct), np.nan))
        amounts = _amounts(name, wanted, places, names, _aliases(distinct, classes))
        if all(is_number(amount, Integral) for amount in amounts.values()):
            limits = np.array([min(amounts.get(g, -1), n) for g in range(len(distinct))], np.int64)
            return cls(name, group, names, limits, np.zeros(len(distinct)))
        return cls._of_shares(name, group, names, amounts)

    @classmethod
    def _of_shares(cls, name: str, group: Int64s, names: list[str], amounts: Mapping[int, Any]) -> Quotas:
        """Group the values without a share together: they get what is left, unless others are "rest"."""
        if numbers := [g for g, amount in amounts.items() if is_number(amount, Integral)]:
            raise ValueError(
                f"`quota` gives {names[numbers[0]]} {amounts[numbers[0]]!r} rows, but other values a share; "
                "give all of them rows, or all of them shares"
            )
        shared = [np.nan if amount == REST else float(amount) for amount in amounts.values()]
        if (total := np.nansum(shared)) > TO_ONE:
            raise ValueError(f"`quota` gives shares of {total:.12g} in all; they must be at most 1")
        others = len(shared)
        places = np.full(len(names), others, np.int64)
        places[list(amounts)] = np.arange(others)
        others_share = 0.0 if REST in amounts.values() or total * TO_ONE >= 1 else np.nan
        shown = [names[g] for g in amounts]
        return cls(name, places[group], [*shown, "other values"], None, np.array([*shared, others_share]))

    def rows(self, sizes: Int64s, budget: int | None) -> Int64s:
        """Return the most rows of each group, where they have `sizes`; `budget` is None where it is in costs.

        Shares of a budget in rows are exact: the groups' rows sum to the budget if there are enough.
        """
        if self.limits is not None:
            return np.where(self.limits < 0, sizes, np.minimum(self.limits, sizes))
        return sizes if budget is None else self._shared(sizes, budget, whole=True).astype(np.int64)

    def costs(self, totals: Floats, budget: float) -> Floats:
        """Return the most that the rows of each group may cost, where all rows of each cost `totals`."""
        return np.full(len(totals), np.inf) if self.limits is not None else self._shared(totals, budget, whole=False)

    def _shared(self, supply: NDArray[Any], budget: float, whole: bool) -> NDArray[Any]:
        """Share a budget out: first the shares, then what is left to the rest, as evenly as their supply allows."""
        is_rest = np.isnan(self.shares)
        shares = np.append(np.where(is_rest, 0.0, self.shares), 0.0)
        shares[-1] = max(0.0, 1 - shares.sum())  # of all that share the rest
        wanted = (rounded(shares, int(budget)) if whole else shares * budget)[:-1]
        self._check_supply(wanted, supply, budget)
        result: NDArray[Any] = np.minimum(wanted, supply)
        left = budget - result.sum()
        result[is_rest] = balanced(supply[is_rest], left, whole)
        if any(~is_rest) and is_rest.any() and (got := result[is_rest].sum()) * TO_ONE < left:
            names = ", ".join(self.names[g] for g in np.flatnonzero(is_rest))
            warnings.warn(
                f"`quota` wants {left:.12g} of the rest ({names}), but the dataset has {got:.12g}",
                stacklevel=2,
            )
        return result

    def _check_supply(self, wanted: NDArray[Any], supply: NDArray[Any], budget: float) -> None:
        """Warn of groups that are too small for their share."""
        is_rest = np.isnan(self.shares)
        if not supply[is_rest].sum() and self.shares[~is_rest].sum() * TO_ONE < 1:
            raise ValueError(
                f"`quota` gives shares of {self.shares[~is_rest].sum():.12g} in all, and column `{self.column}` has "
                "no rows of other values: let the shares sum to 1"
            )
        for g in np.flatnonzero(wanted > supply * TO_ONE):
            warnings.warn(
                f"`quota` wants {wanted[g]:.12g} of {self.names[g]}, {self.shares[g]:.6g} of the budget, but the "
                f"dataset has {supply[g]:.12g}",
                stacklevel=2,
            )


def grouped(name: str, columns: Any, n: int) -> tuple[Int64s, list[Any]]:
    """Return the group of each row by its value in a column, [n], and the value of each group, first seen first.

    All classes of a column of classes are values, by their numbers.

    Raises:
        TypeError, ValueError: As `column_values`.
    """
    values = column_values("quota", name, columns, n)
    # A missing number is NaN, which is not equal to itself: all are one value.
    values = [None if value != value else value for value in values]
    try:
        distinct = list(dict.fromkeys([*values, *range(len(class_names(name, columns)))]))
    except TypeError as error:
        raise TypeError(f"column `{name}` (from `quota`) holds lists; it needs plain values") from error
    places = {value: g for g, value in enumerate(distinct)}
    return np.array([places[value] for value in values], np.int64), distinct


def column_of(quota: Any) -> tuple[str, Mapping[Any, Any]]:
    """Return the column of a quota, and what its values may have.

    Raises:
        TypeError: If the quota has another form.
    """
    if not isinstance(quota, Mapping) or len(quota) != 1 or not isinstance(next(iter(quota.values())), Mapping):
        raise TypeError(f"`quota={quota!r}` must be {{'column': {{value: rows}}}}, of one column, or 'column'")
    return next(iter(quota.items()))


def _amounts(
    name: str, wanted: Mapping[Any, Any], places: Mapping[Any, int], names: list[str], aliases: Mapping[str, Any]
) -> dict[int, Any]:
    """Return what each group that is named may have."""
    amounts: dict[int, Any] = {}
    for value, amount in wanted.items():
        key = aliases.get(value, value) if isinstance(value, str) else None if value != value else value
        if key not in places:
            raise ValueError(f"`quota` has {value!r}, which is not in column `{name}`; it has: {_some(names)}")
        is_rows = is_number(amount, Integral) and amount >= 0
        is_share = is_number(amount, Real) and not isinstance(amount, Integral) and 0 < amount <= 1
        if not (is_rows or is_share or amount == REST):
            raise ValueError(
                f"`quota` gives {value!r} {amount!r}; it must be a non-negative integer, which is {KINDS}"
            )
        if places[key] in amounts:
            raise ValueError(f"`quota` has {names[places[key]]} twice, the second time as {value!r}")
        amounts[places[key]] = amount
    return amounts


def _aliases(distinct: Sequence[Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return texts that stand for a value: names of classes; dates and decimals, as they are recorded."""
    texts = {recorded(value): value for value in distinct if not isinstance(recorded(value), type(value))}
    return texts | {name: number for number, name in enumerate(classes)}


def recorded(value: Any) -> Any:
    """Return a value of a column as JSON holds it: dates and decimals as text, scalars of NumPy as plain ones."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _shown(value: Any, classes: Sequence[str]) -> str:
    is_class = isinstance(value, int) and 0 <= value < len(classes)
    return repr(classes[value] if is_class else recorded(value))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def rounded(shares: Floats, budget: int) -> Int64s:
    """Round shares of `budget` rows, which sum to 1, to whole rows that sum to it, those cut off most upwards.

    Example: shares [0.5, 0.3, 0.2] of 9 rows are 4.5, 2.7 and 1.8, and give [4, 3, 2].
    """
    exact = shares * budget
    rows = np.floor(exact + 1e-9).astype(np.int64)
    rows[np.argsort(rows - exact, kind="stable")[: max(0, budget - rows.sum())]] += 1
    return rows


def balanced(sizes: NDArray[Any], budget: float, whole: bool = True) -> NDArray[Any]:
    """Share a budget out over groups of these sizes as evenly as they allow, whole remainders to the largest groups.

    Example: sizes [10, 2, 9] and a budget of 9 give [4, 2, 3].
    """
    shares = np.zeros_like(sizes)
    smallest_first = np.argsort(-sizes, kind="stable")[::-1]
    for place, g in enumerate(smallest_first):  # what a small group leaves, the larger ones share
        part = (budget - shares.sum()) / (len(sizes) - place)
        shares[g] = min(sizes[g], np.floor(part) if whole else part)
    return shares
