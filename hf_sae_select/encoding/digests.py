"""Digests of what is read of rows: they tell rows apart in the cache, and show that rows were changed. No torch.

Where columns are read, the digest covers their cells; of a function, it covers the text that the function returns.
Several processes that share the rows compare all digests first.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..features.columns import DIGEST, digested_columns, is_encoded
from .cells import RowBatch, Rows, value_at
from .rows import RowReader
from .schemas import Path, feature_at, is_text, type_name
from .text import Rendering

DIGEST_BYTES = 16
READ_ROWS = 5000  # rows in memory at once
ALL_ROWS, SAMPLED_ROWS = 100_000, 10_000  # rows are compared up to the first number; of more, a sample

Gather = Callable[[list[Any]], list[Any]]


def digests_of(reader: RowReader, rows: Rows | None = None) -> pa.Array:
    """Return the digests of rows as strings, by default of all rows."""
    rows = range(len(reader.dataset)) if rows is None else rows
    batches = (rows[start : start + READ_ROWS] for start in range(0, len(rows), READ_ROWS))
    return pa.concat_arrays([pa.array(_digests(reader, batch), pa.string()) for batch in batches])


def agreed_digests(reader: RowReader, gather: Gather) -> pa.Array:
    """Return the digests of all rows, and check that all processes read the same rows.

    Each process writes the codes of what it reads under the digests that all share. Codes of another row under a
    digest would stay in the cache, so all digests are compared, not a sample.

    Args:
        gather: returns the values of all processes, in a list; all of them call it.

    Raises:
        RuntimeError: The processes read other rows, or another one cannot read its rows. All processes raise it.
        Exception: This process cannot read its rows.
    """
    digests, error = None, None
    try:
        digests = digests_of(reader)
    except Exception as raised:
        error = raised  # the others wait for a message
    counts = gather([f"{type(error).__name__}: {error}" if digests is None else len(digests)])
    if error is not None:
        raise error
    for process, count in enumerate(counts):
        if isinstance(count, str):
            raise RuntimeError(f"process {process} cannot read its rows: {count}")
    if difference := _difference(digests, counts, gather):
        function = reader.rendering.function
        same = "the same rows" if function is None else "the same rows, and a `text` that returns the same of a row,"
        raise RuntimeError(
            f"the processes do not encode the same rows: {difference}; pass {same} in all, since the processes share "
            "the work; to encode other rows in each, start each as a job of its own, without a launcher such as "
            "torchrun"
        )
    return digests


def digested(dataset: Dataset, rendering: Rendering) -> dict[Path, str]:
    """Return the columns and fields that the digests of rows are of, with their types; none for a function."""
    return {path: type_name(feature_at(dataset.features, path)) for path in _paths(rendering)}


def check_digests(encoded: Dataset, most: int | None = None) -> None:
    """Check that the rows of an encoded dataset still are those that were encoded.

    The check needs the digests, and the columns that were read, still with texts. Without them, and for texts that a
    function returned, it does nothing. It compares up to `most` rows, by default 100,000; of more, 10,000, always
    the same ones.

    Raises:
        ValueError: Rows were changed; the message has their number and the first of them.
    """
    kinds = digested_columns(encoded) if is_encoded(encoded) else {}
    if not kinds or any(_is_other(feature_at(encoded.features, path), kind) for path, kind in kinds.items()):
        return
    rows: Rows = range(len(encoded))
    if len(encoded) > (ALL_ROWS if most is None else most):
        rows = np.sort(np.random.default_rng(0).choice(len(encoded), SAMPLED_ROWS, replace=False))
    digests = digests_of(RowReader(encoded, Rendering(tuple(kinds))), rows)
    recorded = pa.array(RowBatch(encoded, rows).column(DIGEST), pa.string())
    changed = np.flatnonzero(pc.not_equal(digests, recorded).to_numpy(zero_copy_only=False))
    if len(changed):
        names = ", ".join(f"`{'.'.join(path)}`" for path in kinds)
        raise ValueError(
            f"{len(changed):,} of {len(rows):,} rows were changed after they were encoded (column {names}; row "
            f"{rows[changed[0]]:,} is the first), and their codes are of the old text: encode the dataset again; or "
            f"remove the column `{DIGEST}`, to use the old codes all the same"
        )


def _difference(digests: pa.Array, counts: list[int], gather: Gather) -> str | None:
    """Say where the rows of a process differ from those of the first one. All processes get the same answer."""
    for process, count in enumerate(counts):
        if count != counts[0]:
            return f"process 0 has {counts[0]:,} rows, and process {process} has {count:,}"

    def others(most: int) -> list[int]:
        """Return which processes have other rows than the first one among so many rows."""
        checks = gather([_checksum(digests[:most])])
        return [process for process, check in enumerate(checks) if check != checks[0]]

    if not others(len(digests)):
        return None
    row = bisect_left(range(len(digests)), True, key=lambda row: bool(others(row + 1)))  # the same steps in all
    return f"row {row:,} differs in process {others(row + 1)[0]}"


def _checksum(digests: pa.Array) -> str:
    """Return one digest of the digests of rows, in their order."""
    whole = blake2b(digest_size=DIGEST_BYTES)
    for start in range(0, len(digests), READ_ROWS):
        whole.update("".join(digests[start : start + READ_ROWS].to_pylist()).encode())
    return whole.hexdigest()


def _is_other(feature: Any, kind: str) -> bool:
    """Tell whether a column is gone, or was of texts and holds something else now, such as their tokens."""
    return feature is None or ("string" in kind.split()[0] and not is_text(feature))


def _paths(rendering: Rendering) -> list[Path]:
    return [*rendering.paths, *((name,) for name in rendering.extras)]


def _digests(reader: RowReader, rows: Rows) -> Iterator[str]:
    if reader.rendering.function is not None:
        return map(_digest, (text for text, _ in reader.texts(rows)))
    cells = reader.cells(rows)
    columns = ([value_at(cell, path[1:]) for cell in cells[path[0]]] for path in _paths(reader.rendering))
    return map(_digest, zip(*columns, strict=True))


def _digest(value: Any) -> str:
    return blake2b(_as_json(value).encode(), digest_size=DIGEST_BYTES).hexdigest()


def _canonical(value: Any) -> Any:
    """Return a value that JSON lacks in another form."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Iterable):  # an array
        return list(value)
    return {type(value).__name__: str(value)}


_as_json = json.JSONEncoder(default=_canonical, separators=(",", ":")).encode
