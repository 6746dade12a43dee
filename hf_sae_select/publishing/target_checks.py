"""Checks of the target that a published subset was selected towards: each returns the first difference, or None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..selection.targets import Part, Target
from .checks import DEVICE_TOLERANCE, SUM_TOLERANCE, is_close
from .layout import RECORD_FILE

NUMBERS = {"holders": "rows", "total": "mass", "activation": "activation", "sums": "closeness"}


def of_target(recorded: Target, again: Target) -> str | None:
    """Compare what was recorded of a target with that of its rows encoded again, both as they were recorded.

    Another device may compute slightly other features, and so another digest: then the sums tell.
    """
    for one, other in zip(recorded.parts, again.parts, strict=True):
        place = _place(one.name)
        if one.rows != other.rows or one.size != other.size:
            return (
                f"{place} has {one.rows:,} rows, {one.size:,} with features; again {other.rows:,} and {other.size:,}"
            )
        is_same = one.sha256 == other.sha256
        if difference := _of_sums(one, other, SUM_TOLERANCE if is_same else DEVICE_TOLERANCE):
            return f"{place}: {difference}"
        if not is_same and _of_sums(one, other, SUM_TOLERANCE) is None:
            return f"{place} has features of SHA-256 {other.sha256}, recorded is {one.sha256}"
    return None


def of_digests(recorded: Sequence[Mapping[str, Any]], again: Target) -> str | None:
    """Compare the digests of the features of a target, of which nothing else was recorded."""
    for one, other in zip(recorded, again.parts, strict=True):
        if one["sha256"] != other.sha256:
            return (
                f"{_place(other.name)} has features of SHA-256 {other.sha256}, recorded is {one['sha256']} (another "
                "device may compute slightly other features)"
            )
    return None


def _place(name: str) -> str:
    return f"target {name!r}" if name else "the target"


def _of_sums(one: Part, other: Part, tolerance: float) -> str | None:
    """Return the first sum over the rows of a target that two records of it do not share."""
    for name in ("holders", "total", "activation", "sums"):
        recorded, again = getattr(one, name), getattr(other, name)
        if recorded is None or again is None:
            if recorded is not again:
                return f"only one of the two has `{name}`"
            continue
        differ = np.flatnonzero(~np.isclose(recorded, again, rtol=tolerance, atol=tolerance * 1e-3))
        if len(differ):
            place, what = differ[0], "row" if name == "sums" else "feature"
            return f"`{NUMBERS[name]}` of {what} {place} is {recorded[place]}, again {again[place]}"
    return None


def of_measured(recorded: Mapping[str, Any], again: Mapping[str, Any], tolerance: float = SUM_TOLERANCE) -> str | None:
    """Compare what was measured of a selection towards its target with what is measured again."""
    place = _first_difference(recorded, again, tolerance)
    return None if place is None else f"{place[0]} of the target is {place[1]} in {RECORD_FILE}, again {place[2]}"


def _first_difference(one: Any, other: Any, tolerance: float, path: str = "") -> tuple[str, Any, Any] | None:
    """Return the path of the first value in which two JSON values differ, and both values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        pairs = [(f"{path}.{name}".lstrip("."), one[name], other[name]) for name in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{path}[{i}]", *both) for i, both in enumerate(zip(one, other, strict=True))]
    else:
        return None if is_close(one, other, tolerance) else (f"`{path}`", one, other)
    differences = (_first_difference(a, b, tolerance, name) for name, a, b in pairs)
    return next((difference for difference in differences if difference is not None), None)
