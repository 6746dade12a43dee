"""Receipts: what a selection left beside its rows, from which a subset and its pool are brought together again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._datasets import select_rows
from .commands import COMMANDS
from .places import Place
from .runs import HUB_OPTIONS, annotations_of, read_run
from .values import FUNCTION, SELECTION, receipt_of, value_of

if TYPE_CHECKING:
    from datasets import Dataset

    from ..selection.attachment import Pool
    from ..selection.result import Selection

RUN = ".yaml"
ENCODING = ("sae", "text", "max_length", "batch_size")


class DiffersFromReceipt(ValueError):
    """Rows are not those that the receipt of a selection describes."""


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
    pool = _pool(Path(text), selection)
    if pool is None:
        attach(rows, selection)
        return rows
    subset = select_rows(pool.source, selection.indices)
    attach(subset, selection, pool, was_encoded=True)  # its codes need not be made again
    return subset


def check_code(words: Mapping[str, Any]) -> None:
    """Check that a receipt, which may be anybody's, names no file of code to run.

    Raises:
        ValueError: If it does.
    """
    for name in ("method", "methods", "text"):
        parts = words.get(name) or []
        for part in [parts] if isinstance(parts, str) else parts:
            if FUNCTION.fullmatch(part):
                raise ValueError(f"the `{name}` of the receipt is a function, {part}, which is not run from there")


def sae_of(subset: str) -> str | None:
    """Return the SAE that the run files of a subset name, as it was written; None for that of the package."""
    words: dict[str, Any] = {}
    for command in ("select", "encode"):  # the rows may be the result of `encode`
        file = receipt_of(Path(words.get("dataset", subset)), RUN)
        if not file.is_file():
            break
        words = read_run(file, COMMANDS[command])
        if "sae" in words:
            return str(words["sae"])
    return None


def _pool(subset: Path, selection: Selection) -> Pool | None:
    """Return the pool that the run file names, encoded as then; None, with a warning, if it is gone."""
    from ..features.columns import code_columns, encoding_record, is_encoded, without_codes
    from ..selection.attachment import Pool

    file, command = receipt_of(subset, RUN), COMMANDS["select"]
    try:
        words = read_run(file, command)
        place = Place.parse("dataset", words["dataset"], **{name: words.get(name) for name in HUB_OPTIONS})
        rows = place.load("dataset")
    except (OSError, KeyError) as error:
        reason = f"{file.name} does not name it" if isinstance(error, KeyError) else str(error)
        warnings.warn(f"the rows that {subset.name} was selected from are gone: {reason}", stacklevel=2)
        return None
    _check(f"the pool {words['dataset']!r}", rows, selection, selection.indices)
    encoding, codes = selection.parameters.get("encoding"), None
    if is_encoded(rows):
        codes = rows.select_columns(code_columns(rows))
    elif encoding:
        codes = _encoded(rows, words, selection)
    if encoding and encoding_record(codes).get("sae_sha256") != encoding.get("sae_sha256"):
        raise DiffersFromReceipt(f"the SAE is not the one by which {subset.name} was selected")
    source = without_codes(rows)
    return Pool(source, codes) if source.column_names else Pool(rows)


def _encoded(rows: Dataset, words: dict[str, Any], selection: Selection) -> Dataset:
    """Return the codes of the pool, from the cache where it has them."""
    from ..encoding.pipeline import codes
    from ..selection.methods import METHODS

    check_code(words)
    annotations = annotations_of(COMMANDS["select"])
    how = {name: value_of(name, annotations[name], words[name]) for name in ENCODING if name in words}
    how |= {name: int(how[name]) for name in ("max_length", "batch_size") if name in how}
    method = METHODS.get(selection.method)
    needs_state = method is not None and method.needs_vectors and selection.parameters["cuts"]["embedding"] is None
    return codes(rows, how.pop("sae", None), keep="state" if needs_state else (), **how)


def _check(name: str, rows: Dataset, selection: Selection, indices: Any) -> None:
    """Check that rows are those of a selection, by their digests."""
    from ..selection.extension import changed_picks

    if len(indices) != len(selection) or (len(indices) and int(indices.max()) >= len(rows)):
        raise DiffersFromReceipt(f"{name} has {len(rows):,} rows, which are not those that were selected")
    try:
        differing = changed_picks(selection, rows, indices)
    except ValueError as error:
        raise DiffersFromReceipt(f"{name} has {error}") from error
    if differing:
        raise DiffersFromReceipt(
            f"{name} is not what was selected: its row {int(indices[differing[0]])} was changed since "
            f"({len(differing):,} of {len(indices):,} rows differ)"
        )
