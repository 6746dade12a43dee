"""Comparison: the table that `compare` returns, which prints on a line a method and draws itself."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Any

import pandas as pd

from .._charts import BLUE, GREY, TEXT, altair, data, label, styled
from ..features.shares import likeness_text

# The columns, in their order, and how they are printed.
FORMATS = {
    "rows": ",.0f",
    "distance": ".4f",
    "likeness": ".4f",
    "random_rows": ",.0f",
    "tokens": ",.1f",
    "length": ",.2f",
    "redundancy": ".3f",
    "features": ",.0f",
    "share": ".3f",
    "saturated_at": ",.0f",
    "seconds": ",.2f",
}
NOTES = {
    "distance": "to the target",
    "likeness": "to all rows, up to 1",
    "random_rows": "so many are as like all rows",
    "length": "all rows have 1",
}  # what columns are, below a printed table
SPLIT = "split"  # the column that `joined` adds
LINE_WIDTH, SHORTEST_LABEL = 100, 10
WIDTH, SPACING = 160, 56  # of a panel of the figure, and between two
TARGET_PANELS = {"distance": "distance to the target"}  # where the rows were compared with one
PANELS = {
    "likeness": "likeness to all rows",
    "tokens": "tokens of a row, mean",
    "redundancy": "redundancy",
    "share": "share of all features",
}


class Comparison(pd.DataFrame):  # type: ignore[misc]
    """Hold how rows picked by several methods represent all rows, a line a method.

    It is a DataFrame with the numbers as they were measured. Printed, they are rounded, a line has at most 100
    characters (labels are shortened where it would have more), and a last line says what columns are.
    """

    @property
    def _constructor(self) -> type[Comparison]:
        return Comparison

    def __repr__(self) -> str:
        if not self._is_ours:
            return str(super().__repr__())
        cells = self._cells()
        width = max(map(len, cells.to_string().splitlines()))
        longest = max((len(label) for label in cells.index), default=0)
        room = max(longest - max(width - LINE_WIDTH, 0), SHORTEST_LABEL)
        cells.index = [label if len(label) <= room else f"{label[: room - 1]}…" for label in cells.index]
        return "\n".join([cells.to_string(), *self._notes()])

    def _repr_html_(self) -> str:
        if not self._is_ours:
            return str(pd.DataFrame(self)._repr_html_())
        return "".join([self._cells()._repr_html_(), *(f"<p>{note}</p>" for note in self._notes())])

    def plot(self) -> Any:
        """Draw likeness, length, redundancy and coverage of all lines side by side.

        Returns:
            `altair.HConcatChart`: The figure.

        Raises:
            ImportError: If the extra `report` is not installed.
            ValueError: If the table lacks a column that is drawn.

        Example:

        ```python
        dataset.sae_compare(3000, ["herding", "greedy"]).plot().save("comparison.svg")
        ```
        """
        alt = altair()
        missing = [name for name in PANELS if name not in self.columns]
        if missing:
            raise ValueError(f"this table has no column `{missing[0]}`, which is drawn; plot what `compare` returned")
        if SPLIT in self.columns and self[SPLIT].nunique() > 1:
            raise ValueError("this table has several splits; plot one: table[table['split'] == 'train'].plot()")
        drawn = [*(name for name in TARGET_PANELS if name in self.columns), *PANELS]
        panels = [self._panel(column, is_first=not i) for i, column in enumerate(drawn)]
        return styled(alt.hconcat(*panels, spacing=SPACING, title="How the rows of each method represent all rows"))

    def _panel(self, column: str, is_first: bool) -> Any:
        """Draw one column: a mark a line, and the number beside it."""
        alt = altair()
        labels = [label(str(name)) for name in self.index]
        numbers = zip(labels, self[column], strict=True)
        rows = [{"method": name, "value": _number(value)} for name, value in numbers]
        # Likeness is near 1 in most lines: on an axis from 0, all would look equal.
        least = floor(20 * min([0.95, *self[column].dropna()])) / 20 if column == "likeness" else 0
        scale = alt.Scale(domain=[least, 1]) if column in ("likeness", "share") else alt.Scale(domainMin=0)
        axis = alt.Axis(format="%" if column == "share" else "~r", tickCount=5)
        is_baseline = alt.FieldOneOfPredicate("method", ["longest", "random", "(all rows)"])
        y = alt.Y("method:N", sort=labels, title=None, axis=alt.Axis(labelLimit=200) if is_first else None)
        base = alt.Chart(data(rows), width=WIDTH).encode(y=y)
        mark = base.mark_point(filled=True, size=90, opacity=1) if column == "likeness" else base.mark_bar()
        marks = mark.encode(
            x=alt.X("value:Q", title=(PANELS | TARGET_PANELS)[column], axis=axis, scale=scale),
            color=alt.condition(is_baseline, alt.value(GREY), alt.value(BLUE)),
        )
        form = ".1%" if column == "share" else FORMATS[column]
        texts = base.mark_text(align="left", color=TEXT).encode(
            x=alt.value(WIDTH + 10), text=alt.Text("value:Q", format=form)
        )
        return alt.layer(marks, texts)

    @property
    def _is_ours(self) -> bool:
        """Tell whether this is a table of some of our columns, and not what a user made of it."""
        numbers = set(self.columns) - {SPLIT}
        is_known = bool(numbers) and self.columns.is_unique and numbers <= FORMATS.keys()
        return is_known and all(pd.api.types.is_numeric_dtype(self[name].dtype) for name in numbers)

    def _notes(self) -> list[str]:
        """Return the line below the table, if a column needs it."""
        notes = [f"{name}: {note}" for name, note in NOTES.items() if name in self.columns]
        return ["; ".join(notes)] if notes else []

    def _cells(self) -> pd.DataFrame:
        """Return the table as it is printed."""
        columns = {name: [_cell(name, value) for value in self[name]] for name in self.columns}
        labels = [label(str(name)) for name in self.index]
        return pd.DataFrame(columns, index=labels)


def joined(tables: Mapping[str, Comparison]) -> Comparison:
    """Join the tables of several splits; the first column names the split of a line."""
    parts = [pd.DataFrame(table) for table in tables.values()]
    splits = [split for split, table in tables.items() for _ in range(len(table))]
    table = pd.concat(parts)
    table.insert(0, SPLIT, splits)
    return Comparison(table)


def _cell(name: str, value: Any) -> str:
    if name == SPLIT:
        return label(str(value))
    if pd.isna(value):
        return "-"
    return likeness_text(value) if name == "likeness" else format(float(value), FORMATS[name])


def _number(value: Any) -> float | None:
    """Return a number for a chart; JSON has no nan."""
    return None if pd.isna(value) else float(value)
