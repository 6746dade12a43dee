"""Comparing: the same budget spent by several methods, a line each, and always beside `random` and `longest`."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._datasets import check_dataset
from ..features.columns import encoding_record, is_encoded
from ..features.kernels import new_features
from ..features.matrix import FeatureMatrix
from ..features.metrics import redundancy, richness
from .api import check, check_cut, check_encoded, cut, select
from .methods import METHODS, Rule
from .result import Selection

if TYPE_CHECKING:  # annotations only
    import pandas as pd
    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource

BASELINES = ("longest", "random")
ALL_ROWS = "(all rows)"
Methods = Sequence[str | Rule] | Mapping[str, Mapping[str, Any]]


def compare(
    ds: Dataset,
    budget: float | str,
    methods: Methods = ("match",),
    *,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    threshold: float | None = None,
    top: int | None = None,
    max_share: float | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    **shared: Any,
) -> pd.DataFrame:
    """Select by several methods and return a table of what each covers, `longest` and `random` always among them.

    One line a method, and one for all rows. Columns: `rows`; `features`, the distinct ones covered, and their `share`
    of those of all rows; `richness` and `redundancy` as in `metrics`; `tokens`, the mean of a row; `rounds`;
    `saturated_at`, after how many picks all was covered (NaN if never); `seconds` for choosing. All are measured on
    the same features, cut by `threshold`, `top` and `max_share`, whatever the method itself goes by. Rows of `exclude`
    are as good as not there, among all rows too.

    Args:
        methods: names or rules of your own; or, with options, `{"label": {"method": "simscale", "max_overlap": 0.7}}`.
        **shared: what else `select` takes, for every method. The baselines go without what they cannot take:
            `embedding`, `quality` and `per_token`; and `random` has seed 0 where the others have None.

    Example::

        compare(ds, 3000, ["match", "greedy", "simscale"])
    """
    check_dataset("ds", ds, "select")
    check_cut(threshold, top, max_share)
    calls = _calls(methods, shared)
    for call in calls.values():
        check(ds, budget, **call)
    coded = _encoded(ds, calls, sae, text=text, max_length=max_length, batch_size=batch_size)
    features = cut(
        FeatureMatrix.from_dataset(coded),
        encoding_record(coded)["threshold"] if threshold is None else threshold,
        top,
        max_share,
        shared.get("exclude", ()),
    )
    lines = {}
    for label, call in calls.items():
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fewer rows than asked for: the table says so
            subset = select(coded, budget, threshold=threshold, top=top, max_share=max_share, **call)
        seconds = time.perf_counter() - started
        lines[label] = line(features, subset.sae_selection, rows_there(features, call)) | {"seconds": seconds}
    pool = rows_there(features, shared)
    lines[ALL_ROWS] = line(features, Selection(pool, np.zeros(len(pool)), np.zeros(1, np.int64)), pool)
    import pandas as pd  # datasets needs it too, and loads it late

    return pd.DataFrame.from_dict(lines, orient="index")


def _calls(methods: Methods, shared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of `select` for each label, the baselines last."""
    if isinstance(methods, str) or not isinstance(methods, Sequence | Mapping):
        raise TypeError(f"`methods={methods!r}` must be a list of methods, or {{'label': {{'method': ...}}}}")
    if "method" in shared:
        raise TypeError(f"`method={shared['method']!r}` is for `select`; pass `methods`, a list of them")
    calls: dict[str, dict[str, Any]] = {}
    for label, given in _labelled(methods):
        _check_label(label, given["method"], calls)
        calls[label] = taken(given["method"], shared) | given
    for name in BASELINES:
        calls.setdefault(name, taken(name, shared) | {"method": name})
    return calls


