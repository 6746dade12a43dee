"""Verifying: is a published subset what its record says, and does it follow from that? To three depths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset, load_dataset
from datasets.fingerprint import update_fingerprint
from huggingface_hub.errors import RevisionNotFoundError

from . import checks
from .digests import Digests, row_digests
from .evidence import DIGEST, POOL_FILE, SELECTION_FILE, needs, read_pool, read_selection
from .features import Features, code_columns, encoding_record, is_encoded
from .hub import Repo, Token
from .record import RECORD_FILE, Record, public, read
from .repeating import measure, repeat
from .selection import Selection
from .source import Source
from .text import check_dataset

if TYPE_CHECKING:  # annotations only
    from .loading import SaeSource
    from .rules import Rule
    from .sae import SparseAutoencoder
    from .text import TextSource

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
    record: Record
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
    method: Rule | None = None,
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
        record = read(repo.fetch(RECORD_FILE))
        name = "picks"
        return Published(repo, record, *read_selection(repo.fetch(SELECTION_FILE)))
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
    record = published.record
    encoding = record["encoding"]
    function = encoding is not None and "function" in encoding["text"]
    wanted: dict[str, list[tuple[bool, str, str]]] = {
        "select": [
            (not record["selection"]["builtin"], "method", "the rule, which is none of ours"),
            (
                level == "select" and not published.has_pool,
                "features",
                "the source, encoded, which is not stored here",
            ),
        ],
        "encode": [
            (not record["source"]["as_published"], "source", "the rows chosen from, which no published dataset has"),
            (
                encoding is not None and not _has_sae(encoding),
                "sae",
                "the SAE on its model, which others cannot fetch",
            ),
            (function, "text", "the function that wrote the rows out, whose code is not recorded"),
        ],
    }
    levels = LEVELS[1 : LEVELS.index(level) + 1]
    for missing, name, what in (each for at in levels for each in wanted[at]):
        if missing and given[name] is None:
            raise ValueError(f"the level `{level}` needs `{name}`: {what}; pass it, or choose a lower level")
    if given["features"] is not None and encoding is not None and not is_encoded(given["features"]):
        raise ValueError("`features` is not encoded; pass what `sae_encode` returns of the source")
    if "encode" in levels and encoding is None:
        raise ValueError("the level `encode` is for rows that were encoded; these were compared by a column: `select`")


def _has_sae(encoding: dict[str, Any]) -> bool:
    return encoding["model"] is not None and bool({"repo", "package"} & encoding.get("sae", {}).keys())


def _digests(published: Published) -> Iterator[Check]:
    repo, record, receipt = published.repo, published.record, published.receipt
    yield Check("digests", "record", checks.of_record(record))
    yield Check("digests", "parameters", checks.of_parameters(record, receipt))
    yield Check("digests", "indices", checks.of_indices(record, receipt))
    yield Check("digests", "rows", checks.of_rows(repo, record, receipt, published.digests))
    yield Check("digests", "files", checks.of_files(repo, record))
    yield Check("digests", "card", checks.of_card(repo, record))


def _select(published: Published, features: Dataset | None, method: Rule | None) -> Iterator[Check]:
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
        rows = features.remove_columns(code_columns(features))
        if problem := checks.of_columns(published.record, rows.features.to_dict()):
            raise ValueError(problem)
        return features, row_digests(rows, "Hashing the source")
    pool = _stored(published)
    digests = b"".join(pool.with_format("arrow")[:][DIGEST].to_pylist())
    return pool, np.frombuffer(digests, np.uint8).reshape(-1, 32)


def _again(level: str, published: Published, pool: Dataset, method: Rule | None) -> Iterator[Check]:
    """Select again as the record says, and compare."""
    record = published.record
    told = record["selection"]
    receipt = replace(published.receipt, method=told["method"], parameters=told["parameters"])
    name = "picks"
    if given := told["parameters"].get("extend"):
        name += f" (the first {given} of {told['rows']}, of an earlier selection, taken as given)"
    try:
        yield Check(level, name, checks.of_picks(receipt, repeat(pool, receipt, method)))
        if record["encoding"] is None:
            return
        found = measure(pool, receipt)
    except (ValueError, TypeError, IndexError) as error:
        yield Check(level, name, f"these parameters do not select: {error}")
        return
    yield Check(level, "counts", checks.of_counts(published.counts, found.features.counts[receipt.indices]))
    yield Check(level, "coverage", checks.of_coverage(record["coverage"], found.figures))


def _encode(
    published: Published,
    source: Dataset | None,
    sae: SaeSource | None,
    text: TextSource | None,
    method: Rule | None,
    token: Token,
    batch_size: int,
) -> Iterator[Check]:
    """Fetch source and SAE as recorded, encode, and select again."""
    told = published.record["encoding"]
    rows = _fetched(published.record, token) if source is None else source.remove_columns(code_columns(source))
    if isinstance(rows, Check):
        yield rows
        return
    digests = row_digests(rows, "Hashing the source")
    difference = checks.of_columns(published.record, rows.features.to_dict())
    difference = difference or checks.of_pool(published.record, published.receipt, published.digests, digests)
    yield Check("encode", "source" if source is None else "source, as it was given", difference)
    if difference:  # of other rows nothing follows
        return
    autoencoder = _autoencoder(told, sae, token)
    if isinstance(autoencoder, Check):
        yield autoencoder
        return
    file = None if sae is not None else autoencoder.config.source.get("sha256")
    yield Check("encode", "sae", checks.of_sae(told, autoencoder.digest(), file))
    try:
        coded = _coded(published, rows, autoencoder, text, batch_size)
    except (TypeError, ValueError) as error:
        yield Check("encode", "encoding", f"the rows cannot be encoded as recorded: {error}")
        return
    yield Check("encode", "encoding", checks.of_encoding(told, public(encoding_record(coded))))
    if published.has_pool:
        again = Features.from_dataset(coded).above(published.record["selection"]["parameters"]["threshold"])
        try:
            difference = checks.of_codes(Features.from_dataset(_stored(published)), again)
        except (ValueError, FileNotFoundError) as error:
            difference = str(error)
        yield Check("encode", "features", difference)
    yield from _again("encode", published, coded, method)


def _fetched(record: Record, token: Token) -> Dataset | Check:
    """Return the source as `load_dataset` gives it at its commit."""
    source = Source(**{each.name: record["source"][each.name] for each in fields(Source)})
    problem = _missing(str(source.dataset), str(source.revision), "dataset", token)
    if problem is None:
        try:
            rows = load_dataset(**source.arguments, token=token)
            return rows.remove_columns(code_columns(rows))
        except ValueError as error:  # no such config or split
            problem = str(error)
    return Check("encode", "source", f"{source.dataset} cannot be loaded as recorded: {problem}")


def _missing(name: str, revision: str, kind: str, token: Token) -> str | None:
    """Say so where a repo does not have the recorded commit; whether it is there at all, a token may decide."""
    _check_no_folder(name)
    try:
        Repo.at(name, revision, token, kind=kind)
    except FileNotFoundError as error:
        if isinstance(error.__cause__, RevisionNotFoundError):
            return str(error)
        raise
    return None


def _check_no_folder(name: str) -> None:
    """Refuse to read here what a record, which may be anybody's, names there."""
    if Path(name).is_dir():
        raise ValueError(f"a folder `{name}` lies here, and would be read in place of the repo: verify from elsewhere")


