"""Selection by similarity: facility location, k-center and a near-duplicate filter. Arrays in, arrays out.

Similarity is the cosine, cos(i, j), of two rows' vectors. With S the picked rows:

    facility location   maximises  sum over rows i of  max(0, max over j in S of cos(i, j)),  greedily
    k-center            minimises  max over rows i of  min over j in S of distance(i, j),  farthest row first
    filter              picks, in order, each row whose cosine with every pick is at most `max_similarity`

Invariant of the first two: a row's marginal gain, or its distance from S, never grows while S grows. A stale one is
therefore an upper bound, and lazy evaluation (CELF, Leskovec et al. 2007) picks the same rows as plain greedy.

Vectors are quantized, see `unit_vectors.py`, so all similarities are whole numbers. No array is n x n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s
from .coverage import ConstraintState, commit, fits, greedy_cover, mass_objective, new_search
from .distances import Distances
from .similarity_pairs import (
    Vectors,
    estimate_pairs,
    excess,
    pairs_above,
    sample_rows,
    similarity_blocks,
    slices,
)
from .unit_vectors import largest_product, quantized_length

MAX_PAIRS = 2**26  # pairs in memory: 512 MB, and up to 192 MB more while they are collected
FIRST_BATCH = 32  # stale gains computed together at first; one batch reads all vectors once
FILTER_ROWS = 256  # rows compared with all picks at a time

ComputeGains = Callable[[Int64s], Floats]  # rows -> their marginal gains


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
    distances = Distances(vectors)

    def add(row: int) -> None:
        distances.add_center(vectors[row])

    indices, gains = _lazy_greedy(distances.to_nearest, add, state, budget, initial, bar)
    return indices, gains / (distances.largest / 2)


def similarity_filter(
    vectors: Vectors, state: ConstraintState, budget: int, near: list[int], order: Int64s, max_similarity: float
) -> list[int]:
    """Pick the rows of `order` whose cosines with `near` and with every earlier pick are at most `max_similarity`.

    `vectors` are quantized.
    """
    limit = largest_product(max_similarity, vectors.shape[1])
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
