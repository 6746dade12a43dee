"""Columns that constraints name: one value a row, read from anything that is subscripted by names, and checked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from .._validation import is_number
from ..features.kernels import Floats
from .budget import LARGEST

LEAST = 1 / LARGEST  # of a number above 0


def column_values(argument: str, name: Any, columns: Any, n: int) -> list[Any]:
    """Return the values of a column that an `argument` names.

    Raises:
        TypeError: If it holds something else than plain values, such as lists or images.
        ValueError: If there is no such column, it has not `n` values, or Python cannot hold one of them.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"`{argument}` is a {name.__class__.__name__}; it must name a column: pass `columns={{'name': values}}`"
        )
    names = getattr(columns, "column_names", None) or list(columns)
    if name not in names:
        known = ", ".join(map(str, names)) or "no columns: pass `columns={'name': values}`"
        raise ValueError(f"no column {name!r} (from `{argument}`); choose one of: {known}")
    type = getattr(columns, "features", {}).get(name)
    if type is not None and (not hasattr(type, "dtype") or not _is_plain(type)):
        raise TypeError(f"column `{name}` (from `{argument}`) holds {type}; it needs plain values, not lists or files")
    unformatted = columns.with_format(None) if hasattr(columns, "with_format") else columns
    try:
        values = list(unformatted[name][:])  # the slice: a Column of datasets reads row by row otherwise
    except (ValueError, OverflowError, pa.ArrowException) as error:  # such as the year 55840
        raise ValueError(
            f"column `{name}` (from `{argument}`) holds {type}, of which Python cannot hold a value: {error}; "
            "cast it to text first"
        ) from error
    if len(values) != n:
        raise ValueError(f"column `{name}` (from `{argument}`) has {len(values)} values, but there are {n} rows")
    return values


def column_numbers(argument: str, name: Any, columns: Any, n: int) -> Floats:
    """Return a column of numbers that are 0, or so large and small that sums and products do not overflow.

    Raises:
        TypeError, ValueError: If a value is something else; the message names the row.
    """
    values = column_values(argument, name, columns, n)
    if class_names(name, columns):
        raise TypeError(f"column `{name}` (from `{argument}`) holds classes; it must hold non-negative numbers")
    for i, value in enumerate(values):
        number = float(value) if isinstance(value, Decimal) else value
        if not (is_number(number) and number >= 0):
            raise ValueError(
                f"column `{name}` (from `{argument}`) is {value!r} in row {i}; it must be a non-negative number"
            )
        if number and not LEAST <= number <= LARGEST:
            raise ValueError(
                f"column `{name}` (from `{argument}`) is {Decimal(value):.3g} in row {i}; it must be 0, or from "
                f"{LEAST:g} to {LARGEST:g}: scale it"
            )
    return np.array(values, np.float64)


def class_names(name: Any, columns: Any) -> list[str]:
    """Return the names of the classes of a ClassLabel column; an empty list for other columns."""
    return list(getattr(getattr(columns, "features", {}).get(name), "names", None) or [])


def _is_plain(type: Any) -> bool:
    """Tell whether the type of a column is that of one value: a number, text, date, truth or class."""
    return hasattr(type, "names") or (type.__class__.__name__ == "Value" and "binary" not in type.dtype)
