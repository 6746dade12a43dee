"""Rules of others that pick rows towards a reference, in numpy: each returns its picks, best first.

`pool` and `reference` are matrices of one row each, dense, or sparse with features or words as columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hf_sae_select import FeatureMatrix

Floats = NDArray[np.float32]
Picks = NDArray[np.int64]


def centred(pool: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Take the pool's mean off vectors, and scale them to length 1."""
    mean = pool.mean(axis=0)

    def unit(vectors: Floats) -> Floats:
        vectors = vectors - mean
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))

    return unit(pool), unit(reference)


def round_robin(pool: Floats, reference: Floats, budget: int) -> Picks:
    """Let each row of the reference pick the nearest row that is left, in turn (RDS+, arXiv:2503.01807)."""
    orders = np.argsort(-(pool @ reference.T), axis=0, kind="stable")
    places, picked = np.zeros(len(reference), np.int64), dict[int, None]()
    while len(picked) < budget:
        turn = int(len(picked) % len(reference))
        while (row := int(orders[places[turn], turn])) in picked:
            places[turn] += 1
        picked[row] = None
    return np.array(list(picked))


def nearest_to_mean(pool: Floats, reference: Floats, budget: int) -> Picks:
    """Pick the rows whose cosine to the mean of the reference is largest."""
    return largest(pool @ reference.mean(axis=0), budget)


def herding(pool: Floats, reference: Floats, budget: int, *, width: float, redundancy: float = 0.5) -> Picks:
    """Pick as the library's `herding` does, by the cosine of dense vectors."""

    def kernel(row: int) -> Floats:
        return np.asarray(np.exp((pool @ pool[row] - 1) / width))

    return kernel_herding(np.exp((pool @ reference.T - 1) / width).mean(axis=1), kernel, budget, redundancy)


def kernel_herding(nearness: Floats, kernel: Callable[[int], Floats], budget: int, redundancy: float) -> Picks:
    """Pick rows of large `nearness`, but far from each other by their `kernel` with all rows."""
    sums, picks = np.zeros_like(nearness), list[int]()
    while len(picks) < budget:
        score = nearness - redundancy * sums / (len(picks) + 1)
        score[picks] = -np.inf
        picks.append(int(score.argmax()))
        sums += kernel(picks[-1])
    return np.array(picks)


def dsir(pool: sparse.csr_matrix, reference: sparse.csr_matrix, budget: int, seed: int) -> Picks:
    """Resample rows by the ratio of two unigram models of words (DSIR, arXiv:2302.03169): with Gumbel noise."""
    ratios = log_ratios(pool, reference)
    return largest(ratios + np.random.default_rng(seed).gumbel(size=len(ratios)), budget)


def log_ratios(pool: sparse.csr_matrix, reference: sparse.csr_matrix) -> Floats:
    """Return the log ratio of each row in the reference's model and in the pool's; every column counts once more."""
    counts = [np.asarray(rows.sum(axis=0)).ravel() for rows in (reference, pool)]
    target, raw = (np.log((each + 1 / len(each)) / (each.sum() + 1)) for each in counts)
    return np.asarray(pool @ (target - raw)).ravel()


def mona(pool: sparse.csr_matrix, reference: sparse.csr_matrix, budget: int) -> Picks:
    """Pick by the generalised Jaccard similarity to the mean of the reference (MONA, arXiv:2503.15573)."""
    mean = np.asarray(reference.mean(axis=0)).ravel()
    least = sparse.csr_matrix((np.minimum(pool.data, mean[pool.indices]), pool.indices, pool.indptr), pool.shape)
    shared, total = (np.asarray(each.sum(axis=1)).ravel() for each in (least, pool))
    return largest(shared / np.maximum(total + mean.sum() - shared, 1e-9), budget)


def log_ratio(pool: sparse.csr_matrix, reference: sparse.csr_matrix, budget: int) -> Picks:
    """Pick as DSIR weighs rows, by features and without noise: each row's shares of features count."""
    return largest(log_ratios(shares(pool), shares(reference)), budget)


def shares(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    return sparse.diags(1 / np.maximum(np.asarray(rows.sum(axis=1)).ravel(), 1e-9)) @ rows


def matrix(features: FeatureMatrix) -> sparse.csr_matrix:
    arrays = (features.acts, features.ids.astype(np.int32), features.offsets)
    return sparse.csr_matrix(arrays, (len(features), features.d_sae))


def largest(scores: NDArray[Any], budget: int) -> Picks:
    return np.argsort(-scores, kind="stable")[:budget]
