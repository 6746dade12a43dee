"""Distances: how far rows are from the nearest of some centers, as their vectors tell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.codes import with_more
from ..features.kernels import Floats, Int64s
from .similarity_pairs import BLOCK_SIZE, Vectors, slices
from .unit_vectors import QUANTIZE_ROWS, quantized_length


class Distances:
    """Hold the squared distance of each row to its nearest center, which is computed where it is wanted.

    All numbers are whole, so that neither the order of centers nor the size of blocks changes a distance. A vector of
    zeros has no direction: as a center, it changes the distances of other vectors of zeros alone.

    Args:
        vectors: those of the rows, quantized: [n, d], of any type that holds whole numbers.
    """

    def __init__(self, vectors: NDArray[Any]) -> None:
        self.largest = 4 * quantized_length(vectors) ** 2
        """The distance of every row while there is no center."""
        self.vectors, self._squares = vectors, _squares(vectors)
        self._distances = np.full(len(vectors), self.largest)
        self._compared = np.zeros(len(vectors), np.int64)  # number of centers that each row was compared with
        self._centers, self._count = np.empty((0, vectors.shape[1]), np.float32), 0

    def add_rows(self, vectors: NDArray[Any], distances: Floats) -> None:
        """Add rows whose distances from the centers so far are known."""
        self.vectors = np.concatenate([self.vectors, vectors])
        self._squares = np.concatenate([self._squares, _squares(vectors)])
        self._distances = np.concatenate([self._distances, distances])
        self._compared = np.concatenate([self._compared, np.full(len(vectors), self._count)])

    def add_center(self, vector: NDArray[Any]) -> None:
        """Add a center."""
        if vector.any():
            self._centers = with_more(self._centers, vector[None].astype(np.float32), self._count)
            self._count += 1
        else:
            self._distances[self._squares == 0] = 0

    def to_nearest(self, rows: Int64s) -> Floats:
        """Return the squared distances of some rows."""
        new = self._centers[self._compared[rows].min(initial=self._count) : self._count]
        squares = _squares(new)
        for part in slices(len(rows), BLOCK_SIZE // max(1, *new.shape)):
            block = rows[part]
            products = self.vectors[block].astype(np.float32, copy=False) @ new.T
            to_new = self._squares[block][:, None] + squares - 2 * products.astype(np.float64)
            self._distances[block] = np.minimum(self._distances[block], to_new.min(axis=1, initial=np.inf))
        self._compared[rows] = self._count
        return self._distances[rows]


def _squares(vectors: NDArray[Any]) -> Floats:
    """Return the squared length of each vector, a block of them at a time."""
    squares = np.empty(len(vectors))
    for part in slices(len(vectors), QUANTIZE_ROWS):
        block: Vectors = vectors[part].astype(np.float32, copy=False)
        squares[part] = np.einsum("ij,ij->i", block, block)
    return squares
