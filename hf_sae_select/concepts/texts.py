"""Texts of rows of a pool, as they were encoded, and where in them features fire."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..encoding.rows import RowReader
from ..encoding.text import find_text
from ..selection.attachment import Pool
from ..selection.result import Selection
from .evidence import Reason

if TYPE_CHECKING:  # annotations only
    from ..sae.loading import SaeSource

Span = tuple[int, int]
STRONG = 0.5  # of a feature's largest activation in a row: from there on a token is marked


@dataclass(frozen=True)
class Fired:
    """Hold a text as the model read it, and where in it each feature of a pick fires."""

    text: str
    spans: dict[int, list[Span]]


@dataclass(frozen=True)
class Texts:
    """Read the texts of rows of a pool."""

    pool: Pool
    record: dict[str, Any]
    """How the rows were encoded."""
    reader: RowReader | None
    """Reads the rows; None where nothing says what their text is."""
    problems: list[str] = field(default_factory=list)
    """What could not be read, in sentences."""

    @classmethod
    def of(cls, pool: Pool, selection: Selection) -> Texts:
        """Find the columns that were read."""
        record = selection.parameters["encoding"]
        columns = record.get("text", {}).get("columns")
        if not columns:
            problem = "The texts were written by a function, or nothing says what they are, so they are not shown."
            return cls(pool, record, None, [problem])
        try:
            return cls(pool, record, RowReader(pool.rows, find_text(pool.rows, columns)))
        except (AttributeError, TypeError, ValueError) as error:  # the columns were changed after they were encoded
            return cls(pool, record, None, [f"The texts cannot be read as they were encoded: {error}"])

    def of_rows(self, rows: Sequence[int]) -> dict[int, str]:
        """Return the texts of rows; none where they cannot be read."""
        if self.reader is None or not rows:
            return {}
        try:
            return {row: text.text for row, text in zip(rows, self.reader.texts(rows), strict=True)}
        except (TypeError, ValueError) as error:
            self.problems.append(f"Some texts cannot be read as they were encoded: {error}")
            return {}

    def spans(self, reasons: Sequence[Reason], sae: SaeSource | None) -> dict[int, Fired]:
        """Read picks again by the model, and return for each, by its place, where its features fire."""
        if self.reader is None or not len(reasons):
            return {}
        from ..encoding.spans import row_spans  # needs torch

        rows = [reason.row for reason in reasons]
        try:
            read = list(row_spans(self.pool.rows, rows, sae, record=self.record))
        except (OSError, ValueError, LookupError) as error:  # such as a model that is not on this machine
            self.problems.append(f"The tokens on which features fire are not marked: {error}")
            warnings.warn(f"{self.problems[-1]}; the report is written without them", stacklevel=4)
            return {}
        return {
            reason.pick: Fired(of_row.text, {part.feature: _strong(of_row.of(part.feature)) for part in reason.parts})
            for reason, of_row in zip(reasons, read, strict=True)
        }


def _strong(spans: Sequence[tuple[int, int, float]]) -> list[Span]:
    """Return the spans whose activation is near the largest one."""
    largest = max((activation for *_, activation in spans), default=0.0)
    return [(start, end) for start, end, activation in spans if activation >= STRONG * largest]
