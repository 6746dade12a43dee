"""Contenders: the methods and rules that effectiveness.py compares, by label.

"SAE herding" is kernel herding on the shares that `match` reads, "dense herding" the same on the model's own mean
states. Controls do the same on SAEs of random weights, and on counts of word pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
from encoded import SEEDS, Codes
from labelled import Pool
from pool_rivals import cosines, exponential, herding, in_turns, kmeans, length_matched, sampled_match
from scipy import sparse
from target_rivals import Floats, Picks

from hf_sae_select import METHODS, FeatureMatrix, load_sae, select_indices
from hf_sae_select.features.kernels import largest_of_rows
from hf_sae_select.features.shares import Shares
from hf_sae_select.selection.cuts import Cuts

LIBRARY = (
    *("match", "greedy", "simscale", "weighted", "concave"),
    *("facility_location", "kcenter", "random", "longest"),
)
DENSE = {"dense": (0.1, 0.2, 0.3, 0.4), "last layer": (0.2, 0.3)}  # widths of the exponential kernel
WIDTH, STRONGEST, REDUNDANCY = 0.5, 128, 1.25
"""Of SAE herding: the width of its kernel, the shares of a row that it reads, and the weight of nearness to picks."""
RANDOM_WEIGHTS = [f"random weights {seed}" for seed in SEEDS]
NOT_NESTED = ("k-means", "length-matched")
"""Rules whose picks for a budget are not the first of those for a larger one."""


@dataclass(frozen=True)
class Draw:
    """Hold one pool, and the rows of the universe in all ways that a contender may see them.

    Cosines of all pairs are kept, so that rules of one kernel share them.
    """

    pool: Pool
    codes: Codes
    kept: dict[tuple[str, int | None], Floats] = field(default_factory=dict)

    def features(self, label: str = "") -> FeatureMatrix:
        features = self.codes.words if label == "words" else self.codes.features[label]
        return features.take(self.pool.rows)

    def vectors(self, label: str = "dense") -> Floats:
        return self.codes.vectors[label].take(self.pool.rows, axis=0)

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

    def cosines(self, label: str, strongest: int | None = None) -> Floats:
        """Return the cosine of each pair of rows, of their shares or of their centred vectors."""
        if (label, strongest) not in self.kept:
            dense = label in self.codes.vectors
            rows = self.vectors(label) if dense else self.shares(label, strongest)
            self.kept[label, strongest] = cosines(rows - rows.mean(axis=0) if dense else rows)
        return self.kept[label, strongest]


Contender = Callable[[Draw, int], Picks]


def contenders() -> dict[str, Contender]:
    """Return all contenders by label."""
    rules: dict[str, Contender] = {method: partial(library, method) for method in LIBRARY}
    rules["SAE herding"] = sae_herding
    for strongest, width, redundancy in (
        *((STRONGEST, WIDTH, 1.0), (STRONGEST, None, REDUNDANCY), (STRONGEST, 0.8, REDUNDANCY)),
        *((64, WIDTH, REDUNDANCY), (256, WIDTH, REDUNDANCY)),
    ):
        label = f"SAE herding, {strongest} strongest, {kind(width)}, redundancy {redundancy}"
        rules[label] = partial(sae_herding, strongest=strongest, width=width, redundancy=redundancy)
    for label, widths in DENSE.items():
        for width in (None, *widths):
            rules[f"{label} herding, {kind(width)}"] = partial(dense_herding, label, width)
    rules[f"dense herding, width 0.3, redundancy {REDUNDANCY}"] = partial(
        dense_herding, "dense", 0.3, redundancy=REDUNDANCY
    )
    rules |= {"dense and SAE herding": both, "match, sampled": sampled, "match and simscale": match_and_simscale}
    rules |= {"k-means": by_kmeans, "length-matched": by_length}
    for label in ("words", *RANDOM_WEIGHTS):
        rules[f"SAE herding, {label}"] = partial(sae_herding, label=label)
        rules[f"match, {label}"] = partial(library, "match", label=label)
    return rules


def kind(width: float | None) -> str:
    return "cosine" if width is None else f"width {width}"


def library(method: str, draw: Draw, budget: int, label: str = "") -> Picks:
    """Pick by a method of the library, with the options that it has by default."""
    selector = METHODS[method]
    threshold = calibrated_threshold() if selector.threshold is None else selector.threshold
    features = Cuts(threshold, selector.top).apply(draw.features(label))
    return select_indices(features, budget, method, seed=draw.pool.draw).indices


@cache
def calibrated_threshold() -> float:
    return load_sae().config.feature_threshold


def sae_herding(
    draw: Draw,
    budget: int,
    label: str = "",
    strongest: int = STRONGEST,
    width: float | None = WIDTH,
    redundancy: float = REDUNDANCY,
) -> Picks:
    """Herd by the cosines of shares, or by an exponential kernel of them."""
    return herding(kernel(draw.cosines(label, strongest), width), budget, redundancy)


def dense_herding(label: str, width: float | None, draw: Draw, budget: int, redundancy: float = 1.0) -> Picks:
    """Herd by the cosines of centred vectors, or by an exponential kernel of them."""
    return herding(kernel(draw.cosines(label), width), budget, redundancy)


def both(draw: Draw, budget: int) -> Picks:
    """Herd by the mean of the cosines of shares and of vectors."""
    cosine = (draw.cosines("", STRONGEST) + draw.cosines("dense")) / np.float32(2)
    return herding(kernel(cosine, WIDTH), budget, REDUNDANCY)


def kernel(cosine: Floats, width: float | None) -> Floats:
    return cosine if width is None else exponential(cosine, width)


def sampled(draw: Draw, budget: int) -> Picks:
    return sampled_match(draw.shares(), budget, draw.pool.draw)


def match_and_simscale(draw: Draw, budget: int) -> Picks:
    """Take seven of ten picks of `match`, and three of `simscale`."""
    return in_turns(library("match", draw, budget), library("simscale", draw, budget), 0.7)


def by_kmeans(draw: Draw, budget: int) -> Picks:
    return kmeans(draw.vectors(), budget, draw.pool.draw)


def by_length(draw: Draw, budget: int) -> Picks:
    return length_matched(draw.features().tokens, budget, draw.pool.draw)
