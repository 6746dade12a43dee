"""Measurement of a selection beside the baselines: likeness to the source, coverage, and the rows of each quota."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import new_features
from ..features.matrix import FeatureMatrix
from ..features.metrics import length_correlation
from ..features.shares import Shares, random_rows
from ..selection.columns import class_names
from ..selection.concept_rules import ConceptRules, excluded_rows
from ..selection.cuts import Cuts
from ..selection.lines import for_method
from ..selection.methods import BASELINES, METHODS
from ..selection.quota import grouped, recorded
from ..selection.request import SelectionRequest, arguments_of
from ..selection.result import Selection
from ..selection.run import by_concepts, run
from ..selection.summary import summarize_rows

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

Rows = NDArray[np.int64]

QUANTILES = {"least": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "most": 1.0}
# What a method decides by -> what shows it; coverage for all others.
MEASURES = {"distribution": ("likeness",), "nearness": ("likeness",), "similarity": ()}
MEASURES |= dict.fromkeys(("length", "chance"), ("likeness", "coverage"))
MOST_VALUES = 30  # of the column of a quota that the record lists; it sums up the rest


@dataclass(frozen=True, eq=False)
class Measured:
    """Hold the figures of a selection, compared with the baselines, by the features that the rows were selected by."""

    read: FeatureMatrix
    """The features of all rows, before the cuts of the selection."""
    features: FeatureMatrix
    """The features of all rows, cut as the selection cut them."""
    rows: dict[str, Rows]
    """The rows of "pool" (all that could be selected), "subset", "random" and "longest", in the order of the picks."""
    curves: dict[str, dict[str, NDArray[Any]]]
    """For "coverage", and for "likeness" where it was measured: of "subset", "random" and "longest" the value after
    each pick. Coverage is a number of distinct features of all rows."""
    figures: dict[str, dict[str, Any]]
    """For these and "pool" (all rows): what `compare` measures, and the distribution of the rows' tokens."""
    likeness: dict[str, float | None] | None
    """The likeness of "subset", "random" and "longest" to all rows; None for methods that it is no evidence for."""
    shares: Shares | None = None
    """The shares that likeness is of; None where it was not measured."""

    @cached_property
    def random_rows(self) -> dict[str, float]:
        """For each part of `rows` how many random rows are as like all rows; nothing where likeness was not measured.

        It is a mean of several draws, where "random" is one.
        """
        if self.shares is None:
            return {}
        pool, shares = self.rows["pool"], self.shares
        curve = shares.random_curve(pool)
        like = {name: random_rows(shares.likeness(part), curve) for name, part in self.rows.items()}
        return like | {"pool": float(len(pool))}


def measures_of(method: str, has_target: bool = False) -> tuple[str, ...]:
    """Return the measures that show what a method does; none for one that compares vectors, or has a target."""
    if has_target:  # how near the rows are to it is evidence
        return ()
    kind = METHODS[method].kind if method in METHODS else "own"
    return MEASURES.get(kind, ("coverage",))


def likens_what_it_read(method: str) -> bool:
    """Tell whether likeness is by the features that a method read; of others by the strongest features of each row."""
    return method in METHODS and METHODS[method].decides_by_shares


