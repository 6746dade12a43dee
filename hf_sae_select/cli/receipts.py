"""Receipts: what a selection left beside its rows, from which a subset and its pool are brought together again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._datasets import select_rows
from .._places import Place
from .commands import COMMANDS
from .runs import HUB_OPTIONS, annotations_of, note_of, read_run
from .values import SELECTION, TARGET, receipt_of, value_of

if TYPE_CHECKING:
    from datasets import Dataset

    from ..selection.attachment import Pool
    from ..selection.result import Selection
    from ..selection.targets import Target

RUN = ".yaml"
POOL = "pool_sha256"  # in the run file of `select`
ENCODING = ("sae", "text", "max_length", "batch_size")


class DiffersFromReceipt(ValueError):
    """Rows are not those that the receipt of a selection describes."""


class PoolIsGone(FileNotFoundError):
    """The rows that a subset was selected from cannot be loaded."""


def has_receipt(subset: str) -> bool:
    """Tell whether the command line selected these rows."""
    return all(receipt_of(Path(subset), suffix).is_file() for suffix in (RUN, SELECTION))


def reopened(argument: str, text: str) -> Dataset:
    """Return a subset as `select` returned it: with its selection, and with its pool, if that is still there.

    Raises:
        FileNotFoundError: If there is no such subset, or no selection beside it.
        DiffersFromReceipt: If its rows, or those of the pool, are not those that the selection describes.
    """
    from ..selection.attachment import attach
    from ..selection.result import Selection

    file = receipt_of(Path(text), SELECTION)
    rows = Place.parse(argument, text).load(argument)
    if not file.is_file():
        raise FileNotFoundError(
            f"`{argument}={text!r}` has no {file.name} beside it, which `hf-sae-select select --out` writes: pass a "
            "subset that it wrote"
        )
    selection = Selection.load(file)
    _check(f"`{argument}={text!r}`", rows, selection, np.arange(len(rows)))
    try:
        pool = _pool(Path(text), selection)
    except PoolIsGone as error:
        warnings.warn(str(error), stacklevel=2)
        attach(rows, selection)
        return rows
    subset = select_rows(pool.source, selection.indices)
    attach(subset, selection, pool, was_encoded=True)  # its codes need not be made again
    return subset


def reopened_pool(argument: str, text: str) -> Dataset:
    """Return the rows that a subset was selected from.

    Raises:
        PoolIsGone: If they cannot be loaded.
        DiffersFromReceipt: If rows of the subset or of the pool are not those that the selection describes.
    """
    from ..selection.result import Selection

    selection = Selection.load(receipt_of(Path(text), SELECTION))
    rows = Place.parse(argument, text).load(argument)
    _check(f"`{argument}={text!r}`", rows, selection, np.arange(len(rows)))
    return _pool_rows(Path(text), selection)[0]


def pool_digest(rows: Dataset, selection: Selection) -> str | None:
    """Return the SHA-256 of what tells the rows of a pool, in order; None if nothing does."""
    from ..publishing.hashing import digest_of
    from ..selection.extension import content_digests

    columns = selection.digest_columns
    return digest_of(content_digests(rows, columns, np.arange(len(rows)))) if columns else None


def sae_of(subset: str) -> str | None:
    """Return the SAE that the run files of a subset name, as it was written; None for that of the package."""
    return next((str(words["sae"]) for words in _runs(subset) if "sae" in words), None)


def pools_of(subset: str) -> list[str]:
    """Return the rows that the run files of a subset name: its pool, and what that was encoded from."""
    return [str(words["dataset"]) for words in _runs(subset) if "dataset" in words]


def _runs(subset: str) -> Iterator[dict[str, Any]]:
    """Yield the words of the run files that led to a subset."""
    rows = subset
    for command in ("select", "encode"):  # the rows may be the result of `encode`
        file = receipt_of(Path(rows), RUN)
        if not file.is_file():
            return
        try:
            words = read_run(file, COMMANDS[command])
        except ValueError:  # of something else
            return
        yield words
        rows = words.get("dataset", rows)


def _pool_rows(subset: Path, selection: Selection) -> tuple[Dataset, dict[str, Any]]:
    """Return the rows of the pool that the run file names, checked, and the words of that file."""
    file = receipt_of(subset, RUN)
    try:
        words = read_run(file, COMMANDS["select"])
        place = Place.parse("dataset", words["dataset"], **{name: words.get(name) for name in HUB_OPTIONS})
        rows = place.load("dataset")
    except (OSError, KeyError) as error:
        reason = f"{file.name} does not name them" if isinstance(error, KeyError) else str(error)
        raise PoolIsGone(f"the rows that {subset.name} was selected from are gone: {reason}") from error
    name = f"the pool {words['dataset']!r}"
    if selection.pool_rows not in (0, len(rows)):
        raise DiffersFromReceipt(
            f"{name} has changed since: it has {len(rows):,} rows, and the subset was selected from "
            f"{selection.pool_rows:,}"
        )
    _check(name, rows, selection, selection.indices)
    digest = note_of(file, POOL)  # older files have none
    if digest is not None and digest != pool_digest(rows, selection):
        raise DiffersFromReceipt(
            f"{name} has changed since: the rows that were picked are the same, but others are not, or are in "
            "another order"
        )
    return rows, words


def _pool(subset: Path, selection: Selection) -> Pool:
    """Return the pool that the run file names, encoded as then."""
    from ..features.columns import code_columns, encoding_record, is_encoded, without_codes
    from ..selection.attachment import Pool

    rows, words = _pool_rows(subset, selection)
    encoding, codes = selection.parameters.get("encoding"), None
    if is_encoded(rows):
        codes = rows.select_columns(code_columns(rows))
    elif encoding:
        codes = _encoded(rows, words, selection)
    if encoding and encoding_record(codes).get("sae_sha256") != encoding.get("sae_sha256"):
        raise DiffersFromReceipt(f"the SAE is not the one by which {subset.name} was selected")
    source = without_codes(rows)
    target = _target(subset, words, selection, codes)
    return Pool(source, codes, target) if source.column_names else Pool(rows, target=target)


def _target(subset: Path, words: dict[str, Any], selection: Selection, codes: Dataset | None) -> Target | None:
    """Return what a subset was selected towards, encoded again; None where it is gone, which is warned of."""
    from ..features.columns import encoding_record
    from ..selection.references import PoolEncoding
    from ..selection.target_argument import same_target

    if "target" not in words or codes is None:
        return None
    try:
        rows = value_of("target", TARGET, words["target"], is_trusted=False)
        sae = value_of("sae", "SaeSource", words.get("sae"), is_trusted=False)
        return same_target(selection, rows, PoolEncoding(encoding_record(codes), sae))
    except (OSError, ValueError) as error:
        warnings.warn(f"what {subset.name} was selected towards is gone: {error}", stacklevel=2)
        return None


def _encoded(rows: Dataset, words: dict[str, Any], selection: Selection) -> Dataset:
    """Return the codes of the pool, from the cache where it has them."""
    from ..encoding.pipeline import codes
    from ..encoding.recorded import keep_of
    from ..selection.methods import METHODS

    annotations = annotations_of(COMMANDS["select"])
    how = {
        name: value_of(name, annotations[name], words[name], is_trusted=False)  # it may be anybody's
        for name in ENCODING
        if name in words
    }
    how |= {name: int(how[name]) for name in ("max_length", "batch_size") if name in how}
    method = METHODS.get(selection.method)
    needs_state = method is not None and method.needs_vectors and selection.parameters["cuts"]["embedding"] is None
    keep = (*keep_of(selection.parameters["encoding"]), *(["state"] if needs_state else []))
    return codes(rows, how.pop("sae", None), keep=keep, **how)


def _check(name: str, rows: Dataset, selection: Selection, indices: Any) -> None:
    """Check that rows are those of a selection, by their digests."""
    from ..selection.extension import changed_picks

    if len(indices) != len(selection) or (len(indices) and int(indices.max()) >= len(rows)):
        raise DiffersFromReceipt(f"{name} has changed since: it has {len(rows):,} rows, and its selection others")
    try:
        differing = changed_picks(selection, rows, indices)
    except ValueError as error:
        raise DiffersFromReceipt(f"{name} has changed since: it has {error}") from error
    if differing:
        raise DiffersFromReceipt(
            f"{name} has changed since: its row {int(indices[differing[0]])} is another "
            f"({len(differing):,} of {len(indices):,} selected rows differ)"
        )
