"""Arrow files in the cache of `datasets`, as `Dataset.map` writes them, but whole or not at all.

Behind the end of the Arrow stream, where no reader looks, a file has a checksum of all that is before.
"""

from __future__ import annotations

import errno
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ._files import whole_file

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

GATHERED_ROWS = 50_000  # rows that are looked up together
END = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow stream; files of earlier versions end with it
CHECKSUM_BYTES = 4
READ_BYTES = 2**24  # of a file, between two looks for an interrupt

_checked = set[tuple[str, int, int]]()  # what this process has checked: path, size, time of the last change


def write_tables(file: Path, schema: pa.Schema, tables: Iterable[pa.Table], rows: int) -> None:
    """Write tables to a file that appears when it is complete.

    `rows` is the number of rows that the disk must still hold, these included: of them, an error tells the bytes.

    Raises:
        OSError: the disk is full or the like.
    """
    with ExitStack() as stack:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            part = stack.enter_context(whole_file(file))
            sink = pa.OSFile(str(part), "wb")
            writer = pa.ipc.new_stream(sink, schema)
        for table in tables:
            with writing(file, rows * table.nbytes / max(len(table), 1)):
                writer.write_table(with_schema(table, schema))
            rows -= len(table)
        with writing(file):
            writer.close()
            sink.close()
            with part.open("r+b") as written:
                checksum = _checksum(written)
                written.seek(0, os.SEEK_END)
                written.write(checksum.to_bytes(CHECKSUM_BYTES))


@contextmanager
def writing(path: Path, needed: float = 0) -> Iterator[None]:
    """Say in an error of writing what to do about it; `needed` is the number of bytes still to be written."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "free space on that disk" if is_full else "allow writing there"
        size = f"; {needed / 1e6:,.1f} MB are still to be written" if needed else ""
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror or error}{size}; {remedy}, or set the environment "
            "variable HF_DATASETS_CACHE to a folder that can be written to; finished files are kept",
        ) from error


def open_file(file: Path) -> Dataset:
    """Open a file that `write_tables` wrote. A process reads it to the end once, to compare the checksum.

    Raises:
        OSError: it is damaged.
    """
    from datasets import Dataset

    try:
        state = str(file), file.stat().st_size, file.stat().st_mtime_ns
        if state not in _checked:
            _check(file)
            _checked.add(state)
        return Dataset.from_file(str(file))
    except (OSError, ValueError) as error:  # Arrow raises both
        raise damaged(file, error) from error


def _check(file: Path) -> None:
    """Compare the checksum of a file with its content.

    Raises:
        ValueError: they differ, or the file is cut.
    """
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(size - len(END) - CHECKSUM_BYTES, 0))
        tail = opened.read()
        if tail.endswith(END):
            return
        if not tail.startswith(END):
            raise ValueError("its end is missing")
        if _checksum(opened, size - CHECKSUM_BYTES) != int.from_bytes(tail[-CHECKSUM_BYTES:]):
            raise ValueError("its checksum is another one than when it was written")


def _checksum(file: BinaryIO, size: int | None = None) -> int:
    """Return the CRC-32 of the first bytes of a file, by default of all."""
    value = 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content)[:size] as view:
        for start in range(0, len(view), READ_BYTES):
            value = zlib.crc32(view[start : start + READ_BYTES], value)
    return value


def damaged(file: Path, reason: object) -> OSError:
    """Return the error that a file of the cache is damaged."""
    return OSError(f"the cache file {file} is damaged ({reason}); delete it, and encode again")


class Lists:
    """A column of lists without nulls, of which rows are gathered in any order.

    It views the chunks as arrays. Arrow's own `take` holds what it gathers several times, and looks through all chunks
    for each block of rows.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        offsets = [chunk.offsets.to_numpy() for chunk in column.chunks]
        self._type = column.type
        self._values = [chunk.values.to_numpy() for chunk in column.chunks]
        self._starts = np.concatenate([part[:-1] for part in offsets] or [np.empty(0, np.int32)])
        self._stops = np.concatenate([part[1:] for part in offsets] or [np.empty(0, np.int32)])
        self._ends = np.cumsum([len(chunk) for chunk in column.chunks])  # of the chunks, in rows

    def take(self, rows: NDArray[np.int64]) -> pa.Array:
        """Return some rows."""
        owners = np.searchsorted(self._ends, rows, side="right").tolist()
        starts, stops = self._starts[rows], self._stops[rows]
        spans = zip(owners, starts.tolist(), stops.tolist(), strict=True)
        values = [self._values[owner][start:stop] for owner, start, stop in spans]
        offsets = np.zeros(len(rows) + 1, starts.dtype)
        np.cumsum(stops - starts, out=offsets[1:])
        empty = np.empty(0, self._type.value_type.to_pandas_dtype())
        arrays = pa.array(offsets), pa.array(np.concatenate([empty, *values]), self._type.value_type)
        kind = pa.LargeListArray if pa.types.is_large_list(self._type) else pa.ListArray
        return kind.from_arrays(*arrays)


def gathered(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Return rows of a table, in any order. `Table.take` would copy all chunks of all columns first."""
    batches = table.to_batches()
    ends = np.cumsum([len(batch) for batch in batches])
    blocks = [rows[start : start + GATHERED_ROWS] for start in range(0, len(rows), GATHERED_ROWS)]
    return pa.concat_tables([_gathered(batches, ends, block) for block in blocks] or [table.slice(0, 0)])


def _gathered(batches: list[pa.RecordBatch], ends: NDArray[np.int64], rows: NDArray[np.int64]) -> pa.Table:
    """Take the rows of each batch together, and then put all of them in order."""
    owners = np.searchsorted(ends, rows, side="right")
    order = np.argsort(owners, kind="stable")
    bounds = np.flatnonzero(np.diff(owners[order], prepend=-1))
    parts = []
    for part in np.split(order, bounds[1:]):
        owner = owners[part[0]]
        parts.append(batches[owner].take(pa.array(rows[part] - (ends[owner] - len(batches[owner])))))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return pa.Table.from_batches(parts).combine_chunks().take(pa.array(places))


def with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table in a schema. Only columns of another type are cast: a struct with a key of no type cannot be."""
    pairs = zip(table.select(schema.names).columns, schema, strict=True)
    columns = [column if column.type.equals(field.type) else column.cast(field.type) for column, field in pairs]
    return pa.Table.from_arrays(columns, schema=schema)
