"""Lines of the table of `compare`: of each the label, the method and its own arguments; `longest` and `random` too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .concept_rules import RULES, ConceptArguments
from .cuts import Cuts
from .extension import earlier_selection
from .method import Method, MethodFunction
from .methods import BASELINES, METHODS
from .request import SelectionRequest

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

ALL_ROWS = "(all rows)"
Methods = Sequence[str | MethodFunction] | Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """Hold the arguments of one line of the table."""

    method: str | MethodFunction
    shared: dict[str, Any]
    options: dict[str, Any]
    concepts: ConceptArguments

    def request(self, dataset: Dataset, budget: float | str, cuts: Cuts, has_target: bool) -> SelectionRequest:
        arguments = {**self.shared, "has_target": has_target}
        cuts = Cuts(cuts.threshold, cuts.top, cuts.max_share, arguments.pop("embedding"))
        arguments["extend"] = earlier_selection(arguments["extend"], dataset)
        return SelectionRequest.parse(len(dataset), dataset, budget, self.method, self.options, cuts=cuts, **arguments)


def lines_of(
    methods: Methods, shared: dict[str, Any], options: dict[str, Any], concepts: ConceptArguments
) -> dict[str, Line]:
    """Return the arguments for each label, the baselines last."""
    if isinstance(methods, str) or not isinstance(methods, Sequence | Mapping):
        raise TypeError(f"`methods={methods!r}` must be a list of methods, or {{'label': {{'method': ...}}}}")
    if "method" in options:
        raise TypeError(f"`method={options['method']!r}` is for `select`; pass `methods`, a list of them")
    lines: dict[str, Line] = {}
    for label, arguments in _labelled(methods):
        method = arguments.pop("method")
        _check_label(label, method, lines)
        own_shared = {name: arguments.pop(name) for name in list(arguments) if name in shared}
        own_rules = {name: arguments.pop(name) for name in (*RULES, "boost") if name in arguments}
        is_baseline = _known(method) in BASELINES
        own_options = arguments if is_baseline else options | arguments
        rules = replace(replace(concepts, boost=None) if is_baseline else concepts, **own_rules)
        lines[label] = Line(method, for_method(method, shared) | own_shared, own_options, rules)
    for name in BASELINES:
        lines.setdefault(name, Line(name, for_method(name, shared), {}, replace(concepts, boost=None)))
    return lines


def _labelled(methods: Methods) -> list[tuple[str, dict[str, Any]]]:
    """Return the label of each line, and its own arguments."""
    if not isinstance(methods, Mapping):
        return [(_label(method), {"method": method}) for method in methods]
    for label, arguments in methods.items():
        if not isinstance(arguments, Mapping) or "method" not in arguments:
            raise TypeError(
                f"`methods` has {arguments!r} for {label!r}; it must be {{'method': ...}}, with or without options"
            )
    return [(label, dict(arguments)) for label, arguments in methods.items()]


def _label(method: Any) -> str:
    """Return the name of a method; that of a partial is its function's."""
    if isinstance(method, str):
        return method
    if not callable(method):
        raise TypeError(
            f"`methods` has {method!r}; it must hold names and functions, or be {{'label': {{'method': ...}}}}"
        )
    name: str = getattr(getattr(method, "func", method), "__name__", type(method).__name__)
    return name


def _check_label(label: str, method: str | MethodFunction, lines: Mapping[str, Any]) -> None:
    """Check that a label names one line only; a baseline may be named by itself."""
    remedy = "choose another label: {'label': {'method': ...}}"
    if label in lines:
        raise ValueError(f"`methods` has {label!r} twice; {remedy}")
    if label == ALL_ROWS or (label in BASELINES and _known(method) != label):
        raise ValueError(f"`methods` has a method called {label!r}, which is a line of every table; {remedy}")


def for_method(method: str | MethodFunction, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Drop shared arguments that a baseline does not accept, so that the other methods can have them."""
    name = _known(method)
    if name not in BASELINES:
        return dict(shared)
    defaults = {"quality": None, "per_token": 0.0}
    refused = {argument: defaults[argument] for argument in METHODS[name].refuses if argument in shared}
    kept = {**shared, **refused, **({"embedding": None} if "embedding" in shared else {})}
    if "concepts" in shared:
        kept["concepts"] = replace(shared["concepts"], boost=())
    return kept | {"seed": 0} if name == "random" and kept.get("seed", 0) is None else kept


def _known(method: Any) -> str:
    """Return the name in `METHODS` of a method, passed by name or as the function; "" if it is not in the table."""
    return next((name for name, known in METHODS.items() if method in (name, known.function)), "")


def takes_target(method: str | MethodFunction) -> bool:
    """Tell whether a method takes a target; an unknown name is refused later."""
    known = _known(method)
    if known or isinstance(method, str):
        return bool(known) and METHODS[known].takes_target
    return Method(method).takes_target
