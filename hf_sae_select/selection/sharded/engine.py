"""ShardedEngine: the algorithms that methods share, on a pool whose rows are in shards."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ...features.kernels import Floats, Int64s
from ...features.matrix import FeatureMatrix
from ...features.shares import mean_of
from ...features.sums import mean_of_sum
from .. import coverage
from ..compared import Ranking
from ..constraints import Constraints
from ..engine import Engine
from ..estimates import Line
from ..herding import Herding
from ..result import Selection
from ..targets import Target
from .driver import Driver
from .features import ShardedFeatures
from .herding import ShardedEstimates, ShardedHerding
from .similarity import ShardedFilter, ShardedVectors, kcenter


class ShardedEngine(Engine):
    """Run the algorithms on one pool with one budget, see `Engine`; rows are picked as in one process."""

    features: ShardedFeatures  # type: ignore[assignment]

    def __init__(
        self,
        features: ShardedFeatures,
        budget: int,
        rng: np.random.Generator | None,
        constraints: Constraints | None,
        target: Target | None = None,
    ) -> None:
        super().__init__(features, budget, rng, constraints, target)  # type: ignore[arg-type]
        # From here on the shards know which rows no sum counts.
        self.holders = features.pool_frequency(self.constraints.excluded)

    def mass(self, amounts: coverage.Amounts) -> Floats:
        return self.features.summed("add_mass", amounts)

    def mean_shares(self) -> Floats:
        return mean_of(self.features.summed("add_shares"))

    def mean_act(self) -> float:
        sums, counts = zip(*self.features.call("sum_acts"), strict=True)
        return mean_of_sum(sum(sums, Counter()), sum(counts))

    def _cover(
        self, measure: coverage.Measure, constraints: Constraints, rounds: Int64s, restart: bool, last: Int64s
    ) -> coverage.Picks:
        with self._picking() as progress:
            driver = Driver(self.features, measure, self.holders, constraints, self.order, self.order, self.budget)
            return driver(constraints.initial, rounds, restart, last, progress)

    def _scan(
        self, measure: coverage.Measure, order: Int64s, max_overlap: float, nearest: bool, restart: bool, last: Int64s
    ) -> coverage.Picks:
        scan = max_overlap, nearest
        with self._picking() as progress:
            driver = Driver(
                self.features, measure, self.holders, self.constraints, order, self.order, self.budget, scan
            )
            return driver(*self._initial, restart, last, progress)

    def kernel(self, width: float) -> ShardedHerding:
        whole = super().kernel(width)
        herding = ShardedHerding(self.features, whole.mean, width, whole.weights)
        herding.begin()
        return herding

    def closeness(self, herding: Herding) -> Int64s:
        assert isinstance(herding, ShardedHerding)
        return np.concatenate(herding.call("closeness", self.aim.closeness), axis=1)

    def estimates(self, herding: Herding, redundancy: float, state: coverage.ConstraintState) -> Ranking:
        assert isinstance(herding, ShardedHerding)
        return ShardedEstimates(herding, Line.of(herding.width, redundancy), state)

    def herding(self, width: float, redundancy: float, candidates: int | None) -> Selection:
        selection = super().herding(width, redundancy, candidates)
        self.features.call("end_herding")
        return selection

    def unit_vectors(self, center: bool) -> ShardedVectors:
        return ShardedVectors.begin(self.features, center)

    def kcenter(self, center: bool) -> Selection:
        selection = self._by_vectors(kcenter, center, self.constraints)
        self.features.call("end_similarity")
        return selection

    def filter_of(
        self, center: bool, state: coverage.ConstraintState, order: Int64s, max_similarity: float
    ) -> ShardedFilter:
        return ShardedFilter(self.unit_vectors(center), state, order, max_similarity)

    def filter(self, order: Int64s, max_similarity: float, center: bool, exhausted: str) -> Selection:
        selection = super().filter(order, max_similarity, center, exhausted)
        self.features.call("end_similarity")
        return selection

    def facility_location(self, center: bool) -> Selection:
        raise ValueError(
            "`method='facility_location'` cannot select from shards: what a row gains is a sum over all rows, so "
            "each shard would need the vectors of all; select from one FeatureMatrix, or by 'kcenter' or 'herding'"
        )


def engine_of(
    features: FeatureMatrix | ShardedFeatures,
    budget: int,
    rng: np.random.Generator | None,
    constraints: Constraints | None,
    target: Target | None = None,
) -> Engine:
    """Return what runs the algorithms on features, whole or in shards."""
    if isinstance(features, ShardedFeatures):
        return ShardedEngine(features, budget, rng, constraints, target)
    return Engine(features, budget, rng, constraints, target)
