"""Selecting: a dataset, a budget, a method and constraints -> the rows to keep, with their receipt.

No model here, unless `select` has to encode the dataset first.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._datasets import check_dataset, fingerprint_of
from ..features.columns import STATE, code_columns, encoding_record, is_encoded, without_codes
from ..features.kernels import new_features
from ..features.matrix import FeatureMatrix
from ..features.metrics import coverage
from .constraints import TOLERANCE, Asked, Constraints, Quota, costs_of, is_number, parse_budget, plain
from .methods import METHODS, Method, Rng, Rule
from .pool import Pool
from .result import Selection

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets or torch
    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource


def select_indices(
    features: FeatureMatrix,
    budget: float | str,
    method: str | Rule = "match",
    *,
    seed: int | None = 0,
    columns: Any = None,
    must_include: Sequence[int] = (),
    exclude: Sequence[int] = (),
    quota: Quota | None = None,
    quality: str | None = None,
    cost: str | None = None,
    per_token: float = 0.0,
    extend: Selection | None = None,
    **options: Any,
) -> Selection:
    """Choose rows by their features: `select` without a dataset. Warns where fewer rows than `budget` qualify.

    The features count as they are; for what `select` picks by default, cut them first: `features.top(256)` for
    "match", `features.above(threshold)` for most others.

    Args:
        columns: what `quota`, `quality` and `cost` name: a dict of lists of n values, or a Dataset.
        budget, method, seed, **options and the constraints: as in `select`.
    """
    features.check()
    asked = Asked(must_include, exclude, quota, quality, cost, per_token, _receipt(extend))
    return _choose(features, budget, method, seed, {} if columns is None else columns, asked, options, {})


def select(
    ds: Dataset,
    budget: float | str,
    method: str | Rule = "match",
    *,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    threshold: float | None = None,
    top: int | None = None,
    max_share: float | None = None,
    embedding: str | None = None,
    seed: int | None = 0,
    must_include: Sequence[int] = (),
    exclude: Sequence[int] = (),
    quota: Quota | None = None,
    quality: str | None = None,
    cost: str | None = None,
    per_token: float = 0.0,
    extend: Selection | Dataset | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    **options: Any,
) -> Dataset:
    """Select a diverse subset of `ds`, by the features that a sparse autoencoder finds in each row.

    Returns a Dataset with the columns of `ds`, rows in the order they were picked; its attribute `sae_selection` is
    the receipt (dropped by `map`, `select` and `shuffle`; `filter` copies it, though it may drop rows), and `sae_pool`
    what it was picked from, for `publish`. `ds` may be the result of `encode`: then no model is run.

    Args:
        budget: number of rows, or a fraction of them strictly between 0 and 1; or an amount of what rows cost:
            "200k tokens", "1.5M chars" (`chars` being a column).
        method: a name in `METHODS`, or a rule of your own.
        sae, text, max_length, batch_size: how to encode, see `encode`; not needed where `ds` is encoded.
        threshold: only activations above it count; by default the SAE's calibrated value (0 for "match").
        top: only each row's `top` strongest features count, so that long rows weigh less; by default all do (256 for
            "match", where a larger number keeps more).
        max_share: features that more than this share of the rows have do not count; by default all do.
        embedding: column of vectors for the methods that compare vectors; by default the mean hidden state. Without
            SAE codes in `ds` no model is run for them.
        seed: orders equal rows; `None` keeps dataset order. The same seed gives the same rows.
        must_include: row indices that are picked first, in this order; they are part of the budget.
        exclude: row indices that are as good as not in the dataset.
        quota: `{"column": {value: rows}}`, the most rows of each value, others without limit; or "column": the budget
            shared out over its values as evenly as they allow.
        quality: a column of numbers from 0 on; a row's gain is multiplied by its quality, scans begin with the best,
            and `random` draws in proportion to it. A quality of 0 comes last.
        cost: "tokens" (those of the model, a blank row's being 1) or a column: what `budget` is an amount of, or a
            fraction of the sum of, and what rows cost of it.
        per_token: a row's gain is divided by its tokens to this power: 0.5 or 1 let long rows win less.
        extend: an earlier selection, or a subset with one, to grow: its rows come first and are part of the budget.
            The same method gives what the larger budget would have given at once, unless that is in costs.
        **options: the method's; see the rules in `rules.py`.

    Raises:
        TypeError, ValueError: an argument is not as above; found before any model is loaded, where it can be.

    Example::

        subset = select(load_dataset("tatsu-lab/alpaca", split="train"), 3000)
        subset.sae_selection.gains  # how much each row added
    """
    check_dataset("ds", ds, "select")
    check_cut(threshold, top, max_share)
    asked = Asked(must_include, exclude, quota, quality, cost, per_token, _receipt(extend))
    selector, needs = _checked(ds, budget, method, asked, seed, embedding, options)

    coded, source = _coded(
        ds, budget, asked, sae, embedding, needs, text=text, max_length=max_length, batch_size=batch_size
    )
    record = {} if coded is None else encoding_record(coded)
    if threshold is None:
        threshold = record.get("threshold", 0.0) if selector.threshold is None else selector.threshold
    top = selector.top if top is None else top
    cuts: dict[str, Any] = {"threshold": float(threshold), "encoding": record}
    cuts["top"] = None if top is None else int(top)
    cuts |= {} if max_share is None else {"max_share": float(max_share)}
    cuts |= {} if embedding is None else {"embedding": embedding}
    features = cut(_features(ds, coded, embedding, needs), threshold, top, max_share, asked.excluded(len(ds)))
    selection = _choose(features, budget, method, seed, ds, asked, options, cuts)
    subset = source.select(selection.indices)
    subset.sae_selection = replace(selection, fingerprint=fingerprint_of(ds))
    codes = None if coded is None else coded.select_columns(code_columns(coded))
    subset.sae_pool = Pool(without_codes(ds), codes)  # for `publish`
    return subset


def rows_of(budget: float, n: int) -> int:
    """Turn `budget`, a number of rows or a fraction of `n`, into a number of rows from 1 to `n`."""
    if not is_number(budget):
        raise TypeError(f"`budget={budget!r}` must be a number of rows, a fraction such as 0.1, or '200k tokens'")
    if n == 0:
        raise ValueError("the dataset is empty: there is no row to select")
    whole = isinstance(budget, Integral)
    if whole and not 1 <= budget <= n:
        raise ValueError(f"`budget={budget}` but the dataset has {n:,} rows; pass 1 to {n}, or a fraction such as 0.1")
    if not whole and not 0 < budget < 1:
        raise ValueError(f"`budget={budget}` is no fraction; pass one strictly between 0 and 1, or a whole number")
    return int(budget) if whole else max(1, round(budget * n))


def _choose(
    features: FeatureMatrix,
    budget: float | str,
    method: str | Rule,
    seed: int | None,
    columns: Any,
    asked: Asked,
    options: dict[str, Any],
    cuts: dict[str, Any],
) -> Selection:
    name, selector, options = _method(method, options)
    amount, rows, asked = _budget(budget, asked, columns, features.tokens)
    constraints = asked.resolve(len(features), columns, features.tokens, amount)
    obeyed = _obeyed(name, selector, asked, constraints)
    selection = selector.rule(features, rows, _generator(seed), **obeyed, **options)
    selection = _check_picks(name, selection, rows, len(features), constraints)
    parameters = {"budget": amount, "seed": None if seed is None else int(seed), **options, **asked.recorded(), **cuts}
    selection = replace(_counted(selection, features, constraints), method=name, parameters=parameters)
    _check_extended(asked.extend, selection)
    if short := _ran_dry(selection, rows, constraints, features):
        settings = ", ".join(f"`{key}={value!r}`" for key, value in {"method": name, **options}.items())
        warnings.warn(f"{settings}: {short}; returning {len(selection)} rows", stacklevel=3)
    return selection


def _ran_dry(selection: Selection, rows: int, constraints: Constraints, features: FeatureMatrix) -> str:
    """Say so where rows were left that the budget had room for."""
    if not constraints.costly:
        return f"no row left to pick after {len(selection)} of {rows}" if len(selection) < rows else ""
    left = np.setdiff1d(constraints.pool[features.counts[constraints.pool] > 0], selection.indices)
    spare = constraints.purse - constraints.cost[selection.indices].sum()
    if not len(left) or constraints.cost[left].min() > spare:
        return ""
    return f"no row left to pick after {len(selection)}, with {spare:g} of {constraints.purse:g} unspent"


def _budget(budget: Any, asked: Asked, columns: Any, tokens: NDArray[Any]) -> tuple[float, int, Asked]:
    """Return the budget as an amount, the most rows that it can be, and the constraints with the cost filled in."""
    amount, unit = parse_budget(budget, asked.cost)
    there = np.ones(len(tokens), np.bool_)
    there[asked.excluded(len(tokens))] = False
    if unit is None or not there.any():
        rows = rows_of(amount, int(there.sum()))
        return rows, rows, asked
    total = float(costs_of(columns, tokens, unit)[there].sum())
    if not (is_number(amount) and 0 < amount < math.inf):
        raise ValueError(f"`budget={budget!r}` must be an amount of {unit} above 0, or a fraction of all there is")
    amount = amount * total if amount < 1 and not isinstance(budget, str) else amount
    if amount > total * TOLERANCE:
        raise ValueError(f"`budget={budget!r}` but all rows together have {total:.12g} {unit}; pass at most that")
    return float(amount), len(tokens), replace(asked, cost=unit)


def check(
    ds: Dataset, budget: Any, method: str | Rule, seed: int | None = 0, embedding: Any = None, **given: Any
) -> None:
    """Refuse, before anything is encoded, what `select` would refuse; `given` are constraints and options."""
    asked = {each.name: given.pop(each.name) for each in fields(Asked) if each.name in given}
    asked["extend"] = _receipt(asked.get("extend"))
    _checked(ds, budget, method, Asked(**asked), seed, embedding, given)


def _checked(
    ds: Dataset, budget: Any, method: str | Rule, asked: Asked, seed: Any, embedding: Any, options: dict[str, Any]
) -> tuple[Method, str | None]:
    """Return the method and what encoding has to keep for it. How many tokens rows have is not known yet."""
    name, selector, options = _method(method, options)
    rng, needs = _generator(seed), selector.keep
    amount, _, asked = _budget(budget, asked, ds, np.full(len(ds), 2**40))
    constraints = asked.resolve(len(ds), ds, np.zeros(len(ds), np.int64), amount)
    _obeyed(name, selector, asked, constraints)
    if selector in METHODS.values():
        selector.rule(_no_rows(), 0, rng, **options)
    if embedding is not None and needs != "state":
        compare = ", ".join(name for name, each in METHODS.items() if each.keep == "state")
        raise ValueError(f"`embedding` is for the methods that compare vectors: {compare}; leave it out")
    if embedding is not None:
        FeatureMatrix.from_vectors(ds, embedding)
    return selector, needs


def _no_rows() -> FeatureMatrix:
    none = np.empty(0, np.uint16)
    floats = none.astype(np.float32)
    return FeatureMatrix(np.zeros(1, np.int64), none, floats, 1, none.astype(np.int32), np.zeros((0, 1), np.float32))


def _coded(
    ds: Dataset, budget: Any, asked: Asked, sae: SaeSource | None, embedding: str | None, needs: str | None, **how: Any
) -> tuple[Dataset | None, Dataset]:
    """Return `ds` encoded (None where its vectors are enough), and the dataset whose rows are to be returned."""
    if is_encoded(ds) and sae is None:
        check_encoded(ds, None if embedding else needs, how["text"], how["max_length"])
        return ds, ds
    if embedding is not None and sae is None:
        if parse_budget(budget, asked.cost)[1] == "tokens" or asked.per_token:
            raise ValueError("without SAE codes nobody knows the rows' tokens: encode first, or use a `cost` column")
        return None, ds
    from ..encoding.pipeline import codes  # needs torch, which choosing among encoded rows does not

    keep = () if embedding is not None or needs is None else (needs,)
    # Codes of another SAE would contradict the receipt.
    return codes(ds, sae, keep=keep, **how), without_codes(ds)


def _features(ds: Dataset, coded: Dataset | None, embedding: str | None, needs: str | None) -> FeatureMatrix:
    """Read the features of the rows, with the vectors that the method compares."""
    if coded is None:
        return FeatureMatrix.from_vectors(ds, str(embedding))
    if embedding is None:
        return FeatureMatrix.from_dataset(coded, vectors=STATE if needs == "state" else None)
    return replace(FeatureMatrix.from_dataset(coded), vectors=FeatureMatrix.from_vectors(ds, embedding).vectors)


def cut(
    features: FeatureMatrix,
    threshold: float,
    top: int | None,
    max_share: float | None,
    excluded: Collection[int] = (),
) -> FeatureMatrix:
    """Keep the activations above `threshold`, of features that few enough rows have, and of each row the strongest."""
    features = features.above(threshold)
    features = features if max_share is None else features.rare(max_share, excluded)
    return features if top is None else features.top(top)


def _method(method: str | Rule, options: dict[str, Any]) -> tuple[str, Method, dict[str, Any]]:
    """Look the method up and return its name, itself, and its options, those not given at their defaults."""
    if callable(method):
        name = getattr(method, "__name__", type(method).__name__)
        ours = (each for each in METHODS.values() if each.rule is method)
        selector = next(ours, Method(method))
        if name in METHODS and METHODS[name].rule is not method:
            name = f"own_{name}"  # not to be taken for ours
    elif isinstance(method, str) and method in METHODS:
        name, selector = method, METHODS[method]
    else:
        raise ValueError(f"unknown `method={method!r}`; choose one of: {', '.join(sorted(METHODS))}")
    known = selector.options
    for option in options.keys() - known.keys():
        takes = ", ".join(sorted(known)) or "none"
        raise TypeError(f"unknown option `{option}` for `method={name!r}`; it takes: {takes}")
    options = known | {key: plain(value) for key, value in options.items()}
    if missing := [option for option, value in options.items() if value is inspect.Parameter.empty]:
        raise TypeError(f"`method={name!r}` needs its option `{missing[0]}`; pass it by name")
    return name, selector, options


def _obeyed(name: str, selector: Method, asked: Asked, constraints: Constraints) -> dict[str, Constraints]:
    """Return what the rule is given of the constraints; refuse those that it cannot obey."""
    given = asked.recorded()
    if refused := sorted(given.keys() & selector.refuses):
        raise ValueError(f"`{refused[0]}` makes no sense with `method={name!r}`; leave it out")
    if selector.constrained:
        return {"constraints": constraints}
    if given:
        raise TypeError(
            f"`{next(iter(given))}` needs a method that obeys it; give yours a keyword argument `constraints`"
        )
    return {}


def _counted(selection: Selection, features: FeatureMatrix, constraints: Constraints) -> Selection:
    """Add to the receipt what the picks cover, whatever the method went by."""
    new = new_features(features.offsets, features.ids, features.d_sae, selection.indices)
    pool = None if not len(constraints.excluded) else constraints.pool
    return replace(selection, covered=new.cumsum(), pool_coverage=coverage(features, pool))


def _check_picks(name: str, selection: Any, budget: int, n: int, constraints: Constraints) -> Selection:
    """Refuse what is no selection of rows, or breaks a constraint: a rule may be anybody's."""
    if not isinstance(selection, Selection):
        raise TypeError(f"`method={name!r}` returned a {type(selection).__name__}; it must return a Selection")
    picks, gains = np.asarray(selection.indices), np.asarray(selection.gains)
    rows = np.unique(picks)
    inside = len(rows) == 0 or (rows.dtype.kind in "iu" and rows[0] >= 0 and rows[-1] < n)
    if not inside or len(rows) < len(picks) or len(rows) > budget or len(gains) != len(picks):
        raise ValueError(f"`method={name!r}` must return at most {budget} different rows from 0 to {n - 1}, and gains")
    picks = picks.astype(np.int64)
    used = np.bincount(constraints.group[picks], minlength=len(constraints.room))
    wrong = np.isin(picks, constraints.excluded).any() or (used > constraints.room).any()
    wrong |= bool(constraints.cost[picks].sum() > constraints.purse * TOLERANCE)
    if wrong or not np.array_equal(picks[: len(constraints.first)], constraints.first):
        raise ValueError(f"`method={name!r}` returned rows that its `constraints` do not allow")
    starts = np.asarray(selection.round_starts, np.int64) if len(selection.round_starts) else np.arange(len(picks))[:1]
    if len(starts) and (starts[0] != 0 or (np.diff(starts) <= 0).any() or starts[-1] >= max(len(picks), 1)):
        raise ValueError(f"`method={name!r}` returned the round starts {starts}: they rise from 0, below the picks")
    if gains.dtype.kind not in "biuf" or np.isnan(gains).any():
        raise ValueError(f"`method={name!r}` returned gains that are no numbers")
    gains = gains.astype(np.float64 if gains.dtype.kind == "f" else np.int64)
    return replace(selection, indices=picks, gains=gains, round_starts=starts)


def _check_extended(earlier: Selection | None, selection: Selection) -> None:
    """Refuse an earlier selection of other rows: the same method would have found its gains here again."""
    if earlier is None or earlier.method != selection.method:
        return
    free = ("budget", "extend", "must_include")
    ours, theirs = ({k: v for k, v in each.parameters.items() if k not in free} for each in (selection, earlier))
    if ours != theirs:
        return  # another measure, in which it may well have other gains
    gains = selection.gains[: len(earlier)]
    differ = np.flatnonzero(~np.isclose(gains, earlier.gains, rtol=1e-6) & (earlier.gains > 0))
    if len(differ):
        pick = differ[0]
        raise ValueError(
            f"`extend` is of other rows than these: its pick {pick + 1}, row {earlier.indices[pick]}, added "
            f"{earlier.gains[pick]:g} there and adds {selection.gains[pick]:g} here"
        )


def _receipt(extend: Any) -> Selection | None:
    """Return the selection that is to be extended: given itself, or as the subset that it picked."""
    receipt = getattr(extend, "sae_selection", extend)
    if receipt is not extend and len(receipt) != len(extend):
        raise ValueError(
            f"`extend` has {len(extend)} rows, its `sae_selection` {len(receipt)}: rows were filtered out"
        )
    if receipt is not None and not isinstance(receipt, Selection):
        raise TypeError(f"`extend` is a {type(extend).__name__} without `sae_selection`; pass a subset that has it")
    return receipt


def _generator(seed: int | None) -> Rng:
    if seed is None:
        return None
    if not (is_number(seed, Integral) and seed >= 0):
        raise ValueError(f"`seed={seed!r}` must be an integer >= 0, or None for dataset order")
    return np.random.default_rng(int(seed))


def check_encoded(ds: Dataset, needs: str | None, text: Any, max_length: Any, who: str = "this method") -> None:
    """Refuse an encoded dataset that was to be encoded otherwise, or that lacks what the method `who` needs."""
    if text is not None or max_length is not None:
        raise ValueError(
            "this dataset is encoded already; to encode it anew by `text` or `max_length`, pass `sae` too"
        )
    if needs and STATE not in ds.column_names:
        raise ValueError(
            f"no column `{STATE}`, which {who} needs: encode with `keep='state'`, or pass `embedding='column'`"
        )


def check_cut(threshold: Any, top: Any, max_share: Any) -> None:
    """Refuse what cannot cut features."""
    if threshold is not None and not (is_number(threshold) and 0 <= threshold < math.inf):
        raise ValueError(f"`threshold={threshold!r}` must be a number >= 0, or None for the SAE's or the method's own")
    if top is not None and not (is_number(top, Integral) and top >= 1):
        raise ValueError(f"`top={top!r}` must be a whole number >= 1, or None for the method's own")
    if max_share is not None and not (is_number(max_share) and 0 < max_share < 1):
        raise ValueError(f"`max_share={max_share!r}` must be between 0 and 1, or None to keep every feature")
