"""Measurement of a selection beside the baselines: likeness to the pool, coverage, lengths, and rows of each quota."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import new_features
from ..features.matrix import FeatureMatrix
from ..features.metrics import length_correlation
from ..features.shares import Shares
from ..selection.api import run
from ..selection.columns import class_names
from ..selection.comparison import for_method
from ..selection.methods import BASELINES
from ..selection.quota import grouped, recorded
from ..selection.request import Cuts, SelectionRequest, arguments_of
from ..selection.result import Selection
from ..selection.summary import summarize_rows

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

Rows = NDArray[np.int64]

MOST_VALUES = 30  # of the column of a quota that are listed; the rest is summed up
QUANTILES = {"least": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "most": 1.0}


@dataclass(frozen=True, eq=False)
class Measured:
    """Hold the figures of a selection, compared with the baselines, by the features that the rows were selected by."""

    read: FeatureMatrix
    """All features of all rows."""
    features: FeatureMatrix
    """The features of all rows, cut as the selection cut them."""
    rows: dict[str, Rows]
    """The rows of "pool" (all that could be selected), "subset", "random" and "longest", in the order of the picks."""
    curves: dict[str, dict[str, NDArray[Any]]]
    """For "likeness" and "coverage": of "subset", "random" and "longest" the value after each pick."""
    figures: dict[str, dict[str, Any]]
    """For all of `rows`: what `compare` measures, the likeness, and the distribution of the rows' tokens."""


def measure(dataset: Dataset, selection: Selection) -> Measured:
    """Measure a selection among encoded rows; the baselines obey its constraints too."""
    arguments = arguments_of(selection)
    excluded = arguments.get("exclude", [])
    cuts: Cuts = arguments.pop("cuts")
    read = FeatureMatrix.from_dataset(dataset)
    features = cuts.apply(read, excluded)
    if len(selection) and not 0 <= selection.indices.min() <= selection.indices.max() < len(features):
        raise ValueError(
            f"the selection names rows {selection.indices.min()} to {selection.indices.max()}, of {len(features)}"
        )
    pool = _pool(len(features), selection)
    picked = {"subset": selection.indices}
    for name in reversed(BASELINES):
        own = for_method(name, arguments) | {"options": {}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fewer rows than the budget: the selection warned of it
            picked[name] = run(SelectionRequest.parse(len(features), dataset, method=name, **own), features).indices
    # `match` maximises the likeness by the features that it read.
    shares = Shares.of(features, pool) if selection.method == "match" else Shares.of_strongest(read, pool)
    rows = {"pool": pool, **picked}
    curves: dict[str, dict[str, NDArray[Any]]] = {
        "likeness": {name: shares.curve(part) for name, part in picked.items()},
        "coverage": {name: _covered(features, part) for name, part in picked.items()},
    }
    figures = {name: _figures(features, part, pool) for name, part in rows.items()}
    for name, part in rows.items():
        figures[name]["likeness"] = _finite(shares.likeness(part))
    return Measured(read, features, rows, curves, figures)


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
        np.bincount(group[rows], minlength=len(distinct))
        for rows in (_pool(len(dataset), selection), selection.indices)
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


def _pool(n: int, selection: Selection) -> Rows:
    """Return the rows of `n` that could be selected."""
    excluded = selection.parameters["constraints"].get("exclude") or []
    return np.setdiff1d(np.arange(n), np.array(list(excluded), np.int64))


def _covered(features: FeatureMatrix, rows: Rows) -> Rows:
    return new_features(features.offsets, features.ids, features.d_sae, rows).cumsum()


def _figures(features: FeatureMatrix, rows: Rows, pool: Rows) -> dict[str, Any]:
    figures = summarize_rows(features, rows, pool)
    del figures["rounds"]
    tokens = features.tokens[rows]
    lengths = np.quantile(tokens, list(QUANTILES.values()), method="inverted_cdf") if len(rows) else []
    figures["length_quantiles"] = {name: int(length) for name, length in zip(QUANTILES, lengths, strict=False)}
    figures["length_correlation"] = length_correlation(features, rows)
    figures["all_tokens"], figures["blank"] = int(tokens.sum(dtype=np.int64)), int((tokens == 0).sum())
    return {name: _finite(value) for name, value in figures.items()}


def _finite(value: Any) -> Any:
    """Return a figure as JSON holds it: None for nan."""
    return None if isinstance(value, float) and math.isnan(value) else value
