"""Digests of what is read of rows: they tell rows apart in the cache, and show that rows were changed. No torch.

Where columns are read, the digest covers their cells; of a function, it covers the text that the function returns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..features.columns import DIGEST, columns_of_digests, is_encoded
from .rows import RowReader, Rows
from .text import Rendering

DIGEST_BYTES = 16
BATCH_ROWS = 1000
ALL_ROWS, SAMPLED_ROWS = 100_000, 10_000  # rows are compared up to the first number; of more, a sample


def digests_of(reader: RowReader, rows: Rows | None = None) -> pa.Array:
    """Return the digests of rows as strings, by default of all rows."""
    rows = range(len(reader.dataset)) if rows is None else rows
    batches = (rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS))
    return pa.concat_arrays([pa.array(_digests(reader, batch), pa.string()) for batch in batches])


def check_digests(encoded: Dataset) -> None:
    """Check that the rows of an encoded dataset still are those that were encoded.

    The check needs the digests, and the columns that were read, still with texts. Without them, and for texts that a
    function returned, it does nothing. It compares all rows of up to 100,000; of more, 10,000, always the same ones.

    Raises:
        ValueError: Rows were changed; the message has their number and the first of them.
    """
    columns = columns_of_digests(encoded) if is_encoded(encoded) else {}
    if not columns or any(_is_other(encoded, name, type) for name, type in columns.items()):
        return
    rows: Rows = range(len(encoded))
    if len(encoded) > ALL_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(len(encoded), SAMPLED_ROWS, replace=False))
    digests = digests_of(RowReader(encoded, Rendering(tuple(columns))), rows)
    recorded = encoded.with_format("arrow").select_columns([DIGEST])[list(map(int, rows))][DIGEST]
    changed = np.flatnonzero(digests.to_numpy(zero_copy_only=False) != recorded.to_numpy())
    if len(changed):
        names = ", ".join(f"`{name}`" for name in columns)
        raise ValueError(
            f"{len(changed):,} of {len(rows):,} rows were changed after they were encoded (column {names}; row "
            f"{rows[changed[0]]:,} is the first), and their codes are of the old text: encode the dataset again; or "
            f"remove the column `{DIGEST}`, to use the old codes all the same"
        )


def _is_other(dataset: Dataset, name: str, type: str) -> bool:
    """Tell whether a column is gone, or was of texts and holds something else now, such as their tokens."""
    if name not in dataset.column_names:
        return True
    was_text, is_text = ("string" in kind.split("<")[0] for kind in (type, arrow_types(dataset, [name])[name]))
    return was_text and not is_text


def arrow_types(dataset: Dataset, columns: Iterable[str]) -> dict[str, str]:
    """Return the Arrow types of columns."""
    return {name: str(dataset.data.schema.field(name).type) for name in columns}


def _digests(reader: RowReader, rows: Rows) -> Iterator[str]:
    if reader.rendering.function is not None:
        return map(_digest, reader.texts(rows))
    return map(_digest, zip(*reader.cells(rows).values(), strict=True))


def _digest(value: Any) -> str:
    canonical = json.dumps(value, default=_canonical, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=DIGEST_BYTES).hexdigest()


def _canonical(value: Any) -> Any:
    """Return a value that JSON lacks in another form."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Iterable):  # an array
        return list(value)
    return {type(value).__name__: str(value)}
