"""Overlap with a target: the rows of a pool that repeat rows of it, which are left out, or counted.

Texts are compared where both sides have them, before anything is encoded. Rows of a target without texts are repeated
where the features are equal. See `overlap` for what repeats a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from .overlap import Overlap, overlap_of
from .references import PoolEncoding, text_reader
from .request import SelectionRequest
from .sharded.features import Features, equal_rows
from .target_argument import TargetArgument, argument_name
from .targets import Target, TargetPart

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

REASON = "overlap"  # of rows that are left out


def no_rows() -> Int64s:
    """Return an empty array of rows."""
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class TargetOverlap:
    """Hold the rows of a pool that repeat rows of a target."""

    mode: str
    """The argument `overlap`."""
    rows: Int64s = field(default_factory=no_rows)
    """The rows that repeat one, ascending."""
    equal: Int64s = field(default_factory=no_rows)
    """Those that equal one as a whole; the others have half of its 8-grams of words, or it is one of their lines."""
    by_text: frozenset[str] = frozenset()
    """The parts of the target that were compared by their texts, by name."""
    by_features: frozenset[str] = frozenset()
    """Those that were compared by features."""

    @classmethod
    def of_texts(cls, argument: TargetArgument, dataset: Dataset, pool: PoolEncoding) -> TargetOverlap:
        """Compare the texts of the pool with those of the target, where both can be read.

        Raises:
            TypeError, ValueError: Nothing says what the text of a row is that has yet to be encoded.
        """
        overlap = cls(argument.overlap)
        if argument.overlap == "keep":
            return overlap
        readers = {
            name: pool.texts(argument_name(name), rows)
            for name, rows in argument.rows.items()
            if not isinstance(rows, FeatureMatrix)
        }
        known = {name: read for name, read in readers.items() if read is not None}
        texts = text_reader(dataset, pool.text, pool.record)
        if texts is None or not known:
            return overlap
        repeated = overlap_of(texts(), chain.from_iterable(read() for read in known.values()))
        return overlap._with(repeated, by_text=frozenset(known))

    def with_features(self, target: Target, features: Features) -> TargetOverlap:
        """Add the rows whose features are those of a row of the target, for parts that were not compared yet."""
        overlap = self
        for part in target.parts if self.mode != "keep" else ():
            if part.name not in self.by_text:
                assert isinstance(part, TargetPart)  # not one that was recorded
                repeated = equal_rows(features, part.features)
                overlap = overlap._with(repeated, by_features=overlap.by_features | {part.name})
        return overlap

    def _with(self, repeated: Overlap, **names: frozenset[str]) -> TargetOverlap:
        rows = np.union1d(self.rows, repeated.rows)
        equal = np.union1d(self.equal, repeated.rows[repeated.exact])
        return TargetOverlap(
            self.mode, rows, equal, **{"by_text": self.by_text, "by_features": self.by_features} | names
        )

    def left_out_of(self, request: SelectionRequest) -> SelectionRequest:
        """Return the request without these rows, if they are to be left out.

        Raises:
            ValueError: Too few rows are left.
        """
        if self.mode != "exclude" or not len(self.rows):
            return request
        remedy = "pass `overlap='keep'`, another `target`, or a smaller `budget`"
        if not len(np.setdiff1d(request.constraints.pool, self.rows)):
            raise ValueError(
                f"`overlap='exclude'` leaves no row: all {len(request.constraints.pool):,} are in the `target` too; "
                f"{remedy}"
            )
        try:
            return request.leaving_out(REASON, self.rows)
        except ValueError as error:
            raise ValueError(
                f"{error} (`overlap='exclude'` leaves out {len(self.rows):,} rows that are in the `target` too: "
                f"{remedy})"
            ) from error

    def left_out(self) -> dict[str, list[int]]:
        """Return the rows that are left out, by the reason, but for those that a selection picks first."""
        return {REASON: self.rows.tolist()} if self.mode == "exclude" and len(self.rows) else {}

    def record(self, left_out: Mapping[str, int]) -> dict[str, Any]:
        """Return what is recorded, as JSON values; `left_out` counts the rows of a selection that were left out."""
        if self.mode == "keep":
            return {"mode": self.mode}
        compared = {"text": self.by_text, "features": self.by_features}
        return {
            "mode": self.mode,
            "compared": [how for how, names in compared.items() if names],
            "rows": len(self.rows),
            "equal": len(self.equal),
            "left_out": left_out.get(REASON, 0),
        }
