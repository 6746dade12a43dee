"""A target as the numbers that one selection read of it: enough to repeat the selection without its rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..features.kernels import Floats, Int64s
from ..features.shares import Shares
from .herding import Herding, Vectors
from .request import request_of
from .result import Selection
from .run import read_features
from .targets import Part, Target
from .trace import Trace

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

    from .sharded.features import Features


@dataclass(frozen=True, eq=False)
class RecordedPart:
    """Hold the numbers of one target, after the cuts of a selection and above the mean of its pool; see `Part`."""

    name: str
    share: float
    sha256: str
    rows: int
    size: int
    total: Floats
    """The sum of the shares of each feature above the pool's mean: [d_sae]."""
    activation: Floats
    holders: Int64s
    sums: Int64s | None
    """The sum of the kernel of each row of the pool with the rows: [n], in units; None where no kernel was read."""

    def cut(self, cuts: Any, pool: Features, excluded: Collection[int]) -> RecordedPart:
        """Return the part as it is: its numbers are those after the cuts."""
        return self

    def mass(self, mean: Floats) -> Floats:
        """Return the sum of the shares of each feature, which was recorded for this mean: [d_sae]."""
        return self.total

    def closeness(self, herding: Herding, rows: Int64s, vectors: Vectors) -> Int64s:
        """Return the sums of the kernel of some rows of the pool, which were recorded for it: [rows], in units.

        Raises:
            ValueError: It was not recorded.
        """
        if self.sums is None:
            raise ValueError("nobody recorded how near rows are to the target; pass it as `target`")
        return self.sums[rows]


def numbers_of(target: Target, selection: Selection, pool: Dataset) -> Target:
    """Return the numbers that a selection from an encoded dataset reads of its target, which is not cut yet."""
    features = read_features(request_of(selection, len(pool), pool), pool)
    return recorded_target(Trace.of(features, selection, pool, target))


def recorded_target(trace: Trace) -> Target:
    """Return the numbers that a selection reads of its target, which must be at hand."""
    assert trace.engine.target is not None
    mean = Shares.of(trace.features, trace.constraints.pool).mean
    by_kernel = trace.kind == "nearness"
    parts = [
        _recorded(part, mean, trace.closeness[i] if by_kernel else None)
        for i, part in enumerate(trace.engine.target.parts)
    ]
    return Target(tuple(parts))


def _recorded(part: Part, mean: Floats, sums: Int64s | None) -> RecordedPart:
    return RecordedPart(
        part.name,
        part.share,
        part.sha256,
        part.rows,
        part.size,
        part.mass(mean),
        part.activation,
        part.holders,
        sums,
    )
