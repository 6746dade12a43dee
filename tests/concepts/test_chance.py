"""Chance: tails by exact counting, q-values by hand, and the interval of a lift by trying ratios."""

from math import exp, inf, isnan, log

import numpy as np
import pytest
from helpers.naive import exact_tail

from hf_sae_select.concepts.chance import (
    adjusted,
    lift_intervals,
    lifts,
    log_likelihood_ratios,
    tails,
)

SMALL = [(count, n, other, m) for n in (1, 3) for m in (2, 7) for count in range(n + 1) for other in range(m + 1)]


def intervals(count, n, other, m):
    low, high = lift_intervals(np.array([count]), n, np.array([other]), m)
    return low[0], high[0]


def test_chance_of_large_numbers():
    n, k, holders, count = 2000, 300, 500, 60
    assert tails(n, k, np.array([holders]), np.array([count])) == pytest.approx(exact_tail(n, k, holders, count))


def test_q_values_are_those_of_benjamini_and_hochberg():
    assert adjusted(np.array([0.01, 0.04, 0.03, 0.5])) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert adjusted(np.array([])).tolist() == []


def test_a_lift_is_the_ratio_of_shares():
    lift = lifts(np.array([2, 0, 1, 0]), 4, np.array([1, 1, 0, 0]), 8)
    assert lift[:3].tolist() == [4, 0, inf] and isnan(lift[3])


def test_the_interval_that_koopman_published():
    assert intervals(36, 40, 16, 80) == pytest.approx((2.94, 7.15), abs=0.005)


def statistic(ratio, count, n, other, m):
    """Return the score statistic of a ratio, with the most likely shares by ternary search."""

    def likelihood(p):
        parts = ((count, ratio * p), (n - count, 1 - ratio * p), (other, p), (m - other, 1 - p))
        return sum(part * log(max(share, 1e-300)) for part, share in parts if part)

    low, high = 0.0, min(1.0, 1 / ratio)
    for _ in range(200):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        low, high = (first, high) if likelihood(first) < likelihood(second) else (low, second)
    p = (low + high) / 2
    parts = ((count, n, ratio * p), (other, m, p))
    return sum((part - size * share) ** 2 / max(size * share * (1 - share), 1e-300) for part, size, share in parts)


@pytest.mark.parametrize("counts", SMALL)
def test_an_interval_holds_the_ratios_that_are_not_rejected(counts):
    count, _, other, _ = counts
    low, high = intervals(*counts)
    assert (low == 0) == (count == 0) and (high == inf) == (other == 0)
    for end, outward in ((low, exp(-0.01)), (high, exp(0.01))):
        if 0 < end < inf:
            assert statistic(end / outward, *counts) < 3.8415 < statistic(end * outward, *counts)


@pytest.mark.parametrize("counts", SMALL)
def test_the_other_way_round_the_interval_is_the_inverse(counts):
    count, n, other, m = counts
    low, high = intervals(*counts)
    other_low, other_high = intervals(other, m, count, n)
    assert other_low == pytest.approx(1 / high if high else inf)
    assert other_high == pytest.approx(1 / low if low else inf)


def test_intervals_of_very_many_rows_stay_numbers():
    low, high = intervals(10**6, 10**6, 3, 10**9)
    assert 1e7 < low < 1e9 / 3 < high < 1e10
    assert intervals(10**6, 10**6, 10**9, 10**9) == pytest.approx((1, 1), abs=1e-5)


def test_the_interval_covers_the_true_lift_in_about_95_of_100_draws():
    rng = np.random.default_rng(0)
    counts, others = rng.binomial(20, 0.3, 4000), rng.binomial(200, 0.1, 4000)
    lows, highs = lift_intervals(counts, 20, others, 200)
    assert 0.93 < np.mean((lows <= 3) & (highs >= 3)) < 0.97


def test_a_log_likelihood_ratio_by_hand():
    # 3 of 4 rows against 1 of 4: half of all
    expected = 2 * (3 * log(1.5) + 1 * log(0.5) + 1 * log(0.5) + 3 * log(1.5))
    ratios = log_likelihood_ratios(np.array([3, 2, 0]), 4, np.array([1, 2, 0]), 4)
    assert ratios == pytest.approx([expected, 0, 0])
