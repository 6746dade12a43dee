import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools import features_of, pools, thoroughly

from hf_sae_select.coverage import gains_in_order, greedy_cover, scan


def naive_greedy(rows, order, budget, restart):
    left, covered, picks, gains, starts = [i for i in order if rows[i]], set(), [], [], []
    while left and len(picks) < budget:
        if not picks or not any(rows[i] - covered for i in left):
            if picks and not restart:
                break
            covered = set()
            starts.append(len(picks))
        best = max(left, key=lambda i: len(rows[i] - covered))  # of equal rows the first
        picks.append(best)
        gains.append(len(rows[best] - covered))
        covered |= rows[best]
        left.remove(best)
    return picks, gains, starts


def naive_scan(rows, order, budget, max_overlap, restart):
    left, picks, gains, starts = [i for i in order if rows[i]], [], [], []
    while left and len(picks) < budget and (restart or not picks):
        covered = set()
        starts.append(len(picks))
        for i in list(left):
            new = rows[i] - covered
            if new and len(rows[i] & covered) / len(rows[i]) <= max_overlap and len(picks) < budget:
                picks.append(i)
                gains.append(len(new))
                covered |= rows[i]
                left.remove(i)
    return picks, gains, starts


def run(kernel, rows, order, *arguments, **pool):
    features = features_of(rows, **pool)
    result = kernel(features.offsets, features.ids, features.d_sae, np.array(order, np.int64), *arguments)
    assert all(part.dtype == np.int64 for part in result)
    return tuple(part.tolist() for part in result)


FIVE = [{0, 1}, {1, 2, 3, 4}, {5}, {0, 1, 5}, set()]


def test_greedy_picks_the_row_with_the_most_uncovered_features_and_begins_again_when_none_adds_any():
    # row 1 covers 1 2 3 4; row 3 adds 0 and 5; now nothing adds anything: a new round, row 0 before row 2
    assert run(greedy_cover, FIVE, range(5), 5, True) == ([1, 3, 0, 2], [4, 2, 2, 1], [0, 2])


def test_greedy_without_restart_stops_when_no_row_adds_a_feature():
    assert run(greedy_cover, FIVE, range(5), 5, False) == ([1, 3], [4, 2], [0])


def test_greedy_stops_at_the_budget():
    assert run(greedy_cover, FIVE, range(5), 1, True) == ([1], [4], [0])
    assert run(greedy_cover, FIVE, range(5), 0, True) == ([], [], [])


def test_greedy_breaks_ties_by_the_given_order():
    rows = [{0}, {1}, {2}]
    assert run(greedy_cover, rows, [2, 0, 1], 3, True) == ([2, 0, 1], [1, 1, 1], [0])


def test_scan_picks_every_row_that_adds_a_feature_where_any_overlap_is_allowed():
    # row 0 first; row 1 adds 2 3 4, row 2 adds 5, row 3 nothing: it waits for the next round
    assert run(scan, FIVE, range(5), 5, 1.0, True) == ([0, 1, 2, 3], [2, 3, 1, 3], [0, 3])


def test_scan_refuses_a_row_with_too_large_a_share_covered():
    # row 1 has 1 of 4 covered, row 3 has 3 of 3
    assert run(scan, FIVE, range(5), 5, 0.25, False) == ([0, 1, 2], [2, 3, 1], [0])
    assert run(scan, FIVE, range(5), 5, 0.24, False) == ([0, 2], [2, 1], [0])
    assert run(scan, FIVE, range(5), 5, 0.24, True) == ([0, 2, 1, 3], [2, 1, 4, 3], [0, 2, 3])


def test_scan_accepts_a_share_of_exactly_max_overlap():
    rows = [{0, 1, 2}, {0, 1, 2, 3, 4}]  # 3 of 5 are covered, and 0.6 * 5 is not 3 in every arithmetic
    assert run(scan, rows, range(2), 2, 0.6, False) == ([0, 1], [3, 2], [0])


def test_gains_in_order_counts_what_each_row_adds():
    assert run(lambda *csr: (gains_in_order(*csr),), FIVE, [3, 1, 0, 4, 2]) == ([3, 3, 0, 0, 0],)


@pytest.mark.parametrize("rows", [[], [set()]])
def test_nothing_is_picked_from_a_pool_without_features(rows):
    order = range(len(rows))
    assert run(greedy_cover, rows, order, 1, True) == ([], [], [])
    assert run(scan, rows, order, 1, 0.8, True) == ([], [], [])


@pytest.mark.parametrize("kernel, options", [(greedy_cover, []), (scan, [0.8])])
def test_one_row_is_picked_once(kernel, options):
    assert run(kernel, [{3, 7}], [0], 1, *options, True) == ([0], [2], [0])


@pytest.mark.parametrize("d_sae, dtype", [(1, np.uint16), (2**16, np.uint16), (2**16, np.uint32), (2**20, np.uint32)])
def test_the_last_feature_of_every_size_of_sae_counts(d_sae, dtype):
    rows = [{0}, {0, d_sae - 1}, {d_sae - 1}]
    expected = naive_greedy(rows, range(3), 3, True)
    assert run(greedy_cover, rows, range(3), 3, True, d_sae=d_sae, dtype=dtype) == expected
    assert run(scan, rows, range(3), 3, 1.0, True, d_sae=d_sae, dtype=dtype) == naive_scan(
        rows, range(3), 3, 1.0, True
    )


@thoroughly
@given(pools, st.randoms(use_true_random=False), st.integers(0, 10), st.booleans())
def test_greedy_equals_naive_greedy_pick_by_pick(rows, random, budget, restart):
    order = random.sample(range(len(rows)), len(rows))
    assert run(greedy_cover, rows, order, budget, restart) == naive_greedy(rows, order, budget, restart)


@thoroughly
@given(
    pools, st.randoms(use_true_random=False), st.integers(0, 10), st.sampled_from([0, 0.2, 0.5, 0.8, 1]), st.booleans()
)
def test_scan_equals_the_naive_scan_pick_by_pick(rows, random, budget, overlap, restart):
    order = random.sample(range(len(rows)), len(rows))
    expected = naive_scan(rows, order, budget, overlap, restart)
    assert run(scan, rows, order, budget, float(overlap), restart) == expected


@thoroughly
@given(pools)
def test_gains_never_grow_within_a_round_of_greedy(rows):
    _, gains, starts = run(greedy_cover, rows, range(len(rows)), len(rows), True)
    for start, end in itertools.pairwise([*starts, len(gains)]):
        assert gains[start:end] == sorted(gains[start:end], reverse=True)


@thoroughly
@given(pools.filter(lambda rows: len(rows) <= 8), st.integers(1, 4))
def test_greedy_covers_at_least_1_minus_1_over_e_of_the_best_subset(rows, budget):
    _, gains, _ = run(greedy_cover, rows, range(len(rows)), budget, False)
    best = max(
        (len(set().union(*subset)) for subset in itertools.combinations(rows, min(budget, len(rows)))), default=0
    )
    assert sum(gains) >= (1 - 1 / math.e) * best
