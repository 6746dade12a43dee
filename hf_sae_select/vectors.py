"""Choosing by the similarity of vectors: cover the pool, spread out, or leave near-duplicates out. Arrays in and out.

Similarity is the cosine. Vectors are scaled to a length of about 4,096 and rounded to whole numbers: every sum in
every dot product is then a whole number of at most 2^24, which float32 holds exactly. So any BLAS, on any number of
threads and in blocks of any size, gives the same similarities, and these are the cosines of the vectors given to about
1e-4. Nothing is ever n x n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import coverage
from .limits import Floats, Int64s, Limits, compiled, fits, pay

Vectors = NDArray[np.float32]

LARGEST = 4096  # its square is 2^24
BLOCK = 2**24  # similarities held at once: 64 MB
PAIRS = 2**26  # pairs of rows kept: 512 MB
BATCH = 32  # rows looked at together, at the price of reading all vectors once


def length_of(vectors: Vectors) -> float:
    """Return the length to which `rounded` scales: 4,096 less what rounding may add."""
    return float(LARGEST - np.sqrt(vectors.shape[1]) / 2)


def rounded(vectors: Vectors, center: bool) -> Vectors:
    """Scale each vector, less the mean of all if `center`, to one of whole numbers, at most 4,096 long."""
    exact = vectors.astype(np.float64)
    there = exact.any(axis=1)  # zeros are a blank row's: no direction, also after centring
    if center and there.any():
        exact[there] -= exact[there].mean(axis=0)
    lengths = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
    scaled = np.divide(exact * length_of(vectors), lengths, out=np.zeros_like(exact), where=lengths > 0)
    whole: Vectors = np.rint(scaled).astype(np.float32)
    return whole


def facility_location(vectors: Vectors, limits: Limits, budget: int, first: Int64s, bar: Any) -> tuple[Int64s, Floats]:
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

    sample = np.arange(0, len(vectors), max(1, len(vectors) // 256))

    def few() -> bool:
        # asked for at each pick, so that a sample must do; which pairs are kept changes time and memory only
        share = np.mean([(block > nearest).mean() for block in _similarities(vectors, sample)] or [0])
        return bool(share * len(vectors) ** 2 <= PAIRS)

    dense, gained = _lazy_greedy(gains, take, limits, budget, first, bar, until=few)
    starts, ids, amounts = _pairs(vectors, nearest)
    goal = coverage.massed(np.ones(len(vectors)), "max")
    csr = coverage.Csr(starts[:-1], starts[1:], ids, amounts)
    contest = coverage.race(csr, goal, np.ones(len(vectors), np.int64), limits, budget - len(dense))
    nothing = np.empty(0, np.int64)
    sparse, more, _ = coverage.greedy_cover(contest, nothing, nothing, restart=False)
    bar.update(len(sparse))
    return np.concatenate([dense, sparse]), np.concatenate([gained, more]) / length_of(vectors) ** 2


def kcenter(vectors: Vectors, limits: Limits, budget: int, first: Int64s, bar: Any) -> tuple[Int64s, Floats]:
    """Pick again and again the row farthest from those picked, the first of `order` to begin with (Gonzalez 1985).

    `vectors` as `rounded` makes them. Returns the rows, and the distance of each, 1 - cos, from the nearest row picked
    before it: half the squared distance of the ends of the two vectors. The first row's is 2, the largest there is.
    """
    squares = (vectors * vectors).sum(axis=1, dtype=np.float64)
    nearest = np.full(len(vectors), 4 * length_of(vectors) ** 2)
    seen = np.zeros(len(vectors), np.int64)  # how many of `centers` each row has been compared with
    centers: list[int] = []

    def gains(rows: Int64s) -> Floats:
        news = np.array(centers[seen[rows].min(initial=len(centers)) :], np.int64)
        if len(news):
            for start in range(0, len(rows), BLOCK // len(news)):
                block = rows[start : start + BLOCK // len(news)]
                products = vectors[block] @ vectors[news].T
                distances = squares[block][:, None] + squares[news] - 2 * products.astype(np.float64)
                nearest[block] = np.minimum(nearest[block], distances.min(axis=1))
        seen[rows] = len(centers)
        return nearest[rows]

    def take(row: int) -> None:
        centers.append(row)

    indices, gained = _lazy_greedy(gains, take, limits, budget, first, bar)
    return indices, gained / (2 * length_of(vectors) ** 2)


def leave_near_out(
    vectors: Vectors, limits: Limits, budget: int, near: list[int], order: Int64s, max_similarity: float
) -> list[int]:
    """Go through `order` and pick each row whose cosine with `near` and every pick is at most `max_similarity`."""
    limit = max_similarity * length_of(vectors) ** 2
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
                pay(limits, row)
        if len(picks) == budget:
            break
    return picks


def _lazy_greedy(
    gains: Callable[[Int64s], Floats],
    take: Callable[[int], None],
    limits: Limits,
    budget: int,
    first: Int64s,
    bar: Any,
    until: Callable[[], bool] = lambda: False,
) -> tuple[Int64s, Floats]:
    """Pick again and again the row of the largest gain times scale, while it is above zero; of equals the first.

    Gains only fall as rows are taken, so an old score is a bound: rows are looked at again from the top, a batch at a
    time, until the best row is one whose score is new. Ends early, after a pick, where `until` says so.
    """
    picks: list[int] = []
    gained: list[float] = []

    def pick(row: int, gain: float) -> None:
        pay(limits, row)
        take(row)
        picks.append(row)
        gained.append(gain)
        bar.update()

    for row in first.tolist():
        pick(row, float(gains(np.array([row]))[0]))
    order = limits.order
    known, new = np.empty(0), np.ones(len(order), np.bool_)
    while len(picks) < budget and len(order) and not (new.all() and until()):
        if not len(known):
            known = gains(order)
            scores = known * limits.scale[order]  # by place in `order`: of equal ones argmax takes the first
        best = int(scores.argmax())
        if scores[best] <= 0:
            break
        if not fits(limits, order[best]):
            scores[best] = -np.inf
        elif new[best]:
            pick(int(order[best]), float(known[best]))
            scores[best] = -np.inf
            new[:] = False
            if until():
                break
        else:
            batch = _top(scores, new)
            known[batch] = gains(order[batch])
            scores[batch], new[batch] = known[batch] * limits.scale[order[batch]], True
    return np.array(picks, np.int64), np.array(gained)


def _top(scores: Floats, new: NDArray[np.bool_]) -> Int64s:
    """Return the places of the BATCH largest scores of those that are old, as far as they are above zero."""
    old = np.where(new, -np.inf, scores)
    top = np.argpartition(old, -BATCH)[-BATCH:] if len(old) > BATCH else np.arange(len(old))
    return top[old[top] > 0]


def _similarities(vectors: Vectors, rows: Int64s) -> Iterator[Vectors]:
    """Yield the dot products of `rows` with all rows, a block of rows at a time."""
    size = max(1, BLOCK // max(1, len(vectors)))
    for start in range(0, len(rows), size):
        yield vectors[rows[start : start + size]] @ vectors.T


def _pairs(vectors: Vectors, nearest: Vectors) -> tuple[Int64s, NDArray[np.uint32], Vectors]:
    """Return, as CSR, by how much each row is nearer to which rows than `nearest`."""
    ids, amounts, counts = [], [], [0]
    for block in _similarities(vectors, np.arange(len(vectors))):
        block -= nearest
        rows, places = np.nonzero(block > 0)
        counts += np.bincount(rows, minlength=len(block)).tolist()
        ids.append(places.astype(np.uint32))
        amounts.append(block[rows, places])
    none = np.empty(0, np.uint32)
    return np.cumsum(counts), np.concatenate([none, *ids]), np.concatenate([none.astype(np.float32), *amounts])


@compiled
def _excess(similarities: Vectors, nearest: Vectors) -> Floats:
    """Add up, for each row of `similarities`, by how much it exceeds `nearest`."""
    found = np.zeros(len(similarities))
    for i in range(len(similarities)):
        for j in range(len(nearest)):
            found[i] += max(similarities[i, j] - nearest[j], np.float32(0))
    return found
