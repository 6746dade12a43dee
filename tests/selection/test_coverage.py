"""The coverage search against naive greedy and a naive scan, and on rows small enough to check by hand."""

import itertools
import math

import numpy as np
import pytest
from helpers.naive import count_gain, naive_greedy, naive_scan
from helpers.pools import features_of, pools, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select.features import kernels as counting
from hf_sae_select.selection import coverage, frontier, screen
from hf_sae_select.selection.constraints import Constraints

NOTHING = np.empty(0, np.int64)
FIVE = [{0, 1}, {1, 2, 3, 4}, {5}, {0, 1, 5}, set()]


@pytest.fixture(autouse=True)
def few_rows_of_a_step(monkeypatch):
    monkeypatch.setattr(frontier, "FEWEST", 2)  # so that small pools take several steps


def search(rows, order, budget, **pool):
    features = features_of(rows, **pool)
    csr = coverage.Csr(features.offsets[:-1], features.offsets[1:], features.ids, np.empty(0, np.float32))
    objective = coverage.count_objective(np.ones(features.d_sae), [1, 0])
    state = Constraints.none(len(rows)).state(np.array(order, np.int64))
    return coverage.new_search(csr, objective, features.frequency.copy(), state, budget)


def cover(rows, order, budget, restart, **pool):
    picks = coverage.greedy_cover(search(rows, order, budget, **pool), NOTHING, NOTHING, restart, NOTHING)
    assert all(part.dtype == np.int64 for part in picks)
    return tuple(part.tolist() for part in picks)


def scan(rows, order, budget, max_overlap, restart, nearest=False, **pool):
    new, order = search(rows, range(len(rows)), budget, **pool), np.array(order, np.int64)
    picks = coverage.scan(new, NOTHING, NOTHING, restart, NOTHING, order, float(max_overlap), nearest)
    assert all(part.dtype == np.int64 for part in picks)
    return tuple(part.tolist() for part in picks)


def naive_cover(rows, order, budget, restart):
    d_sae = 1 + max(set().union(*rows), default=0)
    return naive_greedy(count_gain(rows, [1] * d_sae, [1, 0]), order, budget, restart=restart)


def test_greedy_picks_the_row_with_the_most_uncovered_features_and_restarts_when_no_row_adds_any():
    # row 1 covers 1 2 3 4; row 3 adds 0 and 5; then no row adds anything: in a new round, row 0 precedes row 2
    assert cover(FIVE, range(5), 5, True) == ([1, 3, 0, 2], [4, 2, 2, 1], [0, 2])


def test_greedy_without_restart_stops_when_no_row_adds_a_feature():
    assert cover(FIVE, range(5), 5, False) == ([1, 3], [4, 2], [0])


def test_greedy_stops_at_the_budget():
    assert cover(FIVE, range(5), 1, True) == ([1], [4], [0])
    assert cover(FIVE, range(5), 0, True) == ([], [], [])


def test_greedy_breaks_ties_by_order():
    rows = [{0}, {1}, {2}]
    assert cover(rows, [2, 0, 1], 3, True) == ([2, 0, 1], [1, 1, 1], [0])


def test_scan_picks_every_row_that_adds_a_feature_when_any_overlap_is_allowed():
    # row 0 first; row 1 adds 2 3 4, row 2 adds 5, row 3 nothing: it waits for the next round
    assert scan(FIVE, range(5), 5, 1.0, True) == ([0, 1, 2, 3], [2, 3, 1, 3], [0, 3])


def test_scan_rejects_a_row_of_which_too_large_a_share_is_covered():
    # row 1 has 1 of 4 covered, row 3 has 3 of 3
    assert scan(FIVE, range(5), 5, 0.25, False) == ([0, 1, 2], [2, 3, 1], [0])
    assert scan(FIVE, range(5), 5, 0.24, False) == ([0, 2], [2, 1], [0])
    assert scan(FIVE, range(5), 5, 0.24, True) == ([0, 2, 1, 3], [2, 1, 4, 3], [0, 2, 3])


