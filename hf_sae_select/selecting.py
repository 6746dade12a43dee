"""Selecting: a dataset, a budget, a method and constraints -> the rows to keep, with their receipt.

No model here, unless `select` has to encode the dataset first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .constraints import Asked, Constraints, Quota, costs_of, is_number, parse_budget
from .coverage import new_features
from .features import KEPT, STATE, Features, code_columns, encoding_record, is_encoded
from .metrics import coverage
from .rules import SELECTORS, Rng, Rule, Selector
from .selection import Selection

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets or torch
    from datasets import Dataset

    from .formats import SaeSource
    from .text import TextSource


def choose(
    features: Features,
    budget: float | str,
    method: str | Rule = "greedy",
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

    Args:
        columns: what `quota`, `quality` and `cost` name: a dict of lists of n values, or a Dataset.
        budget, method, seed, **options and the constraints: as in `select`.
    """
    asked = Asked(must_include, exclude, quota, quality, cost, per_token, extend)
    return _choose(features, budget, method, seed, {} if columns is None else columns, asked, options)


def select(
    ds: Dataset,
    budget: float | str,
    method: str | Rule = "greedy",
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
    """Select a diverse subset of `ds`: the rows that together have the most features of a sparse autoencoder.

    Returns a Dataset with the columns of `ds`, rows in the order they were picked; its attribute `sae_selection` is
    the receipt (dropped by `map`, `select` and `shuffle`; `filter` copies it, though it may drop rows). `ds` may be
    the result of `encode`: then no model is run.

    Args:
        budget: number of rows, or a fraction of them strictly between 0 and 1; or an amount of what rows cost:
            "200k tokens", "1.5M chars" (`chars` being a column).
        method: a name in `SELECTORS`, or a rule of your own.
        sae, text, max_length, batch_size: how to encode, see `encode`; not needed where `ds` is encoded.
        threshold: only activations above it count; by default the SAE's calibrated value (0 for "match").
        top: only each row's `top` strongest features count, so that long rows weigh less; by default all do.
        max_share: features that more than this share of the rows have do not count; by default all do.
        embedding: column of vectors for the methods that compare vectors; by default the mean hidden state. Without
            SAE codes in `ds` no model is run for them.
        seed: orders equal rows; `None` keeps dataset order. The same seed gives the same rows.
        must_include: row indices that are picked first, in this order; they are part of the budget.
        exclude: row indices that are as good as not in the dataset.
        quota: `{"column": {value: rows}}`, the most rows of each value, others without limit; or "column": the budget
            shared out over its values as evenly as they allow.
        quality: a column of numbers from 0 on; a row's gain is multiplied by its quality, and scans begin with the
            best. A quality of 0 comes last.
        cost: "tokens" or a column: what `budget` is an amount of, and what rows cost of it.
        per_token: a row's gain is divided by its tokens to this power: 0.5 or 1 let long rows win less.
        extend: an earlier selection, or a subset with one, to grow: its rows come first, and of them the budget is
            part. The methods that go by rows give what a larger budget would have given at once.
        **options: the method's; see the rules in `rules.py`.

    Raises:
        TypeError, ValueError: an argument is not as above; found before any model is loaded, where it can be.

    Example::

        subset = select(load_dataset("tatsu-lab/alpaca", split="train"), 3000)
        subset.sae_selection.gains  # how many new features each row brought
    """
    check_dataset(ds)
    check_cut(threshold, top, max_share)
    asked = Asked(must_include, exclude, quota, quality, cost, per_token, _receipt(extend))
    selector, needs = _checked(ds, budget, method, asked, seed, embedding, options)

    coded, source = _coded(ds, sae, embedding, needs, text=text, max_length=max_length, batch_size=batch_size)
    record = {} if coded is None else encoding_record(coded)
    if threshold is None:
        threshold = record.get("threshold", 0.0) if selector.threshold is None else selector.threshold
    features = _features(ds, coded, embedding, needs)
    features = cut(features, threshold, top, max_share)
    selection = _choose(features, budget, method, seed, ds, asked, options)
    subset = source.select(selection.indices)
    cuts: dict[str, Any] = {
        "threshold": float(threshold),
        "top": None if top is None else int(top),
        "encoding": record,
    }
    cuts |= {} if max_share is None else {"max_share": float(max_share)}
    cuts |= {} if embedding is None else {"embedding": embedding}
    subset.sae_selection = replace(selection, parameters=selection.parameters | cuts, fingerprint=ds._fingerprint)
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
    features: Features,
    budget: float | str,
    method: str | Rule,
    seed: int | None,
    columns: Any,
    asked: Asked,
    options: dict[str, Any],
) -> Selection:
    name, selector, options = _method(method, options)
    amount, rows, asked = _budget(budget, asked, columns, features.tokens)
    constraints = asked.resolve(len(features), columns, features.tokens, amount)
    obeyed = _obeyed(name, selector, asked, constraints)
    selection = selector.rule(features, rows, _generator(seed), **obeyed, **options)
    _check_picks(name, selection, rows, len(features))
    parameters = {"budget": amount, "seed": None if seed is None else int(seed), **options, **asked.recorded()}
    selection = replace(_counted(selection, features, constraints), method=name, parameters=parameters)
    _check_extended(asked.extend, selection)
    if len(selection) < rows and not constraints.costly:
        settings = ", ".join(f"`{key}={value!r}`" for key, value in {"method": name, **options}.items())
        found = f"no row left to pick after {len(selection)} of {rows}; returning {len(selection)} rows"
        warnings.warn(f"{settings}: {found}", stacklevel=3)
    return selection


