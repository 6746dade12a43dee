"""ShardedEngine: the algorithms that methods share, on a pool whose rows are in shards."""

from __future__ import annotations

from collections import Counter
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...features.kernels import Floats, Int64s
from ...features.matrix import FeatureMatrix
from ...features.shares import mean_of
from ...features.sums import mean_of_sum
from .. import coverage
from ..constraints import Constraints
from ..engine import Engine
from ..targets import Target
from .features import ShardedFeatures
from .race import Race


class ShardedEngine(Engine):
    """Run the algorithms on one pool with one budget, see `Engine`; rows are picked as in one process."""

    features: ShardedFeatures  # type: ignore[assignment]

    @cached_property
    def holders(self) -> Int64s:
        return self.features.pool_frequency(self.constraints.excluded)

    def mass(self, amounts: coverage.Amounts) -> Floats:
        self.holders  # noqa: B018 -- the shards know then which rows do not count
        return self.features.summed("add_mass", amounts)

    def mean_shares(self) -> Floats:
        self.holders  # noqa: B018
        return mean_of(self.features.summed("add_shares"))

    def mean_act(self) -> float:
        self.holders  # noqa: B018
        sums, counts = zip(*self.features.call("sum_acts"), strict=True)
        return mean_of_sum(sum(sums, Counter()), sum(counts))

    def _cover(
        self, measure: coverage.Measure, constraints: Constraints, rounds: Int64s, restart: bool, last: Int64s
    ) -> coverage.Picks:
        race = Race(self.features, measure, self.holders, constraints, self.order, self.order, self.budget)
        return race(constraints.initial, rounds, restart, last)

    def _scan(
        self, measure: coverage.Measure, order: Int64s, max_overlap: float, nearest: bool, restart: bool, last: Int64s
    ) -> coverage.Picks:
        scan = max_overlap, nearest
        race = Race(self.features, measure, self.holders, self.constraints, order, self.order, self.budget, scan)
        return race(*self._initial, restart, last)

    def vectors(self) -> NDArray[np.float32]:
        raise ValueError(
            "this method compares the vectors of all rows, which one process must hold: leave out `engine`, or choose "
            "a method that goes by features, such as 'herding' or 'match'"
        )


def engine_of(
    features: FeatureMatrix | ShardedFeatures,
    budget: int,
    rng: np.random.Generator | None,
    constraints: Constraints | None,
    target: Target | None = None,
) -> Engine:
    """Return what runs the algorithms on features, whole or in shards."""
    kind = ShardedEngine if isinstance(features, ShardedFeatures) else Engine
    return kind(features, budget, rng, constraints, target)  # type: ignore[arg-type]
