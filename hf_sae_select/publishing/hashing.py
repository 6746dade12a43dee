"""SHA-256 of rows: the same on every machine and for every file format. No torch.

The digest of a row is that of its values as JSON: keys sorted, no spaces, UTF-8, numbers as Python writes them. Bytes
are replaced by their own SHA-256, times by ISO 8601; in a row with a time that Python cannot hold, all times are
replaced by their numbers in the column's unit. Of images, audio and video the content counts, not the path.

Example: the row ``{"text": "Hi", "label": 1}`` has the digest of ``{"label":1,"text":"Hi"}``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.table import embed_table_storage
from datasets.utils import tqdm
from numpy.typing import NDArray

BATCH_ROWS = 1000  # rows in memory at once
BATCH_FILES = 50  # rows in memory at once where each has an image or a sound

# Python's times end in the year 9999, and its texts are Unicode.
PYTHON_CANNOT = (OverflowError, ValueError, KeyError)

Digests = NDArray[np.uint8]
"""[n, 32], uint8: the SHA-256 of each row."""


def row_digests(dataset: datasets.Dataset, progress: str = "Hashing rows") -> Digests:
    """Return the SHA-256 of each row; `progress` names the progress bar."""
    parts = [digests_of(table, dataset.features) for table in batches(dataset, progress)]
    return np.concatenate([np.empty((0, 32), np.uint8), *parts])


def batches(dataset: datasets.Dataset, progress: str) -> Iterator[pa.Table]:
    """Yield the rows, in the dataset's order, as tables; the content of files that rows refer to is read into them."""
    embeds = any(map(_has_files, dataset.features.values()))
    size, view = batch_rows(dataset.features), dataset.with_format("arrow")
    with tqdm(total=len(dataset), desc=progress, unit=" rows") as bar:
        for start in range(0, len(dataset), size):
            table = cast(view[start : start + size], dataset.features.arrow_schema)
            yield embed_table_storage(table) if embeds else table
            bar.update(len(table))


def cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the types of a schema; Arrow fails to cast some structs of nulls, even to their own type."""
    if table.schema.equals(schema):
        return table.replace_schema_metadata(schema.metadata)
    return table.cast(schema)


def batch_rows(types: Mapping[str, Any]) -> int:
    """Return the number of rows of these types that are in memory at once."""
    return BATCH_FILES if any(map(_has_files, types.values())) else BATCH_ROWS


def digests_of(table: pa.Table, types: Mapping[str, Any]) -> Digests:
    """Return the SHA-256 of each row of a table that contains its files."""
    files = {name: type for name, type in types.items() if _has_files(type)}
    digests = bytearray()
    for row in _rows(table):
        row |= {name: _contents(row[name], type) for name, type in files.items()}
        digests += hashlib.sha256(_json_bytes(row)).digest()
    return np.frombuffer(bytes(digests), np.uint8).reshape(-1, 32)


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows as Python objects. What a row becomes does not depend on other rows.

    Raises:
        ValueError: If a value has no Python object; the message names its column.
    """
    try:
        yield from table.to_pylist()
        return
    except PYTHON_CANNOT:
        pass
    for i in range(len(table)):
        row = table.slice(i, 1)
        try:
            yield row.to_pylist()[0]
        except PYTHON_CANNOT:
            yield {name: _value(row[name], name) for name in row.column_names}


def _value(column: pa.ChunkedArray, name: str) -> Any:
    """Return the value of a column of one row, with times as numbers."""
    try:
        return column.cast(_without_times(column.type)).to_pylist()[0]
    except PYTHON_CANNOT as error:
        raise ValueError(
            f"column `{name}` holds a value that cannot be read ({error}): repair or remove it before you select"
        ) from error


def _without_times(type: pa.DataType) -> pa.DataType:
    """Return a type with integers in the place of dates, times and durations."""
    if pa.types.is_struct(type):
        return pa.struct([field.with_type(_without_times(field.type)) for field in type])
    if pa.types.is_fixed_size_list(type):
        return pa.list_(_without_times(type.value_type), type.list_size)
    if pa.types.is_list(type):
        return pa.list_(_without_times(type.value_type))
    if pa.types.is_large_list(type):
        return pa.large_list(_without_times(type.value_type))
    if pa.types.is_temporal(type):
        return pa.int32() if type.bit_width == 32 else pa.int64()
    return type


def digest_of(values: Any) -> str:
    """Return the SHA-256 of JSON values, or of an array's bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(values.tobytes() if isinstance(values, np.ndarray) else _json_bytes(values)).hexdigest()


def _json_bytes(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_serializable)
    return text.encode("utf-8", "surrogatepass")


def _serializable(value: Any) -> Any:
    """Convert a value that JSON does not know."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _has_files(type: Any) -> bool:
    """Tell whether values of a type may refer to files."""
    return bool(datasets.features.features.require_storage_embed(type))


def _contents(value: Any, type: Any) -> Any:
    """Replace files by their content: their paths differ from machine to machine."""
    if value is None or not _has_files(type):
        return value
    if hasattr(type, "embed_storage"):
        return value["bytes"]
    if isinstance(type, Mapping):
        return {name: _contents(value[name], inner) for name, inner in type.items()}
    return [_contents(item, type.feature) for item in value]
