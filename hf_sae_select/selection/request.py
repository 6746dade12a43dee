"""SelectionRequest: what a selection is asked for, parsed and checked once, before any slow work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._validation import check_int
from ..features.kept import STRONGEST, Kept
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from .budget import Budget
from .concept_rules import BOOSTED, RULES, ConceptRules
from .constraints import ConstraintArguments, Constraints, token_costs
from .cuts import Cuts
from .method import Method, MethodFunction
from .method_argument import check_target, complete_options, resolve_method, snapshot, without_partial
from .methods import METHODS

if TYPE_CHECKING:
    from .result import Selection
    from .sharded.features import Features
    from .targets import Target


@dataclass(frozen=True, eq=False)
class SelectionRequest:
    """Hold everything that a selection is asked for. It is checked but for what depends on the rows' tokens."""

    name: str
    """The method's name in the result."""
    method: Method
    options: dict[str, Any]
    """All options of the method, those not passed at their defaults."""
    recorded_options: dict[str, Any]
    """The same as they are recorded: a copy, which the method cannot change while it runs."""
    budget: Budget
    seed: int | None
    arguments: ConstraintArguments
    """The constraints as they were passed."""
    constraints: Constraints
    """The constraints, but for costs in tokens and gains per token, which `bind` adds."""
    cuts: Cuts
    vectors: FeatureMatrix | None
    """The rows' vectors, where `cuts.embedding` names their column."""
    parsed_with: Callable[..., SelectionRequest]
    """Parses the same arguments again, with other constraints."""

    @classmethod
    def parse(
        cls,
        n: int,
        columns: Any,
        budget: Any,
        method: str | MethodFunction,
        options: Mapping[str, Any],
        *,
        seed: Any = 0,
        cuts: Cuts | None = None,
        has_target: bool = False,
        **constraints: Any,
    ) -> SelectionRequest:
        """Parse the arguments of a selection among `n` rows.

        Args:
            columns: what `quota`, `quality`, `cost` and `embedding` name: a Dataset, or a dict of lists.
            **constraints: the fields of `ConstraintArguments`.

        Raises:
            TypeError, ValueError: If an argument is not allowed; the message names it.
        """
        cuts = Cuts() if cuts is None else cuts
        method, options = without_partial(method, options)
        name, resolved, complete, parsed, arguments = without_rows(
            budget, method, options, seed=seed, cuts=cuts, has_target=has_target, **constraints
        )
        bound = arguments.parse(n, columns, parsed)
        _check_obeys(name, resolved, arguments)
        vectors = None if cuts.embedding is None else FeatureMatrix.from_vectors(columns, cuts.embedding)
        seed = None if seed is None else int(seed)
        recorded = {option: snapshot(value) for option, value in complete.items()}

        def parsed_with(**changed: Any) -> SelectionRequest:
            others: dict[str, Any] = {"seed": seed, "cuts": cuts, "has_target": has_target}
            return cls.parse(n, columns, budget, method, options, **others, **constraints | changed)

        return cls(name, resolved, complete, recorded, parsed, seed, arguments, bound, cuts, vectors, parsed_with)

    def leaving_out(self, reason: str, rows: Int64s) -> SelectionRequest:
        """Return the same request without some rows, as if removed; those that are picked first stay.

        Raises:
            ValueError: What remains does not do for the budget or the quota.
        """
        rows = np.setdiff1d(rows, np.concatenate([self.constraints.initial, self.constraints.excluded]))
        if not len(rows):
            return self
        if len(rows) == len(self.constraints.pool):
            raise ValueError(
                f"`{reason}` leaves no row of the {len(self.constraints.group):,}; leave it out, or narrow it"
            )
        try:
            all_rows = np.union1d(self.arguments.left_out.get(reason, []), rows).astype(np.int64)
            return self.parsed_with(left_out={**self.arguments.left_out, reason: all_rows.tolist()})
        except ValueError as error:
            left, n = len(self.constraints.pool) - len(rows), len(self.constraints.group)
            raise ValueError(f"`{reason}` leaves {left:,} of {n:,} rows: {error}") from error

    def with_concepts(self, rules: ConceptRules) -> SelectionRequest:
        """Return the same request with rules by concepts, once the features of the SAE are known by number."""
        return self.parsed_with(concepts=rules) if rules else self

    @property
    def needs_tokens(self) -> bool:
        """Tell whether the constraints depend on the rows' tokens."""
        return self.budget.unit == "tokens" or bool(self.arguments.per_token)

    @property
    def keep(self) -> tuple[str, ...]:
        """What encoding has to keep beside the codes for the method."""
        return ("state",) if self.method.needs_vectors and self.cuts.embedding is None else ()

    def keep_by(self, threshold: float) -> tuple[int | str, ...]:
        """Return what encoding has to keep for this selection, by an SAE with a calibrated `threshold`."""
        kept = Kept.of(STRONGEST, threshold)
        is_enough = self.cuts.resolve(self.method, threshold).is_of_kept(kept)
        is_enough &= self.arguments.concepts.resolved(threshold).least >= kept.above
        return (STRONGEST if is_enough else "all", *self.keep)

    @property
    def rng(self) -> np.random.Generator | None:
        """A new generator from the seed; None for dataset order."""
        return None if self.seed is None else np.random.default_rng(self.seed)

    def bind(self, tokens: NDArray[Any]) -> tuple[int, Constraints]:
        """Return the most rows that may be picked, and the constraints, once the rows' tokens are known.

        Raises:
            ValueError: If the budget is in tokens, and more than all rows have or less than the initial rows have.
        """
        constraints = self.constraints.per_token(tokens, self.arguments.per_token)
        if self.budget.unit == "tokens":
            constraints = constraints.with_costs(token_costs(tokens), self.budget)
        rows = len(tokens) if constraints.has_costs else self.budget.rows(len(constraints.pool))
        return rows, constraints

    def run(self, features: Features, rows: int, constraints: Constraints, target: Target | None = None) -> Any:
        """Call the method's function."""
        arguments: dict[str, Any] = {"constraints": constraints} if self.method.is_constrained else {}
        arguments |= {} if target is None else {"target": target}
        return self.method.function(features, rows, self.rng, **arguments, **self.options)

    def record(
        self, amount: float, cuts: Mapping[str, Any], encoding: Mapping[str, Any], target: Target | None = None
    ) -> dict[str, Any]:
        """Return `Selection.parameters`; `amount` is the budget in rows or in costs."""
        record = {
            "budget": amount,
            "seed": self.seed,
            "options": self.recorded_options,
            "constraints": self.arguments.record(),
            "cuts": dict(cuts),
            "encoding": dict(encoding),
        }
        return record if target is None else {**record, "target": target.record()}


