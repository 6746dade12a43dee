"""Streams of rows: an IterableDataset becomes Arrow files on disk, or batches in memory, one schema all along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ._arrow import open_file, write_tables
from ._datasets import set_fingerprint
from ._files import remove_leftovers

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset, Features, IterableDataset

BATCH_ROWS = 1000  # rows in memory at once
FILE_BYTES = 2**26  # of a file, which is in memory until it is written: the number of open files is limited


def stored_rows(
    stream: IterableDataset, argument: str = "dataset", check: Callable[[Dataset], None] | None = None
) -> Dataset:
    """Read a stream to its end, once, into Arrow files in the cache of `datasets`, and return them as a Dataset.

    At most `FILE_BYTES` and one batch are in memory. Files are named after their rows: the same rows are stored once.

    Args:
        argument: what an error calls the stream.
        check: is called with the first rows before any others are read, and may raise.

    Raises:
        ValueError: The stream has no row, or rows of another schema than its first ones.
        OSError: The disk is full or the like.
    """
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE) / "hf_sae_select" / "streams"
    remove_leftovers(folder)
    rows = iter(_with_progress(stream))
    first = list(islice(rows, BATCH_ROWS))
    schema = schema_of(stream, first, argument)
    if check is not None:
        check(datasets.Dataset(table_of(first, schema, argument, 0)))
    blocks = _blocks(tables(chain(first, rows), schema, argument))
    files = [_written(folder, block, schema) for block in blocks]
    stored = datasets.concatenate_datasets([open_file(file) for file in files])
    set_fingerprint(stored, blake2b("".join(file.stem for file in files).encode(), digest_size=8).hexdigest())
    return stored


def schema_of(stream: IterableDataset, rows: list[Any], argument: str) -> Features:
    """Return the types of the columns of a stream: its own, or else those of its first rows.

    Raises:
        ValueError: There are no rows, or they do not tell the types.
    """
    from datasets import Dataset

    if not rows:
        raise ValueError(f"`{argument}`: the stream is empty; there is no row to read")
    if stream.features is not None:
        return stream.features
    try:
        return Dataset.from_list(rows).features
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(
            f"`{argument}`: the stream does not say the types of its columns, and its first {len(rows):,} rows do not "
            f"agree on them ({error}); name them: `stream.cast(features)`"
        ) from error


def tables(rows: Iterable[Any], schema: Features, argument: str) -> Iterator[pa.Table]:
    """Yield rows as tables of one schema.

    Raises:
        ValueError: Rows do not have the schema.
    """
    rows, start = iter(rows), 0
    while batch := list(islice(rows, BATCH_ROWS)):
        yield table_of(batch, schema, argument, start)
        start += len(batch)


def table_of(rows: list[Any], schema: Features, argument: str, start: int) -> pa.Table:
    """Return rows, the first of which is the row `start` of a stream, as a table of a schema.

    Raises:
        ValueError: Rows do not have the schema.
    """
    from datasets import Dataset

    where = f"`{argument}`: the schema of the stream changes in rows {start:,} to {start + len(rows) - 1:,}"
    remedy = "bring all rows to one schema, such as by `stream.map(function, features=features)`"
    if other_rows := [row for row in rows if not isinstance(row, Mapping)]:
        raise ValueError(f"{where} ({other_rows[0]!r:.50} is no row, which is a dict of columns); {remedy}")
    if foreign := {name for row in rows for name in row.keys() ^ schema.keys()}:
        raise ValueError(f"{where}: columns {sorted(foreign)} are not in all rows; {remedy}")
    if other := [name for name, type in schema.items() for row in rows if not _is_text_where_text(row[name], type)]:
        raise ValueError(f"{where} (column `{other[0]}` holds something else than text); {remedy}")
    try:
        return Dataset.from_list(rows, features=schema).data.table.combine_chunks()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(f"{where} ({error}); {remedy}") from error


def _is_text_where_text(value: Any, type: Any) -> bool:
    """Tell whether the texts of a type are texts: `datasets` would write any other value as one."""
    if value is None:
        return True
    if getattr(type, "dtype", None) in ("string", "large_string"):
        return isinstance(value, str)
    if isinstance(type, Mapping) and isinstance(value, Mapping):
        return all(_is_text_where_text(value.get(name), inner) for name, inner in type.items())
    if hasattr(type, "feature") and isinstance(value, list | tuple):
        return all(_is_text_where_text(item, type.feature) for item in value)
    return True


def _blocks(batches: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Gather tables for a file each."""
    block: list[pa.Table] = []
    for table in batches:
        block.append(table)
        if sum(part.nbytes for part in block) >= FILE_BYTES:
            yield block
            block = []
    if block:
        yield block


def _written(folder: Path, block: list[pa.Table], schema: Features) -> Path:
    """Write tables to a file that is named after their content, unless it is there, and is not damaged.

    The name begins as those that `Dataset.cleanup_cache_files` removes.
    """
    digest = digest_of(block, schema)
    file = folder / f"cache-{digest}.arrow"
    if not _is_intact(file):
        write_tables(file, schema.arrow_schema, block, sum(map(len, block)))
    return file


def _is_intact(file: Path) -> bool:
    """Tell whether a file is there and holds what was written."""
    try:
        open_file(file)
    except OSError:
        return False
    return True


def digest_of(block: Iterable[pa.Table], schema: Features) -> str:
    """Return a digest of the content of tables."""
    digest = blake2b(digest_size=16)
    for table in block:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema.arrow_schema) as writer:
            writer.write_table(table.cast(schema.arrow_schema))
        digest.update(sink.getvalue())
    return digest.hexdigest()


def _with_progress(stream: IterableDataset) -> Iterable[Any]:
    """Show how many rows were read; nobody knows how many there are."""
    from datasets.utils import tqdm

    return tqdm(stream, desc="Reading the stream", unit=" rows")  # type: ignore[no-any-return]
