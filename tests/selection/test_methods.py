import functools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset
from helpers.pools import features_of, pools, thoroughly, with_all
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import METHODS, Selection, select, select_indices
from hf_sae_select.features.metrics import coverage
from hf_sae_select.selection.budget import Budget
from hf_sae_select.selection.methods import longest

FIVE = [{0, 1}, {1, 2, 3, 4}, {5}, {0, 1, 5}, set()]
ALIKE = [{i} for i in range(8)]  # eight rows of equal worth: the seed decides

# methods that go by the features that rows have, whose gains are new features
COUNTING = [
    ("greedy", {}),
    ("simscale", {}),
    ("simscale", {"order": "shuffled", "max_overlap": 0.2}),
    ("simscale", {"order": "given"}),
    ("simscale", {"against": "nearest", "max_overlap": 0.5}),
    ("instag", {}),
    ("random", {}),
    ("longest", {}),
    ("repr_filter", {}),
    ("repr_filter", {"max_similarity": 0.2}),
]
EVERY_OPTION = [
    *COUNTING,
    ("greedy", {"idf": True}),
    ("weighted", {}),
    ("concave", {}),
    ("concave", {"by": "mass", "curve": "log"}),
    ("match", {}),
    ("facility_location", {}),
    ("facility_location", {"center": False}),
    ("kcenter", {}),
]


def picks(rows, budget, method="greedy", *, tokens=None, seed=None, **options):
    selection = select_indices(with_all(features_of(rows, tokens=tokens)), budget, method, seed=seed, **options)
    assert selection.indices.dtype == selection.round_starts.dtype == selection.covered.dtype == np.int64
    return selection.indices.tolist(), selection.gains.tolist(), selection.round_starts.tolist()


# The rules


def test_greedy_restarts_when_no_row_adds_a_feature_and_takes_rows_without_features_last():
    assert picks(FIVE, 5) == ([1, 3, 0, 2, 4], [4, 2, 2, 1, 0], [0, 2])


def test_instag_takes_the_richest_row_then_every_row_that_adds_a_feature():
    # row 1 is the richest; row 3 adds 0 and 5; rows 0 and 2 add nothing: a new round
    assert picks(FIVE, 5, "instag") == ([1, 3, 0, 2, 4], [4, 2, 2, 1, 0], [0, 2])


def test_the_two_readings_of_greedy_differ():
    rows = [{0, 1, 2, 3}, {0, 1, 4}, {5, 6}]
    assert picks(rows, 2, "greedy")[0] == [0, 2]  # row 2 adds two features, row 1 only one
    assert picks(rows, 2, "instag")[0] == [0, 1]  # row 1 is richer, and adds one


def test_idf_makes_a_rare_feature_outweigh_a_common_one():
    rows = [{0, 1}, {0, 1}, {2}, {0, 1}]  # 0 and 1 are in three rows of four, 2 in one
    assert picks(rows, 2)[0] == [0, 2]
    indices, gains, _ = picks(rows, 2, idf=True)
    assert indices == [2, 0]
    assert gains == pytest.approx([math.log(4), 2 * math.log(4 / 3)])


def test_weighted_takes_what_the_pool_is_about_before_what_is_new():
    rows = [{0}, {0}, {0}, {1, 2}]  # three quarters of the mass are on 0
    indices, gains, _ = picks(rows, 2, "weighted")
    assert indices == [0, 3]
    assert gains == pytest.approx([0.75, 0.25])
    assert picks(rows, 1, "greedy")[0] == [3]


def test_concave_goes_on_counting_a_feature_that_is_covered():
    rows = [{0, 1}, {0}, {2}]
    indices, gains, starts = picks(rows, 3, "concave")
    assert (indices, starts) == ([0, 2, 1], [0])
    assert gains == pytest.approx([2, 1, math.sqrt(2) - 1])
    assert picks(rows, 3, "concave", curve="log")[1] == pytest.approx([2 * math.log(2), math.log(2), math.log(3 / 2)])


