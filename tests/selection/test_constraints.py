"""What a user may ask of a selection, and what is refused."""

import numpy as np
import pytest
from datasets import Dataset
from helpers.pools import features_of, thoroughly, with_all
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import METHODS, Constraints, Selection, select, select_indices
from hf_sae_select.selection.budget import Budget
from hf_sae_select.selection.quota import balanced

SIX = [{0, 1, 2}, {0, 1}, {3}, {4, 5}, {6}, set()]
COLUMNS = {"kind": ["a", "a", "b", "b", "b", None], "good": [1, 2, 0, 1, 1, 1], "price": [3, 1, 1, 2, 1.5, 1]}


def pick(budget, method="greedy", *, seed=None, columns=COLUMNS, **asked):
    features = with_all(features_of(SIX))
    return select_indices(features, budget, method, seed=seed, columns=columns, **asked)


def picks(*arguments, **asked):
    return pick(*arguments, **asked).indices.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_rows_to_include_come_first_and_excluded_ones_never(method):
    found = picks(5, method, seed=0, must_include=[4, 1], exclude=[0])
    assert found[:2] == [4, 1]
    assert sorted(found) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("method", METHODS)
def test_a_quota_is_the_most_rows_of_a_value(method):
    assert sum(i in (2, 3, 4) for i in picks(4, method, seed=0, quota={"kind": {"b": 1}})) == 1
    assert sorted(picks(2, method, seed=0, quota={"kind": {"a": 1, "b": 0}}))[1] == 5


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_in_what_rows_cost_is_not_overspent(method):
    found = pick(6, method, seed=0, cost="price")
    spent = sum(COLUMNS["price"][i] for i in found.indices)
    assert 4.5 < spent <= 6  # no row left out fits
    assert found.parameters["constraints"]["cost"] == "price" and found.parameters["budget"] == 6.0
    assert picks("6 price", method, seed=0) == found.indices.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_excluding_rows_equals_not_having_them(method):
    kept = [0, 2, 3, 5]
    there, seed = with_all(features_of([SIX[i] for i in kept])), None if method != "random" else 0
    found = select_indices(there, 3, method, seed=seed)
    if method != "random":  # whose permutation is of all rows
        assert picks(3, method, exclude=[1, 4]) == [kept[i] for i in found.indices]
    assert pick(3, method, seed=0, exclude=[1, 4]).pool_coverage == found.pool_coverage == 6


def test_quality_multiplies_the_gain():
    assert picks(3) == [0, 3, 2]
    assert picks(3, quality="good") == [1, 3, 0]  # 2 x 2 features, 1 x 2, then 1 x 1 before row 4 of equal worth
    assert pick(3, quality="good").gains.tolist() == [2, 2, 1]
    assert picks(6, quality="good")[-2:] == [5, 2]  # of no features, and of no quality


def test_quality_puts_the_best_first_in_a_scan_and_weighs_a_draw():
    assert picks(2, "simscale", quality="good") == [1, 0]  # 4, then 3
    assert picks(2, "simscale", quality="good", order="given") == [1, 0]
    drawn = [picks(1, "random", seed=seed, quality="good")[0] for seed in range(300)]
    assert 2 not in drawn
    assert 75 <= drawn.count(1) <= 125  # two of six parts


def test_per_token_lets_long_rows_win_less():
    features = features_of([{0, 1, 2}, {0, 1}, {3}], tokens=[9, 2, 4])
    assert select_indices(features, 2, "greedy", seed=None).indices.tolist() == [0, 2]
    assert select_indices(features, 2, "greedy", seed=None, per_token=1).indices.tolist() == [
        1,
        2,
    ]  # 2 / 2, then 1 / 4 before 1 / 9


