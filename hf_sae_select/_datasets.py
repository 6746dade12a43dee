"""Checks of datasets, and the private interface of `datasets` that this library uses, in one place under test."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import pyarrow as pa
    from datasets import Dataset, Features


BATCH_ROWS = 1000  # rows that are copied at once


def check_dataset(name: str, value: Any, purpose: str) -> None:
    """Check that the argument `name` is a Dataset with rows; `purpose` is a verb such as "select".

    Raises:
        TypeError: it is something else; the message has the remedy for a DatasetDict and a stream.
        ValueError: it has no row.
    """
    import datasets

    own = f", or call its method `sae_{purpose}`" if purpose in ("select", "compare", "encode") else ""
    if isinstance(value, datasets.DatasetDict | datasets.IterableDatasetDict):
        split = next(iter(value), "train")
        raise TypeError(f"`{name}` is a {type(value).__name__}; pick a split: {name}[{split!r}]{own}")
    if isinstance(value, datasets.IterableDataset):
        raise TypeError(
            f"`{name}` is an IterableDataset, whose rows cannot be looked up; "
            f"load it without `streaming=True`, or gather its rows: Dataset.from_list(list({name}.take(n))){own}"
        )
    if not isinstance(value, datasets.Dataset):
        raise TypeError(f"`{name}` is a {type(value).__name__}; it must be a datasets.Dataset{_maker(name, value)}")
    if len(value) == 0:
        raise ValueError(f"`{name}`: the dataset is empty; there is no row to {purpose}")


def by_split(name: str, value: Any, splits: Collection[str]) -> Mapping[str, Any]:
    """Check that the argument `name`, which is about rows, is a dict by split, and return it; empty for None.

    Raises:
        TypeError: it is no dict.
        ValueError: it names a split that there is not.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(
            f"`{name}` is about rows of one split, so for several splits it must be a dict such as "
            f"{{{next(iter(splits))!r}: ...}}"
        )
    if unknown := [split for split in value if split not in splits]:
        raise ValueError(f"`{name}` names the split {unknown[0]!r}; there are: {', '.join(splits)}")
    return value


@contextmanager
def in_split(split: str) -> Iterator[None]:
    """Say in an error in which split it arose; nothing where the name is empty."""
    try:
        yield
    except Exception as error:
        if split:
            error.add_note(f"in the split {split!r}")
        raise


def _maker(name: str, value: Any) -> str:
    """Return how a Dataset is made of a table, a frame, a mapping or a list of rows, as the end of a sentence."""
    library, kind = type(value).__module__.partition(".")[0], type(value).__name__
    if library in ("pandas", "polars"):
        lazy = ".collect()" if kind == "LazyFrame" else ""
        return f": Dataset.from_{library}({name}{lazy})"
    if library == "pyarrow":
        return f": Dataset({name})"
    if isinstance(value, Mapping):
        return f": Dataset.from_dict({name})"
    if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
        return f": Dataset.from_list({name})"
    return f": Dataset.from_dict({{'text': {name}}})" if isinstance(value, list | tuple) else ""


def fingerprint_of(dataset: Dataset) -> str:
    """Return the fingerprint of a dataset: a name for its content."""
    return str(dataset._fingerprint)


def set_fingerprint(dataset: Dataset, fingerprint: str) -> None:
    """Give a new dataset a fingerprint that depends on everything that decides its content."""
    dataset._fingerprint = fingerprint


def has_row_mapping(dataset: Dataset) -> bool:
    """Tell whether the rows are looked up through a mapping, as after `select`, `filter` and `shuffle`."""
    return dataset._indices is not None


def row_mapping(dataset: Dataset) -> NDArray[np.int64] | None:
    """Return the rows of the dataset's table that its rows are; None where they are all rows in order."""
    if not has_row_mapping(dataset):
        return None
    return np.asarray(dataset._indices.column(0).to_numpy(), np.int64)


