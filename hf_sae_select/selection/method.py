"""Method: what is known of a method that selects, beside its function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .._validation import check_choice
from .result import Selection

Rng = np.random.Generator | None
MethodFunction = Callable[..., Selection]
Check = Callable[[str, Any], None]


@dataclass(frozen=True)
class Method:
    """Describe a method: its function, what it selects, where it comes from, what it needs and what it refuses."""

    function: MethodFunction
    summary: str = ""
    """What the method selects, as the end of a sentence that begins with its name."""
    source: str = ""
    """The paper."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    """How each option is checked."""
    refuses: frozenset[str] = frozenset()
    """Constraints that make no sense with it."""
    needs_vectors: bool = False
    """Whether it compares vectors, not features."""
    needs_seed: Callable[[Mapping[str, Any]], bool] = lambda options: False
    """Whether it draws at random, with these options."""
    runs_by_cost: Callable[[Mapping[str, Any]], bool] = lambda options: False
    """Whether it also selects by gain per cost where rows have costs, with these options, and returns the better."""
    gains_decide: bool = False
    """Whether it picks rows that gain most, so that the sum of gains says what picks are worth."""
    for_targets: frozenset[str] = frozenset()
    """Options that say something of the target alone, and are unknown without one."""
    without_target: frozenset[str] = frozenset()
    """Options that say something of a selection without a target alone, and are unknown with one."""
    with_target: Mapping[str, Any] = field(default_factory=dict)
    """The defaults of options that are others with a target."""
    with_costs: Mapping[str, Any] = field(default_factory=dict)
    """The defaults of options that are others with a budget in costs and no target."""
    for_costs: frozenset[str] = frozenset()
    """Options that say something of a budget in costs alone, and are unknown with one in rows."""
    threshold: float | None = None
    """The activation threshold where none is passed; None for the SAE's calibrated one."""
    top: int | None = None
    """How many of each row's strongest features count where `top` is not passed; None for all."""
    in_shards: bool = True
    """Whether it can select from rows in shards, if it is one of this package's."""
    kind: str = "own"
    """What decides: "distribution" or "coverage" of features, "nearness" to all rows or a target, "similarity" of
    vectors, "length", "chance"; "own" for yours."""

    @property
    def options(self) -> dict[str, Any]:
        """The function's own options, with their defaults."""
        return {name: default for name, default in self._keywords.items() if name not in ("constraints", "target")}

    @property
    def is_constrained(self) -> bool:
        """Tell whether the function takes constraints."""
        return "constraints" in self._keywords

    @property
    def takes_target(self) -> bool:
        """Tell whether the function takes a target."""
        return "target" in self._keywords

    @property
    def needs_target(self) -> bool:
        """Tell whether the function cannot do without a target."""
        return self._keywords.get("target", None) is inspect.Parameter.empty

    @property
    def decides_by_shares(self) -> bool:
        """Tell whether it decides by the distributions of rows over features, which likeness is of."""
        return self.kind in ("distribution", "nearness")

    @property
    def _keywords(self) -> dict[str, Any]:
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def one_of(*choices: str) -> Check:
    return partial(check_choice, choices=choices)
