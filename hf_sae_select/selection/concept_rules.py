"""Concept rules: the features that rows must have or must not have, and how much features count.

`avoid`, `require`, `require_all` and `boost` name features by number, or by name where the SAE has labels. A name
stands for each feature that has it as its whole name, or as one of the parts between slashes ("recipe" for
"recipe/recipes"); upper and lower case are the same. A number counts before a name.

A row has a feature where its activation is strictly above a threshold, before any cut of the features.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._validation import check_int, check_number, check_type
from ..features.columns import encoding_record
from ..features.kept import FIRING, check_kept
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from ..sae.labels import Labels
from .vocabulary import Vocabulary

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

Concepts = int | str | Collection[Any] | Mapping[Any, float | None]
Boost = Mapping[int | str, float]

RULES = ("avoid", "require", "require_all")
BOOSTED = ("match", "herding", "greedy", "weighted", "concave")  # the methods that weigh features
MOST_BOOST = "[0, 1e6]"  # the square of a larger weight could overflow
NO_ROWS = np.empty(0, np.int64)
MOST_TITLES = 5  # of features that a sentence names


class RuleFeature(NamedTuple):
    """Hold what a rule says of one feature."""

    feature: int
    value: float | None
    """The activation to exceed, None for `FIRING` times the calibrated threshold; of `boost` the weight."""
    name: str = ""
    """Its label's name, for people."""

    @property
    def title(self) -> str:
        """The number and the name."""
        return f"#{self.feature} {self.name}".rstrip()


AnyOf = tuple[RuleFeature, ...]


@dataclass(frozen=True)
class ConceptRules:
    """Hold the rules, their features checked and ascending."""

    avoid: AnyOf = ()
    """Rows that have any of these are left out."""
    require: AnyOf = ()
    """Rows that have none of these are left out."""
    require_all: tuple[AnyOf, ...] = ()
    """Rows that have none of one of these groups are left out."""
    boost: AnyOf = ()
    """The features that count more or less than others."""

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> ConceptRules:
        """Return the rules of recorded constraints, which may be anybody's.

        Raises:
            TypeError, ValueError: They are no rules.
        """
        values = {name: _recorded(name, record.get(name, [])) for name in ("avoid", "require", "boost")}
        groups = record.get("require_all", [])
        check_type("require_all", groups, list, "a list of lists")
        return cls(**values, require_all=tuple(_recorded("require_all", group) for group in groups))

    def record(self) -> dict[str, Any]:
        """Return the rules as JSON: lists of [feature, threshold or weight, name]; of `require_all` lists of these."""
        values = {name: list(map(list, getattr(self, name))) for name in ("avoid", "require", "boost")}
        return {**values, "require_all": [list(map(list, group)) for group in self.require_all]}

    def resolved(self, calibrated: float) -> ConceptRules:
        """Fill in a threshold where none was passed: the share `FIRING` of the SAE's calibrated one."""
        threshold = FIRING * calibrated

        def filled(group: AnyOf) -> AnyOf:
            return tuple(item._replace(value=threshold) if item.value is None else item for item in group)

        groups = tuple(map(filled, self.require_all))
        return replace(self, avoid=filled(self.avoid), require=filled(self.require), require_all=groups)

    def check_width(self, d_sae: int) -> None:
        """Check that all features are of an SAE of this width; recorded ones may be of another.

        Raises:
            ValueError: They are not.
        """
        for item in chain(self.avoid, self.require, *self.require_all, self.boost):
            if item.feature >= d_sae:
                raise ValueError(f"a rule names feature #{item.feature}, but the SAE has {d_sae:,} features")

    def read(self, dataset: Dataset) -> FeatureMatrix:
        """Read of encoded rows the features that decide which rows are left out; thresholds are resolved.

        Raises:
            ValueError: A feature is not of the SAE, or rows were not stored down to a threshold.
        """
        record = encoding_record(dataset)
        self.check_width(record["d_sae"])
        decides = np.zeros(record["d_sae"], np.bool_)
        decides[[item.feature for item in chain(self.avoid, self.require, *self.require_all)]] = True
        return FeatureMatrix.from_dataset(dataset, threshold=self.least, features=decides)

    @property
    def least(self) -> float:
        """The lowest threshold of a rule, once they are resolved; infinity where no rule leaves out rows."""
        items = chain(self.avoid, self.require, *self.require_all)
        return min((float(item.value or 0) for item in items), default=np.inf)

    def left_out(self, features: FeatureMatrix) -> dict[str, Int64s]:
        """Return the rows that each rule alone leaves out, by features that are not cut; thresholds are resolved."""
        self.check_width(features.d_sae)
        check_kept(features, self.least)
        rows = {"avoid": np.flatnonzero(_has(features, self.avoid))} if self.avoid else {}
        if self.require:
            rows["require"] = np.flatnonzero(~_has(features, self.require))
        if self.require_all:
            has_all = np.all([_has(features, group) for group in self.require_all], axis=0)
            rows["require_all"] = np.flatnonzero(~has_all)
        return rows

    def reason(self, rule: str, features: FeatureMatrix, row: int) -> str:
        """Say why a rule leaves a row out, as a part of a sentence."""
        if rule == "avoid":
            acts = dict(zip(features.row(row).tolist(), _acts(features, row), strict=True))
            own = [item for item in self.avoid if _is_above(acts.get(item.feature), item)]
            strongest = max(own, key=lambda item: acts[item.feature])
            return f"it has feature {strongest.title} at {acts[strongest.feature]:.3g}, which `avoid` leaves out"
        if rule == "require":
            return f"it has none of the features that `require` names: {titles(self.require)}"
        lacking = next(group for group in self.require_all if not _has(features, group)[row])
        if len(lacking) == 1:
            return f"it does not have feature {lacking[0].title}, which `require_all` names"
        return f"it has none of {titles(lacking)}, of which `require_all` needs one"