def _budget(budget: Any, asked: Asked, columns: Any, tokens: NDArray[Any]) -> tuple[float, int, Asked]:
    """Return the budget as an amount, the most rows that it can be, and the constraints with the cost filled in."""
    amount, unit = parse_budget(budget, asked.cost)
    if unit is None or not len(tokens):
        rows = rows_of(amount, len(tokens))
        return rows, rows, asked
    total = float(costs_of(columns, tokens, unit).sum())
    if not (is_number(amount) and 0 < amount < math.inf):
        raise ValueError(f"`budget={budget!r}` must be an amount of {unit} above 0, or a fraction of all there is")
    amount = amount * total if amount < 1 and not isinstance(budget, str) else amount
    if amount > total:
        raise ValueError(f"`budget={budget!r}` but the dataset has {total:,.0f} {unit}; pass at most that")
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
) -> tuple[Selector, str | None]:
    """Return the method and what encoding has to keep for it. How many tokens rows have is not known yet."""
    name, selector, options = _method(method, options)
    rng, needs = _generator(seed), selector.needs(options)
    amount, _, asked = _budget(budget, asked, ds, np.full(len(ds), 2**40))
    constraints = asked.resolve(len(ds), ds, np.zeros(len(ds), np.int64), amount)
    _obeyed(name, selector, asked, constraints)
    if selector in SELECTORS.values():
        selector.rule(_no_rows(), 0, rng, **options)
    if embedding is not None and needs != "state":
        compare = ", ".join(name for name, each in SELECTORS.items() if each.keep == "state")
        raise ValueError(f"`embedding` is for the methods that compare vectors: {compare}; leave it out")
    return selector, needs


def _no_rows() -> Features:
    none = np.empty(0, np.uint16)
    floats = none.astype(np.float32)
    return Features(
        np.zeros(1, np.int64), none, floats, 1, none.astype(np.int32), floats, np.zeros((0, 1), np.float32)
    )


def _coded(
    ds: Dataset, sae: SaeSource | None, embedding: str | None, needs: str | None, **how: Any
) -> tuple[Dataset | None, Dataset]:
    """Return `ds` encoded (None where its vectors are enough), and the dataset whose rows are to be returned."""
    if is_encoded(ds) and sae is None:
        if how["text"] is not None or how["max_length"] is not None:
            raise ValueError(
                "this dataset is encoded already; to encode it anew by `text` or `max_length`, pass `sae` too"
            )
        return ds, ds
    if embedding is not None and sae is None:
        return None, ds
    from .encoding import codes  # needs torch, which choosing among encoded rows does not

    keep = () if embedding is not None or needs is None else (needs,)
    # Codes of another SAE would contradict the receipt.
    return codes(ds, sae, keep=keep, **how), ds.remove_columns(code_columns(ds))


def _features(ds: Dataset, coded: Dataset | None, embedding: str | None, needs: str | None) -> Features:
    """Read the features of the rows, with the vectors that the method compares."""
    if coded is None:
        return Features.of_vectors(ds, str(embedding))
    column = KEPT[needs] if needs else None
    if column and embedding is None and column not in coded.column_names:
        other = ", or pass `embedding='column'`" if needs == "state" else ""
        raise ValueError(f"no column `{column}`, which this method needs: encode with `keep={needs!r}`{other}")
    if embedding is None:
        return Features.from_dataset(coded, vectors=STATE if needs == "state" else None)
    return replace(Features.from_dataset(coded), vectors=Features.of_vectors(ds, embedding).vectors)


def cut(features: Features, threshold: float, top: int | None, max_share: float | None) -> Features:
    """Keep the activations above `threshold`, of features that few enough rows have, and of each row the strongest."""
    features = features.above(threshold)
    features = features if max_share is None else features.rare(max_share)
    return features if top is None else features.top(top)