def _autoencoder(told: dict[str, Any], given: SaeSource | None, token: Token) -> SparseAutoencoder | Check:
    """Return the SAE, set as it was when the rows were encoded."""
    from .activations import READING  # needs torch
    from .loading import load_sae

    if given is not None:
        return load_sae(given, encoder_only=True)
    where = told["sae"]
    how: dict[str, Any] = {"encoder_only": True, "dtype": _dtype(told["dtype"][1])}
    if "repo" in where:
        if problem := _missing(where["repo"], where["revision"], "model", token):
            return Check("encode", "sae", f"it cannot be loaded as recorded: {problem}")
        how |= {"source": where["repo"], "revision": where["revision"], "filename": where["path"], "token": token}
        how |= {"format": where.get("format", "auto"), "config": where.get("config")}
    try:
        sae = load_sae(**how)
    except (FileNotFoundError, ValueError) as error:
        return Check("encode", "sae", f"it cannot be loaded as recorded: {error}")
    _check_no_folder(told["model"])
    names = {"model": "model", "model_revision": "model_revision", "hook": "hook", "context_size": "window"}
    names |= {"feature_threshold": "threshold"}
    reading = {name: told.get(name, usual) for name, usual in READING.items()}
    as_it_was: dict[str, Any] = {ours: told[theirs] for ours, theirs in names.items()} | reading
    sae.config = replace(sae.config, **as_it_was)
    return sae


def _dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


def _coded(
    published: Published, rows: Dataset, sae: SparseAutoencoder, text: TextSource | None, batch_size: int
) -> Dataset:
    from .encoding import encode  # needs torch

    told = published.record["encoding"]
    text = told["text"]["columns"] if text is None else text
    keep = needs(published.receipt)
    rows = rows.with_format(None)
    # Apart in the cache from what was encoded before, which is to be checked; cut off, verifying goes on all the same.
    rows._fingerprint = update_fingerprint(
        rows._fingerprint, "hf_sae_select.verify", {"record": published.record["sha256"]}
    )
    return encode(rows, sae, text=text, max_length=told["max_length"], batch_size=batch_size, keep=keep)


def _stored(published: Published) -> Dataset:
    encoding = published.record["encoding"]
    return read_pool(published.repo.fetch(POOL_FILE), None if encoding is None else encoding["d_sae"])
