"""Selection: from features to the rows to keep. No model here, unless `select` has to encode the dataset first.

A rule takes `(features, budget, rng, **options)` and returns a Selection of at most `budget` rows. `rng` orders equal
rows: `None` keeps dataset order, a generator draws one permutation of the rows. Every rule checks its options first,
so running it on zero rows with budget 0 checks them completely.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .coverage import Int64s, gains_in_order, greedy_cover, scan
from .features import ACTS, IDS, TOKENS, Features, encoding_record, is_encoded

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets or torch
    from datasets import Dataset

    from .formats import SaeSource
    from .text import TextSource


@dataclass(frozen=True, eq=False)
class Selection:
    """Hold which rows were picked, in which order, and why: the receipt of a selection.

    Example, rows with the features {0, 1}, {1, 2, 3}, {3}, picked greedily: row 1 brings three, row 0 one more, and
    row 2 is left for a second round: `indices [1, 0, 2]`, `gains [3, 1, 1]`, `round_starts [0, 2]`.
    """

    indices: Int64s
    """[k]: the rows, in the order they were picked."""
    gains: Int64s
    """[k]: how many features each pick added to what its round had covered before."""
    round_starts: Int64s
    """The pick positions at which a round began, coverage starting anew; [0] for a single round."""
    method: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Everything that decided the picks, defaults included; JSON-able."""
    fingerprint: str = ""
    """The source dataset's fingerprint."""

    def __len__(self) -> int:
        return len(self.indices)


Rng = np.random.Generator | None
Rule = Callable[..., Selection]


def greedy(features: Features, budget: int, rng: Rng, *, pick: str = "best", exhausted: str = "restart") -> Selection:
    """Pick the row that adds the most features not yet covered, again and again: SAE-GreedSelect.

    Algorithm 1 of arXiv:2502.14050 (its full text was not at hand) read as exact greedy maximum coverage: no other k
    rows cover more than 1 / (1 - 1/e) times as much. `pick="first"` is the other reading, which gives other rows: the
    scan of #InsTag (arXiv:2308.07074), richest row first, that picks every row which adds any feature.

    Args:
        exhausted: when no row adds a feature, "restart" forgets the coverage and begins a new round over the rows
            left, those without features last; "stop" returns fewer rows.
    """
    _one_of("pick", pick, "best", "first")
    _one_of("exhausted", exhausted, "restart", "stop")
    ties, restart = _tie_order(features, rng), exhausted == "restart"
    csr = features.offsets, features.ids, features.d_sae
    if pick == "best":
        picks = greedy_cover(*csr, ties, budget, restart)
    else:
        picks = scan(*csr, _sorted(ties, -features.counts), budget, 1.0, restart)
    return _fill(Selection(*picks), features, budget, ties) if restart else Selection(*picks)


def simscale(
    features: Features,
    budget: int,
    rng: Rng,
    *,
    max_overlap: float = 0.8,
    order: str = "richest",
    exhausted: str = "restart",
) -> Selection:
    """Scan the rows and pick each that is not too similar to those picked before it: SAE-SimScale.

    Algorithm 1 of arXiv:2502.14050 (its full text was not at hand) read as: pick a row that adds a feature while at
    most a share `max_overlap` of its features is covered by this round's picks.

    Args:
        max_overlap: from 0 to 1. The lower, the more rounds a budget takes, each a pass over all rows.
        order: "richest", most features first; "shuffled", as drawn from the seed; "given", in dataset order.
        exhausted: as in `greedy`.
    """
    if not (_is_number(max_overlap) and 0 <= max_overlap <= 1):
        raise ValueError(f"`max_overlap={max_overlap!r}` must be a number from 0 to 1")
    _one_of("order", order, "richest", "shuffled", "given")
    _one_of("exhausted", exhausted, "restart", "stop")
    if order == "shuffled" and rng is None:
        raise ValueError("`order='shuffled'` needs a seed; pass `seed=0`, or `order='given'` for dataset order")
    rows, restart = _tie_order(features, None if order == "given" else rng), exhausted == "restart"
    if order == "richest":
        rows = _sorted(rows, -features.counts)
    picks = scan(features.offsets, features.ids, features.d_sae, rows, budget, float(max_overlap), restart)
    return _fill(Selection(*picks), features, budget, rows) if restart else Selection(*picks)


def random(features: Features, budget: int, rng: Rng) -> Selection:
    """Pick rows at random, blank ones last: what every other method is to be compared with."""
    if rng is None:
        raise ValueError("`method='random'` needs a seed; pass `seed=0`, or any other integer >= 0")
    return _one_round(features, _sorted(_tie_order(features, rng), features.tokens == 0)[:budget])


