"""Selections by herding, and towards a target, equal naive ones under random options and constraints."""

import itertools
import math
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
from helpers.naive import naive_herding, whole_vectors
from helpers.pools import features_of, thoroughly
from helpers.tasks import (
    D_SAE,
    features_with_acts,
    fits_of,
    is_possible,
    mass_of,
    mean_of,
    scale_of,
    shares_above,
    shares_of,
    tasks,
)
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import select_indices
from hf_sae_select.selection import compared, herd, herding
from hf_sae_select.selection import targets as targets_module

few = pytest.mark.filterwarnings("ignore:.*so few say little of what is wanted:UserWarning")
short = pytest.mark.filterwarnings("ignore:.*returning . rows:UserWarning", "ignore:`quota` wants:UserWarning")
acts = st.dictionaries(st.integers(0, D_SAE - 1), st.sampled_from([0.25, 0.5, 1.0, 3.0]), max_size=6)
parts = st.lists(acts, min_size=1, max_size=4).filter(any)
targets = st.one_of(
    st.tuples(parts).map(lambda rows: {"": (rows[0], 1.0)}),
    st.tuples(parts, parts).map(lambda rows: {"a": (rows[0], 0.75), "b": (rows[1], 0.25)}),
    st.tuples(parts, parts, parts).map(
        lambda rows: {name: (part, 1 / 3) for name, part in zip("abc", rows, strict=True)}
    ),
)
options = st.fixed_dictionaries({"width": st.sampled_from([0.05, 0.3, 2]), "redundancy": st.sampled_from([0, 0.5, 3])})


def target_of(target):
    """The argument `target` of rows by name."""
    matrices = {name: (features_with_acts(rows), share) for name, (rows, share) in target.items()}
    return matrices[""][0] if "" in matrices else matrices


def herded(rows, target, **arguments):
    features = features_with_acts(rows)
    if target is None:
        return select_indices(features, **{"method": "herding"} | arguments)
    return select_indices(features, target=target_of(target), overlap="keep", **arguments)


def herding_with(size, strongest, sample, first=128):
    """Let a sample of so many rows stand for a pool.

    Split matrices into parts of `size` rows."""
    stack = ExitStack()

    def blocks(offsets):
        rows = len(offsets) - 1
        return [(start, min(start + size, rows)) for start in range(0, rows, size)]

    stack.enter_context(patch.object(herd, "blocks", blocks))
    stack.enter_context(patch.object(herding, "BLOCK_ROWS", size))
    stack.enter_context(patch.object(herding, "FEW_ROWS", size))
    stack.enter_context(patch.object(compared, "STEP", size))
    stack.enter_context(patch.object(compared, "FIRST", first))
    stack.enter_context(patch.object(herding, "STRONGEST", strongest))
    stack.enter_context(patch.object(targets_module, "SAMPLE", sample))
    return stack


