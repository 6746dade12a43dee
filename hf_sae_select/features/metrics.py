"""Metrics: what rows cover, how alike they are, and how much of that is mere length, as plain numbers.

`indices` are row numbers, by default those of all rows; a row given twice counts twice. Whatever is taken over rows
or pairs of which there are none is nan.

Two sets are compared by their Jaccard similarity, the number of features in both over that in either. Two empty sets
are equal, so their similarity is 1: blank rows make a dataset more redundant, not more diverse.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .matrix import FeatureMatrix

Rows = NDArray[np.int64]

BLOCK_ROWS = 2**12  # rows, or pairs of rows, whose feature ids are copied together


def frequency(features: FeatureMatrix, indices: Iterable[int] | None = None) -> NDArray[np.int64]:
    """Count the rows that have each feature: int64 [d_sae].

    Example: rows {0, 1}, {1, 2}, {5} of an SAE with six features give [1, 2, 1, 0, 0, 1].
    """
    if indices is None:
        return features.frequency.copy()  # the caller's own: the cached one is everybody's
    rows, counts = _rows(features, indices), np.zeros(features.d_sae, np.int64)
    for start in range(0, len(rows), BLOCK_ROWS):
        ids, _ = _gather(features, rows[start : start + BLOCK_ROWS])
        counts += np.bincount(ids, minlength=features.d_sae)
    return counts


def coverage(features: FeatureMatrix, indices: Iterable[int] | None = None) -> int:
    """Count the distinct features of the rows `indices`, of all rows by default.

    Example: rows {0, 1}, {1, 2}, {5} cover 4 features, rows 0 and 1 of them 3.
    """
    return int(np.count_nonzero(frequency(features, indices)))


def richness(features: FeatureMatrix, indices: Iterable[int] | None = None) -> float:
    """Return the mean number of features of a row, blank rows counted as having none.

    Example: rows {0, 1}, {1, 2}, {5}, {} have 5 / 4 = 1.25 features on average.
    """
    counts = features.counts[_rows(features, indices)]
    return float(counts.mean()) if len(counts) else math.nan


def redundancy(
    features: FeatureMatrix, indices: Iterable[int] | None = None, *, pairs: int = 10_000, seed: int = 0
) -> float:
    """Return the mean Jaccard similarity of two rows: 0 where no two share a feature, 1 where all are alike.

    Args:
        pairs: where there are more pairs of rows than this, so many drawn at random (with replacement) stand for all.
            The draw's standard error is at most 0.5 / sqrt(pairs), 0.005 by default.
        seed: of the draw; the same seed gives the same pairs.

    Example: rows {0, 1}, {1, 2}, {5} make three pairs, alike by 1/3, 0 and 0: the mean is 1/9.
    """
    _check_whole("pairs", pairs, 1)
    _check_whole("seed", seed, 0)
    rows = _rows(features, indices)
    if len(rows) < 2:
        return math.nan
    first, second = _pairs(len(rows), pairs, seed)
    blocks = (slice(start, start + BLOCK_ROWS) for start in range(0, len(first), BLOCK_ROWS))
    total = sum(_similarity(features, rows[first[block]], rows[second[block]]).sum() for block in blocks)
    return float(total / len(first))


def overlap(features: FeatureMatrix, first: Iterable[int], second: Iterable[int]) -> float:
    """Return the Jaccard similarity of what the rows `first` and the rows `second` cover.

    It compares features, not rows: two selections may share every feature and no row.

    Example: of rows {0, 1}, {1, 2}, {5}, the subsets [0] and [1, 2] cover {0, 1} and {1, 2, 5}, alike by 1/4.
    """
    a = frequency(features, _rows(features, first, "first")) > 0
    b = frequency(features, _rows(features, second, "second")) > 0
    either = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / either) if either else 1.0


def length_correlation(features: FeatureMatrix, indices: Iterable[int] | None = None) -> float:
    """Correlate (Pearson's r) the number of tokens of each row with its number of features, blank rows left out.

    The paper reports 0.92: rows with many features are long rows, so compare every selection with `longest`.
    nan where r is undefined: fewer than two rows, or all alike in either number.
    """
    rows = _rows(features, indices)
    read = rows[features.tokens[rows] > 0]
    tokens, counts = features.tokens[read], features.counts[read]
    if len(np.unique(tokens)) < 2 or len(np.unique(counts)) < 2:
        return math.nan
    return float(np.corrcoef(tokens, counts)[0, 1])


def _rows(features: FeatureMatrix, indices: Iterable[int] | None, name: str = "indices") -> Rows:
    """Return row numbers as an array, once it is sure that these rows are there."""
    n = len(features)
    if indices is None:
        return np.arange(n)
    rows = np.array(indices if isinstance(indices, np.ndarray) else list(indices))
    if not rows.size:
        return np.empty(0, np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(
            f"`{name}` holds {rows.dtype} values, {rows.ndim}-dimensional; pass row numbers in one dimension "
            "(of a mask: np.flatnonzero(mask))"
        )
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(
            f"`{name}` names rows {rows.min()} to {rows.max()}, but there are {n}; pass numbers >= 0 and below {n}"
        )
    return rows.astype(np.int64)


def _check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}={value!r}` must be a whole number >= {least}")


def _gather(features: FeatureMatrix, rows: Rows) -> tuple[NDArray[np.unsignedinteger[Any]], Rows]:
    """Return the feature ids of `rows`, one row after another, and for each the position of its row in `rows`.

    Example: of rows {0, 1}, {5}, the rows [1, 0] give ids [5, 0, 1] and positions [0, 1, 1].
    """
    starts = features.offsets[rows]
    counts = features.offsets[rows + 1] - starts
    owner = np.repeat(np.arange(len(rows)), counts)
    before = np.cumsum(counts) - counts  # how many ids come before those of each row
    return features.ids[np.arange(len(owner)) + (starts - before)[owner]], owner


def _pairs(n: int, limit: int, seed: int) -> tuple[Rows, Rows]:
    """Return all pairs of different positions below `n`, or `limit` random ones where there are more."""
    if n * (n - 1) // 2 <= limit:
        first, second = np.triu_indices(n, 1)
        return first, second
    rng = np.random.default_rng(int(seed))
    first = rng.integers(n, size=limit)
    return first, (first + rng.integers(1, n, size=limit)) % n


def _similarity(features: FeatureMatrix, first: Rows, second: Rows) -> NDArray[np.float64]:
    """Return the Jaccard similarity of each row of `first` with the row of `second` beside it: float64 [n]."""
    a, b = _pair_features(features, first), _pair_features(features, second)
    both = np.intersect1d(a, b, assume_unique=True)
    shared = np.bincount(both // features.d_sae, minlength=len(first))
    either = features.counts[first] + features.counts[second] - shared
    similarity = np.ones(len(first))
    np.divide(shared, either, out=similarity, where=either > 0)
    return similarity


def _pair_features(features: FeatureMatrix, rows: Rows) -> Rows:
    """Number (position in `rows`, feature) as one integer, so that one merge serves all pairs of rows."""
    ids, owner = _gather(features, rows)
    return owner * features.d_sae + ids