def longest(features: Features, budget: int, rng: Rng) -> Selection:
    """Pick the rows with the most tokens: the baseline to beat, since longer rows have more features."""
    return _one_round(features, _sorted(_tie_order(features, rng), -features.tokens)[:budget])


SELECTORS: dict[str, Rule] = {"greedy": greedy, "simscale": simscale, "random": random, "longest": longest}


def choose(
    features: Features, budget: float, method: str | Rule = "greedy", *, seed: int | None = 0, **options: Any
) -> Selection:
    """Choose rows by their features: `select` without a dataset. Warns where fewer rows than `budget` qualify.

    Args:
        budget: number of rows, or a fraction of them strictly between 0 and 1.
        method: a name in `SELECTORS`, or a rule of your own, a function as described at the top of this file.
        seed: orders equal rows; `None` keeps the order they have.
        **options: keyword-only arguments of the rule.
    """
    budget = rows_of(budget, len(features))
    name, rule, options = _rule(method, options)
    selection = rule(features, budget, _generator(seed), **options)
    _check_picks(name, selection, budget, len(features))
    if len(selection) < budget:
        settings = ", ".join(f"`{key}={value!r}`" for key, value in {"method": name, **options}.items())
        found = f"no row left to pick after {len(selection)} of {budget}; returning {len(selection)} rows"
        warnings.warn(f"{settings}: {found}", stacklevel=2)
    parameters = {"budget": budget, "seed": None if seed is None else int(seed), **options}
    return replace(selection, method=name, parameters=parameters)


def select(
    ds: Dataset,
    budget: float,
    method: str | Rule = "greedy",
    *,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    threshold: float | None = None,
    top: int | None = None,
    seed: int | None = 0,
    max_length: int | None = None,
    batch_size: int = 32,
    **options: Any,
) -> Dataset:
    """Select a diverse subset of `ds`: the rows that together have the most features of a sparse autoencoder.

    Returns a Dataset with the columns of `ds`, rows in the order they were picked; its attribute `sae_selection` is
    the receipt (dropped by `map`, `select` and `shuffle`; `filter` copies it, though it may drop rows). `ds` may be
    the result of `encode`: then no model is run.

    Args:
        budget: number of rows, or a fraction of them strictly between 0 and 1.
        method: "greedy", "simscale", "random" or "longest" (see the functions of that name), or a rule of your own.
        sae, text, max_length, batch_size: how to encode, see `encode`; not needed where `ds` is encoded.
        threshold: only activations above it count; by default the SAE's calibrated value.
        top: only each row's `top` strongest features count, so that long rows weigh less; by default all do.
        seed: orders equal rows; `None` keeps dataset order. The same seed gives the same rows.
        **options: the method's: `pick` and `exhausted` of greedy; `max_overlap`, `order` and `exhausted` of simscale.

    Raises:
        TypeError, ValueError: an argument is not as above; found before any model is loaded, where it can be.

    Example::

        subset = select(load_dataset("tatsu-lab/alpaca", split="train"), 3000)
        subset.sae_selection.gains  # how many new features each row brought
    """
    _check_dataset(ds)
    budget = rows_of(budget, len(ds))
    _, rule, options = _rule(method, options)
    rng = _generator(seed)
    if rule in SELECTORS.values():
        rule(_no_rows(), 0, rng, **options)
    _check_cut(threshold, top)

    coded = source = ds
    if is_encoded(ds) and sae is None and (text is not None or max_length is not None):
        raise ValueError(
            "this dataset is encoded already; to encode it anew by `text` or `max_length`, pass `sae` too"
        )
    if not is_encoded(ds) or sae is not None:
        from .encoding import codes  # needs torch, which choosing among encoded rows does not

        coded = codes(ds, sae, text=text, max_length=max_length, batch_size=batch_size)
        # Codes of another SAE would contradict the receipt.
        source = ds.remove_columns([IDS, ACTS, TOKENS]) if is_encoded(ds) else ds
    record = encoding_record(coded)
    threshold = record["threshold"] if threshold is None else float(threshold)
    top = None if top is None else int(top)
    features = Features.from_dataset(coded).above(threshold)
    selection = choose(features if top is None else features.top(top), budget, method, seed=seed, **options)
    parameters = {**selection.parameters, "threshold": threshold, "top": top, "encoding": record}
    subset = source.select(selection.indices)
    subset.sae_selection = replace(selection, parameters=parameters, fingerprint=ds._fingerprint)
    return subset


