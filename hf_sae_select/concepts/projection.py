"""Projection: a place on a plane for each row, so that rows of like features lie near each other.

The coordinates are the first two principal components of the square roots of the rows' shares (`features/shares.py`),
centred: distances between such rows are those that `match` minimises, up to what two of many components can show. They
are found by randomised subspace iteration (Halko, Martinsson & Tropp 2011) from a fixed seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, compiled_beyond
from ..features.shares import Shares

COMPONENTS, ITERATIONS = 10, 6  # of the subspace, of which the first two components are kept


def projection(shares: Shares) -> NDArray[np.float32]:
    """Return the coordinates of all rows: float32 [n, 2]. Equal rows have equal coordinates.

    Example, rows {0}, {0} and {1}: the first two lie in one place, the third in another.
    """
    features = shares.features
    n, csr = len(features), (features.offsets, features.ids.astype(np.int64), np.sqrt(shares.amounts))
    if not n:
        return np.zeros((0, 2), np.float32)
    mean = transposed_product(*csr, np.full((n, 1), 1 / n), features.d_sae)[:, 0]
    basis = np.random.default_rng(0).standard_normal((features.d_sae, COMPONENTS))
    for _ in range(ITERATIONS):
        rows = product(*csr, basis) - mean @ basis
        columns = transposed_product(*csr, rows, features.d_sae) - np.outer(mean, rows.sum(axis=0))
        basis, _ = np.linalg.qr(columns)
    rows = product(*csr, basis) - mean @ basis
    _, _, rotation = np.linalg.svd(rows.T @ rows)
    loadings = basis @ rotation[:2].T
    strongest = np.abs(loadings).argmax(axis=0)
    signs = np.sign(loadings[strongest, np.arange(2)])  # a component may point either way: this fixes which
    places: NDArray[np.float32] = ((rows @ rotation[:2].T) * signs).astype(np.float32)
    return places


@compiled_beyond(lambda offsets, ids, amounts, columns: ids.size * columns.shape[1])
def product(offsets: Int64s, ids: Int64s, amounts: NDArray[np.float32], columns: Floats) -> Floats:
    """Multiply a sparse matrix by `columns` [d_sae, k]: [n, k]."""
    n, k = len(offsets) - 1, columns.shape[1]
    result = np.zeros((n, k))
    for i in range(n):
        for p in range(offsets[i], offsets[i + 1]):
            for j in range(k):
                result[i, j] += amounts[p] * columns[ids[p], j]
    return result


@compiled_beyond(lambda offsets, ids, amounts, rows, d_sae: ids.size * rows.shape[1])
def transposed_product(offsets: Int64s, ids: Int64s, amounts: NDArray[np.float32], rows: Floats, d_sae: int) -> Floats:
    """Multiply the transpose of a sparse matrix by `rows` [n, k]: [d_sae, k]."""
    n, k = len(offsets) - 1, rows.shape[1]
    result = np.zeros((d_sae, k))
    for i in range(n):
        for p in range(offsets[i], offsets[i + 1]):
            for j in range(k):
                result[ids[p], j] += amounts[p] * rows[i, j]
    return result
