"""Chance: how far the shares of rows that have a feature differ by chance alone.

Where `k` rows are drawn from `n` without replacement, the number of them that have a feature is hypergeometric. Two
datasets differ no more than by chance if their rows could have been drawn so from both together (Fisher's exact test).
Many features are compared at once: of the differences that are called one, at most 5 % are expected to be chance
(Benjamini & Hochberg 1995).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]

CHANCE = 0.05  # the expected share of false differences among those that are called one
CRITICAL = 3.841458820694124  # the 95 % quantile of chi-squared with one degree of freedom
FARTHEST = 40.0  # the logarithm of the largest ratio that is looked at: that of more rows than exist
BISECTIONS = 64  # halve an interval of this width to the last bit


def tails(n: int, k: int, pool_counts: Int64s, counts: Int64s) -> Floats:
    """Return how likely `k` rows drawn from `n` differ at least as much: twice the smaller tail, [m].

    Of the rows, `pool_counts` [m] have a feature, and of those drawn `counts` [m] have it.
    """
    logs = np.concatenate([[0.0], np.log(np.arange(1, n + 1)).cumsum()])  # of the factorials

    def log_choose(total: Any, part: Any) -> Any:
        return logs[total] - logs[part] - logs[total - part]

    result = np.ones(len(counts))
    for i, (holders, count) in enumerate(zip(pool_counts.tolist(), counts.tolist(), strict=True)):
        share = holders / n
        spread = np.sqrt(k * share * (1 - share))
        least, most = max(0, k - (n - holders)), min(k, holders)
        reach = int(12 * spread) + 64  # further terms are too small to matter
        is_more = count > k * share
        first, last = (count, min(most, count + reach)) if is_more else (max(least, count - reach), count)
        terms = np.arange(first, last + 1)
        chances = np.exp(log_choose(holders, terms) + log_choose(n - holders, k - terms) - log_choose(n, k))
        result[i] = min(1.0, 2 * float(chances.sum()))
    return result


def adjusted(p_values: Floats) -> Floats:
    """Return the q-values of Benjamini and Hochberg: [m]."""
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    result = np.empty(len(order))
    result[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(result, 1.0)


def log_likelihood_ratios(counts: Int64s, n: int, other_counts: Int64s, other_n: int) -> Floats:
    """Return twice the log-likelihood ratio of two shares against one common share: [m] (Dunning 1993).

    Of `n` rows, `counts` [m] have a feature, and of `other_n` others `other_counts` [m] have it.
    """
    common = (counts + other_counts) / (n + other_n)
    ratios = np.zeros(len(counts))
    for part, size in ((counts, n), (other_counts, other_n)):
        ratios += _surprise(part, size * common) + _surprise(size - part, size * (1 - common))
    return 2 * np.maximum(ratios, 0)


def _surprise(observed: Int64s, expected: Floats) -> Floats:
    """Return `observed * log(observed / expected)`, 0 where nothing is observed."""
    ratios = np.divide(observed, expected, out=np.ones(len(observed)), where=observed > 0)
    return np.asarray(observed * np.log(ratios))


def lifts(counts: Int64s, n: int, other_counts: Int64s, other_n: int) -> Floats:
    """Return the ratio of a feature's share of `n` rows to its share of `other_n` others: [m].

    It is infinite where no other row has the feature, and nan where no row at all has it.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((counts / n) / (other_counts / other_n))


def lift_intervals(counts: Int64s, n: int, other_counts: Int64s, other_n: int) -> tuple[Floats, Floats]:
    """Return the 95 % interval of each lift: lows [m] and highs [m] (the score interval of Koopman 1984).

    It holds the ratios that a score test does not reject, so it needs no correction of zeros: where no other row has
    the feature, its low end is finite and its high end infinite. It is good with few rows, where the logarithm of the
    ratio is far from normal.
    """
    with np.errstate(divide="ignore"):
        logs = np.log(np.nan_to_num(lifts(counts, n, other_counts, other_n), nan=1.0))
    inside = np.clip(logs, -FARTHEST, FARTHEST)

    def end(outside: float) -> Floats:
        """Bisect between the ratio itself, which is accepted, and one that is rejected."""
        accepted, rejected = inside.copy(), np.full(len(inside), outside)
        for _ in range(BISECTIONS):
            middle = (accepted + rejected) / 2
            is_accepted = _score(middle, counts, n, other_counts, other_n) <= CRITICAL
            accepted = np.where(is_accepted, middle, accepted)
            rejected = np.where(is_accepted, rejected, middle)
        return np.asarray(np.exp(accepted))

    lows = np.where(counts == 0, 0.0, end(-FARTHEST))
    highs = np.where(other_counts == 0, np.inf, end(FARTHEST))
    return lows, highs


def _score(log_ratio: Floats, counts: Int64s, n: int, other_counts: Int64s, other_n: int) -> Floats:
    """Return the score statistic of a ratio: how far the counts are from the most likely shares with that ratio."""
    ratio = np.exp(log_ratio)
    # The share p of the other rows maximises the likelihood where a p^2 - b p + c = 0.
    a, b, c = ratio * (n + other_n), ratio * (n + other_counts) + counts + other_n, counts + other_counts
    other_share = 2 * c / (b + np.sqrt(np.maximum(b * b - 4 * a * c, 0)))
    statistic = np.zeros(len(ratio))
    for part, size, share in ((counts, n, ratio * other_share), (other_counts, other_n, other_share)):
        share = np.minimum(share, 1.0)  # rounding may pass it
        variance, difference = size * share * (1 - share), part - size * share
        impossible = np.where(difference == 0, 0.0, np.inf)
        statistic += np.divide(difference**2, variance, out=impossible, where=variance > 0)
    return statistic
