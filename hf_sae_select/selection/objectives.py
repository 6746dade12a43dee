"""Objectives: what the gains of the methods that go by features are sums of, one small function a method.

Each takes the Engine of a selection and the method's options. `methods.py` maximises them; whoever asks why a row was
picked takes their gains apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features import kernels
from ..features.kernels import Floats
from . import coverage
from .coverage import Measure
from .engine import Engine


def excess_shares(engine: Engine) -> NDArray[np.float32]:
    """Return how far each feature's share of its row is above the feature's mean share in the pool: [nnz].

    Shares are those of the square roots of activations, and the parts above the mean are normalised to a sum of 1 a
    row, see `match`.
    """
    features = engine.features
    roots = np.sqrt(features.acts)
    mean_share = engine.mass(roots)
    mean_share /= max(mean_share.sum(), 1)  # the number of rows with features: blank rows have no share in the mean
    return kernels.shares_above(features.offsets, features.ids, roots, mean_share)


def affinity(engine: Engine) -> Measure:
    """Return the objective of `match`: the Bhattacharyya affinity of the picks' distribution and the pool's."""
    shares = excess_shares(engine)
    weight = np.sqrt(engine.mass(shares))
    return Measure(lambda: coverage.mass_objective(weight, "sqrt"), shares)


def new_features(engine: Engine, *, idf: bool = False, **_: Any) -> Measure:
    """Return the objective of `greedy` and of the scans: the features that no earlier pick of the round has."""
    return _first_time(engine.weights(idf))


def new_activation(engine: Engine, *, idf: bool = False, **_: Any) -> Measure:
    """Return the objective of `weighted`: new features, each worth its share of all activation."""
    shares = engine.mass(engine.features.acts)
    return _first_time(shares / max(shares.sum(), 1e-300) * (engine.weights(True) if idf else 1))


def diminishing(engine: Engine, *, curve: str = "sqrt", by: str = "count", idf: bool = False) -> Measure:
    """Return the objective of `concave`: each further row with a feature adds less."""
    if by == "mass":
        amounts = engine.features.acts / np.float32(engine.mean_act())
        return Measure(lambda: coverage.mass_objective(engine.weights(idf), curve), amounts)
    rows = np.arange(engine.budget + 2)
    values = np.sqrt(rows) if curve == "sqrt" else np.log1p(rows)
    return Measure(lambda: coverage.count_objective(engine.weights(idf), np.diff(values)))


def _first_time(weight: Floats) -> Measure:
    return Measure(lambda: coverage.count_objective(weight, [1, 0]))


GAINS: dict[str, Callable[..., Measure]] = {
    "match": affinity,
    "greedy": new_features,
    "simscale": new_features,
    "weighted": new_activation,
    "concave": diminishing,
    "instag": new_features,
    "repr_filter": new_features,
    "longest": new_features,
    "random": new_features,
}
"""What the gains of a method are sums of, from the Engine and the method's options; others compare vectors."""