def rows_of(budget: float, n: int) -> int:
    """Turn `budget`, a number of rows or a fraction of `n`, into a number of rows from 1 to `n`."""
    if not _is_number(budget):
        raise TypeError(f"`budget={budget!r}` must be a number of rows, or a fraction such as 0.1")
    if n == 0:
        raise ValueError("the dataset is empty: there is no row to select")
    whole = isinstance(budget, Integral)
    if whole and not 1 <= budget <= n:
        raise ValueError(f"`budget={budget}` but the dataset has {n:,} rows; pass 1 to {n}, or a fraction such as 0.1")
    if not whole and not 0 < budget < 1:
        raise ValueError(f"`budget={budget}` is no fraction; pass one strictly between 0 and 1, or a whole number")
    return int(budget) if whole else max(1, round(budget * n))


def _no_rows() -> Features:
    none = np.empty(0, np.uint16)
    return Features(np.zeros(1, np.int64), none, none.astype(np.float32), 1, none.astype(np.int32))


def _tie_order(features: Features, rng: Rng) -> Int64s:
    return np.arange(len(features)) if rng is None else rng.permutation(len(features))


def _sorted(rows: Int64s, key: NDArray[Any]) -> Int64s:
    """Sort `rows` by their values in `key`, smallest first; equal rows stay in order."""
    return rows[np.argsort(key[rows], kind="stable")]


def _fill(selection: Selection, features: Features, budget: int, order: Int64s) -> Selection:
    """Append rows without features, in `order` but blank ones last, up to `budget`; they begin no round."""
    rest = _sorted(order[features.counts[order] == 0], features.tokens == 0)[: budget - len(selection)]
    if not len(selection):
        return _one_round(features, rest)
    indices = np.concatenate([selection.indices, rest])
    return replace(selection, indices=indices, gains=np.pad(selection.gains, (0, len(rest))))


def _one_round(features: Features, indices: Int64s) -> Selection:
    gains = gains_in_order(features.offsets, features.ids, features.d_sae, indices)
    return Selection(indices, gains, round_starts=np.arange(len(indices))[:1])  # [0], or [] without picks


def _rule(method: str | Rule, options: dict[str, Any]) -> tuple[str, Rule, dict[str, Any]]:
    """Look the rule up and return its name, itself, and its options, those not given at their defaults."""
    if callable(method):
        name, rule = getattr(method, "__name__", type(method).__name__), method
    elif isinstance(method, str) and method in SELECTORS:
        name, rule = method, SELECTORS[method]
    else:
        raise ValueError(f"unknown `method={method!r}`; choose one of: {', '.join(sorted(SELECTORS))}")
    known = {p.name: p.default for p in inspect.signature(rule).parameters.values() if p.kind is p.KEYWORD_ONLY}
    for option in options.keys() - known.keys():
        takes = ", ".join(sorted(known)) or "none"
        raise TypeError(f"unknown option `{option}` for `method={name!r}`; it takes: {takes}")
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in options.items()}
    return name, rule, known | plain


def _check_picks(name: str, selection: Any, budget: int, n: int) -> None:
    """Refuse what is no selection of rows: a rule may be anybody's."""
    if not isinstance(selection, Selection):
        raise TypeError(f"`method={name!r}` returned a {type(selection).__name__}; it must return a Selection")
    rows = np.unique(selection.indices)
    if len(rows) < len(selection) or len(rows) > budget or (len(rows) and (rows[0] < 0 or rows[-1] >= n)):
        raise ValueError(f"`method={name!r}` must return at most {budget} different rows from 0 to {n - 1}")


def _generator(seed: int | None) -> Rng:
    if seed is None:
        return None
    if not (_is_number(seed, Integral) and seed >= 0):
        raise ValueError(f"`seed={seed!r}` must be an integer >= 0, or None for dataset order")
    return np.random.default_rng(int(seed))


def _one_of(option: str, value: Any, *allowed: str) -> None:
    if value not in allowed:
        raise ValueError(f"unknown `{option}={value!r}`; choose one of: {', '.join(allowed)}")


def _check_dataset(ds: Any) -> None:
    import datasets

    if isinstance(ds, datasets.Dataset):
        return
    todo = "pass a datasets.Dataset"
    if isinstance(ds, datasets.DatasetDict | datasets.IterableDatasetDict):
        todo = f"pick a split: ds[{next(iter(ds), 'train')!r}].sae_select(...)"
    elif isinstance(ds, datasets.IterableDataset):
        todo = "a stream has no rows to go back to: collect some, datasets.Dataset.from_list(list(ds.take(10_000)))"
    raise TypeError(f"`ds` is a {type(ds).__name__}; {todo}")


def _check_cut(threshold: float | None, top: int | None) -> None:
    if threshold is not None and not (_is_number(threshold) and 0 <= threshold < math.inf):
        raise ValueError(f"`threshold={threshold!r}` must be a number >= 0, or None for the SAE's calibrated value")
    if top is not None and not (_is_number(top, Integral) and top >= 1):
        raise ValueError(f"`top={top!r}` must be a whole number >= 1, or None to keep every feature")


def _is_number(value: Any, kind: type = Real) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
