"""Contenders: the methods and rules that effectiveness.py compares, by label.

"SAE herding" is kernel herding on the shares that `match` reads, "dense herding" the same on the model's own mean
states. Controls do the same on SAEs of random weights, and on counts of word pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from encoded import SEEDS, Codes
from labelled import Pool
from pool_rivals import cosines, exponential, herding, in_turns, kmeans, length_matched, sampled_match
from scipy import sparse
from target_rivals import Floats, Picks

from hf_sae_select import METHODS, FeatureMatrix, load_sae, select_indices
from hf_sae_select.features.kernels import largest_of_rows
from hf_sae_select.features.shares import Shares
from hf_sae_select.selection.request import Cuts

LIBRARY = (
    *("match", "greedy", "simscale", "weighted", "concave"),
    *("facility_location", "kcenter", "random", "longest"),
)
DENSE = ("dense", "last layer")
WIDTHS = (0.1, 0.2, 0.3, 0.4)  # of the exponential kernel of dense vectors
CONTROLS = (*(f"random weights {seed}" for seed in SEEDS), "words")
NOT_NESTED = ("k-means", "length-matched")
"""Rules whose picks for a budget are not the first of those for a larger one."""


class Draw(NamedTuple):
    """Hold one pool, and the rows of the universe in all ways that a contender may see them."""

    pool: Pool
    codes: Codes

    def features(self, label: str = "") -> FeatureMatrix:
        features = self.codes.words if label == "words" else self.codes.features[label]
        return features.take(self.pool.rows)

    def vectors(self, label: str = "") -> Floats:
        return self.codes.vectors[label][self.pool.rows]

    def shares(self, label: str = "", strongest: int | None = None) -> sparse.csr_matrix:
        """Return the shares above the pool's mean that `match` reads, all or the largest of each row."""
        shares = Shares.of_strongest(self.features(label), np.arange(len(self.pool.rows)))
        features, amounts = shares.features, shares.amounts
        if strongest is not None:
            largest = largest_of_rows(features.offsets, amounts.view(np.uint32), strongest)
            amounts = np.zeros_like(amounts)
            amounts[largest] = shares.amounts[largest]
        arrays = (amounts, features.ids.astype(np.int32), features.offsets)
        return sparse.csr_matrix(arrays, (len(features), features.d_sae))


Contender = Callable[[Draw, int], Picks]


def contenders() -> dict[str, Contender]:
    """Return all contenders by label."""
    rules: dict[str, Contender] = {method: partial(library, method) for method in LIBRARY}
    for label in CONTROLS:
        rules[f"match, {label}"] = partial(library, "match", label=label)
    rules |= {"match, sampled": sampled, "match and simscale, 70/30": match_and_simscale}
    for label in DENSE:
        for width in WIDTHS:
            rules[f"{label} herding {width}"] = partial(dense_herding, "" if label == "dense" else label, width)
    return rules | {"k-means": by_kmeans, "length-matched": by_length}


def library(method: str, draw: Draw, budget: int, label: str = "") -> Picks:
    """Pick by a method of the library, with the options that it has by default."""
    selector = METHODS[method]
    threshold = calibrated_threshold() if selector.threshold is None else selector.threshold
    features = Cuts(threshold, selector.top).apply(draw.features(label))
    return select_indices(features, budget, method, seed=draw.pool.draw).indices


@cache
def calibrated_threshold() -> float:
    return load_sae().config.feature_threshold


def sampled(draw: Draw, budget: int) -> Picks:
    return sampled_match(draw.shares(), budget, draw.pool.draw)


def match_and_simscale(draw: Draw, budget: int) -> Picks:
    return in_turns(library("match", draw, budget), library("simscale", draw, budget), 0.7)


def dense_herding(label: str, width: float | None, draw: Draw, budget: int) -> Picks:
    """Herd by the cosines of centred vectors, or by an exponential kernel of them."""
    vectors = draw.vectors(label)
    return herding(kernel_of(vectors - vectors.mean(axis=0), width), budget)


def sae_herding(label: str, strongest: int | None, width: float | None, draw: Draw, budget: int) -> Picks:
    return herding(kernel_of(draw.shares(label, strongest), width), budget)


def kernel_of(rows: Floats | sparse.csr_matrix, width: float | None) -> Floats:
    cosine = cosines(rows)
    return cosine if width is None else exponential(cosine, width)


def by_kmeans(draw: Draw, budget: int) -> Picks:
    return kmeans(draw.vectors(), budget, draw.pool.draw)


def by_length(draw: Draw, budget: int) -> Picks:
    return length_matched(draw.features().tokens, budget, draw.pool.draw)