def sample_of(rows, order, sample):
    """The rows that stand for those of a pool: all with features, or some of them evenly."""
    rows = [i for i in order if rows[i]]
    return [rows[n * len(rows) // sample] for n in range(sample)] if len(rows) > sample else rows


def distribution(mean, rows):
    """The distribution of rows over features: the mean of their shares above a mean."""
    mass = mass_of(shares_of(shares_above(mean, rows)), range(len(rows)))
    return mass / max(mass.sum(), 1e-300)


def weights_of(mean, pool, target):
    """How features tell the target from the pool."""
    pooled = distribution(mean, pool)
    aimed = sum(share * distribution(mean, part) for part, share in target.values())
    e = 8 / max(np.count_nonzero(pooled), 1)
    return np.float32((aimed + e) / (pooled + e)).astype(float)


def naive(rows, target, arguments, order, strongest, sample, candidates, first):
    """Select towards a target, or without one towards the pool, as `select_indices` should."""
    n, initial = len(rows), arguments["must_include"]
    pool = [i for i in range(n) if i not in arguments["exclude"]]
    mean, scale = mean_of(rows, pool), scale_of(rows, arguments)
    weights = np.ones(D_SAE) if target is None else weights_of(mean, [rows[i] for i in pool], target)
    stand, of = [], 0
    if target is None:
        stand, of = sample_of(rows, [i for i in order if i in pool], sample), sum(bool(rows[i]) for i in pool)
        target = {"": ([rows[i] for i in stand], 1.0)}

    def vectors(rows):
        return whole_vectors(shares_above(mean, rows), weights, strongest)

    return naive_herding(
        vectors(rows),
        [vectors(part) for part, _ in target.values()],
        order,
        n if "cost" in arguments else arguments["budget"],
        width=arguments["width"],
        redundancy=arguments["redundancy"],
        shares=[share for _, share in target.values()],
        sizes=[sum(map(bool, part)) for part, _ in target.values()],
        scale=scale,
        fits=fits_of(rows, arguments),
        stand=stand,
        of=of,
        candidates=candidates,
        first=first,
        initial=initial,
        last=() if "cost" in arguments else sorted(order, key=lambda i: scale[i] == 0),
    )


@few
@short
@thoroughly
@given(task=tasks(), target=st.none() | targets, options=options, size=st.integers(1, 9), data=st.data())
def test_herding_under_every_constraint_equals_naive_herding(task, target, options, size, data):
    strongest = data.draw(st.sampled_from([2, 128]))
    sample = data.draw(st.sampled_from([1, 3, 4096]))
    candidates = None if target else data.draw(st.sampled_from([None, 1, 2, 5, 40, 4096]))
    first = data.draw(st.sampled_from([1, 2, 128]))
    rows, arguments = task[0], task[1] | options
    if not is_possible(arguments, rows):
        return
    n = len(rows)
    order = range(n) if arguments["seed"] is None else np.random.default_rng(3).permutation(n).tolist()
    picks, gains = naive(rows, target, arguments, order, strongest, sample, candidates, first)
    try:
        with herding_with(size, strongest, sample, first):
            result = herded(rows, target, **arguments, **({} if target else {"candidates": candidates}))
    except ValueError as error:
        assert ("buys no row" in str(error) or "`quota` allows no row" in str(error)) and not picks
        return
    assert result.indices.tolist() == picks
    assert result.gains.tolist() == gains  # to the bit
    assert result.round_starts.tolist() == [0][: len(picks)]


@few
@thoroughly
@given(
    task=tasks(),
    target=st.none() | targets,
    options=options,
    cut=st.integers(1, 8),
    seed=st.sampled_from([None, 0, 5]),
)
def test_a_smaller_budget_has_the_first_picks_of_a_larger_one(task, target, options, cut, seed):
    rows, arguments = task
    n, candidates = len(rows), {} if target else {"candidates": 3}
    asked = {"seed": seed, **candidates, **options} | {
        name: arguments[name] for name in ("exclude", "per_token", "quality", "columns") if name in arguments
    }
    most = n - len(asked["exclude"])
    asked["must_include"] = [i for i in range(n) if i not in asked["exclude"]][:1]
    whole = herded(rows, target, budget=most, **asked)
    part = herded(rows, target, budget=min(cut, most), **asked)
    assert part.indices.tolist() == whole.indices[: len(part)].tolist()
    assert part.gains.tolist() == whole.gains[: len(part)].tolist()
    extended = herded(rows, target, budget=most, extend=part, **asked)
    assert extended.indices.tolist() == whole.indices.tolist()
    adds = whole.gains > 0  # rows of no quality fill the budget with a gain of 0
    assert extended.gains[adds].tolist() == whole.gains[adds].tolist()


@few
@thoroughly
@given(task=tasks(), part=parts, more=parts, data=st.data())
def test_the_order_of_the_target_and_repeating_all_of_it_change_nothing(task, part, more, data):
    rows, n = task[0], len(task[0])
    alone = herded(rows, {"": (part, 1.0)}, budget=n)
    shuffled = data.draw(st.permutations(part))
    for other in (shuffled, part + part, shuffled * 3):
        again = herded(rows, {"": (other, 1.0)}, budget=n)
        assert again.indices.tolist() == alone.indices.tolist()
        assert again.gains.tolist() == alone.gains.tolist()
    two = herded(rows, {"a": (part, 0.5), "b": (more, 0.5)}, budget=n)
    again = herded(rows, {"a": (shuffled * 2, 0.5), "b": (more * 2, 0.5)}, budget=n)
    assert again.indices.tolist() == two.indices.tolist()


def test_rows_that_stand_for_a_large_pool_are_picked_no_more_often_than_others(monkeypatch):
    monkeypatch.setattr(targets_module, "SAMPLE", 100)
    rng = np.random.default_rng(0)
    rows = [{i % 40, *rng.choice(np.arange(40, 200), 4, replace=False).tolist()} for i in range(1000)]
    sample = sample_of(rows, np.random.default_rng(0).permutation(1000).tolist(), 100)
    picks = select_indices(features_of(rows, d_sae=200), 200, "herding").indices
    assert np.isin(picks, sample).sum() <= 20  # they are a tenth of the pool


# ---- small pools written by hand

POOL = [{0, 1}, {0, 1}, {5}, {2, 3}, {6}, set(), {0, 2}]
EIGHT = [{0, 1}] * 8


def pick(budget, target, pool=POOL, tokens=None, **arguments):
    features = features_of(pool, tokens=tokens)
    return select_indices(features, budget, target=target, **{"seed": None, "overlap": "keep"} | arguments)


def test_rows_near_the_target_come_first_others_in_the_order_of_ties_and_blank_rows_last():
    selection = pick(7, features_of(EIGHT), tokens=[3, 3, 2, 3, 2, 0, 3])
    assert selection.method == "herding"
    assert sorted(selection.indices[:3].tolist()) == [0, 1, 6] and selection.indices[3:].tolist() == [2, 3, 4, 5]
    assert (selection.gains[:3] > 0).all() and selection.gains[3:].tolist() == [0, 0, 0, 0]
    order = np.random.default_rng(0).permutation(7).tolist()
    drawn = pick(7, features_of(EIGHT), tokens=[3, 3, 2, 3, 2, 0, 3], seed=0).indices.tolist()
    assert drawn[3:] == [i for i in order if i in (2, 3, 4)] + [5]


def test_redundancy_keeps_picks_apart():
    target = features_of([{0, 1}, {2, 3}] * 4)
    assert sorted(pick(2, target, redundancy=3).indices.tolist()) == [0, 3]
    assert pick(2, features_of(EIGHT), redundancy=0).indices.tolist() == [0, 1]


def test_targets_take_turns_in_proportion_to_their_shares():
    pool = [{0, 1, i} for i in range(6, 11)] + [{2, 3, i} for i in range(11, 16)]
    maths, code = features_of(EIGHT), features_of([{2, 3}] * 8)
    for share, n in ((0.8, 4), (0.6, 3), (0.4, 2)):
        picks = pick(5, {"maths": (maths, share), "code": (code, round(1 - share, 1))}, pool).indices
        assert (picks < 5).sum() == n
    equal = pick(6, {"maths": maths, "code": code}, pool)
    assert (equal.indices < 5).tolist() == [True, False] * 3
    assert [part["share"] for part in equal.parameters["target"]] == [0.5, 0.5]
    assert [part["name"] for part in equal.parameters["target"]] == ["maths", "code"]


def test_a_target_whose_rows_are_used_up_leaves_its_turns_to_the_others():
    pool = [{0, 1, 4}, {2, 3, 5}, {2, 3, 6}, {2, 3, 7}]
    selection = pick(4, {"maths": features_of(EIGHT), "code": features_of([{2, 3}] * 8)}, pool)
    assert sorted(selection.indices[:2].tolist()) == [0, 1] and (selection.gains > 0).all()


def test_a_budget_in_costs_is_spent_on_rows_near_the_target_alone():
    columns = {"price": [2, 2, 1, 1, 1, 1, 2]}
    with pytest.warns(UserWarning, match="no row left to pick after 3, with 3 of 9 unspent"):
        selection = pick("9 price", features_of(EIGHT), columns=columns)
    assert sorted(selection.indices.tolist()) == [0, 1, 6]


# ---- match, greedy and weighted towards a target


def affinity(rows, picks, mass):
    """The objective of `match`: sum_j sqrt(m_j s_j)."""
    total = np.zeros(D_SAE)
    for i in picks:
        for j, share in rows[i].items():
            total[j] += share
    return float(np.sqrt(mass * total).sum())


@few
@thoroughly
@given(task=tasks(), part=parts, sharpen=st.sampled_from([0.5, 1, 1.5, 3]))
def test_match_towards_a_target_is_greedy_on_the_targets_mass(task, part, sharpen):
    rows, n = task[0], len(task[0])
    mean = mean_of(rows, range(n))
    mass = np.zeros(D_SAE)
    for row in shares_above(mean, part):
        for j, share in row.items():
            mass[j] += share / sum(row.values())
    shares = shares_above(mean, rows)
    result = herded(rows, {"": (part, 1.0)}, budget=n, method="match", sharpen=sharpen, seed=None)
    picks = []
    for row, gain in zip(result.indices.tolist(), result.gains.tolist(), strict=True):
        before = affinity(shares, picks, mass**sharpen)
        gains = {i: affinity(shares, [*picks, i], mass**sharpen) - before for i in range(n) if i not in picks}
        assert gain == pytest.approx(gains[row], abs=1e-6)
        assert gains[row] >= max(gains.values()) - 1e-6
        picks.append(row)


@few
@short
@thoroughly
@given(task=tasks())
def test_a_pool_that_is_its_own_target_is_matched_as_without_one(task):
    rows, arguments = task
    if not any(rows) or not is_possible(arguments, rows) or "quota" in arguments:
        return
    asked = {name: value for name, value in arguments.items() if name != "exclude"}
    features = features_with_acts(rows)
    try:
        alone = select_indices(features, method="match", **asked)
    except ValueError:
        return
    towards = select_indices(features, method="match", target=features, overlap="keep", sharpen=1, **asked)
    assert towards.indices.tolist() == alone.indices.tolist()
    assert towards.gains.tolist() == alone.gains.tolist()


@pytest.mark.filterwarnings("ignore:.*unspent; returning . rows:UserWarning")
@few
@thoroughly
@given(task=tasks(), part=parts, sharpen=st.sampled_from([1, 1.5]))
def test_match_with_costs_reaches_at_least_a_third_of_the_best_affordable_subset(task, part, sharpen):
    rows, arguments = task
    if not any(rows):
        return
    n, price = len(rows), arguments["columns"]["price"]
    budget = max(price)
    result = herded(
        rows,
        {"": (part, 1.0)},
        budget=budget,
        method="match",
        sharpen=sharpen,
        cost="price",
        columns=arguments["columns"],
    )
    mean = mean_of(rows, range(n))
    mass, shares = np.zeros(D_SAE), shares_above(mean, rows)
    for row in shares_above(mean, part):
        for j, share in row.items():
            mass[j] += share / sum(row.values())
    subsets = itertools.chain.from_iterable(itertools.combinations(range(n), k) for k in range(4))
    affordable = [subset for subset in subsets if sum(price[i] for i in subset) <= budget]
    best = max(affinity(shares, subset, mass**sharpen) for subset in affordable)
    reached = affinity(shares, result.indices.tolist(), mass**sharpen)
    assert reached >= (1 - 1 / math.e) / 2 * best - 1e-6
    assert sum(price[i] for i in result.indices) <= budget


@few
@thoroughly
@given(task=tasks(), part=parts)
def test_greedy_towards_a_target_sees_its_features_alone(task, part):
    rows, n = task[0], len(task[0])
    wanted = set().union(*part)
    cut = [{j: act for j, act in row.items() if j in wanted} for row in rows]
    towards = herded(rows, {"": (part, 1.0)}, budget=n, method="greedy")
    alone = select_indices(features_with_acts(cut), n, "greedy")
    assert towards.indices.tolist() == alone.indices.tolist()
    assert towards.gains.tolist() == alone.gains.tolist()
    assert towards.round_starts.tolist() == alone.round_starts.tolist()


@few
@short
@thoroughly
@given(task=tasks(), part=parts)
def test_weighted_towards_a_target_counts_the_share_of_its_activation(task, part):
    rows, n = task[0], len(task[0])
    weight = np.zeros(D_SAE)
    for row in part:
        for j, act in row.items():
            weight[j] += act / sum(row.values())
    weight /= weight.sum()
    result = herded(rows, {"": (part, 1.0)}, budget=n, method="weighted", exhausted="stop", seed=None)
    covered, left = set(), set(range(n))
    for row, gain in zip(result.indices.tolist(), result.gains.tolist(), strict=True):
        gains = {i: sum(weight[j] for j in rows[i] if j not in covered) for i in left}
        assert gain == pytest.approx(gains[row]) and gains[row] >= max(gains.values()) - 1e-12
        covered |= set(rows[row])
        left.remove(row)
    assert all(weight[j] == 0 for i in left for j in rows[i] if j not in covered)


def test_sharpen_without_a_target_is_refused():
    with pytest.raises(ValueError, match="`sharpen` is of a selection towards a `target`; pass one, or leave it out"):
        select_indices(features_of(POOL), 2, "match", sharpen=2)
    with pytest.raises(ValueError, match=r"`sharpen=0` must be a finite number in \(0, 10\]"):
        pick(2, features_of(EIGHT), method="match", sharpen=0)


def test_candidates_are_of_a_selection_without_a_target():
    with pytest.raises(ValueError, match="`candidates` is of a selection without a `target`; leave one of them out"):
        pick(2, features_of(EIGHT), candidates=5)
    for wrong in (0, -1, 2.5, "all"):
        with pytest.raises((TypeError, ValueError), match=f"`candidates={wrong!r}` must be a positive integer"):
            select_indices(features_of(POOL), 2, candidates=wrong)
