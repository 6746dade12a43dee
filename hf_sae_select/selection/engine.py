"""The engine: features, budget and constraints of one selection, and the algorithms that methods run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features import kernels
from ..features.kernels import Floats, Int64s
from ..features.matrix import FeatureMatrix
from ..features.shares import amounts_above, mean_shares
from ..features.sums import mean_of_sum, sum_of_acts
from . import coverage, similarity
from .compared import AllRows, Candidates, Ranking
from .constraints import Constraints
from .coverage import ConstraintState, commit, take_in_order
from .estimates import Estimates, Line
from .herd import Herd
from .herding import Herding, Vectors
from .progress import progress_bar
from .result import Selection
from .sharded.features import has_vectors, new_features, pool_frequency
from .targets import Target, sample_of
from .unit_vectors import NO_VECTORS, quantize

NO_ROWS = np.empty(0, np.int64)
ROWS_AT_ONCE = 2**15  # whose vectors are in memory together
PickRound = Callable[[int, list[int]], list[int]]
"""Picks rows of one round, at most so many, that are near neither one another nor some rows."""


class Engine:
    """Run the algorithms that methods share, on one pool with one budget.

    `order` holds the rows in the order in which equal ones are picked: dataset order, or one permutation from `rng`.
    `exhausted` says what happens when no row adds anything: "restart" begins a new round, "stop" returns fewer rows;
    "never" is for objectives that always grow. Rows that add nothing fill the budget, except with "stop". A `target`
    is cut as the features are.
    """

    def __init__(
        self,
        features: FeatureMatrix,
        budget: int,
        rng: np.random.Generator | None,
        constraints: Constraints | None,
        target: Target | None = None,
    ) -> None:
        n = len(features)
        self.features, self.budget, self.target = features, budget, target
        self.constraints = Constraints.none(n) if constraints is None else constraints
        self.order: Int64s = np.arange(n) if rng is None else rng.permutation(n)
        self._amounts: dict[coverage.Amounts, NDArray[np.float32]] = {}  # of the last measure

    @cached_property
    def holders(self) -> Int64s:
        """The number of rows of the pool, without the excluded ones, that have each feature: [d_sae]."""
        return pool_frequency(self.features, self.constraints.excluded)

    def weights(self, idf: bool) -> Floats:
        """Return 1 for each feature, or log(rows of the pool / rows that have it), times its boost: [d_sae]."""
        if not idf:
            return self.boost()
        holders = self.holders
        rarity: Floats = np.log(max(1, len(self.constraints.pool)) / np.maximum(holders, 1))
        return np.where(holders > 0, rarity, 0) * self.boost()

    def boost(self) -> Floats:
        """Return the factor of each feature's weight: [d_sae]."""
        factors = np.ones(self.features.d_sae)
        factors[list(self.constraints.boost)] = list(self.constraints.boost.values())
        return factors

    def amounts(self, of: coverage.Amounts | None) -> NDArray[np.float32]:
        """Return what each entry of the features counts in a mass objective: [nnz]; nothing for a count objective."""
        if of is None:
            return np.empty(0, np.float32)
        if of not in self._amounts:
            self._amounts = {of: of(self.features)}
        return self._amounts[of]

    def mass(self, amounts: coverage.Amounts) -> Floats:
        """Sum, over the rows of the pool, the share of a row's `amounts` that each feature has: [d_sae]."""
        features, pool = self.features, self.constraints.pool
        return kernels.mass(features.offsets, features.ids, self.amounts(amounts), pool, features.d_sae)

    def mean_shares(self) -> Floats:
        """Return the mean share of each feature in the rows of the pool: [d_sae]."""
        return mean_shares(self.features, self.constraints.pool)

    def mean_act(self) -> float:
        """Return the mean activation in the pool; 1 if the pool has no feature."""
        return mean_of_sum(*sum_of_acts(self.features, self.constraints.pool))

    def ordered(self, how: str) -> Int64s:
        """Sort all rows by scale, largest first; "richest": by scale times features; "shuffled"; "given"."""
        rows = np.arange(len(self.order)) if how == "given" else self.order
        return sorted_by(rows, -self.constraints.scale * (self.features.counts if how == "richest" else 1))

    def search(self, measure: coverage.Measure, constraints: Constraints) -> coverage.Search:
        """Begin a search among the rows, in the state without picks."""
        features = self.features
        csr = coverage.Csr(features.offsets[:-1], features.offsets[1:], features.ids, self.amounts(measure.amounts))
        state, holders = constraints.state(self.order), self.holders.copy()
        return coverage.new_search(csr, measure.objective(), holders, state, self.budget)

    def greedy(self, measure: coverage.Measure, exhausted: str, per_cost: bool = True) -> Selection:
        """Maximise an objective greedily, see `coverage.greedy_cover`; where rows have costs, also `per_cost`."""

        def run(constraints: Constraints) -> Selection:
            rounds = constraints.initial_rounds
            rounds = rounds[:1] if exhausted == "never" else rounds  # an objective that always grows has one round
            last = self._last(self.order, exhausted)
            return Selection(*self._cover(measure, constraints, rounds, exhausted == "restart", last))

        return self._best_by_cost(run) if per_cost else run(self.constraints)

    def _cover(
        self, measure: coverage.Measure, constraints: Constraints, rounds: Int64s, restart: bool, last: Int64s
    ) -> coverage.Picks:
        search = self.search(measure, constraints)
        with self._picking() as progress:
            return coverage.greedy_cover(search, constraints.initial, rounds, restart, last, progress)

    def scan(
        self, measure: coverage.Measure, order: Int64s, max_overlap: float, nearest: bool, exhausted: str
    ) -> Selection:
        """Pick, in `order`, rows that overlap little enough with earlier picks, see `coverage.scan`."""
        last, order = self._last(order, exhausted), self._of_quality(order)
        return Selection(*self._scan(measure, order, max_overlap, nearest, exhausted == "restart", last))

    def _scan(
        self,
        measure: coverage.Measure,
        order: Int64s,
        max_overlap: float,
        nearest: bool,
        restart: bool,
        last: Int64s,
    ) -> coverage.Picks:
        search, initial, rounds = self.search(measure, self.constraints), *self._initial
        with self._picking() as progress:
            return coverage.scan(search, initial, rounds, restart, last, order, max_overlap, nearest, progress)

    @contextmanager
    def _picking(self) -> Iterator[coverage.Progress]:
        """Show in a bar how many rows were picked."""
        with progress_bar(self.budget, "Selecting") as bar:
            yield lambda picks: bar.update(picks - bar.n)

    @property
    def _initial(self) -> tuple[Int64s, Int64s]:
        """The rows that are picked first, and where rounds begin among them."""
        return self.constraints.initial, self.constraints.initial_rounds

    @cached_property
    def aim(self) -> Target:
        """What `herding` selects rows near to: the target, or the pool itself."""
        if self.target is not None:
            return self.target
        allowed = np.ones(len(self.order), np.bool_)
        allowed[self.constraints.excluded] = False
        return sample_of(self.features, self.order[allowed[self.order]])

    def kernel(self, width: float) -> Herding:
        """Return the kernel between rows, see `herding`."""
        weights = self.boost()
        mean = self.mean_shares()
        if self.target is None:
            return Herding(self.features, mean, width, weights)
        total = self.mass(partial(amounts_above, mean))
        return Herding(self.features, mean, width, self.target.weights(mean, total) * weights)

    def closeness(self, herding: Herding) -> Int64s:
        """Return the sums of the kernel of each row with the rows of each part of the aim: [parts, n], in units."""
        nothing = np.empty((len(self.aim.parts), 0), np.int64)
        parts = (self.aim.closeness(herding, rows, herding.vectors(rows)) for rows in self._blocks())
        return np.concatenate([nothing, *parts], axis=1)

    def _blocks(self) -> Iterator[Int64s]:
        """Yield blocks of rows, with a progress bar where there are several."""
        n = len(self.features)
        with progress_bar(n, "Comparing", disable=n <= ROWS_AT_ONCE) as bar:
            for start in range(0, n, ROWS_AT_ONCE):
                rows = np.arange(start, min(start + ROWS_AT_ONCE, n))
                yield rows
                bar.update(len(rows))

    def herding(self, width: float, redundancy: float, candidates: int | None) -> Selection:
        """Pick rows near the target or the pool and far from each other, see `herding`; others fill the budget."""
        herding, state, initial = self.kernel(width), self.constraints.state(self.order), self.constraints.initial
        closeness = self.closeness(herding) if candidates is None else None
        compared = self.compared(herding, redundancy, candidates, state, closeness)
        with progress_bar(self.budget, "Selecting") as bar:
            herd = Herd(herding, self.aim, redundancy, state, compared, initial)
            indices, gains = herd.pick(self.budget, initial, bar.update)
        return self._filled(indices, gains, np.arange(len(indices))[:1], state, "never")

    def compared(
        self,
        herding: Herding,
        redundancy: float,
        candidates: int | None,
        state: ConstraintState,
        closeness: Int64s | None,
    ) -> AllRows | Candidates:
        """Return which rows herding compares: candidates, or all, whose `closeness` is known."""
        if closeness is not None:
            return AllRows(herding, self.aim.sizes(), redundancy, state, closeness)
        estimates = self.estimates(herding, redundancy, state)
        return Candidates(herding, self.aim, estimates, len(state.order), candidates or len(state.order))

    def estimates(self, herding: Herding, redundancy: float, state: ConstraintState) -> Ranking:
        """Return what ranks all rows by estimates of their scores."""
        vectors = Vectors.joined([herding.vectors(rows) for rows in self._blocks()])
        return Estimates(Line.of(herding.width, redundancy), vectors, state)

    def facility_location(self, center: bool) -> Selection:
        """Maximise the similarity of all rows to their nearest pick, see `similarity.facility_location`."""
        return self._best_by_cost(
            lambda constraints: self._by_vectors(similarity.facility_location, center, constraints)
        )

    def kcenter(self, center: bool) -> Selection:
        """Pick the farthest row again and again, see `similarity.kcenter`."""
        return self._by_vectors(similarity.kcenter, center, self.constraints)

    def filter(self, order: Int64s, max_similarity: float, center: bool, exhausted: str) -> Selection:
        """Pick, in `order`, rows not too similar to any pick of the round, see `similarity.similarity_filter`."""
        state = self.constraints.state(self.order)
        picks, starts = self._commit_initial(state), self.constraints.initial_rounds.tolist()
        pick_round = self.filter_of(center, state, self._of_quality(order[self.has_vector[order]]), max_similarity)
        if picks:
            picks += pick_round(self.budget - len(picks), picks[starts[-1] :])
        while len(picks) < self.budget and (exhausted == "restart" or not starts):
            start = len(picks)
            picks += pick_round(self.budget - start, [])
            if len(picks) == start:
                break
            starts.append(start)
        indices = np.array(picks, np.int64)
        return self._filled(indices, self._new_features(indices, starts), np.array(starts, np.int64), state, exhausted)

    def filter_of(self, center: bool, state: ConstraintState, order: Int64s, max_similarity: float) -> PickRound:
        """Return what picks a round of `filter`."""
        unit = self.unit_vectors(center)

        def pick_round(budget: int, near: list[int]) -> list[int]:
            return similarity.similarity_filter(unit, state, budget, near, order, max_similarity)

        return pick_round

    def in_order(self, order: Int64s) -> Selection:
        """Pick the first rows of `order` that the constraints allow."""
        state = self.constraints.state(self.order)
        initial = self._commit_initial(state)
        order = self._last(order, "never", skip_blank=True)
        rest = take_in_order(state, order, self.budget - len(initial))
        indices = np.concatenate([np.array(initial, np.int64), rest])
        return Selection(indices, self._new_features(indices, [0]), np.arange(len(indices))[:1])

    def _by_vectors(
        self, algorithm: Callable[..., tuple[Int64s, Floats]], center: bool, constraints: Constraints
    ) -> Selection:
        state = constraints.state(self.order)
        blank = state.available & ~self.has_vector
        blank[constraints.initial] = False
        state.available[blank] = False  # until the budget is filled: a blank row is far from every row
        with progress_bar(self.budget, "Selecting") as bar:
            indices, gains = algorithm(self.unit_vectors(center), state, self.budget, constraints.initial, bar)
        state.available[blank] = True
        return self._filled(indices, gains, np.arange(len(indices))[:1], state, "never")

    def _of_quality(self, order: Int64s) -> Int64s:
        """Return the rows of `order` whose gains have a factor above 0."""
        return order[self.constraints.scale[order] > 0]

    def _last(self, order: Int64s, exhausted: str, skip_blank: bool = False) -> Int64s:
        """Return the rows that fill the budget: first others, then blank ones, then those of quality 0.

        No row fills it with "stop", nor where rows have costs: a row that adds nothing is not worth its cost. With
        `skip_blank` (the baselines, which know no gain) rows with costs are picked all the same, blank ones excepted.
        """
        if exhausted == "stop" or (self.constraints.has_costs and not skip_blank):
            return NO_ROWS
        order = order[self.features.tokens[order] > 0] if skip_blank and self.constraints.has_costs else order
        return sorted_by(sorted_by(order, self.features.tokens == 0), self.constraints.scale == 0)

    def _commit_initial(self, state: ConstraintState) -> list[int]:
        """Pick the initial rows, and return them."""
        rows: list[int] = self.constraints.initial.tolist()
        for row in rows:
            commit(state, row)
        return rows

    def _new_features(self, indices: Int64s, starts: list[int]) -> Int64s:
        """Count the features that each pick adds to the earlier picks of its round: [k]."""
        ends = [*starts[1:], len(indices)]
        parts = [new_features(self.features, indices[a:b]) for a, b in zip(starts, ends, strict=False)]
        return np.concatenate([NO_ROWS, *parts])

    def _filled(
        self, indices: Int64s, gains: NDArray[Any], starts: Int64s, state: ConstraintState, exhausted: str
    ) -> Selection:
        """Fill the budget with rows that add nothing; they begin no round."""
        rest = take_in_order(state, self._last(self.order, exhausted), self.budget - len(indices))
        indices = np.concatenate([indices, rest])
        starts = starts if len(starts) else np.arange(len(indices))[:1]
        return Selection(indices, np.pad(gains, (0, len(rest))), starts)

    def _best_by_cost(self, run: Callable[[Constraints], Selection]) -> Selection:
        """Run by gain; where rows have costs, run by gain per cost too, and return the better selection.

        For a monotone submodular objective the better of the two has at least (1 - 1/e) / 2 of the best value that the
        budget allows (Leskovec et al. 2007). Compared is what was added to the initial rows in their round.
        """
        by_gain = run(self.constraints)
        if not self.constraints.has_costs:
            return by_gain
        n_initial = len(self.constraints.initial)

        def value(selection: Selection) -> float:
            gains = (selection.gains * self.constraints.scale[selection.indices])[n_initial:]
            rounds = selection.rounds[n_initial:]
            return float(gains[rounds == rounds.min(initial=len(selection))].sum())

        return max(run(self.constraints.per_cost()), by_gain, key=value)

    @cached_property
    def has_vector(self) -> NDArray[np.bool_]:
        """Whether each row has a vector that is compared: [n]; none that is excluded has."""
        has_vector = has_vectors(self.features).copy()
        has_vector[self.constraints.excluded] = False
        return has_vector

    def unit_vectors(self, center: bool) -> Any:
        """Return the rows' vectors as algorithms compare them, see `unit_vectors.quantize`."""
        return quantize(self.vectors(), center)

    def vectors(self) -> NDArray[np.float32]:
        """Return the rows' vectors; those of excluded rows are zeros, which are similar to no vector."""
        vectors = self.features.vectors
        if vectors is None:
            raise ValueError(NO_VECTORS)
        if len(self.constraints.excluded):
            vectors = vectors.copy()
            vectors[self.constraints.excluded] = 0
        return vectors


def sorted_by(rows: Int64s, key: NDArray[Any]) -> Int64s:
    """Sort `rows` by their values in `key`, smallest first; equal rows keep their order."""
    return rows[np.argsort(key[rows], kind="stable")]


def drawn_order(engine: Engine, rng: np.random.Generator | None) -> Int64s:
    """Draw all rows, one after the other, in proportion to their quality."""
    order, quality = engine.order, engine.constraints.scale
    if rng is None or (quality == 1).all():
        return order
    drawn = rng.exponential(size=len(order))
    return sorted_by(order, np.divide(drawn, quality, out=np.full(len(drawn), np.inf), where=quality > 0))
