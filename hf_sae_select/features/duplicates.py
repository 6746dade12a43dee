"""Duplicates: rows whose features are nearly those of a pick, or of a row of another matrix.

Two rows are compared by the cosine of their shares (`features/shares.py`), which leave out what all rows have. No two
rows are compared that cannot be near: of vectors of length 1 whose entries are in one order, the first entries are the
prefix, up to where the rest is shorter than `least`. The first feature that two rows have in common is in the prefix
of both where their cosine is `least` or more, since the rest alone cannot reach it. So a row is compared only with the
picks that share a feature of its prefix. With rare features first, these are few, and most comparisons end early.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._validation import check_number
from .kernels import compiled, compiled_beyond
from .matrix import FeatureMatrix
from .shares import Shares

if TYPE_CHECKING:  # annotations only
    import pandas as pd

Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]
Ranks = NDArray[np.int32]
Vectors = tuple[Int64s, Ranks, Float32s, Float32s]

LEAST = 0.95  # the cosine of rows that are called near-duplicates
EQUAL = 1e-6  # cosines this near to 1 are 1, but for rounding


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Hold the rows that are near-duplicates of picks, as pairs; a row may be one of several picks.

    Example, picks 7 and 9, where row 8 has the features of row 7: picks [0], rows [8], similarity [1.0].
    """

    indices: Int64s
    """The picks, in the order they were picked: [k]."""
    picks: Int64s
    """Of each pair the place of the pick in `indices`, ascending: [m]."""
    rows: Int64s
    """Of each pair the other row, of equal picks the most similar one first: [m]."""
    similarity: Float32s
    """Of each pair the cosine, 1 where the shares are equal: [m]."""

    def of(self, pick: int) -> list[tuple[int, float]]:
        """Return the near-duplicates of a pick.

        Args:
            pick (`int`):
                The place of the pick, from 0 on.

        Returns:
            `list[tuple[int, float]]`: Rows with their similarity, the most similar one first.
        """
        first, last = np.searchsorted(self.picks, [pick, pick + 1])
        return list(zip(self.rows[first:last].tolist(), map(float, self.similarity[first:last]), strict=True))

    @cached_property
    def n_rows(self) -> int:
        """The number of rows beside the picks that are a near-duplicate of any pick."""
        return len(np.setdiff1d(self.rows, self.indices))

    @cached_property
    def groups(self) -> list[tuple[int, ...]]:
        """The groups of picks that are near-duplicates of each other, or linked by such ones: row numbers, in order.

        The largest group is first.
        """
        place = {row: pick for pick, row in enumerate(self.indices.tolist())}
        leader = list(range(len(self.indices)))

        def lead(pick: int) -> int:
            while leader[pick] != pick:
                leader[pick] = pick = leader[leader[pick]]
            return pick

        for pick, row in zip(self.picks.tolist(), self.rows.tolist(), strict=True):
            if row in place:
                first, second = sorted((lead(pick), lead(place[row])))
                leader[second] = first
        members: dict[int, list[int]] = {}
        for pick, row in enumerate(self.indices.tolist()):
            members.setdefault(lead(pick), []).append(row)
        return sorted((tuple(rows) for rows in members.values() if len(rows) > 1), key=len, reverse=True)

    def to_pandas(self) -> pd.DataFrame:
        """Return the pairs as a table.

        Returns:
            `pandas.DataFrame`: A line a pair: `pick`, the row of the pick, `row` and `similarity`.
        """
        import pandas as pd  # datasets needs it too, and loads it late

        picks = self.indices[self.picks]
        return pd.DataFrame({"pick": picks, "row": self.rows, "similarity": self.similarity})


def duplicates(
    features: FeatureMatrix,
    indices: Iterable[int],
    pool: Iterable[int] | None = None,
    *,
    least: float = LEAST,
) -> Duplicates:
    """Find the rows of the pool, other picks among them, that have nearly the features of a pick.

    Args:
        features (`FeatureMatrix`):
            All features of all rows; of each row the 256 strongest count.
        indices (`Iterable[int]`):
            The picks, in the order they were picked.
        pool (`Iterable[int]`, *optional*):
            The rows that are compared with the picks. By default all rows.
        least (`float`, *optional*, defaults to `0.95`):
            The least cosine of the shares of near-duplicates.

    Returns:
        `Duplicates`: The pairs. Rows without features are in none.

    Raises:
        ValueError: If `least` is no number above 0, up to 1.

    Example:

    ```python
    # rows {0, 1}, {0, 1}, {0, 2}
    duplicates(features, [0, 2]).of(0)  # [(1, 1.0)]
    ```
    """
    check_number("least", least, "(0, 1]")
    picks = np.array(list(indices), np.int64)
    rows = np.arange(len(features)) if pool is None else np.array(list(pool), np.int64)
    shares = Shares.of_strongest(features, rows)
    rank = np.empty(features.d_sae, np.int64)
    rank[np.argsort(shares.features.frequency, kind="stable")] = np.arange(features.d_sae)
    vectors = ranked(shares.features.offsets, shares.features.ids, shares.amounts, rank)
    bound = float(least) - EQUAL
    pairs = near_pairs(*vectors, rows, picks, *postings(*vectors, picks, len(rank), bound), bound)
    near_picks, near_rows, cosines = np.array(pairs).reshape(-1, 3).T
    similarity = np.where(cosines > 1 - EQUAL, 1, cosines).astype(np.float32)
    order = np.lexsort((near_rows, -similarity, near_picks))
    return Duplicates(picks, near_picks[order].astype(np.int64), near_rows[order].astype(np.int64), similarity[order])


