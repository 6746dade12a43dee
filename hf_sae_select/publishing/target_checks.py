"""Checks of the target that a published subset was selected towards: each returns the first difference, or None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from ..features.matrix import FeatureMatrix
from ..features.shares import STRONGEST
from ..selection.attachment import Pool
from ..selection.result import Selection
from ..selection.target_argument import argument_name
from ..selection.target_comparison import untargeted_picks
from ..selection.target_distance import DISTANCES, distance_of
from ..selection.targets import Part, Target, TargetPart
from .checks import SUM_TOLERANCE, is_close
from .devices import DEVICE_TOLERANCE
from .layout import RECORD_FILE
from .provenance import Record

NUMBERS = {"holders": "rows", "total": "mass", "activation": "activation", "sums": "closeness"}


def of_target(recorded: Target, again: Target) -> str | None:
    """Compare what was recorded of a target with that of its rows encoded again, both as they were recorded.

    The digest tells. Another device may compute slightly other features, and so another digest: then the sums tell.
    """
    parts = list(zip(recorded.parts, again.parts, strict=True))
    for one, other in parts:  # all digests first: the sums of one part depend on the others
        if one.sha256 != other.sha256 and not _is_of_device(one, other):
            return _is_another(other, one.sha256)
    is_same = all(one.sha256 == other.sha256 for one, other in parts)
    for one, other in parts:
        place = f"`{argument_name(one.name)}`"
        if not _has_sizes(one, other):
            return (
                f"{place} has {one.rows:,} rows, {one.size:,} with features; again {other.rows:,} and {other.size:,}"
            )
        if difference := _of_sums(one, other, SUM_TOLERANCE if is_same else DEVICE_TOLERANCE):
            return f"{place}: {difference}"
    return None


def of_digests(recorded: Sequence[Mapping[str, Any]], again: Target) -> str | None:
    """Compare the digests of the features of a target, of which nothing else was recorded."""
    for one, other in zip(recorded, again.parts, strict=True):
        if one["sha256"] != other.sha256:
            return f"{_is_another(other, one['sha256'])} (another device may compute slightly other features)"
    return None


def _is_another(part: Part, recorded: str) -> str:
    return (
        f"`{argument_name(part.name)}` is not the one that the rows were selected towards: its features have the "
        f"SHA-256 {part.sha256}, and the record has {recorded}"
    )


def _has_sizes(one: Part, other: Part) -> bool:
    return one.rows == other.rows and one.size == other.size


def _is_of_device(one: Part, other: Part) -> bool:
    """Tell whether two targets differ as one does by the device that encodes it: in sums, and by little."""
    is_near = _has_sizes(one, other) and _of_sums(one, other, DEVICE_TOLERANCE) is None
    return is_near and _of_sums(one, other, SUM_TOLERANCE) is not None


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


def of_record(record: Record) -> str | None:
    """Check that what was measured of a target has the targets and the left-out rows of the parameters."""
    parameters, measured = record["selection"]["parameters"], record["target"]["measured"]
    left_out = parameters["constraints"].get("left_out", {}).get("overlap", [])
    counted = measured.get("overlap", {}).get("left_out", 0)
    if counted != len(left_out):
        return f"`overlap.left_out` of the target is {counted} in {RECORD_FILE}, the parameters have {len(left_out)}"
    named = [{name: part.get(name) for name in parameters["target"][0]} for part in measured.get("parts", ())]
    if named and named != parameters["target"]:
        return f"the `parts` of the target in {RECORD_FILE} are not those of the parameters"
    return None


def of_distances(
    selection: Selection,
    pool: Dataset,
    target: Target,
    untargeted: Mapping[str, Any] | None,
    is_whole: bool,
    tolerance: float,
) -> str | None:
    """Compare the recorded distances to the target with those measured again, as far as features and target tell them.

    The distances are of the 256 strongest features of a row, whatever the cuts of the selection; see
    `selection/target_distance.py`. Of a target that was recorded, only the distance in features is known.

    Args:
        untargeted: the recorded distances of picks without the target.
        is_whole: whether the features of the pool are not cut.
    """
    recorded = {**selection.target.get("distances", {}), **({} if untargeted is None else {"untargeted": untargeted})}
    has_rows, cuts = all(isinstance(part, TargetPart) for part in target.parts), selection.parameters["cuts"]
    if not recorded or not (is_whole or has_strongest(cuts)) or not (has_rows or are_strongest(cuts)):
        return None
    distance = distance_of(selection, FeatureMatrix.from_dataset(pool), target)
    rows = {"subset": selection.indices, "random": distance.random(len(selection)), "pool": distance.pool}
    if untargeted is not None:
        rows["untargeted"] = untargeted_picks(selection, Pool(pool))
    again = {name: distance.of(own) for name, own in rows.items()}
    names = DISTANCES if has_rows else ("hellinger",)
    one, other = (
        {own: {name: values[own].get(name) for name in names} for own in again if own in values}
        for values in (recorded, again)
    )
    return of_measured({"distances": one}, {"distances": other}, tolerance)


def of_missing(selection: Selection, pool: Dataset, target: Target, tolerance: float) -> str | None:
    """Compare the recorded features of the target that no row has with those of rows and target encoded again."""
    again = distance_of(selection, FeatureMatrix.from_dataset(pool), target).missing()
    return of_measured({"missing": selection.target.get("missing", {})}, {"missing": again}, tolerance)


def are_strongest(cuts: Mapping[str, Any]) -> bool:
    """Tell whether a selection read the 256 strongest features of each row."""
    return bool(cuts["threshold"] == 0 and cuts["top"] == STRONGEST and cuts["max_share"] is None)


def has_strongest(cuts: Mapping[str, Any]) -> bool:
    """Tell whether the published features of a pool have the 256 strongest of each row."""
    is_cut = cuts["max_share"] is None and cuts["top"] is not None and cuts["top"] < STRONGEST
    return bool(cuts["threshold"] == 0 and not is_cut)


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