def _method(method: str | Rule, options: dict[str, Any]) -> tuple[str, Selector, dict[str, Any]]:
    """Look the method up and return its name, itself, and its options, those not given at their defaults."""
    if callable(method):
        name, selector = getattr(method, "__name__", type(method).__name__), Selector(method)
    elif isinstance(method, str) and method in SELECTORS:
        name, selector = method, SELECTORS[method]
    else:
        raise ValueError(f"unknown `method={method!r}`; choose one of: {', '.join(sorted(SELECTORS))}")
    known = selector.options
    for option in options.keys() - known.keys():
        takes = ", ".join(sorted(known)) or "none"
        raise TypeError(f"unknown option `{option}` for `method={name!r}`; it takes: {takes}")
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in options.items()}
    return name, selector, known | plain


def _obeyed(name: str, selector: Selector, asked: Asked, constraints: Constraints) -> dict[str, Constraints]:
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


def _counted(selection: Selection, features: Features, constraints: Constraints) -> Selection:
    """Add to the receipt what the picks cover, whatever the method went by."""
    new = new_features(features.offsets, features.ids, features.d_sae, selection.indices.astype(np.int64))
    pool = None if not len(constraints.excluded) else constraints.pool
    return replace(selection, covered=new.cumsum(), pool_coverage=coverage(features, pool))


def _check_picks(name: str, selection: Any, budget: int, n: int) -> None:
    """Refuse what is no selection of rows: a rule may be anybody's."""
    if not isinstance(selection, Selection):
        raise TypeError(f"`method={name!r}` returned a {type(selection).__name__}; it must return a Selection")
    rows = np.unique(selection.indices)
    if len(rows) < len(selection) or len(rows) > budget or (len(rows) and (rows[0] < 0 or rows[-1] >= n)):
        raise ValueError(f"`method={name!r}` must return at most {budget} different rows from 0 to {n - 1}")


def _check_extended(earlier: Selection | None, selection: Selection) -> None:
    """Refuse an earlier selection of other rows: the same method would have found its gains here again."""
    if earlier is None or earlier.method != selection.method:
        return
    both = earlier.parameters.keys() & selection.parameters.keys() - {"budget", "extend", "must_include"}
    if any(earlier.parameters[key] != selection.parameters[key] for key in both):
        return
    differ = np.flatnonzero(~np.isclose(selection.gains[: len(earlier)], earlier.gains, rtol=1e-6))
    if len(differ):
        pick = differ[0]
        raise ValueError(
            f"`extend` is of other rows than these: its pick {pick + 1}, row {earlier.indices[pick]}, added "
            f"{earlier.gains[pick]:g} there and adds {selection.gains[pick]:g} here"
        )


def _receipt(extend: Any) -> Selection | None:
    """Return the selection that is to be extended: given itself, or as the subset that it picked."""
    receipt = getattr(extend, "sae_selection", extend)
    if receipt is not None and not isinstance(receipt, Selection):
        raise TypeError(f"`extend` is a {type(extend).__name__} without `sae_selection`; pass a subset that has it")
    return receipt


def _generator(seed: int | None) -> Rng:
    if seed is None:
        return None
    if not (is_number(seed, Integral) and seed >= 0):
        raise ValueError(f"`seed={seed!r}` must be an integer >= 0, or None for dataset order")
    return np.random.default_rng(int(seed))


def check_dataset(ds: Any) -> None:
    """Refuse what is no datasets.Dataset, with what to do about it."""
    import datasets

    if isinstance(ds, datasets.Dataset):
        return
    todo = "pass a datasets.Dataset"
    if isinstance(ds, datasets.DatasetDict | datasets.IterableDatasetDict):
        todo = f"pick a split: ds[{next(iter(ds), 'train')!r}].sae_select(...)"
    elif isinstance(ds, datasets.IterableDataset):
        todo = "a stream has no rows to go back to: collect some, datasets.Dataset.from_list(list(ds.take(10_000)))"
    raise TypeError(f"`ds` is a {type(ds).__name__}; {todo}")


def check_cut(threshold: Any, top: Any, max_share: Any) -> None:
    """Refuse what cannot cut features."""
    if threshold is not None and not (is_number(threshold) and 0 <= threshold < math.inf):
        raise ValueError(f"`threshold={threshold!r}` must be a number >= 0, or None for the SAE's calibrated value")
    if top is not None and not (is_number(top, Integral) and top >= 1):
        raise ValueError(f"`top={top!r}` must be a whole number >= 1, or None to keep every feature")
    if max_share is not None and not (is_number(max_share) and 0 < max_share < 1):
        raise ValueError(f"`max_share={max_share!r}` must be between 0 and 1, or None to keep every feature")
