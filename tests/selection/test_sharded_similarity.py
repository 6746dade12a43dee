"""k-center and the filter of vectors over shards against brute force, and what makes their sums equal to the bit."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from helpers.pools import thoroughly
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_sae_select.features.matrix import FeatureMatrix
from hf_sae_select.selection import run
from hf_sae_select.selection.request import SelectionRequest
from hf_sae_select.selection.sharded import pool, similarity
from hf_sae_select.selection.unit_vectors import QUANTIZE_ROWS, VectorSum, quantize, quantized

N = 12
COLUMNS = {
    "kind": ["abc"[i % 3] for i in range(N)],
    "quality": [i % 4 / 3 for i in range(N)],
    "price": [1 + i % 5 for i in range(N)],
}
CONSTRAINTS = [
    {},
    {"must_include": [3, 1], "exclude": [0, 2]},
    {"quota": "kind", "quality": "quality"},
    {"cost": "price", "per_token": 0.5},
]
METHODS = [
    ("kcenter", {}),
    ("kcenter", {"center": False}),
    ("repr_filter", {"max_similarity": 0.3}),
    ("repr_filter", {"max_similarity": -1, "center": True}),
    ("repr_filter", {"max_similarity": 0.9, "exhausted": "stop"}),
]
# Few numbers: equal rows, rows of zeros, equal distances and cosines in nearly every pool.
vectors = st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 1)), min_size=N, max_size=N)


def receipts(features, shards, budget, method, options, **constraints):
    """Select in one process and in shards; return what comes of it as text."""
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        request = SelectionRequest.parse(N, COLUMNS, budget, method, options, **constraints)
        for rows in (features, pool.of_matrix(features, shards)):
            try:
                results.append(repr(vars(run.run(request, rows))))
            except ValueError as error:  # such as a budget that buys no row
                results.append(str(error))
    return results


@given(vectors, st.integers(2, 9), st.sampled_from([1, 2, 7, 32]), st.sampled_from(METHODS), st.data())
@settings(thoroughly, max_examples=50)
def test_the_receipt_is_that_of_one_process(rows, budget, shards, method, data):
    features = FeatureMatrix.from_dense(np.eye(N), vectors=np.array(rows, np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "FARTHEST", data.draw(st.integers(1, 3)))
        patch.setattr(similarity, "PASSING", data.draw(st.integers(1, 3)))
        one, sharded = receipts(features, shards, budget, *method, **data.draw(st.sampled_from(CONSTRAINTS)))
    assert sharded == one


def farthest(unit, order, budget):
    """Pick the row with the largest distance from its nearest pick, with all distances at each pick."""
    distances = ((unit[:, None] - unit) ** 2).sum(axis=2)
    picks = [order[0]]
    while len(picks) < budget:
        nearest = distances[:, picks].min(axis=1)
        picks.append(max((row for row in order if row not in picks), key=lambda row: nearest[row]))
    return picks


def scanned(unit, order, budget, limit):
    """Pick, in order, each row whose product with every pick of the round is at most the limit; begin anew."""
    picks = []
    while len(picks) < budget:
        current = []
        for row in order:
            passes = (unit[[*current]] @ unit[row] <= limit).all()
            if passes and row not in [*picks, *current] and len(picks) + len(current) < budget:
                current.append(row)
        picks += current
    return picks


@pytest.mark.parametrize("shards", [1, 2, 7, 32])
@pytest.mark.parametrize("seed", [0, 1])
def test_small_pools_against_brute_force(seed, shards):
    rows = np.random.default_rng(seed).normal(size=(N, 2)).astype(np.float32)
    sharded = pool.of_matrix(FeatureMatrix.from_dense(np.eye(N), vectors=rows), shards)
    order = np.random.default_rng(0).permutation(N).tolist()  # as `seed=0` orders equal rows
    unit = quantize(rows, False).astype(np.int64)
    length = np.sqrt((unit**2).sum(axis=1)).mean()
    for method, options, expected in (
        ("kcenter", {"center": False}, farthest(unit, order, 8)),
        ("repr_filter", {"max_similarity": 0.5}, scanned(unit, order, 8, 0.5 * length**2)),
    ):
        request = SelectionRequest.parse(N, COLUMNS, 8, method, options)
        assert run.run(request, sharded).indices.tolist() == expected


@pytest.mark.parametrize("width", [1, 3, 64])
def test_neither_cuts_of_the_rows_nor_sizes_of_blocks_change_a_bit(width):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(2500, width)) * np.exp(3 * rng.normal(size=(2500, width)))).astype(np.float32)
    rows[::7] = 0
    starts = range(0, 2500, QUANTIZE_ROWS)
    nonzero = np.count_nonzero(rows.any(axis=1))
    mean = sum(rows[i : i + QUANTIZE_ROWS].sum(axis=0, dtype=np.float64) for i in starts) / nonzero
    whole = quantize(rows, True)
    for cuts in ([0, 2500], [0, 1, 2, 1023, 1024, 1025, 2048, 2500], [0, 300, 300, 1700, 2500]):
        parts = [rows[low:high] for low, high in pairwise(cuts)]
        total = VectorSum.start(width)
        for part in parts:
            total = total.plus(part)
        assert total.mean.tobytes() == mean.tobytes()
        assert np.concatenate([quantized(part, mean) for part in parts]).tobytes() == whole.tobytes()
