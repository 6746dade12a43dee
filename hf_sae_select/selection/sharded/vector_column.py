"""VectorColumn: the vectors of some rows, which stay in their files until they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..._datasets import range_to_send
from ...features.columns import read_vectors
from ..progress import reading_bar
from ..similarity_pairs import Vectors
from .codes import BLOCK_ROWS

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset


@dataclass(frozen=True, eq=False)
class VectorColumn:
    """Read vectors of rows, a block at a time."""

    dataset: Dataset
    """The column alone."""
    name: str
    first: int = 0
    """The number that the first row has in the pool."""

    def __len__(self) -> int:
        return len(self.dataset)

    def part(self, low: int, high: int) -> VectorColumn:
        """Return the vectors of the rows from `low` to `high`."""
        return VectorColumn(range_to_send(self.dataset, low, high), self.name, low)

    def blocks(self) -> Iterator[Vectors]:
        """Yield the vectors of all rows."""
        n = len(self)
        with reading_bar(n, "vectors", self.first) as bar:
            for start in range(0, n, BLOCK_ROWS):
                rows = range(start, min(start + BLOCK_ROWS, n))
                yield read_vectors(self.dataset.select(rows), self.name)
                bar.update(len(rows))
