"""Duplicates: rows of the pool whose features are nearly those of a pick, and picks that nearly repeat each other.

Two rows are compared by the cosine of their shares (`features/shares.py`), which leave out what all rows have. No two
rows are compared that cannot be near: of vectors of length 1 whose entries are in one order, the first entries are the
prefix, up to where the rest is shorter than `least`. The first feature that two rows have in common is in the prefix
of both where their cosine is `least` or more, since the rest alone cannot reach it. So a row is compared only with the
picks that share a feature of its prefix. With rare features first, these are few. What is found is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._validation import check_number
from ..features.kernels import compiled
from ..features.matrix import FeatureMatrix
from ..features.shares import Shares

if TYPE_CHECKING:  # annotations only
    import pandas as pd

Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]

LEAST = 0.95  # the cosine of rows that are called near-duplicates
EQUAL = 1e-6  # cosines this near to 1 are 1, but for rounding
GROUPS = 32  # sums of squares of a row, by which most cosines are bounded without computing them


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
    offsets, ids, d_sae = shares.features.offsets, shares.features.ids, shares.features.d_sae
    unit = unit_rows(offsets, shares.amounts)
    rank = np.empty(d_sae, np.int64)
    rank[np.argsort(shares.features.frequency, kind="stable")] = np.arange(d_sae)
    bound = float(least) - EQUAL  # of products of float32
    used = np.unique(np.concatenate([rows, picks]))
    prefix = prefixes(offsets, ids, unit, rank, used, bound)
    sums = group_norms(offsets, ids, unit)
    starts, places = postings(offsets, ids, prefix, picks, d_sae)
    pairs = near_pairs(offsets, ids, unit, prefix, sums, rows, picks, starts, places, d_sae, bound)
    near_picks, near_rows, cosines = np.array(pairs).reshape(-1, 3).T
    similarity = np.where(cosines > 1 - EQUAL, 1, cosines).astype(np.float32)
    order = np.lexsort((near_rows, -similarity, near_picks))
    return Duplicates(picks, near_picks[order].astype(np.int64), near_rows[order].astype(np.int64), similarity[order])


@compiled
def unit_rows(offsets: Int64s, amounts: Float32s) -> Float32s:
    """Divide the amounts of each row by their length: [nnz]."""
    unit = np.zeros_like(amounts)
    for i in range(len(offsets) - 1):
        total = 0.0
        for p in range(offsets[i], offsets[i + 1]):
            total += float(amounts[p]) ** 2
        for p in range(offsets[i], offsets[i + 1]):
            if amounts[p] > 0:
                unit[p] = amounts[p] / np.sqrt(total)
    return unit


@compiled
def prefixes(
    offsets: Int64s, ids: NDArray[Any], unit: Float32s, rank: Int64s, rows: Int64s, least: float
) -> NDArray[np.bool_]:
    """Mark the entries of the prefix of each row of `rows`, features of a low rank first: [nnz]."""
    marks = np.zeros(len(ids), np.bool_)
    for i in rows:
        rest = 0.0
        for p in range(offsets[i], offsets[i + 1]):
            rest += float(unit[p]) ** 2
        for p in np.argsort(rank[ids[offsets[i] : offsets[i + 1]]]) + offsets[i]:
            if rest < least**2:
                break
            marks[p] = unit[p] > 0
            rest -= float(unit[p]) ** 2
    return marks


@compiled
def group_norms(offsets: Int64s, ids: NDArray[Any], unit: Float32s) -> Float32s:
    """Return the length of each row's entries in `GROUPS` groups of features: [n, GROUPS]."""
    sums = np.zeros((len(offsets) - 1, GROUPS), np.float32)
    for i in range(len(offsets) - 1):
        for p in range(offsets[i], offsets[i + 1]):
            sums[i, ids[p] % GROUPS] += unit[p] * unit[p]
    return np.sqrt(sums)


@compiled
def postings(
    offsets: Int64s, ids: NDArray[Any], prefix: NDArray[np.bool_], picks: Int64s, d_sae: int
) -> tuple[Int64s, Int64s]:
    """Return for each feature the picks that have it in their prefix: where they begin, [d_sae + 1], and they."""
    starts = np.zeros(d_sae + 1, np.int64)
    for i in picks:
        for p in range(offsets[i], offsets[i + 1]):
            starts[np.int64(ids[p]) + 1] += prefix[p]
    starts = np.cumsum(starts)
    places, ends = np.empty(starts[-1], np.int64), starts.copy()
    for pick, i in enumerate(picks):
        for p in range(offsets[i], offsets[i + 1]):
            if prefix[p]:
                places[ends[ids[p]]] = pick
                ends[ids[p]] += 1
    return starts, places


@compiled
def near_pairs(
    offsets: Int64s,
    ids: NDArray[Any],
    unit: Float32s,
    prefix: NDArray[np.bool_],
    sums: Float32s,
    rows: Int64s,
    picks: Int64s,
    starts: Int64s,
    places: Int64s,
    d_sae: int,
    least: float,
) -> list[tuple[np.int64, np.int64, float]]:
    """Return the pairs of a pick and another row whose cosine is at least `least`: place of the pick, row, cosine."""
    near = [(np.int64(-1), np.int64(-1), 0.0)]  # numba needs an element to know the type of a list
    dense, last_row = np.zeros(d_sae, np.float32), np.full(len(picks), -1, np.int64)
    for i in rows:
        entries = slice(offsets[i], offsets[i + 1])
        dense[ids[entries]] = unit[entries]
        for feature in ids[entries][prefix[entries]]:
            for pick in places[starts[feature] : starts[np.int64(feature) + 1]]:
                if picks[pick] == i or last_row[pick] == i:
                    continue
                last_row[pick] = i
                if _product(sums[i], sums[picks[pick]]) < least:  # by Cauchy and Schwarz no cosine is larger
                    continue
                others = slice(offsets[picks[pick]], offsets[picks[pick] + 1])
                cosine = _product(dense[ids[others]], unit[others])
                if cosine >= least:
                    near.append((pick, i, cosine))
        dense[ids[entries]] = 0
    return near[1:]


@compiled
def _product(first: Float32s, second: Float32s) -> float:
    total = 0.0
    for i in range(len(first)):
        total += first[i] * second[i]
    return total
