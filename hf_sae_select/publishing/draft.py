"""Draft: a subset with its selection and its pool, checked against each other before anything is written."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from datasets import Dataset

from .._datasets import check_dataset
from ..concepts.measurement import Measured, measure
from ..features.columns import is_code_column, without_codes
from ..features.matrix import FeatureMatrix
from ..selection.attachment import Pool, as_pool, attach, pool_of, selection_of, with_target
from ..selection.methods import METHODS
from ..selection.recorded_target import numbers_of
from ..selection.result import Selection
from ..selection.target_comparison import untargeted_picks
from ..selection.target_distance import distance_of
from ..selection.targets import Target
from .hashing import Digests
from .provenance import public
from .replay import digest_tag
from .tables import check_types, view

REMEDY = "publish what `sae_select` returned; change the dataset first, and select from the result"


@dataclass(frozen=True, eq=False)
class Draft:
    """Hold what is published: rows, the selection that picked them, and the pool that it picked them from."""

    rows: Dataset
    """The subset without code columns."""
    selection: Selection
    """The selection; its parameters contain no path or object of this machine."""
    pool: Pool | None
    """The pool; None where it is not known."""

    @classmethod
    def parse(cls, subset: Any, selection: Any = None, pool: Any = None, target: Any = None) -> Draft:
        """Check the arguments of `stage`; selection and pool are by default those that are attached to `subset`.

        Raises:
            TypeError, ValueError: If they do not belong together; the message has the remedy.
        """
        check_dataset("subset", subset, "publish")
        selection = _attached(subset) if selection is None else selection
        if not isinstance(selection, Selection):
            raise TypeError(
                f"`selection` is a {type(selection).__name__}; pass a Selection, see `Selection.save` and `.load`"
            )
        if not selection.parameters.get("cuts"):
            raise ValueError(
                "`selection` is a result of `select_indices`, which does not know the dataset; pass one of `select`"
            )
        pool = pool_of(subset) if pool is None else as_pool(pool, selection)
        if pool is not None:
            pool = with_target(pool, selection, target)
        elif target is not None:
            raise ValueError("`target` is published with the features of all rows; pass `pool` too")
        draft = cls(without_codes(subset), _without_private(selection), pool)
        draft._check_columns()
        check_types(draft.rows)
        return draft

    @property
    def source_rows(self) -> Dataset:
        """The rows that the subset was selected from; where they are not known, the subset's own."""
        return self.rows if self.pool is None else self.pool.rows

    @property
    def columns(self) -> Dataset | None:
        """The codes, and the columns that the selection reads, of all rows; None where the pool is not known."""
        if self.pool is None or self.pool.codes is None:
            return None if self.pool is None else self.pool.rows
        return view(self.pool, self.selection)

    @property
    def n_initial(self) -> int:
        """The number of picks that `extend` and `must_include` brought, before the method began."""
        constraints, rows = self.selection.parameters["constraints"], self.selection.indices
        extended = int(constraints.get("extend") or 0)
        return extended + len(np.setdiff1d(constraints.get("must_include") or [], rows[:extended]))

    def attached(self) -> Dataset | Selection:
        """Return the subset with its selection and its pool, as `select` does; without a pool, the selection alone."""
        if self.pool is None:
            return self.selection
        rows = self.rows.with_format(None)  # the user's own dataset keeps its attachment
        attach(rows, self.selection, self.pool)
        return rows

    @cached_property
    def target(self) -> Target | None:
        """The numbers that the selection read of its target; None without one, or where it is not at hand."""
        if self.pool is None or self.pool.target is None or self.columns is None:
            return None
        return numbers_of(self.pool.target, self.selection, self.columns)

    @property
    def lacks_target(self) -> bool:
        """Tell whether the rows were selected towards a target that is not at hand."""
        has_target = self.pool is not None and self.pool.target is not None
        return bool(self.selection.parameters.get("target")) and not has_target

    def untargeted_distances(self) -> dict[str, float | None] | None:
        """Return how far picks without the target are from it; None without one, or where nobody can select so."""
        pool = self.pool
        if pool is None or pool.target is None or pool.codes is None or self.selection.method not in METHODS:
            return None
        distance = distance_of(self.selection, FeatureMatrix.from_dataset(pool.codes), pool.target)
        return distance.of(untargeted_picks(self.selection, pool))

    def check_rows(self, picked: Digests, source: Digests) -> None:
        """Check that the rows are those that were picked, by the SHA-256 of the subset's and of the source's rows.

        Raises:
            ValueError: If one is not; the message names the first.
        """
        differ = np.flatnonzero((picked != source[self.selection.indices]).any(axis=1))
        if len(differ):
            raise ValueError(
                f"row {differ[0]} of `subset` is not row {self.selection.indices[differ[0]]} of the source, which was "
                f"picked: it was changed or moved; {REMEDY}"
            )

    def measure(self) -> Measured | None:
        """Measure what the selection covers; None where the features of all rows are not known.

        Raises:
            ValueError: If the pool has other codes than those that the rows were selected by.
        """
        if self.pool is None or self.pool.codes is None or self.columns is None:
            return None
        measured = measure(self.columns, self.selection)
        if not np.array_equal(measured.curves["coverage"]["subset"], self.selection.covered):
            raise ValueError(
                "`pool` has other codes than those that the rows were selected by; pass the dataset that `sae_encode` "
                "returned when the rows were selected"
            )
        return measured

    def _check_columns(self) -> None:
        """Check the number of rows, and the columns."""
        rows, source = self.rows, self.source_rows
        if len(rows) != len(self.selection):
            raise ValueError(f"`subset` has {len(rows):,} rows, but {len(self.selection):,} were picked; {REMEDY}")
        for name, type in source.features.items():
            if is_code_column(type):  # its encoding record names the language model, which may be in a folder
                raise ValueError(f"column `{name}` holds renamed SAE codes: remove it, and select again")
        for name in dict.fromkeys([*rows.column_names, *source.column_names]):
            if rows.features.get(name) != source.features.get(name):
                raise ValueError(f"column `{name}` was added, removed or changed after the rows were picked; {REMEDY}")


def _attached(subset: Dataset) -> Selection:
    try:
        return selection_of(subset)
    except AttributeError as error:
        raise TypeError(
            "`subset` has no `sae_selection`: pass what `sae_select` returned, unchanged, or a saved selection as "
            "`selection`; `map`, `select`, `shuffle`, saving and loading drop the attribute, so do those before you "
            "select"
        ) from error


def _without_private(selection: Selection) -> Selection:
    """Return a selection whose parameters can be published: options of the user's own method may hold anything."""
    parameters = selection.parameters | {"encoding": public(selection.parameters["encoding"])}
    if selection.method not in METHODS:
        options = parameters["options"].items()
        parameters["options"] = {name: v if _is_numeric(v) else digest_tag(v) for name, v in options}
    try:
        json.dumps(parameters)
    except TypeError as error:
        raise TypeError(
            f"`subset` was selected with a parameter that JSON cannot hold ({error}): pass dates as text"
        ) from error
    return replace(selection, parameters=parameters)


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_numeric, value))
    return value is None or (isinstance(value, int | float) and math.isfinite(value))
