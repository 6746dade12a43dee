"""Checks of arguments. Each error names the argument in backticks, what was passed and what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def is_number(value: Any, kind: Any = Real) -> bool:
    """Tell whether `value` is a finite number of a `kind`, and not a truth value."""
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    return isinstance(value, Integral) or bool(abs(value) < math.inf)  # an integer may be beyond floating point


def check_int(name: str, value: Any, least: int = 1, optional: bool = False) -> None:
    """Check that `value` is an integer of at least `least`.

    Raises:
        ValueError: it is not; None passes where `optional`.
    """
    if (optional and value is None) or (is_number(value, Integral) and value >= least):
        return
    kind = {0: "a non-negative integer", 1: "a positive integer"}.get(least, f"an integer of at least {least}")
    raise ValueError(f"`{name}={value!r}` must be {kind}{', or None' if optional else ''}")


def check_number(name: str, value: Any, interval: str, optional: bool = False) -> None:
    """Check that `value` is a finite number in an interval in mathematical notation.

    Raises:
        ValueError: it is not; None passes where `optional`.

    Example: ``check_number("max_share", 0.1, "(0, 1)")``, ``check_number("threshold", 0, "[0, inf)")``.
    """
    if optional and value is None:
        return
    low, high = map(float, interval[1:-1].split(","))
    if is_number(value):
        above = low <= value if interval[0] == "[" else low < value
        below = value <= high if interval[-1] == "]" else value < high
        if above and below:
            return
    raise ValueError(f"`{name}={value!r}` must be a finite number in {interval}{', or None' if optional else ''}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Check that `value` is one of `choices`.

    Raises:
        ValueError: it is not; the choices are listed.
    """
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        names = list(map(str, choices))
        near = difflib.get_close_matches(str(value), names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown `{name}={value!r}`; choose one of: {', '.join(names)}{hint}")


def check_text(name: str, value: Any, types: type | tuple[type, ...] = str, optional: bool = False) -> None:
    """Check that `value` is a text, or of one of `types`, such as a path, and is not empty.

    Raises:
        TypeError: it is of another type; None passes where `optional`.
        ValueError: it is empty.
    """
    types = types if isinstance(types, tuple) else (types,)
    check_type(name, value, types, f"of type {' or '.join(kind.__name__ for kind in types)}", optional)
    if value is not None and not str(value).strip():
        raise ValueError(f"`{name}={value!r}` is empty")


def check_flag(name: str, value: Any) -> None:
    """Check that `value` is True or False.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, bool):
        raise ValueError(f"`{name}={value!r}` must be True or False")


def check_type(name: str, value: Any, types: Any, allowed: str, optional: bool = False) -> None:
    """Check that `value` has one of `types`, which an error calls `allowed`.

    Raises:
        TypeError: it has not; None passes where `optional`.
    """
    if not (isinstance(value, types) or (optional and value is None)):
        raise TypeError(f"`{name}={value!r}` must be {allowed}{', or None' if optional else ''}")


def is_hub_id(name: str) -> bool:
    """Tell whether `name` can be the id of a repo on the Hub; paths such as `./x`, `a/b/c` and `C:\\x` cannot."""
    # Costs no import where nothing is read from the Hub.
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported lazily

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
