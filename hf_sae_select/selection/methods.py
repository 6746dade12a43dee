"""The rules: from features to the rows to keep, a small function each, and the table of them all.

A rule takes `(features, budget, rng, *, constraints, **options)` and returns a Selection of at most `budget` rows.
`rng` orders equal rows: `None` keeps dataset order, a generator draws one permutation of the rows. Every rule checks
its options first, so that running it on no rows with budget 0 checks them completely.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features import kernels as counting
from ..features.matrix import FeatureMatrix
from ..selection import coverage
from .constraints import Constraints, is_number
from .engine import Task, by_key
from .result import Selection

Rng = np.random.Generator | None
Rule = Callable[..., Selection]


def greedy(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    idf: bool = False,
    exhausted: str = "restart",
    constraints: Constraints | None = None,
) -> Selection:
    """Pick the row that adds the most features not yet covered, again and again: SAE-GreedSelect.

    Algorithm 1 of arXiv:2502.14050 (its full text was not at hand) read as exact greedy maximum coverage: no other k
    rows cover more than 1 / (1 - 1/e) times as much. `instag` is the other reading.

    Args:
        idf: count a feature as log(rows / rows that have it), not as 1: the rare ones for more.
        exhausted: when no row adds anything, "restart" forgets the coverage and begins a new round over the rows left,
            those without features last; "stop" returns fewer rows.
    """
    _check_flag("idf", idf)
    _one_of("exhausted", exhausted, "restart", "stop")
    task = Task(features, budget, rng, constraints)
    return task.greedy(lambda: coverage.count_objective(task.weights(idf), [1, 0]), exhausted)


def weighted(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    mass: str = "max",
    idf: bool = False,
    exhausted: str = "restart",
    constraints: Constraints | None = None,
) -> Selection:
    """Pick rows by coverage, each feature worth the share of all activation that is on it.

    So common features come first and outliers last. A row's activations are divided by their sum beforehand, and a
    long row weighs no more than a short one. Weighted coverage of concepts is Gillick & Favre's (2009).

    Args:
        mass: of the "max" of each feature over a row's tokens, or of their "mean", which `sae_encode(keep="means")`
            keeps.
        idf, exhausted: as in `greedy`; idf times the share.
    """
    _one_of("mass", mass, "max", "mean")
    _check_flag("idf", idf)
    _one_of("exhausted", exhausted, "restart", "stop")
    task = Task(features, budget, rng, constraints)
    shares = task.mass(features.acts if mass == "max" else _means(features))
    weight = shares / max(shares.sum(), 1e-300) * (task.weights(True) if idf else 1)
    return task.greedy(lambda: coverage.count_objective(weight, [1, 0]), exhausted)


def concave(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    curve: str = "sqrt",
    by: str = "count",
    idf: bool = False,
    constraints: Constraints | None = None,
) -> Selection:
    """Pick rows by coverage that never runs dry: the more rows have a feature, the less another one adds.

    Feature-based selection (Wei, Iyer & Bilmes 2015), which MIG (arXiv:2504.13835) uses on tags.

    Args:
        curve: what c rows with a feature are worth: "sqrt", the root of c, or "log", log(1 + c).
        by: "count" rows, or add up their "mass", the activations in units of the pool's mean.
        idf: as in `greedy`.
    """
    _one_of("curve", curve, "sqrt", "log")
    _one_of("by", by, "count", "mass")
    _check_flag("idf", idf)
    task = Task(features, budget, rng, constraints)
    if by == "mass":
        amounts = features.acts / np.float32(task.mean_act())
        return task.greedy(lambda: coverage.mass_objective(task.weights(idf), curve), "never", amounts)
    worth = np.sqrt(np.arange(budget + 2)) if curve == "sqrt" else np.log1p(np.arange(budget + 2))
    return task.greedy(lambda: coverage.count_objective(task.weights(idf), np.diff(worth)), "never")


def match(features: FeatureMatrix, budget: int, rng: Rng, *, constraints: Constraints | None = None) -> Selection:
    """Pick the rows that together look like the pool, in what sets each row apart from it.

    With x_ij the share that feature j has of the square roots of row i's activations, y_ij is what x_ij exceeds the
    pool's mean by, if anything, again divided by its sum over the row: every row weighs 1, long or short, and what all
    rows have in common weighs nothing. (A row that nothing sets apart goes by all its shares.) With m_j the pool's sum
    of y_ij and s_j that of the rows picked: greedy on sum_j sqrt(m_j s_j), the Bhattacharyya affinity, largest where s
    is proportional to m. A feature never stops counting, and time is linear in the nonzeros. `select` gives it each
    row's 256 strongest features.

    Example, rows {0, 1}, {0, 1}, {0, 2}, all equally active: they share feature 0, and budget 2 takes a row with 1,
    then the row with 2.
    """
    task = Task(features, budget, rng, constraints)
    roots = np.sqrt(features.acts)
    usual = task.mass(roots)
    usual /= max(usual.sum(), 1)  # as many as rows with features: blank ones have no share in the mean
    apart = counting.shares_above(features.offsets, features.ids, roots, usual)
    weight = np.sqrt(task.mass(apart))
    return task.greedy(lambda: coverage.mass_objective(weight, "sqrt"), "never", apart)


def simscale(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    max_overlap: float = 0.8,
    against: str = "union",
    order: str = "richest",
    exhausted: str = "restart",
    constraints: Constraints | None = None,
) -> Selection:
    """Scan the rows and pick each that is not too similar to those picked before it: SAE-SimScale.

    Algorithm 1 of arXiv:2502.14050 (its full text was not at hand) read as: pick a row if at most a share
    `max_overlap` of its features is covered by this round's picks.

    Args:
        max_overlap: from 0 to 1. The lower, the more rounds a budget takes, each a pass over all rows.
        against: "union", all picks of the round together, and then a row must add a feature too; or "nearest", the one
            pick that has most of the row's features: about budget / 2 times as much work a row.
        order: "richest", most features first; "shuffled", as drawn from the seed; "given", in dataset order. With
            `quality` the rows of more quality (times features, for "richest") come first.
        exhausted: as in `greedy`.
    """
    if not (is_number(max_overlap) and 0 <= max_overlap <= 1):
        raise ValueError(f"`max_overlap={max_overlap!r}` must be a number from 0 to 1")
    _one_of("against", against, "union", "nearest")
    _one_of("exhausted", exhausted, "restart", "stop")
    _one_of("order", order, "richest", "shuffled", "given")
    task = Task(features, budget, rng, constraints)
    return task.scan(task.ordered(order), float(max_overlap), against == "nearest", exhausted)


def instag(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    exhausted: str = "restart",
    constraints: Constraints | None = None,
) -> Selection:
    """Scan the rows, richest first, and pick each that adds any feature: #InsTag's complexity-first sampling.

    Algorithm 1 of arXiv:2308.07074, on features for tags; also the other likely reading of SAE-GreedSelect.

    Args:
        exhausted: as in `greedy`.
    """
    _one_of("exhausted", exhausted, "restart", "stop")
    task = Task(features, budget, rng, constraints)
    return task.scan(task.ordered("richest"), 1.0, False, exhausted)


def facility_location(
    features: FeatureMatrix, budget: int, rng: Rng, *, center: bool = True, constraints: Constraints | None = None
) -> Selection:
    """Pick the rows that all rows are near to: greedy on the sum of every row's similarity to its nearest pick.

    Similarity is the cosine of the rows' vectors, if above zero (Mirchandani & Francis 1990; Wei, Iyer & Bilmes 2015).
    Exact, without an n x n matrix, yet all pairs are looked at: the square of the rows.

    Args:
        center: subtract the pool's mean vector first; transformers' hidden states all point one way.
    """
    _check_flag("center", center)
    return Task(features, budget, rng, constraints).facility_location(center)


def kcenter(
    features: FeatureMatrix, budget: int, rng: Rng, *, center: bool = True, constraints: Constraints | None = None
) -> Selection:
    """Pick the row farthest from those picked, again and again: k-center greedy. It looks for outliers and finds them.

    Gonzalez 1985; as core-sets, Sener & Savarese 2018. The farthest row is at most twice as far as it has to be, in
    the distance of unit vectors; the gains are 1 - cos, half its square.

    Args:
        center: as in `facility_location`.
    """
    _check_flag("center", center)
    return Task(features, budget, rng, constraints).kcenter(center)


def repr_filter(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    max_similarity: float = 0.9,
    center: bool = False,
    exhausted: str = "restart",
    constraints: Constraints | None = None,
) -> Selection:
    """Scan the rows, best first, and pick each whose cosine with every pick is at most `max_similarity`.

    DEITA's filter, arXiv:2312.15685. With `quality` the rows of most quality come first, as there.

    Args:
        max_similarity: from -1 to 1.
        center: as in `facility_location`; DEITA does not.
        exhausted: when no row is left, "restart" forgets the picks and begins a new round; "stop" returns fewer rows.
    """
    if not (is_number(max_similarity) and -1 <= max_similarity <= 1):
        raise ValueError(f"`max_similarity={max_similarity!r}` must be a number from -1 to 1")
    _one_of("exhausted", exhausted, "restart", "stop")
    _check_flag("center", center)
    task = Task(features, budget, rng, constraints)
    return task.filter(by_key(task.order, -task.constraints.scale), float(max_similarity), center, exhausted)


def random(features: FeatureMatrix, budget: int, rng: Rng, *, constraints: Constraints | None = None) -> Selection:
    """Pick rows at random, blank ones last: what every other method is to be compared with.

    With `quality`, a row's chance at each draw is in proportion to it (Efraimidis & Spirakis 2006).
    """
    if rng is None:
        raise ValueError("`method='random'` needs a seed; pass `seed=0`, or any other integer >= 0")
    task = Task(features, budget, rng, constraints)
    order, quality = task.order, task.constraints.scale
    if (quality != 1).any():
        drawn = rng.exponential(size=len(features))
        order = by_key(order, np.divide(drawn, quality, out=np.full(len(drawn), np.inf), where=quality > 0))
    return task.in_order(order)


def longest(features: FeatureMatrix, budget: int, rng: Rng, *, constraints: Constraints | None = None) -> Selection:
    """Pick the rows with the most tokens: the baseline to beat, since longer rows have more features."""
    task = Task(features, budget, rng, constraints)
    return task.in_order(by_key(task.order, -features.tokens))


@dataclass(frozen=True)
class Method:
    """Say what a method is: its rule, what it picks, where it comes from, what it costs and when to use it."""

    rule: Rule
    picks: str = ""
    paper: str = ""
    cost: str = ""
    use: str = ""
    refuses: frozenset[str] = frozenset()
    """Constraints that make no sense with it."""
    keep: str | None = None
    """What encoding has to keep for it, "means" or "state"."""
    threshold: float | None = None
    """The activation threshold where none is given; None for the SAE's calibrated one."""
    top: int | None = None
    """How many of each row's strongest features count where `top` is not given; None for all."""

    @property
    def options(self) -> dict[str, Any]:
        """The rule's own options, with their defaults."""
        return {name: default for name, default in _keywords(self.rule).items() if name != "constraints"}

    @property
    def constrained(self) -> bool:
        """Tell whether the rule obeys constraints."""
        return "constraints" in _keywords(self.rule)

    def needs(self, options: Mapping[str, Any]) -> str | None:
        """Return what encoding has to keep for the rule with these options."""
        return "means" if options.get("mass") == "mean" else self.keep


