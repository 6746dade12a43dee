"""Devices: what may differ where another device encodes the rows again, and what picks must still be worth.

Another processor or another precision computes slightly different activations. A method that decides by sums of them
then picks other rows that are as good: relative noise of 1e-4 leaves `herding` about a quarter of its picks, and
changes the sum of its gains by less than 1 in 10,000. So picks are compared by what the method gains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats
from ..features.matrix import FeatureMatrix
from ..selection.budget import Budget
from ..selection.cuts import Cuts
from ..selection.methods import METHODS
from ..selection.request import SelectionRequest, arguments_of
from ..selection.result import Selection
from ..selection.run import run_on_dataset
from ..selection.targets import Target
from .replay import without_warnings

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

DEVICE_TOLERANCE = 1e-2  # relative; activations differ a little from device to device
WEAK = 1e-3  # of a row's largest activation: weaker ones may differ by so much
LEAST_WORTH = 0.95  # of what a method gains over random rows


def has_equal_codes(published: FeatureMatrix, again: FeatureMatrix) -> bool:
    """Tell whether two matrices have the same features, activations and tokens, bit for bit."""
    names = ("offsets", "ids", "acts", "tokens")
    return all(np.array_equal(getattr(published, name), getattr(again, name)) for name in names)


def of_codes(published: FeatureMatrix, again: FeatureMatrix, cuts: Mapping[str, Any]) -> str | None:
    """Compare the published features of all rows with those of the rows encoded again.

    A feature that only one of the two has must be one that the cuts nearly left out, or nearly left in.
    """
    if len(published) != len(again):
        return f"features of {len(published):,} rows are published, but the source has {len(again):,} rows"
    for row in np.flatnonzero(published.tokens != again.tokens)[:1]:
        return f"row {row} of the source has {published.tokens[row]} tokens published and {again.tokens[row]} again"
    one, other = _keys(published), _keys(again)
    for with_it, without, only in (
        (published, again, np.flatnonzero(~np.isin(one, other, assume_unique=True))),
        (again, published, np.flatnonzero(~np.isin(other, one, assume_unique=True))),
    ):
        if difference := _of_missing(with_it, without, only, cuts):
            row, feature, act = difference
            return (
                f"row {row} of the source has {published.counts[row]} published features and {again.counts[row]} when "
                f"encoded again; the first that only one has is #{feature} (at {act:g}; another device may differ in "
                "features at the threshold)"
            )
    return _of_activations(published, again, np.isin(one, other, assume_unique=True), np.isin(other, one))


def _keys(features: FeatureMatrix) -> NDArray[np.int64]:
    """Return a number for the row and the feature of each entry, ascending: [nnz]."""
    return np.repeat(np.arange(len(features)) * features.d_sae, features.counts) + features.ids


def _rows_of(features: FeatureMatrix, entries: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.searchsorted(features.offsets, entries, side="right") - 1


def _largest(features: FeatureMatrix) -> NDArray[np.float32]:
    """Return the largest activation of each row, 0 without features: [n]."""
    return _of_rows(np.maximum, features)


def _of_rows(reduce: np.ufunc, features: FeatureMatrix) -> NDArray[np.float32]:
    has_features, values = features.counts > 0, np.zeros(len(features), np.float32)
    if has_features.any():
        values[has_features] = reduce.reduceat(features.acts, features.offsets[:-1][has_features])
    return values


def _of_missing(
    with_it: FeatureMatrix, without: FeatureMatrix, entries: NDArray[np.int64], cuts: Mapping[str, Any]
) -> tuple[int, int, float] | None:
    """Return the first of some entries of one matrix that the other cannot lack: row, feature and activation."""
    rows, acts = _rows_of(with_it, entries), with_it.acts[entries]
    top = np.inf if cuts["top"] is None else cuts["top"]
    is_full = ((without.counts >= top) & (with_it.counts <= top))[rows]
    weakest = np.where(is_full, _of_rows(np.minimum, without)[rows], 0)
    limits = np.maximum(cuts["threshold"] or 0, weakest) + DEVICE_TOLERANCE * _largest(with_it)[rows]
    for i in np.flatnonzero(acts > limits)[:1]:
        return int(rows[i]), int(with_it.ids[entries[i]]), float(acts[i])
    return None


def _of_activations(
    published: FeatureMatrix, again: FeatureMatrix, in_again: NDArray[np.bool_], in_published: NDArray[np.bool_]
) -> str | None:
    """Compare the activations of the features that both have."""
    entries = np.flatnonzero(in_again)
    one, other, rows = published.acts[entries], again.acts[in_published], _rows_of(published, entries)
    weak = WEAK * _largest(published)[rows]
    for i in np.flatnonzero(np.abs(one - other) > DEVICE_TOLERANCE * other + weak)[:1]:
        return (
            f"feature #{published.ids[entries[i]]} of row {rows[i]} of the source has the activation {one[i]:g} "
            f"published and {other[i]:g} when encoded again"
        )
    return None


def judged(
    name: str, difference: str, selection: Selection, again: Selection, pool: Dataset, target: Target | None
) -> tuple[str, str | None]:
    """Judge picks that differ from those of another device by what they are worth: the check's name, and difference.

    Raises:
        ValueError: The recorded picks break a constraint.
    """
    worth = worth_of_picks(selection, again, pool, target)
    if worth is None:
        return name, difference
    says = f"the recorded rows gain {worth:.1%} of what this device's gain over random rows"
    if worth < LEAST_WORTH:
        return name, f"{difference}; {says}, at least {LEAST_WORTH:.0%} is expected"
    other = len(set(selection.indices.tolist()) - set(again.indices.tolist()))
    differ = f"picks {other:,} of {len(selection):,} rows otherwise" if other else "picks them in another order"
    return f"{name} (this device {differ}; {says})", None


def worth_of_picks(selection: Selection, again: Selection, pool: Dataset, target: Target | None) -> float | None:
    """Return what the recorded picks gain over random rows by the features of `pool`, as a share of what `again` does.

    It is None for methods that scan or draw: which rows they pick is all that they promise.

    Raises:
        ValueError: The recorded picks break a constraint.
    """
    if selection.method not in METHODS or not METHODS[selection.method].gains_decide:
        return None
    chance = _gained(selection, _random(selection, pool), pool, target)
    most, own = _gained(selection, again, pool, target), _gained(selection, selection, pool, target)
    return (own - chance) / (most - chance) if most > chance else float(own >= most)


def _random(selection: Selection, pool: Dataset) -> Selection:
    """Return random rows by the constraints of a selection."""
    arguments = arguments_of(selection) | {"options": {}, "cuts": Cuts(), "has_target": False}
    arguments["concepts"] = replace(arguments["concepts"], boost=())
    return _run(pool, None, method="random", **arguments)[0]


def _gained(selection: Selection, picks: Selection, pool: Dataset, target: Target | None) -> float:
    """Return what picks score, one after another, by the method and parameters of a selection."""
    arguments = arguments_of(selection)
    arguments["extend"] = Selection(picks.indices, np.zeros(len(picks)), picks.round_starts)
    if not isinstance(arguments["budget"], Budget):
        arguments["budget"] = len(picks)
    replayed, scale = _run(pool, target, method=selection.method, **arguments)
    return float((replayed.gains * scale[replayed.indices])[: len(picks)].sum())


def _run(pool: Dataset, target: Target | None, **arguments: Any) -> tuple[Selection, Floats]:
    """Select; return the factor of each row's gain too."""
    with without_warnings():
        request = SelectionRequest.parse(len(pool), pool, **arguments)
        scale = request.bind(FeatureMatrix.from_dataset(pool).tokens)[1].scale
        return run_on_dataset(request, pool, target), scale
