"""A task: the features, the budget and the constraints that a rule is given, and the engines that rules run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features import kernels as counting
from ..features.kernels import Floats, Int64s
from ..features.matrix import FeatureMatrix
from ..selection import coverage
from ..selection import similarity as vectors
from .constraints import Constraints
from .coverage import ConstraintState, commit, take_in_order
from .result import NOTHING, Selection

NO_AMOUNTS = np.empty(0, np.float32)


class Task:
    """Hold what a rule works on.

    `order` puts the rows in the order in which equal ones are picked: dataset order, or one permutation from `rng`.
    `exhausted` says what happens when no row adds anything any more: "restart" begins a new round, "stop" returns
    fewer rows; "never" is for rules that cannot run dry. Rows that add nothing fill the budget unless it is "stop".
    """

    def __init__(
        self, features: FeatureMatrix, budget: int, rng: np.random.Generator | None, constraints: Constraints | None
    ) -> None:
        n = len(features)
        self.features, self.budget, self.shuffled = features, budget, rng is not None
        self.constraints = Constraints.none(n) if constraints is None else constraints
        self.order: Int64s = np.arange(n) if rng is None else rng.permutation(n)

    def holders(self) -> Int64s:
        """[d_sae]: how many rows of the pool, which the excluded ones are not of, have each feature."""
        features, excluded = self.features, self.constraints.excluded
        return features.frequency - counting.holders(features.offsets, features.ids, excluded, features.d_sae)

    def weights(self, idf: bool) -> Floats:
        """[d_sae]: 1, or log(rows of the pool / rows that have the feature)."""
        if not idf:
            return np.ones(self.features.d_sae)
        holders = self.holders()
        rarity: Floats = np.log(max(1, len(self.constraints.pool)) / np.maximum(holders, 1))
        return np.where(holders > 0, rarity, 0)

    def mass(self, amounts: NDArray[np.float32]) -> Floats:
        """[d_sae]: the sum over the pool of the share of a row's `amounts` that is on each feature."""
        features, pool = self.features, self.constraints.pool
        return counting.mass(features.offsets, features.ids, amounts, pool, features.d_sae)

    def mean_act(self) -> float:
        """Return the mean activation in the pool; 1 where there is none."""
        acts, excluded = self.features.acts, self.constraints.excluded
        if len(excluded):
            there = np.ones(len(self.features), np.bool_)
            there[excluded] = False
            acts = acts[np.repeat(there, self.features.counts)]
        return float(acts.mean(dtype=np.float64)) if len(acts) else 1.0

    def ordered(self, how: str) -> Int64s:
        """Return all rows, of the largest scale first; "richest": scale times features; else "shuffled" or "given"."""
        if how == "shuffled" and not self.shuffled:
            raise ValueError("`order='shuffled'` needs a seed; pass `seed=0`, or `order='given'` for dataset order")
        rows = np.arange(len(self.order)) if how == "given" else self.order
        return by_key(rows, -self.constraints.scale * (self.features.counts if how == "richest" else 1))

    def greedy(
        self, goal: Callable[[], coverage.Objective], exhausted: str, amounts: NDArray[np.float32] = NO_AMOUNTS
    ) -> Selection:
        """Pick greedily for `goal`; see `coverage.greedy_cover`."""

        def run(constraints: Constraints) -> Selection:
            contest, begun = self._race(goal(), constraints, amounts), constraints.first_rounds
            begun = begun[:1] if exhausted == "never" else begun  # what cannot run dry has one round
            last = self._last(self.order, exhausted)
            picks = coverage.greedy_cover(contest, constraints.first, begun, exhausted == "restart", last)
            return Selection(*picks)

        return self._best_for_money(run)

    def scan(self, order: Int64s, max_overlap: float, nearest: bool, exhausted: str) -> Selection:
        """Pick, in `order`, what overlaps little enough with the picks before; see `coverage.scan`."""
        contest = self._race(coverage.count_objective(self.weights(False), [1, 0]), self.constraints, NO_AMOUNTS)
        last, order = self._last(order, exhausted), self._worthy(order)
        first, begun = self.constraints.first, self.constraints.first_rounds
        picks = coverage.scan(contest, first, begun, exhausted == "restart", last, order, max_overlap, nearest)
        return Selection(*picks)

    def facility_location(self, center: bool) -> Selection:
        """Pick greedily for the similarity of all rows to their nearest pick; see `vectors.facility_location`."""
        return self._best_for_money(
            lambda constraints: self._by_vectors(vectors.facility_location, center, constraints)
        )

    def kcenter(self, center: bool) -> Selection:
        """Pick the farthest row again and again; see `vectors.kcenter`."""
        return self._by_vectors(vectors.kcenter, center, self.constraints)

    def filter(self, order: Int64s, max_similarity: float, center: bool, exhausted: str) -> Selection:
        """Pick, in `order`, what is not too similar to any pick of the round; see `vectors.similarity_filter`."""
        limits = self.constraints.limits(self.order)
        given = self._vectors()
        unit, order = vectors.quantize(given, center), self._worthy(order[given[order].any(axis=1)])
        picks, starts = self._paid(limits), self.constraints.first_rounds.tolist()

        def one_round(near: list[int]) -> None:
            left = self.budget - len(picks)
            picks.extend(vectors.similarity_filter(unit, limits, left, near, order, max_similarity))

        if picks:
            one_round(picks[starts[-1] :])
        while len(picks) < self.budget and (exhausted == "restart" or not starts):
            began = len(picks)
            one_round([])
            if len(picks) == began:
                break
            starts.append(began)
        indices = np.array(picks, np.int64)
        return self._filled(indices, self._new(indices, starts), np.array(starts, np.int64), limits, exhausted)

    def in_order(self, order: Int64s) -> Selection:
        """Pick the first rows of `order` that fit."""
        limits = self.constraints.limits(self.order)
        first = self._paid(limits)
        order = self._last(order, "never", bought=True)
        rest = take_in_order(limits, order, self.budget - len(first))
        indices = np.concatenate([np.array(first, np.int64), rest])
        return Selection(indices, self._new(indices, [0]), np.arange(len(indices))[:1])

    def _by_vectors(
        self, engine: Callable[..., tuple[Int64s, Floats]], center: bool, constraints: Constraints
    ) -> Selection:
        limits, given = constraints.limits(self.order), self._vectors()
        unit = vectors.quantize(given, center)
        blank = limits.available & ~given.any(axis=1)
        blank[constraints.first] = False
        limits.available[blank] = False  # for the time being: a blank row is far from everything
        with _bar(self.budget) as bar:
            indices, gains = engine(unit, limits, self.budget, constraints.first, bar)
        limits.available[blank] = True
        return self._filled(indices, gains, np.arange(len(indices))[:1], limits, "never")

    def _race(
        self, goal: coverage.Objective, constraints: Constraints, amounts: NDArray[np.float32]
    ) -> coverage.Search:
        features = self.features
        csr = coverage.Csr(features.offsets[:-1], features.offsets[1:], features.ids, amounts)
        return coverage.new_search(csr, goal, self.holders(), constraints.limits(self.order), self.budget)

    def _worthy(self, order: Int64s) -> Int64s:
        """Return the rows of `order` whose gains count for anything."""
        return order[self.constraints.scale[order] > 0]

    def _last(self, order: Int64s, exhausted: str, bought: bool = False) -> Int64s:
        """Return the rows to fill the budget with: blank ones, then those of no quality, at the end.

        None where fewer rows are to be returned, or where rows cost something and add nothing. A baseline, which asks
        for nothing else, has `bought` them all the same, but for the blank ones.
        """
        if exhausted == "stop" or (self.constraints.costly and not bought):
            return NOTHING
        order = order[self.features.tokens[order] > 0] if bought and self.constraints.costly else order
        return by_key(by_key(order, self.features.tokens == 0), self.constraints.scale == 0)

    def _paid(self, limits: ConstraintState) -> list[int]:
        """Enter the rows that are picked beforehand in the ledger, and return them."""
        rows: list[int] = self.constraints.first.tolist()
        for row in rows:
            commit(limits, row)
        return rows

    def _new(self, indices: Int64s, starts: list[int]) -> Int64s:
        """[k]: how many features each pick adds to those of its round."""
        csr = self.features.offsets, self.features.ids, self.features.d_sae
        ends = [*starts[1:], len(indices)]
        parts = [counting.new_features(*csr, indices[a:b]) for a, b in zip(starts, ends, strict=False)]
        return np.concatenate([NOTHING, *parts])

    def _filled(
        self, indices: Int64s, gains: NDArray[Any], starts: Int64s, limits: ConstraintState, exhausted: str
    ) -> Selection:
        """Add rows that add nothing, where rows are wanted whatever they add; they begin no round."""
        rest = take_in_order(limits, self._last(self.order, exhausted), self.budget - len(indices))
        indices = np.concatenate([indices, rest])
        starts = starts if len(starts) else np.arange(len(indices))[:1]
        return Selection(indices, np.pad(gains, (0, len(rest))), starts)

    def _best_for_money(self, run: Callable[[Constraints], Selection]) -> Selection:
        """Run plainly; where rows have costs, run with gains counted by cost too, and return the better selection.

        For a monotone submodular measure the better of the two is worth at least (1 - 1/e) / 2 of the best that the
        money buys (Leskovec et al. 2007). What is compared is what was added, in the first round, to the rows given.
        """
        plain = run(self.constraints)
        if not self.constraints.costly:
            return plain
        given = len(self.constraints.first)

        def worth(found: Selection) -> float:
            added = (found.gains * self.constraints.scale[found.indices])[given:]
            rounds = found.rounds[given:]
            return float(added[rounds == rounds.min(initial=len(found))].sum())

        return max(run(self.constraints.per_cost()), plain, key=worth)

    def _vectors(self) -> NDArray[np.float32]:
        """Return the rows' vectors; those of excluded rows are zeros, which are near to nothing."""
        if self.features.vectors is None:
            raise ValueError("this method compares vectors; pass `embedding='column'`, or encode with `keep='state'`")
        found = self.features.vectors
        if len(self.constraints.excluded):
            found = found.copy()
            found[self.constraints.excluded] = 0
        return found


def by_key(rows: Int64s, key: NDArray[Any]) -> Int64s:
    """Sort `rows` by their values in `key`, smallest first; equal rows stay in order."""
    return rows[np.argsort(key[rows], kind="stable")]


def _bar(budget: int) -> Any:
    from datasets.utils import tqdm  # the bar that `datasets.disable_progress_bars` switches off

    return tqdm(total=budget, desc="Selecting", unit=" rows")
