"""Texts of rows of a pool, as they were encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..encoding.rows import RowReader
from ..encoding.text import find_text
from ..features.columns import encoding_record
from ..selection.attachment import Pool

if TYPE_CHECKING:  # annotations only
    from ..encoding.text import TextSource


@dataclass(frozen=True)
class Texts:
    """Read the texts of rows of a pool; chats without the template of the model."""

    reader: RowReader | None
    """Reads the rows; None where nothing says what their text is."""
    problems: list[str] = field(default_factory=list)
    """What could not be read, in sentences."""

    @classmethod
    def of(cls, pool: Pool, text: TextSource | None) -> Texts:
        """Find the columns that were read, or take the function `text` that wrote the texts."""
        record = {} if pool.codes is None else encoding_record(pool.codes)
        source = record.get("text", {}).get("columns") if text is None else text
        if not source:
            return cls(None, ["Nothing says what the text of a row is, so no texts are shown: pass `text`."])
        try:
            return cls(RowReader(pool.rows, find_text(pool.rows, source)))
        except (AttributeError, TypeError, ValueError) as error:  # the columns were changed after they were encoded
            return cls(None, [f"The texts cannot be read as they were encoded: {error}"])

    def of_rows(self, rows: Sequence[int]) -> dict[int, str]:
        """Return the texts of rows; none where they cannot be read."""
        if self.reader is None or not rows:
            return {}
        try:
            return {row: text.text for row, text in zip(rows, self.reader.texts(rows), strict=True)}
        except (TypeError, ValueError) as error:
            self.problems.append(f"Some texts cannot be read as they were encoded: {error}")
            return {}
