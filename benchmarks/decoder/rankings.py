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

sys.path.append(str(Path(__file__).parent.parent))
from pool_rivals import exponential, in_turns, length_matched
from pool_rivals import herding as kernel_herding
from target_rivals import centred, round_robin

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
WIDTH, REDUNDANCY = 0.3, 1.0  # of herding by vectors


def encoded(known: Pairs, rows: Rows, sae: str | None = None) -> Dataset:
    """Encode rows by the packaged SAE, or by one of the decoder, and keep their mean states."""
    how: dict[str, Any] = {} if sae is None else {"sae": sae, "dtype": "bfloat16"}
    return known.dataset(rows).sae_encode(text="text", keep="state", **how)


def ranked(known: Pairs, draw: Draw, budget: int, count: int) -> dict[str, list[int]]:
    """Return the first `count` rows of each method; of length-matched, which has no order, `budget` rows."""
    pool = encoded(known, draw.rows)
    rankings = {label: method(count) for label, method in methods(pool, draw.number).items()}
    rankings[LENGTHS] = length_matched(known.tokens[draw.rows].astype(np.int32), budget, draw.number)
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
    states = np.asarray(features.vectors)
    units, _ = centred(states, states)
    kernel = exponential(units @ units.T, WIDTH)
    named[OF_VECTORS] = lambda count: kernel_herding(kernel, count, REDUNDANCY)
    named[BLENDED] = lambda count: in_turns(library("match", count), library("simscale", count), 0.7)
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


def shuffled(rows: int, seed: list[int], count: int) -> Ranking:
    return np.random.default_rng(seed).permutation(rows)[:count]
