"""`compare`: one budget spent by several methods, a line each, always beside `longest` and `random`."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._datasets import check_dataset
from ..encoding.digests import check_digests
from ..features.columns import encoding_record
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from ..features.shares import Shares
from .api import available_codes
from .concept_rules import RULES, ConceptArguments, ConceptRules, excluded_rows
from .contamination import ComparedRows, NearArgument, near_or_repeated_rows
from .extension import earlier_selection
from .method import Method, MethodFunction
from .methods import BASELINES, METHODS
from .quota import Quota
from .references import PoolEncoding
from .request import Cuts, SelectionRequest
from .result import Selection
from .run import run_on_dataset
from .summary import summarize, summarize_rows
from .target_argument import TargetArgument
from .target_distance import TargetDistance
from .target_overlap import TargetOverlap
from .targets import Target
from .vocabulary import Vocabulary

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..sae.labels import Labels
    from ..sae.loading import SaeSource
    from .concept_rules import Boost, Concepts
    from .references import References
    from .table import Comparison
    from .target_argument import TargetSource

ALL_ROWS = "(all rows)"
Methods = Sequence[str | MethodFunction] | Mapping[str, Mapping[str, Any]]


def compare(
    dataset: Dataset,
    budget: float | str,
    methods: Methods | None = None,
    *,
    target: TargetSource | None = None,
    overlap: str = "exclude",
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    threshold: float | None = None,
    top: int | None = None,
    max_share: float | None = None,
    embedding: str | None = None,
    seed: int | None = 0,
    must_include: Sequence[int] = (),
    exclude: Sequence[int] = (),
    exclude_near: References | None = None,
    quota: Quota | None = None,
    quality: str | None = None,
    cost: str | None = None,
    per_token: float = 0.0,
    extend: Selection | Dataset | None = None,
    avoid: Concepts | None = None,
    require: Concepts | None = None,
    require_all: Concepts | None = None,
    boost: Boost | None = None,
    labels: Labels | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    **options: Any,
) -> Comparison:
    """Select by several methods and return a table of what each covers, `longest` and `random` always among them.

    The table has one line a method and one for all rows. Its columns: `rows`; `features`, the distinct features
    covered, and their `share` of those of all rows; `likeness` of the rows to all rows, `richness` and `redundancy`
    as in `metrics`; `tokens`, the mean of a row; `rounds`; `saturated_at`, the picks after which all features were
    covered (NaN if never); `seconds` of selecting. All lines are measured on the same features, cut by `threshold`,
    `top` and `max_share`, whatever cut a method itself selects by; `likeness` is always of each row's 256 strongest
    features. Excluded rows are not among all rows either.

    Args:
        dataset (`Dataset`):
            The rows to select from.
        budget (`int`, `float` or `str`):
            Number of rows, a fraction of them, or an amount of what rows cost, see `select`.
        methods (`Sequence` or `dict`, *optional*):
            Names in `METHODS` or functions of your own; or, with options, constraints, a seed or an embedding for one
            line, `{"label": {"method": "simscale", "max_overlap": 0.7}}`. By default "match", and "herding" too where
            a `target` is passed.
        target (`Dataset`, `list[str]`, `FeatureMatrix`, `str` or `dict`, *optional*):
            Rows to select towards, see `select`. Methods that take no target select without it. The table has one
            column more: `distance`, the Hellinger distance of a line's rows to the target.
        overlap (`str`, *optional*, defaults to `'exclude'`):
            What happens with rows that are in the target too, see `select`: the same in all lines.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The autoencoder, see `encode`.
        text (`str`, `list` or `Callable`, *optional*):
            The text of a row, see `encode`.
        threshold (`float`, *optional*):
            The activation threshold of the methods and of the measurement; by default the SAE's calibrated value is
            measured by.
        top (`int`, *optional*):
            Only the `top` strongest features of each row count.
        max_share (`float`, *optional*):
            Features that more than this share of the rows have do not count.
        embedding (`str`, *optional*):
            A column of vectors for the methods that compare vectors. The baselines ignore it.
        seed (`int`, *optional*, defaults to `0`):
            Seed that orders equal rows; `random` has seed 0 where it is None.
        must_include (`Sequence[int]`, *optional*, defaults to `()`):
            Rows that are picked first, see `select`.
        exclude (`Sequence[int]`, *optional*, defaults to `()`):
            Rows that are ignored, see `select`.
        exclude_near (`Dataset`, `list`, `str`, `Path` or `FeatureMatrix`, *optional*):
            Rows that no pick may be near, see `select`.
        quota (`str` or `dict`, *optional*):
            The most rows of each value of a column, see `select`.
        quality (`str`, *optional*):
            A column of factors of the rows' gains, see `select`. `longest` ignores it.
        cost (`str`, *optional*):
            What the budget is an amount of, see `select`.
        per_token (`float`, *optional*, defaults to `0.0`):
            The power of a row's tokens that divides its gain, see `select`. The baselines ignore it.
        extend (`Selection` or `Dataset`, *optional*):
            An earlier selection to grow, see `select`.
        avoid (`int`, `str`, `list` or `dict`, *optional*):
            Features: rows that have any of them are left out, see `select`.
        require (`int`, `str`, `list` or `dict`, *optional*):
            Features: rows that have none of them are left out.
        require_all (`int`, `str`, `list` or `dict`, *optional*):
            Features: rows that lack one of them are left out.
        boost (`dict`, *optional*):
            Factors of features' weights, see `select`. The baselines ignore it.
        labels (`Labels`, *optional*):
            The labels that have the names. By default those of the SAE.
        max_length (`int`, *optional*):
            Number of tokens that are read of each row, see `encode`.
        batch_size (`int`, *optional*, defaults to `32`):
            Windows per forward pass, see `encode`.
        **options (`Any`):
            Options for every method; the baselines take none.

    Returns:
        `Comparison`: The table, one line a method, labels as its index: a DataFrame whose `plot()` draws it.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If an argument is not allowed; the message names it.

    Example:

    ```python
    compare(dataset, 3000, ["match", "greedy", "simscale"])
    ```
    """
    check_dataset("dataset", dataset, "select")
    cuts, near = Cuts(threshold, top, max_share), NearArgument.parse(exclude_near)
    cuts.check()
    argument = TargetArgument.parse(target, overlap)
    if methods is None:
        methods = ("match",) if argument is None else ("herding", "match")
    shared: dict[str, Any] = {
        "seed": seed,
        "embedding": embedding,
        "must_include": must_include,
        "exclude": exclude,
        "quota": quota,
    }
    shared |= {"quality": quality, "cost": cost, "per_token": per_token}
    shared |= {"extend": earlier_selection(extend, dataset)}
    concepts = ConceptArguments(avoid, require, require_all, boost, labels)
    lines = _lines(methods, shared, options, concepts)
    aimed = {label: argument is not None and _takes_target(line.method) for label, line in lines.items()}
    requests = {label: line.request(dataset, budget, cuts, aimed[label]) for label, line in lines.items()}
    codes = _codes(dataset, requests, sae, text=text, max_length=max_length)
    record = None if codes is None else encoding_record(codes)
    shared_rules = ConceptRules()
    if any(line.concepts.are_passed for line in lines.values()):
        names = any(line.concepts.has_names for line in lines.values())
        vocabulary = Vocabulary.of(labels, record, sae, needs_names=names)
        requests = {name: requests[name].with_concepts(lines[name].concepts.rules(vocabulary)) for name in requests}
        shared_rules = concepts.rules(vocabulary)
    encoded, left_out, aim = codes, dict[str, list[int]](), None
    encoding = PoolEncoding(record, sae, text, max_length, batch_size)
    if argument is not None:
        repeated = TargetOverlap.of_texts(argument, dataset, encoding)
        requests = {label: repeated.left_out_of(request) for label, request in requests.items()}
        aim = argument.encoded(encoding)
    reference = None if near is None else near.encoded(encoding)
    if encoded is None:
        encoded = _encoded(dataset, requests, sae, text=text, max_length=max_length, batch_size=batch_size)
    if aim is not None:
        repeated = repeated.with_features(aim, FeatureMatrix.from_dataset(encoded))
        requests = {label: repeated.left_out_of(request) for label, request in requests.items()}
        left_out |= repeated.left_out()
    if reference is not None:
        rows = near_or_repeated_rows(ComparedRows.of(dataset, encoded, text), reference)
        requests = {label: request.leaving_out("exclude_near", rows) for label, request in requests.items()}
        left_out["exclude_near"] = rows.tolist()
    calibrated = encoding_record(encoded)["threshold"]
    measure = Cuts(calibrated if threshold is None else threshold, top, max_share)
    parameters = {
        "constraints": {"exclude": list(exclude), "left_out": left_out, **shared_rules.resolved(calibrated).record()}
    }
    measurement = _Measurement(encoded, measure, parameters, aim)
    table = {label: measurement.line(request, aimed[label]) for label, request in requests.items()}
    table[ALL_ROWS] = measurement.all_rows()
    from .table import FORMATS, Comparison  # needs pandas, which datasets loads late

    columns = [name for name in FORMATS if name != "distance" or aim is not None]
    return Comparison(list(table.values()), index=list(table), columns=columns)


@dataclass(frozen=True)
class _Line:
    """Hold the arguments of one line of the table."""

    method: str | MethodFunction
    shared: dict[str, Any]
    options: dict[str, Any]
    concepts: ConceptArguments

    def request(self, dataset: Dataset, budget: float | str, cuts: Cuts, has_target: bool) -> SelectionRequest:
        arguments = {**self.shared, "has_target": has_target}
        cuts = Cuts(cuts.threshold, cuts.top, cuts.max_share, arguments.pop("embedding"))
        arguments["extend"] = earlier_selection(arguments["extend"], dataset)
        return SelectionRequest.parse(len(dataset), dataset, budget, self.method, self.options, cuts=cuts, **arguments)


def _lines(
    methods: Methods, shared: dict[str, Any], options: dict[str, Any], concepts: ConceptArguments
) -> dict[str, _Line]:
    """Return the arguments for each label, the baselines last."""
    if isinstance(methods, str) or not isinstance(methods, Sequence | Mapping):
        raise TypeError(f"`methods={methods!r}` must be a list of methods, or {{'label': {{'method': ...}}}}")
    if "method" in options:
        raise TypeError(f"`method={options['method']!r}` is for `select`; pass `methods`, a list of them")
    lines: dict[str, _Line] = {}
    for label, arguments in _labelled(methods):
        method = arguments.pop("method")
        _check_label(label, method, lines)
        own_shared = {name: arguments.pop(name) for name in list(arguments) if name in shared}
        own_rules = {name: arguments.pop(name) for name in (*RULES, "boost") if name in arguments}
        is_baseline = _known(method) in BASELINES
        own_options = arguments if is_baseline else options | arguments
        rules = replace(replace(concepts, boost=None) if is_baseline else concepts, **own_rules)
        lines[label] = _Line(method, for_method(method, shared) | own_shared, own_options, rules)
    for name in BASELINES:
        lines.setdefault(name, _Line(name, for_method(name, shared), {}, replace(concepts, boost=None)))
    return lines


def _labelled(methods: Methods) -> list[tuple[str, dict[str, Any]]]:
    """Return the label of each line, and its own arguments."""
    if not isinstance(methods, Mapping):
        return [(_label(method), {"method": method}) for method in methods]
    for label, arguments in methods.items():
        if not isinstance(arguments, Mapping) or "method" not in arguments:
            raise TypeError(
                f"`methods` has {arguments!r} for {label!r}; it must be {{'method': ...}}, with or without options"
            )
    return [(label, dict(arguments)) for label, arguments in methods.items()]


def _label(method: Any) -> str:
    """Return the name of a method; that of a partial is its function's."""
    if isinstance(method, str):
        return method
    if not callable(method):
        raise TypeError(
            f"`methods` has {method!r}; it must hold names and functions, or be {{'label': {{'method': ...}}}}"
        )
    name: str = getattr(getattr(method, "func", method), "__name__", type(method).__name__)
    return name


