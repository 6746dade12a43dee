"""Objectives: what the gains of the methods that go by features are sums of, one small function a method.

Each takes the Engine of a selection and the method's options. `methods.py` maximises them; whoever asks why a row was
picked takes their gains apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats
from ..features.matrix import FeatureMatrix
from ..features.shares import amounts_above
from . import coverage
from .coverage import Measure
from .engine import Engine


def affinity(engine: Engine, *, sharpen: float = 1.0, **_: Any) -> Measure:
    """Return the objective of `match`: the affinity of the picks' distribution and the target's, or the pool's."""
    amounts = partial(amounts_above, mean := engine.mean_shares())
    mass = engine.mass(amounts) if engine.target is None else engine.target.mass(mean, sharpen)
    weight = np.sqrt(mass * engine.boost())
    return Measure(lambda: coverage.mass_objective(weight, "sqrt"), amounts)


def new_features(engine: Engine, *, idf: bool = False, **_: Any) -> Measure:
    """Return the objective of `greedy` and of the scans: the features that no earlier pick of the round has."""
    weights = engine.weights(idf)
    return _first_time(weights if engine.target is None else weights * engine.target.has())


def new_activation(engine: Engine, *, idf: bool = False, **_: Any) -> Measure:
    """Return the objective of `weighted`: new features, each worth its share of all activation, or of the target's."""
    shares = engine.mass(activations) if engine.target is None else engine.target.activation()
    return _first_time(shares / max(shares.sum(), 1e-300) * engine.weights(idf))


def diminishing(engine: Engine, *, curve: str = "sqrt", by: str = "count", idf: bool = False) -> Measure:
    """Return the objective of `concave`: each further row with a feature adds less."""
    if by == "mass":
        amounts = partial(activations, unit=engine.mean_act())
        return Measure(lambda: coverage.mass_objective(engine.weights(idf), curve), amounts)
    rows = np.arange(engine.budget + 2)
    values = np.sqrt(rows) if curve == "sqrt" else np.log1p(rows)
    return Measure(lambda: coverage.count_objective(engine.weights(idf), np.diff(values)))


def activations(features: FeatureMatrix, unit: float = 1.0) -> NDArray[np.float32]:
    """Return the activations in some unit: [nnz]."""
    return features.acts / np.float32(unit) if unit != 1 else features.acts


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
