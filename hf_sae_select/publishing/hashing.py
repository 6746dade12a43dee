"""Rows -> SHA-256, the same wherever and in whatever file a row lies. No torch.

A row's digest is that of its values as JSON: keys in order, no spaces, UTF-8, numbers as Python writes them. Bytes
stand there as their own SHA-256, times in ISO 8601. Of images, audio and video the content counts, not where it lies.

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
BATCH_FILES = 50  # of those that come with an image or a sound each

Digests = NDArray[np.uint8]


def row_digests(ds: datasets.Dataset, what: str = "Hashing") -> Digests:
    """Return the SHA-256 of each row: uint8 [n, 32]."""
    parts = [digests_of(table, ds.features) for table in batches(ds, what)]
    return np.concatenate([np.empty((0, 32), np.uint8), *parts])


def batches(ds: datasets.Dataset, what: str) -> Iterator[pa.Table]:
    """Yield the rows, in the dataset's order, as tables that hold all they refer to: files are read into them."""
    embeds = any(map(_of_files, ds.features.values()))
    size, view = BATCH_FILES if embeds else BATCH_ROWS, ds.with_format("arrow")
    with tqdm(total=len(ds), desc=what, unit=" rows") as bar:
        for start in range(0, len(ds), size):
            table = view[start : start + size].cast(ds.features.arrow_schema)
            yield embed_table_storage(table) if embeds else table
            bar.update(len(table))


def digests_of(table: pa.Table, types: Mapping[str, Any]) -> Digests:
    """Return the SHA-256 of each row of a table that holds all it refers to."""
    files = {name: type for name, type in types.items() if _of_files(type)}
    found = bytearray()
    for row in table.to_pylist():
        row |= {name: _contents(row[name], type) for name, type in files.items()}
        found += hashlib.sha256(_written(row)).digest()
    return np.frombuffer(bytes(found), np.uint8).reshape(-1, 32)


def digest_of(values: Any) -> str:
    """Return the SHA-256, as 64 hexadecimal digits, of JSON values or of an array's bytes."""
    return hashlib.sha256(values.tobytes() if isinstance(values, np.ndarray) else _written(values)).hexdigest()


def _written(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text.encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    """Return a value that JSON has no word for, in words that it has."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _of_files(type: Any) -> bool:
    return bool(datasets.features.features.require_storage_embed(type))


def _contents(value: Any, type: Any) -> Any:
    """Leave out of a value where its files lie; where they lie differs from machine to machine."""
    if value is None or not _of_files(type):
        return value
    if hasattr(type, "embed_storage"):
        return value["bytes"]
    if isinstance(type, Mapping):
        return {name: _contents(value[name], each) for name, each in type.items()}
    return [_contents(each, type.feature) for each in value]