def retyped(dataset: Dataset, types: Mapping[str, Any]) -> Dataset:
    """Return a dataset with other types of some columns, of the same layout; no number is copied."""
    import datasets
    from datasets.arrow_dataset import transmit_format

    def cast(dataset: Dataset) -> Dataset:
        info = dataset.info.copy()
        info.features = datasets.Features({**dataset.features, **types})
        table = dataset.data.cast(info.features.arrow_schema)
        fingerprint = fingerprint_of(dataset)
        return datasets.Dataset(table, info, dataset.split, indices_table=dataset._indices, fingerprint=fingerprint)

    result: Dataset = transmit_format(cast)(dataset)
    return result


def add_columns(dataset: Dataset, columns: Dataset, replaced: Iterable[str] = ()) -> Dataset:
    """Return a dataset with further columns, without those that they replace.

    Split and format stay, as with `Dataset.add_column`: new columns belong to the formatted ones. The fingerprint is
    that of `columns`: datasets would make one from the times of files.
    """
    import datasets
    from datasets.arrow_dataset import transmit_format

    def joined(dataset: Dataset) -> Dataset:
        rows = _without_mapping(dataset.with_format(None).remove_columns(list(replaced)))
        return datasets.concatenate_datasets([rows, _without_mapping(columns)], axis=1, split=dataset.split)

    result: Dataset = transmit_format(joined)(dataset)
    set_fingerprint(result, fingerprint_of(columns))
    return result


def _without_mapping(dataset: Dataset) -> Dataset:
    """Return a dataset whose table has the rows in order, in a file where `Dataset.flatten_indices` has its own.

    Where the disk is full, `flatten_indices` leaves a temporary file behind for good.
    """
    from ._arrow import open_file, write_tables
    from ._files import remove_leftovers

    if not has_row_mapping(dataset):
        return dataset
    file = Path(dataset._get_cache_file_path(f"{fingerprint_of(dataset)}-rows"))
    if not file.is_file():
        remove_leftovers(file.parent)
        view = dataset.with_format("arrow")
        tables = (view[start : start + BATCH_ROWS] for start in range(0, len(view), BATCH_ROWS))
        write_tables(file, dataset.data.schema, tables, len(dataset))
    rows = open_file(file)
    rows.info.update(dataset.info)
    return rows


def picklable(dataset: Dataset) -> Dataset:
    """Return the same rows in a table without parts that have no columns, which lose their rows in a pickle."""
    from copy import copy

    from datasets.table import ConcatenationTable

    if not isinstance(dataset.data, ConcatenationTable):
        return dataset
    blocks = [[block for block in row if block.num_columns] for row in dataset.data.blocks]
    result = copy(dataset)
    result._data = ConcatenationTable.from_blocks(blocks)
    return result


def in_memory(table: pa.Table, types: Features) -> Dataset:
    """Return a Dataset of a table that pickles with its rows alone, and has always the same fingerprint.

    The rows are copied: slices of a table share the buffers of all rows, and a pickle holds these for each slice.
    """
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo
    from datasets.table import InMemoryTable

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    copy = pa.ipc.open_stream(sink.getvalue()).read_all()
    return Dataset(InMemoryTable(copy), info=DatasetInfo(features=types), fingerprint="rows")


def range_to_send(dataset: Dataset, low: int, high: int) -> Dataset:
    """Return the rows from `low` to `high`, to be pickled: those in files by their files, those in memory alone."""
    from datasets.table import InMemoryTable

    blocks = getattr(dataset.data, "blocks", [[dataset.data]])
    if any(isinstance(block, InMemoryTable) for row in blocks for block in row):
        return in_memory(dataset.with_format("arrow")[low:high], dataset.features)
    return dataset.select(range(low, high))


def select_rows(dataset: Dataset, rows: Iterable[int]) -> Dataset:
    """Select rows as `Dataset.select` does, from the same table object.

    `Dataset.select` makes a new table object, of a new schema or a slice. A subset that is pickled together with the
    dataset that it was selected from would then write the table twice.
    """
    subset = dataset._select_with_indices_mapping([int(row) for row in rows])
    if has_row_mapping(subset):  # not without rows
        subset._data = dataset._data
    return subset
