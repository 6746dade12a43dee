"""Pool: the rows that a selection was made among, with their codes; what it can be proved by. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset


@dataclass(frozen=True, eq=False)
class Pool:
    """Hold the rows that a selection was made among; both views of files or memory that are there anyway."""

    rows: Dataset
    """The dataset without code columns."""
    codes: Dataset | None
    """The code columns alone; None where rows were compared by a column of vectors and never encoded."""
