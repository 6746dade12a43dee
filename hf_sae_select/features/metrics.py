"""Metrics: what rows cover, how like the pool and each other they are, and how far that follows from their length.

`indices` are row numbers, by default those of all rows; a row that is listed twice counts twice. A mean over no rows
or no pairs is nan.

Two sets are compared by their Jaccard similarity: the number of features in both, divided by the number in either. Two
empty sets are equal, so their similarity is 1: blank rows make a dataset more redundant, not more diverse.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._validation import check_int
from .matrix import FeatureMatrix
from .shares import Shares

Rows = NDArray[np.int64]

BLOCK_ROWS = 2**12  # rows, or pairs of rows, whose feature ids are copied together


def frequency(features: FeatureMatrix, indices: Iterable[int] | None = None) -> NDArray[np.int64]:
    """Count the rows that have each feature.

    Args:
        features (`FeatureMatrix`):
            Features of all rows.
        indices (`Iterable[int]`, *optional*):
            Rows to count. By default all rows.

    Returns:
        `np.ndarray`: The number of rows that have each feature, int64 [d_sae].

    Example:

    ```python
    # rows {0, 1}, {1, 2}, {5} of an SAE with six features
    frequency(features)  # [1, 2, 1, 0, 0, 1]
    ```
    """
    if indices is None:
        return features.frequency.copy()  # the caller may write to it; the cached array stays as it is
    rows, counts = _rows(features, indices), np.zeros(features.d_sae, np.int64)
    for start in range(0, len(rows), BLOCK_ROWS):
        ids, _ = _gather(features, rows[start : start + BLOCK_ROWS])
        counts += np.bincount(ids, minlength=features.d_sae)
    return counts


def coverage(features: FeatureMatrix, indices: Iterable[int] | None = None) -> int:
    """Count the distinct features of rows.

    Args:
        features (`FeatureMatrix`):
            Features of all rows.
        indices (`Iterable[int]`, *optional*):
            Rows to count. By default all rows.

    Returns:
        `int`: The number of features that at least one of the rows has.

    Example:

    ```python
    # rows {0, 1}, {1, 2}, {5}
    coverage(features)  # 4
    coverage(features, [0, 1])  # 3
    ```
    """
    return int(np.count_nonzero(frequency(features, indices)))


def richness(features: FeatureMatrix, indices: Iterable[int] | None = None) -> float:
    """Return the mean number of features of a row; a blank row has 0.

    Args:
        features (`FeatureMatrix`):
            Features of all rows.
        indices (`Iterable[int]`, *optional*):
            Rows to average over. By default all rows.

    Returns:
        `float`: The mean, nan without rows.

    Example:

    ```python
    # rows {0, 1}, {1, 2}, {5}, {}
    richness(features)  # 5 / 4
    ```
    """
    counts = features.counts[_rows(features, indices)]
    return float(counts.mean()) if len(counts) else math.nan


def redundancy(
    features: FeatureMatrix, indices: Iterable[int] | None = None, *, pairs: int = 10_000, seed: int = 0
) -> float:
    """Return the mean Jaccard similarity of two rows: 0 if no two share a feature, 1 if all are equal.

    Args:
        features (`FeatureMatrix`):
            Features of all rows.
        indices (`Iterable[int]`, *optional*):
            Rows to compare. By default all rows.
        pairs (`int`, *optional*, defaults to `10_000`):
            Number of pairs to sample, with replacement, if there are more pairs than this. The standard error of the
            sample is at most 0.5 / sqrt(pairs), 0.005 by default.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sample.

    Returns:
        `float`: The mean, nan with fewer than two rows.

    Raises:
        ValueError: If `pairs` is not a positive integer, or `seed` not a non-negative one.

    Example:

    ```python
    # rows {0, 1}, {1, 2}, {5}: three pairs with the similarities 1/3, 0 and 0
    redundancy(features)  # 1 / 9
    ```
    """
    check_int("pairs", pairs)
    check_int("seed", seed, least=0)
    rows = _rows(features, indices)
    if len(rows) < 2:
        return math.nan
    first, second = _pairs(len(rows), pairs, seed)
    blocks = (slice(start, start + BLOCK_ROWS) for start in range(0, len(first), BLOCK_ROWS))
    total = sum(_similarity(features, rows[first[block]], rows[second[block]]).sum() for block in blocks)
    return float(total / len(first))


def overlap(features: FeatureMatrix, first: Iterable[int], second: Iterable[int]) -> float:
    """Return the Jaccard similarity of what two subsets cover.

    It compares features, not rows: two subsets may share every feature and no row.

    Args:
        features (`FeatureMatrix`):
            Features of all rows.
        first (`Iterable[int]`):
            Rows of one subset.
        second (`Iterable[int]`):
            Rows of the other subset.

    Returns:
        `float`: The similarity, from 0 to 1.

    Example:

    ```python
    # of rows {0, 1}, {1, 2}, {5}, the subsets cover {0, 1} and {1, 2, 5}
    overlap(features, [0], [1, 2])  # 1 / 4
    ```
    """
    a = frequency(features, _rows(features, first, "first")) > 0
    b = frequency(features, _rows(features, second, "second")) > 0
    either = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / either) if either else 1.0


def likeness(features: FeatureMatrix, indices: Iterable[int], pool: Iterable[int] | None = None) -> float:
    """Return how like the pool rows are: the affinity of their distributions over features, which `match` maximises.

    A row's distribution is what its shares of root activations have above the pool's mean, see `match`; that of
    several rows is the sum. The Bhattacharyya affinity of two distributions p and q is the sum of sqrt(p_j q_j) over
    features j: 1 where they are equal, 0 where they have no feature in common. The 256 strongest features of a row
    count, whatever their activation, as `match` reads them by default. So pass all features, not those above a
    threshold.

    Args:
        features (`FeatureMatrix`):
            Features of all rows.
        indices (`Iterable[int]`):
            Rows to measure.
        pool (`Iterable[int]`, *optional*):
            Rows that they are compared with. By default all rows.

    Returns:
        `float`: The affinity, from 0 to 1; 0 if the rows have no feature, nan if the pool has none.

    Example:

    ```python
    # rows {0, 1}, {0, 1}, {0, 2}: above the mean are {1}, {1} and {2}
    likeness(features, [0, 1])  # sqrt(2 / 3)
    likeness(features, [0, 1, 2])  # 1
    ```
    """
    return _shares(features, pool).likeness(_rows(features, indices))


def likeness_curve(
    features: FeatureMatrix, indices: Iterable[int], pool: Iterable[int] | None = None
) -> NDArray[np.float64]:
    """Return the likeness of the first row, of the first two rows, and so on to all rows of `indices`.

    Where all rows have features, this is the running sum of the gains of `match`, divided by the square root of the
    number of picks times the number of rows of the pool.

    Args:
        features (`FeatureMatrix`):
            Features of all rows.
        indices (`Iterable[int]`):
            Rows to measure, in the order they were picked.
        pool (`Iterable[int]`, *optional*):
            Rows that they are compared with. By default all rows.

    Returns:
        `np.ndarray`: The likeness after each row, see `likeness`: float64 [k].

    Example:

    ```python
    # rows {0, 1}, {0, 1}, {0, 2}
    likeness_curve(features, [0, 2])  # [sqrt(2 / 3), sqrt(2 / 6) + sqrt(1 / 6)]
    ```
    """
    return _shares(features, pool).curve(_rows(features, indices))


def length_correlation(features: FeatureMatrix, indices: Iterable[int] | None = None) -> float:
    """Return Pearson's correlation of the number of tokens of a row with its number of features.

    arXiv:2502.14050 reports 0.92: rows with many features are long rows, so compare every selection with `longest`.

    Args:
        features (`FeatureMatrix`):
            Features of all rows.
        indices (`Iterable[int]`, *optional*):
            Rows to correlate; blank rows are left out. By default all rows.

    Returns:
        `float`: The correlation, from -1 to 1; nan with fewer than two rows, or if all have the same number of tokens
            or of features.
    """
    rows = _rows(features, indices)
    read = rows[features.tokens[rows] > 0]
    tokens, counts = features.tokens[read], features.counts[read]
    if len(np.unique(tokens)) < 2 or len(np.unique(counts)) < 2:
        return math.nan
    return float(np.corrcoef(tokens, counts)[0, 1])


def _shares(features: FeatureMatrix, pool: Iterable[int] | None) -> Shares:
    return Shares.of_strongest(features, _rows(features, pool, "pool"))


def _rows(features: FeatureMatrix, indices: Iterable[int] | None, name: str = "indices") -> Rows:
    """Return row numbers as an array, and check that these rows exist."""
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


def _gather(features: FeatureMatrix, rows: Rows) -> tuple[NDArray[np.unsignedinteger[Any]], Rows]:
    """Return the feature ids of `rows`, one row after another, and for each id the position of its row in `rows`.

    Example: of rows {0, 1}, {5}, the rows [1, 0] give ids [5, 0, 1] and positions [0, 1, 1].
    """
    starts = features.offsets[rows]
    counts = features.offsets[rows + 1] - starts
    position = np.repeat(np.arange(len(rows)), counts)
    before = np.cumsum(counts) - counts  # number of gathered ids before those of each row
    return features.ids[np.arange(len(position)) + (starts - before)[position]], position


def _pairs(n: int, limit: int, seed: int) -> tuple[Rows, Rows]:
    """Return all pairs of different positions below `n`, or `limit` random pairs if there are more."""
    if n * (n - 1) // 2 <= limit:
        first, second = np.triu_indices(n, 1)
        return first, second
    rng = np.random.default_rng(int(seed))
    first = rng.integers(n, size=limit)
    return first, (first + rng.integers(1, n, size=limit)) % n


def _similarity(features: FeatureMatrix, first: Rows, second: Rows) -> NDArray[np.float64]:
    """Return the Jaccard similarity of each row of `first` with the row at the same place in `second`: float64 [n]."""
    both = np.intersect1d(_pair_features(features, first), _pair_features(features, second), assume_unique=True)
    shared = np.bincount(both // features.d_sae, minlength=len(first))
    either = features.counts[first] + features.counts[second] - shared
    similarity = np.ones(len(first))
    np.divide(shared, either, out=similarity, where=either > 0)
    return similarity


def _pair_features(features: FeatureMatrix, rows: Rows) -> Rows:
    """Encode (position in `rows`, feature) as one integer, so that one merge serves all pairs of rows."""
    ids, position = _gather(features, rows)
    return position * features.d_sae + ids
