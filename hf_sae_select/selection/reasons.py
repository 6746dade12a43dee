"""Explaining: why a row was picked, as data. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..features.matrix import FeatureMatrix
from .result import Selection


@dataclass(frozen=True, eq=False)
class Reason:
    """Say what one pick brought: features that no pick of its round had before."""

    row: int
    new: int
    """How many such features it has."""
    feature: int | None
    """The one of them that is strongest in it; None if there is none."""
    holders: int
    """How many rows have that feature."""
    examples: NDArray[np.int64]
    """Other picked rows that have it, strongest first."""


def reasons(features: FeatureMatrix, receipt: Selection, picks: int = 5) -> list[Reason]:
    """Say why the first `picks` rows were picked; `features` cut as the rows were chosen by.

    Example, rows with the features {0, 1}, {1, 2, 3}, {3}, picked in the order 1, 0: row 1 brought three, and if 2 is
    its strongest, one row has that; row 0 brought one, feature 0.
    """
    found, covered = [], np.zeros(features.d_sae, np.bool_)
    for pick, row in enumerate(receipt.indices[:picks].tolist()):
        if pick in receipt.round_starts:
            covered[:] = False
        ids = features.row(row)
        acts = features.acts[features.offsets[row] : features.offsets[row + 1]]
        new = np.flatnonzero(~covered[ids])
        covered[ids] = True
        if not len(new):
            found.append(Reason(row, 0, None, 0, new))
            continue
        feature = int(ids[new[np.argmax(acts[new])]])
        holders, strengths = _holders(features, feature)
        order = np.argsort(-strengths, kind="stable")
        examples = holders[order][np.isin(holders[order], receipt.indices) & (holders[order] != row)]
        found.append(Reason(row, len(new), feature, len(holders), examples))
    return found


def _holders(features: FeatureMatrix, feature: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows that have a feature, and how strongly."""
    places = np.flatnonzero(features.ids == feature)
    return np.searchsorted(features.offsets, places, side="right") - 1, features.acts[places]
