"""SelectionRequest: what a selection is asked for, parsed and checked once, before any slow work."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._validation import check_choice, check_int, check_number
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from .budget import Budget
from .concept_rules import BOOSTED, RULES, ConceptRules
from .constraints import ConstraintArguments, Constraints, plain, token_costs
from .method import Method, MethodFunction
from .methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Collection

    from .result import Selection
    from .targets import Target


@dataclass(frozen=True)
class Cuts:
    """Say what a method sees of each row's features."""

    threshold: float | None = None
    """Only activations above it count; None for the method's or the SAE's own."""
    top: int | None = None
    """Only this many of a row's strongest features count; None for the method's own."""
    max_share: float | None = None
    """Features that more than this share of the rows have do not count; None for no limit."""
    embedding: str | None = None
    """The column of vectors that are compared; None for the mean hidden state."""

    def check(self) -> None:
        """Check the values.

        Raises:
            ValueError: If one is not allowed; the message names it.
        """
        check_number("threshold", self.threshold, "[0, inf)", optional=True)
        check_int("top", self.top, optional=True)
        check_number("max_share", self.max_share, "(0, 1)", optional=True)

    def resolve(self, method: Method, calibrated: float) -> Cuts:
        """Fill in the method's own values, or else `calibrated`, the SAE's threshold."""
        check_number("threshold", calibrated, "(-inf, inf)")  # it may come from a foreign encoding record
        own = calibrated if method.threshold is None else method.threshold
        threshold = float(own if self.threshold is None else self.threshold)
        top = method.top if self.top is None else int(self.top)
        max_share = None if self.max_share is None else float(self.max_share)
        return replace(self, threshold=threshold, top=top, max_share=max_share)

    def apply_as(self, features: FeatureMatrix, pool: FeatureMatrix, excluded: Collection[int] = ()) -> FeatureMatrix:
        """Cut the features of other rows by resolved values, as `apply` cuts those of `pool`."""
        features = features.above(self.threshold or 0.0)
        if self.max_share is not None:
            features = features.of_features(~pool.above(self.threshold or 0.0).common(self.max_share, excluded))
        return features if self.top is None else features.top(self.top)

    def apply(self, features: FeatureMatrix, excluded: Collection[int] = ()) -> FeatureMatrix:
        """Cut features by resolved values; rows that are `excluded` do not count for `max_share`."""
        features = features.above(self.threshold or 0.0)
        features = features if self.max_share is None else features.rare(self.max_share, excluded)
        return features if self.top is None else features.top(self.top)

    def record(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return dict(vars(self))


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
        method: str | MethodFunction | None,
        options: Mapping[str, Any],
        *,
        seed: Any = 0,
        cuts: Cuts | None = None,
        has_target: bool = False,
        **constraints: Any,
    ) -> SelectionRequest:
        """Parse the arguments of a selection among `n` rows.

        Args:
            method: None for "match", or for "herding" where the selection has a target.
            columns: what `quota`, `quality`, `cost` and `embedding` name: a Dataset, or a dict of lists.
            **constraints: the fields of `ConstraintArguments`.

        Raises:
            TypeError, ValueError: If an argument is not allowed; the message names it.
        """
        if method is None:
            method = "herding" if has_target else "match"
        method, options = _without_partial(method, options)
        name, resolved = _resolve_method(method)
        _check_target(name, resolved, has_target)
        arguments = ConstraintArguments(**constraints)
        parsed = Budget.parse(budget, arguments.cost)
        complete = _complete_options(name, resolved, options, has_target, parsed.unit is not None)
        _check_seed(name, seed, resolved.needs_seed(complete))
        cuts = Cuts() if cuts is None else cuts
        cuts.check()
        arguments = replace(arguments, cost=parsed.unit)
        bound = arguments.parse(n, columns, parsed)
        _check_obeys(name, resolved, arguments)
        vectors = None if cuts.embedding is None else _vectors(resolved, columns, cuts.embedding)
        seed = None if seed is None else int(seed)
        recorded = {option: _snapshot(value) for option, value in complete.items()}

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

    def run(self, features: FeatureMatrix, rows: int, constraints: Constraints, target: Target | None = None) -> Any:
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


