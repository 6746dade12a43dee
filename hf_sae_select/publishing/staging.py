"""Staging: a folder with everything that a published subset is: rows, tables, record, plot, card. Nothing is sent."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset

from .._datasets import check_dataset
from .._hub import Token, sha256_of
from .._optional import extra
from ..features.columns import encoding_record, is_code_column, is_encoded, without_codes
from ..selection.attachment import Pool, pool_of, selection_of
from ..selection.methods import METHODS
from ..selection.result import Selection
from .card import License, check_metadata, licence, subset_card
from .hashing import Digests, batches, digest_of, digests_of, row_digests
from .layout import CARD_FILE, FILES, PLOT_FILE, POOL_FILE, RECORD_FILE, ROWS, SELECTION_FILE
from .plot import draw_coverage
from .provenance import dumps, public, sealed, versions
from .replay import Measured, digest_tag, measure
from .source import Source, SourceName, find_source, origins
from .tables import view, write_pool, write_selection

SHARD_BYTES = 500 * 2**20  # of rows in memory, to a file


def stage(
    subset: Dataset,
    folder: str | Path,
    *,
    selection: Selection | None = None,
    pool: Dataset | None = None,
    license: License | None = None,
    source: SourceName | None = None,
    include_features: bool = True,
    metadata: Mapping[str, Any] | None = None,
    token: Token = None,
) -> Path:
    """Write a folder that holds what a Hub repo with a subset will hold; `push` sends it.

    The folder has the rows as Parquet (`data/`), the selection (`selection.parquet`), what it can be repeated from
    (`pool.parquet`), the record (`provenance.json`), the coverage curve (`coverage.png`) and the card (`README.md`,
    which you may edit before it is pushed). The same subset and versions give the same bytes. The folder appears whole
    or not at all; one that an earlier call wrote is replaced.

    Args:
        subset (`Dataset`):
            What `sae_select` returned, unchanged.
        folder (`str` or `Path`):
            The folder to write.
        selection (`Selection`, *optional*):
            The selection, where `subset` has lost its attribute `sae_selection`, by saving and loading for example.
        pool (`Dataset`, *optional*):
            The encoded dataset that the rows were selected from, where `subset` has lost it. Without it, others need
            it to repeat the selection, and the card shows no coverage.
        license (`str` or `list`, *optional*):
            The licence of the subset, an id of the Hub's list such as "cc-by-4.0"; by default the source's.
        source (`str` or `dict`, *optional*):
            The Hub dataset that the rows are from, where datasets' cache does not tell: its id, or
            `{"dataset": id, "config": ..., "split": ..., "revision": ...}`, which states that `load_dataset` with
            these gives those rows (`"as_published": False`: that they were made from them).
        include_features (`bool`, *optional*, defaults to `True`):
            Write `pool.parquet`, so that others can repeat the selection without a model.
        metadata (`dict`, *optional*):
            More of the card's metadata, such as `{"language": "en", "pretty_name": "..."}`. What the README of the
            repo has of these already stays.
        token (`str` or `bool`, *optional*):
            The token for the card of a private source.

    Returns:
        `Path`: The folder.

    Raises:
        TypeError: If `subset` has no selection, or an argument has another type than above.
        ValueError: If `subset` was changed after it was selected, or its licence is not known or not allowed.
        ImportError: If the extra `publish` is not installed.

    Example:

    ```python
    push(stage(dataset.sae_select(3000), "alpaca-3k"), "me/alpaca-3k")
    ```
    """
    for module in ("jsonschema", "matplotlib.figure"):
        extra(module)
    result, origin_pool = _publishable(subset, selection, pool)
    rows = without_codes(subset)
    _check_unchanged(rows, result, origin_pool)
    extra_metadata = check_metadata(metadata)
    all_rows = rows if origin_pool is None else origin_pool.rows
    origin = find_source(all_rows, source, token)
    card = origin.card(token)
    others = [other for other in origins(all_rows) if other.dataset != origin.dataset]
    terms = licence([card, *(other.card(token) for other in others)], license)
    folder = Path(folder).absolute()
    with _whole_folder(folder) as unfinished:
        picked = _write_rows(unfinished / ROWS, rows)
        digests = None if origin_pool is None else row_digests(origin_pool.rows, "Hashing the source")
        if digests is not None:
            _check_rows(picked, digests[result.indices], result)
        measured = _measure(origin_pool, result)
        counts = np.zeros(len(result), np.int64) if measured is None else measured.features.counts[result.indices]
        write_selection(unfinished / SELECTION_FILE, result, counts, picked)
        if include_features and origin_pool is not None and digests is not None:
            write_pool(unfinished / POOL_FILE, origin_pool, result, digests)
        if measured is not None:
            draw_coverage(unfinished / PLOT_FILE, measured)
        files = {file.relative_to(unfinished).as_posix(): file for file in sorted(unfinished.rglob("*.*"))}
        record = sealed(
            {
                "source": _source_record(origin, result, all_rows, digests, whole=origin_pool is not None),
                "license": terms,
                "encoding": _encoding_record(origin_pool, result),
                "selection": _selection_record(result, picked),
                "coverage": None if measured is None else measured.figures,
                "versions": versions(),
                "files": {
                    name: {"sha256": sha256_of(file), "bytes": file.stat().st_size} for name, file in files.items()
                },
            }
        )
        (unfinished / RECORD_FILE).write_text(dumps(record), encoding="utf-8")
        text = subset_card(record, result, measured, all_rows, source=card, metadata=extra_metadata)
        (unfinished / CARD_FILE).write_text(text, encoding="utf-8")
    return folder


def _publishable(subset: Any, selection: Selection | None, pool: Dataset | None) -> tuple[Selection, Pool | None]:
    """Return the selection, without what is private to this machine, and the pool, if it is known."""
    check_dataset("subset", subset, "publish")
    if selection is None:
        try:
            selection = selection_of(subset)
        except AttributeError as error:
            raise TypeError(
                "`subset` has no `sae_selection`: pass what `sae_select` returned, as it returned it, or "
                "`selection=` too, if you saved it; `map`, `select`, `shuffle`, saving and loading drop the attribute"
            ) from error
    if not isinstance(selection, Selection):
        raise TypeError(f"`selection` is a {type(selection).__name__}; it must be a Selection, see `Selection.load`")
    if not selection.parameters.get("cuts"):
        raise ValueError("`selection` is of `select_indices`, which knows no dataset; pass one of `select`")
    encoding = public(selection.parameters["encoding"])
    result = replace(selection, parameters=_speakable(selection) | {"encoding": encoding})
    try:
        json.dumps(result.parameters)
    except TypeError as error:
        raise TypeError(
            f"`subset` was selected with a parameter that JSON cannot hold ({error}): write dates as text"
        ) from error
    return result, pool_of(subset) if pool is None else _checked_pool(pool, selection)


def _checked_pool(pool: Any, selection: Selection) -> Pool:
    """Check that a dataset can be the one that the rows were selected from."""
    check_dataset("pool", pool, "compare with")
    if selection.pool_rows not in (0, len(pool)):
        raise ValueError(f"`pool` has {len(pool):,} rows, but the rows were selected from {selection.pool_rows:,}")
    encoding = selection.parameters["encoding"]
    if encoding and (not is_encoded(pool) or encoding_record(pool) != encoding):
        raise ValueError(
            "`pool` does not have the codes that the rows were selected by; pass what `sae_encode` returned, with the "
            "same SAE and text"
        )
    return Pool(pool)


def _speakable(selection: Selection) -> dict[str, Any]:
    """Return the parameters; options of the author's own method may be anything, paths and objects among them."""
    if selection.method in METHODS:
        return selection.parameters
    options = {
        name: value if _is_numeric(value) else digest_tag(value)
        for name, value in selection.parameters["options"].items()
    }
    return selection.parameters | {"options": options}


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_numeric, value))
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _measure(pool: Pool | None, selection: Selection) -> Measured | None:
    """Measure what the selection covers; None where the features of all rows are not known."""
    return None if pool is None or pool.codes is None else measure(view(pool, selection), selection)


