"""Rows of a dataset -> their cells and their texts. Only the columns that are read are converted or decoded. No torch.

A broken image, or a date that Python has no object for, stops nobody who does not read it; who reads it is told which
row and which column it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from datasets import Dataset
from datasets.features.features import require_decoding
from datasets.formatting import get_formatter
from numpy.typing import NDArray

from .text import Rendering, Turns

Cells = dict[str, list[Any]]
Rows = Sequence[int] | NDArray[np.int64]
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


for _method in ("pop", "setdefault", "items", "values", "popitem", "copy", "__eq__", "__or__", "__ror__", "__repr__"):
    setattr(LazyRow, _method, _reading(_method))


class RowReader:
    """Read the rows of a dataset in the way that a rendering needs them.

    Args:
        dataset (`Dataset`):
            Rows to read, in whatever format: they are read as Python objects.
        rendering (`Rendering`):
            How rows become texts.
        template (`Callable`, *optional*):
            Renders the turns of a chat, see `Rendering`.
    """

    def __init__(self, dataset: Dataset, rendering: Rendering, template: Callable[[Turns], str] | None = None) -> None:
        self.dataset, self.rendering, self.template = dataset.with_format(None), rendering, template

    def texts(self, rows: Rows) -> list[str]:
        """Return the texts of rows."""
        function = self.rendering.function
        if function is None:
            return self.rendering(self.cells(rows), self.template)
        return [_text(function, row, number) for row, number in zip(self._lazy_rows(rows), rows, strict=True)]

    def cells(self, rows: Rows) -> Cells:
        """Return the columns that are read, as lists of Python objects.

        Raises:
            ValueError: A cell cannot be read; the message names its row and column.
        """
        try:
            cells: Cells = self._read_columns[_key(rows)]
        except Exception as error:  # decoders may raise anything
            raise self._error_of_cell(rows) or error from error
        return cells

    @cached_property
    def _read_columns(self) -> Dataset:
        return self.dataset.select_columns(list(self.rendering.columns))

    def _error_of_cell(self, rows: Rows) -> ValueError | None:
        """Return the error of the first cell that cannot be read."""
        for name in self.rendering.columns:
            batch = LazyBatch(self.dataset, rows)
            for position in range(len(rows)):
                try:
                    batch.cell(position, name)
                except ValueError as error:
                    return error
        return None

    def _lazy_rows(self, rows: Rows) -> Iterator[LazyRow]:
        batch = LazyBatch(self.dataset, rows)
        for position in range(len(rows)):
            yield LazyRow(self.dataset.column_names, partial(batch.cell, position))


class LazyBatch:
    """Read cells of some rows; a column comes from disk when one of its cells is first read."""

    def __init__(self, dataset: Dataset, rows: Rows) -> None:
        self.dataset, self.rows = dataset, rows
        self._columns: dict[str, Any] = {}

    def cell(self, position: int, name: str) -> Any:
        """Return a cell as datasets does in a row.

        Raises:
            ValueError: The cell cannot be read; the message names its row and column.
        """
        if name not in self._columns:
            self._columns[name] = self._column(name)
        column = self._columns[name]
        if isinstance(column, list):
            return column[position]
        try:
            return self._formatted(column.slice(position, 1))[0]
        except Exception as error:  # decoders may raise anything
            row, feature = self.rows[position], self.dataset.features[name]
            raise ValueError(
                f"column `{name}` of row {row:,} cannot be read as {type(feature).__name__}: {error}; mend or drop "
                "that row, or read other columns (`text`)"
            ) from error

    def _column(self, name: str) -> Any:
        """Return a column as Python objects at once; as an Arrow table, to read cell by cell, where that may fail."""
        table = self.dataset.select_columns([name]).with_format("arrow")[_key(self.rows)]
        if require_decoding(self.dataset.features[name]):
            return table
        try:
            return self._formatted(table)
        except Exception:  # one cell has no Python object: then each is converted when it is read
            return table

    def _formatted(self, table: Any) -> list[Any]:
        column: list[Any] = get_formatter(None, features=self.dataset.features).format_column(table)
        return column


def _key(rows: Rows) -> Any:
    """Return rows as datasets takes them; a range as a slice, of which nothing is copied."""
    return slice(rows.start, rows.stop) if isinstance(rows, range) and rows.step == 1 else list(map(int, rows))


def _text(function: Callable[[Any], Any], row: Mapping[str, Any], number: int) -> str:
    """Call the function `text` with a row; None is a blank text."""
    try:
        text = function(row)
    except Exception as error:
        error.add_note(f"`text` was called with row {number:,} of the dataset")
        raise
    if text is None or isinstance(text, str):
        return text or ""
    raise TypeError(
        f"the function `text` returned a value of type {type(text).__name__} for row {number:,}; it must return a "
        "string"
    )