def _check_label(label: str, method: str | MethodFunction, lines: Mapping[str, Any]) -> None:
    """Check that a label names one line only; a baseline may be named by itself."""
    remedy = "choose another label: {'label': {'method': ...}}"
    if label in lines:
        raise ValueError(f"`methods` has {label!r} twice; {remedy}")
    if label == ALL_ROWS or (label in BASELINES and _known(method) != label):
        raise ValueError(f"`methods` has a method called {label!r}, which is a line of every table; {remedy}")


def for_method(method: str | MethodFunction, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Drop shared arguments that a baseline does not accept, so that the other methods can have them."""
    name = _known(method)
    if name not in BASELINES:
        return dict(shared)
    defaults = {"quality": None, "per_token": 0.0}
    refused = {argument: defaults[argument] for argument in METHODS[name].refuses if argument in shared}
    kept = {**shared, **refused, **({"embedding": None} if "embedding" in shared else {})}
    if "concepts" in shared:
        kept["concepts"] = replace(shared["concepts"], boost=())
    return kept | {"seed": 0} if name == "random" and kept.get("seed", 0) is None else kept


def _known(method: Any) -> str:
    """Return the name in `METHODS` of a method, passed by name or as the function; "" if it is not in the table."""
    return next((name for name, known in METHODS.items() if method in (name, known.function)), "")


def _takes_target(method: str | MethodFunction) -> bool:
    """Tell whether a method takes a target; an unknown name is refused later."""
    known = _known(method)
    if known or isinstance(method, str):
        return bool(known) and METHODS[known].takes_target
    return Method(method).takes_target


def _codes(
    dataset: Dataset, requests: Mapping[str, SelectionRequest], sae: SaeSource | None, **how: Any
) -> Dataset | None:
    """Return the codes of a dataset that is encoded, with what any of the methods needs; None if it is not."""
    codes = None
    for label, request in requests.items():
        codes = available_codes(dataset, request.keep, sae, **how, who=repr(label))
    if codes is not None:
        check_digests(dataset)
    return codes


def _encoded(dataset: Dataset, requests: Mapping[str, SelectionRequest], sae: SaeSource | None, **how: Any) -> Dataset:
    """Encode the rows, with what any of the methods needs: once, to be selected from many times."""
    from ..encoding.pipeline import encode  # needs torch

    keep = {name for request in requests.values() for name in request.keep}
    return encode(dataset, sae, keep=sorted(keep), **how)


class _Measurement:
    """Measure lines of the table on the same features, whatever cuts their methods select by."""

    def __init__(
        self, encoded: Dataset, cuts: Cuts, parameters: Mapping[str, Any], target: Target | None = None
    ) -> None:
        self._target, self._encoded, self._all_features = target, encoded, FeatureMatrix.from_dataset(encoded)
        self._excluded = excluded_rows(parameters, self._all_features)
        self._features = cuts.apply(self._all_features, self._excluded)
        self._shares: dict[tuple[int, ...], Shares] = {}  # for the excluded rows of a line, mostly those of all lines

    def line(self, request: SelectionRequest, has_target: bool = False) -> dict[str, Any]:
        """Select, towards the target if `has_target`, and return a line of the table."""
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fewer rows than the budget: the table says so
            selection = run_on_dataset(request, self._encoded, self._target if has_target else None)
        seconds = time.perf_counter() - started
        excluded = excluded_rows(selection.parameters, self._all_features, selection.indices)
        figures = summarize(self._features, selection, _pool(self._features, excluded))
        figures |= {"likeness": self._likeness(selection.indices, excluded), "seconds": seconds}
        return figures | self._distance(selection.indices)

    def all_rows(self) -> dict[str, Any]:
        """Return the line of all rows."""
        pool = _pool(self._features, self._excluded)
        return summarize_rows(self._features, pool, pool) | {
            "likeness": self._likeness(pool, self._excluded),
            "seconds": math.nan,
            **self._distance(pool),
        }

    def _distance(self, rows: Int64s) -> dict[str, float]:
        """Return the distance of rows to the target, if there is one."""
        return {} if self._target_distance is None else {"distance": self._target_distance.hellinger(rows)}

    @cached_property
    def _target_distance(self) -> TargetDistance | None:
        if self._target is None:
            return None
        return TargetDistance(self._all_features, _pool(self._all_features, self._excluded), self._target)

    def _likeness(self, rows: NDArray[np.int64], excluded: Int64s) -> float:
        key = tuple(excluded.tolist())
        if key not in self._shares:
            self._shares[key] = Shares.of_strongest(self._all_features, _pool(self._all_features, excluded))
        return self._shares[key].likeness(rows)


def _pool(features: FeatureMatrix, excluded: Int64s) -> Int64s:
    """Return the rows that could be selected."""
    return np.setdiff1d(np.arange(len(features)), excluded)
