"""Verifying: is a published subset what its record says, and does it follow from that? To three depths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from .._datasets import check_dataset
from .._hub import Repo, Token
from ..features.columns import encoding_record, is_encoded, without_codes
from ..features.matrix import FeatureMatrix
from ..publishing import checks
from ..selection.methods import MethodFunction
from ..selection.result import Selection
from .hashing import Digests, row_digests
from .layout import DIGEST, POOL_FILE, RECORD_FILE, SELECTION_FILE
from .provenance import Record, public, read, upgraded
from .refetching import NotAsRecorded, encode_again, refetch_sae, refetch_source
from .replay import measure, replay
from .tables import needs, read_pool, read_selection, stored

if TYPE_CHECKING:  # annotations only
    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource
    from ..sae.model import SparseAutoencoder

LEVELS = ("digests", "select", "encode")


@dataclass(frozen=True)
class Check:
    """Hold one thing that was checked."""

    level: str
    name: str
    difference: str | None
    """The first difference found; None if all is as recorded."""


@dataclass(frozen=True)
class Verification:
    """Hold what was checked, in order; it is true if nothing differs."""

    level: str
    checks: list[Check]

    @property
    def difference(self) -> str | None:
        """The first difference found, with the name of the check; None if there is none."""
        return next((f"{each.name}: {each.difference}" for each in self.checks if each.difference), None)

    def __bool__(self) -> bool:
        return self.difference is None

    def __str__(self) -> str:
        lines = [
            f"DIFFERS  {each.level}: {each.name}: {each.difference}"
            if each.difference
            else f"ok  {each.level}: {each.name}"
            for each in self.checks
        ]
        return "\n".join([*lines, f"{'verified' if self else 'not verified'} to the level `{self.level}`"])


@dataclass(frozen=True)
class Published:
    """Hold what is read of a published subset."""

    repo: Repo
    written: Record
    """The record as it was written."""
    record: Record
    """The record in the form of the present version."""
    receipt: Selection
    digests: list[str]
    """SHA-256 of each pick, as the table of picks states it."""
    counts: Any
    """Number of features of each pick, likewise."""

    @property
    def has_pool(self) -> bool:
        """Tell whether the features that the selection went by are stored."""
        return POOL_FILE in self.record["files"]


def verify(
    repo_or_folder: str | Path,
    level: str = "digests",
    *,
    features: Dataset | None = None,
    source: Dataset | None = None,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    method: MethodFunction | None = None,
    revision: str | None = None,
    token: Token = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    batch_size: int = 32,
) -> Verification:
    """Check a published subset against its record, to one of three depths, each with those before it.

    - "digests": files and rows are what the record says. Seconds, no model.
    - "select": the rows are what the method picks from the features stored with the subset, or from `features`.
    - "encode": the source is what the record says, and encoded again its rows have features from which the method
      picks these rows. This runs the language model.

    The result says what differs, the first difference of each check, and is true if nothing does.

    Args:
        repo_or_folder: a dataset repo on the Hub, or a folder that `stage` wrote or that was downloaded.
        features: the source as `sae_encode` returns it, where the subset does not hold its features.
        source: the rows that were chosen from, where the record does not name a dataset that has them.
        sae, text: how they were encoded, where the record cannot tell: an SAE or a function that others lack.
        method: the rule, where it is none of ours.
        revision: branch, tag or commit of the repo.
        token, cache_dir, local_files_only: as in `load_sae`, for the repo; source and SAE go by `token` alone.
        batch_size: as in `encode`; memory and speed, never the result.

    Raises:
        ValueError: `level` is unknown, or what is needed for it is neither published nor given.
        FileNotFoundError, PermissionError, OSError: a repo is not there, closed to you, or out of reach.
        ImportError: the extra `publish` is not installed.

    Example: ``print(verify("me/alpaca-3k", "select"))``.
    """
    if level not in LEVELS:
        raise ValueError(f"unknown `level={level!r}`; choose one of: {', '.join(LEVELS)}")
    for name, given in (("features", features), ("source", source)):
        if given is not None:
            check_dataset(name, given, "compare with")
    repo = Repo.at(repo_or_folder, revision, token, cache_dir, local_files_only, kind="dataset")
    published = _open(repo)
    if isinstance(published, Check):
        return Verification(level, [published])
    _check_given(published, level, features=features, source=source, sae=sae, text=text, method=method)
    found = list(_digests(published))
    if level == "select" or (level == "encode" and (published.has_pool or features is not None)):
        found += _select(published, features, method)
    if level == "encode":
        found += _encode(published, source, sae, text, method, token, batch_size)
    return Verification(level, found)


def _open(repo: Repo) -> Published | Check:
    """Read the record and the table of picks, or say what is wrong with them."""
    name = "record"
    try:
        written = read(repo.fetch(RECORD_FILE))
        name = "picks"
        return Published(repo, written, upgraded(written), *read_selection(repo.fetch(SELECTION_FILE)))
    except ValueError as error:
        return Check("digests", name, str(error))
    except FileNotFoundError as error:
        if name == "record":
            raise FileNotFoundError(
                f"{repo.name} holds no {RECORD_FILE}: it was not published by `sae_publish`"
            ) from error
        return Check("digests", name, str(error))


def _check_given(published: Published, level: str, **given: Any) -> None:
    """Ask, before any work, for what is needed and neither published nor given."""
    encoding, features = published.record["encoding"], given["features"]
    if level == "encode" and encoding is None:
        raise ValueError("the level `encode` is for rows that were encoded; these were compared by a column: `select`")
    for name, what in _lacking(published, level).items():
        if given[name] is None:
            raise ValueError(f"the level `{level}` needs `{name}`: {what}; pass it, or choose a lower level")
    if features is not None and encoding is not None and not is_encoded(features):
        raise ValueError("`features` is not encoded; pass what `sae_encode` returns of the source")


def _lacking(published: Published, level: str) -> dict[str, str]:
    """Return what a level needs that neither the repo nor the Hub has: argument -> what it is."""
    record, found = published.record, {}
    encoding = record["encoding"]
    if level != "digests" and not record["selection"]["builtin"]:
        found["method"] = "the rule, which is none of ours"
    if level == "select" and not published.has_pool:
        found["features"] = "the source as `sae_encode` returns it, which is not stored here"
    if level != "encode":
        return found
    if not record["source"]["as_published"]:
        found["source"] = "the rows chosen from, which no published dataset has"
    if encoding["model"] is None or not {"repo", "package"} & encoding.get("sae", {}).keys():
        found["sae"] = "the SAE on its model, which others cannot fetch"
    if "function" in encoding["text"]:
        found["text"] = "the function that wrote the rows out, whose code is not recorded"
    return found


def _digests(published: Published) -> Iterator[Check]:
    repo, record, receipt = published.repo, published.record, published.receipt
    yield Check("digests", "record", checks.of_record(published.written))
    yield Check("digests", "parameters", checks.of_parameters(record, receipt))
    yield Check("digests", "indices", checks.of_indices(record, receipt))
    yield Check("digests", "rows", checks.of_rows(repo, record, receipt, published.digests))
    yield Check("digests", "files", checks.of_files(repo, record))
    yield Check("digests", "card", checks.of_card(repo, record))


def _select(published: Published, features: Dataset | None, method: MethodFunction | None) -> Iterator[Check]:
    record, receipt = published.record, published.receipt
    try:
        pool, digests = _pool(published, features)
    except (ValueError, FileNotFoundError) as error:
        yield Check("select", "source", str(error))
        return
    yield Check("select", "source", checks.of_pool(record, receipt, published.digests, digests))
    if record["encoding"] is not None:
        yield Check("select", "encoding", checks.of_encoding(record["encoding"], public(encoding_record(pool))))
    yield from _again("select", published, pool, method)


def _pool(published: Published, features: Dataset | None) -> tuple[Dataset, Digests]:
    """Return the encoded rows that there were to pick, given or stored, and their digests."""
    if features is not None:
        rows = without_codes(features)
        if problem := checks.of_columns(published.record, rows.features.to_dict()):
            raise ValueError(problem)
        return features, row_digests(rows, "Hashing the source")
    pool = _stored(published)
    digests = b"".join(pool.with_format("arrow")[:][DIGEST].to_pylist())
    return pool, np.frombuffer(digests, np.uint8).reshape(-1, 32)


def _again(level: str, published: Published, pool: Dataset, method: MethodFunction | None) -> Iterator[Check]:
    """Select again as the record says, and compare."""
    record = published.record
    told, receipt = record["selection"], _recorded(published)
    name = "picks"
    if given := told["parameters"]["constraints"].get("extend"):
        name += f" (the first {given} of {told['rows']}, of an earlier selection, taken as given)"
    try:
        close = checks.NEAR if level == "encode" else checks.CLOSE  # gains may be sums of activations
        yield Check(level, name, checks.of_picks(receipt, replay(pool, receipt, method), close))
        if record["coverage"] is None:
            return
        found = measure(pool, receipt)
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        yield Check(level, name, f"these parameters do not select: {error}")
        return
    yield Check(level, "counts", checks.of_counts(published.counts, found.features.counts[receipt.indices]))
    yield Check(level, "coverage", checks.of_coverage(record["coverage"], found.figures))


def _encode(
    published: Published,
    source: Dataset | None,
    sae: SaeSource | None,
    text: TextSource | None,
    method: MethodFunction | None,
    token: Token,
    batch_size: int,
) -> Iterator[Check]:
    """Fetch source and SAE as recorded, encode, and select again; what differs too much to go on is the last check."""
    record, receipt, name = published.record, published.receipt, "source"
    told = record["encoding"]
    try:
        if source is None:
            rows = refetch_source(record, token)
        else:
            rows, name = without_codes(source), "source, as it was given"
        difference = checks.of_columns(record, rows.features.to_dict())
        difference = difference or checks.of_pool(record, receipt, published.digests, row_digests(rows, "Hashing"))
        yield Check("encode", name, difference)
        if difference:
            return
        name = "sae"
        autoencoder = refetch_sae(told, token) if sae is None else _given(sae)
        file = None if sae is not None else autoencoder.config.source.get("sha256")
        yield Check("encode", name, checks.of_sae(told, autoencoder.digest(), file))
        name = "encoding"
        coded = encode_again(record, rows, autoencoder, text, batch_size, needs(_recorded(published)))
    except NotAsRecorded as error:
        yield Check("encode", name, str(error))
        return
    # A function is not known again by its hash, which a line's number changes; what it writes, the features tell.
    again = public(encoding_record(coded)) | ({} if text is None else {"text": told["text"]})
    yield Check("encode", name, checks.of_encoding(told, again))
    if published.has_pool:
        yield Check("encode", "features", _codes(published, coded))
    yield from _again("encode", published, coded, method)


def _recorded(published: Published) -> Selection:
    """Return the selection with the method and the parameters that the record has."""
    selection = published.record["selection"]
    return replace(published.receipt, method=selection["method"], parameters=selection["parameters"])


def _given(sae: SaeSource) -> SparseAutoencoder:
    from ..sae.loading import load_sae  # needs torch

    return load_sae(sae, encoder_only=True)


def _codes(published: Published, coded: Dataset) -> str | None:
    """Compare the features in store with those of the rows encoded again."""
    try:
        again = stored(FeatureMatrix.from_dataset(coded), _recorded(published))
        return checks.of_codes(FeatureMatrix.from_dataset(_stored(published)), again)
    except (ValueError, ArithmeticError, FileNotFoundError) as error:
        return str(error)


def _stored(published: Published) -> Dataset:
    encoding = published.record["encoding"]
    return read_pool(published.repo.fetch(POOL_FILE), None if encoding is None else encoding["d_sae"])
