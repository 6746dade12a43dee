"""Comparing: the same budget spent by several methods, a line each, and always beside `random` and `longest`."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .coverage import new_features
from .features import KEPT, Features, encoding_record, is_encoded
from .metrics import coverage, redundancy, richness
from .rules import SELECTORS, Rule
from .selecting import check, check_cut, check_dataset, cut, select
from .selection import Selection

if TYPE_CHECKING:  # annotations only
    import pandas as pd
    from datasets import Dataset

    from .formats import SaeSource
    from .text import TextSource

BASELINES = ("longest", "random")
Methods = Sequence[str | Rule] | Mapping[str, Mapping[str, Any]]


def compare(
    ds: Dataset,
    budget: float | str,
    methods: Methods = ("greedy",),
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
    the same features, cut by `threshold`, `top` and `max_share`, whatever the method itself goes by.

    Args:
        methods: names or rules of your own; or, with options, `{"label": {"method": "simscale", "max_overlap": 0.7}}`.
        **shared: what else `select` takes, for every method. `quality` and `per_token` are left out for the baselines
            that cannot obey them.

    Example::

        compare(ds, 3000, ["greedy", "weighted", "match"])
    """
    check_dataset(ds)
    check_cut(threshold, top, max_share)
    calls = _calls(methods, shared)
    for call in calls.values():
        check(ds, budget, **call)
    coded = _encoded(ds, calls, sae, text=text, max_length=max_length, batch_size=batch_size)
    features = cut(
        Features.from_dataset(coded),
        encoding_record(coded)["threshold"] if threshold is None else threshold,
        top,
        max_share,
    )
    lines = {}
    for label, call in calls.items():
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fewer rows than asked for: the table says so
            subset = select(coded, budget, threshold=threshold, top=top, max_share=max_share, **call)
        seconds = time.perf_counter() - started
        lines[label] = _line(features, subset.sae_selection) | {"seconds": seconds}
    everything = Selection(np.arange(len(features)), np.zeros(len(features)), np.zeros(1, np.int64))
    lines["(all rows)"] = _line(features, everything)
    import pandas as pd  # datasets needs it too, and loads it late

    return pd.DataFrame.from_dict(lines, orient="index")


def _calls(methods: Methods, shared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of `select` for each label, the baselines last."""
    if isinstance(methods, str) or not isinstance(methods, Sequence | Mapping):
        raise TypeError(f"`methods={methods!r}` must be a list of methods, or {{'label': {{'method': ...}}}}")
    if isinstance(methods, Mapping):
        calls = {label: shared | dict(call) for label, call in methods.items()}
    else:
        calls = {m if isinstance(m, str) else m.__name__: shared | {"method": m} for m in methods}
    for name in BASELINES:
        obeyed = {key: value for key, value in shared.items() if key not in SELECTORS[name].refuses}
        calls.setdefault(name, obeyed | {"method": name})
    return calls


def _encoded(ds: Dataset, calls: dict[str, dict[str, Any]], sae: SaeSource | None, **how: Any) -> Dataset:
    """Return `ds` with its codes, and what any of the methods needs beside them: encoded once, chosen from often."""
    if is_encoded(ds) and sae is None:
        return ds
    from .encoding import encode  # needs torch

    selectors = [(SELECTORS[call["method"]], call) for call in calls.values() if call.get("method") in SELECTORS]
    needs = {each.needs(call) for each, call in selectors if "embedding" not in call}
    return encode(ds, sae, keep=[name for name in KEPT if name in needs], **how)


def _line(features: Features, selection: Selection) -> dict[str, Any]:
    """Measure a selection on `features`, whatever its method went by."""
    rows = selection.indices
    pool, covered = coverage(features), new_features(features.offsets, features.ids, features.d_sae, rows).cumsum()
    full = np.flatnonzero(covered == pool)
    return {
        "rows": len(rows),
        "features": int(covered[-1]) if len(rows) else 0,
        "share": covered[-1] / pool if len(rows) and pool else 0.0,
        "richness": richness(features, rows),
        "redundancy": redundancy(features, rows),
        "tokens": float(features.tokens[rows].mean()) if len(rows) else math.nan,
        "rounds": len(selection.round_starts),
        "saturated_at": int(full[0]) + 1 if len(full) else None,
    }
