"""The cells of some rows of a dataset, each column converted and decoded when it is read.

A broken image, or a date that Python has no object for, stops nobody who does not read it. An error of a cell that is
read names its row and column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features
from datasets.features.features import require_decoding
from datasets.formatting import get_formatter
from numpy.typing import NDArray

Rows = Sequence[int] | NDArray[np.int64]
PEEK_ROWS = 200  # rows that are looked at where names and types of columns do not tell
UNREAD = object()  # the value of a column that nobody has looked up


class LazyRow(dict[str, Any]):
    """Hold a row as a dict whose values are read when they are looked up.

    It is a dict in every other way: `dict(row)`, `{**row}` and `json.dumps(row)` read all values.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], Any]) -> None:
        super().__init__(dict.fromkeys(names, UNREAD))
        self._read = read

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if value is UNREAD:
            value = self[name] = self._read(name)
        return value

    def __iter__(self) -> Iterator[str]:
        # Without a method of its own, `dict(row)` and `{**row}` would copy the values without looking them up.
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def _reading(method: str) -> Callable[..., Any]:
    """Return a method of dict that first reads the value that it is about, or all of them."""

    def call(self: LazyRow, *arguments: Any) -> Any:
        for name in arguments[:1] if method in ("pop", "setdefault") else list(self):
            self.get(name)
        return getattr(dict, method)(self, *arguments)

    return call


for _method in (
    "pop",
    "setdefault",
    "items",
    "values",
    "popitem",
    "copy",
    "__eq__",
    "__ne__",
    "__or__",
    "__ror__",
    "__repr__",
):
    setattr(LazyRow, _method, _reading(_method))


class RowBatch:
    """Some rows of a dataset; a column comes from disk when one of its cells is first read."""

    def __init__(self, dataset: Dataset, rows: Rows, tables: dict[str, Dataset] | None = None) -> None:
        self.dataset, self.rows = dataset, rows
        self._columns: dict[str, _Cells] = {}
        self._tables = {} if tables is None else tables  # of one column each: batches of a dataset share them

    def row(self, position: int) -> LazyRow:
        """Return a row that reads what is looked up in it."""
        return LazyRow(self.dataset.column_names, lambda name: self._cells(name)[position])

    def column(self, name: str, fields: Sequence[str] | None = None) -> list[Any]:
        """Return the cells of a column, media as they are stored; of a struct, `fields` unless they are None."""
        cells = self._cells(name, fields, decode=False)
        return [cells[position] for position in range(len(self.rows))]

    def _cells(self, name: str, fields: Sequence[str] | None = None, decode: bool = True) -> _Cells:
        if name not in self._columns:
            # A range as a slice, of which datasets copies nothing.
            is_slice = isinstance(self.rows, range) and self.rows.step == 1
            key: Any = slice(self.rows[0], self.rows[-1] + 1) if is_slice else list(map(int, self.rows))
            if name not in self._tables:
                self._tables[name] = self.dataset.select_columns([name]).with_format("arrow")
            table = self._tables[name][key]
            feature = self.dataset.features[name]
            if not decode:
                feature = _undecoded(feature)
            if fields is not None:
                struct = table.column(0).combine_chunks()
                values = [pc.struct_field(struct, field) for field in fields]
                table = pa.table({name: pa.StructArray.from_arrays(values, names=list(fields))})
                feature = {field: feature[field] for field in fields}
            self._columns[name] = _Cells(table, feature, self.rows)
        return self._columns[name]


def peek(dataset: Dataset, path: tuple[str, ...]) -> list[Any]:
    """Return the values of a column, or of a field of a struct, in the first rows."""
    head = range(min(PEEK_ROWS, len(dataset)))
    column = RowBatch(dataset.with_format(None), head).column(path[0], list(path[1:2]) or None)
    return [value_at(cell, path[1:]) for cell in column]


def value_at(cell: Any, fields: Sequence[str]) -> Any:
    """Return a field of a struct, of a field of a struct, ...; None where a struct is null."""
    for name in fields:
        cell = cell.get(name) if isinstance(cell, Mapping) else None
    return cell


def _undecoded(feature: Any) -> Any:
    """Return a type whose images, sounds and videos are read as they are stored: bytes and path."""
    if isinstance(feature, Mapping):
        return {name: _undecoded(value) for name, value in feature.items()}
    if isinstance(feature, list):
        return [_undecoded(value) for value in feature]
    if hasattr(feature, "feature"):
        return replace(feature, feature=_undecoded(feature.feature))
    is_media = getattr(feature, "decode", False) is True and type(feature).__name__ != "Json"
    return replace(feature, decode=False) if is_media else feature


class _Cells:
    """The cells of one column of some rows, as datasets returns them in a row."""

    def __init__(self, table: pa.Table, feature: Any, rows: Rows) -> None:
        self.table, self.feature, self.rows = table, feature, rows
        self.formatter = get_formatter(None, features=Features({table.column_names[0]: feature}))
        self.values: list[Any] | None = None
        # What has to be decoded is decoded cell by cell, and so is a column with a cell that has no Python object.
        if not require_decoding(feature):
            with suppress(Exception):
                self.values = self.formatter.format_column(table)

    def __getitem__(self, position: int) -> Any:
        if self.values is not None:
            return self.values[position]
        try:
            return self.formatter.format_column(self.table.slice(position, 1))[0]
        except Exception as error:  # decoders may raise anything
            name, kind = self.table.column_names[0], str(self.feature)[:80]
            raise ValueError(
                f"column `{name}` of row {self.rows[position]:,} cannot be read as {kind}: {error}; mend or drop that "
                "row, or read other columns (`text`)"
            ) from error
