"""Choosing by the similarity of vectors: cover the pool, spread out, or leave near-duplicates out. Arrays in and out.

Similarity is the cosine. Vectors are scaled to a length of about 4,096 and rounded to whole numbers: every sum in
every dot product is then a whole number of at most 2^24, which float32 holds exactly. So any BLAS, on any number of
threads and in blocks of any size, gives the same similarities. They differ from the cosines of the vectors given by
1e-4 on average and by 5e-4 at worst among millions of random pairs; never by more than about sqrt(d) / 4,096, which
rows come near whose coordinates are all equal, and so all rounded the same way. Nothing is ever n x n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, compiled
from ..selection import coverage
from .coverage import ConstraintState, commit, fits

Vectors = NDArray[np.float32]

LARGEST = 4096  # its square is 2^24
BLOCK = 2**24  # similarities held at once: 64 MB
PAIRS = 2**26  # pairs of rows kept, about: 512 MB, and while they are gathered one block and its pairs, up to 192 MB
BATCH = 32  # rows looked at together at first, at the price of reading all vectors once
ROUNDED = 1024  # rows in float64 at once
SAMPLE = 256  # rows that stand for all when pairs are estimated


def length_of(vectors: Vectors) -> float:
    """Return the length to which `rounded` scales: 4,096 less what rounding may add."""
    return float(LARGEST - np.sqrt(vectors.shape[1]) / 2)


def quantize(vectors: Vectors, center: bool) -> Vectors:
    """Scale each vector, less the mean of all if `center`, to one of whole numbers, at most 4,096 long."""
    whole = np.empty(vectors.shape, np.float32)
    mean = _mean(vectors) if center else np.zeros(vectors.shape[1])
    for part in _slices(len(vectors), ROUNDED):
        exact = vectors[part].astype(np.float64)
        exact[exact.any(axis=1)] -= mean  # zeros are a blank row's: no direction, also after centring
        lengths = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
        scaled = np.divide(exact * length_of(vectors), lengths, out=np.zeros_like(exact), where=lengths > 0)
        whole[part] = np.rint(scaled)
    return whole


def _mean(vectors: Vectors) -> Floats:
    """Average the rows that are not blank, in float64 and always in the same order."""
    total, count = np.zeros(vectors.shape[1]), 0
    for part in _slices(len(vectors), ROUNDED):
        total += vectors[part].sum(axis=0, dtype=np.float64)
        count += int(vectors[part].any(axis=1).sum())
    return total / max(1, count)


def facility_location(
    vectors: Vectors, limits: ConstraintState, budget: int, first: Int64s, bar: Any
) -> tuple[Int64s, Floats]:
    """Pick the rows that together lie nearest to all rows: greedy on sum_i max(0, max_{j picked} cos(i, j)).

    `vectors` as `rounded` makes them. Returns the rows and how much each added. A pair (i, j) matters only while j is
    nearer to i than every row picked is, and soon few pairs do. The first rows are picked by looking at all of them;
    then those that still matter are kept, and the rest is coverage, with rows for features and "max" for a curve.
    Example, cosines being 1 within rows {0, 1} and 0 else: row 0 adds 2, row 2 adds 1, and row 1 nothing.
    """
    nearest = np.zeros(len(vectors), np.float32)  # each row's similarity to the nearest row picked, if above zero

    def gains(rows: Int64s) -> Floats:
        return np.concatenate([_excess(block, nearest) for block in _similarities(vectors, rows)] or [np.empty(0)])

    def take(row: int) -> None:
        np.maximum(nearest, vectors @ vectors[row], out=nearest)

    sample = _sample(len(vectors))

    def few() -> bool:
        # asked for at each pick, so that a sample must do; which pairs are kept changes time and memory only
        return _pairs_left(vectors, nearest, sample) <= PAIRS

    indices, gained = _lazy_greedy(gains, take, limits, budget, first, bar, until=few)
    if len(indices) < budget and few():
        sparse, more = _by_pairs(vectors, nearest, limits, budget - len(indices))
        bar.update(len(sparse))
        indices, gained = np.concatenate([indices, sparse]), np.concatenate([gained, more])
    return indices, gained / length_of(vectors) ** 2


def kcenter(vectors: Vectors, limits: ConstraintState, budget: int, first: Int64s, bar: Any) -> tuple[Int64s, Floats]:
    """Pick again and again the row farthest from those picked, the first in order to begin with (Gonzalez 1985).

    `vectors` as `rounded` makes them. The distance is the chord, Euclid's between vectors of length 1: in it the row
    farthest from its nearest pick is at most twice as far as with the best picks there are. Returns the rows, and of
    each half its squared distance, which is 1 - cos, from the nearest row picked before it; 2, the largest there is,
    where none was. Zeros have no direction: they are near to one another only.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    nearest = np.full(len(vectors), 4 * length_of(vectors) ** 2)
    seen = np.zeros(len(vectors), np.int64)  # how many of `centers` each row has been compared with
    centers: list[int] = []

    def gains(rows: Int64s) -> Floats:
        news = np.array(centers[seen[rows].min(initial=len(centers)) :], np.int64)
        for part in _slices(len(rows), BLOCK // max(len(news), vectors.shape[1])):
            block = rows[part]
            products = vectors[block] @ vectors[news].T
            distances = squares[block][:, None] + squares[news] - 2 * products.astype(np.float64)
            nearest[block] = np.minimum(nearest[block], distances.min(axis=1, initial=np.inf))
        seen[rows] = len(centers)
        return nearest[rows]

    def take(row: int) -> None:
        if squares[row] > 0:
            centers.append(row)
        else:
            nearest[squares == 0] = 0

    indices, gained = _lazy_greedy(gains, take, limits, budget, first, bar)
    return indices, gained / (2 * length_of(vectors) ** 2)


def similarity_filter(
    vectors: Vectors, limits: ConstraintState, budget: int, near: list[int], order: Int64s, max_similarity: float
) -> list[int]:
    """Go through `order` and pick each row whose cosine with `near` and every pick is at most `max_similarity`."""
    # at 1 nothing may be refused, though by rounding a row's similarity to itself may be a little more
    limit = max_similarity * length_of(vectors) ** 2 if max_similarity < 1 else np.inf
    picks: list[int] = []
    for start in range(0, len(order), 256):
        block = order[start : start + 256]
        far = (vectors[block] @ vectors[near + picks].T).max(axis=1, initial=-np.inf) <= limit
        within = vectors[block] @ vectors[block].T
        taken: list[int] = []  # places in the block
        for place in np.flatnonzero(far).tolist():
            row = int(order[start + place])
            if len(picks) < budget and fits(limits, row) and (within[place, taken] <= limit).all():
                taken.append(place)
                picks.append(row)
                commit(limits, row)
        if len(picks) == budget:
            break
    return picks


def _lazy_greedy(
    gains: Callable[[Int64s], Floats],
    take: Callable[[int], None],
    limits: ConstraintState,
    budget: int,
    first: Int64s,
    bar: Any,
    until: Callable[[], bool] = lambda: False,
) -> tuple[Int64s, Floats]:
    """Pick `first`, and then rows in the order of `_best`. Ends early, before a pick, where `until` says so."""
    picks: list[int] = []
    gained: list[float] = []

    def pick(row: int, gain: float) -> None:
        commit(limits, row)
        take(row)
        picks.append(row)
        gained.append(gain)
        bar.update()

    for row in first.tolist():
        pick(row, float(gains(np.array([row]))[0]))
    best = _best(gains, limits)
    while len(picks) < budget and not until() and (found := next(best, None)):
        pick(*found)
    return np.array(picks, np.int64), np.array(gained)


def _best(gains: Callable[[Int64s], Floats], limits: ConstraintState) -> Iterator[tuple[int, float]]:
    """Yield the row of the largest gain times scale, and its gain, while above zero; of equals the first.

    Each row yielded must be taken before the next is asked for. Gains only fall as rows are taken, so an old score is
    a bound: rows are looked at again from the top, a batch at a time, until the best is one whose score is new.
    """
    order = limits.order
    known, new, size = gains(order), np.ones(len(order), np.bool_), BATCH
    scores = known * limits.scale[order]  # by place in `order`: of equal ones argmax takes the first
    # No score is below the true one, `new` ones are the true ones, and those of rows out of the race are -inf.
    while len(scores):
        best = int(scores.argmax())
        if scores[best] <= 0:
            break
        if not fits(limits, order[best]):
            scores[best] = -np.inf
        elif new[best]:
            yield int(order[best]), float(known[best])
            scores[best] = -np.inf
            new[:], size = False, BATCH
        else:
            batch, size = _top(scores, new, size), 2 * size  # twice as many at once: it may take all rows
            known[batch] = gains(order[batch])
            scores[batch], new[batch] = known[batch] * limits.scale[order[batch]], True


def _top(scores: Floats, new: NDArray[np.bool_], size: int) -> Int64s:
    """Return the places of the `size` largest scores among the old ones above zero, or of all such if fewer."""
    old = np.flatnonzero(~new & (scores > 0))
    return old if len(old) <= size else old[np.argpartition(scores[old], -size)[-size:]]


def _slices(n: int, size: int) -> Iterator[slice]:
    """Cut n rows into slices of `size`, or of 1 if that is less."""
    for start in range(0, n, max(1, size)):
        yield slice(start, start + max(1, size))


def _sample(n: int) -> Int64s:
    """Draw SAMPLE of n rows, or all if fewer, always the same: at random, since pools may have a period."""
    return np.sort(np.random.default_rng(0).choice(n, min(n, SAMPLE), replace=False))


def _similarities(vectors: Vectors, rows: Int64s) -> Iterator[Vectors]:
    """Yield the dot products of `rows` with all rows, a block of rows at a time."""
    for part in _slices(len(rows), BLOCK // max(1, len(vectors))):
        yield vectors[rows[part]] @ vectors.T


def _pairs_left(vectors: Vectors, nearest: Vectors, sample: Int64s) -> float:
    """Estimate, by the rows of `sample`, how many pairs `_pairs` would return."""
    found = sum(np.count_nonzero(block > nearest) for block in _similarities(vectors, sample))
    return found * len(vectors) / max(1, len(sample))


def _by_pairs(vectors: Vectors, nearest: Vectors, limits: ConstraintState, budget: int) -> tuple[Int64s, Floats]:
    """Go on with `facility_location` on the pairs that still matter."""
    goal = coverage.mass_objective(np.ones(len(vectors)), "max")
    contest = coverage.new_search(_pairs(vectors, nearest), goal, np.ones(len(vectors), np.int64), limits, budget)
    nothing = np.empty(0, np.int64)
    indices, gained, _ = coverage.greedy_cover(contest, nothing, nothing, restart=False, last=nothing)
    return indices, gained


def _pairs(vectors: Vectors, nearest: Vectors) -> coverage.Csr:
    """Return by how much each row is nearer to which rows than `nearest`."""
    counts, ids, amounts = [0], list[NDArray[Any]](), list[NDArray[Any]]()
    # The lists hold the pairs of all rows before the block, in order.
    for block in _similarities(vectors, np.arange(len(vectors))):
        found = _nearer(block, nearest)
        counts += found[0].tolist()
        ids.append(found[1])
        amounts.append(found[2])
    offsets = np.cumsum(counts)
    return coverage.Csr(offsets[:-1], offsets[1:], _joined(ids, np.uint32), _joined(amounts, np.float32))


def _joined(parts: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    """Concatenate `parts`, and empty the list on the way: nothing is held twice."""
    end = sum(map(len, parts))
    whole = np.empty(end, dtype)  # memory not yet written to costs nothing
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


@compiled
def _nearer(similarities: Vectors, nearest: Vectors) -> tuple[Int64s, NDArray[np.uint32], Vectors]:
    """Return how many similarities of each row exceed `nearest`, which, and by how much."""
    counts = np.zeros(len(similarities), np.int64)
    for i in range(len(similarities)):
        for j in range(len(nearest)):
            counts[i] += similarities[i, j] > nearest[j]
    ids, amounts = np.empty(counts.sum(), np.uint32), np.empty(counts.sum(), np.float32)
    n = 0  # the pairs before (i, j): never more than were counted
    for i in range(len(similarities)):
        for j in range(len(nearest)):
            if similarities[i, j] > nearest[j]:
                ids[n], amounts[n] = j, similarities[i, j] - nearest[j]
                n += 1
    return counts, ids, amounts


@compiled
def _excess(similarities: Vectors, nearest: Vectors) -> Floats:
    """Add up, for each row of `similarities`, by how much it exceeds `nearest`."""
    found = np.zeros(len(similarities))
    # found[i] is a sum of whole numbers below 2^53: exact, in whatever order it is summed.
    for i in range(len(similarities)):
        for j in range(len(nearest)):
            found[i] += max(similarities[i, j] - nearest[j], np.float32(0))
    return found
