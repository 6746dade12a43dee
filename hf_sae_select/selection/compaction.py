"""Compaction: the rows of a coverage search without the ids of covered features, which add nothing any more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, compiled_beyond
from .coverage_state import Csr


@compiled_beyond(lambda low, high, source, *_: len(source.ids))
def compact_rows(
    low: int, high: int, source: Csr, value: NDArray[Any], fitting: NDArray[np.bool_], target: Csr, gains: Floats
) -> None:
    """Copy the uncovered ids of the fitting rows from `low` to `high`, and compute their gains.

    `target` may be `source` itself: no id is written beyond the one that is read.
    """
    starts, ends, ids, kept_ids = source.starts, source.ends, source.ids, target.ids
    if low == high:  # a shard without rows has no first one
        return
    kept = starts[low]
    for i in range(low, high):
        start, end, total = starts[i], ends[i], np.int64(0)
        target.starts[i] = kept
        if fitting[i]:
            for p in range(start, end):
                feature = ids[p]
                kept_ids[kept] = feature  # overwritten by the next id unless uncovered: no branch to mispredict
                kept += value[feature] > 0
                total += value[feature]
        target.ends[i], gains[i] = kept, total
