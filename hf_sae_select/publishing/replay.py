"""Repeating: a selection made again from its receipt, and what it covers beside `random` and `longest`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import new_features
from ..features.matrix import FeatureMatrix
from ..features.metrics import length_correlation
from ..selection.api import cut, select, select_indices
from ..selection.comparison import BASELINES, line, rows_there, taken
from ..selection.constraints import Asked
from ..selection.methods import METHODS, Method, Rule
from ..selection.result import Selection
from .hashing import digest_of

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset


CONSTRAINTS = ["seed", *(each.name for each in fields(Asked))]
CUTS = ["threshold", "top", "max_share"]
KNOWN = {"budget", "encoding", "embedding", *CONSTRAINTS, *CUTS}  # parameters of every method; others are its options
# Options that version 0.1.0 recorded and no method has any more, at the value that selects as the method does now.
DROPPED = {"weighted": {"mass": "max"}}
HIDDEN = "sha256:"
QUANTILES = {"least": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "most": 1.0}


@dataclass(frozen=True, eq=False)
class Measured:
    """Hold what a selection covers, beside the baselines at the same budget, on the features that it went by."""

    features: FeatureMatrix
    """Those of all rows, cut as the selection cut them."""
    curves: dict[str, NDArray[np.int64]]
    """Of "subset", "random" and "longest": how many distinct features the rows up to each pick have."""
    figures: dict[str, dict[str, Any]]
    """Of these and of "pool", all rows: what `compare` measures, and how rows' tokens are distributed."""


def repeat(ds: Dataset, receipt: Selection, method: str | Rule | None = None) -> Selection:
    """Select among the encoded rows of `ds` as `receipt` says, and return the new receipt.

    Rows that an earlier selection brought (`extend`) are taken as given.

    Args:
        method: the rule, where it is none of ours; by default the receipt's, by its name.

    Raises:
        ValueError: the receipt has parameters that do not select.
    """
    if method is None and receipt.method not in METHODS:
        raise ValueError(f"unknown `method={receipt.method!r}`")
    parameters = receipt.parameters
    dropped = DROPPED.get(receipt.method, {}).items()
    options = {name: value for name, value in parameters.items() if name not in KNOWN and (name, value) not in dropped}
    takes = Method(method).options if callable(method) else METHODS[receipt.method].options
    if unknown := options.keys() - takes.keys():  # an argument of `select` that no receipt has, it may be
        raise ValueError(f"`{min(unknown)}` is no option of `method={receipt.method!r}`")
    if callable(method):
        options = _spoken(options, takes)
    options |= {name: parameters.get(name) for name in (*CUTS, "embedding")}
    with _no_word_of_few_rows():
        subset = select(ds, _budget(receipt), method or receipt.method, **_constraints(receipt), **options)
    found: Selection = subset.sae_selection
    return found


def measure(ds: Dataset, receipt: Selection) -> Measured:
    """Measure a selection among the encoded rows of `ds`; the baselines obey its constraints too."""
    constraints = _constraints(receipt)
    excluded = constraints.get("exclude", [])
    cuts: dict[str, Any] = {name: receipt.parameters.get(name) for name in CUTS}
    features = cut(FeatureMatrix.from_dataset(ds, threshold=cuts["threshold"]), **cuts, excluded=excluded)
    if len(receipt) and not 0 <= receipt.indices.min() <= receipt.indices.max() < len(features):
        raise ValueError(
            f"the receipt names rows {receipt.indices.min()} to {receipt.indices.max()}, of {len(features)}"
        )
    pool = rows_there(features, {"exclude": excluded})
    picked = {"pool": pool, "subset": receipt.indices}
    for name in reversed(BASELINES):
        with _no_word_of_few_rows():
            found = select_indices(features, _budget(receipt), name, columns=ds, **taken(name, constraints))
        picked[name] = found.indices
    figures = {name: _figures(features, rows, pool) for name, rows in picked.items()}
    new = {name: new_features(features.offsets, features.ids, features.d_sae, picked[name]) for name in picked}
    return Measured(features, {name: new[name].cumsum() for name in picked if name != "pool"}, figures)


def _budget(receipt: Selection) -> Any:
    budget, cost = receipt.parameters["budget"], receipt.parameters.get("cost")
    if cost and budget < 1:  # a number below 1 would be a share of all there is
        return f"{Decimal(repr(budget)):f} {cost}"
    return budget


def _spoken(options: Mapping[str, Any], takes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a rule that is none of ours, less those recorded as a digest, which it must have."""
    hidden = [name for name, value in options.items() if isinstance(value, str) and value.startswith(HIDDEN)]
    for name in hidden:
        if options[name] != hide(takes[name]):
            raise ValueError(f"`{name}` of the rule is not as recorded; bind it: functools.partial(rule, {name}=...)")
    return {name: value for name, value in options.items() if name not in hidden}


def hide(value: Any) -> str:
    """Return a digest in place of an option that may be anything, a path on this machine among it."""
    return f"{HIDDEN}{digest_of(value)}"


@contextmanager
def _no_word_of_few_rows() -> Iterator[None]:
    """Let a selection run dry in silence: its receipt says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _constraints(receipt: Selection) -> dict[str, Any]:
    """Return the constraints of a receipt as `select` takes them."""
    given = {name: receipt.parameters[name] for name in CONSTRAINTS if name in receipt.parameters}
    if isinstance(given.get("quota"), Mapping):  # held as pairs, since the keys of a JSON object are strings
        given["quota"] = {name: dict(pairs) for name, pairs in given["quota"].items()}
    if "extend" in given:
        n = given["extend"]
        if not isinstance(n, int) or isinstance(n, bool) or not 0 < n <= len(receipt):
            raise ValueError(f"`extend={n!r}` is no number of the {len(receipt)} picks")
        given["extend"] = Selection(
            receipt.indices[:n], receipt.gains[:n], receipt.round_starts[receipt.round_starts < n]
        )
    return given


def _figures(features: FeatureMatrix, rows: NDArray[np.int64], pool: NDArray[np.int64]) -> dict[str, Any]:
    found = line(features, Selection(rows, np.zeros(len(rows)), np.zeros(1, np.int64)), pool)
    del found["rounds"]
    lengths = np.quantile(features.tokens[rows], list(QUANTILES.values()), method="inverted_cdf")
    found["length_quantiles"] = {name: int(length) for name, length in zip(QUANTILES, lengths, strict=True)}
    found["length_correlation"] = length_correlation(features, rows)
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in found.items()}
