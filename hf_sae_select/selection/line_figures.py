"""Figures of a line of the table of `compare`: all lines are measured on the same features, beside random rows."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..features.kernels import Floats, Int64s
from ..features.matrix import FeatureMatrix
from ..features.shares import STRONGEST, Shares, random_rows
from .concept_rules import NO_ROWS, ConceptRules, excluded_rows
from .cuts import Cuts
from .request import SelectionRequest
from .run import run_on_dataset
from .summary import summarize, summarize_rows
from .target_distance import TargetDistance
from .targets import Target

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset


class LineFigures:
    """Measure lines of the table on the same features, whatever cuts their methods select by."""

    def __init__(
        self, encoded: Dataset, cuts: Cuts, parameters: Mapping[str, Any], target: Target | None = None
    ) -> None:
        self._target, self._encoded = target, encoded
        self._strongest = FeatureMatrix.from_dataset(encoded, threshold=0.0, top=STRONGEST)
        self._excluded = self._excluded_by(parameters)
        self._features = cuts.read(encoded, excluded=self._excluded)
        self._pools: dict[tuple[int, ...], _Pool] = {}  # by the excluded rows of a line, mostly those of all lines

    def of_method(self, request: SelectionRequest, has_target: bool = False) -> dict[str, Any]:
        """Select, towards the target if `has_target`, and return the figures of the picks."""
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fewer rows than the budget: the table says so
            selection = run_on_dataset(request, self._encoded, self._target if has_target else None)
        seconds = time.perf_counter() - started
        pool = self._pool(self._excluded_by(selection.parameters, selection.indices))
        figures = summarize(self._features, selection, pool.rows)
        return figures | pool.compared(selection.indices) | self._distance(selection.indices) | {"seconds": seconds}

    def of_all_rows(self) -> dict[str, Any]:
        """Return the figures of all rows."""
        pool = self._pool(self._excluded)
        figures = summarize_rows(self._features, pool.rows, pool.rows) | pool.compared(pool.rows)
        return figures | self._distance(pool.rows) | {"random_rows": len(pool.rows), "seconds": math.nan}

    def _excluded_by(self, parameters: Mapping[str, Any], picks: Int64s = NO_ROWS) -> Int64s:
        """Return the rows that could not be selected."""
        rules = ConceptRules.of_record(parameters["constraints"])
        return excluded_rows(parameters, rules.read(self._encoded) if rules else None, picks)

    def _distance(self, rows: Int64s) -> dict[str, float]:
        """Return the distance of rows to the target, if there is one."""
        return {} if self._target_distance is None else {"distance": self._target_distance.hellinger(rows)}

    @cached_property
    def _target_distance(self) -> TargetDistance | None:
        if self._target is None:
            return None
        return TargetDistance(self._strongest, self._pool(self._excluded).rows, self._target)

    def _pool(self, excluded: Int64s) -> _Pool:
        key = tuple(excluded.tolist())
        if key not in self._pools:
            rows = np.setdiff1d(np.arange(len(self._strongest)), excluded)
            self._pools[key] = _Pool(self._strongest, rows)
        return self._pools[key]


class _Pool:
    """Hold the rows that a line could pick, and compare its picks with them."""

    def __init__(self, features: FeatureMatrix, rows: Int64s) -> None:
        self.rows, self._tokens = rows, features.tokens
        self._shares = Shares.of_strongest(features, rows)

    def compared(self, picks: Int64s) -> dict[str, float]:
        """Return the likeness of picks to all rows, the random rows that are as like, and the length beside theirs."""
        likeness = self._shares.likeness(picks)
        mean = self._tokens[self.rows].mean() if len(self.rows) else 0
        length = self._tokens[picks].mean() / mean if len(picks) and mean else math.nan
        return {
            "likeness": likeness,
            "random_rows": random_rows(likeness, self._random_curve),
            "length": float(length),
        }

    @cached_property
    def _random_curve(self) -> Floats:
        return self._shares.random_curve(self.rows)
