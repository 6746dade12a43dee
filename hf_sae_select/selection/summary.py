"""Summary: what the rows of a selection cover, and how long they are, as one line of numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import new_features
from ..features.matrix import FeatureMatrix
from ..features.metrics import redundancy, richness
from .result import Selection


def summarize(features: FeatureMatrix, selection: Selection, pool: NDArray[np.int64]) -> dict[str, Any]:
    """Measure a selection among the rows `pool` on `features`, whatever its method optimised."""
    rows = selection.indices
    covered, pool_coverage = _new(features, rows).cumsum(), int(_new(features, pool).sum())
    selection = replace(selection, covered=covered, pool_coverage=pool_coverage)
    n_features = int(covered[-1]) if len(rows) else 0
    return {
        "rows": len(rows),
        "features": n_features,
        "share": n_features / pool_coverage if pool_coverage else 0.0,
        "richness": richness(features, rows),
        "redundancy": redundancy(features, rows),
        "tokens": float(features.tokens[rows].mean()) if len(rows) else math.nan,
        "rounds": len(selection.round_starts),
        "saturated_at": selection.saturated_at or math.nan,
    }


def summarize_rows(features: FeatureMatrix, rows: NDArray[np.int64], pool: NDArray[np.int64]) -> dict[str, Any]:
    """Measure rows that no method picked, such as all of them."""
    return summarize(features, Selection(rows, np.zeros(len(rows)), np.zeros(1, np.int64)), pool)


def _new(features: FeatureMatrix, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return new_features(features.offsets, features.ids, features.d_sae, rows)
