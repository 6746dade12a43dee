"""Unit vectors: the vectors of rows, scaled to one length and rounded to whole numbers. Arrays in, arrays out.

Why whole numbers: `quantize` scales vectors to a length of about 4,096 and rounds them. Every sum within a dot product
is then a whole number of at most 2^24, which float32 holds exactly. So any BLAS, with any number of threads and any
size of block, computes the same similarities. Rounding changes a cosine by 1e-4 on average, and by 5e-4 at worst among
millions of random pairs. The bound is about sqrt(d) / 4,096; a vector whose coordinates are all equal comes near it,
since all of them round the same way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..features.kernels import Floats
from .similarity_pairs import Vectors, slices

MAX_LENGTH = 4096  # of a quantized vector: its square is 2^24
QUANTIZE_ROWS = 1024  # rows in float64 at a time
NO_VECTORS = "this method compares vectors; pass `embedding='column'`, or encode with `keep='state'`"


def quantized_length(vectors: Vectors) -> float:
    """Return the length to which `quantize` scales: 4,096 less what rounding may add."""
    return length_of(vectors.shape[1])


def length_of(width: int) -> float:
    """Return the length to which `quantize` scales vectors of so many numbers."""
    return float(MAX_LENGTH - np.sqrt(width) / 2)


def quantize(vectors: Vectors, center: bool) -> Vectors:
    """Scale each vector to `quantized_length`, and round it to whole numbers.

    With `center`, the mean of all vectors is subtracted first. A vector of zeros has no direction: it stays zeros, and
    it does not count in the mean.
    """
    width = vectors.shape[1]
    return quantized(vectors, VectorSum.start(width).plus(vectors).mean if center else np.zeros(width))


def quantized(vectors: Vectors, mean: Floats) -> Vectors:
    """Return what `quantize` does, for vectors from which `mean` is subtracted. That of a row depends on it alone."""
    result = np.empty(vectors.shape, np.float32)
    for part in slices(len(vectors), QUANTIZE_ROWS):
        exact = vectors[part].astype(np.float64)
        exact[exact.any(axis=1)] -= mean
        lengths = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
        scaled = np.divide(exact * quantized_length(vectors), lengths, out=np.zeros_like(exact), where=lengths > 0)
        result[part] = np.rint(scaled)
    return result


def largest_product(max_similarity: float, width: int) -> float:
    """Return the largest product of two quantized vectors, of so many numbers, that a maximum cosine allows."""
    # A `max_similarity` of 1 allows every row, but after rounding a row's similarity to itself may exceed 1.
    return max_similarity * length_of(width) ** 2 if max_similarity < 1 else np.inf


class VectorSum(NamedTuple):
    """The sum of vectors, in float64, row by row.

    A sum goes on where another one ended. So one that goes from shard to shard is that of one process, to the bit.
    """

    whole: Floats  # [d]: of the blocks of `QUANTIZE_ROWS` rows that are complete
    begun: Floats  # [d]: of the block that is not
    rows: int
    nonzero: int  # of the rows, those whose vectors are not zeros

    @classmethod
    def start(cls, width: int) -> VectorSum:
        """Return the sum of no vectors."""
        return cls(np.zeros(width), np.zeros(width), 0, 0)

    def plus(self, vectors: Vectors) -> VectorSum:
        """Add the vectors of the next rows."""
        (whole, begun, rows, nonzero), start = self, 0
        while start < len(vectors):
            part = vectors[start : start + QUANTIZE_ROWS - rows % QUANTIZE_ROWS]
            begun = np.add.accumulate(np.concatenate([begun[None], part]), axis=0)[-1]  # in the order of rows
            start, rows, nonzero = start + len(part), rows + len(part), nonzero + int(part.any(axis=1).sum())
            if rows % QUANTIZE_ROWS == 0:
                whole, begun = whole + begun, np.zeros_like(begun)
        return VectorSum(whole, begun, rows, nonzero)

    @property
    def mean(self) -> Floats:
        """The mean of the vectors that are not zeros: [d]."""
        return np.asarray((self.whole + self.begun) / max(1, self.nonzero))
