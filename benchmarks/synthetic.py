"""Draw the codes of a dataset that nobody has to encode: rows of any number, with features as skewed as text's.

    from synthetic import pool  # in the scripts beside this one

A row has lognormal(ln 400, 0.8) features, at least 20 and at most 3,000. They are drawn without replacement, the
feature of rank r with probability proportional to 1 / r^exponent, and independently of each other: topics are what
this pool lacks, so what it says of quality is nothing, of time and memory everything.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hf_sae_select import FeatureMatrix

MEDIAN, SIGMA, FEWEST, MOST = 400, 0.8, 20, 3000  # features of a row


def pool(rows: int = 52_002, d_sae: int = 65_536, exponent: float = 1.0, seed: int = 0) -> FeatureMatrix:
    """Draw the features of `rows` rows; the same arguments give the same pool."""
    rng = np.random.default_rng(seed)
    counts = np.clip(rng.lognormal(np.log(MEDIAN), SIGMA, rows), FEWEST, min(MOST, d_sae // 2)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    names = rng.permutation(d_sae).astype(np.uint16 if d_sae <= 2**16 else np.uint32)  # of the features, by rank
    cumulative = np.cumsum(1 / np.arange(1, d_sae + 1) ** exponent)
    ids = draw(offsets, names, cumulative / cumulative[-1], seed)
    for start, end in pairwise(offsets):
        ids[start:end].sort()  # numpy's own sort is several times as fast as numba's
    acts = 1 - rng.random(len(ids), np.float32)  # above 0, at most 1
    return FeatureMatrix(offsets, ids, acts, d_sae, counts.astype(np.int32))


@njit(cache=True)  # type: ignore[untyped-decorator]
def draw(offsets: NDArray[np.int64], names: NDArray[Any], cumulative: NDArray[np.float64], seed: int) -> NDArray[Any]:
    """Draw each row's features by the `cumulative` probability of the ranks; a feature the row has is drawn again."""
    np.random.seed(seed)  # noqa: NPY002, the only generator that numba seeds
    d_sae = len(names)
    # guide[b]: the first rank that a number from b / d_sae on can fall on; the search goes a step or two from there
    guide = np.searchsorted(cumulative, np.arange(d_sae) / d_sae)
    ids, last_row = np.empty(offsets[-1], names.dtype), np.full(d_sae, -1)
    for i in range(len(offsets) - 1):
        n = offsets[i]
        while n < offsets[i + 1]:
            number = np.random.random()  # noqa: NPY002
            rank = guide[int(number * d_sae)]
            while cumulative[rank] < number:
                rank += 1
            if last_row[rank] != i:
                ids[n], last_row[rank], n = names[rank], i, n + 1
    return ids