def test_concave_by_mass_adds_up_activations_in_units_of_their_mean():
    features = replace(features_of([{0}, {0}, {1}]), acts=np.array([1, 1, 4], np.float32))  # the mean is 2
    selection = select_indices(features, 3, "concave", by="mass", seed=None)
    assert selection.indices.tolist() == [2, 0, 1]
    assert selection.gains == pytest.approx([math.sqrt(2), math.sqrt(0.5), 1 - math.sqrt(0.5)])


def test_rows_whose_gains_are_almost_equal_are_picked_by_them():
    features = features_of([set(range(6)), set(range(6, 12)), set(range(12, 18))], d_sae=18)
    features = replace(features, acts=np.repeat(np.array([1, 1.000001, 1.000002], np.float32), 6))
    assert select_indices(features, 3, "concave", by="mass", seed=None).indices.tolist() == [2, 1, 0]


def test_match_goes_by_what_sets_a_row_apart_from_the_pool():
    rows = [{0, 1}, {0, 1}, {0, 2}]  # all on 1 or all on 2, since all have 0
    indices, gains, starts = picks(rows, 3, "match")
    assert (indices, starts) == ([0, 2, 1], [0])
    assert gains == pytest.approx([math.sqrt(2), 1, 2 - math.sqrt(2)])
    assert picks(rows, 2, "match")[0] == [0, 2]


def test_match_picks_rows_in_the_pools_proportions_and_what_all_have_does_not_matter():
    rows = [{0, 1}] * 6 + [{0, 2}] * 3  # two thirds of the pool are on 1
    for budget in (3, 6, 9):
        assert sum(i < 6 for i in picks(rows, budget, "match")[0]) == budget * 2 / 3
    indices, gains, starts = picks([row - {0} for row in rows], 9, "match")
    assert picks(rows, 9, "match") == (indices, pytest.approx(gains), starts)
    assert gains[0] == pytest.approx(math.sqrt(6)) and starts == [0]


def test_match_takes_rows_that_are_all_alike_in_their_order():
    features = replace(features_of([{0, 1, 2}] * 100), acts=np.array([0.1, 0.7, 0.3] * 100, np.float32))
    selection = select_indices(features, 40, "match", seed=None)
    assert selection.indices.tolist() == list(range(40))
    assert selection.gains.sum() == pytest.approx(math.sqrt(100 * 40))  # they go by all their shares, three in all 1
    assert picks([{3}], 1, "match") == ([0], [1], [0])
    assert len(select_indices(features_of([{0}] * 3, tokens=[2, 2, 2]), "4 tokens")) == 2


def test_match_does_not_mind_blank_rows():
    rows = [{0, 1, 3}, {1, 3}, {3}, {0}]
    assert picks(rows, 2, "match")[0] == picks([*rows, set(), set()], 2, "match")[0] == [1, 3]


def test_match_takes_a_row_without_features_last():
    indices, gains, _ = picks([set(), {0, 1}, {0, 2}], 3, "match", tokens=[0, 3, 3])
    assert indices == [1, 2, 0] and gains[2] == 0


def test_match_weighs_a_long_row_as_a_short_one_of_the_same_mix():
    short, long = [1, 4], [10, 40]
    for acts in ([*short, *long, 1, 1], [*long, *short, 1, 1]):
        features = replace(features_of([{0, 1}, {0, 1}, {0, 2}]), acts=np.array(acts, np.float32))
        selection = select_indices(features, 3, "match", seed=None)
        assert selection.indices.tolist() == [0, 2, 1]  # of the first two, which are equals, the first
        assert selection.gains == pytest.approx([math.sqrt(2), 1, 2 - math.sqrt(2)])


def test_facility_location_stands_for_the_many_and_kcenter_goes_for_the_far():
    rows = [{0, 1}, {0, 1}, {0, 1}, {0, 2}, {5}]
    assert picks(rows, 2, "facility_location", center=False)[0] == [0, 4]
    assert picks(rows, 2, "facility_location", center=False)[1] == pytest.approx([3.5, 1], abs=1e-3)
    assert picks(rows, 3, "kcenter", center=False)[0] == [0, 4, 3]
    assert picks(rows, 3, "kcenter", center=False)[1] == pytest.approx([2, 1, 0.5], abs=1e-3)


