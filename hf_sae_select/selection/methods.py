"""The methods: from features to the rows to select, a small function each, and the table of them all.

A method takes `(features, budget, rng, *, constraints, **options)` and returns a Selection of at most `budget` rows.
`rng` orders equal rows: None keeps dataset order, a generator draws one permutation of the rows. Options arrive
checked: `Method.checks` says how, and `SelectionRequest` applies it before anything is encoded.
"""

from __future__ import annotations

from functools import partial

from .._validation import check_flag, check_int, check_number
from ..features.matrix import FeatureMatrix
from ..features.shares import STRONGEST
from . import objectives
from .constraints import Constraints
from .engine import drawn_order, sorted_by
from .herd import CANDIDATES, COST_REDUNDANCY, REDUNDANCY, TARGET_REDUNDANCY, TARGET_WIDTH, WIDTH
from .method import Method, Rng, one_of
from .result import Selection
from .sharded.engine import engine_of
from .targets import Target
from .vector_methods import facility_location, kcenter, repr_filter


def match(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    sharpen: float = 1.5,
    per_cost: bool = False,
    target: Target | None = None,
    constraints: Constraints | None = None,
) -> Selection:
    """Select rows whose feature distribution is that of the dataset, counting only what is above average in a row.

    The method greedily minimises the Hellinger distance between the distributions of the selected rows and of the
    dataset. x_ij is the share of feature j in the square roots of row i's activations, y_ij is the part of x_ij above
    the dataset's mean share of j, divided by the sum of these parts over the row. So every row weighs 1, long or
    short, and features at or below the mean weigh 0. A row without any feature above the mean keeps its shares x_ij.
    With m_j the dataset's sum of y_ij and s_j that of the selected rows, the objective is sum_j sqrt(m_j s_j), the
    Bhattacharyya affinity, largest where s is proportional to m. `select` passes each row's 256 strongest features.
    Costs change no gain: the next row is the best that fits, so the picks have the dataset's lengths, and its mix.

    With a target, m_j is the target's sum of y_ij to the power `sharpen`: 1 is the distance to the target, and more
    leaves out what few of its rows have. The means stay those of the dataset.

    Example: of rows {0, 1}, {0, 1}, {0, 2}, equally active, budget 2 selects one with feature 1, then that with 2.

    Args:
        sharpen (`float`, *optional*, defaults to `1.5`):
            Only with a target: the power of its masses.
        per_cost (`bool`, *optional*, defaults to `False`):
            Only with a budget in costs: select by gain per cost too, and return the better selection: cheap rows win.
    """
    engine = engine_of(features, budget, rng, constraints, target)
    return engine.greedy(objectives.affinity(engine, sharpen=sharpen), "never", per_cost)


def herding(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    width: float = WIDTH,
    redundancy: float = REDUNDANCY,
    candidates: int | None = CANDIDATES,
    target: Target | None = None,
    constraints: Constraints | None = None,
) -> Selection:
    """Select rows that are near all rows, or those of a target, and far from each other, by a kernel of features.

    Kernel herding (Chen, Welling & Smola, arXiv:1203.3472). A row's vector are its shares above the dataset's mean,
    see `match`; the 128 largest count, scaled to length 1. With a target, shares are weighed first by how much more of
    a feature the target has than the dataset. The kernel of two rows is
    exp((cos - 1) / width), moved and scaled so that it is 1 for equal rows and 0 for rows without a common feature. A
    row gains its mean kernel with the rows of the dataset, 4,096 of a larger one, or with those of the target; and
    `redundancy` times one less the mean kernel with the picks. Rows that share no feature with a row of the target
    come last, in the order of ties. No guarantee of greedy algorithms holds. `select` passes each row's 256 strongest
    features.

    Without a target, `candidates` rows are compared at each pick: those that a quick estimate of the score ranks
    first, ranked anew after a twelfth more picks. Of a larger pool, fewer are compared at the first picks. A pool of
    that size or less is compared whole.

    Args:
        width (`float`, *optional*, defaults to `0.5`):
            The width of the kernel, with a target `0.3`: the smaller it is, the nearer a row must be to count.
        redundancy (`float`, *optional*, defaults to `1.25`):
            What nearness to earlier picks counts, where nearness to the dataset or the target counts 1. With a target
            `0.5`, with a budget in costs and no target `1.0`.
        candidates (`int`, *optional*, defaults to `2048`):
            Only without a target: the number of rows that are compared at each pick. None compares all.
    """
    engine = engine_of(features, budget, rng, constraints, target)
    return engine.herding(float(width), float(redundancy), candidates if target is None else None)


