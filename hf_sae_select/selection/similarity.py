"""Selection by similarity: facility location, k-center and a near-duplicate filter. Arrays in, arrays out.

Similarity is the cosine, cos(i, j), of two rows' vectors. With S the picked rows:

    facility location   maximises  sum over rows i of  max(0, max over j in S of cos(i, j)),  greedily
    k-center            minimises  max over rows i of  min over j in S of distance(i, j),  farthest row first
    filter              picks, in order, each row whose cosine with every pick is at most `max_similarity`

Invariant of the first two: a row's marginal gain, or its distance from S, never grows while S grows. A stale one is
therefore an upper bound, and lazy evaluation (CELF, Leskovec et al. 2007) picks the same rows as plain greedy.

Why whole numbers: `quantize` scales vectors to a length of about 4,096 and rounds them. Every sum within a dot product
is then a whole number of at most 2^24, which float32 holds exactly. So any BLAS, with any number of threads and any
size of block, computes the same similarities. Rounding changes a cosine by 1e-4 on average, and by 5e-4 at worst among
millions of random pairs. The bound is about sqrt(d) / 4,096; a vector whose coordinates are all equal comes near it,
since all of them round the same way.

No array is n x n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s
from .coverage import ConstraintState, commit, fits, greedy_cover, mass_objective, new_search
from .similarity_pairs import (
    BLOCK_SIZE,
    Vectors,
    estimate_pairs,
    excess,
    pairs_above,
    sample_rows,
    similarity_blocks,
    slices,
)

MAX_LENGTH = 4096  # of a quantized vector: its square is 2^24
MAX_PAIRS = 2**26  # pairs in memory: 512 MB, and up to 192 MB more while they are collected
FIRST_BATCH = 32  # stale gains computed together at first; one batch reads all vectors once
QUANTIZE_ROWS = 1024  # rows in float64 at a time
FILTER_ROWS = 256  # rows compared with all picks at a time

ComputeGains = Callable[[Int64s], Floats]  # rows -> their marginal gains


def quantized_length(vectors: Vectors) -> float:
    """Return the length to which `quantize` scales: 4,096 less what rounding may add."""
    return float(MAX_LENGTH - np.sqrt(vectors.shape[1]) / 2)


def quantize(vectors: Vectors, center: bool) -> Vectors:
    """Scale each vector to `quantized_length`, and round it to whole numbers.

    With `center`, the mean of all vectors is subtracted first. A vector of zeros has no direction: it stays zeros, and
    it does not count in the mean.
    """
    result = np.empty(vectors.shape, np.float32)
    mean = _mean(vectors) if center else np.zeros(vectors.shape[1])
    for part in slices(len(vectors), QUANTIZE_ROWS):
        exact = vectors[part].astype(np.float64)
        exact[exact.any(axis=1)] -= mean
        lengths = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
        scaled = np.divide(exact * quantized_length(vectors), lengths, out=np.zeros_like(exact), where=lengths > 0)
        result[part] = np.rint(scaled)
    return result


def _mean(vectors: Vectors) -> Floats:
    """Average the vectors that are not zeros, in float64 and always in the same order."""
    total, count = np.zeros(vectors.shape[1]), 0
    for part in slices(len(vectors), QUANTIZE_ROWS):
        total += vectors[part].sum(axis=0, dtype=np.float64)
        count += int(vectors[part].any(axis=1).sum())
    return total / max(1, count)


def facility_location(
    vectors: Vectors, state: ConstraintState, budget: int, initial: Int64s, bar: Any
) -> tuple[Int64s, Floats]:
    """Pick greedily for facility location; return the rows and their marginal gains.

    `vectors` are quantized. A pair (i, j) matters only while j is nearer to i than every picked row is, and after some
    picks few pairs do. Until then a gain is computed from the similarities to all rows. Then the pairs that matter are
    stored, and the rest is a coverage search with rows as features and the curve "max". Example: rows 0 and 1 have a
    cosine of 1, and all other pairs one of 0. Row 0 gains 2, row 2 gains 1, row 1 gains nothing.
    """
    nearest = np.zeros(len(vectors), np.float32)  # similarity of each row to its nearest picked row, at least 0
    sample = sample_rows(len(vectors))

    def compute_gains(rows: Int64s) -> Floats:
        return np.concatenate([excess(block, nearest) for block in similarity_blocks(vectors, rows)] or [np.empty(0)])

    def add(row: int) -> None:
        np.maximum(nearest, vectors @ vectors[row], out=nearest)

    def pairs_fit() -> bool:
        # Called before each pick, so it only estimates. The answer changes time and memory, and no pick.
        return estimate_pairs(vectors, nearest, sample) <= MAX_PAIRS

    indices, gains = _lazy_greedy(compute_gains, add, state, budget, initial, bar, stop=pairs_fit)
    if len(indices) < budget and pairs_fit():
        more_indices, more_gains = _greedy_by_pairs(vectors, nearest, state, budget - len(indices))
        bar.update(len(more_indices))
        indices, gains = np.concatenate([indices, more_indices]), np.concatenate([gains, more_gains])
    return indices, gains / quantized_length(vectors) ** 2


def _greedy_by_pairs(vectors: Vectors, nearest: Vectors, state: ConstraintState, budget: int) -> tuple[Int64s, Floats]:
    """Continue `facility_location` on the pairs that still matter."""
    pairs, nothing = pairs_above(vectors, nearest), np.empty(0, np.int64)
    objective = mass_objective(np.ones(len(vectors)), "max")
    holders = np.bincount(pairs.ids, minlength=len(vectors))  # the search ends when no row is left that has a feature
    search = new_search(pairs, objective, holders, state, budget)
    indices, gains, _ = greedy_cover(search, nothing, nothing, restart=False, last=nothing)
    return indices, gains


def kcenter(vectors: Vectors, state: ConstraintState, budget: int, initial: Int64s, bar: Any) -> tuple[Int64s, Floats]:
    """Pick the row farthest from the picked rows, again and again (Gonzalez 1985); the first row in order begins.

    `vectors` are quantized. The distance is the Euclidean one between vectors of length 1. No row is then more than
    twice as far from its nearest pick as with an optimal selection. Returns the rows, and half of each row's squared
    distance from its nearest earlier pick, which is 1 - cos; 2, the largest possible, for the first row. A vector of
    zeros has no direction, so it is no center: when it is picked, only the distances of other vectors of zeros change.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    distances = np.full(len(vectors), 4 * quantized_length(vectors) ** 2)  # squared, to the nearest center
    compared = np.zeros(len(vectors), np.int64)  # number of `centers` that each row was compared with
    centers: list[int] = []

    def compute_distances(rows: Int64s) -> Floats:
        new = np.array(centers[compared[rows].min(initial=len(centers)) :], np.int64)
        for part in slices(len(rows), BLOCK_SIZE // max(len(new), vectors.shape[1])):
            block = rows[part]
            products = vectors[block] @ vectors[new].T
            to_new = squares[block][:, None] + squares[new] - 2 * products.astype(np.float64)
            distances[block] = np.minimum(distances[block], to_new.min(axis=1, initial=np.inf))
        compared[rows] = len(centers)
        return distances[rows]

    def add(row: int) -> None:
        if squares[row] > 0:
            centers.append(row)
        else:
            distances[squares == 0] = 0

    indices, gains = _lazy_greedy(compute_distances, add, state, budget, initial, bar)
    return indices, gains / (2 * quantized_length(vectors) ** 2)


def similarity_filter(
    vectors: Vectors, state: ConstraintState, budget: int, near: list[int], order: Int64s, max_similarity: float
) -> list[int]:
    """Pick the rows of `order` whose cosines with `near` and with every earlier pick are at most `max_similarity`.

    `vectors` are quantized.
    """
    # A `max_similarity` of 1 allows every row, but after rounding a row's similarity to itself may exceed 1.
    limit = max_similarity * quantized_length(vectors) ** 2 if max_similarity < 1 else np.inf
    picks: list[int] = []
    for part in slices(len(order), FILTER_ROWS):
        block = order[part]
        allowed = (vectors[block] @ vectors[near + picks].T).max(axis=1, initial=-np.inf) <= limit
        within_block = vectors[block] @ vectors[block].T
        picked: list[int] = []  # positions in the block
        for position in np.flatnonzero(allowed).tolist():
            row = int(block[position])
            if len(picks) < budget and fits(state, row) and (within_block[position, picked] <= limit).all():
                commit(state, row)
                picks.append(row)
                picked.append(position)
        if len(picks) == budget:
            break
    return picks


def _lazy_greedy(
    compute_gains: ComputeGains,
    add: Callable[[int], None],
    state: ConstraintState,
    budget: int,
    initial: Int64s,
    bar: Any,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Int64s, Floats]:
    """Pick `initial`, then greedily, until the budget is used or `stop()` before a pick; return rows and gains.

    `add(row)` must make `compute_gains` count the row as picked.
    """
    picks: list[int] = []
    gains: list[float] = []

    def pick(row: int, gain: float) -> None:
        commit(state, row)
        add(row)
        picks.append(row)
        gains.append(gain)
        bar.update()

    for row in initial.tolist():
        pick(row, float(compute_gains(np.array([row]))[0]))
    candidates = _best_rows(compute_gains, state)
    while len(picks) < budget and not stop() and (candidate := next(candidates, None)):
        pick(*candidate)
    return np.array(picks, np.int64), np.array(gains)


def _best_rows(compute_gains: ComputeGains, state: ConstraintState) -> Iterator[tuple[int, float]]:
    """Yield the row with the largest positive score, and its gain, by lazy evaluation (CELF).

    The caller must pick each row before it asks for the next one. Gains only shrink, so a stale score is an upper
    bound. The largest stale scores are computed anew, a batch at a time, until the largest score is not stale.
    """
    order = state.order
    gains = compute_gains(order)  # by position in `order`, so that argmax returns the first of equal scores
    scores = gains * state.scale[order]  # -inf for rows that are picked or do not fit
    stale = np.zeros(len(order), np.bool_)
    batch_size = FIRST_BATCH
    while len(scores):
        best = int(scores.argmax())
        if scores[best] <= 0:
            break
        if not fits(state, order[best]):
            scores[best] = -np.inf
        elif not stale[best]:
            yield int(order[best]), float(gains[best])
            scores[best] = -np.inf
            stale[:], batch_size = True, FIRST_BATCH
        else:
            batch = _largest_stale(scores, stale, batch_size)
            gains[batch] = compute_gains(order[batch])
            scores[batch], stale[batch] = gains[batch] * state.scale[order[batch]], False
            batch_size *= 2  # few batches suffice even if all rows must be computed


def _largest_stale(scores: Floats, stale: NDArray[np.bool_], size: int) -> Int64s:
    """Return the positions of the `size` largest positive scores that are stale, or of all if there are fewer."""
    positions = np.flatnonzero(stale & (scores > 0))
    return positions if len(positions) <= size else positions[np.argpartition(scores[positions], -size)[-size:]]
