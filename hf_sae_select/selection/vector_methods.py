"""The methods that compare vectors, in the form of the others, see `methods.py`."""

from __future__ import annotations

from ..features.matrix import FeatureMatrix
from .constraints import Constraints
from .engine import sorted_by
from .method import Rng
from .result import Selection
from .sharded.engine import engine_of


def facility_location(
    features: FeatureMatrix, budget: int, rng: Rng, *, center: bool = True, constraints: Constraints | None = None
) -> Selection:
    """Select representative rows: greedy on the sum of every row's similarity to its nearest selected row.

    Similarity is the cosine of the rows' vectors, where it is positive (Mirchandani & Francis 1990; Wei, Iyer &
    Bilmes 2015). The result is exact and needs no n x n matrix in memory; time grows with the square of the rows.

    Args:
        center (`bool`, *optional*, defaults to `True`):
            Subtract the mean vector first: a transformer's hidden states all point in one direction.
    """
    return engine_of(features, budget, rng, constraints).facility_location(center)


def kcenter(
    features: FeatureMatrix, budget: int, rng: Rng, *, center: bool = True, constraints: Constraints | None = None
) -> Selection:
    """Select the row farthest from the selected ones, again and again: k-center greedy, which prefers outliers.

    Gonzalez 1985; for core-sets, Sener & Savarese 2018. The largest distance of a row to its nearest selected row is
    at most twice the optimum, in the distance of unit vectors; gains are 1 - cos, half the squared distance.

    Args:
        center (`bool`, *optional*, defaults to `True`):
            Subtract the mean vector first, see `facility_location`.
    """
    return engine_of(features, budget, rng, constraints).kcenter(center)


def repr_filter(
    features: FeatureMatrix,
    budget: int,
    rng: Rng,
    *,
    max_similarity: float = 0.9,
    center: bool = False,
    exhausted: str = "restart",
    constraints: Constraints | None = None,
) -> Selection:
    """Scan the rows, best quality first, and select each one whose cosine with every pick is at most a maximum.

    The Repr Filter of DEITA, arXiv:2312.15685.

    Args:
        max_similarity (`float`, *optional*, defaults to `0.9`):
            The maximum cosine, from -1 to 1.
        center (`bool`, *optional*, defaults to `False`):
            Subtract the mean vector first, see `facility_location`; DEITA does not.
        exhausted (`str`, *optional*, defaults to `'restart'`):
            What happens when no row passes. "restart" forgets the picks and begins a new round; "stop" returns fewer
            rows.
    """
    engine = engine_of(features, budget, rng, constraints)
    return engine.filter(sorted_by(engine.order, -engine.constraints.scale), float(max_similarity), center, exhausted)