def greedy(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    idf: bool = False,
    exhausted: str = "restart",
    target: Target | None = None,
    constraints: Constraints | None = None,
) -> Selection:
    """Select the row with the most features not yet covered, again and again: SAE-GreedSelect.

    Algorithm 1 of arXiv:2502.14050, read as exact greedy maximum coverage: no other k rows cover more than
    1 / (1 - 1/e) times as many features. The paper's full text was not available; `instag` is the other reading.
    With a target, only the features that a row of it has count.

    Args:
        idf (`bool`, *optional*, defaults to `False`):
            Count a feature as log(rows / rows that have it), and not as 1: rare features count for more.
        exhausted (`str`, *optional*, defaults to `'restart'`):
            What happens when no row adds a feature. "restart" resets coverage and begins a new round over the
            remaining rows, those without features last; "stop" returns fewer rows.
    """
    engine = engine_of(features, budget, rng, constraints, target)
    return engine.greedy(objectives.new_features(engine, idf=idf), exhausted)


def weighted(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    idf: bool = False,
    exhausted: str = "restart",
    target: Target | None = None,
    constraints: Constraints | None = None,
) -> Selection:
    """Select by coverage as `greedy` does, where a feature is worth its share of all activation.

    Common features come first and outliers last. A row's activations are divided by their sum beforehand, so that a
    long row weighs no more than a short one. Weighted coverage of concepts is Gillick & Favre's (2009). With a target,
    a feature is worth its share of the target's activation.

    Args:
        idf (`bool`, *optional*, defaults to `False`):
            Multiply a feature's share by its idf, see `greedy`.
        exhausted (`str`, *optional*, defaults to `'restart'`):
            What happens when no row adds a feature, see `greedy`.
    """
    engine = engine_of(features, budget, rng, constraints, target)
    return engine.greedy(objectives.new_activation(engine, idf=idf), exhausted)


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
    """Select by a concave function of each feature: the more selected rows have it, the less another one adds.

    Feature-based selection (Wei, Iyer & Bilmes 2015), which MIG (arXiv:2504.13835) applies to tags. It needs no
    rounds: a feature never stops counting.

    Args:
        curve (`str`, *optional*, defaults to `'sqrt'`):
            The value of c rows with a feature: "sqrt" is the square root of c, "log" is log(1 + c).
        by (`str`, *optional*, defaults to `'count'`):
            "count" counts rows; "mass" adds up their activations, in units of the dataset's mean activation.
        idf (`bool`, *optional*, defaults to `False`):
            Multiply a feature's value by its idf, see `greedy`.
    """
    engine = engine_of(features, budget, rng, constraints)
    return engine.greedy(objectives.diminishing(engine, curve=curve, by=by, idf=idf), "never")


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
    """Scan the rows and select each one that is not too similar to those selected before it: SAE-SimScale.

    Algorithm 1 of arXiv:2502.14050, read as: select a row if at most a share `max_overlap` of its features is covered
    by this round's picks. The paper's full text was not available.

    Args:
        max_overlap (`float`, *optional*, defaults to `0.8`):
            A share from 0 to 1. The lower it is, the more rounds a budget takes, each a pass over all rows.
        against (`str`, *optional*, defaults to `'union'`):
            "union" compares with all picks of the round together, and then a row must add a feature too; "nearest"
            compares with the one pick that has most of the row's features, about budget / 2 times as much work.
        order (`str`, *optional*, defaults to `'richest'`):
            "richest" scans rows with the most features first; "shuffled" as drawn from the seed; "given" in dataset
            order. With `quality`, rows of higher quality (times features, for "richest") come first.
        exhausted (`str`, *optional*, defaults to `'restart'`):
            What happens when no row passes, see `greedy`.
    """
    engine = engine_of(features, budget, rng, constraints)
    measure = objectives.new_features(engine)
    return engine.scan(measure, engine.ordered(order), float(max_overlap), against == "nearest", exhausted)


def instag(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    exhausted: str = "restart",
    constraints: Constraints | None = None,
) -> Selection:
    """Scan the rows, richest first, and select each one that adds any feature: #InsTag's complexity-first sampling.

    Algorithm 1 of arXiv:2308.07074, on features in place of tags; also the other likely reading of SAE-GreedSelect.

    Args:
        exhausted (`str`, *optional*, defaults to `'restart'`):
            What happens when no row adds a feature, see `greedy`.
    """
    engine = engine_of(features, budget, rng, constraints)
    return engine.scan(objectives.new_features(engine), engine.ordered("richest"), 1.0, False, exhausted)


def longest(features: FeatureMatrix, budget: int, rng: Rng, *, constraints: Constraints | None = None) -> Selection:
    """Select the rows with the most tokens: the baseline to beat, since longer rows have more features."""
    engine = engine_of(features, budget, rng, constraints)
    return engine.in_order(sorted_by(engine.order, -features.tokens))


