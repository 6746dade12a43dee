"""Run: a checked request and features to the Selection, whichever function asked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._datasets import picklable
from ..features.columns import STATE, encoding_record, feature_counts, flagged_rows, is_encoded
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from .concept_rules import ConceptRules
from .cuts import Cuts
from .methods import METHODS
from .outcome import check_blank, check_extended, check_result, measured, shortfall, warn_of_no_features, worth_buying
from .request import SelectionRequest
from .result import Selection
from .sharded.features import Features
from .sharded.pool import ShardEngine, ThisProcess, of_dataset
from .sharded.vector_column import VectorColumn
from .target_argument import argument_name
from .targets import Target

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset


MANY_ROWS = 2**22  # of a pool whose codes stay in their files: of fewer rows they fit into memory


def run_on_dataset(
    request: SelectionRequest,
    encoded: Dataset,
    target: Target | None = None,
    features: Features | None = None,
) -> Selection:
    """Select among the rows of an encoded dataset, or of one whose vectors are enough.

    Args:
        features: what `read_features` returns, where it was called already; or all features in shards.
    """
    encoding: dict[str, Any] = {}
    if is_encoded(encoded):
        encoding = encoding_record(encoded)
        if counts := flagged_rows(encoded):
            encoding["rows"] = counts
        check_blank(request, feature_counts(encoded))
    calibrated = encoding.get("threshold", 0.0)
    cuts = request.cuts.resolve(request.method, calibrated)
    if rules := request.arguments.concepts.resolved(calibrated):
        read = features if isinstance(features, FeatureMatrix) else rules.read(encoded)
        request = by_concepts(request, read, calibrated)
    if target is not None:
        features = read_features(request, encoded) if features is None else features
        target = target.cut(cuts, features, request.constraints.excluded)
        _check_cut(target, cuts.record())
    features = _cut_features(request, encoded, cuts, features)
    if is_encoded(encoded):
        warn_of_no_features(request, features, cuts.record())
    return run(request, features, cuts.record(), encoding, target)


@contextmanager
def features_in_shards(
    request: SelectionRequest, dataset: Dataset, encoded: Dataset | None, engine: ShardEngine | None = None
) -> Iterator[Features | None]:
    """Yield the features of a pool in shards, of an engine, or of this process if the pool is large: its codes stay
    in their files.

    None for a smaller one without an engine, for methods that need all rows at once, and for the user's own.

    Args:
        dataset: the rows, with the column of vectors that the request names.
        encoded: their codes; None where the vectors are enough.
    """
    can_be_in_shards = METHODS.get(request.name) is request.method and request.method.in_shards
    if not can_be_in_shards or (engine is None and len(dataset) < MANY_ROWS):
        yield None
        return
    with of_dataset(encoded, engine or ThisProcess(), _vector_column(request, dataset, encoded)) as features:
        yield features


def _vector_column(request: SelectionRequest, dataset: Dataset, encoded: Dataset | None) -> VectorColumn | None:
    """Return the vectors that the method compares."""
    if not request.method.needs_vectors:
        return None
    embedding = request.cuts.embedding
    rows, name = (encoded, STATE) if embedding is None else (dataset, embedding)
    assert rows is not None
    return VectorColumn(picklable(rows.select_columns([name])), name)


def _cut_features(request: SelectionRequest, encoded: Dataset, cuts: Cuts, features: Features | None) -> Features:
    """Return what the method sees of features, which are read a block of rows at a time where they are not at hand."""
    excluded = request.constraints.excluded
    if features is None and is_encoded(encoded):
        return _with_vectors(request, cuts.read(encoded, STATE if request.keep else None, excluded))
    return cuts.apply(read_features(request, encoded) if features is None else features, excluded)


def _check_cut(target: Target, cuts: Mapping[str, Any]) -> None:
    """Check that each part of a target has a feature after the cuts."""
    for part in target.parts:
        if not part.size:
            passed = ", ".join(f"`{name}={value!r}`" for name, value in cuts.items() if value is not None)
            raise ValueError(
                f"no row of `{argument_name(part.name)}` has a feature after the cuts {passed}; pass others"
            )


def by_concepts(request: SelectionRequest, features: FeatureMatrix, calibrated: float = 0.0) -> SelectionRequest:
    """Return a request without the rows that its rules by concepts leave out; they are counted for the first rule.

    Args:
        features: the features of all rows, before any cut; those that the rules name are enough.
        calibrated: the SAE's calibrated threshold, for rules without a threshold of their own.

    Raises:
        ValueError: A rule leaves out a row that is picked first, or too few rows are left.
    """
    rules = request.arguments.concepts.resolved(calibrated)
    if not rules:
        return request
    alone = rules.left_out(features)
    _check_initial(request, rules, features, alone)
    left_out, gone = dict(request.arguments.left_out), np.zeros(len(features), np.bool_)
    gone[request.constraints.excluded] = True
    for rule, rows in alone.items():
        left_out[rule] = rows[~gone[rows]]
        gone[rows] = True
    _check_left(request, alone, len(features), int((~gone).sum()))
    return request.parsed_with(concepts=rules, left_out=left_out)


def _check_initial(
    request: SelectionRequest, rules: ConceptRules, features: FeatureMatrix, alone: Mapping[str, Int64s]
) -> None:
    """Check that no rule leaves out a row that is picked first."""
    extend = request.arguments.extend
    for rule, rows in alone.items():
        for row in request.constraints.initial[np.isin(request.constraints.initial, rows)][:1].tolist():
            argument = "extend" if extend is not None and row in extend.indices else "must_include"
            raise ValueError(
                f"`{argument}` picks row {row} first, but {rules.reason(rule, features, row)} (argument `{rule}`); "
                f"take the row out of `{argument}`, or change `{rule}`"
            )


def _check_left(request: SelectionRequest, alone: Mapping[str, Int64s], n: int, left: int) -> None:
    """Check that the rules leave enough rows for a budget in rows; a budget in costs is checked with the costs."""
    budget = request.budget
    needed = budget.amount if budget.unit is None and not budget.is_fraction else 1
    if left < needed:
        counts = ", ".join(f"`{rule}` alone leaves {n - len(rows):,}" for rule, rows in alone.items())
        remedy = "change the rules" if left == 0 else "lower the budget, or change the rules"
        raise ValueError(f"{left:,} of {n:,} rows are left, but `budget={budget.amount:g}`: {counts}; {remedy}")


def read_features(request: SelectionRequest, encoded: Dataset) -> FeatureMatrix:
    """Read the features of an encoded dataset, with the vectors that are compared; or these alone."""
    if not is_encoded(encoded):
        return request.vectors or FeatureMatrix.from_dataset(encoded)
    return _with_vectors(request, FeatureMatrix.from_dataset(encoded, vectors=STATE if request.keep else None))


def _with_vectors(request: SelectionRequest, features: FeatureMatrix) -> FeatureMatrix:
    """Add the column of vectors that the request names."""
    return features if request.vectors is None else replace(features, vectors=request.vectors.vectors)


def run(
    request: SelectionRequest,
    features: Features,
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
        left_out={reason: len(out) for reason, out in request.arguments.left_out.items()},
    )
    check_extended(request.arguments.extend, selection)
    if words := shortfall(selection, rows, constraints, features):
        settings = {"method": request.name, **request.options}
        named = ", ".join(f"`{name}={value!r}`" for name, value in settings.items())
        warnings.warn(f"{named}: {words}; returning {len(selection)} rows", stacklevel=3)
    return selection
