"""Counting over the rows of a pool: how many have a feature, and how much of it. Arrays in, arrays out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
# numba has no types: say that the signature stays. Kept on disk, and free of the interpreter lock.
compiled: Callable[[F], F] = njit(cache=True, nogil=True, error_model="numpy")

Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]

SMALL = 2**20  # ids that one thread reads in less time than others take to start


def frequency(offsets: Int64s, ids: NDArray[Any], d_sae: int) -> Int64s:
    """Count the rows that have each feature: [d_sae]."""
    parts = [(offsets[low], offsets[high]) for low, high in blocks(offsets)]
    counts = np.zeros((len(parts), d_sae), np.int64)
    in_threads(_count, [(*part, n) for part, n in zip(parts, counts, strict=True)], ids)
    return np.asarray(counts.sum(axis=0))


@compiled
def _count(low: int, high: int, counts: Int64s, ids: NDArray[Any]) -> None:
    for feature in ids[low:high]:
        counts[feature] += 1


@compiled
def holders(offsets: Int64s, ids: NDArray[Any], rows: Int64s, d_sae: int) -> Int64s:
    """Count those of `rows` that have each feature: [d_sae]."""
    counts = np.zeros(d_sae, np.int64)
    for i in rows:
        for feature in ids[offsets[i] : offsets[i + 1]]:
            counts[feature] += 1
    return counts


@compiled
def shares_above(
    offsets: Int64s, ids: NDArray[Any], amounts: NDArray[np.float32], usual: Floats
) -> NDArray[np.float32]:
    """Return by how much each row's shares exceed `usual` [d_sae], divided by its sum: every row then weighs 1.

    A row with no share above what is usual keeps all its shares.
    """
    found = np.zeros_like(amounts)
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        whole = above = 0.0
        for p in range(start, end):
            whole += amounts[p]
        for p in range(start, end):
            # rows that are all alike exceed their mean by rounding alone, which is not to be blown up
            more = amounts[p] / whole - usual[ids[p]]
            if more > 1e-6 * usual[ids[p]]:
                found[p] = more
                above += found[p]
        for p in range(start, end):
            if above > 0:
                found[p] /= above
            elif whole > 0:
                found[p] = amounts[p] / whole
    return found


@compiled
def mass(offsets: Int64s, ids: NDArray[Any], amounts: NDArray[np.float32], rows: Int64s, d_sae: int) -> Floats:
    """Add up the shares that `rows` have of each feature: [d_sae], in all as many as rows with features."""
    found = np.zeros(d_sae)
    for i in rows:
        total = 0.0
        for p in range(offsets[i], offsets[i + 1]):
            total += amounts[p]
        for p in range(offsets[i], offsets[i + 1]):
            if amounts[p] > 0:
                found[ids[p]] += amounts[p] / total
    return found


@compiled
def new_features(offsets: Int64s, ids: NDArray[Any], d_sae: int, indices: Int64s) -> Int64s:
    """Count the features that each row of `indices` adds to those of all rows before it."""
    new, covered = np.zeros(len(indices), np.int64), np.zeros(d_sae, np.bool_)
    for n, i in enumerate(indices):
        count = 0
        for feature in ids[offsets[i] : offsets[i + 1]]:
            count += not covered[feature]
            covered[feature] = True
        new[n] = count
    return new


def blocks(offsets: Int64s) -> list[tuple[int, int]]:
    """Cut the rows into stretches of about equally many ids, one for each core."""
    parts = min(cores(), 8) if offsets[-1] > SMALL else 1
    cuts = np.searchsorted(offsets, np.arange(1, parts) * (offsets[-1] // parts))
    return list(pairwise([0, *cuts.tolist(), len(offsets) - 1]))


def in_threads(kernel: Callable[..., None], parts: Sequence[tuple[Any, ...]], *arguments: Any) -> None:
    """Run a kernel on every part; kernels let go of the interpreter lock."""
    if len(parts) == 1:
        kernel(*parts[0], *arguments)
        return
    with ThreadPoolExecutor(len(parts)) as threads:  # for this call only: threads of a pool do not survive a fork
        list(threads.map(lambda part: kernel(*part, *arguments), parts))


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@compiled
def strongest(offsets: NDArray[np.int64], bits: NDArray[np.uint32], m: int) -> NDArray[np.int64]:
    """Return the positions of each row's `m` largest values, ascending; of equal values the first.

    `bits` are those of floats above zero, which are in order where the floats are. The m-th largest is found byte by
    byte, the highest first: so many have a larger one, and the search goes on among those that share its own.
    """
    positions, n, counts = np.empty(np.minimum(np.diff(offsets), m).sum(), np.int64), 0, np.empty(256, np.int64)
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        least, known, left = np.uint32(0), np.uint32(0), m  # of the m-th largest: its bits, as far as they are known
        if end - start > m:
            for shift in (24, 16, 8, 0):
                counts[:] = 0
                for each in bits[start:end]:
                    if each & known == least:
                        counts[(each >> np.uint32(shift)) & np.uint32(255)] += 1
                byte = 255
                while left > counts[byte]:
                    left -= counts[byte]
                    byte -= 1
                least |= np.uint32(byte << shift)
                known |= np.uint32(255 << shift)
        for position in range(start, end):
            equal = bits[position] == least
            if bits[position] > least or (equal and left > 0):
                positions[n] = position
                n += 1
                left -= equal
    return positions[:n]
