"""ShardVectors: the vectors of the rows of a shard, and what herding asks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...features.codes import append
from ...features.kernels import Int64s
from ...features.matrix import FeatureMatrix
from ..coverage import ConstraintState
from ..estimates import Estimates, Largest, Line
from ..herding import Herding, Vectors
from .codes import Codes
from .constraints import writable
from .messages import HerdingTask, Sum

Closeness = Callable[[Herding, Int64s, Vectors], Int64s]
"""Sums the kernel of rows, which have vectors, with those of each part of an aim: `Target.closeness`."""


class ShardVectors:
    """Compute vectors of rows; with estimates, hold those of all rows.

    Args:
        rows: the rows of the shard.
        blocks: yields their features, a block at a time.
        task: the kernel.
    """

    def __init__(
        self, rows: FeatureMatrix | Codes, blocks: Callable[[], Iterator[FeatureMatrix]], task: HerdingTask
    ) -> None:
        self._herding = Herding(rows, task.mean, task.width, task.weights)  # type: ignore[arg-type]
        self._blocks, self._first = blocks, task.first
        self._estimates: Estimates | None = None

    def vectors(self, rows: Int64s) -> Vectors:
        """Return the vectors of some rows."""
        return self._herding.vectors(rows) if self._estimates is None else self._estimates.vectors(rows)

    def closeness(self, to_aim: Closeness) -> Int64s:
        """Return the sums of the kernel of each row with the rows of each part of the aim: [parts, n], in units."""
        sums, start = list[Int64s](), self._first
        for block in self._blocks():
            rows = np.arange(start, start + len(block))
            sums.append(to_aim(self._herding, rows, self._herding.vectors_of(block)))
            start += len(block)
        return np.concatenate(sums, axis=1)

    # ---- estimates

    def begin_estimates(self, line: Line, state: ConstraintState) -> None:
        """Hold the vectors of all rows, to estimate their scores."""
        self._state = writable(state)
        self._estimates = Estimates(line, self._all_vectors(), self._state)

    def _all_vectors(self) -> Vectors:
        counts, ids, entries = [np.zeros(1, np.int64)], np.empty(0, np.uint16), np.empty(0, np.int16)
        for block in self._blocks():
            vectors = self._herding.vectors_of(block)
            counts.append(np.diff(vectors.offsets))
            ids = ids if len(ids) else ids.astype(vectors.ids.dtype)
            append(ids, vectors.ids)
            append(entries, vectors.entries)
        return Vectors(np.concatenate(counts).cumsum(), ids, entries, len(self._herding.mean))

    def aim_at(self, total: Int64s, size: int) -> None:
        """Estimate nearness to `size` rows, the sum of whose vectors is `total` [d_sae]."""
        assert self._estimates is not None
        self._estimates.aim_at(total, size)

    def largest(self, picks: Sum, size: int, most: int) -> Largest:
        """Count the picks of all shards since the last call, and return the rows of the largest estimates."""
        assert self._estimates is not None
        picks.picked.take_from(self._state, self._first)
        self._estimates.count(picks.ids, picks.sums, len(picks.picked.numbers))
        largest = self._estimates.largest(size, most)
        return largest._replace(rows=largest.rows + self._first)
