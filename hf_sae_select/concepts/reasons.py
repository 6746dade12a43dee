"""Reasons: what each pick added to the picks before it, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..features.matrix import FeatureMatrix
from ..selection.result import Selection


@dataclass(frozen=True, eq=False)
class Reason:
    """Hold what one pick added: the features that no earlier pick of its round has."""

    row: int
    new: int
    """The number of new features."""
    feature: int | None
    """The new feature with the highest activation in this row; None without new features."""
    holders: int
    """The number of rows that have that feature."""
    examples: NDArray[np.int64]
    """Other selected rows that have it, highest activation first."""


def reasons(features: FeatureMatrix, selection: Selection, picks: int = 5) -> list[Reason]:
    """Return what the first `picks` rows added; `features` are cut as the rows were selected by.

    Example, rows with the features {0, 1}, {1, 2, 3}, {3}, picked in the order 1, 0: row 1 added three features, and
    if 2 is the strongest of them, one row has it; row 0 added one, feature 0.
    """
    result, covered = [], np.zeros(features.d_sae, np.bool_)
    for pick, row in enumerate(selection.indices[:picks].tolist()):
        if pick in selection.round_starts:
            covered[:] = False
        ids = features.row(row)
        acts = features.acts[features.offsets[row] : features.offsets[row + 1]]
        new = np.flatnonzero(~covered[ids])
        covered[ids] = True
        if not len(new):
            result.append(Reason(row, 0, None, 0, new))
            continue
        feature = int(ids[new[np.argmax(acts[new])]])
        holders, strengths = _rows_with(features, feature)
        strongest_first = holders[np.argsort(-strengths, kind="stable")]
        examples = strongest_first[np.isin(strongest_first, selection.indices) & (strongest_first != row)]
        result.append(Reason(row, len(new), feature, len(holders), examples))
    return result


def _rows_with(features: FeatureMatrix, feature: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows that have a feature, and its activation in each."""
    places = np.flatnonzero(features.ids == feature)
    return np.searchsorted(features.offsets, places, side="right") - 1, features.acts[places]
