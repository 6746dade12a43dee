"""Shard: the features of some rows of a pool, and what a driver asks of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...features import kernels
from ...features.kernels import Floats, Int64s
from ...features.matrix import FeatureMatrix
from ...features.shares import add_shares
from ...features.sums import sum_of_acts
from ..coverage import Amounts
from ..overlap import Overlap, contents_of, equal_values
from ..unit_vectors import NO_VECTORS, VectorSum
from .codes import Codes, Cut
from .messages import HerdingTask, Offer, Rows, Task, Update, VectorSummary
from .search import CoverSearch, ScanSearch
from .unit_vectors import UnitVectors
from .vector_column import VectorColumn
from .vectors import ShardVectors


class Shard:
    """Hold the features of rows, and answer a driver. Rows have numbers within the shard.

    Args:
        rows: features, cut as the method sees them; or codes, which stay in their files.
        vectors: the vectors of the rows, where these are not with the features.
    """

    def __init__(self, rows: FeatureMatrix | Codes, vectors: VectorColumn | None = None) -> None:
        self._rows, self._vector_column, self._cuts = rows, vectors, dict[Cut, Shard]()
        self._is_excluded = np.zeros(len(rows), np.bool_)
        self._search: CoverSearch | ScanSearch | None = None
        self._vectors: ShardVectors | None = None
        self._unit_vectors: UnitVectors | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def of_cut(self, cut: Cut, method: str, *arguments: Any) -> Any:
        """Call a method of the shard of the same rows with fewer features."""
        if cut not in self._cuts:
            rows = self._rows
            cut_rows = replace(rows, cut=cut) if isinstance(rows, Codes) else cut.of(rows)
            self._cuts[cut] = Shard(cut_rows, self._vector_column)
        return getattr(self._cuts[cut], method)(*arguments)

    def blocks(self) -> Iterator[tuple[FeatureMatrix, Int64s]]:
        """Yield the features of all rows, a block at a time, and which rows of a block are in the pool."""
        start = 0
        for block in self._rows.blocks() if isinstance(self._rows, Codes) else [self._rows]:
            yield block, np.flatnonzero(~self._is_excluded[start : start + len(block)])
            start += len(block)

    def summary(self) -> dict[str, Any]:
        """Return what the driver holds of every row, and the number of rows that have each feature."""
        parts = [(block.counts.astype(np.int32), block.tokens, block.frequency) for block, _ in self.blocks()]
        counts, tokens, frequency = zip(*parts, strict=True)
        return {"counts": np.concatenate(counts), "tokens": np.concatenate(tokens), "frequency": sum(frequency)}

    def leave_out(self, excluded: Int64s) -> Int64s:
        """Set the rows that sums over the pool leave out; return how many of them have each feature: [d_sae]."""
        self._is_excluded[:] = False
        self._is_excluded[excluded] = True
        taken = self._rows.take(excluded)
        return taken.frequency

    def take(self, rows: Int64s) -> Rows:
        """Return the features of rows, with their activations as amounts."""
        part = self._rows.take(rows)
        return Rows(part.counts, part.ids, part.acts)

    def first_holders(self, rows: Int64s, positions: Int64s, n: int) -> NDArray[np.int32]:
        """Return the least position, below `n`, of a row that has each feature, `n` where none has: [d_sae]."""
        part = self._rows.take(rows)
        first = np.full(part.d_sae, n, np.int32)
        np.minimum.at(first, part.ids, np.repeat(positions.astype(np.int32), part.counts))
        return first

    def equal_rows(self, reference: FeatureMatrix) -> Overlap:
        """Return which rows have the features of a row of a reference."""
        contents = chain.from_iterable(contents_of(block) for block, _ in self.blocks())
        return equal_values(contents, contents_of(reference))

    # ---- sums over the rows of the pool, which go on from shard to shard

    def add_shares(self, sums: Floats) -> Floats:
        """Add the shares of all rows to sums: [d_sae]."""
        sums = sums.copy()
        for block, pool in self.blocks():
            add_shares(block, pool, sums)
        return sums

    def add_mass(self, amounts: Amounts, masses: Floats) -> Floats:
        """Add to masses [d_sae] each feature's share of its row's amounts."""
        masses = masses.copy()
        for block, pool in self.blocks():
            kernels.add_mass(block.offsets, block.ids, amounts(block), pool, masses)
        return masses

    def sum_acts(self) -> tuple[Counter[int], int]:
        """Return the exact sum of the activations of all rows, and their number."""
        sums, counts = zip(*(sum_of_acts(block, pool) for block, pool in self.blocks()), strict=True)
        return sum(sums, Counter()), sum(counts)

    # ---- a coverage search

    def begin_search(self, task: Task) -> None:
        """Begin a search among the rows."""
        blocks = (block for block, _ in self.blocks())
        self._search = (CoverSearch if task.max_overlap is None else ScanSearch)(blocks, task)

    def offer(self, update: Update, most: int) -> Offer:
        """Return the rows that may be picked next; `most` limits them."""
        assert self._search is not None
        return self._search.offer(update, most)

    def searched(self, rows: Int64s) -> Rows:
        """Return rows as the search sees them."""
        assert self._search is not None
        return self._search.rows(rows)

    def end_search(self) -> None:
        """Forget the search."""
        self._search = None

    # ---- herding

    def begin_herding(self, task: HerdingTask) -> None:
        """Begin to compute vectors of the rows."""
        self._vectors = ShardVectors(self._rows, lambda: (block for block, _ in self.blocks()), task)

    def herding(self, method: str, *arguments: Any) -> Any:
        """Call a method of the vectors."""
        return getattr(self._vectors, method)(*arguments)

    def end_herding(self) -> None:
        """Forget the vectors."""
        self._vectors = None

    # ---- searches by vectors

    def vector_blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of all rows, a block at a time; those of rows that are not in the pool are zeros.

        Raises:
            ValueError: The rows have no vectors.
        """
        start = 0
        for block in self._raw_vectors():
            is_excluded = self._is_excluded[start : start + len(block)]
            yield np.where(is_excluded[:, None], np.float32(0), block) if is_excluded.any() else block
            start += len(block)

    def _raw_vectors(self) -> Iterable[NDArray[np.float32]]:
        if self._vector_column is not None:
            return self._vector_column.blocks()
        if isinstance(self._rows, FeatureMatrix) and self._rows.vectors is not None:
            return [self._rows.vectors]
        raise ValueError(NO_VECTORS)

    def vector_summary(self) -> VectorSummary:
        """Return which rows have vectors."""
        parts = [(block.any(axis=1), block.shape[1]) for block in self.vector_blocks()]
        has_vector = np.concatenate([np.empty(0, np.bool_), *(some for some, _ in parts)])
        return VectorSummary(has_vector, max((width for _, width in parts), default=0))

    def add_vectors(self, vectors: VectorSum) -> VectorSum:
        """Add the vectors of all rows to a sum."""
        for block in self.vector_blocks():
            vectors = vectors.plus(block) if len(block) else vectors
        return vectors

    def begin_similarity(self, mean: Floats) -> None:
        """Compute the unit vectors of the rows, from whose vectors `mean` is subtracted."""
        self._unit_vectors = UnitVectors(self.vector_blocks(), len(self._rows), mean)

    def similarity(self, method: str, *arguments: Any) -> Any:
        """Call a method of the unit vectors."""
        return getattr(self._unit_vectors, method)(*arguments)

    def end_similarity(self) -> None:
        """Forget the unit vectors."""
        self._unit_vectors = None
