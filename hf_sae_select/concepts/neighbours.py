"""Neighbours: which rows of the pool each pick stands for, by the features that they share or by their vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s
from ..features.matrix import FeatureMatrix
from ..features.postings import Postings
from ..features.shares import Shares
from ..selection.similarity_pairs import Vectors, slices
from ..selection.trace import Trace
from ..selection.unit_vectors import quantize, quantized_length

STRONGEST = 64  # features of a row that are compared
BLOCK_ROWS = 4096  # rows whose vectors are compared together


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Hold the pick that is nearest to each row of the pool: the one that stands for it.

    Example, rows {0, 1}, {0, 1}, {0, 2}, {3} and the picks 0 and 2: row 1 belongs to row 0, and no pick is like row 3.
    So `pick` is [0, 0, 1, -1], and `counts` are [2, 1].
    """

    picks: Int64s
    """The selected rows, in the order they were picked: [k]."""
    pick: Int64s
    """[n]: the pick that each row belongs to, as its position in `picks`; -1 for rows that are like no pick, or were
    excluded. A picked row belongs to itself."""
    similarity: Floats
    """[n]: the cosine of the row and its pick, from 0 to 1; 1 for picks."""
    n_alone: int
    """The number of rows of the pool that share nothing with any pick."""

    @classmethod
    def of(cls, trace: Trace) -> Neighbours:
        """Compare rows as the method did: by their vectors where it compares these, else by their features."""
        selection, pool = trace.selection, trace.constraints.pool
        vectors = trace.features.vectors
        if compares_vectors(trace):
            assert vectors is not None
            return cls.by_vectors(vectors, selection.indices, pool, bool(trace.options.get("center", True)))
        return cls.by_features(trace.features, selection.indices, pool)

    @classmethod
    def by_features(cls, features: FeatureMatrix, picks: Int64s, pool: Int64s) -> Neighbours:
        """Compare rows by the cosine of their shares as `match` has them, of which each row's 64 strongest count.

        Args:
            picks: the selected rows.
            pool: the rows that could be selected, all others belong to nobody.
        """
        vectors = compared(features, pool)
        return cls._of(picks, pool, *Postings.of(vectors, picks).nearest(vectors))

    @classmethod
    def by_vectors(cls, vectors: Vectors, picks: Int64s, pool: Int64s, center: bool) -> Neighbours:
        """Compare rows by the cosine of their vectors, as the methods that compare vectors do."""
        unit = quantize(_only(vectors, pool), center)
        pick, similarity = np.full(len(unit), -1), np.zeros(len(unit))
        for part in slices(len(unit), BLOCK_ROWS):
            if len(picks):
                products = unit[part] @ unit[picks].T
                pick[part] = products.argmax(axis=1)
                similarity[part] = products.max(axis=1) / quantized_length(vectors) ** 2
        return cls._of(picks, pool, np.where(similarity > 0, pick, -1), np.clip(similarity, 0, 1))

    @classmethod
    def _of(cls, picks: Int64s, pool: Int64s, pick: Int64s, similarity: Floats) -> Neighbours:
        outside = np.ones(len(pick), np.bool_)
        outside[pool] = False
        pick[outside], similarity[outside] = -1, 0
        pick[picks], similarity[picks] = np.arange(len(picks)), 1
        return cls(picks, pick, similarity, int((pick[pool] < 0).sum()))

    @property
    def counts(self) -> Int64s:
        """[k]: how many rows belong to each pick, itself included."""
        counts: Int64s = np.bincount(self.pick[self.pick >= 0], minlength=len(self.picks))
        return counts

    def rows_of(self, pick: int) -> Int64s:
        """Return the other rows that belong to a pick, the most similar first."""
        order, starts = self._order
        rows: Int64s = order[starts[pick] : starts[pick + 1]]
        others: Int64s = rows[rows != self.picks[pick]]
        return others

    @cached_property
    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All rows that belong to a pick, by pick and then by similarity; and where each pick begins."""
        rows = np.flatnonzero(self.pick >= 0)
        order = rows[np.lexsort((rows, -self.similarity[rows], self.pick[rows]))]
        return order, np.concatenate([[0], self.counts.cumsum()])


def compares_vectors(trace: Trace) -> bool:
    """Tell whether rows are compared by their vectors: where the method does, and where they have no features."""
    return trace.features.vectors is not None and (trace.kind == "similarity" or not len(trace.features.ids))


def nearest_picks(trace: Trace, row: int, most: int) -> list[tuple[int, float]]:
    """Return the picks that are most like a row, as their positions, and how similar they are, above 0."""
    picks, pool = trace.selection.indices, trace.constraints.pool
    vectors = trace.features.vectors
    if compares_vectors(trace):
        assert vectors is not None
        unit = quantize(_only(vectors, pool), bool(trace.options.get("center", True)))
        similarity = (unit[picks] @ unit[row]).astype(np.float64) / quantized_length(vectors) ** 2
    else:
        shares = compared(trace.features, pool)
        entries = slice(shares.offsets[row], shares.offsets[row + 1])
        similarity = Postings.of(shares, picks).similarities(shares.ids[entries], shares.acts[entries])
    order = np.argsort(-similarity, kind="stable")[:most]
    return [(int(pick), min(float(similarity[pick]), 1.0)) for pick in order if similarity[pick] > 0]


def _only(vectors: Vectors, pool: Int64s) -> Vectors:
    """Return vectors with zeros for rows that could not be selected: they do not count in the mean."""
    if len(pool) == len(vectors):
        return vectors
    kept = np.zeros_like(vectors)
    kept[pool] = vectors[pool]
    return kept


def compared(features: FeatureMatrix, pool: Int64s) -> FeatureMatrix:
    """Return the shares of rows, cut to the 64 strongest of each row, in place of activations."""
    shares = Shares.of(features, pool)
    of_shares: FeatureMatrix = replace(features, acts=shares.amounts, vectors=None)
    return of_shares.above(0.0).top(STRONGEST)
