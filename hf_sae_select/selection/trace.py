"""Trace: a selection gone through again, pick by pick, to see what each gain is made of and what lost to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s
from ..features.matrix import FeatureMatrix
from . import coverage
from .budget import TOLERANCE
from .constraints import Constraints
from .coverage import Measure
from .cuts import Cuts
from .engine import Engine, drawn_order, sorted_by
from .herd import NO_ROWS, Herd
from .herding import Herding
from .method import Rng
from .methods import METHODS
from .objectives import GAINS
from .request import SelectionRequest, request_of
from .result import Selection
from .run import by_concepts
from .targets import Target

GREEDY = ("match", "greedy", "weighted", "concave")  # they pick the row with the largest score, a sum over features
SAME_GAIN = 1e-6  # relative difference up to which two gains are the same
FIRST_PICKS = 32  # that are compared first to tell which of two runs picked the rows


@dataclass(frozen=True, eq=False)
class Parts:
    """Hold what the gain of one pick is the sum of."""

    pick: int
    ids: NDArray[np.unsignedinteger[Any]]
    """All features of the row, ascending."""
    acts: NDArray[np.float32]
    """Their activations."""
    gains: Floats
    """What each adds to the gain, in the state before the pick: 0 or more."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Go through a selection again, by the features and constraints that it was made with."""

    selection: Selection
    features: FeatureMatrix
    """The features of all rows, cut as the selection cut them."""
    read: FeatureMatrix
    """The features as they were passed, which the rules by concepts are of."""
    request: SelectionRequest
    """The request that repeats the selection."""
    engine: Engine
    options: dict[str, Any]
    turns: Int64s
    """[n]: the order in which a method that scans or draws goes through the rows; for others that of equal rows."""

    @classmethod
    def of(
        cls, features: FeatureMatrix, selection: Selection, columns: Any = None, target: Target | None = None
    ) -> Trace:
        """Begin with the features that the rows were selected by, before or after their cuts.

        Args:
            columns: what the constraints of the selection name: a Dataset, or a dict of lists.
            target: what the rows were selected towards, before the cuts.

        Raises:
            ValueError: The selection is of other rows, or a column is missing.
        """
        n, indices = len(features), selection.indices
        if (selection.pool_rows and selection.pool_rows != n) or indices.max(initial=-1) >= n:
            rows = selection.pool_rows or int(indices.max()) + 1
            raise ValueError(
                f"`features` has {n:,} rows, but `selection` picked among {rows:,}; pass the features of all of them"
            )
        request, read = by_concepts(request_of(selection, n, columns), features), features
        if selection.parameters.get("cuts"):  # `select_indices` cuts nothing
            cuts, excluded = Cuts(**selection.parameters["cuts"]), request.constraints.excluded
            target = None if target is None else target.cut(cuts, features, excluded)
            features = cuts.apply(features, excluded)
        rows, constraints = request.bind(features.tokens)
        rng = request.rng
        engine = Engine(features, rows, rng, constraints, target)
        return cls(
            selection,
            features,
            read,
            request,
            engine,
            request.options,
            _turns(selection.method, request.options, engine, rng),
        )

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.selection.method

    @property
    def kind(self) -> str:
        """What the method decides by, see `Method.kind`; "own" for the user's."""
        return METHODS[self.method].kind if self.method in METHODS else "own"

    @property
    def constraints(self) -> Constraints:
        """The constraints, without what a run by cost changes."""
        return self.engine.constraints

    def kind_of(self, pick: int) -> str:
        """Say what decided on one pick: `kind`, or "earlier" for initial rows and "filler" for those without score."""
        row = self.selection.indices[pick]
        if pick < len(self.constraints.initial):
            return "earlier"
        if self.kind == "own":
            return "own"
        has_score = self.selection.gains[pick] > 0 or not self.has_scores
        if self.kind == "nearness":  # a row that cannot win gains nothing
            return self.kind if has_score else "filler"
        return self.kind if has_score and self.can_win(row) else "filler"

    def source_of(self, pick: int) -> str:
        """Name the argument that brought an initial row; "" for other rows."""
        if pick >= len(self.constraints.initial):
            return ""
        extended = self.selection.parameters["constraints"].get("extend", 0)
        return "extend" if pick < extended else "must_include"

    @property
    def finds_by_vectors(self) -> bool:
        return self.method in ("facility_location", "kcenter")

    @property
    def has_scores(self) -> bool:
        """Whether the method picks the row with the largest score."""
        return self.method in GREEDY or self.kind == "nearness" or self.finds_by_vectors

    @property
    def lacks_target(self) -> bool:
        """Whether the rows were selected towards a target that is not at hand."""
        return bool(self.selection.parameters.get("target")) and self.engine.target is None

    @cached_property
    def herding(self) -> Herding:
        """The kernel of a selection by nearness."""
        return self.engine.kernel(float(self.options["width"]))

    @cached_property
    def closeness(self) -> Int64s:
        """The sums of the kernel of each row with the rows of each target, or of the pool: [targets, n], in units."""
        return self.engine.closeness(self.herding)

    def new_herd(self, watched: Int64s = NO_ROWS) -> Herd:
        """Begin a search by nearness in the state without picks, see `Herd` for the rows `watched`."""
        engine, redundancy = self.engine, float(self.options["redundancy"])
        state = engine.constraints.state(engine.order)
        closeness = self.closeness if self.options.get("candidates") is None else None
        compared = engine.compared(self.herding, redundancy, self.options.get("candidates"), state, closeness)
        return Herd(self.herding, engine.aim, redundancy, state, compared, watched)

    def is_apart(self, row: int) -> bool:
        """Tell whether a row shares no feature that counts with the target, or without one with a row of the pool."""
        if self.kind == "nearness" and not self.lacks_target:
            rows = np.array([row])
            known = self.options.get("candidates") is None
            near = self.closeness[:, rows] if known else self._closeness_of(rows)
            return not near.any()
        if self.engine.target is None or self.kind == "own":
            return False
        assert self.measure is not None
        entries = slice(self.features.offsets[row], self.features.offsets[row + 1])
        counts = self._weight[self.features.ids[entries]] > 0
        if self.measure.amounts is not None:
            counts &= self.engine.amounts(self.measure.amounts)[entries] > 0
        return not counts.any()

    def _closeness_of(self, rows: Int64s) -> Int64s:
        return self.engine.aim.closeness(self.herding, rows, self.herding.vectors(rows))

    @cached_property
    def _weight(self) -> Floats:
        """The weights of the features, where gains are sums over them: [d_sae]."""
        assert self.measure is not None
        return self.measure.objective().weight

    @cached_property
    def place(self) -> Int64s:
        """[n]: the position of each row in `turns`."""
        place = np.empty(len(self.features), np.int64)
        place[self.turns] = np.arange(len(place))
        return place

    def can_win(self, row: int) -> bool:
        """Tell whether the method can pick a row, other than to fill the budget: not a blank one or of quality 0."""
        if self.constraints.scale[row] == 0:
            return False
        if self.kind == "similarity" and self.features.vectors is not None:
            return bool(self.features.vectors[row].any())
        by_features = self.kind in ("distribution", "coverage", "nearness")
        is_read = len(self.features.row(row)) > 0 if by_features else self.features.tokens[row] > 0
        return bool(is_read) and not self.is_apart(row)

    @property
    def has_earlier(self) -> NDArray[np.bool_]:
        """[k]: whether an earlier pick has a vector."""
        has_vector = self.engine.vectors()[self.selection.indices].any(axis=1)
        return has_vector.cumsum() - has_vector > 0

    def overlap(self, row: int, start: int, stop: int) -> tuple[int, float]:
        """Return which share of a row's features the picks from `start` to `stop` have: what a scan limits.

        The first value is the pick with the largest share where the method compares with the nearest one, else -1.
        """
        features, picks = self.features, self.selection.indices[start:stop]
        own = np.zeros(features.d_sae, np.bool_)
        own[features.row(row)] = True
        if self.options.get("against") == "nearest":
            shared = [int(own[features.row(pick)].sum()) for pick in picks]
            best = int(np.argmax(shared)) if len(shared) else -1
            return start + best if best >= 0 else -1, max(shared, default=0) / max(int(own.sum()), 1)
        for pick in picks:
            own[features.row(pick)] = False
        count = len(features.row(row))
        return -1, 1 - int(own.sum()) / count if count else 0.0

    @cached_property
    def measure(self) -> Measure | None:
        """What the gains are sums of over features; None where they are not, or the target is not at hand."""
        make = None if self.lacks_target else GAINS.get(self.method)
        return None if make is None else make(self.engine, **self.options)

    def new_search(self, constraints: Constraints | None = None) -> coverage.Search:
        """Begin a search in the state without picks."""
        assert self.measure is not None
        return self.engine.search(self.measure, self.deciding if constraints is None else constraints)

    @cached_property
    def deciding(self) -> Constraints:
        """The constraints whose scale decided: where rows have costs, those of the run whose selection was returned.

        Both runs pick the row with the largest score, so a pick that lost to another row tells which run it was not.
        """
        by_gain, by_cost = self.constraints, self.constraints.per_cost()
        has_two_runs = by_gain.has_costs and self.method in GREEDY and METHODS[self.method].runs_by_cost(self.options)
        if not has_two_runs or self.lacks_target:
            return by_gain
        first, last = len(by_gain.initial), FIRST_PICKS
        while first < len(self.selection):
            picks = np.arange(first, min(first + last, len(self.selection)))
            for candidate, other in ((by_cost, by_gain), (by_gain, by_cost)):
                if self._is_lost(picks, candidate):
                    return other
            first, last = int(picks[-1]) + 1, 2 * last
        return by_cost

    def _is_lost(self, picks: Int64s, constraints: Constraints) -> bool:
        """Tell whether another row has a larger score than one of `picks`, or an equal one and comes first."""
        rows, gains = self._runners_up(picks, constraints)
        place = self.place
        picked = self.selection.indices[picks]
        scores = gains * constraints.scale[rows]
        own = self.selection.gains[picks] * constraints.scale[picked]
        equal_but_first = (scores == own) & (place[rows] < place[picked])
        return bool(((rows >= 0) & ((scores > own) | equal_but_first)).any())

    def parts(self, picks: Int64s) -> Iterator[Parts]:
        """Yield, for each of the ascending `picks`, what its gain is the sum of; nothing where it is no sum.

        Raises:
            ValueError: The sum is another gain, so these are not the features that the rows were selected by.
        """
        if self.measure is None:
            return
        selection = self.selection
        gains = coverage.replayed_parts(self.new_search(), selection.indices, selection.round_starts, picks.tolist())
        for pick, parts in zip(picks.tolist(), gains, strict=True):
            if self.kind == "similarity" and self.kind_of(pick) == "filler":
                parts[:] = 0  # nobody measured what it adds
            if not np.isclose(parts.sum(), selection.gains[pick], rtol=SAME_GAIN, atol=1e-12):
                raise ValueError(
                    f"`features` are not those that the rows were selected by: pick {pick} gains {parts.sum():g} by "
                    f"them, and gained {selection.gains[pick]:g}; pass the features of the pool as they were"
                )
            yield self.as_parts(pick, selection.indices[pick], parts)

    def parts_of(self, row: int, pick: int) -> Parts | None:
        """Return what another row would have gained at a pick; None where gains are no sums."""
        if self.measure is None:
            return None
        rows = np.append(self.selection.indices[:pick], row)
        (gains,) = coverage.replayed_parts(self.new_search(), rows, self.selection.round_starts, [pick])
        return self.as_parts(pick, row, gains)

    def as_parts(self, pick: int, row: int, gains: Floats) -> Parts:
        """Return what each feature of a row adds as `Parts`."""
        entries = slice(self.features.offsets[row], self.features.offsets[row + 1])
        return Parts(pick, self.features.ids[entries], self.features.acts[entries], gains)

    def runners_up(self, picks: Int64s) -> tuple[Int64s, Floats]:
        """Return, for each of the ascending `picks`, the row with the next largest score then, and its gain.

        The row is -1 where no other row was left, and where the method does not pick by scores.
        """
        if self.method not in GREEDY or self.lacks_target:
            return np.full(len(picks), -1), np.zeros(len(picks))
        return self._runners_up(picks, self.deciding)

    def _runners_up(self, picks: Int64s, constraints: Constraints) -> tuple[Int64s, Floats]:
        selection = self.selection
        return coverage.runners_up(
            lambda: self.new_search(constraints), selection.indices, selection.round_starts, picks
        )

    def gains_of(self, row: int) -> Floats:
        """Return the gain that another row would have had at each pick, and after the last: [k + 1]."""
        selection = self.selection
        return coverage.replayed_gains(self.new_search(), selection.indices, selection.round_starts, row)

    def rank(self, row: int, pick: int) -> int:
        """Return the rank of a row by score among all rows that fitted at a pick, from 1 on."""
        selection = self.selection
        scores = coverage.replayed_scores(self.new_search(), selection.indices, selection.round_starts, pick)
        return 1 + int((scores > scores[row]).sum())

    def obstacles(self, row: int) -> NDArray[np.str_]:
        """Say what forbade a row at each pick and after the last: "quota", "cost" or "" where nothing did: [k + 1]."""
        constraints, picks = self.constraints, self.selection.indices
        group = constraints.group[row]
        cost = np.concatenate([[0.0], constraints.cost[picks].cumsum()]) + constraints.cost[row]
        within = constraints.group[picks] == group
        group_rows = np.concatenate([[0], within.cumsum()])
        group_cost = np.concatenate([[0.0], (constraints.cost[picks] * within).cumsum()]) + constraints.cost[row]
        is_full = group_rows >= constraints.max_per_group[group]
        is_full |= group_cost > constraints.max_cost_per_group[group] * TOLERANCE
        return np.where(is_full, "quota", np.where(cost > constraints.max_cost * TOLERANCE, "cost", ""))


def _turns(method: str, options: Mapping[str, Any], engine: Engine, rng: Rng) -> Int64s:
    """Return the order in which a method goes through all rows, see the functions of `methods`."""
    match method:
        case "random":
            return drawn_order(engine, rng)
        case "longest":
            return sorted_by(engine.order, -engine.features.tokens)
        case "repr_filter":
            return sorted_by(engine.order, -engine.constraints.scale)
        case "simscale" | "instag":
            return engine.ordered(str(options.get("order", "richest")))
    return engine.order
