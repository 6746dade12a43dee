"""The ledger of a selection: which rows may still be picked, and what that costs. Arrays in, arrays out.

`fits` and `pay` are all that a kernel has to know of any constraint: a plain budget is a group with room, and rows
that cost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
# numba has no types: say that the signature stays. Kept on disk, and free of the interpreter lock.
compiled: Callable[[F], F] = njit(cache=True, nogil=True, error_model="numpy")

Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]


class Limits(NamedTuple):
    """Keep the books of one selection; arrays over n rows, changed as rows are picked."""

    order: Int64s  # the rows, of equal ones the first first
    open: NDArray[np.bool_]  # not picked and not excluded
    group: Int64s
    room: Int64s  # [groups]: how many more rows of each group may be picked
    cost: Floats
    purse: Floats  # [1]: what may still be spent
    scale: Floats  # a row's gain times this is its score


@compiled
def fits(limits: Limits, i: int) -> bool:
    """Tell whether row i may be picked now. What does not fit never fits again: room and purse only shrink."""
    return bool(limits.open[i] and limits.room[limits.group[i]] > 0 and limits.cost[i] <= limits.purse[0])


@compiled
def pay(limits: Limits, i: int) -> None:
    """Note that row i is picked."""
    limits.open[i] = False
    limits.room[limits.group[i]] -= 1
    limits.purse[0] -= limits.cost[i]


@compiled
def take_in_order(limits: Limits, order: Int64s, budget: int) -> Int64s:
    """Pick the rows of `order` that fit, one after another, at most `budget`."""
    picks, n = np.empty(budget, np.int64), 0
    for i in order:
        if n == budget:
            break
        if fits(limits, i):
            picks[n] = i
            n += 1
            pay(limits, i)
    return picks[:n]


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
