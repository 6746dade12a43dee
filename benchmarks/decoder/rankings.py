"""Rank the rows of a pool by each method: the rows that it picks, best first.

    from rankings import ranked, ranked_towards  # in the scripts beside this one

A budget takes the first rows of a ranking, so equal rows and equal tokens are prefixes of one list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from pairs import Draw, Pairs, Rows

from hf_sae_select import FeatureMatrix
from hf_sae_select.features.columns import STATE
from hf_sae_select.features.shares import Shares

sys.path.append(str(Path(__file__).parent.parent))
from target_rivals import centred, herding, round_robin

Ranking = NDArray[np.int64]  # places in the pool
Method = Callable[[int], Ranking]

RANDOM = ("random", "random, again")
"""All others are compared with the mean of these two."""
OF_LIBRARY = ("herding", "match", "simscale", "greedy", "instag", "longest")
OF_VECTORS = "herding, vectors"
BLENDED = "match and simscale, 7 to 3"
LENGTHS = "length-matched"
METHODS = (*RANDOM, *OF_LIBRARY, OF_VECTORS, BLENDED, LENGTHS)
BY_DECODER, DECODER = ("herding", "simscale", "greedy"), "the decoder's SAE"
KERNELS = {"shares": {"width": 0.5, "redundancy": 1.25}, "vectors": {"width": 0.3, "redundancy": 1.0}}
STRONGEST = 128  # shares of a row that count in the kernel


def encoded(known: Pairs, rows: Rows, sae: str | None = None) -> Dataset:
    """Encode rows by the packaged SAE, or by one of the decoder, and keep their mean states."""
    how: dict[str, Any] = {} if sae is None else {"sae": sae, "dtype": "bfloat16"}
    return known.dataset(rows).sae_encode(text="text", keep="state", **how)


def ranked(known: Pairs, draw: Draw, budget: int, count: int) -> dict[str, list[int]]:
    """Return the first `count` rows of each method; of length-matched, which has no order, `budget` rows."""
    pool = encoded(known, draw.rows)
    rankings = {label: method(count) for label, method in methods(pool, draw.number).items()}
    rankings[LENGTHS] = length_matched(known.tokens[draw.rows], budget, draw.number)
    return {label: draw.rows[ranking].tolist() for label, ranking in rankings.items()}


def ranked_by(sae: str, known: Pairs, draw: Draw, count: int) -> dict[str, list[int]]:
    """Return the first `count` rows of some methods by the features of another SAE."""
    by_features = methods(encoded(known, draw.rows, sae), draw.number)
    return {f"{label}, {DECODER}": draw.rows[by_features[label](count)].tolist() for label in BY_DECODER}


def methods(pool: Dataset, seed: int) -> dict[str, Method]:
    """Return the methods that take the first rows of one order."""

    def library(method: str, count: int) -> Ranking:
        return np.asarray(pool.sae_select(count, method, seed=seed).sae_selection.indices)

    features = FeatureMatrix.from_dataset(pool, vectors=STATE)
    named: dict[str, Method] = {method: partial(library, method) for method in OF_LIBRARY}
    named |= {label: partial(shuffled, len(pool), [seed, number]) for number, label in enumerate(RANDOM)}
    named["herding"] = towards_all(strongest_shares(features), **KERNELS["shares"])
    states = np.asarray(features.vectors)
    named[OF_VECTORS] = towards_all(centred(states, states)[0], **KERNELS["vectors"])
    named[BLENDED] = lambda count: blended(library("match", count), library("simscale", count))
    return named


def ranked_towards(known: Pairs, draw: Draw, target: str, count: int) -> dict[str, list[int]]:
    """Return the first `count` rows of each method towards the reference of a target."""
    pool, reference = encoded(known, draw.rows), encoded(known, draw.references[target])
    vectors = [np.asarray(FeatureMatrix.from_dataset(rows, vectors=STATE).vectors) for rows in (pool, reference)]
    rankings = {
        "herding": np.asarray(pool.sae_select(count, target=reference, seed=draw.number).sae_selection.indices),
        "round robin, vectors": round_robin(*centred(*vectors), count),
    }
    return {f"to {target}: {label}": draw.rows[ranking].tolist() for label, ranking in rankings.items()}


# Rules that the library does not have


def shuffled(rows: int, seed: list[int], count: int) -> Ranking:
    return np.random.default_rng(seed).permutation(rows)[:count]


def length_matched(tokens: NDArray[np.int64], budget: int, seed: int) -> Ranking:
    """Draw at random one row from each of `budget` stretches of the rows in order of length."""
    rng = np.random.default_rng(seed)
    stretches = np.array_split(np.argsort(tokens, kind="stable"), budget)
    return rng.permutation([rng.choice(stretch) for stretch in stretches])


def blended(most: Ranking, least: Ranking) -> Ranking:
    """Take seven rows of one ranking, then three of another, and so on; no row twice."""
    turns = zip(np.array_split(most, -(-len(most) // 7)), np.array_split(least, -(-len(least) // 3)), strict=False)
    rows = dict.fromkeys(int(row) for turn in turns for part in turn for row in part)
    return np.array(list(rows))[: len(most)]


def towards_all(vectors: NDArray[np.float32], *, width: float, redundancy: float) -> Method:
    """Return kernel herding whose target is the pool itself."""
    return lambda count: herding(vectors, vectors, count, width=width, redundancy=redundancy)


def strongest_shares(features: FeatureMatrix) -> NDArray[np.float32]:
    """Return unit vectors of each row's strongest shares above the pool's mean: [rows, d_sae]."""
    shares = Shares.of_strongest(features, np.arange(len(features)))
    dense = np.zeros((len(features), features.d_sae), np.float32)
    for row in range(len(features)):
        entries = slice(*shares.features.offsets[row : row + 2])
        strongest = np.argsort(-shares.amounts[entries], kind="stable")[:STRONGEST]
        dense[row, shares.features.ids[entries][strongest]] = shares.amounts[entries][strongest]
    return np.asarray(dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-9))