@dataclass(frozen=True, eq=False)
class ConceptArguments:
    """Hold the rules as they were passed; `select` says what each means."""

    avoid: Concepts | None = None
    require: Concepts | None = None
    require_all: Concepts | None = None
    boost: Boost | None = None
    labels: Labels | None = None
    """The labels that have the names, where the SAE has none of its own."""

    def __post_init__(self) -> None:
        check_type("labels", self.labels, Labels, "Labels, see `load_labels`", optional=True)

    @property
    def are_passed(self) -> bool:
        """Tell whether any rule was passed."""
        return any(getattr(self, name) is not None for name in (*RULES, "boost"))

    def rules(self, vocabulary: Vocabulary) -> ConceptRules:
        """Look the features up.

        Raises:
            TypeError, ValueError: A rule is not allowed, or names no feature; the message names it.
        """
        avoid, require = (
            () if value is None else _rule(name, value, vocabulary)
            for name, value in (("avoid", self.avoid), ("require", self.require))
        )
        groups = () if self.require_all is None else _groups(self.require_all, vocabulary)
        _check_contradiction(avoid, "require", require)
        _check_contradiction(avoid, "require_all", tuple(chain(*groups)))
        return ConceptRules(avoid, require, groups, () if self.boost is None else _boost(self.boost, vocabulary))

    @property
    def has_names(self) -> bool:
        """Tell whether a rule names a feature by its label."""
        return any(
            isinstance(concept, str)
            for value in (self.avoid, self.require, self.require_all, self.boost)
            for concept in _flat(value)
        )


def titles(group: AnyOf) -> str:
    """Return the first features of a rule, in words."""
    shown = ", ".join(item.title for item in group[:MOST_TITLES])
    return shown if len(group) <= MOST_TITLES else f"{shown} and {len(group) - MOST_TITLES} more"


def described(name: str, value: Any) -> str | None:
    """Return a recorded rule in words, such as "#551 cooking above 0.5"; None where it is no rule."""
    if name not in (*RULES, "boost"):
        return None
    rules = ConceptRules.of_record({name: value})
    groups = rules.require_all if name == "require_all" else (getattr(rules, name),)
    sign = "times" if name == "boost" else "above"
    return "; ".join(", ".join(f"{item.title} {sign} {item.value:.6g}" for item in group) for group in groups)


def excluded_rows(parameters: Mapping[str, Any], features: FeatureMatrix | None, picks: Int64s = NO_ROWS) -> Int64s:
    """Return the rows that could not be selected, by recorded parameters and by features that are not cut.

    Args:
        features: None where no rule is of them.
        picks: the rows that were selected.
    """
    constraints = parameters.get("constraints", {})
    rows = [constraints.get("exclude", []), *constraints.get("left_out", {}).values()]
    if features is not None:
        rows += ConceptRules.of_record(constraints).left_out(features).values()
    return np.setdiff1d(np.concatenate([np.array(part, np.int64) for part in rows]), picks)


