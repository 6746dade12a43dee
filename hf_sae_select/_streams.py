"""Streams of rows: an IterableDataset becomes Arrow files on disk, or batches in memory, one schema all along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ._arrow import open_file, with_schema, write_tables
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

    Rows are read without the format of the stream: a row in a format is no dict of plain values.

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
    stream = stream.with_format(None)
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
    for name, type_ in schema.items():
        if other := _mismatch(_without_tensors([row[name] for row in rows]), type_):
            raise ValueError(f"{where} (column `{name}` holds {other}); {remedy}")
    try:
        return Dataset.from_list(rows, features=schema).data.table.combine_chunks()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(f"{where} ({error}); {remedy}") from error


def _mismatch(values: Iterable[Any], type_: Any) -> str | None:
    """Return what one of many values is where its type needs something else; None where all have the type.

    `datasets` would convert them without a word: 2.7 to 2, 3 to "3", and a dict to one that lacks keys.
    """
    from datasets import Value

    if isinstance(type_, Mapping):
        return _mismatch_of_dicts(values, type_)
    if hasattr(type_, "feature"):
        return _mismatch_of_lists(values, type_.feature)
    if not isinstance(type_, Value):  # such as images, labels and JSON, which have several forms
        return None
    arrow_type = type_()
    for kind in set(map(type, values)) - {type(None)}:  # a fast call for all numbers of a vector
        if not _is_of(kind, arrow_type):
            return f"{_named(kind)} where {type_.dtype} is expected"
    return None


def _mismatch_of_dicts(values: Iterable[Any], types: Mapping[str, Any]) -> str | None:
    """Return what is wrong with dicts: a missing key is None, but any other key would be lost."""
    dicts = [value for value in values if value is not None]
    for value in dicts:
        if not isinstance(value, Mapping):
            return f"{_named(type(value))} where a dict is expected"
        if more := value.keys() - types.keys():
            return f"a dict with the key {min(map(str, more))!r}, which the schema lacks"
    for name, type_ in types.items():
        if other := _mismatch(_without_tensors([value.get(name) for value in dicts]), type_):
            return other
    return None


def _mismatch_of_lists(values: Iterable[Any], type_: Any) -> str | None:
    """Return what is wrong with lists or arrays."""
    lists: list[Any] = []
    for value in values:
        if isinstance(value, np.ndarray):
            value = value if value.dtype == object else value[:1]  # one item tells the type of all
        elif value is None:
            continue
        elif not isinstance(value, list | tuple):
            return f"{_named(type(value))} where a list is expected"
        lists.append(value)
    return _mismatch(_without_tensors(list(chain.from_iterable(lists))), type_)


def _without_tensors(values: list[Any]) -> list[Any]:
    """Return tensors and the like as `datasets` does: as arrays, or as numbers where they have no dimension."""
    kinds = {
        kind for kind in set(map(type, values)) if hasattr(kind, "__array__") and not issubclass(kind, np.generic)
    }
    if not kinds:
        return values
    from datasets.features.features import cast_to_python_objects

    return [cast_to_python_objects(value) if type(value) in kinds else value for value in values]


def _is_of(kind: type, type_: pa.DataType) -> bool:
    """Tell whether values of a class are of an Arrow type as they are; only of plain types, else `datasets` tells."""
    is_bool = issubclass(kind, bool | np.bool_)
    is_int = issubclass(kind, int | np.integer) and not is_bool and not issubclass(kind, np.timedelta64)
    if pa.types.is_null(type_):
        return False
    if pa.types.is_boolean(type_):
        return is_bool
    if pa.types.is_integer(type_):
        return is_int
    if pa.types.is_floating(type_):
        return is_int or issubclass(kind, float | np.floating)
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return issubclass(kind, str)
    return True


def _named(kind: type) -> str:
    """Return the name of a class with its article."""
    return f"{'an' if kind.__name__[0] in 'aeiou' else 'a'} {kind.__name__}"


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
            writer.write_table(with_schema(table, schema.arrow_schema))
        digest.update(sink.getvalue())
    return digest.hexdigest()


def _with_progress(stream: IterableDataset) -> Iterable[Any]:
    """Show how many rows were read; nobody knows how many there are."""
    from datasets.utils import tqdm

    return tqdm(stream, desc="Reading the stream", unit=" rows")  # type: ignore[no-any-return]
