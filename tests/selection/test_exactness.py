"""Every greedy method equals naive greedy, pick by pick, under any combination of options and constraints."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.naive import counted, massed, naive_greedy
from helpers.pools import features_of, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import select_indices

D_SAE = 10
GREEDY = [
    ("greedy", {}),
    ("greedy", {"exhausted": "stop"}),
    ("greedy", {"idf": True}),
    ("weighted", {}),
    ("weighted", {"idf": True}),
    ("concave", {}),
    ("concave", {"curve": "log", "idf": True}),
    ("concave", {"by": "mass"}),
    ("concave", {"by": "mass", "curve": "log"}),
    ("match", {}),
]


@st.composite
def tasks(draw):
    """Draw a pool, and constraints on it that can be obeyed."""
    acts = st.dictionaries(st.integers(0, D_SAE - 1), st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), max_size=6)
    rows = draw(st.lists(acts, min_size=1, max_size=9))
    n = len(rows)
    order = draw(st.permutations(range(n)))
    excluded, included = order[: draw(st.integers(0, n // 3))], order[n - draw(st.integers(0, n // 3)) :]
    there = [i for i in range(n) if i not in excluded]
    asked = {"exclude": excluded, "must_include": included}
    asked |= {"seed": draw(st.sampled_from([None, 3])), "per_token": draw(st.sampled_from([0, 0.5, 1]))}
    columns = {"group": [draw(st.integers(0, 2)) for _ in rows], "good": [draw(st.integers(0, 3)) for _ in rows]}
    columns["price"] = [draw(st.integers(1, 4)) for _ in rows]
    asked["columns"] = columns
    if draw(st.booleans()):
        asked["quality"] = "good"
    if draw(st.booleans()):
        least = {g: sum(columns["group"][i] == g for i in included) for g in columns["group"]}
        asked["quota"] = {"group": {g: least[g] + draw(st.integers(0, 3)) for g in least}}
    if draw(st.booleans()):
        spent = sum(columns["price"][i] for i in included)
        asked |= {"cost": "price", "budget": draw(st.integers(max(1, spent), sum(columns["price"][i] for i in there)))}
    else:
        asked["budget"] = draw(st.integers(max(1, len(included)), n))
    return rows, asked


def features_with_acts(rows):
    features = features_of([set(row) for row in rows], d_sae=D_SAE)
    acts = np.array([row[j] for row in rows for j in sorted(row)], np.float32)
    return replace(features, acts=acts, means=acts / np.float32(2))


def float32(rows):
    """The amounts of rows as the kernels hold them."""
    return [{j: float(np.float32(amount)) for j, amount in row.items()} for row in rows]


def shared(rows):
    """The shares that features have of each row's amounts, which are added up in the features' order."""
    found = []
    for row in rows:
        total = 0.0  # not by `sum`, which from Python 3.12 on rounds less than the kernels do
        for _, amount in sorted(row.items()):
            total += amount
        found.append({j: amount / total for j, amount in row.items()})
    return found


def summed(rows, pool):
    """[d_sae]: the sum of the rows of the pool."""
    total = np.zeros(D_SAE)
    for i in pool:
        for j, amount in rows[i].items():
            total[j] += amount
    return total


def gain_of(method, options, rows, pool):
    """Write down what a row adds, from the definitions in `rules`."""
    has = [sum(j in rows[i] for i in pool) for j in range(D_SAE)]
    idf = np.log(max(1, len(pool)) / np.maximum(has, 1)) if options.get("idf") else np.ones(D_SAE)
    if method == "greedy":
        return counted(rows, idf.tolist(), [1, 0])
    if method == "weighted":
        mass = summed(shared(rows), pool)
        return counted(rows, (mass / max(mass.sum(), 1e-300) * idf).tolist(), [1, 0])
    if method == "match":
        x = shared(float32([{j: math.sqrt(act) for j, act in row.items()} for row in rows]))
        mean = summed(x, pool)
        mean /= max(mean.sum(), 1)  # the rows with features
        # what rounding alone may bring is nothing
        above = [{j: x_ij - mean[j] for j, x_ij in row.items() if x_ij - mean[j] > 1e-6 * mean[j]} for row in x]
        y = float32(shared(float32([some or all_ for some, all_ in zip(above, x, strict=True)])))
        return massed(y, np.sqrt(summed(shared(y), pool)).tolist(), "sqrt")
    curve = options.get("curve", "sqrt")
    if options.get("by") == "mass":
        every = np.array([act for i in pool for _, act in sorted(rows[i].items())], np.float32)
        mean = np.float32(every.mean(dtype=np.float64) if len(every) else 1)
        return massed([{j: float(np.float32(a) / mean) for j, a in row.items()} for row in rows], idf.tolist(), curve)
    worth = np.sqrt(np.arange(20)) if curve == "sqrt" else np.log1p(np.arange(20))
    return counted(rows, idf.tolist(), np.diff(worth).tolist())


def naive(method, options, rows, asked, order, per_cost):
    """Choose as `choose` should."""
    n, columns = len(rows), asked["columns"]
    tokens = np.array([len(row) + 1 for row in rows])
    quality = np.array(columns["good"] if "quality" in asked else [1.0] * n, float)
    scale = quality / tokens.astype(float) ** asked["per_token"]
    price = np.array(columns["price"], float)
    scale = scale / price if per_cost else scale
    quota = asked.get("quota", {"group": {}})["group"]

    def fits(picks, i):
        same = [k for k in picks if columns["group"][k] == columns["group"][i]]
        spent = sum(price[k] for k in [*picks, i])
        full = len(same) >= quota.get(columns["group"][i], n)
        return i not in asked["exclude"] and not full and ("cost" not in asked or spent <= asked["budget"])

    budget = n if "cost" in asked else asked["budget"]
    pool = [i for i in range(n) if i not in asked["exclude"]]
    stops = options.get("exhausted") == "stop" or "cost" in asked
    first = asked["must_include"]
    return naive_greedy(
        gain_of(method, options, rows, pool),
        order,
        budget,
        restart=method in ("greedy", "weighted") and options.get("exhausted") != "stop",
        scale=scale,
        fits=fits,
        first=first,
        begun=[0][: len(first)],
        last=() if stops else sorted(order, key=lambda i: quality[i] == 0),
    )


def possible(asked, rows):
    """Tell whether the quota leaves enough rows for the budget."""
    if "quota" not in asked or "cost" in asked:
        return len(rows) - len(asked["exclude"]) >= asked["budget"] or "cost" in asked
    groups = [g for i, g in enumerate(asked["columns"]["group"]) if i not in asked["exclude"]]
    return sum(min(most, groups.count(g)) for g, most in asked["quota"]["group"].items()) >= asked["budget"]


@pytest.mark.filterwarnings("ignore:.*returning . rows:UserWarning")
@pytest.mark.parametrize("method, options", GREEDY)
@thoroughly
@given(task=tasks())
def test_every_method_under_every_constraint_equals_naive_greedy(method, options, task):
    rows, asked = task
    if not possible(asked, rows):
        return
    found = select_indices(features_with_acts(rows), method=method, **options, **asked)
    order = range(len(rows)) if asked["seed"] is None else np.random.default_rng(3).permutation(len(rows)).tolist()
    expected = [naive(method, options, rows, asked, order, per_cost) for per_cost in {"cost" in asked, False}]
    tokens = np.array([len(row) + 1 for row in rows], float)
    worth = (
        np.array(asked["columns"]["good"] if "quality" in asked else [1] * len(rows)) / tokens ** asked["per_token"]
    )
    given = len(asked["must_include"])

    def added_in_the_first_round(selection):
        picks, gains, starts = selection
        end = starts[1] if len(starts) > 1 and starts[1] > given else len(picks)
        start = max(given, starts[1] if len(starts) > 1 and starts[1] <= given else 0)
        end = starts[2] if start > given and len(starts) > 2 else end
        return sum(gain * worth[i] for i, gain in zip(picks[start:end], gains[start:end], strict=True))

    best = max(map(added_in_the_first_round, expected))
    kinds = [each for each in expected if added_in_the_first_round(each) >= best * (1 - 1e-12)]
    picks, gains, starts = next((e for e in kinds if found.indices.tolist() == e[0]), kinds[0])
    assert found.indices.tolist() == picks
    assert found.gains == pytest.approx(gains, rel=1e-9)
    assert found.round_starts.tolist() == starts
    assert len(set(picks)) == len(picks)


@pytest.mark.parametrize("method, options", GREEDY)
@thoroughly
@given(task=tasks())
def test_gains_never_grow_within_a_round(method, options, task):
    rows, _ = task
    options = {name: value for name, value in options.items() if name != "exhausted"}
    found = select_indices(features_with_acts(rows), len(rows), method, **options)
    for start, end in itertools.pairwise([*found.round_starts, len(found)]):
        gains = found.gains[start:end].tolist()
        assert gains == sorted(gains, reverse=True)


@pytest.mark.filterwarnings("ignore:.*unspent; returning . rows:UserWarning")
@thoroughly
@given(task=tasks())
def test_what_money_buys_is_at_least_a_third_of_the_best_that_it_could(task):
    rows, asked = task
    price, budget = asked["columns"]["price"], max(asked["columns"]["price"])
    found = select_indices(features_with_acts(rows), budget, "greedy", cost="price", columns=asked["columns"])
    subsets = itertools.chain.from_iterable(itertools.combinations(range(len(rows)), k) for k in range(4))
    affordable = [s for s in subsets if sum(price[i] for i in s) <= budget]
    best = max(len(set().union(*(rows[i] for i in s))) for s in affordable)
    assert len(found) == 0 or found.covered[-1] >= (1 - 1 / math.e) / 2 * best
    assert sum(price[i] for i in found.indices) <= budget


@pytest.mark.parametrize("method, options", [*GREEDY, ("simscale", {}), ("simscale", {"against": "nearest"})])
@thoroughly
@given(task=tasks(), cut=st.integers(1, 8))
def test_a_selection_extended_equals_one_of_the_larger_budget(method, options, task, cut):
    rows, asked = task
    features, seed, n = features_with_acts(rows), asked["seed"], len(rows)
    options = {name: value for name, value in options.items() if name != "exhausted"}
    asked = {"seed": seed, "per_token": asked["per_token"], "must_include": asked["must_include"][:1]}
    earlier = select_indices(features, min(max(1, cut), n), method, **options, **asked)
    longer, at_once = (select_indices(features, n, method, extend=e, **options, **asked) for e in (earlier, None))
    assert longer.indices.tolist() == at_once.indices.tolist()
    assert longer.gains == pytest.approx(at_once.gains)
    assert longer.round_starts.tolist() == at_once.round_starts.tolist()
