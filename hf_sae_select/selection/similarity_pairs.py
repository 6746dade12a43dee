"""Pairs of rows whose similarity still matters, for `similarity.facility_location`. Never n x n in memory.

A pair (i, j) matters while j is nearer to i than every picked row is. `nearest` [n] is each row's similarity to its
nearest picked row, 0 at least. All similarities are whole numbers, so every sum here is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, compiled
from .coverage import Csr

Vectors = NDArray[np.float32]

BLOCK_SIZE = 2**24  # similarities in memory at a time: 64 MB
SAMPLE_SIZE = 256  # rows from which the number of pairs is estimated


def slices(n: int, size: int) -> Iterator[slice]:
    """Cut n rows into slices of `size` rows, at least 1."""
    for start in range(0, n, max(1, size)):
        yield slice(start, start + max(1, size))


def similarity_blocks(vectors: Vectors, rows: Int64s) -> Iterator[Vectors]:
    """Yield the dot products of `rows` with all rows, a block of rows at a time."""
    for part in slices(len(rows), BLOCK_SIZE // max(1, len(vectors))):
        yield vectors[rows[part]] @ vectors.T


def sample_rows(n: int) -> Int64s:
    """Draw SAMPLE_SIZE of n rows, always the same ones. They are random, because a dataset may be periodic."""
    return np.sort(np.random.default_rng(0).choice(n, min(n, SAMPLE_SIZE), replace=False))


def estimate_pairs(vectors: Vectors, nearest: Vectors, sample: Int64s) -> float:
    """Estimate the number of pairs that matter from the rows of `sample`."""
    pairs = sum(np.count_nonzero(block > nearest) for block in similarity_blocks(vectors, sample))
    return pairs * len(vectors) / max(1, len(sample))


def pairs_above(vectors: Vectors, nearest: Vectors) -> Csr:
    """Return the pairs that matter: row j has the ids i, and as amounts similarity(i, j) - nearest[i]."""
    counts, ids, amounts = [0], list[NDArray[Any]](), list[NDArray[Any]]()
    for block in similarity_blocks(vectors, np.arange(len(vectors))):
        block_counts, block_ids, block_amounts = _above(block, nearest)
        counts += block_counts.tolist()
        ids.append(block_ids)
        amounts.append(block_amounts)
    offsets = np.cumsum(counts)
    return Csr(offsets[:-1], offsets[1:], _concatenate(ids, np.uint32), _concatenate(amounts, np.float32))


def _concatenate(parts: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    """Concatenate `parts`, and empty the list meanwhile, so that no part is in memory twice."""
    end = sum(map(len, parts))
    result = np.empty(end, dtype)  # takes no memory until it is written
    while parts:
        part = parts.pop()
        result[end - len(part) : end] = part
        end -= len(part)
    return result


@compiled
def _above(similarities: Vectors, nearest: Vectors) -> tuple[Int64s, NDArray[np.uint32], Vectors]:
    """Return how many similarities of each row exceed `nearest`, in which columns, and by how much."""
    counts = np.zeros(len(similarities), np.int64)
    for i in range(len(similarities)):
        for j in range(len(nearest)):
            counts[i] += similarities[i, j] > nearest[j]
    ids, amounts = np.empty(counts.sum(), np.uint32), np.empty(counts.sum(), np.float32)
    n = 0
    for i in range(len(similarities)):
        for j in range(len(nearest)):
            if similarities[i, j] > nearest[j]:
                ids[n], amounts[n] = j, similarities[i, j] - nearest[j]
                n += 1
    return counts, ids, amounts


@compiled
def excess(similarities: Vectors, nearest: Vectors) -> Floats:
    """Add up by how much the similarities of each row exceed `nearest`."""
    totals = np.zeros(len(similarities))
    for i in range(len(similarities)):
        for j in range(len(nearest)):
            totals[i] += max(similarities[i, j] - nearest[j], np.float32(0))
    return totals