def random(features: FeatureMatrix, budget: int, rng: Rng, *, constraints: Constraints | None = None) -> Selection:
    """Select rows at random, blank rows last: the baseline that every other method is compared with.

    With `quality`, a row's chance at each draw is proportional to it (Efraimidis & Spirakis 2006).
    """
    engine = engine_of(features, budget, rng, constraints)
    return engine.in_order(drawn_order(engine, rng))


EXHAUSTED = {"exhausted": one_of("restart", "stop")}

METHODS: dict[str, Method] = {
    "herding": Method(
        herding,
        "selects rows near all rows and far from each other, by a kernel of features",
        "arXiv:1203.3472",
        {
            "width": partial(check_number, interval="[0.05, 10]"),
            "redundancy": partial(check_number, interval="[0, 10]"),
            "candidates": partial(check_int, optional=True),
        },
        with_target={"width": TARGET_WIDTH, "redundancy": TARGET_REDUNDANCY},
        without_target=frozenset({"candidates"}),
        with_costs={"redundancy": COST_REDUNDANCY},
        threshold=0.0,
        top=STRONGEST,
        gains_decide=True,
        kind="nearness",
    ),
    "match": Method(
        match,
        "selects rows that together have the feature distribution of the dataset",
        "Hellinger distance, greedily",
        {"sharpen": partial(check_number, interval="(0, 10]"), "per_cost": check_flag},
        for_targets=frozenset({"sharpen"}),
        for_costs=frozenset({"per_cost"}),
        runs_by_cost=lambda options: bool(options.get("per_cost", True)),  # before it was an option it always did
        threshold=0.0,
        top=STRONGEST,
        gains_decide=True,
        kind="distribution",
    ),
    "greedy": Method(
        greedy,
        "selects the row that adds the most features not yet covered, again and again (SAE-GreedSelect)",
        "arXiv:2502.14050",
        {"idf": check_flag, **EXHAUSTED},
        runs_by_cost=lambda options: True,
        gains_decide=True,
        kind="coverage",
    ),
    "simscale": Method(
        simscale,
        "scans rows, richest first, and selects each with at most `max_overlap` of it covered (SAE-SimScale)",
        "arXiv:2502.14050",
        {
            "max_overlap": partial(check_number, interval="[0, 1]"),
            "against": one_of("union", "nearest"),
            "order": one_of("richest", "shuffled", "given"),
            **EXHAUSTED,
        },
        needs_seed=lambda options: options["order"] == "shuffled",
        kind="coverage",
    ),
    "weighted": Method(
        weighted,
        "selects as `greedy`, where a feature is worth its share of all activation",
        "Gillick & Favre 2009",
        {"idf": check_flag, **EXHAUSTED},
        runs_by_cost=lambda options: True,
        gains_decide=True,
        kind="coverage",
    ),
    "concave": Method(
        concave,
        "selects as `greedy`, where each further row with a feature adds less",
        "Wei et al. 2015; MIG, arXiv:2504.13835",
        {"curve": one_of("sqrt", "log"), "by": one_of("count", "mass"), "idf": check_flag},
        runs_by_cost=lambda options: True,
        gains_decide=True,
        kind="coverage",
    ),
    "instag": Method(
        instag,
        "scans rows, richest first, and selects each that adds any feature (#InsTag)",
        "arXiv:2308.07074",
        EXHAUSTED,
        kind="coverage",
    ),
    "facility_location": Method(
        facility_location,
        "selects the rows nearest to all rows, by cosine of vectors",
        "Wei et al. 2015",
        {"center": check_flag},
        needs_vectors=True,
        runs_by_cost=lambda options: True,
        gains_decide=True,
        in_shards=False,
        kind="similarity",
    ),
    "kcenter": Method(
        kcenter,
        "selects the row farthest from those selected, again and again",
        "Sener & Savarese 2018",
        {"center": check_flag},
        needs_vectors=True,
        kind="similarity",
    ),
    "repr_filter": Method(
        repr_filter,
        "scans rows, best `quality` first, and selects each not too similar to any pick (DEITA)",
        "arXiv:2312.15685",
        {"max_similarity": partial(check_number, interval="[-1, 1]"), "center": check_flag, **EXHAUSTED},
        needs_vectors=True,
        kind="similarity",
    ),
    "longest": Method(
        longest,
        "selects the rows with the most tokens",
        "arXiv:2402.04833",
        refuses=frozenset({"quality", "per_token"}),
        kind="length",
    ),
    "random": Method(
        random,
        "selects a seeded sample",
        refuses=frozenset({"per_token"}),
        needs_seed=lambda options: True,
        kind="chance",
    ),
}
"""The methods by name: what `method` may be, beside a function of your own."""
BASELINES = ("longest", "random")
