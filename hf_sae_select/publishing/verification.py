"""Verification of a published subset: is it what its record says, and does the record follow from the source?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import Dataset

from .._datasets import in_split
from .._hub import NoSuchFile, Repo, Token
from .._secrets import masks_tokens
from .._validation import check_choice, check_int
from ..concepts.measurement import count_quotas, measure
from ..features.columns import encoding_record, is_encoded, without_codes
from ..selection.method import MethodFunction
from ..selection.recorded_target import numbers_of
from ..selection.references import PoolEncoding
from ..selection.target_argument import TargetArgument, argument_name
from ..selection.targets import Target, TargetPart
from . import checks, devices
from .encoding_steps import compared_features, encoding_step, sae_step, source_step
from .hashing import Digests, row_digests
from .provenance import Record, has_target, parts_of
from .published import PublishedSubset, Unreadable, open_published, read_record
from .refetching import NotAsRecorded, encode_target
from .replay import replay
from .target_checks import of_digests, of_distances, of_missing, of_record, of_target
from .verdict import LEVELS, Check, Verification
from .verify_arguments import VerifyArguments, check_arguments

if TYPE_CHECKING:  # annotations only
    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource
    from ..sae.model import SparseAutoencoder
    from ..selection.target_argument import TargetSource


@masks_tokens
def verify(
    repo_or_folder: str | Path,
    level: str = "digests",
    *,
    features: Dataset | Mapping[str, Dataset] | None = None,
    source: Dataset | Mapping[str, Dataset] | None = None,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    method: MethodFunction | None = None,
    target: TargetSource | None = None,
    revision: str | None = None,
    token: Token = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    batch_size: int = 32,
) -> Verification:
    """Check a published subset against its record, at one of three levels.

    Each level includes those before it. Of a published DatasetDict, each split has a verdict of its own, in `splits`.

    - "digests": files and rows have the recorded content. Takes seconds, no model.
    - "select": the method selects these rows by the published features, or by `features`. No model.
    - "encode": the source has the recorded content, and encoded again its rows have features by which the method
      selects these rows. Runs the language model.

    Args:
        repo_or_folder (`str` or `Path`):
            A dataset repo on the Hub, or a folder that `stage` wrote or that was downloaded.
        level (`str`, *optional*, defaults to `"digests"`):
            One of "digests", "select" and "encode".
        features (`Dataset` or `dict`, *optional*):
            The source, encoded by `sae_encode`. Required at "select" if the subset was published without features.
            Of a published DatasetDict, a DatasetDict or a dict by split.
        source (`Dataset` or `dict`, *optional*):
            The dataset that the rows were selected from. Required at "encode" if it is not published. Of a published
            DatasetDict, a DatasetDict or a dict by split.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The SAE. Required at "encode" if it is not published, or its language model is not.
        text (`str`, `list` or `Callable`, *optional*):
            The text of a row. Required at "encode" if a function wrote it, since its code is not recorded.
        method (`Callable`, *optional*):
            The method. Required at "select" and "encode" if it is the author's own.
        target (`Dataset`, `list[str]`, `FeatureMatrix`, `str` or `dict`, *optional*):
            What the rows were selected towards, as it was passed to `select`. With it "encode" encodes the target
            again too. Required at "select" and "encode" if the subset was published without its numbers.
        revision (`str`, *optional*):
            Branch, tag or commit of the repo.
        token (`str` or `bool`, *optional*):
            Token for the Hub.
        cache_dir (`str` or `Path`, *optional*):
            Cache folder for the repo. Source and SAE are cached where their libraries cache them.
        local_files_only (`bool`, *optional*, defaults to `False`):
            Whether to read the repo from the cache alone.
        batch_size (`int`, *optional*, defaults to `32`):
            Windows per forward pass at "encode". It changes memory and speed, never the result.

    Returns:
        `Verification`: The checks, each with its first difference from the record. It is true if nothing differs.

    Raises:
        TypeError: If `features` or `source` is neither a Dataset nor, for splits, a dict of them, or an argument has
            another type than above.
        ValueError: If `level` is unknown, an argument that it requires is missing, it reads no `target`, or
            `target` cannot be read as the rows were.
        FileNotFoundError: If a repo or its record does not exist, or is private.
        PermissionError: If a repo is gated, or the Hub does not accept the token.
        OSError: If the Hub is out of reach, or its answer cannot be read. Then it cannot be told whether the subset
            differs: an error never means that it does.
        ImportError: If the extra `publish` is not installed.

    Example:

    ```python
    print(verify("me/alpaca-3k", "select"))
    ```
    """
    check_choice("level", level, LEVELS)
    check_int("batch_size", batch_size)
    for name, function in (("method", method), ("text", text if not isinstance(text, str | list | tuple) else None)):
        if function is not None and not callable(function):
            raise TypeError(f"`{name}={function!r}` must be a function; leave it out to use what the record says")
    aim = TargetArgument.parse(target, is_again=True)
    if aim is not None and level == "digests":
        raise ValueError("`target` is compared at the levels 'select' and 'encode'; pass one of them as `level`")
    repo = open_published(repo_or_folder, revision, token, cache_dir, local_files_only)
    try:
        record = read_record(repo)
    except Unreadable as error:
        return _verdict(repo, level, [Check("digests", error.part, str(error))])
    arguments = VerifyArguments(features, source, sae, text, method, aim, token, batch_size).by_split(record)
    verdicts: dict[str, Verification] = {}
    checked: dict[str, tuple[PublishedSubset, VerifyArguments]] = {}
    for split, part in parts_of(record).items():
        try:
            subset = PublishedSubset.read(repo, split, part)
        except Unreadable as error:
            verdicts[split] = _verdict(repo, level, [Check("digests", error.part, str(error))])
            continue
        with in_split(split):
            checked[split] = subset, check_arguments(subset, level, arguments[split])
    for split, (subset, own) in checked.items():
        with in_split(split):
            verdicts[split] = _verdict(repo, level, _checks(subset, level, own), subset)
    if "" in verdicts:
        return verdicts[""]
    verdicts = {split: verdicts[split] for split in parts_of(record)}
    rows = [verdict.rows for verdict in verdicts.values()]
    whole = _verdict(repo, level, _of_splits(repo, record))
    return replace(whole, splits=verdicts, rows=None if None in rows else sum(filter(None, rows)))


def _verdict(repo: Repo, level: str, results: Iterable[Check], subset: PublishedSubset | None = None) -> Verification:
    """Return what the checks of a subset say together; without a subset it could not be read."""
    place = (repo.name, repo.revision, repo.date)
    if subset is None:
        return Verification(level, list(results), *place)
    origin = subset.record["source"]
    source = {name: origin[name] for name in ("dataset", "config", "split", "revision", "rows")}
    return Verification(level, list(results), *place, source, len(subset.selection))


def _of_splits(repo: Repo, record: Record) -> Iterator[Check]:
    """Check what all splits share: their record, and their card."""
    yield Check("digests", "record", checks.of_record(record))
    yield Check("digests", "files", checks.of_overrides(repo))
    yield Check("digests", "card", checks.of_card(repo, record))


def _checks(subset: PublishedSubset, level: str, arguments: VerifyArguments) -> Iterator[Check]:
    """Check a subset to a level."""
    yield from _digests(subset)
    has_all = subset.has_pool or arguments.features is not None
    has_all = has_all and (subset.record["target"] is None or has_target(subset.record))
    if level == "select" or (level == "encode" and has_all):
        yield from _select(subset, arguments if level == "select" else replace(arguments, target=None))
    if level == "encode":
        yield from _encode(subset, arguments)


def _digests(subset: PublishedSubset) -> Iterator[Check]:
    """Check that files and rows have the recorded content."""
    repo, record, selection = subset.repo, subset.record, subset.selection
    yield Check("digests", "record", checks.of_record(subset.original))
    yield Check("digests", "parameters", checks.of_parameters(record, selection))
    yield Check("digests", "indices", checks.of_indices(record, selection))
    yield Check("digests", "rows", checks.of_rows(repo, record, selection, subset.row_digests))
    if record["target"] is not None:
        yield Check("digests", "target", of_record(record))
    yield Check("digests", "files", checks.of_files(repo, record))
    if not subset.split:  # the card of splits is of all of them
        yield Check("digests", "card", checks.of_card(repo, subset.original))


def _select(subset: PublishedSubset, arguments: VerifyArguments) -> Iterator[Check]:
    """Check that the method selects the rows by the published features, or by those that were passed."""
    record = subset.record
    try:
        pool, digests = subset.read_pool() if arguments.features is None else _passed_pool(subset, arguments.features)
    except (ValueError, NoSuchFile) as error:
        yield Check("select", "source", str(error))
        return
    yield Check("select", "source", checks.of_source(record, subset.selection, subset.row_digests, digests))
    if record["encoding"] is not None:
        yield Check("select", "encoding", checks.of_pool(record["encoding"], pool))
    target = None
    if record["target"] is not None:
        target, check = _target(subset, arguments, pool)
        yield check
    if target is not None or record["target"] is None:
        yield from _select_again("select", subset, pool, arguments.method, target)


def _target(subset: PublishedSubset, arguments: VerifyArguments, pool: Dataset) -> tuple[Target | None, Check]:
    """Return the target as it was recorded, or as it was passed, and compare the two where both are known."""
    try:
        recorded = subset.read_target()
        if arguments.target is None:
            return recorded, Check("select", "target", None)
    except (ValueError, NoSuchFile) as error:
        return None, Check("select", "target", str(error))
    try:
        again = _encoded_target(subset, arguments.target, pool, arguments.sae)
        difference = _compared(subset, recorded, again, pool)
    except NotAsRecorded as error:
        return None, Check("select", "target (as passed)", str(error))
    same = again if difference is None or recorded is None else recorded
    return same, Check("select", "target (as passed)", difference)


def _encoded_target(
    subset: PublishedSubset, target: TargetArgument, pool: Dataset, sae: SaeSource | None = None
) -> Target:
    """Return the target that was passed, encoded as a pool is.

    Raises:
        NotAsRecorded: If it cannot be, and the pool is not encoded as the record says.
        ValueError: If it cannot be, and the pool is: then the argument is at fault.
    """
    is_text = any(isinstance(rows, Dataset) and not is_encoded(rows) for rows in target.rows.values())
    if is_text and (subset.record["encoding"] or {}).get("model") is None:
        raise ValueError("`target` is not encoded, and the record names no language model; pass it encoded")
    try:
        return target.encoded(PoolEncoding(encoding_record(pool), sae))
    except ValueError as error:
        if checks.of_pool(subset.record["encoding"], pool) is None:
            raise
        raise NotAsRecorded(str(error)) from error


def _compared(subset: PublishedSubset, recorded: Target | None, again: Target, pool: Dataset) -> str | None:
    """Compare a target with what was recorded of it, as the selection from a pool reads it.

    Raises:
        NotAsRecorded: If the recorded selection cannot read it.
    """
    if recorded is None:
        return of_digests(subset.recorded_selection.parameters["target"], again)
    try:
        return of_target(recorded, numbers_of(again, subset.recorded_selection, pool))
    except ValueError as error:
        raise NotAsRecorded(str(error)) from error


def _passed_pool(subset: PublishedSubset, features: Dataset) -> tuple[Dataset, Digests]:
    """Return the encoded source that was passed, and the SHA-256 of its rows."""
    rows = without_codes(features)
    if difference := checks.of_columns(subset.record, rows.features.to_dict()):
        raise ValueError(difference)
    return features, row_digests(rows, "Hashing the source")


def _select_again(
    level: str,
    subset: PublishedSubset,
    pool: Dataset,
    method: MethodFunction | None,
    target: Target | None,
    has_equal_codes: bool = True,
) -> Iterator[Check]:
    """Select again by the recorded parameters, and compare picks and figures.

    Where the codes are not known to be those of the selection, bit for bit, picks are judged by what they are worth.
    """
    record, selection = subset.record, subset.recorded_selection
    name = "picks"
    if extended := selection.parameters["constraints"].get("extend"):
        name += f" (the first {extended} of {len(selection)} are taken from an earlier selection)"
    tolerance = devices.DEVICE_TOLERANCE if level == "encode" else checks.SUM_TOLERANCE
    try:
        again = replay(pool, selection, method, target)
        difference = checks.of_picks(selection, again, tolerance)
        if difference is not None and not has_equal_codes:
            name, difference = devices.judged(name, difference, selection, again, pool, target)
        yield Check(level, name, difference)
        if target is not None:
            yield from _distances(level, subset, pool, target, tolerance)
        quotas = count_quotas(pool, selection)
        measured = None if record["coverage"] is None else measure(pool, selection)
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        yield Check(level, name, f"these parameters do not select: {error}")
        return
    if (quotas or record["quotas"]) and not subset.lacks_likeness and record["source"]["sha256"] is not None:
        yield Check(level, "quotas", checks.of_quotas(record["quotas"] or [], quotas))
    if measured is None:
        return
    of_counts = checks.SUM_TOLERANCE if has_equal_codes else devices.DEVICE_TOLERANCE
    counts = measured.features.counts[selection.indices]
    yield Check(level, "counts", checks.of_counts(subset.feature_counts, counts, of_counts))
    yield Check(level, "coverage", checks.of_coverage(record["coverage"], measured.figures, of_counts))
    if (measured.likeness or record["likeness"]) and not subset.lacks_likeness:
        yield Check(level, "likeness", checks.of_likeness(record["likeness"], measured.likeness, tolerance))


def _distances(
    level: str, subset: PublishedSubset, pool: Dataset, target: Target, tolerance: float
) -> Iterator[Check]:
    """Compare how near the rows are to the target, and which of its features no row has."""
    selection, recorded, is_whole = subset.recorded_selection, subset.record["target"], level == "encode"
    parameters = selection.parameters | {"encoding": subset.record["encoding"]}
    selection = replace(selection, parameters=parameters, target=recorded["measured"])
    difference = of_distances(selection, pool, target, recorded["untargeted"], is_whole, tolerance)
    yield Check(level, "distances", difference)
    if is_whole and all(isinstance(part, TargetPart) for part in target.parts):
        yield Check(level, "missing features", of_missing(selection, pool, target, tolerance))


def _encode(subset: PublishedSubset, arguments: VerifyArguments) -> Iterator[Check]:
    """Check that the source, encoded again, has features by which the method selects the rows.

    A step that returns nothing to go on with is the last one.
    """
    rows, check = source_step(subset, arguments)
    yield check
    if rows is None:
        return
    sae, check = sae_step(subset, arguments)
    yield check
    if sae is None:
        return
    encoded, check = encoding_step(subset, arguments, rows, sae)
    yield check
    if encoded is None:
        return
    has_equal_codes, difference = compared_features(subset, encoded)
    if subset.has_pool:
        yield Check("encode", "features", difference)
    target = None
    if subset.record["target"] is not None:
        target, check = _target_again(subset, arguments, sae, encoded)
        yield check
    if target is not None or subset.record["target"] is None:
        yield from _select_again("encode", subset, encoded, arguments.method, target, has_equal_codes)


def _target_again(
    subset: PublishedSubset, arguments: VerifyArguments, sae: SparseAutoencoder, encoded: Dataset
) -> tuple[Target | None, Check]:
    """Return the target that was passed, encoded again as the source was; without it what was recorded."""
    name = "target (as recorded: it was not passed, so it was not encoded again)"
    try:
        recorded = subset.read_target()
        if arguments.target is None:
            return recorded, Check("encode", name, None)
        pool = subset.read_pool()[0] if subset.has_pool else encoded  # what was recorded is as of the published pool
    except (ValueError, NoSuchFile) as error:
        return None, Check("encode", "target", str(error))
    rows = {
        name: encode_target(subset.record, argument_name(name), part, sae, arguments.batch_size)
        if isinstance(part, Dataset) and not is_encoded(part)
        else part
        for name, part in arguments.target.rows.items()
    }
    try:
        again = _encoded_target(subset, replace(arguments.target, rows=rows), encoded)
        return again, Check("encode", "target", _compared(subset, recorded, again, pool))
    except NotAsRecorded as error:
        return None, Check("encode", "target", str(error))
