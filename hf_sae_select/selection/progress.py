"""Progress bars of selection: those that `datasets.disable_progress_bars` switches off."""

from __future__ import annotations

from typing import Any


def progress_bar(rows: int, what: str, disable: bool = False, leave: bool = True) -> Any:
    """Return a bar of so many rows; with `leave`, it stays on the screen at its end."""
    from datasets.utils import tqdm  # no import for a bar that is not shown

    return tqdm(total=rows, desc=what, unit=" rows", disable=disable, leave=leave)
