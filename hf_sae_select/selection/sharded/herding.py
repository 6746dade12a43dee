"""Herding over shards: vectors, estimates and sums of the kernel come from the shards, and one process picks.

`herd.py` and `compared.py` pick as in one process. They ask for the vectors of rows, the sums of the kernel with the
rows of the aim, and the rows whose estimates are largest. All sums are of whole numbers, and an estimate is computed
in one way wherever the row is. So the picks are to the bit those of one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...features.kernels import Int64s
from ..coverage import ConstraintState
from ..estimates import Largest, Line, first_of
from ..herding import Herding, Vector, Vectors
from .constraints import Picked, part_of, places_of
from .features import ShardedFeatures
from .messages import HerdingTask, Sum


@dataclass(frozen=True, eq=False)
class ShardedHerding(Herding):
    """Compute the kernel between the rows of shards, and any others."""

    features: ShardedFeatures  # type: ignore[assignment]

    def begin(self) -> None:
        """Tell the shards the kernel."""
        starts = self.features.starts[:-1].tolist()
        tasks = [(HerdingTask(start, self.mean, self.width, self.weights),) for start in starts]
        self.features.call_each("begin_herding", tasks)

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of the vectors of every shard."""
        return self.features.call("herding", method, *arguments)

    def vectors(self, rows: Int64s) -> Vectors:
        split = self.features.split(rows)
        parts = self.features.call_each("herding", [("vectors", *own) for own in split])
        place = np.empty(len(rows), np.int64)
        place[np.argsort(self.features.shard_of(rows), kind="stable")] = np.arange(len(rows))
        return Vectors.joined(parts).take(place)


class ShardedEstimates:
    """Estimate the scores of the rows of shards, see `Estimates`."""

    def __init__(self, herding: ShardedHerding, line: Line, state: ConstraintState) -> None:
        self._herding, self._state = herding, state
        self._place = places_of(state.order, len(state.order))
        self._rows, self._vectors = list[int](), list[Vector]()  # picks that the shards do not know
        features = herding.features
        parts = (part_of(state, start, end, self._place) for start, end in features.ranges())
        features.call_each("herding", [("begin_estimates", line, part) for part in parts])

    def vectors(self, rows: Int64s) -> Vectors:
        return self._herding.vectors(rows)

    def aim_at(self, total: Int64s, size: int) -> None:
        self._herding.call("aim_at", total, size)

    def add(self, row: int, vector: Vector) -> None:
        self._rows.append(row)
        self._vectors.append(vector)

    def first(self, size: int, most: int) -> Int64s:
        picked = Picked.of(self._state, np.array(self._rows, np.int64))
        answers: list[Largest] = self._herding.call("largest", Sum.of(picked, self._vectors), size, most)
        self._rows, self._vectors = [], []
        rows: Int64s = np.concatenate([answer.rows for answer in answers])
        if sum(answer.fitting for answer in answers) <= most:
            return rows
        estimates = np.concatenate([answer.estimates for answer in answers])
        return rows[first_of(estimates, self._place[rows], size)]