def _has(features: FeatureMatrix, group: AnyOf) -> NDArray[np.bool_]:
    """Tell of each row whether it has any feature of a group: [n]."""
    thresholds = np.full(features.d_sae, np.inf, np.float32)
    for item in group:
        thresholds[item.feature] = item.value
    own = features.of_features(np.isfinite(thresholds))
    rows = np.repeat(np.arange(len(own)), own.counts)
    has = np.zeros(len(own), np.bool_)
    has[rows[own.acts > thresholds[own.ids]]] = True
    return has


def _acts(features: FeatureMatrix, row: int) -> list[float]:
    activations: list[float] = features.acts[features.offsets[row] : features.offsets[row + 1]].tolist()
    return activations


def _is_above(activation: float | None, item: RuleFeature) -> bool:
    return activation is not None and item.value is not None and bool(np.float32(activation) > np.float32(item.value))


def _flat(value: Any) -> Iterator[Any]:
    """Yield the numbers and names in an argument, whatever its form."""
    if isinstance(value, str) or not isinstance(value, Collection):
        yield value
        return
    for concept in value:
        yield from _flat(concept)


def _pairs(argument: str, concepts: Any) -> list[tuple[Any, Any]]:
    """Return the numbers and names that an argument has, with their thresholds or weights."""
    if isinstance(concepts, Mapping):
        return list(concepts.items())
    if isinstance(concepts, str | Integral):
        return [(concepts, None)]
    if not isinstance(concepts, Collection):
        raise TypeError(f"`{argument}={concepts!r}` must be a number or a name of a feature, or a list of them")
    return [(concept, None) for concept in concepts]


def _rule(argument: str, concepts: Any, vocabulary: Vocabulary, interval: str = "[0, inf)") -> AnyOf:
    """Look up what an argument names, each feature once: a number counts before a name."""
    pairs = _pairs(argument, concepts)
    if not pairs and argument in ("require", "require_all"):
        raise ValueError(f"`{argument}={concepts!r}` names no feature; pass one, or leave it out")
    values: dict[int, tuple[Any, Any]] = {}
    for concept, value in sorted(pairs, key=lambda pair: (not isinstance(pair[0], str), str(pair[0]))):
        check_number(f"{argument}[{concept!r}]", value, interval, optional=argument != "boost")
        value = None if value is None else float(value)
        for feature in vocabulary.features(argument, concept):
            other, before = values.get(feature, (concept, value))
            if before != value and isinstance(concept, str):
                raise ValueError(
                    f"`{argument}` has two values for feature {vocabulary.title(feature)}: {before} by {other!r} and "
                    f"{value} by {concept!r}; pass its number"
                )
            values[feature] = (concept, value)
    return tuple(RuleFeature(feature, values[feature][1], vocabulary.name(feature)) for feature in sorted(values))


def _groups(concepts: Any, vocabulary: Vocabulary) -> tuple[AnyOf, ...]:
    """Return a group of features for each entry of `require_all`: those of a name, or of a list within the list."""
    pairs = _pairs("require_all", concepts)
    if not pairs:
        raise ValueError(f"`require_all={concepts!r}` names no feature; pass one, or leave it out")
    return tuple(_rule("require_all", _entry(concept, value), vocabulary) for concept, value in pairs)


def _entry(concept: Any, value: Any) -> Any:
    return concept if value is None else {concept: value}


def _boost(boost: Any, vocabulary: Vocabulary) -> AnyOf:
    check_type("boost", boost, Mapping, "a mapping of features to weights, such as {551: 2.0}")
    return _rule("boost", boost, vocabulary, MOST_BOOST)


def _check_contradiction(avoid: AnyOf, argument: str, require: AnyOf) -> None:
    """Check that no feature is both to be had and not to be had."""
    required = {item.feature for item in require}
    if both := [item for item in avoid if item.feature in required]:
        raise ValueError(
            f"feature {both[0].title} is in `avoid` and in `{argument}`, which contradict each other; take it out of "
            "one of them"
        )


def _recorded(argument: str, items: Any) -> AnyOf:
    """Return the features of a recorded rule, checked."""
    check_type(argument, items, list, "a list of [feature, value, name]")
    result = []
    for item in items:
        if not isinstance(item, list) or len(item) != 3:
            raise ValueError(f"`{argument}` has {item!r:.200}; it must be [feature, value, name]")
        feature, value, name = item
        check_int(argument, feature, 0)
        check_number(argument, value, MOST_BOOST if argument == "boost" else "(-inf, inf)")
        check_type(argument, name, str, "a name")
        result.append(RuleFeature(int(feature), float(value), name))
    return tuple(result)