def _labelled(methods: Methods) -> list[tuple[str, dict[str, Any]]]:
    """Return each method's label, and the arguments that are its alone."""
    if not isinstance(methods, Mapping):
        return [(_label(method), {"method": method}) for method in methods]
    for label, call in methods.items():
        if not isinstance(call, Mapping) or "method" not in call:
            raise TypeError(
                f"`methods` has {call!r} for {label!r}; it must be {{'method': ...}}, with options beside it or none"
            )
    return [(label, dict(call)) for label, call in methods.items()]


def _label(method: Any) -> str:
    """Return the name of a method, or of the rule that it is, a partial's being that of its function."""
    if isinstance(method, str):
        return method
    if not callable(method):
        raise TypeError(
            f"`methods` has {method!r}; it must hold names and rules, or be {{'label': {{'method': ...}}}} for options"
        )
    name: str = getattr(getattr(method, "func", method), "__name__", type(method).__name__)
    return name


def _check_label(label: str, method: str | Rule, taken: Mapping[str, Any]) -> None:
    """Refuse a label under which two lines would be one; a baseline may be named, and is there once."""
    todo = "give it a label of its own: {'label': {'method': ...}}"
    if label in taken:
        raise ValueError(f"`methods` has {label!r} twice; {todo}")
    if label == ALL_ROWS or (label in BASELINES and _known(method) != label):
        raise ValueError(f"`methods` has a method called {label!r}, which is a line of every table; {todo}")


def taken(method: str | Rule, shared: dict[str, Any]) -> dict[str, Any]:
    """Return what the method takes of `shared`; a baseline is not to stand in the way of what the others take."""
    name = _known(method)
    if name not in BASELINES:
        return shared
    refused = METHODS[name].refuses | {"embedding"}
    kept = {key: value for key, value in shared.items() if key not in refused}
    return kept | {"seed": 0} if name == "random" and kept.get("seed", 0) is None else kept


def _known(method: str | Rule) -> str:
    """Return the name in `METHODS` of a method, given by it or as the rule itself; "" if it is not there."""
    return next((name for name, selector in METHODS.items() if method in (name, selector.rule)), "")


def _encoded(ds: Dataset, calls: dict[str, dict[str, Any]], sae: SaeSource | None, **how: Any) -> Dataset:
    """Return `ds` with its codes, and what any of the methods needs beside them: encoded once, chosen from often."""
    needs = {label: _needs(call) for label, call in calls.items()}
    if not is_encoded(ds) or sae is not None:
        from ..encoding.pipeline import encode  # needs torch

        return encode(ds, sae, keep=[name for name in set(needs.values()) if name], **how)
    for label, name in needs.items():
        check_encoded(ds, name, how["text"], how["max_length"], repr(label))
    return ds


def _needs(call: dict[str, Any]) -> str | None:
    """Return what encoding has to keep for a method: nothing for a rule of one's own, or with an embedding."""
    name = _known(call["method"])
    return METHODS[name].keep if name and call.get("embedding") is None else None


def rows_there(features: FeatureMatrix, call: dict[str, Any]) -> NDArray[np.int64]:
    """Return the rows that there were to pick."""
    return np.setdiff1d(np.arange(len(features)), np.array(list(call.get("exclude", ())), np.int64))


def line(features: FeatureMatrix, selection: Selection, pool: NDArray[np.int64]) -> dict[str, Any]:
    """Measure a selection from `pool` on `features`, whatever its method went by."""
    rows = selection.indices
    covered, there = _new(features, rows).cumsum(), int(_new(features, pool).sum())
    selection = replace(selection, covered=covered, pool_coverage=there)
    found = int(covered[-1]) if len(rows) else 0
    return {
        "rows": len(rows),
        "features": found,
        "share": found / there if there else 0.0,
        "richness": richness(features, rows),
        "redundancy": redundancy(features, rows),
        "tokens": float(features.tokens[rows].mean()) if len(rows) else math.nan,
        "rounds": len(selection.round_starts),
        "saturated_at": selection.saturated_at or math.nan,
    }


def _new(features: FeatureMatrix, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return new_features(features.offsets, features.ids, features.d_sae, rows)