def _resolve_method(method: Any) -> tuple[str, Method]:
    """Look a method up by its name or its function; a function of the user's is a method too."""
    if callable(method):
        name = getattr(getattr(method, "func", method), "__name__", type(method).__name__)
        for known, candidate in METHODS.items():
            if candidate.function is method:
                return known, candidate
        own = Method(method)
        _check_form(name, own)
        return f"own_{name}" if name in METHODS else name, own  # not to be taken for ours
    check_choice("method", method, sorted(METHODS))
    return method, METHODS[method]


def _without_partial(method: Any, options: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Return a method of the library that is wrapped in `partial` by itself, so that its checks and cuts hold."""
    is_known = isinstance(method, partial) and any(method.func is known.function for known in METHODS.values())
    if not is_known or method.args or "constraints" in method.keywords:
        return method, options
    return method.func, {**method.keywords, **options}


def _check_form(name: str, method: Method) -> None:
    """Check that a method of the user's own can be called as `run` does.

    Raises:
        TypeError: If it cannot.
    """
    form = "a method takes `(features, budget, rng)`, and its options by name only: `*, option=default`"
    try:
        signature = inspect.signature(method.function)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`method={name!r}` has no signature; {form}") from error
    keywords = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    try:
        signature.bind(None, None, None, **dict.fromkeys(keywords))
    except TypeError as error:
        raise TypeError(f"`method={name!r}` has the form {signature}: {error}; {form}") from error
    if inspect.iscoroutinefunction(method.function) or inspect.isgeneratorfunction(method.function):
        raise TypeError(f"`method={name!r}` returns no Selection at once; {form}")


def _check_target(name: str, method: Method, has_target: bool) -> None:
    """Check that a target is passed where the method needs one, and not where it takes none."""
    if has_target and not method.takes_target:
        able = ", ".join(known for known, candidate in METHODS.items() if candidate.takes_target)
        if name in METHODS:
            raise ValueError(f"`target` makes no sense with `method={name!r}`; choose one of: {able}")
        raise TypeError(f"`target` needs a method that takes it; give `{name}` a keyword argument `target`")
    if method.needs_target and not has_target:
        raise ValueError(f"`method={name!r}` selects towards a `target`; pass one, or choose another method")


def _complete_options(
    name: str, method: Method, options: Mapping[str, Any], has_target: bool, has_costs: bool
) -> dict[str, Any]:
    """Return all options of a method, checked."""
    idle = {} if has_target else dict.fromkeys(method.for_targets, "a selection towards a `target`")
    idle |= {} if has_costs else dict.fromkeys(method.for_costs, "a budget in what rows cost")
    for option in sorted(idle.keys() & options):
        raise ValueError(f"`{option}` is of {idle[option]}; pass one, or leave it out")
    known = {option: default for option, default in method.options.items() if option not in idle}
    for option in options.keys() - known.keys():
        parts = (field.name for part in (ConstraintArguments, Cuts) for field in fields(part))
        arguments = [*known, *RULES, "boost", *parts]
        able = [known_name for known_name, other in METHODS.items() if option in other.options]
        near = [f"method={able[0]!r}"] if able else difflib.get_close_matches(option, arguments, 1)
        raise TypeError(
            f"unknown option `{option}` for `method={name!r}`; it takes: {', '.join(sorted(known)) or 'no option'}"
            + (f"; did you mean `{near[0]}`?" if near else "")
        )
    complete = known | {option: plain(value) for option, value in options.items()}
    for option, value in complete.items():
        if value is inspect.Parameter.empty:
            raise TypeError(
                f"`method={name!r}` needs its option `{option}`; pass it by name, or bind it with `partial`"
            )
        if option in method.checks:
            method.checks[option](option, value)
    return complete


def _snapshot(value: Any) -> Any:
    """Copy lists and mappings, with plain numbers in place of numpy's; JSON knows no tuples."""
    if isinstance(value, list | tuple):
        return [_snapshot(item) for item in value]
    if isinstance(value, dict):
        return {plain(name): _snapshot(item) for name, item in value.items()}
    return plain(value)


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


def _vectors(method: Method, columns: Any, embedding: str) -> FeatureMatrix:
    """Read the column of vectors."""
    if not method.needs_vectors:
        compare = ", ".join(name for name, candidate in METHODS.items() if candidate.needs_vectors)
        raise ValueError(f"`embedding={embedding!r}` is for the methods that compare vectors: {compare}; leave it out")
    return FeatureMatrix.from_vectors(columns, embedding)
