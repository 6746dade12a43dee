"""Rules that pick rows of a pool to stand for it, in numpy: each returns its picks, best first.

A kernel is a matrix [n, n] of how alike the pool's rows are. Pools here have a few thousand rows, so all pairs fit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from target_rivals import centred, kernel_herding

Floats = NDArray[np.float32]
Picks = NDArray[np.int64]


def cosines(rows: Floats | sparse.csr_matrix) -> Floats:
    """Return the cosine of each pair of rows, dense or sparse."""
    if not isinstance(rows, np.ndarray):
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1))).ravel()
        units = sparse.diags(1 / np.maximum(lengths, 1e-9)) @ rows
        return np.asarray((units @ units.T).toarray(), np.float32)
    units = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return np.asarray(units @ units.T)


def exponential(cosine: Floats, width: float) -> Floats:
    """Return the exponential kernel: 1 for equal rows, and e times less for each `width` of cosine."""
    return np.asarray(np.exp((cosine - 1) / np.float32(width)))


def herding(kernel: Floats, budget: int, redundancy: float) -> Picks:
    """Pick rows near the pool's rows on average, and far from each other."""
    return kernel_herding(kernel.mean(axis=1), kernel.__getitem__, budget, redundancy)


def kmeans(vectors: Floats, budget: int, seed: int) -> Picks:
    """Pick the row nearest to each centre of k-means over the centred unit vectors; other rows where two share one."""
    unit, _ = centred(vectors, vectors)
    rng = np.random.default_rng(seed)
    centers = unit[rng.choice(len(unit), budget, replace=False)]
    for _ in range(20):
        nearest = (unit @ centers.T - (centers**2).sum(axis=1) / 2).argmax(axis=1)
        members = sparse.csr_matrix((np.ones_like(unit[:, 0]), (nearest, np.arange(len(unit)))), (budget, len(unit)))
        counts = members.sum(axis=1)
        centers = np.asarray(np.where(counts > 0, (members @ unit) / np.maximum(counts, 1), centers))
    best = (unit @ centers.T - (centers**2).sum(axis=1) / 2).argmax(axis=0)
    return np.array(list(dict.fromkeys([*best.tolist(), *rng.permutation(len(unit)).tolist()]))[:budget])


def length_matched(tokens: NDArray[np.int32], budget: int, seed: int) -> Picks:
    """Draw at random one row from each of `budget` stretches of the rows in order of length."""
    rng = np.random.default_rng(seed)
    parts = np.array_split(np.argsort(tokens, kind="stable"), budget)
    return rng.permutation([rng.choice(part) for part in parts])  # its first rows are no shorter than its last


def sampled_match(shares: sparse.csr_matrix, budget: int, seed: int, drawn: int = 128) -> Picks:
    """Pick as `match` does, but the best of some rows drawn at each pick ("lazier than lazy" greedy)."""
    rng = np.random.default_rng(seed)
    roots, amounts = np.sqrt(np.asarray(shares.sum(axis=0)).ravel()), np.zeros(shares.shape[1])
    left, picks = np.arange(shares.shape[0]), list[int]()
    while len(picks) < budget:
        places = rng.choice(len(left), min(drawn, len(left)), replace=False)
        rows = shares[left[places]]
        had = amounts[rows.indices]
        gains = roots[rows.indices] * (np.sqrt(had + rows.data) - np.sqrt(had))
        sums = np.bincount(np.repeat(np.arange(len(places)), np.diff(rows.indptr)), gains, len(places))
        best = places[sums.argmax()]
        picks.append(int(left[best]))
        amounts += shares[left[best]].toarray().ravel()
        left = np.delete(left, best)
    return np.array(picks)


def in_turns(first: Picks, second: Picks, share: float) -> Picks:
    """Take the picks of two rules in turns, such a share of the turns for the first rule, each row once."""
    queues, picks = (iter(first.tolist()), iter(second.tolist())), dict[int, None]()
    for turn in range(len(first)):
        queue = queues[0 if int((turn + 1) * share) > int(turn * share) else 1]
        picks[next(row for row in queue if row not in picks)] = None
    return np.array(list(picks))
