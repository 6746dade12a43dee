"""Staging: a folder with all that a published subset is: rows, evidence, record, picture and card. Nothing is sent."""

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

from .._hub import Token, sha256_of
from .._optional import extra
from ..features.columns import encoding_record, is_code_column, without_codes
from ..selection.methods import METHODS
from ..selection.pool import Pool
from ..selection.result import Selection
from .card import License, check_metadata, licence, subset_card
from .hashing import Digests, batches, digest_of, digests_of, row_digests
from .plot import draw_coverage
from .provenance import RECORD_FILE, public, sealed, versions, written
from .replay import KNOWN, Measured, hide, measure
from .source import Given, Source, find_source, origins
from .tables import POOL_FILE, SELECTION_FILE, view, write_pool, write_selection

ROWS, PICTURE_FILE, CARD_FILE = "data", "coverage.png", "README.md"
SHARD_BYTES = 500 * 2**20  # of rows in memory, to a file


def stage(
    subset: Dataset,
    folder: str | Path,
    *,
    license: License | None = None,
    source: Given | None = None,
    features: bool = True,
    metadata: Mapping[str, Any] | None = None,
    token: Token = None,
) -> Path:
    """Write into `folder` what a Hub repo with `subset` will hold, and return it; `push` sends it.

    The rows as Parquet (`data/`), the receipt (`selection.parquet`), what it can be made again from (`pool.parquet`),
    the record (`provenance.json`), the coverage curve (`coverage.png`) and the card (`README.md`, yours to edit
    before it is pushed). The same subset and versions give the same bytes. The folder appears whole or not at all; one
    that an earlier call wrote is replaced.

    Args:
        subset: what `sae_select` returned, unchanged.
        license: of the subset, an id of the Hub's list such as 'cc-by-4.0'; by default the source's.
        source: the Hub dataset that the rows are from, where it is not found by itself: its id, or {"dataset": id,
            "config": ..., "split": ..., "revision": ...}, which states that `load_dataset` with these gives those rows
            ("as_published": False: that they were made from them).
        features: keep what the selection went by, so that others can make it again without a model.
        metadata: more of the card's metadata, such as {"language": "en", "pretty_name": "..."}; what the README of the
            repo says of these already stays.
        token: for the card of a private source.

    Raises:
        TypeError, ValueError: `subset` has no receipt or was changed since; its licence is not known or not allowed.
        ImportError: the extra `publish` is not installed.

    Example: ``stage(ds.sae_select(3000), "alpaca-3k")``, then ``push("alpaca-3k", "me/alpaca-3k")``.
    """
    for module in ("jsonschema", "matplotlib.figure"):
        extra(module)
    receipt, pool = _receipt(subset)
    rows = without_codes(subset)
    _check_unchanged(rows, receipt, pool)
    more = check_metadata(metadata)
    origin = find_source(pool.rows, source, token)
    card = origin.card(token)
    others = [each for each in origins(pool.rows) if each.dataset != origin.dataset]
    terms = licence([card, *(each.card(token) for each in others)], license)
    folder = Path(folder).absolute()
    with _whole(folder) as unfinished:
        digests = row_digests(pool.rows, "Hashing the source")
        picked = _write_rows(unfinished / ROWS, rows)
        _check_rows(picked, digests[receipt.indices], receipt)
        found = None if pool.codes is None else measure(view(pool, receipt), receipt)
        counts = np.zeros(len(receipt), np.int64) if found is None else found.features.counts[receipt.indices]
        write_selection(unfinished / SELECTION_FILE, receipt, counts, picked)
        if features:
            write_pool(unfinished / POOL_FILE, pool, receipt, digests)
        if found is not None:
            draw_coverage(unfinished / PICTURE_FILE, found)
        files = {file.relative_to(unfinished).as_posix(): file for file in sorted(unfinished.rglob("*.*"))}
        record = sealed(_record(receipt, pool, origin, digests, picked, found, files) | {"license": terms})
        (unfinished / RECORD_FILE).write_text(written(record), encoding="utf-8")
        text = subset_card(record, receipt, found, pool.rows, source=card, metadata=more)
        (unfinished / CARD_FILE).write_text(text, encoding="utf-8")
    return folder


