"""The argument `method` and its options: looked up, checked, and completed by defaults."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from .._validation import check_choice
from .concept_rules import RULES
from .constraints import ConstraintArguments, plain
from .cuts import Cuts
from .method import Method
from .methods import METHODS


def resolve_method(method: Any) -> tuple[str, Method]:
    """Look a method up by its name or its function; a function of the user's is a method too."""
    if callable(method):
        name = getattr(getattr(method, "func", method), "__name__", type(method).__name__)
        for known, candidate in METHODS.items():
            if candidate.function is method:
                return known, candidate
        own = Method(method)
        check_form(name, own)
        return f"own_{name}" if name in METHODS else name, own  # not to be taken for ours
    check_choice("method", method, sorted(METHODS))
    return method, METHODS[method]


def without_partial(method: Any, options: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Return a method of the library that is wrapped in `partial` by itself, so that its checks and cuts hold."""
    is_known = isinstance(method, partial) and any(method.func is known.function for known in METHODS.values())
    if not is_known or method.args or "constraints" in method.keywords:
        return method, options
    return method.func, {**method.keywords, **options}


def check_form(name: str, method: Method) -> None:
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


def check_target(name: str, method: Method, has_target: bool) -> None:
    """Check that a target is passed where the method needs one, and not where it takes none."""
    if has_target and not method.takes_target:
        able = ", ".join(known for known, candidate in METHODS.items() if candidate.takes_target)
        if name in METHODS:
            raise ValueError(f"`target` makes no sense with `method={name!r}`; choose one of: {able}")
        raise TypeError(f"`target` needs a method that takes it; give `{name}` a keyword argument `target`")
    if method.needs_target and not has_target:
        raise ValueError(f"`method={name!r}` selects towards a `target`; pass one, or choose another method")


def complete_options(
    name: str, method: Method, options: Mapping[str, Any], has_target: bool, has_costs: bool
) -> dict[str, Any]:
    """Return all options of a method, checked."""
    if has_target:
        idle = dict.fromkeys(method.without_target, "a selection without a `target`; leave one of them out")
    else:
        idle = dict.fromkeys(method.for_targets, "a selection towards a `target`; pass one, or leave it out")
    if not has_costs:
        idle |= dict.fromkeys(method.for_costs, "a budget in what rows cost; pass one, or leave it out")
    for option in sorted(idle.keys() & options):
        raise ValueError(f"`{option}` is of {idle[option]}")
    own = method.with_target if has_target else method.with_costs if has_costs else {}
    known = method.options | dict(own)
    known = {option: default for option, default in known.items() if option not in idle}
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


def snapshot(value: Any) -> Any:
    """Copy lists and mappings, with plain numbers in place of numpy's; JSON knows no tuples."""
    if isinstance(value, list | tuple):
        return [snapshot(item) for item in value]
    if isinstance(value, dict):
        return {plain(name): snapshot(item) for name, item in value.items()}
    return plain(value)