def test_repr_filter_passes_over_near_duplicates_and_takes_the_best_first():
    rows = [{0, 1}, {0, 1, 2}, {3}]  # rows 0 and 1 have a cosine of 0.82
    columns = {"score": [1, 2, 3]}
    asked = {"quality": "score", "columns": columns, "max_similarity": 0.8}
    assert picks(rows, 3, "repr_filter", **asked) == ([2, 1, 0], [1, 3, 2], [0, 2])
    with pytest.warns(UserWarning, match="returning 2 rows"):
        assert picks(rows, 3, "repr_filter", **asked, exhausted="stop")[0] == [2, 1]


def test_a_method_that_compares_vectors_says_where_to_get_them():
    with pytest.raises(ValueError, match=r"pass `embedding='column'`, or encode with `keep='state'`"):
        select_indices(features_of(FIVE), 2, "kcenter")


def test_simscale_refuses_a_row_with_more_than_max_overlap_covered():
    rows = [{0, 1, 2, 3}, {0, 1, 4}, {5, 6}]  # 2 of the 3 features of row 1 are covered
    assert picks(rows, 3, "simscale", max_overlap=0.7) == ([0, 1, 2], [4, 1, 2], [0])
    assert picks(rows, 3, "simscale", max_overlap=0.6) == ([0, 2, 1], [4, 2, 3], [0, 2])


def test_simscale_scans_in_the_order_asked_for():
    rows = [{0}, {0, 1}, {2, 3, 4}]
    assert picks(rows, 3, "simscale", order="richest") == ([2, 1, 0], [3, 2, 1], [0, 2])
    assert picks(rows, 3, "simscale", order="given") == ([0, 1, 2], [1, 1, 3], [0])
    assert picks(rows, 3, "simscale", order="given", seed=5) == ([0, 1, 2], [1, 1, 3], [0])
    shuffled = np.random.default_rng(5).permutation(8).tolist()
    assert picks(ALIKE, 8, "simscale", order="shuffled", seed=5)[0] == shuffled


def test_longest_takes_the_most_tokens_first_and_blank_rows_last():
    assert picks(FIVE, 5, "longest", tokens=[3, 5, 0, 9, 5]) == ([3, 1, 4, 0, 2], [3, 3, 0, 0, 0], [0])


def test_random_takes_the_seeds_permutation_and_blank_rows_last():
    order = np.random.default_rng(7).permutation(8).tolist()
    assert picks(ALIKE, 8, "random", seed=7) == (order, [1] * 8, [0])
    blank = [order[0]]
    tokens = [0 if i in blank else 1 for i in range(8)]
    assert picks(ALIKE, 8, "random", seed=7, tokens=tokens)[0] == order[1:] + blank


@pytest.mark.parametrize("method", ["greedy", "simscale"])
def test_of_the_rows_without_features_blank_ones_come_last(method):
    assert picks([set(), set(), {3}], 3, method, tokens=[0, 4, 4]) == ([2, 1, 0], [1, 0, 0], [0])


@pytest.mark.parametrize("method, options", EVERY_OPTION)
def test_a_pool_without_any_feature_still_fills_the_budget(method, options):
    assert picks([set(), set()], 2, method, seed=0, tokens=[0, 4], **options) == ([1, 0], [0, 0], [0])


@pytest.mark.parametrize("method, options", EVERY_OPTION)
def test_the_seed_orders_equal_rows_and_none_keeps_their_order(method, options):
    orders = {tuple(picks(ALIKE, 8, method, seed=seed, **options)[0]) for seed in range(5)}
    assert len(orders) == (1 if options.get("order") == "given" else 5)
    if method != "random" and options.get("order") != "shuffled":
        assert picks(ALIKE, 8, method, **options)[0] == list(range(8))


