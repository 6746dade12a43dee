"""A screen: which rows may pass the rest of a round of `coverage.scan`, found from what is not covered.

After a few picks of a round nearly all features of most rows are covered. Then it takes less time to go through the
rows of each feature that is not covered than through the features of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, compiled_beyond, in_threads
from .coverage_state import Csr

# Features that more rows have are nearly always covered early, and their many rows are dear to go through: they count
# for every row as if it had them.
COMMON = 0.25


class Holders(NamedTuple):
    """The rows from `low` to `high` that have each rare feature; a row is its number from `low` on."""

    low: int
    high: int
    starts: Int64s  # [d_sae + 1]
    rows: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Screen:
    """Bound the gains of all rows from above."""

    holders: Sequence[Holders]
    is_rare: NDArray[np.bool_]
    """[d_sae]"""

    @classmethod
    def of(cls, csr: Csr, frequency: Int64s, parts: Sequence[tuple[int, int]]) -> Screen:
        """Index the rows of each feature, `frequency` [d_sae] in number; each thread will read one range of rows."""
        is_rare = frequency <= COMMON * len(csr.starts)
        holders = []
        for low, high in parts:
            starts = np.zeros(len(is_rare) + 1, np.int64)
            _count(low, high, csr, is_rare, starts[1:])
            starts = starts.cumsum()
            rows = np.empty(starts[-1], np.uint16 if high - low <= 2**16 else np.uint32)
            _list(low, high, csr, is_rare, starts[:-1].copy(), rows)
            holders.append(Holders(low, high, starts, rows))
        return cls(holders, is_rare)

    def passing(self, value: NDArray[Any], order: Int64s, totals: Floats, max_overlap: float) -> Int64s:
        """Return the rows of `order` of whose total at most a share `max_overlap` may be covered.

        `value` [d_sae] is what a feature adds to a gain: 0 where it is covered.
        """
        bounds = np.zeros(len(totals), np.int64)
        in_threads(_add, self.holders, value, bounds)
        bounds += value[~self.is_rare].sum(dtype=np.int64)
        gain, total = bounds[order], totals[order]
        with np.errstate(divide="ignore", invalid="ignore"):  # of rows without features
            passes: NDArray[np.bool_] = (total - gain) / total <= max_overlap  # rounded as in `scan_union`
        return order[passes & (gain > 0) & (total > 0)]


@compiled_beyond(lambda low, high, csr, *_: len(csr.ids))
def _count(low: int, high: int, csr: Csr, is_rare: NDArray[np.bool_], counts: Int64s) -> None:
    starts, ends, ids = csr.starts, csr.ends, csr.ids
    for i in range(low, high):
        for feature in ids[starts[i] : ends[i]]:
            counts[feature] += is_rare[feature]


@compiled_beyond(lambda low, high, csr, *_: len(csr.ids))
def _list(low: int, high: int, csr: Csr, is_rare: NDArray[np.bool_], places: Int64s, rows: NDArray[Any]) -> None:
    """Write each row to the next place of each of its rare features."""
    starts, ends, ids = csr.starts, csr.ends, csr.ids
    for i in range(low, high):
        for feature in ids[starts[i] : ends[i]]:
            if is_rare[feature]:
                rows[places[feature]] = i - low
                places[feature] += 1


@compiled_beyond(lambda low, high, starts, rows, *_: len(rows))
def _add(low: int, high: int, starts: Int64s, rows: NDArray[Any], value: NDArray[Any], bounds: Int64s) -> None:
    """Add the value of each feature to the bounds of the rows that have it."""
    within = bounds[low:high]
    for feature in range(len(value)):
        if value[feature] > 0:
            amount = np.int64(value[feature])
            for row in rows[starts[feature] : starts[feature + 1]]:
                within[row] += amount
