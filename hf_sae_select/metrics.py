"""Metrics: what a set of rows covers, and how much of that is mere length, as plain numbers from Features."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .features import Features


def coverage(features: Features, indices: Iterable[int] | None = None) -> int:
    """Count the distinct features of the rows `indices`, of all rows by default.

    Example: rows {0, 1}, {1, 2}, {5} cover 4 features, rows 0 and 1 of them 3.
    """
    covered = np.zeros(features.d_sae, np.bool_)
    for i in range(len(features)) if indices is None else indices:
        covered[features.row(i)] = True
    return int(covered.sum())


def length_correlation(features: Features) -> float:
    """Correlate (Pearson's r) the number of tokens of each row with its number of features, blank rows left out.

    The paper reports 0.92: rows with many features are long rows, so compare every selection with `longest`.
    nan where r is undefined: fewer than two rows, or all alike in either number.
    """
    read = features.tokens > 0
    tokens, counts = features.tokens[read], features.counts[read]
    if len(np.unique(tokens)) < 2 or len(np.unique(counts)) < 2:
        return float("nan")
    return float(np.corrcoef(tokens, counts)[0, 1])