def test_scan_by_the_nearest_pick_accepts_a_row_that_only_the_union_of_picks_covers():
    rows = [{0, 1}, {2, 3}, {0, 2}]  # half of row 2 is in row 0 and half in row 1
    assert scan(rows, range(3), 3, 0.5, False, nearest=True) == ([0, 1, 2], [2, 2, 0], [0])
    assert scan(rows, range(3), 3, 0.5, False) == ([0, 1], [2, 2], [0])


def test_scan_accepts_a_share_of_exactly_max_overlap():
    rows = [{0, 1, 2}, {0, 1, 2, 3, 4}]  # 3 of 5 are covered, and 0.6 * 5 is not 3 in every arithmetic
    assert scan(rows, range(2), 2, 0.6, False) == ([0, 1], [3, 2], [0])
    assert scan(rows, range(2), 2, 0.6, False, nearest=True) == ([0, 1], [3, 2], [0])


def test_new_features_counts_what_each_row_adds():
    features = features_of(FIVE)
    new = counting.new_features(features.offsets, features.ids, features.d_sae, np.array([3, 1, 0, 4, 2]))
    assert new.tolist() == [3, 3, 0, 0, 0]


def test_mass_adds_up_the_shares_of_rows():
    features = features_of([{0, 1}, set(), {1}])
    amounts, rows = np.array([3, 1, 5], np.float32), np.array([0, 2])
    assert counting.mass(features.offsets, features.ids, amounts, rows, 3).tolist() == [0.75, 1.25, 0]


def test_shares_above_what_is_usual():
    features = features_of([{0, 1}, set(), {1}, {0, 2}])
    amounts = np.array([3, 1, 5, 0, 0], np.float32)  # shares: 3/4, 1/4, 1, and none of a row without any amount
    for usual, above in (
        ([0, 0, 0], [0.75, 0.25, 1, 0, 0]),
        ([0.5, 0.125, 0], [2 / 3, 1 / 3, 1, 0, 0]),
        ([0.5, 0.5, 0], [1, 0, 1, 0, 0]),
        ([0.75, 1, 0], [0.75, 0.25, 1, 0, 0]),  # nothing sets a row apart: it keeps all
        ([0.75, 1 - 1e-7, 0], [0.75, 0.25, 1, 0, 0]),  # no more than rounding may bring
    ):
        found = counting.shares_above(features.offsets, features.ids, amounts, np.array(usual, float))
        assert found.dtype == np.float32 and found == pytest.approx(np.array(above, np.float32))


@pytest.mark.parametrize("rows", [[], [set()]])
def test_nothing_is_picked_from_a_pool_without_features(rows):
    order = range(len(rows))
    assert cover(rows, order, 1, True) == ([], [], [])
    assert scan(rows, order, 1, 0.8, True) == ([], [], [])
    assert scan(rows, order, 1, 0.8, True, nearest=True) == ([], [], [])


def test_one_row_is_picked_once():
    assert cover([{3, 7}], [0], 1, True) == scan([{3, 7}], [0], 1, 0.8, True) == ([0], [2], [0])


@pytest.mark.parametrize("d_sae, dtype", [(1, np.uint16), (2**16, np.uint16), (2**16, np.uint32), (2**20, np.uint32)])
def test_the_last_feature_of_every_size_of_sae_counts(d_sae, dtype):
    rows, expected = [{0}, {0, d_sae - 1}, {d_sae - 1}], ([1, 0, 2], [2, 1, 1], [0, 1])
    if d_sae == 1:
        expected = ([0, 1, 2], [1, 1, 1], [0, 1, 2])
    assert cover(rows, range(3), 3, True, d_sae=d_sae, dtype=dtype) == expected
    assert scan(rows, range(3), 3, 1.0, True, d_sae=d_sae, dtype=dtype) == naive_scan(rows, range(3), 3, 1.0, True)


@thoroughly
@given(pools, st.randoms(use_true_random=False), st.integers(0, 10), st.booleans())
def test_greedy_equals_naive_greedy_pick_by_pick(rows, random, budget, restart):
    order = random.sample(range(len(rows)), len(rows))
    assert cover(rows, order, budget, restart) == naive_cover(rows, order, budget, restart)


