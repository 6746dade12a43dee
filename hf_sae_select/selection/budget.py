"""Budget: how much may be selected, in rows or in what rows cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from .._validation import is_number

AMOUNT = re.compile(r"\s*(\d{1,3}(?:,\d{3})+|\d[\d_]*)(\.\d+)?\s*([kKmMbB]?)\s+(\S.*?)\s*")
SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
# A budget buys rows that cost exactly as much: sums of fractions differ from it in the last digits.
TOLERANCE = 1 + 1e-9


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
        if isinstance(budget, str):
            return cls._parse_text(budget, cost)
        if cost is not None:
            if not (is_number(budget) and budget > 0):
                raise ValueError(f"`budget={budget!r}` must be an amount of {cost} above 0, or a fraction of all")
            return cls(budget, cost, is_fraction=bool(budget < 1))
        if isinstance(budget, bool) or not isinstance(budget, Real):
            raise TypeError(f"`budget={budget!r}` must be a number of rows, a fraction such as 0.1, or '200k tokens'")
        if isinstance(budget, Integral):
            return cls(int(budget), None, is_fraction=False)
        if not 0 < (fraction := float(budget)) < 1:
            raise ValueError(f"`budget={budget}` must be a fraction between 0 and 1, both excluded, or an integer")
        return cls(fraction, None, is_fraction=True)

    @classmethod
    def _parse_text(cls, budget: str, cost: str | None) -> Budget:
        match = AMOUNT.fullmatch(budget) if len(budget) < 100 else None
        number = Decimal(re.sub("[_,]", "", match[1]) + (match[2] or "")) if match else Decimal(0)
        if not match or number <= 0:
            raise ValueError(f"`budget={budget!r}` must be an amount such as '200k tokens' or '3000 rows'")
        amount, unit = number * SUFFIXES[match[3].lower()], match[4]
        if cost not in (None, unit):
            raise ValueError(f"`budget={budget!r}` counts {unit}, but `cost={cost!r}`; leave `cost` out")
        if unit != "rows":
            return cls(float(amount), unit, is_fraction=False)
        if amount != int(amount):
            raise ValueError(f"`budget={budget!r}` must be a whole number of rows")
        return cls(int(amount), None, is_fraction=False)

    def rows(self, n: int) -> int:
        """Return the number of rows, from 1 to `n`, that a budget in rows allows.

        Raises:
            ValueError: `n` is 0 or less than the budget.
        """
        if n == 0:
            raise ValueError("the dataset is empty: there is no row to select")
        if self.is_fraction:
            return max(1, round(self.amount * n))
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
        if not 0 < amount <= total * TOLERANCE or math.isinf(amount):
            raise ValueError(
                f"`budget={self.amount:.12g}` but all rows together have {total:.12g} {self.unit}; pass at most that"
            )
        return amount
