"""Loops that Python interprets, where there is little to do, give the very numbers that compiled ones give."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers.pools import with_all
from helpers.tasks import GREEDY, features_with_acts, is_possible, tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_sae_select import METHODS, FeatureMatrix, select_indices
from hf_sae_select.concepts.neighbours import Neighbours
from hf_sae_select.concepts.projection import projection
from hf_sae_select.features import kernels
from hf_sae_select.features.duplicates import duplicates
from hf_sae_select.features.leaders import Leaders
from hf_sae_select.features.peaks import Peaks
from hf_sae_select.features.shares import Shares
from hf_sae_select.selection.overlap import overlap_of
from hf_sae_select.selection.trace import Trace

TASKS = [
    *GREEDY,
    ("match", {"per_cost": True}),
    ("herding", {"width": 0.3}),
    ("simscale", {"max_overlap": 0.3}),
    ("simscale", {"against": "nearest", "max_overlap": 0.3}),
    *((name, {}) for name in METHODS if name not in dict(GREEDY)),
]


def in_both_ways(monkeypatch, call):
    """Return what a call returns when its loops are compiled, and when they are interpreted."""
    monkeypatch.setattr(kernels, "MOST_INTERPRETED", -1)
    compiled = call()
    monkeypatch.setattr(kernels, "MOST_INTERPRETED", math.inf)
    return compiled, call()


def matrix(seed, rows=30, d_sae=40):
    """Draw a matrix with activations whose sums depend on the order and the precision of adding them."""
    rng = np.random.default_rng(seed)
    dense = rng.gamma(0.5, size=(rows, d_sae)) * (rng.random((rows, d_sae)) < 0.4)
    dense[::7] = dense[3]  # rows that repeat each other
    return FeatureMatrix.from_dense(dense.astype(np.float32))


@pytest.mark.filterwarnings("ignore:.*returning . rows:UserWarning", "ignore:`quota` wants:UserWarning")
@pytest.mark.parametrize("method, options", TASKS)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(task=tasks(), seed=st.integers(0, 99))
def test_every_method_selects_the_same_in_both_ways(method, options, task, seed):
    rows, arguments = task
    if method == "longest":
        arguments = {name: value for name, value in arguments.items() if name not in ("per_token", "quality")}
    if method == "random":
        arguments |= {"seed": 0}
    if not is_possible(arguments, rows) or (options.get("per_cost") and "cost" not in arguments):
        return
    features = with_all(features_with_acts(rows))
    acts = (features.acts * np.random.default_rng(seed).random(len(features.ids))).astype(np.float32)
    features = replace(features, acts=acts)

    def select():
        try:
            return select_indices(features, method=method, **options, **arguments)
        except ValueError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        compiled, interpreted = in_both_ways(patch, select)
    assert_equal(compiled, interpreted)


@pytest.mark.parametrize("method", ["herding", "match", "greedy", "weighted"])
def test_a_target_selects_the_same_in_both_ways(monkeypatch, method):
    select = partial(select_indices, matrix(0), 9, method, target=matrix(1, rows=8), overlap="keep")
    assert_equal(*in_both_ways(monkeypatch, select))


def assert_equal(compiled, interpreted):
    """Compare two selections, or the errors in their places, bit by bit."""
    if isinstance(compiled, str):
        assert interpreted == compiled
        return
    assert interpreted.indices.tolist() == compiled.indices.tolist()
    assert interpreted.gains.tolist() == compiled.gains.tolist() and interpreted.gains.dtype == compiled.gains.dtype
    assert interpreted.round_starts.tolist() == compiled.round_starts.tolist()
    assert interpreted.covered.tolist() == compiled.covered.tolist()


def traced(features):
    selection = select_indices(features, 12, "match")
    trace, picks = Trace.of(features, selection), np.arange(12)
    return *(part.gains for part in trace.parts(picks)), *trace.runners_up(picks)


def peaks(features):
    peaks = Peaks.of(features, np.arange(features.d_sae), np.arange(len(features)), 3)
    return peaks.rows, peaks.activations


def shares(features):
    every = np.arange(len(features))
    shares = Shares.of(features, every)
    return shares.amounts, shares.total, shares.curve(every[::2]), features.top(7).ids, projection(shares)


def leaders(features):
    leaders = Leaders(Shares.of(features, np.arange(len(features))), 0.3)
    leaders.keep(list(range(0, 30, 3)))
    return (np.array(leaders.near(list(range(1, 30, 3)))),)


def repeats(features):
    pairs = duplicates(features, range(0, 30, 2), least=0.3)
    return pairs.picks, pairs.rows, pairs.similarity


def nearest(features):
    near = Neighbours.by_features(features, np.arange(0, 30, 4), np.arange(30))
    return near.pick, near.similarity


def shared_words(features):
    eight = "one two three four five six seven eight"
    texts = [f"{eight} nine {eight}", "ten eleven", eight]
    overlap = overlap_of(texts * 3, texts[::-1])
    return overlap.rows, overlap.share


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("call", [traced, peaks, shares, leaders, repeats, nearest, shared_words])
def test_what_else_loops_over_features_gives_the_same_in_both_ways(monkeypatch, call, seed):
    compiled, interpreted = in_both_ways(monkeypatch, lambda: call(matrix(seed)))
    assert [part.tolist() for part in interpreted] == [part.tolist() for part in compiled]


SCRIPT = """
import sys
from helpers.pools import coded
import hf_sae_select
rows = [{n * i % 97: 0.5 + i / 7 for i in range(1, 60)} for n in range(1, 9)]
for method in ([], ["match"], ["greedy"], ["simscale"]):
    subset = coded(rows, record={"d_sae": 97, "threshold": 0.5, "sae_sha256": "abc"}).sae_select(4, *method)
    assert len(subset) == 4 and "numba" not in sys.modules
"""


@pytest.mark.slow
def test_selecting_from_eight_rows_compiles_nothing(tmp_path):
    """Not even four times."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
