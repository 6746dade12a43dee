"""Coverage kernels: which rows together have the most features, compiled by numba. Arrays in, arrays out.

All kernels read CSR arrays: row i has the features `ids[offsets[i]:offsets[i + 1]]`, each below `d_sae`. The two that
choose rows return `(indices, gains, round_starts)`, int64: the rows in the order they were picked, how many features
each added to what its round had covered before, and the pick positions at which the rounds began. A round begins with
every feature uncovered. With `restart`, a round that can add nothing more is followed by another over the rows left,
so at most `budget` rows come back; without it the first round is all. Rows without features are never picked.

Memory beyond the input is O(rows + d_sae).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
compiled: Callable[[F], F] = njit(cache=True)  # numba has no types: say that the signature stays

Int64s = NDArray[np.int64]
Picks = tuple[Int64s, Int64s, Int64s]


@compiled
def greedy_cover(offsets: Int64s, ids: NDArray[Any], d_sae: int, order: Int64s, budget: int, restart: bool) -> Picks:
    """Pick again and again the row with the most uncovered features; of equal rows the first in `order`.

    Exact greedy maximum coverage by lazy evaluation (CELF, Leskovec et al. 2007). `order` is a permutation of the
    rows. Example, features of rows 0, 1, 2 being {0, 1}, {1, 2, 3}, {3}, with restart: indices [1, 0, 2], gains
    [3, 1, 1], round_starts [0, 2].
    """
    indices, gains, round_starts = np.empty(budget, np.int64), np.empty(budget, np.int64), []
    covered, picked = np.empty(d_sae, np.bool_), np.zeros(len(order), np.bool_)
    holders, held = _holders(ids, d_sae)
    # A key is -gain * 2^32 + rank in `order`: the smallest has the largest gain, and of those the first rank.
    keys = [r - ((offsets[i + 1] - offsets[i]) << 32) for r, i in enumerate(order) if offsets[i + 1] > offsets[i]]
    rich = np.sort(np.array(keys, np.int64))
    n = first = 0
    while n < budget and held > 0:
        covered[:] = False
        round_starts.append(n)
        # Rows looked at in this round and not picked wait in the heap; those after `fresh` in `rich` were not yet
        # looked at. Coverage only grows within a round, so the gain in a key is never below the row's true gain. A
        # smallest key whose gain is still true therefore beats or ties every other row, and ties go to the first
        # rank: the exact pick. A row that adds nothing is dropped. `left` features are uncovered and held by rows not
        # picked, so while it is above zero there is a row to pick, and at zero the round is over.
        heap, fresh, left = [np.int64(0) for _ in range(0)], first, held
        while left > 0 and n < budget:
            while fresh < len(rich) and picked[order[rich[fresh] & 0xFFFFFFFF]]:
                first += fresh == first  # rows picked in earlier rounds, skipped for good
                fresh += 1
            if heap and (fresh == len(rich) or heap[0] < rich[fresh]):
                key = heappop(heap)
            else:
                key, fresh = rich[fresh], fresh + 1
            i, bound = order[key & 0xFFFFFFFF], -(key >> 32)
            row = ids[offsets[i] : offsets[i + 1]]
            gain = _uncovered(row, covered)
            if gain == bound:
                indices[n], gains[n], picked[i] = i, gain, True
                n, left, held = n + 1, left - gain, held - _release(row, holders)
                _cover(row, covered)
            elif gain > 0:
                heappush(heap, key + ((bound - gain) << 32))
        if not restart:
            break
    return indices[:n], gains[:n], np.array(round_starts, np.int64)


@compiled
def scan(
    offsets: Int64s, ids: NDArray[Any], d_sae: int, order: Int64s, budget: int, max_overlap: float, restart: bool
) -> Picks:
    """Go through the rows in `order` and pick each that adds a feature and has at most a share `max_overlap` covered.

    Example, features of rows 0, 1, 2 being {0, 1}, {1, 2, 3}, {3}, scanned in that order with max_overlap 0.5 and
    restart: row 1 has 1/3 covered, row 2 all: indices [0, 1, 2], gains [2, 2, 1], round_starts [0, 2].
    """
    indices, gains, round_starts = np.empty(budget, np.int64), np.empty(budget, np.int64), []
    covered = np.empty(d_sae, np.bool_)
    holders, held = _holders(ids, d_sae)
    waiting = order[offsets[order + 1] > offsets[order]]
    n, end = 0, len(waiting)
    while n < budget and end > 0:
        covered[:] = False
        round_starts.append(n)
        left, refused = held, 0
        # Coverage only grows within a round, so a row refused once stays refused: one pass is the whole round.
        # `waiting[:refused]` holds the refused rows, in order. The first row of a pass is always picked. `left`
        # features are uncovered and held by rows not picked: at zero no row adds one, and none is read any more.
        for i in waiting[:end]:
            row = ids[offsets[i] : offsets[i + 1]]
            gain = _uncovered(row, covered) if left > 0 and n < budget else 0
            if gain > 0 and (len(row) - gain) / len(row) <= max_overlap:
                indices[n], gains[n] = i, gain
                n, left, held = n + 1, left - gain, held - _release(row, holders)
                _cover(row, covered)
            else:
                waiting[refused] = i
                refused += 1
        end = refused
        if not restart:
            break
    return indices[:n], gains[:n], np.array(round_starts, np.int64)


@compiled
def gains_in_order(offsets: Int64s, ids: NDArray[Any], d_sae: int, indices: Int64s) -> Int64s:
    """Count the features that each row of `indices` adds to those of the rows before it."""
    gains, covered = np.empty(len(indices), np.int64), np.zeros(d_sae, np.bool_)
    for n, i in enumerate(indices):
        row = ids[offsets[i] : offsets[i + 1]]
        gains[n] = _uncovered(row, covered)
        _cover(row, covered)
    return gains


@compiled
def _uncovered(row: NDArray[Any], covered: NDArray[np.bool_]) -> int:
    gain = 0
    for feature in row:
        gain += not covered[feature]
    return gain


@compiled
def _cover(row: NDArray[Any], covered: NDArray[np.bool_]) -> None:
    for feature in row:
        covered[feature] = True


@compiled
def _holders(ids: NDArray[Any], d_sae: int) -> tuple[Int64s, int]:
    """Count the rows that have each feature, and the features that any row has."""
    holders = np.zeros(d_sae, np.int64)
    for feature in ids:
        holders[feature] += 1
    return holders, (holders > 0).sum()


@compiled
def _release(row: NDArray[Any], holders: Int64s) -> int:
    """Take a picked row out of `holders`; return how many of its features no other row has."""
    alone = 0
    for feature in row:
        holders[feature] -= 1
        alone += holders[feature] == 0
    return alone