@pytest.mark.parametrize("method, options", EVERY_OPTION)
@thoroughly
@given(rows=pools.filter(len), seed=st.integers(0, 3))
def test_a_budget_is_a_prefix_of_the_next_and_no_row_comes_twice(method, options, rows, seed):
    indices, gains, starts = picks(rows, len(rows), method, seed=seed, **options)
    assert sorted(indices) == list(range(len(rows)))
    for budget in range(1, len(rows)):
        starts_so_far = [start for start in starts if start < budget]
        expected = indices[:budget], gains[:budget], starts_so_far
        assert picks(rows, budget, method, seed=seed, **options) == expected


@pytest.mark.parametrize("method, options", COUNTING)
@thoroughly
@given(rows=pools.filter(len))
def test_the_gains_of_a_round_add_up_to_what_its_rows_cover(method, options, rows):
    indices, gains, starts = picks(rows, len(rows), method, seed=0, **options)
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        assert sum(gains[start:end]) == coverage(features_of(rows), indices[start:end])


# select_indices


@pytest.mark.parametrize("method", ["greedy", "simscale"])
def test_stop_returns_fewer_rows_and_says_so(method):
    with pytest.warns(UserWarning, match="`exhausted='stop'`: no row left to pick after 2 of 5; returning 2 rows"):
        assert picks(FIVE, 5, method, exhausted="stop") == ([1, 3], [4, 2], [0])


def test_stop_without_any_feature_returns_no_row():
    with pytest.warns(UserWarning, match="returning 0 rows"):
        assert picks([set()], 1, exhausted="stop") == ([], [], [])


def test_the_receipt_names_every_parameter_also_those_left_at_their_default():
    selection = select_indices(features_of(FIVE), 0.4, "simscale", seed=np.int64(3), max_overlap=np.float64(0.5))
    assert selection.method == "simscale"
    assert selection.parameters == {
        "budget": 2,
        "seed": 3,
        "options": {"max_overlap": 0.5, "against": "union", "order": "richest", "exhausted": "restart"},
        "constraints": {},
        "cuts": {},
        "encoding": {},
    }
    assert json.loads(json.dumps(selection.parameters)) == selection.parameters
    assert len(selection) == 2