@thoroughly
@given(pools, st.randoms(use_true_random=False), st.integers(0, 10), st.sampled_from([0, 0.2, 0.5, 0.8, 1]))
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("nearest", [False, True])
def test_scan_equals_the_naive_scan_pick_by_pick(restart, nearest, rows, random, budget, overlap):
    order = random.sample(range(len(rows)), len(rows))
    expected = naive_scan(rows, order, budget, overlap, restart, nearest)
    assert scan(rows, order, budget, overlap, restart, nearest) == expected


@pytest.mark.parametrize("overlap", [0, 0.3, 0.8, 1])
@pytest.mark.parametrize("common", [0, 0.25, 1])
@pytest.mark.parametrize("patience", [0, 1, 20])
def test_the_picks_of_a_scan_do_not_depend_on_when_it_asks_a_screen(overlap, common, patience, monkeypatch):
    rng = np.random.default_rng(0)
    rows = [set(rng.zipf(1.3, size=rng.integers(0, 60)).clip(0, 299).tolist()) for _ in range(300)]
    order = rng.permutation(300).tolist()
    monkeypatch.setattr(coverage, "SCANS_BEFORE_SCREEN", -1)
    monkeypatch.setattr(coverage, "PATIENCE", patience)
    monkeypatch.setattr(screen, "COMMON", common)
    monkeypatch.setattr(counting, "FEW_IDS", 10)  # several threads
    monkeypatch.setattr(counting, "cores", lambda: 3)
    expected = naive_scan([row | {299} for row in rows], order, 200, overlap, True)
    assert scan([row | {299} for row in rows], order, 200, overlap, True, d_sae=300) == expected


def test_a_screen_lets_pass_what_may_add_enough():
    features = features_of([{0, 1, 2}, {0, 1}, {0, 3}, {0}, set()])
    csr = coverage.Csr(features.offsets[:-1], features.offsets[1:], features.ids, np.empty(0, np.float32))
    some = screen.Screen.of(csr, features.frequency, [(0, 2), (2, 5)])
    value, totals = np.ones(16, np.uint8), features.counts
    assert some.is_rare.tolist() == [False, False] + [True] * 14  # 4 and 2 of 5 rows have features 0 and 1
    value[[1, 2]] = 0
    # Row 1 adds feature 0, and row 3 too; of row 0 two of three features are covered.
    assert some.passing(value, np.array([4, 2, 1, 0]), totals, 0.5).tolist() == [2, 1]
    value[0] = 0
    assert some.passing(value, np.array([4, 2, 1, 0, 3]), totals, 0.5).tolist() == [2]


@pytest.mark.parametrize("fewest", [1, 10, 64])
@pytest.mark.parametrize("share", [0.0, 0.5, 10.0])
def test_the_picks_do_not_depend_on_how_many_rows_are_looked_at_and_when_they_are_compacted(
    share, fewest, monkeypatch
):
    rng = np.random.default_rng(0)
    rows = [set(rng.zipf(1.3, size=rng.integers(0, 60)).clip(0, 299).tolist()) for _ in range(300)]
    order = rng.permutation(300).tolist()
    monkeypatch.setattr(coverage, "READ_SHARE", share)
    monkeypatch.setattr(frontier, "FEWEST", fewest)
    monkeypatch.setattr(counting, "FEW_IDS", 10)  # several threads
    monkeypatch.setattr(counting, "cores", lambda: 3)
    assert cover(rows, order, 200, True, d_sae=300) == naive_cover(rows, order, 200, True)


@thoroughly
@given(pools)
def test_gains_never_grow_within_a_round_of_greedy(rows):
    _, gains, starts = cover(rows, range(len(rows)), len(rows), True)
    for start, end in itertools.pairwise([*starts, len(gains)]):
        assert gains[start:end] == sorted(gains[start:end], reverse=True)


@thoroughly
@given(pools.filter(lambda rows: len(rows) <= 8), st.integers(1, 4))
def test_greedy_covers_at_least_1_minus_1_over_e_of_the_best_subset(rows, budget):
    _, gains, _ = cover(rows, range(len(rows)), budget, False)
    best = max(
        (len(set().union(*subset)) for subset in itertools.combinations(rows, min(budget, len(rows)))), default=0
    )
    assert sum(gains) >= (1 - 1 / math.e) * best
