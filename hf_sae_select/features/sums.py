"""Exact sums of float32 numbers: they depend neither on the order of the numbers nor on how these are cut in parts."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .kernels import Int64s
from .matrix import FeatureMatrix

BLOCK = 2**24  # numbers summed at once: 2^24 mantissas below 2^24 stay below 2^53
MANTISSA_BITS, BIAS = 23, 150  # a float32 is mantissa * 2^(exponent - BIAS)


def exact_sum(numbers: NDArray[np.float32]) -> Counter[int]:
    """Sum numbers that are finite and not negative; return the sum of the mantissas of each exponent."""
    sums: Counter[int] = Counter()
    for start in range(0, len(numbers), BLOCK):
        bits = numbers[start : start + BLOCK].astype(np.float32, copy=False).view(np.uint32)
        exponents = (bits >> MANTISSA_BITS) & 0xFF
        mantissas = (bits & (2**MANTISSA_BITS - 1)) | np.where(exponents > 0, 2**MANTISSA_BITS, 0)
        totals = np.bincount(np.maximum(exponents, 1), mantissas)
        sums.update({exponent: int(totals[exponent]) for exponent in np.flatnonzero(totals).tolist()})
    return sums


def sum_of_acts(features: FeatureMatrix, pool: Int64s) -> tuple[Counter[int], int]:
    """Return the exact sum of the activations of the ascending rows `pool`, and their number."""
    acts = features.acts if len(pool) == len(features) else features.take(pool).acts
    return exact_sum(acts), len(acts)


def mean_of_sum(sums: Counter[int], count: int) -> float:
    """Return the mean of `count` numbers by their exact sum; 1 if there are none."""
    total = sum(
        (Fraction(mantissas) * Fraction(2) ** (exponent - BIAS) for exponent, mantissas in sums.items()), Fraction(0)
    )
    return float(total / count) if count else 1.0
