"""Parquet files that may be anybody's: what their sizes declare is bounded before it is read. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# A file of n bytes may hold this much in memory at once: a few kilobytes can declare terabytes of equal values.
LEAST_BYTES = 2 * 2**30
EXPANSION = 64  # above LEAST_BYTES, times n
VALUE_BYTES = 8

TYPES_KEY = b"huggingface"  # where `datasets` keeps the types of columns


@contextmanager
def content_errors() -> Iterator[None]:
    """Turn every error that a file's content causes into a ValueError, and no error of this machine.

    Raises:
        ValueError: with the problem in words.
        OSError, MemoryError: if the disk fails or memory runs out; that says nothing about the content.
    """
    try:
        yield
    except MemoryError:
        raise
    except OSError as error:
        if error.errno is not None:  # Arrow's own errors about content have none
            raise
        raise ValueError(str(error)) from error
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from error
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, pa.ArrowException) as error:
        raise ValueError(str(error)) from error


def read_table(file: Path) -> pa.Table:
    """Read a whole table.

    Raises:
        ValueError: If the file is no Parquet, or would take too much memory.
    """
    with content_errors(), _opened(file) as parquet:
        _check_declared(file, [parquet.metadata.row_group(i) for i in range(parquet.num_row_groups)])
        _check_decoded(file, parquet.iter_batches())
        return pq.read_table(file)


def read_batches(file: Path, rows: int) -> Iterator[pa.Table]:
    """Yield a file's rows as tables of at most `rows` rows.

    Raises:
        ValueError: As `read_table`.
    """
    with content_errors(), _opened(file) as parquet, pq.ParquetFile(file) as plain:
        for i in range(parquet.num_row_groups):
            _check_declared(file, [parquet.metadata.row_group(i)])
        batches = plain.iter_batches(rows)
        for batch in parquet.iter_batches(rows):
            _check_decoded(file, [batch])
            yield pa.Table.from_batches([next(batches)])


def count_rows(file: Path) -> int:
    """Return the number of rows that a file declares.

    Raises:
        ValueError: If the file is no Parquet.
    """
    with content_errors():
        return int(pq.read_metadata(file).num_rows)


def written_types(file: Path) -> Mapping[str, Any]:
    """Return the types of columns that `datasets` wrote into a file, as `Features.to_dict` gives them.

    Raises:
        ValueError: If another program wrote the file, or it is no Parquet.
    """
    with content_errors():
        types: Mapping[str, Any] = json.loads(written_metadata(pq.read_schema(file))[TYPES_KEY])["info"]["features"]
        return types


def written_metadata(schema: pa.Schema, key: bytes = TYPES_KEY) -> Mapping[bytes, bytes]:
    """Return the metadata of a schema, with a `key` that this library or `datasets` writes.

    Raises:
        ValueError: If it is gone.
    """
    metadata: Mapping[bytes, bytes] = schema.metadata or {}
    if key not in metadata:
        raise ValueError(
            f"its schema's metadata lack `{key.decode()}`: another program, such as pandas, wrote it again; restore "
            "the file that was published"
        )
    return metadata


def _opened(file: Path) -> pq.ParquetFile:
    """Open a file to measure it: equal strings are read once, as a dictionary of values and where each occurs."""
    with pq.ParquetFile(file) as parquet:
        columns = [parquet.schema.column(i) for i in range(len(parquet.schema))]
    strings = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    return pq.ParquetFile(file, read_dictionary=strings)


def _check_declared(file: Path, groups: list[Any]) -> None:
    """Check the sizes that row groups declare, before they are read."""
    values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
    _check_bytes(file, max(values * VALUE_BYTES, sum(group.total_byte_size for group in groups)))


def _check_decoded(file: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Check the size of rows with each string written out."""
    size = 0
    for batch in batches:
        size += sum(map(_decoded_bytes, batch.columns))
        _check_bytes(file, size)


def _check_bytes(file: Path, size: int) -> None:
    bound = max(LEAST_BYTES, EXPANSION * file.stat().st_size)
    if size > bound:
        raise ValueError(
            f"it has {file.stat().st_size:,} bytes and would take {size:,} in memory; at most {bound:,} are read"
        )


def _decoded_bytes(array: pa.Array) -> int:
    """Return the size of an array once the values of its dictionaries are written out."""
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return int(pc.sum(lengths.take(array.indices)).as_py() or 0)
    if pa.types.is_struct(array.type):
        return sum(map(_decoded_bytes, array.flatten()))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        return int(array.nbytes) + _decoded_bytes(array.flatten())
    return int(array.nbytes)