def _receipt(subset: Any) -> tuple[Selection, Pool]:
    """Return what `sae_select` left on a subset, nothing in it that is of this machine alone."""
    receipt, pool = getattr(subset, "sae_selection", None), getattr(subset, "sae_pool", None)
    if not isinstance(subset, Dataset) or receipt is None or pool is None:
        raise TypeError(
            "`subset` has no receipt: pass what `sae_select` returned, as it returned it; `map`, `select`, `shuffle`, "
            "saving and loading lose the receipt, so do those before you select"
        )
    if not len(receipt):
        raise ValueError("`subset` has no rows: there is nothing to publish")
    encoding = public(receipt.parameters["encoding"])
    parameters = _speakable(receipt) | {"encoding": encoding}
    try:
        json.dumps(parameters)
    except TypeError as error:
        raise TypeError(
            f"`subset` was selected with a parameter that JSON cannot hold ({error}): write dates as text"
        ) from error
    return replace(receipt, parameters=parameters), pool


def _speakable(receipt: Selection) -> dict[str, Any]:
    """Return the parameters; options of a rule that is none of ours may be anything, paths and objects among them."""
    ours = receipt.parameters.keys() if receipt.method in METHODS else KNOWN
    return {
        name: value if name in ours or _is_of_numbers(value) else hide(value)
        for name, value in receipt.parameters.items()
    }


def _is_of_numbers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_of_numbers, value))
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _check_unchanged(rows: Dataset, receipt: Selection, pool: Pool) -> None:
    """Refuse rows that can be seen at once not to be those that were picked."""
    remedy = "publish what `sae_select` returned; change the dataset first, and select from the result"
    if len(rows) != len(receipt):
        raise ValueError(f"`subset` has {len(rows):,} rows, but {len(receipt):,} were picked; {remedy}")
    for name, feature in pool.rows.features.items():
        if is_code_column(feature):  # its encoding record names the model, which may be a folder
            raise ValueError(f"column `{name}` holds codes of an SAE under another name: remove it, and select again")
    for name in dict.fromkeys([*rows.column_names, *pool.rows.column_names]):
        if rows.features.get(name) != pool.rows.features.get(name):
            raise ValueError(f"column `{name}` was added, removed or changed after the rows were picked; {remedy}")


def _check_rows(picked: Digests, expected: Digests, receipt: Selection) -> None:
    differ = np.flatnonzero((picked != expected).any(axis=1))
    if len(differ):
        raise ValueError(
            f"row {differ[0]} of `subset` is not row {receipt.indices[differ[0]]} of the source, which was picked: it "
            "was changed or moved since; publish what `sae_select` returned, or change the dataset and select again"
        )


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write to that takes the place of `folder` if all goes well, and is gone if not."""
    ours = {ROWS, SELECTION_FILE, POOL_FILE, PICTURE_FILE, RECORD_FILE, CARD_FILE}
    held = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if folder.exists() and (not folder.is_dir() or held - ours or (held and RECORD_FILE not in held)):
        raise ValueError(f"`folder={str(folder)!r}` is there and no staged subset; pass a new or an empty folder")
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


def _record(
    receipt: Selection,
    pool: Pool,
    origin: Source,
    digests: Digests,
    picked: Digests,
    found: Measured | None,
    files: Mapping[str, Path],
) -> dict[str, Any]:
    parameters = dict(receipt.parameters)
    encoding = parameters.pop("encoding")
    return {
        "source": {
            **origin.record(),
            "fingerprint": receipt.fingerprint,
            "rows": len(pool.rows),
            "columns": pool.rows.features.to_dict(),
            "sha256": digest_of(digests),
        },
        "encoding": {**encoding, "chat_template": _chat_template(pool, encoding)} if encoding else None,
        "selection": {
            "method": receipt.method,
            "builtin": receipt.method in METHODS,
            "parameters": parameters,
            "rows": len(receipt),
            "round_starts": receipt.round_starts.tolist(),
            "pool_coverage": receipt.pool_coverage,
            "indices_sha256": digest_of(receipt.indices.astype("<i8")),
            "rows_sha256": digest_of(picked),
        },
        "coverage": None if found is None else found.figures,
        "versions": versions(),
        "files": {name: {"sha256": sha256_of(file), "bytes": file.stat().st_size} for name, file in files.items()},
    }


def _chat_template(pool: Pool, encoding: Mapping[str, Any]) -> str | None:
    """Return the text of the chat template that took part, if the model is still to be had."""
    digest = encoding["chat_template_sha256"]
    if digest is None or pool.codes is None:
        return None
    from ..encoding.pretrained import ChatTemplate  # needs torch

    told = encoding_record(pool.codes)  # which may name a folder
    try:
        template = ChatTemplate.of(told["model"], told["model_revision"])
    except OSError:
        return None
    return template.source if template is not None and template.digest == digest else None