def test_money_is_spent_on_gain_per_cost_or_plainly_whichever_covers_more():
    # by cost: row 1 first (1 for 1), and then row 0 is too dear; plainly: row 0, worth 3
    features = features_of([{0, 1, 2}, {3}])
    assert select_indices(features, 4, "greedy", cost="c", columns={"c": [4, 1]}, seed=None).indices.tolist() == [0]
    # by cost: rows 1, 2 and 3, worth 3 together; plainly: row 0, worth 2
    features = features_of([{0, 1}, {2}, {3}, {4}])
    found = select_indices(features, 3, "greedy", cost="c", columns={"c": [3, 1, 1, 1]}, seed=None)
    assert found.indices.tolist() == [
        1,
        2,
        3,
    ]


def test_a_budget_in_tokens():
    assert picks("7 tokens") == picks(7, cost="tokens") == [0, 3]  # 4 + 3 tokens
    assert pick(0.5, cost="tokens").parameters["budget"] == 7.5  # of 15


def test_match_spends_tokens_in_the_mix_of_the_dataset_and_per_cost_on_short_rows():
    features = features_of([{0, 1}, {0, 2}] * 4, tokens=[4, 1] * 4)  # as many long rows as short ones
    found = select_indices(features, "10 tokens", "match", seed=None)
    assert features.tokens[found.indices].tolist() == [4, 1, 4, 1]
    assert "per_cost" in found.parameters["options"] and "per_cost" not in pick(2, "match").parameters["options"]
    cheap = select_indices(features, "10 tokens", "match", seed=None, per_cost=True)
    assert features.tokens[cheap.indices].tolist() == [1, 1, 1, 1, 4]
    assert cheap.gains.sum() > found.gains.sum()
    with pytest.raises(ValueError, match="`per_cost` is of a budget in what rows cost; pass one, or leave it out"):
        select_indices(features, 2, "match", per_cost=False)


def test_match_is_nearer_to_the_mix_by_tokens_than_random_rows():
    """Six kinds of rows, whose lengths differ twentyfold between kinds and threefold within them."""
    rng = np.random.default_rng(0)
    kinds = rng.permutation(np.repeat(np.arange(6), [90, 70, 50, 40, 30, 20]))
    rows = [
        {*(8 * kind + rng.choice(8, 4, replace=False)), *(48 + rng.choice(32, 6, replace=False))} for kind in kinds
    ]
    tokens = np.rint([5, 10, 20, 40, 70, 100] @ np.eye(6)[:, kinds] * rng.uniform(0.5, 1.5, len(kinds))).astype(int)
    features = features_of(rows, d_sae=80, tokens=tokens.tolist())

    def distance(picks):
        there, spent = np.bincount(kinds, tokens), np.bincount(kinds[picks], tokens[picks], 6)
        return abs(there / there.sum() - spent / spent.sum()).sum() / 2

    for share in (0.05, 0.1, 0.2, 0.4):
        asked = {"budget": share, "cost": "tokens"}
        by_chance = [distance(select_indices(features, method="random", seed=s, **asked).indices) for s in range(50)]
        found = distance(select_indices(features, method="match", **asked).indices)
        assert found < np.mean(by_chance)
        assert distance(select_indices(features, method="match", per_cost=True, **asked).indices) > 2 * found


@pytest.mark.parametrize(
    "sizes, budget, room",
    [([10, 2, 9], 9, [4, 2, 3]), ([5, 5], 5, [3, 2]), ([1, 1], 9, [1, 1]), ([3], 0, [0]), ([2, 5], 1, [0, 1])],
)
def test_a_balanced_quota_shares_the_budget_out_as_evenly_as_it_can(sizes, budget, room):
    assert balanced(np.array(sizes), budget).tolist() == room


@thoroughly
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 50))
def test_a_balanced_quota_is_even_where_groups_are_large_enough(sizes, budget):
    room = balanced(np.array(sizes), budget)
    assert room.sum() == min(budget, sum(sizes)) and (room <= sizes).all()
    hungry = room[room < sizes]
    assert len(hungry) == 0 or (room.max() <= hungry.min() + 1)


