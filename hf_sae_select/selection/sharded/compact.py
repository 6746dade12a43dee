"""Compact: arrays of a message in few bytes. General compression takes longer, and gives more bytes."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

NARROW = (np.uint8, np.uint16, np.uint32, np.float32)


def narrowed(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in the smallest type that has its numbers exactly."""
    with np.errstate(invalid="ignore", over="ignore"):  # of numbers that a type cannot have
        for dtype in NARROW:
            small = array.astype(dtype)
            if (small.astype(array.dtype) == array).all():
                return small
    return array


class Gaps(NamedTuple):
    """The gaps between the ids of rows as a Rice code (Rice and Plaunt 1971): low bits as they are, the rest counted.

    What is before the first id of a row is a gap too. Any ids can be coded: gaps are taken modulo the range of the
    type, so those of ids that are not sorted are large.
    """

    n: int
    low_bits: int  # of a gap
    low: NDArray[np.uint8]  # the lowest bit of all gaps, then the next one
    high: NDArray[np.uint8]  # for each gap so many zeros, and a one
    dtype: str

    @classmethod
    def of(cls, ids: NDArray[Any], counts: NDArray[np.int64]) -> Self:
        """Code the ids of rows, of which each has `counts` ids."""
        if not len(ids):
            return cls(0, 0, np.empty(0, np.uint8), np.empty(0, np.uint8), ids.dtype.str)
        gaps = np.diff(ids, prepend=ids.dtype.type(0))
        starts = _starts(counts)
        gaps[starts] = ids[starts]
        low_bits = int(np.log2(max(gaps.mean() * np.log(2), 1)))  # the best, where gaps are random
        ends = np.cumsum((gaps >> low_bits).astype(np.int64) + 1)
        high = np.zeros(ends[-1], np.uint8)
        high[ends - 1] = 1
        planes = np.array([gaps >> bit & 1 for bit in range(low_bits)], np.uint8)
        return cls(len(ids), low_bits, np.packbits(planes), np.packbits(high), ids.dtype.str)

    def ids(self, counts: NDArray[np.int64]) -> NDArray[Any]:
        """Return the ids."""
        if not self.n:
            return np.empty(0, self.dtype)
        ends = np.flatnonzero(np.unpackbits(self.high).view(np.bool_))
        gaps = (np.diff(ends, prepend=-1) - 1).astype(self.dtype) << self.low_bits
        planes = np.unpackbits(self.low, count=self.n * self.low_bits).reshape(self.low_bits, self.n)
        for bit, plane in enumerate(planes):
            gaps |= plane.astype(self.dtype) << bit
        ids = gaps.cumsum(dtype=self.dtype)  # overflows as the gaps did
        starts = _starts(counts)
        before = np.concatenate([np.zeros(1, self.dtype), ids[starts[1:] - 1]])
        return np.asarray(ids - np.repeat(before, np.diff(starts, append=self.n)))


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each row that has ids begins."""
    some = counts[counts > 0]
    return np.cumsum(some) - some