def measure(dataset: Dataset, selection: Selection, measures: Collection[str] | None = None) -> Measured:
    """Measure a selection among encoded rows; the baselines obey its constraints too.

    Args:
        measures: of "likeness" and "coverage"; by default those that show what the method does.
    """
    has_target = "target" in selection.parameters
    measures = measures_of(selection.method, has_target) if measures is None else measures
    arguments = arguments_of(selection)
    cuts: Cuts = arguments.pop("cuts")
    reads_all = "likeness" in measures and not likens_what_it_read(selection.method)
    reads_all |= bool(arguments["concepts"])  # rules are of all features
    if reads_all:
        read = FeatureMatrix.from_dataset(dataset)
    else:  # the most that is cut without a look at all rows
        top = cuts.top if cuts.max_share is None else None
        read = FeatureMatrix.from_dataset(dataset, threshold=cuts.threshold or 0.0, top=top)
    excluded = excluded_rows(selection.parameters, read, selection.indices)
    features = cuts.apply(read, excluded)
    if len(selection) and not 0 <= selection.indices.min() <= selection.indices.max() < len(features):
        raise ValueError(
            f"the selection names rows {selection.indices.min()} to {selection.indices.max()}, of {len(features)}"
        )
    pool = np.setdiff1d(np.arange(len(features)), excluded)
    picked = {"subset": selection.indices}
    for name in reversed(BASELINES):
        own = for_method(name, arguments) | {"options": {}, "has_target": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fewer rows than the budget: the selection warned of it
            request = by_concepts(SelectionRequest.parse(len(features), dataset, method=name, **own), read)
            picked[name] = run(request, features).indices
    rows = {"pool": pool, **picked}
    figures = {name: _figures(features, part, pool) for name, part in rows.items()}
    curves: dict[str, dict[str, NDArray[Any]]] = {
        "coverage": {name: _covered(features, part) for name, part in picked.items()}
    }
    if "likeness" not in measures:
        return Measured(read, features, rows, curves, figures, None)
    shares = Shares.of(features, pool) if likens_what_it_read(selection.method) else Shares.of_strongest(read, pool)
    curves["likeness"] = {name: shares.curve(part) for name, part in picked.items()}
    likeness = {name: _finite(shares.likeness(part)) for name, part in picked.items()}
    return Measured(read, features, rows, curves, figures, likeness, shares)


def count_quotas(dataset: Dataset, selection: Selection) -> list[dict[str, Any]]:
    """Count the rows of each value of each column of a quota, among all rows that could be selected and in the subset.

    Args:
        dataset: the columns of all rows.

    Returns:
        For each column, as JSON: "column"; "values", a list of `value`, `pool` and `subset`, the most frequent ones of
        the pool first; and "others", the number of further values with their rows, or None.
    """
    quota = selection.parameters["constraints"].get("quota") or ()
    return [_counts(dataset, selection, column) for column in ((quota,) if isinstance(quota, str) else quota)]


def _counts(dataset: Dataset, selection: Selection, column: str) -> dict[str, Any]:
    group, distinct = grouped(column, dataset, len(dataset))
    pool, subset = (
        np.bincount(group[rows], minlength=len(distinct)) for rows in (_pool(dataset, selection), selection.indices)
    )
    order = np.argsort(-pool, kind="stable")[: np.count_nonzero(pool)]
    classes = class_names(column, dataset)
    values = [
        {"value": _json_value(distinct[g], classes), "pool": int(pool[g]), "subset": int(subset[g])}
        for g in order[:MOST_VALUES]
    ]
    rest = order[MOST_VALUES:]
    others = {"values": len(rest), "pool": int(pool[rest].sum()), "subset": int(subset[rest].sum())}
    return {"column": column, "values": values, "others": others if len(rest) else None}


def _json_value(value: Any, classes: list[str]) -> Any:
    """Return a value of a column as JSON: of a class its name."""
    if classes and isinstance(value, int) and 0 <= value < len(classes):
        return classes[value]
    plain = recorded(value)
    return str(plain) if isinstance(plain, float) and not math.isfinite(plain) else plain


def _pool(dataset: Dataset, selection: Selection) -> Rows:
    """Return the rows that could be selected; of a dataset without rules by concepts no features are read."""
    rules = ConceptRules.of_record(selection.parameters["constraints"])
    features = rules.read(dataset) if rules else None
    return np.setdiff1d(np.arange(len(dataset)), excluded_rows(selection.parameters, features, selection.indices))


def _covered(features: FeatureMatrix, rows: Rows) -> Rows:
    return new_features(features.offsets, features.ids, features.d_sae, rows).cumsum()


def _figures(features: FeatureMatrix, rows: Rows, pool: Rows) -> dict[str, Any]:
    figures = summarize_rows(features, rows, pool)
    del figures["rounds"]
    lengths = np.quantile(features.tokens[rows], list(QUANTILES.values()), method="inverted_cdf")
    figures["length_quantiles"] = {name: int(length) for name, length in zip(QUANTILES, lengths, strict=True)}
    figures["length_correlation"] = length_correlation(features, rows)
    return {name: _finite(value) for name, value in figures.items()}


def _finite(value: Any) -> Any:
    """Return a figure as JSON holds it: None for nan."""
    return None if isinstance(value, float) and math.isnan(value) else value
