"""Run: a checked request and features to the Selection, whichever function asked."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..features.columns import STATE, encoding_record, flagged_rows, is_encoded
from ..features.matrix import FeatureMatrix
from .outcome import check_blank, check_extended, check_result, measured, shortfall, warn_of_no_features, worth_buying
from .request import SelectionRequest
from .result import Selection
from .targets import Target

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset


def run_on_dataset(request: SelectionRequest, encoded: Dataset, target: Target | None = None) -> Selection:
    """Select among the rows of an encoded dataset, or of one whose vectors are enough."""
    encoding, features = {}, read_features(request, encoded)
    if is_encoded(encoded):
        encoding = encoding_record(encoded)
        if counts := flagged_rows(encoded):
            encoding["rows"] = counts
        check_blank(request, features)
    cuts = request.cuts.resolve(request.method, encoding.get("threshold", 0.0))
    if target is not None:
        target = target.cut(cuts, features, request.constraints.excluded)
    features = cuts.apply(features, request.constraints.excluded)
    if is_encoded(encoded):
        warn_of_no_features(request, features, cuts.record())
    return run(request, features, cuts.record(), encoding, target)


def read_features(request: SelectionRequest, encoded: Dataset) -> FeatureMatrix:
    """Read the features of an encoded dataset, with the vectors that are compared; or these alone."""
    if not is_encoded(encoded):
        return request.vectors or FeatureMatrix.from_dataset(encoded)
    features = FeatureMatrix.from_dataset(encoded, vectors=STATE if request.keep else None)
    return features if request.vectors is None else replace(features, vectors=request.vectors.vectors)


def run(
    request: SelectionRequest,
    features: FeatureMatrix,
    cuts: dict[str, Any] | None = None,
    encoding: dict[str, Any] | None = None,
    target: Target | None = None,
) -> Selection:
    """Select among rows by their features; `cuts` and `encoding` say how these came about, for the result."""
    rows, constraints = request.bind(features.tokens)
    constraints.check_buys(request.budget, worth_buying(request, features))
    selection = check_result(
        request.name, request.run(features, rows, constraints, target), rows, len(features), constraints
    )
    amount = constraints.max_cost if constraints.has_costs else rows
    selection = replace(
        measured(selection, features, constraints),
        method=request.name,
        parameters=request.record(amount, cuts or {}, encoding or {}, target),
        pool_rows=len(features),
    )
    check_extended(request.arguments.extend, selection)
    if words := shortfall(selection, rows, constraints, features):
        settings = {"method": request.name, **request.options}
        named = ", ".join(f"`{name}={value!r}`" for name, value in settings.items())
        warnings.warn(f"{named}: {words}; returning {len(selection)} rows", stacklevel=3)
    return selection
