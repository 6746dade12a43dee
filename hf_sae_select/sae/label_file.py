"""The Parquet file of labels: a row per feature, and in its schema whose labels they are. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .._parquet import read_table
from .._validation import check_text
from .labels_beside import KEY, LABELS_FILE, declared

SPAN = pa.struct([("start", pa.int32()), ("end", pa.int32())])
EXAMPLE = pa.struct([("text", pa.string()), ("spans", pa.list_(SPAN)), ("activation", pa.float32())])
SCHEMA = pa.schema(
    {
        "feature": pa.uint32(),
        "name": pa.string(),
        "words": pa.list_(pa.string()),
        "score": pa.float32(),
        "low": pa.float32(),
        "high": pa.float32(),
        "frequency": pa.float32(),
        "examples": pa.list_(EXAMPLE),
    }
)

Rows = Sequence[Mapping[str, Any]]


def file_at(path: Any) -> Path:
    """Return the file of labels at a path, which may be its folder.

    Raises:
        TypeError: it is no path.
    """
    check_text("path", path, (str, Path))
    return Path(path) / LABELS_FILE if Path(path).is_dir() else Path(path)


def write(file: Path, rows: Rows, own: Mapping[str, Any]) -> None:
    """Write rows of `SCHEMA`, and what the file says of itself."""
    pq.write_table(_table(rows, own), file, compression="zstd", compression_level=19)


def contents(rows: Rows, own: Mapping[str, Any]) -> str:
    """Return all that a file would hold, to compare two; NaN is equal to itself there."""
    table = _table(rows, own)
    return f"{table.schema.metadata}{table.to_pylist()}"


def read(file: Path) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
    """Return the rows of a file, and what it says of itself; both may be anybody's.

    Raises:
        ValueError, KeyError, pyarrow.ArrowException: it is no Parquet, too large, or has other columns.
    """
    own = declared(file)
    return iter(read_table(file).select(SCHEMA.names).cast(SCHEMA).to_pylist()), own


def _table(rows: Rows, own: Mapping[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(rows, SCHEMA.with_metadata({KEY: json.dumps(own, sort_keys=True).encode()}))
