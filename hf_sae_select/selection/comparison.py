"""`compare`: one budget spent by several methods, a line each, always beside `longest` and `random`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._datasets import check_dataset
from .._places import rows_at
from ..encoding.digests import check_digests
from ..features.columns import encoding_record
from ..features.matrix import FeatureMatrix
from .api import available_codes, pool_encoding
from .concept_rules import ConceptArguments, ConceptRules
from .contamination import ComparedRows, NearArgument, near_or_repeated_rows
from .cuts import Cuts
from .extension import earlier_selection
from .line_figures import LineFigures
from .lines import ALL_ROWS, Methods, lines_of, takes_target
from .quota import Quota
from .request import SelectionRequest
from .result import Selection
from .target_argument import TargetArgument
from .target_overlap import TargetOverlap
from .vocabulary import Vocabulary

if TYPE_CHECKING:  # annotations only
    from pathlib import Path

    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..sae.labels import Labels
    from ..sae.loading import SaeSource
    from .concept_rules import Boost, Concepts
    from .references import References
    from .table import Comparison
    from .target_argument import TargetSource

DEFAULT_METHODS = ("herding", "match")


def compare(
    dataset: Dataset | str | Path,
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
    """Select by several methods and return a table of how each represents the dataset, beside `longest` and `random`.

    The table has one line a method and one for all rows. Its columns: `rows`; `likeness` of the rows to all rows, as
    in `metrics`, and how many `random_rows` are as like them, a mean of several draws; `tokens`, the mean of a row,
    and `length`, the same where the mean of all rows is 1; `redundancy`, as in `metrics`; `features`, the distinct
    features covered, and their `share` of those of all rows; `saturated_at`, the picks after which all features were
    covered (NaN if never); `seconds` of selecting. The line `random` is one draw. All lines are measured on the same
    features, cut by `threshold`, `top` and `max_share`, whatever cut a method itself selects by; likeness is always of
    each row's 256 strongest features. Excluded rows are not among all rows either.

    Args:
        dataset (`Dataset`, `str` or `Path`):
            The rows to select from, or their place: a file, a pattern of files, a folder or a Hub dataset, see
            `docs/big-data.md`.
        budget (`int`, `float` or `str`):
            Number of rows, a fraction of them, or an amount of what rows cost, see `select`.
        methods (`Sequence` or `dict`, *optional*):
            Names in `METHODS` or functions of your own; or, with options, constraints, a seed or an embedding for one
            line, `{"label": {"method": "simscale", "max_overlap": 0.7}}`. By default "herding" and
            "match".
        target (`Dataset`, `list[str]`, `FeatureMatrix`, `str` or `dict`, *optional*):
            Rows to select towards, see `select`. Methods that take no target select without it. The table then has
            `distance`, the Hellinger distance of a line's rows to the target, in place of `random_rows`.
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
    compare(dataset, 3000, ["herding", "greedy", "simscale"])
    ```
    """
    dataset = rows_at("dataset", dataset)
    check_dataset("dataset", dataset, "compare")
    cuts, near = Cuts(threshold, top, max_share), NearArgument.parse(exclude_near)
    cuts.check()
    argument = TargetArgument.parse(target, overlap)
    methods = DEFAULT_METHODS if methods is None else methods
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
    lines = lines_of(methods, shared, options, concepts)
    aimed = {label: argument is not None and takes_target(line.method) for label, line in lines.items()}
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
    how = {"text": text, "max_length": max_length, "batch_size": batch_size}
    encoding = pool_encoding(codes, list(requests.values()), sae, **how)
    if argument is not None:
        repeated = TargetOverlap.of_texts(argument, dataset, encoding)
        requests = {label: repeated.left_out_of(request) for label, request in requests.items()}
        aim = argument.encoded(encoding)
    reference = None if near is None else near.encoded(encoding)
    if encoded is None:
        from ..encoding.pipeline import encode  # needs torch

        encoded = encode(dataset, **encoding.arguments)  # once, to be selected from many times
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
    figures = LineFigures(encoded, measure, parameters, aim)
    table = {label: figures.of_method(request, aimed[label]) for label, request in requests.items()}
    table[ALL_ROWS] = figures.of_all_rows()
    from .table import FORMATS, Comparison  # needs pandas, which datasets loads late

    absent = "distance" if aim is None else "random_rows"  # which are as like all rows, and not as near the target
    columns = [name for name in FORMATS if name != absent]
    return Comparison(list(table.values()), index=list(table), columns=columns)


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