def _check_unchanged(rows: Dataset, selection: Selection, pool: Pool | None) -> None:
    """Refuse rows that differ at first sight from those that were picked."""
    remedy = "publish what `sae_select` returned; change the dataset first, and select from the result"
    if len(rows) != len(selection):
        raise ValueError(f"`subset` has {len(rows):,} rows, but {len(selection):,} were picked; {remedy}")
    source = rows if pool is None else pool.rows
    for name, feature in source.features.items():
        if is_code_column(feature):  # its encoding record names the model, which may be in a folder
            raise ValueError(f"column `{name}` holds codes of an SAE under another name: remove it, and select again")
    for name in dict.fromkeys([*rows.column_names, *source.column_names]):
        if rows.features.get(name) != source.features.get(name):
            raise ValueError(f"column `{name}` was added, removed or changed after the rows were picked; {remedy}")


def _check_rows(picked: Digests, expected: Digests, selection: Selection) -> None:
    differ = np.flatnonzero((picked != expected).any(axis=1))
    if len(differ):
        raise ValueError(
            f"row {differ[0]} of `subset` is not row {selection.indices[differ[0]]} of the source, which was picked: "
            "it was changed or moved since; publish what `sae_select` returned, or change the dataset and select again"
        )


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to write to; it replaces `folder` if the block succeeds, and is removed if not."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if folder.exists() and (not folder.is_dir() or names - FILES or (names and RECORD_FILE not in names)):
        raise ValueError(f"`folder={str(folder)!r}` exists and is not a staged subset; pass a new or an empty folder")
    unfinished, earlier = (folder.with_name(f".{folder.name}.{what}") for what in ("unfinished", "earlier"))
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if folder.exists():
            folder.rename(earlier)
        unfinished.rename(folder)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_rows(folder: Path, rows: Dataset) -> Digests:
    """Write the rows as Parquet files, files that they refer to inside, and return their SHA-256."""
    folder.mkdir()
    digests: list[Digests] = []
    size, shard, writer = 0, 0, None
    with ExitStack() as opened:
        for table in batches(rows, "Writing rows"):
            if writer is None or size >= SHARD_BYTES:
                opened.close()
                file = folder / f"train-{shard:05d}.parquet"
                writer = opened.enter_context(
                    pq.ParquetWriter(file, rows.features.arrow_schema, write_page_index=True)
                )
                size, shard = 0, shard + 1
            writer.write_table(table)
            size += table.nbytes
            digests.append(digests_of(table, rows.features))
    return np.concatenate(digests)


