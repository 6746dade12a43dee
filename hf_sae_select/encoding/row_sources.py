"""Shards of rows that are read where they are encoded: parts of a Dataset, or of Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset, Features
from fsspec.core import url_to_fs
from pyarrow import ArrowInvalid

from .._datasets import check_dataset, fingerprint_of, in_memory
from .._places import Place

HEAD_ROWS = 1000  # that say how the text is found


class Shard(NamedTuple):
    """Some rows."""

    first: int
    """The number of the first one in the whole."""
    rows: int
    read: Callable[[], Dataset]
    """Reads them, here or in a worker."""


class RowSource(Protocol):
    """Have rows, in shards."""

    head: Dataset
    """Rows that say how the text is found, and the types of all."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def identity(self) -> Any:
        """Return, as JSON, what tells these rows from others."""

    def shards(self, rows: int) -> Sequence[Callable[[], Shard]]:
        """Return functions that make the shards, of at most so many rows."""


class DatasetRows:
    """Have the rows of a Dataset; a shard holds copies of them."""

    def __init__(self, dataset: Dataset) -> None:
        self.head = dataset

    def __len__(self) -> int:
        return len(self.head)

    def identity(self) -> Any:
        return fingerprint_of(self.head)

    def shards(self, rows: int) -> Sequence[Callable[[], Shard]]:
        return [partial(self._shard, start, min(start + rows, len(self))) for start in range(0, len(self), rows)]

    def _shard(self, start: int, end: int) -> Shard:
        copy = in_memory(self.head.with_format("arrow")[start:end], self.head.features)
        return Shard(start, end - start, partial(_itself, copy))


class ParquetRows:
    """Have the rows of Parquet files, which are read where they are encoded.

    Args:
        argument: what an error calls them.
        files: their paths or URLs.

    Raises:
        ValueError: A file is damaged, or has other columns than the first one, or there are no rows.
    """

    def __init__(self, argument: str, files: Sequence[str]) -> None:
        self._files = list(files)
        schemas, self._counts = [], list[int]()
        for file in self._files:
            with _opened(argument, file) as parquet:
                schemas.append(Features.from_arrow_schema(parquet.schema_arrow))
                self._counts.append(parquet.metadata.num_rows)
        for file, schema in zip(self._files, schemas, strict=True):
            if schema != schemas[0]:
                raise ValueError(
                    f"`{argument}`: the files do not have one schema: {file} has {dict(schema)}, and {self._files[0]} "
                    f"{dict(schemas[0])}; name those of one schema"
                )
        if not sum(self._counts):
            raise ValueError(f"`{argument}` has no rows: none are in {self._files[0]}, nor in other files")
        first = next((i for i, count in enumerate(self._counts) if count), 0)
        self.head = _read(argument, self._files[first], 0, min(self._counts[first], HEAD_ROWS))

    def __len__(self) -> int:
        return sum(self._counts)

    def identity(self) -> Any:
        """Files that were written anew have other footers, which tell sizes and the least values of columns."""
        return [[file, count, _footer(file)] for file, count in zip(self._files, self._counts, strict=True)]

    def shards(self, rows: int) -> Sequence[Callable[[], Shard]]:
        parts, first = list[Callable[[], Shard]](), 0
        for file, count in zip(self._files, self._counts, strict=True):
            for start in range(0, count, rows):
                end = min(start + rows, count)
                shard = Shard(first + start, end - start, partial(_read, "dataset", file, start, end))
                parts.append(partial(_itself, shard))
            first += count
        return parts


def source_of(dataset: Any, out: str) -> RowSource:
    """Return the rows that the argument `dataset` holds or names. Parquet files of a pattern stay where they are.

    Args:
        out: the folder to write to, whose files are no rows to read.

    Raises:
        ValueError: There are no rows.
        TypeError, ValueError, OSError: As `Place.parse`, `Place.load` and `ParquetRows`.
    """
    if isinstance(dataset, Dataset):
        check_dataset("dataset", dataset, "encode")
        return DatasetRows(dataset)
    if not isinstance(dataset, str | Path | Place):
        raise TypeError(
            f"`dataset` is a {type(dataset).__name__}; pass a Dataset, or the place of rows. The splits of a "
            "DatasetDict go into a folder each, and a stream is written to Parquet first"
        )
    place = dataset if isinstance(dataset, Place) else Place.parse("dataset", str(dataset)).resolved("dataset")
    files = [_absolute(file) for file in place.parquet_files()]
    if others := [file for file in files if not file.startswith(f"{out}/")]:
        return ParquetRows("dataset", others)
    if files:
        raise ValueError(f"`dataset={str(dataset)!r}` names files of `out={out!r}` alone; pass another folder")
    return DatasetRows(place.load("dataset"))


def _absolute(file: str) -> str:
    """Return a path that is the same for workers in another folder."""
    return file if "://" in file else str(Path(file).absolute())


def _itself(value: Any) -> Any:
    return value


def _opened(argument: str, file: str) -> pq.ParquetFile:
    system, path = url_to_fs(file)
    try:
        return pq.ParquetFile(system.open(path), page_checksum_verification=True)
    except ArrowInvalid as error:
        raise ValueError(f"`{argument}`: {file} cannot be read as Parquet: {error}") from error


def _footer(file: str) -> str:
    """Return a digest of the part of a Parquet file that says what the others are."""
    system, path = url_to_fs(file)
    end = system.size(path) - 8  # four bytes say how long the footer is, and four are "PAR1"
    size = int.from_bytes(system.cat_file(path, start=end, end=end + 4), "little")
    return blake2b(system.cat_file(path, start=end - size, end=end), digest_size=8).hexdigest()


def _read(argument: str, file: str, start: int, end: int) -> Dataset:
    """Read some rows of a Parquet file.

    Raises:
        ValueError: It is damaged.
    """
    with _opened(argument, file) as parquet:
        ends = np.cumsum([parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)])
        groups = [i for i, last in enumerate(ends) if last > start and (ends[i - 1] if i else 0) < end]
        before = int(ends[groups[0] - 1]) if groups and groups[0] else 0
        try:
            table = parquet.read_row_groups(groups).slice(start - before, end - start)
        except (OSError, ArrowInvalid) as error:
            raise ValueError(f"`{argument}`: {file} cannot be read: {error}") from error
        return in_memory(table, Features.from_arrow_schema(parquet.schema_arrow))
