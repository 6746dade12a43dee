"""Progress bars of selection: those that `datasets.disable_progress_bars` switches off."""

from __future__ import annotations

import os
from typing import Any

LONG_ROWS = 2**18  # that take seconds to read


def progress_bar(rows: int, what: str, disable: bool = False, leave: bool = True) -> Any:
    """Return a bar of so many rows; of several processes, the first shows it.

    Args:
        leave: whether it stays on the screen at its end.
    """
    from datasets.utils import tqdm  # takes a second to import

    disable |= os.environ.get("LOCAL_RANK", "0") != "0"
    return tqdm(total=rows, desc=what, unit=" rows", disable=disable, leave=leave)


def reading_bar(rows: int, what: str, first: int) -> Any:
    """Return a bar of the rows of a shard that were read, where there are many; of several shards, the first shows it.

    Args:
        first: the number that the first row of the shard has in the pool.
    """
    return progress_bar(rows, f"Reading {what}", disable=first > 0 or rows < LONG_ROWS, leave=False)
