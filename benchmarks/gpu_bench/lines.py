"""Lines of figures: printed and written at once, so that a run that is cut short leaves what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Line = dict[str, Any]
FILE = "gpu.jsonl"


class Lines:
    """The figures of one run, in a file of JSON lines in a folder; a file of an earlier run is replaced."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / FILE
        self.file.write_text("")
        self.all: list[Line] = []

    def add(self, part: str, table: str, **figures: Any) -> None:
        line = {"part": part, "table": table, **figures}
        self.all.append(line)
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def markdown(self) -> str:
        """Return a table for each `table` of each part, its columns in the order in which they first came."""
        tables: dict[tuple[str, str], list[Line]] = {}
        for line in self.all:
            tables.setdefault((line["part"], line["table"]), []).append(line)
        return "\n\n".join(markdown(f"{part}: {table}", lines) for (part, table), lines in tables.items())


def markdown(title: str, lines: list[Line]) -> str:
    columns = list(dict.fromkeys(name for line in lines for name in line if name not in ("part", "table")))
    rows = [[cell(line.get(name, "")) for name in columns] for line in lines]
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([f"{title}\n", *head, *("| " + " | ".join(row) + " |" for row in rows)])


def cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
