"""Peaks: the rows in which features fire most. Compiled loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels import Floats, Int64s, compiled
from .matrix import FeatureMatrix


@dataclass(frozen=True, eq=False)
class Peaks:
    """Hold the rows in which some features fire most, the strongest first; of equal ones the first of the rows.

    Example, rows {5: 0.9}, {5: 0.4, 6: 0.1}: the two strongest of feature 5 are [[0, 1]], with [[0.9, 0.4]].
    """

    rows: Int64s
    """The rows, -1 where fewer have the feature: int64 [features, most]."""
    activations: Floats
    """The activations in them, -1 where there is no row: float64 [features, most]."""

    @classmethod
    def of(cls, matrix: FeatureMatrix, features: Int64s, rows: Int64s, most: int) -> Peaks:
        """Look in `rows` of a matrix for the `most` strongest of each of the `features`."""
        lines = np.full(matrix.d_sae, -1)
        lines[features] = np.arange(len(features))
        peaks, activations = np.full((len(features), most), -1), np.full((len(features), most), -1.0)
        if most:
            _fill(matrix.offsets, matrix.ids, matrix.acts, rows, lines, peaks, activations)
        return cls(peaks, activations)


@compiled
def _fill(
    offsets: Int64s,
    ids: NDArray[Any],
    acts: NDArray[np.float32],
    rows: Int64s,
    lines: Int64s,
    peaks: Int64s,
    activations: Floats,
) -> None:
    """Insert each entry of a wanted feature into its line, which stays sorted."""
    last = peaks.shape[1] - 1
    for i in rows:
        for p in range(offsets[i], offsets[i + 1]):
            line = lines[ids[p]]
            if line < 0 or acts[p] <= activations[line, last]:
                continue
            place = last
            while place > 0 and acts[p] > activations[line, place - 1]:
                peaks[line, place] = peaks[line, place - 1]
                activations[line, place] = activations[line, place - 1]
                place -= 1
            peaks[line, place] = i
            activations[line, place] = acts[p]