def without_rows(
    budget: Any,
    method: str | MethodFunction,
    options: Mapping[str, Any],
    *,
    seed: Any,
    cuts: Cuts,
    has_target: bool,
    **constraints: Any,
) -> tuple[str, Method, dict[str, Any], Budget, ConstraintArguments]:
    """Check what needs no row, and return the method with its name and options, the budget and the constraints.

    Raises:
        TypeError, ValueError: If an argument is not allowed; the message names it.
    """
    method, options = without_partial(method, options)
    name, resolved = resolve_method(method)
    check_target(name, resolved, has_target)
    arguments = ConstraintArguments(**constraints)
    parsed = Budget.parse(budget, arguments.cost)
    complete = complete_options(name, resolved, options, has_target, parsed.unit is not None)
    _check_seed(name, seed, resolved.needs_seed(complete))
    cuts.check()
    if cuts.embedding is not None and not resolved.needs_vectors:
        compare = ", ".join(known for known, candidate in METHODS.items() if candidate.needs_vectors)
        raise ValueError(
            f"`embedding={cuts.embedding!r}` is for the methods that compare vectors: {compare}; leave it out"
        )
    return name, resolved, complete, parsed, replace(arguments, cost=parsed.unit)


def arguments_of(selection: Selection) -> dict[str, Any]:
    """Return the arguments of `SelectionRequest.parse` that repeat a selection, but for `method`.

    The rows that an earlier selection brought (`extend`) are taken from the selection itself.

    Raises:
        ValueError: `extend` is not a number of picks.
    """
    parameters = selection.parameters
    constraints = dict(parameters["constraints"])
    if isinstance(constraints.get("quota"), Mapping):  # recorded as pairs, since the keys of a JSON object are strings
        constraints["quota"] = {name: dict(pairs) for name, pairs in constraints["quota"].items()}
    constraints["concepts"] = ConceptRules.of_record(constraints)
    constraints = {name: value for name, value in constraints.items() if name not in (*RULES, "boost")}
    if "extend" in constraints:
        n = constraints["extend"]
        check_int("extend", n)
        if n > len(selection):
            raise ValueError(f"`extend={n!r}` is more than the {len(selection)} picks")
        starts = selection.round_starts[selection.round_starts < n]
        constraints["extend"] = type(selection)(selection.indices[:n], selection.gains[:n], starts)
    budget, cost, options = parameters["budget"], constraints.pop("cost", None), parameters["options"]
    if cost is not None:  # as text, since a number below 1 would be a fraction
        budget = Budget(budget, cost, is_fraction=False)
        options = {"per_cost": True} | options if selection.method == "match" else options  # before it was an option
    if selection.method == "herding" and "target" not in parameters:  # before it was an option all rows were compared
        options = {"candidates": None} | options
    return {
        "budget": budget,
        "has_target": "target" in parameters,
        "options": options,
        "seed": parameters["seed"],
        "cuts": Cuts(**parameters["cuts"]),
        **constraints,
    }