METHODS: dict[str, Method] = {
    "match": Method(
        match,
        "the rows that together have the pool's distribution of features, in what sets each apart from it",
        "Hellinger distance, greedily",
        "a pass, with square roots, every few dozen picks",
        "a small picture of the pool, each kind of row in its proportion: the default",
        threshold=0.0,
        top=256,
    ),
    "greedy": Method(
        greedy,
        "the row that adds the most features not yet covered, again and again (SAE-GreedSelect)",
        "arXiv:2502.14050",
        "a few passes over the features a round",
        "every concept at least once, in as few rows as can be",
    ),
    "simscale": Method(
        simscale,
        "richest row first, each row with at most `max_overlap` of its features covered (SAE-SimScale)",
        "arXiv:2502.14050",
        "one pass a round",
        "the paper's method for larger budgets",
    ),
    "weighted": Method(
        weighted,
        "as `greedy`, each feature worth its share of all activation",
        "Gillick & Favre 2009",
        "as `greedy`",
        "what the pool is about first, outliers last",
    ),
    "concave": Method(
        concave,
        "as `greedy`, but a feature goes on to count, less each time",
        "Wei et al. 2015; MIG, arXiv:2504.13835",
        "some passes over the features",
        "budgets far beyond full coverage, without rounds",
    ),
    "instag": Method(
        instag,
        "richest row first, each row that adds any feature (#InsTag)",
        "arXiv:2308.07074",
        "one pass a round",
        "to compare with #InsTag",
    ),
    "facility_location": Method(
        facility_location,
        "the rows that all rows are near to, by cosine of vectors",
        "Wei et al. 2015",
        "all pairs of rows, twice",
        "representative rows, on pools small enough for it",
        keep="state",
    ),
    "kcenter": Method(
        kcenter,
        "the row farthest from those picked, again and again",
        "Sener & Savarese 2018",
        "rows x picks at most",
        "the edges of the pool, outliers included",
        keep="state",
    ),
    "repr_filter": Method(
        repr_filter,
        "best row first, or any without `quality`; each not too similar to any pick (DEITA)",
        "arXiv:2312.15685",
        "rows x picks",
        "`quality` first, near-duplicates out",
        keep="state",
    ),
    "longest": Method(
        longest,
        "the rows with the most tokens",
        "arXiv:2402.04833",
        "a sort",
        "a baseline",
        refuses=frozenset({"quality", "per_token"}),
    ),
    "random": Method(
        random,
        "a seeded sample",
        "",
        "a shuffle",
        "the other baseline",
        refuses=frozenset({"per_token"}),
    ),
}


def _keywords(rule: Rule) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(rule).parameters.values() if p.kind is p.KEYWORD_ONLY}


def _means(features: FeatureMatrix) -> NDArray[np.float32]:
    if features.means is None:
        raise ValueError("no mean activations in these features; encode with `sae_encode(keep='means')`")
    return features.means


def _one_of(option: str, value: Any, *allowed: str) -> None:
    if value not in allowed:
        raise ValueError(f"unknown `{option}={value!r}`; choose one of: {', '.join(allowed)}")


def _check_flag(option: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"`{option}={value!r}` must be True or False")
