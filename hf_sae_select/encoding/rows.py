"""Rows of a dataset -> the cells that are read, and the texts. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets import Dataset

from .cells import LazyRow, RowBatch, Rows
from .chat_template import check_variables
from .text import Rendering, Template, Text, checked_string


class RowReader:
    """Read the rows of a dataset in the way that a rendering needs them.

    Args:
        dataset (`Dataset`):
            Rows to read, in whatever format: they are read as Python objects.
        rendering (`Rendering`):
            How rows become texts.
        template (`Template`, *optional*):
            Renders the turns of a chat, see `Rendering`.
    """

    def __init__(self, dataset: Dataset, rendering: Rendering, template: Template | None = None) -> None:
        self.dataset, self.rendering, self.template = dataset.with_format(None), rendering, template
        self._tables: dict[str, Dataset] = {}

    def texts(self, rows: Rows) -> list[Text]:
        """Return the texts of rows.

        Raises:
            ValueError: A cell cannot be read; the message names its row and column.
            TypeError: The function `text` returned no string.
        """
        batch, function = RowBatch(self.dataset, rows, self._tables), self.rendering.function
        if function is not None:
            return [_text(function, batch.row(i), rows[i]) for i in range(len(rows))]
        return self.rendering(self._cells(batch), self.template, list(rows))

    def check(self, rows: Rows) -> None:
        """Check that rows of chats can be read, without rendering them by the template.

        Raises:
            ValueError: A cell cannot be read; the message names its row and column.
        """
        self.rendering(self.cells(rows), check_variables if self.template else None, list(rows))

    def cells(self, rows: Rows) -> dict[str, list[Any]]:
        """Return the columns that are read, as lists of Python objects; of a struct, the fields that are read.

        Raises:
            ValueError: A cell cannot be read; the message names its row and column.
        """
        return self._cells(RowBatch(self.dataset, rows, self._tables))

    def _cells(self, batch: RowBatch) -> dict[str, list[Any]]:
        fields: dict[str, list[str]] = {}
        for name, *rest in self.rendering.paths:
            fields.setdefault(name, []).extend(rest[:1])
        whole = {name for name, *rest in self.rendering.paths if not rest} | set(self.rendering.extras)
        return {name: batch.column(name, None if name in whole else fields[name]) for name in self.rendering.columns}


def _text(function: Callable[[Any], Any], row: LazyRow, number: int) -> Text:
    """Call the function `text` with a row."""
    try:
        return Text(checked_string(function(row)))
    except Exception as error:
        error.add_note(f"`text` was called with row {number:,} of the dataset")
        raise
