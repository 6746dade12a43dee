"""Contamination: which rows of a pool repeat rows of another dataset, such as an evaluation set, or are near one.

Texts are compared where both sides have them. Rows without texts repeat each other where their features are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..features.columns import encoding_record
from ..features.duplicates import near_rows
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from .overlap import Overlap, equal_features, overlap_of
from .references import PoolEncoding, reference_rows, text_reader

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

    from ..encoding.text import TextSource

# The least cosine of features: it finds most paraphrases, and what it finds in excess is a few rows of a pool less. At
# 0.95, it misses nearly all, see benchmarks/README.md.
NEAR = 0.8


@dataclass(frozen=True, eq=False)
class ComparedRows:
    """Hold rows that are compared: their features, and their texts where nothing is in the way of reading these."""

    features: FeatureMatrix
    texts: Callable[[], Iterator[str]] | None = None

    @classmethod
    def of(cls, rows: Dataset, codes: Dataset, text: TextSource | None = None) -> ComparedRows:
        """Read the rows of a dataset and their codes; `text` is the function that made the texts, if one did."""
        return cls(FeatureMatrix.from_dataset(codes), text_reader(rows, text, encoding_record(codes)))


def repeated_rows(pool: ComparedRows, reference: ComparedRows) -> Overlap:
    """Return the rows of a pool that repeat a row of a reference, see `overlap`."""
    if pool.texts is not None and reference.texts is not None:
        return overlap_of(pool.texts(), reference.texts())
    return equal_features(pool.features, reference.features)


@dataclass(frozen=True, eq=False)
class NearArgument:
    """Hold what `exclude_near` was passed as: the rows that no pick may be near."""

    rows: Dataset | FeatureMatrix

    @classmethod
    def parse(cls, value: Any) -> NearArgument | None:
        """Parse the argument, before anything is encoded; None where it is not passed.

        Raises:
            TypeError, ValueError, OSError: It is not allowed, or cannot be read.
        """
        return None if value is None else cls(reference_rows("exclude_near", value))

    def encoded(self, pool: PoolEncoding) -> ComparedRows:
        """Encode the rows as the pool is, where they are not encoded.

        Raises:
            ValueError: They are encoded in another way than the pool.
        """
        if isinstance(self.rows, FeatureMatrix):
            pool.check_width("exclude_near", self.rows)
            return ComparedRows(self.rows)
        return ComparedRows.of(self.rows, pool.codes("exclude_near", self.rows))


def near_or_repeated_rows(pool: ComparedRows, reference: ComparedRows) -> Int64s:
    """Return the rows of a pool that repeat a row of a reference, or have nearly its features; ascending."""
    return np.union1d(repeated_rows(pool, reference).rows, near_rows(pool.features, reference.features, NEAR)[0])