def _source_record(
    origin: Source, selection: Selection, rows: Dataset, digests: Digests | None, *, whole: bool
) -> dict[str, Any]:
    return {
        **origin.record(),
        "fingerprint": selection.fingerprint,
        "rows": len(rows) if whole else selection.pool_rows or None,
        "columns": rows.features.to_dict(),
        "sha256": None if digests is None else digest_of(digests),
    }


def _selection_record(selection: Selection, picked: Digests) -> dict[str, Any]:
    return {
        "method": selection.method,
        "builtin": selection.method in METHODS,
        "parameters": {name: value for name, value in selection.parameters.items() if name != "encoding"},
        "rows": len(selection),
        "round_starts": selection.round_starts.tolist(),
        "pool_coverage": selection.pool_coverage,
        "indices_sha256": digest_of(selection.indices.astype("<i8")),
        "rows_sha256": digest_of(picked),
    }


def _encoding_record(pool: Pool | None, selection: Selection) -> dict[str, Any] | None:
    encoding = selection.parameters["encoding"]
    return {**encoding, "chat_template": _chat_template(pool, encoding)} if encoding else None


def _chat_template(pool: Pool | None, encoding: Mapping[str, Any]) -> str | None:
    """Return the text of the chat template that was used, if the model can still be loaded."""
    digest = encoding["chat_template_sha256"]
    if digest is None or pool is None or pool.codes is None:
        return None
    from ..encoding.pretrained import ChatTemplate  # needs torch

    private = encoding_record(pool.codes)  # which may name a folder
    try:
        template = ChatTemplate.of(private["model"], private["model_revision"])
    except OSError:
        return None
    return template.source if template is not None and template.digest == digest else None
