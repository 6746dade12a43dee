"""Postings: which of some rows have each feature, and which of them is most like any other row. Compiled loops.

Similarity is the cosine of two rows' vectors, of which only the entries above 0 are stored. So the rows that share no
feature are never compared, and the time is that of the shared entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels import Floats, Int64s, blocks, compiled, compiled_beyond, in_threads
from .matrix import FeatureMatrix


@dataclass(frozen=True, eq=False)
class Postings:
    """Hold, for each feature, which of some rows have it.

    Example, rows {0, 1}, {1, 2} of three features: offsets [0, 1, 3, 4], places [0, 0, 1, 1].
    """

    offsets: Int64s
    """Where each feature begins in `places` and `amounts`: int64 [d_sae + 1]."""
    places: NDArray[np.int64]
    """Places of rows in `rows`, ascending for each feature: [entries]."""
    amounts: Floats
    """The entries of the rows' vectors of length 1: [entries]."""
    rows: Int64s

    @classmethod
    def of(cls, vectors: FeatureMatrix, rows: Int64s) -> Postings:
        """Index `rows` of a matrix, whose activations are the entries of vectors."""
        counts = vectors.counts[rows]
        entries = np.repeat(vectors.offsets[rows] - (counts.cumsum() - counts), counts) + np.arange(counts.sum())
        ids = vectors.ids[entries].astype(np.int64)
        by_feature = np.argsort(ids, kind="stable")
        offsets = np.concatenate([[0], np.bincount(ids, minlength=vectors.d_sae).cumsum()])
        lengths = _row_lengths(vectors.offsets, vectors.acts)[rows]
        amounts = vectors.acts[entries] / np.repeat(lengths, counts)
        places = np.repeat(np.arange(len(rows)), counts)
        return cls(offsets, places[by_feature], amounts[by_feature], rows)

    def nearest(self, vectors: FeatureMatrix) -> tuple[Int64s, Floats]:
        """Return, for each row of a matrix, the place of the most similar of `rows`, and the similarity.

        Of equal ones it is the first; -1 for a row that shares no feature with any of them.
        """
        n = len(vectors)
        places, similarity = np.full(n, -1), np.zeros(n)
        arrays = (vectors.offsets, vectors.ids, vectors.acts, self.offsets, self.places, self.amounts, len(self.rows))
        in_threads(_nearest, blocks(vectors.offsets), *arrays, places, similarity)
        lengths = _row_lengths(vectors.offsets, vectors.acts)
        return places, np.minimum(similarity / lengths, 1)

    def similarities(self, ids: NDArray[Any], amounts: NDArray[np.float32]) -> Floats:
        """Return the similarity of one row to each of `rows`: [rows]."""
        scores = np.zeros(len(self.rows))
        for feature, amount in zip(ids.tolist(), amounts.tolist(), strict=True):
            entries = slice(self.offsets[feature], self.offsets[feature + 1])
            scores[self.places[entries]] += amount * self.amounts[entries]
        return np.minimum(scores / max(float(np.linalg.norm(amounts.astype(np.float64))), 1e-300), 1)


@compiled
def _row_lengths(offsets: Int64s, acts: NDArray[np.float32]) -> Floats:
    """Return the length of each row's vector; 1 for a row without entries."""
    lengths = np.ones(len(offsets) - 1)
    for i in range(len(lengths)):
        square = 0.0
        for p in range(offsets[i], offsets[i + 1]):
            square += np.float64(acts[p]) * np.float64(acts[p])
        if square > 0:
            lengths[i] = np.sqrt(square)
    return lengths


@compiled_beyond(lambda low, high, offsets, ids, acts, starts, places, amounts, size, *_: len(ids) * size)
def _nearest(
    low: int,
    high: int,
    offsets: Int64s,
    ids: NDArray[Any],
    acts: NDArray[np.float32],
    starts: Int64s,
    places: Int64s,
    amounts: Floats,
    size: int,
    nearest: Int64s,
    similarity: Floats,
) -> None:
    """Find the nearest place of the rows from `low` to `high`, up to the length of the row's own vector."""
    scores, touched = np.zeros(size), np.empty(size, np.int64)
    for i in range(low, high):
        n = 0
        for p in range(offsets[i], offsets[i + 1]):
            for q in range(starts[ids[p]], starts[ids[p] + 1]):
                place = places[q]
                if scores[place] == 0:
                    touched[n] = place
                    n += 1
                scores[place] += acts[p] * amounts[q]
        best, largest = -1, 0.0
        for place in touched[:n]:
            if scores[place] > largest or (scores[place] == largest and place < best):
                best, largest = place, scores[place]
            scores[place] = 0
        nearest[i], similarity[i] = best, largest