def near_rows(
    features: FeatureMatrix, reference: FeatureMatrix, least: float = LEAST
) -> tuple[Int64s, Int64s, Float32s]:
    """Find the rows that have nearly the features of a row of another matrix, above the mean shares of `features`.

    Returns the rows, ascending; of each the most similar row of `reference`, of equal ones the first; and the cosine.
    """
    n = len(features)
    pairs = duplicates(_joined(features, reference), range(n, n + len(reference)), range(n), least=least)
    order = np.lexsort((pairs.picks, -pairs.similarity, pairs.rows))
    rows, first = np.unique(pairs.rows[order], return_index=True)
    return rows, pairs.picks[order][first], pairs.similarity[order][first]


def _joined(features: FeatureMatrix, reference: FeatureMatrix) -> FeatureMatrix:
    """Return the rows of one matrix and then those of another of the same SAE."""
    offsets = np.concatenate([features.offsets, features.offsets[-1] + reference.offsets[1:]])
    names = ("ids", "acts", "tokens")
    ids, acts, tokens = (np.concatenate([getattr(part, name) for part in (features, reference)]) for name in names)
    return FeatureMatrix(offsets, ids, acts, features.d_sae, tokens)


@compiled
def ranked(offsets: Int64s, ids: NDArray[Any], amounts: Float32s, rank: Int64s) -> Vectors:
    """Divide each row by its length, and sort its entries by the ranks of their features.

    Returns the offsets; the ranks and the values of the entries; and of each entry the length of the row from there
    on: [n + 1] and three times [nnz].
    """
    ranks, unit, rest = np.empty(len(ids), np.int32), np.empty_like(amounts), np.empty_like(amounts)
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        order = np.argsort(rank[ids[start:end]]) + start
        total = np.float64(0)
        for p in range(end - 1, start - 1, -1):
            total += amounts[order[p - start]] * amounts[order[p - start]]
            rest[p] = np.sqrt(total)
        length = np.sqrt(total) if total > 0 else 1.0
        for p in range(start, end):
            ranks[p] = rank[ids[order[p - start]]]
            unit[p] = amounts[order[p - start]] / length
            rest[p] /= length
    return offsets, ranks, unit, rest


@compiled
def postings(
    offsets: Int64s, ranks: Ranks, unit: Float32s, rest: Float32s, picks: Int64s, n_ranks: int, least: float
) -> tuple[Int64s, Int64s, Int64s]:
    """Return for each rank the picks that have it in their prefix.

    Returns where the picks of a rank begin, [n_ranks + 1]; their places in `picks`; and the entries.
    """
    starts = np.zeros(n_ranks + 1, np.int64)
    for i in picks:
        for p in range(offsets[i], offsets[i + 1]):
            starts[ranks[p] + 1] += unit[p] > 0 and rest[p] >= least
    starts = np.cumsum(starts)
    places, entries, ends = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.int64), starts.copy()
    for pick, i in enumerate(picks):
        for p in range(offsets[i], offsets[i + 1]):
            if unit[p] > 0 and rest[p] >= least:
                places[ends[ranks[p]]], entries[ends[ranks[p]]] = pick, p
                ends[ranks[p]] += 1
    return starts, places, entries


@compiled_beyond(lambda *arrays: len(arrays[1]) * len(arrays[5]))  # entries and picks
def near_pairs(
    offsets: Int64s,
    ranks: Ranks,
    unit: Float32s,
    rest: Float32s,
    rows: Int64s,
    picks: Int64s,
    starts: Int64s,
    places: Int64s,
    entries: Int64s,
    least: float,
) -> list[tuple[np.int64, np.int64, float]]:
    """Return the pairs of a pick and another row whose cosine is at least `least`: place of the pick, row, cosine."""
    near = [(np.int64(-1), np.int64(-1), 0.0)]  # numba needs an element to know the type of a list
    dense, last_row = np.zeros(len(starts) - 1, np.float32), np.full(len(picks), -1, np.int64)
    for i in rows:
        start, end = offsets[i], offsets[i + 1]
        dense[ranks[start:end]] = unit[start:end]
        for p in range(start, end):
            if rest[p] < least:  # the end of the prefix
                break
            if unit[p] == 0:
                continue
            for k in range(starts[ranks[p]], starts[ranks[p] + 1]):
                pick = places[k]
                if picks[pick] != i and last_row[pick] != i:  # else it is compared: by the first feature in common
                    last_row[pick] = i
                    cosine = _cosine(dense, ranks, unit, rest, entries[k], offsets[picks[pick] + 1], rest[p], least)
                    if cosine >= least:
                        near.append((pick, i, cosine))
        dense[ranks[start:end]] = 0
    return near[1:]


@compiled
def _cosine(
    dense: Float32s,
    ranks: Ranks,
    unit: Float32s,
    rest: Float32s,
    first: int,
    end: int,
    dense_rest: float,
    least: float,
) -> float:
    """Return the product of a dense row and another; 0 as soon as it cannot reach `least`.

    Entries `first` to `end` are those of the other row from the first feature in common on, and `dense_rest` is the
    length of the dense row from there on: by Cauchy and Schwarz, two lengths bound what is left of the product.
    """
    cosine = np.float64(0)
    for p in range(first, end):
        if cosine + dense_rest * rest[p] < least:
            return 0.0
        cosine += dense[ranks[p]] * unit[p]
    return cosine
