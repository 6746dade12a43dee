"""Budget: how much may be selected, in rows or in what rows cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from numbers import Integral, Real
from typing import Any

from .._validation import is_number

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:_\d+)*(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+"
AMOUNT = re.compile(rf"({NUMBER})(\s*)(.*)", re.ASCII | re.IGNORECASE)
PERCENT = re.compile(r"%\s*(?:of\s+)?(?:all\s+)?(?:the\s+)?(.*)", re.IGNORECASE)
SUFFIX = re.compile(r"([kmb])(?:\s+(.+)|(tokens?|rows?))", re.IGNORECASE)
SUFFIXES = {"k": 10**3, "m": 10**6, "b": 10**9}
UNITS = {"token": "tokens", "tokens": "tokens", "row": "rows", "rows": "rows"}  # in capitals or not
EXAMPLES = "an amount such as '200k tokens', '3000 rows' or '10%'"
# A budget buys rows that cost exactly as much: sums of fractions differ from it in the last digits.
TOLERANCE = 1 + 1e-9
LARGEST = 1e50  # of an amount, and of a number in a column: sums and products of such numbers do not overflow


@dataclass(frozen=True)
class Budget:
    """Hold a budget as it was passed, checked as far as it can be without the rows.

    Example: ``Budget.parse("200k tokens", None)`` is ``Budget(200000.0, "tokens", is_fraction=False)``.
    """

    amount: float
    """A number of rows, an amount of `unit`, or a fraction of either."""
    unit: str | None
    """What is counted: "tokens" or the name of a column; None for rows."""
    is_fraction: bool

    @classmethod
    def parse(cls, budget: Any, cost: str | None) -> Budget:
        """Parse a number of rows, a fraction, or an amount such as "200k tokens".

        Raises:
            TypeError: `budget` is neither a number nor a text.
            ValueError: it is not positive, not a fraction, not an amount, or counts something else than `cost`.
        """
        if isinstance(budget, Budget):
            return budget
        if cost is not None and not isinstance(cost, str):
            raise TypeError(f"`cost` is a {type(cost).__name__}; it must be 'tokens' or the name of a column")
        if isinstance(budget, str):
            return cls._parse_text(budget, cost)
        if isinstance(budget, bool) or not isinstance(budget, Real):
            raise TypeError(f"`budget={budget!r}` must be a number of rows, a fraction such as 0.1, or '200k tokens'")
        number = int(budget) if isinstance(budget, Integral) else float(budget)
        if is_number(number) and number > LARGEST:
            raise ValueError(f"`budget` is above {LARGEST:g}, the largest that is allowed")
        if cost is not None:
            if not (is_number(number) and number > 0):
                raise ValueError(f"`budget={budget!r}` must be an amount of {cost} above 0, or a fraction of all")
            return cls(number, cost, is_fraction=bool(number < 1))
        if isinstance(budget, Integral):
            return cls(number, None, is_fraction=False)
        if not 0 < number < 1:
            raise ValueError(
                f"`budget={budget}` must be a fraction between 0 and 1, both excluded, or an integer; "
                "for all rows pass '100%'"
            )
        return cls(number, None, is_fraction=True)

    @classmethod
    def _parse_text(cls, budget: str, cost: str | None) -> Budget:
        match = AMOUNT.fullmatch(budget.strip()) if len(budget) < 100 else None
        if match is None:
            raise ValueError(f"`budget={budget!r}` must be {EXAMPLES}")
        number, space, rest = match.groups()
        _check_point(budget, number, rest)
        is_fraction, factor, unit = False, Decimal(1), rest
        if percent := PERCENT.fullmatch(rest):
            is_fraction, factor, unit = True, Decimal("0.01"), percent[1]
        elif suffix := SUFFIX.fullmatch(rest):
            factor, unit = Decimal(SUFFIXES[suffix[1].lower()]), suffix[2] or suffix[3]
        elif not space and rest.lower() in SUFFIXES:
            factor, unit = Decimal(SUFFIXES[rest.lower()]), ""
        elif rest and not space and rest.lower() not in UNITS:
            raise ValueError(f"`budget={budget!r}` must be {EXAMPLES}, with a space before the name of a column")
        amount, unit = _amount(budget, number, factor), _unit(budget, unit, cost, "rows" if is_fraction else "")
        if is_fraction and amount > 1:
            raise ValueError(f"`budget={budget!r}` is more than all; pass at most '100%'")
        if not is_fraction and unit == "tokens" and amount < 1:
            raise ValueError(f"`budget={budget!r}` is less than a token; for a share of all tokens write '50% tokens'")
        if is_fraction or unit != "rows":
            return cls(float(amount), None if unit == "rows" else unit, is_fraction)
        if amount != int(amount):
            raise ValueError(f"`budget={budget!r}` must be a whole number of rows")
        return cls(int(amount), None, is_fraction=False)

    def rows(self, n: int) -> int:
        """Return the number of rows, from 1 to `n`, that a budget in rows allows.

        Raises:
            ValueError: `n` is 0, less than the budget, or so small that the fraction is no row.
        """
        if n == 0:
            raise ValueError("the dataset is empty: there is no row to select")
        if self.is_fraction:
            if not (rows := round(self.amount * n)):
                raise ValueError(
                    f"`budget={self.amount:.12g}` of {n:,} rows is no row; "
                    f"pass at least {_rounded_up(1 / n)}, or the number 1"
                )
            return rows
        if not 1 <= self.amount <= n:
            raise ValueError(
                f"`budget={self.amount}` but the dataset has {n:,} rows; pass 1 to {n}, or a fraction such as 0.1"
            )
        return int(self.amount)

    def cost(self, total: float) -> float:
        """Return the amount of `unit` that may be spent, where all rows together cost `total`.

        Raises:
            ValueError: all rows together cost less.
        """
        amount = float(self.amount) * total if self.is_fraction else float(self.amount)
        if not 0 < amount <= total * TOLERANCE:
            raise ValueError(
                f"`budget={self.amount:.12g}` but all rows together have {total:.12g} {self.unit}; pass at most that"
            )
        return amount

    def least(self, cost: float, total: float) -> str:
        """Return the smallest budget, as text, that buys a row of this `cost` where all rows cost `total`."""
        return f"{_rounded_up(cost / total)}" if self.is_fraction else f"{cost:.12g}"


def _check_point(budget: str, number: str, rest: str) -> None:
    """Check that a point in a number of tokens or rows is not for thousands."""
    if re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", number) and rest.lower() in UNITS:
        raise ValueError(
            f"`budget={budget!r}`: a point is for fractions; write {number.replace('.', ',')!r} for thousands"
        )


def _amount(budget: str, number: str, factor: Decimal) -> Decimal:
    """Return an amount, exactly."""
    try:
        amount = Decimal(re.sub("[_,]", "", number)) * factor
    except DecimalException:  # such as an exponent of twenty digits
        amount = Decimal("inf")
    if not 0 < amount <= Decimal(LARGEST):
        raise ValueError(f"`budget={budget!r}` must be {EXAMPLES}, above 0 and at most {LARGEST:g}")
    return amount


def _unit(budget: str, unit: str, cost: str | None, default: str) -> str:
    """Return what an amount counts: "rows", "tokens" or the name of a column."""
    unit = unit or cost or default
    unit = unit if unit == cost else UNITS.get(unit.lower(), unit)
    if not unit:
        amount = budget.strip()
        raise ValueError(f"`budget={budget!r}` does not say of what; write '{amount} rows' or '{amount} tokens'")
    if cost not in (None, unit):
        raise ValueError(f"`budget={budget!r}` counts {unit}, but `cost={cost!r}`; leave `cost` out")
    return unit


def _rounded_up(fraction: float) -> float:
    """Round a fraction up to three digits."""
    digits = 2 - math.floor(math.log10(fraction))
    return float(math.ceil(round(fraction * 10**digits, 6)) / 10**digits)
