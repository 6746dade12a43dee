"""Every greedy method equals naive greedy, pick by pick, under random combinations of options and constraints."""

import itertools
import math

import numpy as np
import pytest
from helpers.pools import thoroughly
from helpers.tasks import GREEDY, features_with_acts, is_possible, naive, scale_of, tasks
from hypothesis import assume, given
from hypothesis import strategies as st

from hf_sae_select import select_indices


def added_value(selection, scale, skip):
    """Add up the scores of the first round that has picks after the first `skip`, which are left out."""
    picks, gains, round_starts = selection
    scores = np.array(gains, float) * scale[picks] if picks else np.zeros(0)
    rounds = np.searchsorted(round_starts, np.arange(len(picks)), side="right")[skip:]
    return scores[skip:][rounds == rounds.min(initial=len(picks))].sum()


@pytest.mark.filterwarnings("ignore:.*returning . rows:UserWarning", "ignore:`quota` wants:UserWarning")
@pytest.mark.parametrize("method, options", [*GREEDY, ("match", {"per_cost": True})])
@thoroughly
@given(task=tasks())
def test_every_method_under_every_constraint_equals_naive_greedy(method, options, task):
    rows, arguments = task
    has_costs = "cost" in arguments
    if not is_possible(arguments, rows) or (options.get("per_cost") and not has_costs):
        return
    n, skip, scale = len(rows), len(arguments["must_include"]), scale_of(rows, arguments)
    order = range(n) if arguments["seed"] is None else np.random.default_rng(3).permutation(n).tolist()
    # with costs, greedy by score and greedy by score per cost; the selection of the larger value is returned
    runs = {has_costs and options.get("per_cost", method != "match"), False}
    selections = [naive(method, options, rows, arguments, order, per_cost) for per_cost in runs]
    values = [added_value(selection, scale, skip) for selection in selections]
    best = [s for s, value in zip(selections, values, strict=True) if value >= max(values) * (1 - 1e-12)]
    try:
        result = select_indices(features_with_acts(rows), method=method, **options, **arguments)
    except ValueError as error:
        assert ("buys no row" in str(error) or "`quota` allows no row" in str(error)) and best[0][0] == []
        return
    picks, gains, round_starts = next((s for s in best if result.indices.tolist() == s[0]), best[0])
    assert result.indices.tolist() == picks
    assert result.gains == pytest.approx(gains, rel=1e-9)
    assert result.round_starts.tolist() == round_starts
    assert len(set(picks)) == len(picks)


@pytest.mark.parametrize("method, options", GREEDY)
@thoroughly
@given(task=tasks())
def test_gains_never_grow_within_a_round(method, options, task):
    rows, _ = task
    options = {name: value for name, value in options.items() if name != "exhausted"}
    result = select_indices(features_with_acts(rows), len(rows), method, **options)
    for start, end in itertools.pairwise([*result.round_starts, len(result)]):
        gains = result.gains[start:end].tolist()
        assert gains == sorted(gains, reverse=True)


@thoroughly
@given(task=tasks(), more=st.integers(0, 30))
def test_match_with_costs_picks_what_it_picks_without_until_a_row_does_not_fit(task, more):
    rows, columns = task[0], task[1]["columns"]
    assume(any(rows))
    budget = min(max(columns["price"]) + more, sum(columns["price"]))
    at_once = select_indices(features_with_acts(rows), len(rows), "match").indices.tolist()
    spent = np.cumsum([columns["price"][i] for i in at_once])
    fitting = [i for i, cost in zip(at_once, spent, strict=True) if cost <= budget and rows[i]]
    result = select_indices(features_with_acts(rows), budget, "match", cost="price", columns=columns)
    assert result.indices[: len(fitting)].tolist() == fitting


@pytest.mark.filterwarnings("ignore:.*unspent; returning . rows:UserWarning")
@thoroughly
@given(task=tasks())
def test_greedy_with_costs_covers_at_least_a_third_of_the_best_affordable_subset(task):
    rows, arguments = task
    assume(any(rows))
    columns, price = arguments["columns"], arguments["columns"]["price"]
    budget = max(price)
    result = select_indices(features_with_acts(rows), budget, "greedy", cost="price", columns=columns)
    subsets = itertools.chain.from_iterable(itertools.combinations(range(len(rows)), k) for k in range(4))
    affordable = [subset for subset in subsets if sum(price[i] for i in subset) <= budget]
    best = max(len(set().union(*(rows[i] for i in subset))) for subset in affordable)
    assert len(result) == 0 or result.covered[-1] >= (1 - 1 / math.e) / 2 * best
    assert sum(price[i] for i in result.indices) <= budget


@pytest.mark.parametrize("method, options", [*GREEDY, ("simscale", {}), ("simscale", {"against": "nearest"})])
@thoroughly
@given(task=tasks(), cut=st.integers(1, 8))
def test_an_extended_selection_equals_a_selection_with_the_larger_budget(method, options, task, cut):
    rows, arguments = task
    features, n = features_with_acts(rows), len(rows)
    options = {name: value for name, value in options.items() if name != "exhausted"}
    options |= {name: arguments[name] for name in ("seed", "per_token")}
    options["must_include"] = arguments["must_include"][:1]
    earlier = select_indices(features, min(max(1, cut), n), method, **options)
    extended, at_once = (select_indices(features, n, method, extend=e, **options) for e in (earlier, None))
    assert extended.indices.tolist() == at_once.indices.tolist()
    assert extended.gains == pytest.approx(at_once.gains)
    assert extended.round_starts.tolist() == at_once.round_starts.tolist()
