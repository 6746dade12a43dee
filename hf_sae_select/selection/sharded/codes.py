"""Codes: the code columns of some rows, which stay in their files and are cut when they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...features.kept import check_kept
from ...features.kernels import Int64s
from ...features.matrix import FeatureMatrix
from ..progress import reading_bar

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

BLOCK_ROWS = 2**12  # in memory together


@dataclass(frozen=True)
class Cut:
    """Say which features of rows count: those above a threshold, of them some features, of them a row's strongest."""

    threshold: float = 0.0
    features: bytes | None = None
    """Whether each feature counts, a byte for each; None for all."""
    top: int | None = None

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """Whether each feature counts: [d_sae]."""
        return None if self.features is None else np.frombuffer(self.features, np.bool_)

    def of(self, rows: FeatureMatrix) -> FeatureMatrix:
        """Cut rows."""
        rows = rows.above(self.threshold)
        rows = rows if self.mask is None else rows.of_features(self.mask)
        return rows if self.top is None else rows.top(self.top)


@dataclass(frozen=True, eq=False)
class Codes:
    """Read features of rows, a block at a time."""

    dataset: Dataset
    """The code columns."""
    first: int = 0
    """The number that the first row has in the pool, for errors."""
    cut: Cut | None = None
    """Which features count; None for all that are stored."""

    def __len__(self) -> int:
        return len(self.dataset)

    def blocks(self) -> Iterator[FeatureMatrix]:
        """Yield the features of all rows, those of an empty dataset once."""
        n = len(self)
        with reading_bar(n, "codes", self.first) as bar:
            for start in range(0, max(n, 1), BLOCK_ROWS):
                rows = self.dataset.select(range(start, min(start + BLOCK_ROWS, n)))
                yield self._read(rows, self.first + start)
                bar.update(len(rows))

    def take(self, rows: Int64s) -> FeatureMatrix:
        """Return the features of some rows, in an order of your own."""
        return self._read(self.dataset.select(rows), self.first)

    def _read(self, rows: Dataset, first: int) -> FeatureMatrix:
        features, cut = FeatureMatrix.from_dataset(rows), self.cut
        if cut is None:
            return features
        check_kept(features, cut.threshold, cut.top if cut.features is None else None, first)
        return cut.of(features)