def test_a_rule_of_ones_own_is_a_method():
    def last(features, budget, rng, *, skip=0):
        indices = np.arange(len(features))[::-1][skip : skip + budget]
        return Selection(indices, np.zeros(budget, np.int64), np.zeros(1, np.int64))

    selection = select_indices(features_of(FIVE), 2, last, skip=1)
    assert selection.indices.tolist() == [3, 2]
    assert (selection.method, selection.parameters["options"]) == ("last", {"skip": 1})
    stopping = functools.partial(METHODS["greedy"].function, exhausted="stop")
    assert select_indices(features_of(FIVE), 2, stopping, exclude=[3]).parameters["options"]["exhausted"] == "stop"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"method": "gready"}, "unknown `method='gready'`; choose one of: concave, facility_location, greedy"),
        ({"method": 7}, "unknown `method=7`"),
        ({"idf": True}, "unknown option `idf` for `method='herding'`; it takes: candidates, redundancy, width"),
        ({"method": "greedy", "foo": 1}, "unknown option `foo` for `method='greedy'`; it takes: exhausted, idf"),
        ({"method": "longest", "idf": True}, "unknown option `idf` for `method='longest'`; it takes: no option"),
        ({"method": "greedy", "idf": "yes"}, "`idf='yes'` must be True or False"),
        ({"method": "weighted", "mass": "max"}, "unknown option `mass` for `method='weighted'`"),
        ({"method": "concave", "curve": "cube"}, "unknown `curve='cube'`; choose one of: sqrt, log"),
        ({"method": "concave", "by": "row"}, "unknown `by='row'`; choose one of: count, mass"),
        ({"method": "simscale", "against": "all"}, "unknown `against='all'`; choose one of: union, nearest"),
        ({"method": "repr_filter", "max_similarity": 2}, "`max_similarity=2` must be a finite number in [-1, 1]"),
        ({"method": "kcenter", "center": 1}, "`center=1` must be True or False"),
        ({"method": "greedy", "exhausted": "panic"}, "unknown `exhausted='panic'`; choose one of: restart, stop"),
        ({"method": "simscale", "exhausted": None}, "unknown `exhausted=None`"),
        ({"method": "simscale", "order": "poorest"}, "`order='poorest'`; choose one of: richest, shuffled, given"),
        ({"method": "simscale", "max_overlap": 1.1}, "`max_overlap=1.1` must be a finite number in [0, 1]"),
        ({"method": "simscale", "max_overlap": float("nan")}, "`max_overlap=nan` must be"),
        ({"method": "simscale", "max_overlap": True}, "`max_overlap=True` must be"),
        ({"method": "simscale", "max_overlap": "0.8"}, "`max_overlap='0.8'` must be"),
        ({"method": "simscale", "order": "shuffled", "seed": None}, "`seed=None`, but `method='simscale'`"),
        ({"method": "random", "seed": None}, "`seed=None`, but `method='random'`"),
        ({"seed": -1}, "`seed=-1` must be a non-negative integer, or None"),
        ({"seed": True}, "`seed=True` must be"),
        ({"seed": 1.5}, "`seed=1.5` must be"),
        ({"budget": 0}, "`budget=0` but the dataset has 5 rows; pass 1 to 5"),
    ],
)
def test_what_a_method_cannot_do_is_refused_in_choose_and_before_encoding_in_select(arguments, message):
    with pytest.raises((ValueError, TypeError)) as error:
        select_indices(features_of(FIVE), **{"budget": 3, **arguments})
    assert message in str(error.value)
    with pytest.raises((ValueError, TypeError)) as error:
        select(Dataset.from_dict({"no text": [1] * 5}), sae="/no/such/folder", **{"budget": 3, **arguments})
    assert message in str(error.value)


# The budget


@pytest.mark.parametrize(
    "budget, rows",
    [
        (1, 1),
        (3201, 3201),
        (np.int32(7), 7),
        (0.1, 320),
        (0.0002, 1),
        ("10%", 320),
        ("100%", 3201),
        (0.99999, 3201),
        (np.float32(0.5), 1600),
    ],
)
def test_a_budget_is_a_number_of_rows_or_a_fraction(budget, rows):
    allowed = Budget.parse(budget, None).rows(3201)
    assert allowed == rows and type(allowed) is int


@pytest.mark.parametrize(
    "budget, error, message",
    [
        (5000, ValueError, "`budget=5000` but the dataset has 3,201 rows; pass 1 to 3201, or a fraction such as 0.1"),
        (0, ValueError, "`budget=0` but"),
        (-1, ValueError, "`budget=-1` but"),
        (0.0, ValueError, "`budget=0.0` must be a fraction between 0 and 1"),
        (1.0, ValueError, "`budget=1.0` must be"),
        (3000.0, ValueError, "`budget=3000.0` must be"),
        (float("nan"), ValueError, "`budget=nan` must be"),
        (True, TypeError, "`budget=True` must be a number of rows, a fraction such as 0.1, or '200k tokens'"),
        (0.00001, ValueError, "`budget=1e-05` of 3,201 rows is no row; pass at least 0.000313, or the number 1"),
        ("101%", ValueError, "`budget='101%'` is more than all; pass at most '100%'"),
        ("", ValueError, "`budget=''` must be an amount such as '200k tokens', '3000 rows' or '10%'"),
        (None, TypeError, "`budget=None` must be"),
    ],
)
def test_what_is_no_budget_is_refused(budget, error, message):
    with pytest.raises(error) as raised:
        Budget.parse(budget, None).rows(3201)
    assert message in str(raised.value)


def test_an_empty_pool_has_nothing_to_choose():
    with pytest.raises(ValueError, match="the dataset is empty"):
        select_indices(features_of([]), 1)
    assert len(longest(features_of([]), 0, None)) == 0
