"""Leaders: rows that are kept one after another, and which of them are near other rows, by the cosine of their shares.

Few pairs of rows are compared feature by feature. Features are dealt out to a few hundred buckets, and each row has a
short vector: the length of the part of its shares in each bucket. By Cauchy and Schwarz in each bucket, the product of
two short vectors is at least the cosine of the rows. So pairs whose product is below the least cosine are left out,
and no near pair is missed. The products are those of dense matrices, block by block. Their time grows with the square
of the number of rows, and their memory with the number of rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .duplicates import EQUAL
from .kernels import Int64s, compiled, compiled_beyond
from .shares import Shares

Float32s = NDArray[np.float32]

BLOCK_ROWS = 256  # rows whose products are in memory together
BUCKETS, MORE_BUCKETS, HIGH = 128, 256, 0.9  # more where the least cosine is below `HIGH`: the bound has to be closer
ROUNDING = 1e-4  # of products in float32; a pair just below the least cosine is compared and left out


class Leaders:
    """Hold the rows that are kept so far.

    Args:
        shares (`Shares`):
            The shares of all rows.
        least (`float`):
            The least cosine of rows that are near.

    Example, rows {1}, {2}, {1}: ``near([0, 1])`` is [], and after ``keep([0, 1])``, ``near([2])`` is [(2, 0, 1.0)].
    """

    def __init__(self, shares: Shares, least: float) -> None:
        features = shares.features
        self._least = float(least) - EQUAL
        self._entries = features.offsets, features.ids, unit_rows(features.offsets, shares.amounts)
        buckets = BUCKETS if least >= HIGH else MORE_BUCKETS
        place = np.empty(features.d_sae, np.int64)  # by falling total, so that every bucket gets as much
        place[np.argsort(-shares.total, kind="stable")] = np.arange(features.d_sae)
        self._parts = _lengths(*self._entries, place % buckets, buckets)
        self._dense = np.zeros(features.d_sae, np.float32)
        self._kept, self._size = np.empty(len(features), np.int64), 0
        self._kept_parts = np.empty_like(self._parts)
        self._room = np.empty(BLOCK_ROWS * len(features), np.float32)

    def keep(self, rows: list[int]) -> None:
        """Keep rows."""
        places = slice(self._size, self._size + len(rows))
        self._kept[places], self._kept_parts[places] = rows, self._parts[rows]
        self._size += len(rows)

    def near(self, rows: list[int]) -> list[tuple[int, int, float]]:
        """Return the pairs of a row and a kept row, or an earlier one of `rows`, that are near; and their cosines.

        `rows` are a block: their products are in memory together.
        """
        block, own = np.array(rows, np.int64), self._parts[rows]
        pairs = []
        for others, parts in ((self._kept[: self._size], self._kept_parts[: self._size]), (block, own)):
            bounds = np.dot(own, parts.T, out=self._room[: own.shape[0] * len(parts)].reshape(len(own), len(parts)))
            bound = self._least - ROUNDING
            pairs += _near_pairs(block, others, bounds, *self._entries, self._dense, bound, self._least)
        return [(int(row), int(other), 1.0 if cosine > 1 - EQUAL else float(cosine)) for row, other, cosine in pairs]


@compiled
def unit_rows(offsets: Int64s, amounts: Float32s) -> Float32s:
    """Divide each row by its length."""
    unit = np.zeros_like(amounts)
    for i in range(len(offsets) - 1):
        square = 0.0
        for p in range(offsets[i], offsets[i + 1]):
            square += np.float64(amounts[p]) * np.float64(amounts[p])
        if square > 0:
            unit[offsets[i] : offsets[i + 1]] = amounts[offsets[i] : offsets[i + 1]] / np.sqrt(square)
    return unit


@compiled
def _lengths(offsets: Int64s, ids: NDArray[np.uint32], unit: Float32s, bucket: Int64s, buckets: int) -> Float32s:
    """Return the length of the part of each row in each bucket: [n, buckets]."""
    lengths = np.zeros((len(offsets) - 1, buckets), np.float32)
    for i in range(len(offsets) - 1):
        for p in range(offsets[i], offsets[i + 1]):
            lengths[i, bucket[ids[p]]] += unit[p] * unit[p]
    return np.sqrt(lengths)


@compiled_beyond(lambda rows, others, bounds, offsets, ids, *_: bounds.size * len(ids) // len(offsets))
def _near_pairs(
    rows: Int64s,
    others: Int64s,
    bounds: Float32s,
    offsets: Int64s,
    ids: NDArray[np.uint32],
    unit: Float32s,
    dense: Float32s,
    least_bound: float,
    least: float,
) -> list[tuple[np.int64, np.int64, float]]:
    """Compare the pairs whose bound is not below `least_bound`; of a row and itself, and the rows after it, none."""
    near = [(np.int64(-1), np.int64(-1), 0.0)]  # numba needs an element to know the type of a list
    for i, row in enumerate(rows):
        start, end = offsets[row], offsets[row + 1]
        for p in range(start, end):
            dense[ids[p]] = unit[p]
        for k in range(len(others)):
            if others[k] == row:  # the rows themselves, and not those that are kept
                break
            if bounds[i, k] >= least_bound:
                cosine = 0.0
                for p in range(offsets[others[k]], offsets[others[k] + 1]):
                    cosine += np.float64(dense[ids[p]]) * np.float64(unit[p])
                if cosine >= least:
                    near.append((row, others[k], cosine))
        for p in range(start, end):
            dense[ids[p]] = 0
    return near[1:]
