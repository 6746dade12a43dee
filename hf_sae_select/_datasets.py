"""Checks of datasets, and the private interface of `datasets` that this library uses, in one place under test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset


def check_dataset(name: str, value: Any, purpose: str) -> None:
    """Check that the argument `name` is a Dataset with rows; `purpose` is a verb such as "select".

    Raises:
        TypeError: it is something else; the message has the remedy for a DatasetDict and a stream.
        ValueError: it has no row.
    """
    import datasets

    if isinstance(value, datasets.DatasetDict | datasets.IterableDatasetDict):
        split = next(iter(value), "train")
        raise TypeError(f"`{name}` is a {type(value).__name__}; pick a split: {name}[{split!r}]")
    if isinstance(value, datasets.IterableDataset):
        raise TypeError(
            f"`{name}` is an IterableDataset, whose rows cannot be looked up; "
            f"load it without `streaming=True`, or gather its rows: Dataset.from_list(list({name}.take(n)))"
        )
    if not isinstance(value, datasets.Dataset):
        raise TypeError(f"`{name}` is a {type(value).__name__}; it must be a datasets.Dataset{_maker(name, value)}")
    if len(value) == 0:
        raise ValueError(f"`{name}`: the dataset is empty; there is no row to {purpose}")


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


def select_rows(dataset: Dataset, rows: Iterable[int]) -> Dataset:
    """Select rows as `Dataset.select` does, from the same table object.

    `Dataset.select` makes a new table object, of a new schema or a slice. A subset that is pickled together with the
    dataset that it was selected from would then write the table twice.
    """
    subset = dataset._select_with_indices_mapping([int(row) for row in rows])
    if has_row_mapping(subset):  # not without rows
        subset._data = dataset._data
    return subset