def request_of(selection: Selection, n: int, columns: Any) -> SelectionRequest:
    """Return the request that repeats a selection among `n` rows; that of the user's own method cannot be run.

    Args:
        columns: what its constraints name: a Dataset, or a dict of lists.
    """
    if not selection.parameters:  # made by hand
        return SelectionRequest.parse(n, columns, max(len(selection), 1), _own, {})
    arguments = arguments_of(selection)
    method: str | MethodFunction = selection.method
    if method not in METHODS:
        method, arguments["options"] = _own, {}
    with warnings.catch_warnings():  # what the selection warned of
        warnings.simplefilter("ignore", UserWarning)
        return SelectionRequest.parse(n, columns, method=method, **arguments)


def _own(features: FeatureMatrix, budget: int, rng: Any, *, constraints: Any = None, target: Any = None) -> Selection:
    """Stand for the user's own method, of which only the name is recorded."""
    raise NotImplementedError


def _check_seed(name: str, seed: Any, is_needed: bool) -> None:
    check_int("seed", seed, 0, optional=True)
    if seed is None and is_needed:
        raise ValueError(f"`seed=None`, but `method={name!r}` draws at random with these options; pass `seed=0`")


def _check_obeys(name: str, method: Method, arguments: ConstraintArguments) -> None:
    """Check that the method can obey the constraints that were passed."""
    passed = arguments.record()
    if "boost" in passed and name not in BOOSTED:
        raise ValueError(
            f"`boost` makes no sense with `method={name!r}`, which does not weigh features; choose one of: "
            + ", ".join(BOOSTED)
        )
    if refused := sorted(passed.keys() & method.refuses):
        raise ValueError(f"`{refused[0]}` makes no sense with `method={name!r}`; leave it out")
    if passed and not method.is_constrained:
        raise TypeError(
            f"`{next(iter(passed))}` needs a method that obeys it; give yours a keyword argument `constraints`"
        )
