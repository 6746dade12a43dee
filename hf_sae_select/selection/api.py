"""`select`: a dataset, a budget, a method and constraints to the rows to keep.

No model runs here, unless `select` has to encode the dataset first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._datasets import check_dataset, fingerprint_of, select_rows
from .._places import rows_at
from .._validation import check_flag
from ..encoding.digests import check_digests
from ..encoding.libraries import import_libraries
from ..engines.engine import engine_of
from ..engines.session import opened
from ..features.columns import STATE, code_columns, encoding_record, is_encoded, without_codes
from ..features.kept import STRONGEST
from .agreement import check_agreement
from .attachment import Pool, attach, codes_in_pool
from .concept_rules import ConceptArguments
from .contamination import ComparedRows, NearArgument, near_or_repeated_rows
from .cuts import Cuts
from .extension import content_digests, digest_columns, earlier_selection
from .method import MethodFunction
from .quota import Quota
from .references import PoolEncoding
from .request import SelectionRequest
from .result import Selection
from .run import features_in_shards, read_features, run_on_dataset
from .target_argument import TargetArgument
from .target_distance import target_record
from .target_overlap import TargetOverlap
from .vocabulary import Vocabulary

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets or torch
    from pathlib import Path

    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..engines.cluster import Cluster
    from ..engines.engine import Ray
    from ..engines.process_shards import ProcessGroup
    from ..sae.labels import Labels
    from ..sae.loading import SaeSource
    from .concept_rules import Boost, Concepts
    from .references import References
    from .sharded.features import Features
    from .target_argument import TargetSource


def select(
    dataset: Dataset | str | Path,
    budget: float | str,
    method: str | MethodFunction = "herding",
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
    keep_codes: bool = False,
    engine: str | Ray | None = None,
    **options: Any,
) -> Dataset:
    """Select a small subset of a dataset by the features that a sparse autoencoder gives each row.

    The dataset may be encoded already, by `encode`: then no model runs. Otherwise `select` encodes it, and the codes
    stay in datasets' cache. Arguments are checked before any model is loaded.

    Args:
        dataset (`Dataset`, `str` or `Path`):
            The rows to select from, or their place: a file, a pattern of files, a folder or a Hub dataset, see
            `docs/big-data.md`.
        budget (`int`, `float` or `str`):
            Number of rows; a fraction of them, strictly between 0 and 1, or such as "10%"; or an amount of what rows
            cost, such as "200k tokens" or "1.5M chars", `chars` being a column.
        method (`str` or `Callable`, *optional*, defaults to `'herding'`):
            A name in `METHODS`, or a function of your own: it takes `(features, budget, rng)` and returns a
            `Selection`. Its keyword-only arguments are its options, and one named `constraints` lets it obey
            constraints, one named `target` towards a target.
        target (`Dataset`, `list[str]`, `FeatureMatrix`, `str` or `dict`, *optional*):
            Rows of what the subset is for, such as examples of a task: a Dataset, encoded or not, texts, features, or
            the place of a dataset (a file, a folder, or `owner/name:split` on the Hub). Rows are encoded as the
            dataset is. Several targets share the budget: `{"maths": rows, "code": rows}` equally, or by
            `{"maths": (rows, 0.7), "code": (rows, 0.3)}`. See `docs/targets.md`.
        overlap (`str`, *optional*, defaults to `'exclude'`):
            What happens with rows of the dataset that are in the target too, as a whole, by half of the 8-grams of
            words of a row of it, or where a short row of it is one of their lines: "exclude" leaves them out, "keep"
            does not look for them, "only_report" counts them.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The autoencoder, see `encode`; not needed where the dataset is encoded.
        text (`str`, `list` or `Callable`, *optional*):
            The text of a row, see `encode`.
        threshold (`float`, *optional*):
            Only activations above it count. By default the method's (0 for "herding" and "match"), or else the
            SAE's calibrated value.
        top (`int`, *optional*):
            Only the `top` strongest features of each row count, so that long rows weigh less. By default the method's
            (256 for "herding" and "match"), or else all.
        max_share (`float`, *optional*):
            Features that more than this share of the rows have do not count.
        embedding (`str`, *optional*):
            A column of vectors for the methods that compare vectors; by default the mean hidden state. Without codes
            in the dataset and without `sae`, no model runs for them.
        seed (`int`, *optional*, defaults to `0`):
            Seed that orders equal rows; None keeps dataset order. The same seed gives the same rows.
        must_include (`Sequence[int]`, *optional*, defaults to `()`):
            Row indices that are picked first, in this order. They are part of the budget.
        exclude (`Sequence[int]`, *optional*, defaults to `()`):
            Row indices that are ignored, as if removed.
        exclude_near (`Dataset`, `list`, `str`, `Path` or `FeatureMatrix`, *optional*):
            Rows that no pick may be near, such as an evaluation set: a Dataset, encoded or not, a list of texts, a
            file or the id of a Hub dataset, or features. Rows are ignored that have the text of one of them, or half
            of its 8-grams of words, or it as a line, or nearly its features, see `docs/duplicates.md`. Rows of
            `must_include` and `extend` stay.
        quota (`str` or `dict`, *optional*):
            `{"column": {value: rows}}`, the most rows of each value, others without limit; shares of the budget,
            such as `{"column": {"en": 0.6, "de": "rest"}}`; or `"column"`: the budget is shared out over its values
            as evenly as they allow.
        quality (`str`, *optional*):
            A column of non-negative numbers. A row's gain is multiplied by its quality, scans begin with the best
            rows, and "random" draws in proportion to it. Rows of quality 0 come last.
        cost (`str`, *optional*):
            What `budget` is an amount or a fraction of, and what each row costs: "tokens" (the language model's; a
            blank row costs 1) or a column.
        per_token (`float`, *optional*, defaults to `0.0`):
            A row's gain is divided by its tokens to this power: with 0.5 or 1, long rows win less.
        extend (`Selection` or `Dataset`, *optional*):
            An earlier selection, the subset that has it, or its rows as a saved or published Dataset, to grow: they
            come first and are part of the budget. They are known by their content, so the dataset may have grown or
            been shuffled since. The same method gives what the larger budget gives at once, unless the dataset has
            grown or the budget is in costs.
        avoid (`int`, `str`, `list` or `dict`, *optional*):
            Features by number, or by name where the SAE has labels: rows that have any of them are left out. A row
            has a feature where its activation is above a threshold, by default 0.6 times the SAE's calibrated one:
            `{551: 2.0, "recipe": 5.0}` sets others.
        require (`int`, `str`, `list` or `dict`, *optional*):
            Features: rows that have none of them are left out.
        require_all (`int`, `str`, `list` or `dict`, *optional*):
            Features: rows that lack one of them are left out. A row needs one of the features of a name, and one of
            those of a list within the list.
        boost (`dict`, *optional*):
            `{551: 2.0, "recipe": 0}`: factors of features' weights, 0 for one that does not count, for "match",
            "herding", "greedy", "weighted" and "concave".
        labels (`Labels`, *optional*):
            The labels that have the names. By default those of the SAE.
        max_length (`int`, *optional*):
            Number of tokens that are read of each row, see `encode`.
        batch_size (`int`, *optional*, defaults to `32`):
            Windows per forward pass, see `encode`.
        keep_codes (`bool`, *optional*, defaults to `False`):
            Whether the rows keep the columns that `encode` added to an encoded dataset. A training set does not need
            them, and they are larger than the text. Selecting from the subset, and publishing it, work without them.
        engine (`str` or `Ray`, *optional*):
            Where the rows are encoded, see `encode`, and where they are while the method searches: `"ray"`, or a `Ray`
            with its arguments, in workers of a Ray cluster; "processes" in the processes that torchrun or accelerate
            launch have started. It changes no pick. "facility_location" and methods of your own select in this
            process. See `docs/engines.md`.
        **options (`Any`):
            Options of the method, see `docs/methods.md`.

    Returns:
        `Dataset`: The selected rows in the order they were picked, without SAE codes. Its attribute
        `sae_selection` is the `Selection`; `map`, `select` and `shuffle` drop it, and it raises after `filter`.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If an argument is not allowed; the message names it.
        ImportError: If Ray is not installed.
        ConnectionError: If no Ray cluster is at the address.
        RuntimeError: If workers have other versions than this process, or end again and again.

    Example:

    ```python
    subset = select(load_dataset("tatsu-lab/alpaca", split="train"), 3000)
    subset.sae_selection.gains  # how much each row added
    ```
    """
    dataset = rows_at("dataset", dataset)
    check_dataset("dataset", dataset, "select")
    check_flag("keep_codes", keep_codes)
    chosen = engine_of(engine)
    argument, near = TargetArgument.parse(target, overlap), NearArgument.parse(exclude_near)
    concepts = ConceptArguments(avoid, require, require_all, boost, labels)
    request = SelectionRequest.parse(
        len(dataset),
        dataset,
        budget,
        method,
        options,
        seed=seed,
        cuts=Cuts(threshold, top, max_share, embedding),
        must_include=must_include,
        exclude=exclude,
        quota=quota,
        quality=quality,
        cost=cost,
        per_token=per_token,
        extend=earlier_selection(extend, dataset),
        has_target=argument is not None,
    )
    codes = available_codes(dataset, request.keep, sae, text=text, max_length=max_length)
    request = _with_concepts(request, concepts, codes, sae)
    if keep_codes and codes is None:
        raise ValueError("`keep_codes=True` needs an encoded dataset, and no `sae`: call its `sae_encode` first")
    source = without_codes(dataset)  # codes of another SAE would contradict the result
    encoded, aim = codes, None
    if codes is not None:
        check_digests(dataset)
    encoding = pool_encoding(codes, [request], sae, text=text, max_length=max_length, batch_size=batch_size)
    if near is not None:
        _check_has_codes(request, codes, sae, "`exclude_near` needs")
    if argument is not None:
        repeated = TargetOverlap.of_texts(argument, dataset, encoding)
        request = repeated.left_out_of(request)
        aim = argument.encoded(encoding)
    reference = None if near is None else near.encoded(encoding)
    features: Features | None
    with opened(chosen) as running:
        check_agreement(running, request, dataset, aim)
        if codes is None:
            encoded = _encode(dataset, request, encoding, running)
        if reference is not None:
            rows = near_or_repeated_rows(ComparedRows.of(dataset, encoded, text), reference)
            request = request.leaving_out("exclude_near", rows)
        check_agreement(running, request, source if encoded is None else encoded, aim)  # by now `sae` and `text` tell
        with features_in_shards(request, dataset, encoded, running) as features:
            if aim is not None:
                features = read_features(request, encoded) if features is None else features
                repeated = repeated.with_features(aim, features)
                request = repeated.left_out_of(request)
            selection = run_on_dataset(request, source if encoded is None else encoded, aim, features)
            if aim is not None and features is not None:
                selection = replace(selection, target=target_record(selection, features, aim, repeated, encoded))
    selection = _with_digests(selection, dataset)
    # Without the codes of a dataset of codes alone nothing would be left, not even the number of rows.
    keeps = codes is not None and is_encoded(dataset) and (keep_codes or not source.column_names)
    subset = select_rows(dataset if keeps else source, selection.indices)
    pool = Pool(dataset, target=aim) if keeps else Pool(source, encoded, aim)
    attach(subset, selection, pool, was_encoded=codes is not None)
    return subset


def _with_digests(selection: Selection, dataset: Dataset) -> Selection:
    """Add to a selection by what the dataset and its picks are known again."""
    columns = digest_columns(dataset, selection.parameters["encoding"])
    digests = content_digests(dataset, columns, selection.indices) if columns else []
    return replace(selection, fingerprint=fingerprint_of(dataset), row_digests=digests, digest_columns=columns)


def available_codes(
    dataset: Dataset, keep: Sequence[str], sae: Any, *, text: Any, max_length: Any, who: str = "this method"
) -> Dataset | None:
    """Return the code columns of a dataset that is encoded, or is a subset of an encoded one; None if it has none.

    They are apart from the rows, so that a pickled subset and its pool hold every number once.

    Raises:
        ValueError: If `text` or `max_length` is passed beside codes, or a column that the method `who` needs is
            missing.
    """
    passes_how = text is not None or max_length is not None
    if sae is not None or (passes_how and not is_encoded(dataset)):
        return None
    if passes_how:
        raise ValueError(
            "this dataset is encoded already; to encode it again by `text` or `max_length`, pass `sae` too"
        )
    codes = dataset.select_columns(code_columns(dataset)) if is_encoded(dataset) else codes_in_pool(dataset)
    if codes is not None and keep and STATE not in codes.column_names:
        raise ValueError(
            f"no column `{STATE}`, which {who} needs: encode with `keep='state'`, or pass `embedding='column'`"
        )
    return codes


def _with_concepts(
    request: SelectionRequest, concepts: ConceptArguments, codes: Dataset | None, sae: SaeSource | None
) -> SelectionRequest:
    """Return a request with the rules by concepts, before anything is encoded.

    Raises:
        TypeError, ValueError: A rule is not allowed, or names no feature; the message names it.
    """
    if not concepts.are_passed:
        return request
    _check_has_codes(request, codes, sae, "`avoid`, `require` and `boost` need")
    record = None if codes is None else encoding_record(codes)
    vocabulary = Vocabulary.of(concepts.labels, record, sae, needs_names=concepts.has_names)
    return request.with_concepts(concepts.rules(vocabulary))


def _check_has_codes(request: SelectionRequest, codes: Dataset | None, sae: SaeSource | None, who: str) -> None:
    """Check that the rows are encoded, or will be.

    Raises:
        ValueError: Their vectors are enough for the method.
    """
    if codes is None and sae is None and request.vectors is not None:
        raise ValueError(
            f"without SAE codes nobody knows the rows' features, which {who}: encode first, or pass `sae` too"
        )


def pool_encoding(
    codes: Dataset | None, requests: Sequence[SelectionRequest], sae: SaeSource | None, **how: Any
) -> PoolEncoding:
    """Return how the rows of a pool are encoded, or will be, so that what all requests read is kept."""
    if codes is not None or (sae is None and all(request.vectors is not None for request in requests)):
        return PoolEncoding(None if codes is None else encoding_record(codes), sae, **how)
    import_libraries(how.get("show_progress_bar"))
    from ..sae.loading import load_sae  # needs torch

    loaded = load_sae(sae, encoder_only=True)
    keep = {item for request in requests for item in request.keep_by(loaded.config.feature_threshold)}
    keep -= {STRONGEST} if "all" in keep else set()
    return PoolEncoding(None, loaded, **how, keep=tuple(sorted(keep, key=str)))


def _encode(
    dataset: Dataset, request: SelectionRequest, encoding: PoolEncoding, running: Cluster | ProcessGroup | None
) -> Dataset | None:
    """Return the code columns of the rows; None where their vectors are enough."""
    if request.vectors is not None and encoding.sae is None:
        if request.needs_tokens:
            raise ValueError(
                "without SAE codes nobody knows the rows' tokens, which `per_token` or a `budget` in tokens needs: "
                "encode first, or use a `cost` column"
            )
        return None
    from ..encoding.pipeline import codes  # needs torch, which selecting among encoded rows does not

    return codes(dataset, running=running, **encoding.arguments)
