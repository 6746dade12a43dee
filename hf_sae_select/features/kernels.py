"""Compiled loops over a matrix in CSR form: counting features, and a radix select. Arrays in, arrays out.

`offsets` [n + 1] and `ids` [nnz] are as in `FeatureMatrix`; `amounts` [nnz] is a number for each entry, such as its
activation. numba keeps the machine code of a function on disk and does not notice changes in other files, so a
compiled function calls only compiled functions of its own file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, update_wrapper
from itertools import pairwise
from threading import local
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Steps = Callable[..., int]

# What Python may interpret of one function in a process, in steps: about the time that compiling it takes.
MOST_INTERPRETED = 2**18


class Kernel:
    """A loop over arrays: Python interprets it while there is little to do, and numba compiles it for more.

    Both give the same numbers, bit by bit. So what is compiled changes the time of a call, and nothing else. A loop
    keeps to what means the same in both: a sum begins with a number of numpy's (`np.int64(0)`), because Python's 0
    takes the type of what is added.
    """

    def __init__(self, function: Callable[..., Any], steps: Steps, **options: Any) -> None:
        update_wrapper(self, function)
        self._function, self._steps, self._options = function, steps, options
        self._interpreted = 0

    def __call__(self, *arguments: Any) -> Any:
        if _thread.interprets:
            return self._function(*arguments)
        if self._interpreted <= MOST_INTERPRETED:
            self._interpreted += self._steps(*arguments)
        if self._interpreted > MOST_INTERPRETED:
            return self._dispatcher(*arguments)
        _thread.interprets = True
        try:
            with np.errstate(all="ignore"):  # as in compiled code
                return self._function(*arguments)
        finally:
            _thread.interprets = False

    @cached_property
    def _dispatcher(self) -> Any:
        from .compiler import dispatcher  # numba takes a third of a second to import

        return dispatcher(self._function, **self._options)

    @property
    def _numba_type_(self) -> Any:
        """The type by which numba knows a function that another compiled one calls."""
        return self._dispatcher._numba_type_


class _Thread(local):
    """What a thread does at the moment."""

    interprets = False  # a function that an interpreted one calls is interpreted too
    is_one_of_many = False  # what it calls starts no more threads: the others are at work


_thread = _Thread()


def sizes(*arguments: Any) -> int:
    """Return the sizes of all arrays among the arguments, in tuples too."""
    arrays = sum(a.size for a in arguments if isinstance(a, np.ndarray))
    return arrays + sum(sizes(*a) for a in arguments if isinstance(a, tuple))


def compiled_beyond(steps: Steps, **options: Any) -> Callable[[F], F]:
    """Make a kernel of a function; `steps` estimates from its arguments how often its innermost loop runs."""

    def kernel(function: F) -> F:
        return cast(F, Kernel(function, steps, **options))

    return kernel


compiled: Callable[[F], F] = compiled_beyond(sizes)

# For bounds alone: sums in any order, so that the processor adds several numbers at a time.
compiled_for_bounds: Callable[[F], F] = compiled_beyond(sizes, fastmath=True)

Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]

FEW_IDS = 2**20  # one thread reads up to this many ids in less time than other threads take to start
MOST_THREADS = 8


def frequency(offsets: Int64s, ids: NDArray[Any], d_sae: int) -> Int64s:
    """Count the rows that have each feature: [d_sae]."""
    parts = [(offsets[first], offsets[last]) for first, last in blocks(offsets)]
    counts = np.zeros((len(parts), d_sae), np.int64)
    in_threads(_count, [(*part, n) for part, n in zip(parts, counts, strict=True)], ids)
    return np.asarray(counts.sum(axis=0))


@compiled_beyond(lambda start, stop, *_: stop - start)
def _count(start: int, stop: int, counts: Int64s, ids: NDArray[Any]) -> None:
    for feature in ids[start:stop]:
        counts[feature] += 1


@compiled
def offsets_of(offsets: Int64s, mask: NDArray[np.bool_]) -> Int64s:
    """Return where the rows begin among the entries of a mask [nnz], and where the last one ends: [n + 1]."""
    kept = np.zeros(len(offsets), np.int64)
    for i in range(len(offsets) - 1):
        count = 0
        for p in range(offsets[i], offsets[i + 1]):
            count += mask[p]
        kept[i + 1] = kept[i] + count
    return kept


@compiled_beyond(lambda offsets, values, rows, starts: len(rows))
def of_rows(offsets: Int64s, values: NDArray[Any], rows: Int64s, starts: Int64s) -> NDArray[Any]:
    """Return the entries of some rows, one row after another; `starts` [rows + 1] are where they then begin."""
    taken = np.empty(starts[-1], values.dtype)
    for i in range(len(rows)):
        taken[starts[i] : starts[i + 1]] = values[offsets[rows[i]] : offsets[rows[i] + 1]]
    return taken


@compiled
def holders(offsets: Int64s, ids: NDArray[Any], rows: Int64s, d_sae: int) -> Int64s:
    """Count the rows among `rows` that have each feature: [d_sae]."""
    counts = np.zeros(d_sae, np.int64)
    for i in rows:
        for feature in ids[offsets[i] : offsets[i + 1]]:
            counts[feature] += 1
    return counts


@compiled
def new_features(offsets: Int64s, ids: NDArray[Any], d_sae: int, indices: Int64s) -> Int64s:
    """Count the features that each row of `indices` adds to the rows before it: [len(indices)]."""
    new, covered = np.zeros(len(indices), np.int64), np.zeros(d_sae, np.bool_)
    for n, i in enumerate(indices):
        count = 0
        for feature in ids[offsets[i] : offsets[i + 1]]:
            count += not covered[feature]
            covered[feature] = True
        new[n] = count
    return new


def mass(offsets: Int64s, ids: NDArray[Any], amounts: NDArray[np.float32], rows: Int64s, d_sae: int) -> Floats:
    """Sum each feature's share of its row's amounts over `rows`: [d_sae]. Every row with amounts adds 1 in all."""
    masses = np.zeros(d_sae)
    add_mass(offsets, ids, amounts, rows, masses)
    return masses


@compiled
def add_mass(offsets: Int64s, ids: NDArray[Any], amounts: NDArray[np.float32], rows: Int64s, masses: Floats) -> None:
    """Add each feature's share of its row's amounts to `masses` [d_sae], row after row."""
    for i in rows:
        total = np.float64(0)
        for p in range(offsets[i], offsets[i + 1]):
            total += amounts[p]
        for p in range(offsets[i], offsets[i + 1]):
            if amounts[p] > 0:
                masses[ids[p]] += amounts[p] / total


@compiled_beyond(lambda offsets, ids, *_: len(ids))
def shares_above(
    offsets: Int64s, ids: NDArray[Any], amounts: NDArray[np.float32], mean_shares: Floats
) -> NDArray[np.float32]:
    """Return how far each entry's share of its row exceeds the feature's mean share, normalised to sum 1 a row: [nnz].

    `mean_shares` is [d_sae]. A row with no share above the mean falls back to its shares.
    """
    excess = np.zeros_like(amounts)
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        row_total = excess_total = np.float64(0)
        for p in range(start, end):
            row_total += amounts[p]
        for p in range(start, end):
            # Ignore differences at rounding level, which the division below would magnify.
            difference = amounts[p] / row_total - mean_shares[ids[p]]
            if difference > 1e-6 * mean_shares[ids[p]]:
                excess[p] = difference
                excess_total += excess[p]
        for p in range(start, end):
            if excess_total > 0:
                excess[p] /= excess_total
            elif row_total > 0:
                excess[p] = amounts[p] / row_total
    return excess


@compiled
def affinities(
    offsets: Int64s, ids: NDArray[Any], amounts: NDArray[np.float32], rows: Int64s, target: Floats
) -> Floats:
    """Return the Bhattacharyya affinity of `target` [d_sae] and the mass of the first 1, 2, ... of `rows`: [k]."""
    curve, masses, target_mass = np.zeros(len(rows)), np.zeros(len(target)), 0.0
    for part in target:  # one by one: numpy and numba add an array up in different orders
        target_mass += part
    affinity = mass = 0.0
    for k, i in enumerate(rows):
        total = np.float64(0)
        for p in range(offsets[i], offsets[i + 1]):
            total += amounts[p]
        for p in range(offsets[i], offsets[i + 1]):
            if amounts[p] > 0:
                share, before = amounts[p] / total, masses[ids[p]]
                masses[ids[p]] += share
                # The difference of the roots, without the cancellation of subtracting them.
                affinity += np.sqrt(target[ids[p]]) * share / (np.sqrt(before + share) + np.sqrt(before))
        mass += total > 0
        if mass > 0:
            curve[k] = min(affinity / np.sqrt(target_mass * mass), 1.0)
    return curve


def largest_of_rows(offsets: Int64s, bits: NDArray[np.uint32], m: int) -> Int64s:
    """Return the positions of the `m` largest values of each row, ascending; of equal values the first.

    `bits` [nnz] are the bits of positive float32 values, which sort as the values do.
    """
    starts = np.concatenate([[0], np.minimum(np.diff(offsets), m).cumsum()])
    positions = np.empty(starts[-1], np.int64)
    in_threads(_largest_of_rows, blocks(offsets), offsets, bits, m, starts, positions)
    return positions


@compiled_beyond(lambda low, high, offsets, *_: 4 * (offsets[high] - offsets[low]))
def _largest_of_rows(
    low: int, high: int, offsets: Int64s, bits: NDArray[np.uint32], m: int, starts: Int64s, positions: Int64s
) -> None:
    """Write the positions for the rows from `low` to `high`."""
    kept, counts = np.empty(m + 1, np.int64), np.empty(256, np.int64)
    for i in range(low, high):
        start, end, n = offsets[i], offsets[i + 1], 0
        pivot, known, left = np.uint32(0), np.uint32(0), m
        if end - start > m:
            pivot, known, left = _pivot(bits[start:end], m, counts)
        for position in range(start, end):
            kept[n] = position  # without a branch, which a processor would guess wrong for half of the entries
            equal = bits[position] & known == pivot
            n += (bits[position] & known > pivot) | (equal & (left > 0))
            left -= equal
        positions[starts[i] : starts[i + 1]] = kept[:n]


@compiled_beyond(lambda bits, *_: 2 * len(bits))
def _pivot(bits: NDArray[np.uint32], m: int, counts: Int64s) -> tuple[np.uint32, np.uint32, int]:
    """Return the highest bits of the m-th largest value, a mask of them, and how many values of these bits to keep.

    A radix select finds them eight bits at a time, from the highest that differ between values: count the candidates
    by these bits, walk down from 255 until the m-th is reached, and go on among the candidates that share the bits,
    unless all of them are kept.
    """
    differing, shift, left = np.uint32(0), 0, m
    for value in bits:
        differing |= value ^ bits[0]
    while differing >> np.uint32(shift) > 255:
        shift += 1
    known = np.uint32(2**32 - 2 ** (shift + 8))
    pivot = bits[0] & known
    while True:
        counts[:] = 0
        for value in bits:
            if value & known == pivot:
                counts[(value >> np.uint32(shift)) & np.uint32(255)] += 1
        byte = 255
        while left > counts[byte]:
            left -= counts[byte]
            byte -= 1
        pivot |= np.uint32(byte << shift)
        known |= np.uint32(255 << shift)
        if shift == 0 or left == counts[byte]:
            return pivot, known, left
        shift = max(shift - 8, 0)


# ---- threads


def blocks(offsets: Int64s) -> list[tuple[int, int]]:
    """Cut the rows into ranges with about equally many ids, one range for each core."""
    parts = min(cores(), MOST_THREADS) if offsets[-1] > FEW_IDS else 1
    cuts = np.searchsorted(offsets, np.arange(1, parts) * (offsets[-1] // parts))
    return list(pairwise([0, *cuts.tolist(), len(offsets) - 1]))


def in_threads(work: Callable[..., Any], parts: Sequence[tuple[Any, ...]], *arguments: Any) -> list[Any]:
    """Call a function with every part, in threads where several can run, and return what it returns."""
    workers = 1 if _thread.is_one_of_many else min(len(parts), cores(), MOST_THREADS)
    if workers < 2:
        return [work(*part, *arguments) for part in parts]
    # For this call only: the threads of a pool do not survive a fork.
    with ThreadPoolExecutor(workers, initializer=setattr, initargs=(_thread, "is_one_of_many", True)) as threads:
        return list(threads.map(lambda part: work(*part, *arguments), parts))


def cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