def test_a_column_as_quota_is_a_balanced_one():
    found = picks(3, quota="kind")
    assert sorted(COLUMNS["kind"][i] or "" for i in found) == ["", "a", "b"]


def test_extend_grows_an_earlier_selection():
    earlier = pick(2)
    assert picks(4, extend=earlier) == picks(4)
    assert pick(4, extend=earlier).parameters["constraints"]["extend"] == 2
    assert picks(4, "longest", extend=earlier)[:2] == earlier.indices.tolist()
    assert picks(4, extend=earlier, must_include=[5, 0]) == [0, 3, 5, 2]


def test_an_earlier_selection_of_other_rows_is_refused():
    other = select_indices(features_of([{0}, {1, 2}, {3}]), 2, "greedy", seed=None)
    with pytest.raises(ValueError, match=r"from other rows: its pick 1, row 2, added 2 then and adds 1 now"):
        pick(3, extend=Selection(np.array([2, 1]), other.gains, other.round_starts, "greedy", other.parameters))


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"must_include": [6]}, "`must_include` has 6; it must be a row index from 0 to 5"),
        ({"must_include": [-1]}, "`must_include` has -1"),
        ({"must_include": [1.0]}, "`must_include` has 1.0"),
        ({"must_include": [2, 1, 2]}, "`must_include` has row 2 twice"),
        ({"must_include": 3}, "`must_include=3` must be a list of row indices"),
        ({"must_include": [0, 1, 2]}, "`must_include` and `extend` have 3 rows, but `budget=2`; raise it"),
        ({"exclude": "12"}, "`exclude='12'` must be a list of row indices"),
        ({"exclude": [1], "must_include": [1]}, "row 1 is in `exclude` and in `must_include` or `extend`"),
        ({"exclude": [0, 1, 2, 3, 4]}, "`budget=2` but the dataset has 1 rows; pass 1 to 1"),
        ({"quota": {"sort": {"a": 1}}}, "no column 'sort' (from `quota`); choose one of: kind, good, price"),
        ({"quota": {"kind": {"c": 1}}}, "`quota` has 'c', which is not in column `kind`; it has: 'a', 'b', None"),
        ({"quota": {"kind": {"a": -1}}}, "`quota` gives 'a' -1; it must be a non-negative integer"),
        ({"quota": {"kind": {"a": 1, "b": 0, None: 0}}}, "`quota` allows 1 rows, but `budget=2`; raise a quota"),
        ({"quota": {"kind": {"a": 0}}, "must_include": [0]}, "have more rows of 'a' than `quota` allows"),
        ({"quota": {"kind": 3}}, "`quota={'kind': 3}` must be {'column': {value: rows}}, of one column, or 'column'"),
        ({"quota": 3}, "`quota=3` must be"),
        ({"quality": "great"}, "no column 'great' (from `quality`)"),
        ({"quality": "kind"}, "column `kind` (from `quality`) is 'a' in row 0; it must be a non-negative number"),
        ({"method": "longest", "quality": "good"}, "`quality` makes no sense with `method='longest'`; leave it out"),
        ({"method": "random", "seed": 0, "per_token": 1}, "`per_token` makes no sense with `method='random'`"),
        ({"cost": "nothing"}, "no column 'nothing' (from `cost`)"),
        ({"cost": "good"}, "column `good` (from `cost`) is 0 in row 2; a cost must be above 0"),
        ({"cost": "price", "budget": 100}, "`budget=100` but all rows together have 9.5 price; pass at most that"),
        ({"cost": "price", "budget": -1}, "`budget=-1` must be an amount of price above 0"),
        ({"cost": "price", "must_include": [0]}, "`must_include` and `extend` cost 3 price, but `budget=2`; raise it"),
        ({"cost": "price", "budget": "3 tokens"}, "`budget='3 tokens'` counts tokens, but `cost='price'`"),
        ({"budget": "many tokens"}, "`budget='many tokens'` must be an amount such as '200k tokens'"),
        ({"per_token": -1}, "`per_token=-1` must be a finite number in [0, 10]"),
        ({"per_token": "1"}, "`per_token='1'` must be a finite number"),
        ({"method": lambda features, budget, rng: None, "exclude": [1]}, "`exclude` needs a method that obeys it"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_in_choose_and_before_encoding_in_select(asked, message):
    with pytest.raises((ValueError, TypeError)) as error:
        pick(**{"budget": 2, **asked})
    assert message in str(error.value)
    with pytest.raises((ValueError, TypeError)) as error:
        select(Dataset.from_dict(COLUMNS), sae="/no/such/folder", **{"budget": 2, "seed": None, **asked})
    assert message in str(error.value)


def test_what_names_a_column_needs_columns():
    with pytest.raises(ValueError, match=r"no column 'good' \(from `quality`\); .*: no columns: pass `columns="):
        pick(2, columns=None, quality="good")


@pytest.mark.parametrize(
    "text, amount, unit",
    [
        ("200k tokens", 200_000, "tokens"),
        ("1.5M chars in all", 1_500_000, "chars in all"),
        ("3_000 rows", 3000, None),
        ("2,500 rows", 2500, None),
        (" 7  b ", 7, "b"),
    ],
)
def test_a_budget_in_words(text, amount, unit):
    assert Budget.parse(text, None) == Budget(amount, unit, is_fraction=False)


def test_a_budget_that_is_no_text_is_left_as_it_is():
    assert Budget.parse(0.1, None) == Budget(0.1, None, is_fraction=True)
    assert Budget.parse(5, "chars") == Budget(5, "chars", is_fraction=False)
    assert Budget.parse(0.5, "chars") == Budget(0.5, "chars", is_fraction=True)


def test_a_rule_of_ones_own_may_obey_constraints():
    def rule(features, budget, rng, *, constraints):
        assert isinstance(constraints, Constraints)
        indices = constraints.pool[:budget]
        return Selection(indices, np.zeros(len(indices)), np.zeros(1, np.int64))

    assert picks(2, rule, exclude=[0]) == [1, 2]


# What a careful reader found


def test_a_fractional_budget_buys_what_costs_exactly_as_much():
    for costs, budget in (([0.3, 0.2, 0.1], "0.6 c"), ([0.7, 0.1, 0.1, 0.1], "1 c"), ([0.1] * 3, "0.3 c")):
        features = features_of([{i} for i in range(len(costs))])
        assert len(select_indices(features, budget, "greedy", columns={"c": costs})) == len(costs)


def test_the_better_of_two_selections_is_better_by_quality_too():
    columns = {"c": [1, 20], "q": [1, 19]}
    assert select_indices(
        features_of([{0}, {1}]), 20, "greedy", cost="c", quality="q", columns=columns
    ).indices.tolist() == [1]


def test_money_is_not_spent_on_blank_rows_nor_on_rows_that_add_nothing():
    features = features_of([{0}, set(), {1}, set()], tokens=[2, 0, 2, 5])
    assert sorted(select_indices(features, "10 tokens", "greedy").indices.tolist()) == [0, 2]
    assert 1 not in select_indices(features, "9 tokens", "random").indices


def test_money_left_over_beside_rows_that_it_would_buy_is_spoken_of():
    features = features_of([{0}, {0}], tokens=[2, 3])
    with pytest.warns(UserWarning, match=r"no row left to pick after 1, with 3 of 5 unspent; returning 1 rows"):
        select_indices(features, "5 tokens", "greedy", exhausted="stop", seed=None)


def test_excluded_rows_are_in_no_share_no_mean_and_no_fraction():
    rows = [{0, 1}, {0}, {2}, {0, 3}, {0, 4}]
    features = features_of(rows)
    there = features_of(rows[:3])
    for method, options in (("concave", {"by": "mass", "curve": "log"}), ("greedy", {"idf": True}), ("match", {})):
        without = select_indices(features, 3, method, exclude=[3, 4], seed=None, **options)
        alone = select_indices(there, 3, method, seed=None, **options)
        assert without.indices.tolist() == alone.indices.tolist()
        assert without.gains == pytest.approx(alone.gains)
    assert len(select_indices(features, 0.99, "greedy", exclude=[3, 4])) == 3
    assert features.rare(0.5, [3, 4]).counts.tolist() == [*there.rare(0.5).counts.tolist(), 1, 1]


def test_rows_of_no_quality_come_last_in_every_method():
    columns = {"q": [1, 0, 1, 0]}
    for method in set(METHODS) - {"longest"}:
        features = with_all(features_of([{0}, {0, 1, 2}, {1}, {3, 4, 5}]))
        asked = {"quality": "q", "columns": columns}
        assert set(select_indices(features, 3, method, **asked).indices[:2]) == {0, 2}
    drawn = {
        tuple(select_indices(features, 4, "random", seed=seed, quality="q", columns=columns).indices)
        for seed in range(9)
    }
    assert len(drawn) > 2


def test_a_selection_with_rows_of_no_quality_can_be_extended():
    columns = {"q": [1, 0, 1, 0]}
    for method in ("greedy", "match", "simscale", "facility_location"):
        features = with_all(features_of([{0}, {0, 1, 2}, {1}, {3, 4, 5}]))
        asked = {"quality": "q", "columns": columns, "seed": None}
        earlier = select_indices(features, 3, method, **asked)
        assert (
            select_indices(features, 4, method, extend=earlier, **asked).indices.tolist()
            == select_indices(features, 4, method, **asked).indices.tolist()
        )


def test_a_rule_without_rounds_extends_a_selection_of_several_as_one():
    features = with_all(features_of([{0, 1}, {0, 1}, {0, 1}]))
    earlier = select_indices(features, 2, "greedy", seed=None)
    assert earlier.round_starts.tolist() == [0, 1]
    assert select_indices(features, 3, "match", extend=earlier, seed=None).round_starts.tolist() == [0]


def test_all_missing_values_of_a_quota_are_one_value():
    nan = float("nan")
    columns = {"q": [nan, float("nan"), nan, "a"]}
    assert 3 in select_indices(features_of([{0}, {1}, {2}, {3}]), 2, "greedy", quota="q", columns=columns).indices


def test_a_column_of_another_length_is_refused():
    for asked in ({"quality": "q"}, {"cost": "q"}, {"quota": "q"}):
        with pytest.raises(ValueError, match=r"column `q` \(from `\w+`\) has 2 values, but there are 6 rows"):
            pick(2, columns={"q": [1, 2]}, **asked)


def test_rows_that_can_be_read_only_once_are_refused():
    with pytest.raises(TypeError, match="`must_include=<generator"):
        pick(2, must_include=(i for i in [5]))


def broken(features, budget, rng, *, constraints):
    return Selection(np.array([0]), np.zeros(1), np.zeros(1, np.int64))


@pytest.mark.parametrize("asked", [{"exclude": [0]}, {"must_include": [1]}, {"quota": {"kind": {"a": 0}}}])
def test_a_rule_of_ones_own_that_breaks_a_constraint_is_found_out(asked):
    with pytest.raises(ValueError, match="`method='broken'` returned rows that its `constraints` do not allow"):
        picks(2, broken, **asked)


def test_a_rule_whose_option_is_missing_says_which():
    with pytest.raises(TypeError, match="`method='<lambda>'` needs its option `k`; pass it by name"):
        picks(2, lambda features, budget, rng, *, k: None)


def test_a_budget_in_words_is_exact():
    assert Budget.parse("1.005M rows", None) == Budget(1_005_000, None, is_fraction=False)
    for text in ("1,5 tokens", "0.5 rows", "9" * 400 + " rows", "-3 tokens", "0 tokens"):
        with pytest.raises(ValueError, match=r"must be (an amount|a whole number of rows)"):
            Budget.parse(text, None)
