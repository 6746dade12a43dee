"""Replay: repeating a selection from its parameters, and measuring what it covers, compared with the baselines."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import new_features
from ..features.matrix import FeatureMatrix
from ..features.metrics import length_correlation
from ..selection.api import run, run_on_dataset
from ..selection.comparison import for_method
from ..selection.methods import BASELINES, METHODS, Method, MethodFunction
from ..selection.request import Cuts, SelectionRequest, arguments_of
from ..selection.result import Selection
from ..selection.summary import summarize_rows
from .hashing import digest_of

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

QUANTILES = {"least": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "most": 1.0}


@dataclass(frozen=True, eq=False)
class Measured:
    """Hold what a selection covers, compared with the baselines, by the features that the rows were selected by."""

    features: FeatureMatrix
    """The features of all rows, cut as the selection cut them."""
    curves: dict[str, NDArray[np.int64]]
    """For "subset", "random" and "longest": the number of distinct features of all rows up to each pick."""
    figures: dict[str, dict[str, Any]]
    """For these and "pool" (all rows): what `compare` measures, and the distribution of the rows' tokens."""


def replay(dataset: Dataset, selection: Selection, method: MethodFunction | None = None) -> Selection:
    """Select again among encoded rows by the parameters of `selection`, and return the new selection.

    Rows that an earlier selection brought (`extend`) are taken from `selection`.

    Args:
        method: the method's function, where it is not the library's; by default the method of that name.

    Raises:
        ValueError: If the parameters do not select.
    """
    if method is None and selection.method not in METHODS:
        raise ValueError(f"unknown `method={selection.method!r}`")
    arguments = arguments_of(selection)
    if method is not None:
        arguments["options"] = _without_digests(arguments["options"], Method(method).options)
    with _without_warnings():
        request = SelectionRequest.parse(len(dataset), dataset, method=method or selection.method, **arguments)
        return run_on_dataset(request, dataset)


def measure(dataset: Dataset, selection: Selection) -> Measured:
    """Measure a selection among encoded rows; the baselines obey its constraints too."""
    arguments = arguments_of(selection)
    excluded = arguments.get("exclude", [])
    cuts: Cuts = arguments.pop("cuts")
    features = cuts.apply(FeatureMatrix.from_dataset(dataset, threshold=cuts.threshold or 0.0), excluded)
    if len(selection) and not 0 <= selection.indices.min() <= selection.indices.max() < len(features):
        raise ValueError(
            f"the selection names rows {selection.indices.min()} to {selection.indices.max()}, of {len(features)}"
        )
    pool = np.setdiff1d(np.arange(len(features)), np.array(list(excluded), np.int64))
    picked = {"pool": pool, "subset": selection.indices}
    for name in reversed(BASELINES):
        own = for_method(name, arguments) | {"options": {}}
        with _without_warnings():
            picked[name] = run(SelectionRequest.parse(len(features), dataset, method=name, **own), features).indices
    figures = {name: _figures(features, rows, pool) for name, rows in picked.items()}
    new = {name: new_features(features.offsets, features.ids, features.d_sae, picked[name]) for name in picked}
    return Measured(features, {name: new[name].cumsum() for name in picked if name != "pool"}, figures)


def digest_tag(value: Any) -> dict[str, str]:
    """Return the digest of an option that cannot be published, such as a path on this machine."""
    return {"sha256": digest_of(value)}


def is_digest_tag(value: Any) -> bool:
    """Tell whether an option is recorded by its digest."""
    return isinstance(value, Mapping) and value.keys() == {"sha256"}


def _without_digests(recorded: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded options of the user's own method, without those that are recorded by their digest.

    Raises:
        ValueError: If the method's default of such an option has another digest.
    """
    for name, value in recorded.items():
        if is_digest_tag(value) and value != digest_tag(defaults.get(name)):
            raise ValueError(f"`{name}` of the method is not as recorded; bind it: partial(method, {name}=...)")
    return {name: value for name, value in recorded.items() if not is_digest_tag(value)}


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress the warnings of a selection, such as that it returns fewer rows than its budget: it was warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _figures(features: FeatureMatrix, rows: NDArray[np.int64], pool: NDArray[np.int64]) -> dict[str, Any]:
    figures = summarize_rows(features, rows, pool)
    del figures["rounds"]
    lengths = np.quantile(features.tokens[rows], list(QUANTILES.values()), method="inverted_cdf")
    figures["length_quantiles"] = {name: int(length) for name, length in zip(QUANTILES, lengths, strict=True)}
    figures["length_correlation"] = length_correlation(features, rows)
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}
