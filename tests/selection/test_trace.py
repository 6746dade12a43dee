"""A selection gone through again: parts of gains, runners-up and gains of other rows equal naive recomputation."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.pools import features_of, pools, thoroughly, with_all
from helpers.tasks import GREEDY, features_with_acts, fits_of, gain_of, is_possible, scale_of, tasks
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import METHODS, Selection, select_indices
from hf_sae_select.selection.nearness import gains_of, nearness
from hf_sae_select.selection.trace import Trace


def selected(rows, arguments, method, options):
    """Select, and return the selection and its trace; None where nothing can be bought."""
    try:
        selection = select_indices(features_with_acts(rows), method=method, **options, **arguments)
    except ValueError:
        return None
    return selection, Trace.of(features_with_acts(rows), selection, arguments["columns"])


def state_before(selection, pick):
    """Return the picks of the round of a pick that come before it."""
    return selection.indices[selection.round_starts[selection.rounds[pick]] : pick].tolist()


@pytest.mark.filterwarnings("ignore:.*returning . rows:UserWarning", "ignore:`quota` wants:UserWarning")
@pytest.mark.parametrize("method, options", GREEDY)
@thoroughly
@given(task=tasks())
def test_parts_runners_up_and_other_gains_equal_naive_recomputation(method, options, task):
    rows, arguments = task
    if not is_possible(arguments, rows) or (task := selected(rows, arguments, method, options)) is None:
        return
    selection, trace = task
    pool = [i for i in range(len(rows)) if i not in arguments["exclude"]]
    gain, fits, picks = gain_of(method, options, rows, pool), fits_of(rows, arguments), np.arange(len(selection))
    parts = list(trace.parts(picks))
    assert [part.gains.sum() for part in parts] == pytest.approx(selection.gains, rel=1e-9)
    assert [part.ids.tolist() for part in parts] == [sorted(rows[i]) for i in selection.indices]
    price = np.array(arguments["columns"]["price"], float)
    scale = scale_of(rows, arguments)
    scale = scale / price if "cost" in arguments and (trace.deciding.scale != trace.constraints.scale).any() else scale
    others, gains = trace.runners_up(picks)
    for pick in picks[len(arguments["must_include"]) :].tolist():
        before, state = selection.indices[:pick].tolist(), state_before(selection, pick)
        left = [i for i in trace.engine.order.tolist() if i not in selection.indices[: pick + 1] and fits(before, i)]
        scores = {i: gain(state, i) * scale[i] for i in left}
        largest = max(scores.values(), default=0)
        if largest <= 0:
            assert others[pick] == -1
            continue
        assert scores[others[pick]] == pytest.approx(largest, rel=1e-9)
        assert gains[pick] == pytest.approx(gain(state, others[pick]), rel=1e-9)
        if method == "greedy" and not options.get("idf"):  # whole numbers: of equal ones the first
            assert others[pick] == max(scores, key=scores.get) or (scale != 1).any()
    for row in sorted(set(pool) - set(selection.indices.tolist()))[:2]:
        states = [state_before(selection, pick) for pick in picks]
        assert trace.gains_of(row)[:-1] == pytest.approx([gain(state, row) for state in states], rel=1e-9, abs=1e-12)
        allowed = [fits(selection.indices[:pick].tolist(), row) for pick in range(len(selection) + 1)]
        assert (trace.obstacles(row) == "").tolist() == allowed


def test_all_picks_together_have_the_runners_up_that_each_has_alone():
    """Threads share the picks, and rounds begin inside their shares."""
    rng = np.random.default_rng(0)
    rows = [set(rng.choice(60, rng.integers(1, 9), replace=False).tolist()) for _ in range(300)]
    features = features_of(rows, d_sae=64)
    for method in ("match", "greedy", "weighted"):
        trace = Trace.of(features, select_indices(features, 100, method))
        rows_of_all, gains_of_all = trace.runners_up(np.arange(100))
        alone = [trace.runners_up(np.array([pick])) for pick in range(100)]
        assert rows_of_all.tolist() == [int(row[0]) for row, _ in alone]
        assert gains_of_all.tolist() == [float(gain[0]) for _, gain in alone]


def test_runners_up_are_the_same_in_any_number_of_threads(monkeypatch):
    rng = np.random.default_rng(1)
    features = features_of([set(rng.choice(60, 5, replace=False).tolist()) for _ in range(200)], d_sae=64)
    trace = Trace.of(features, select_indices(features, 60, "greedy"))
    alone = trace.runners_up(np.arange(60))
    monkeypatch.setattr("hf_sae_select.features.kernels.FEW_IDS", 0)
    monkeypatch.setattr("hf_sae_select.features.kernels.cores", lambda: 3)
    shared = trace.runners_up(np.arange(60))
    assert [values.tolist() for values in shared] == [values.tolist() for values in alone]


@pytest.mark.parametrize("method, options", [("simscale", {}), ("simscale", {"against": "nearest"}), ("instag", {})])
@thoroughly
@given(rows=pools, max_overlap=st.sampled_from([0.2, 0.5, 0.8]))
def test_overlap_is_that_of_the_naive_scan(method, options, rows, max_overlap):
    if not any(rows):
        return
    options = options | ({"max_overlap": max_overlap} if method == "simscale" else {})
    features = features_of(rows)
    selection = select_indices(features, len(rows), method, seed=None, **options)
    trace = Trace.of(features, selection)
    for pick in range(len(selection)):
        row, state = int(selection.indices[pick]), [rows[i] for i in state_before(selection, pick)]
        if not rows[row]:
            assert trace.kind_of(pick) == "filler"
            continue
        near = options.get("against") == "nearest"
        shared = max([len(rows[row] & other) for other in state], default=0) if near else None
        share = (shared if near else len(rows[row] & set().union(*state))) / len(rows[row])
        place, overlap = trace.overlap(row, pick - len(state), pick)
        assert overlap == pytest.approx(share) and overlap <= options.get("max_overlap", 1)
        assert place == -1 if not near or not state else len(rows[row] & rows[selection.indices[place]]) == shared


# Vectors


def cosines(features, center):
    vectors = features.vectors.astype(float)
    used = vectors.any(axis=1)
    if center:
        vectors[used] -= vectors[used].mean(axis=0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit @ unit.T


def vector_pool(n=60, d=12, seed=0):
    rng = np.random.default_rng(seed)
    features = with_all(features_of([set(rng.choice(12, 4, replace=False).tolist()) for _ in range(n)], d_sae=d))
    features.vectors[:] = rng.normal(size=features.vectors.shape)
    features.vectors[7] = 0  # a blank row
    return features


@pytest.mark.parametrize("method", ["facility_location", "kcenter"])
@pytest.mark.parametrize("quality", [False, True])
def test_nearness_equals_naive_recomputation(method, quality):
    features, columns = vector_pool(), {"good": [i % 3 for i in range(60)]}
    arguments = {"columns": columns, "quality": "good"} if quality else {}
    selection = select_indices(features, 12, method, must_include=[5], exclude=[9], **arguments)
    without = features.vectors.copy()
    without[9] = 0
    trace = Trace.of(features, selection, columns)
    like = cosines(replace(features, vectors=without), True)
    scale = np.array(columns["good"], float) if quality else np.ones(60)
    picks = selection.indices.tolist()
    for near in nearness(trace, np.arange(12)):
        row, before = picks[near.pick], picks[: near.pick]
        nearest = np.max([like[:, i] for i in before], axis=0) if before else np.full(60, -np.inf)
        if before:
            assert near.similarity == pytest.approx(like[row, before].max(), abs=2e-3)
            assert before.index(picks[near.nearest]) == near.nearest
        counted = np.maximum(nearest, 0) if method == "facility_location" else nearest
        vectors = without.any(axis=1)
        assert near.n_nearer == pytest.approx(((like[:, row] > counted) & vectors).sum(), abs=2)
        left = [i for i in range(60) if i not in (*before, row, 9, 7)]
        if method == "kcenter":
            gains = {i: 1 - nearest[i] if before else 2 for i in left}
        else:
            gains = {i: np.maximum(like[:, i] - counted, 0).sum() for i in left}
        best = max(gains[i] * scale[i] for i in left)
        assert gains[near.runner_up] * scale[near.runner_up] == pytest.approx(best, rel=5e-3)
        assert near.runner_up_gain == pytest.approx(gains[near.runner_up], rel=5e-3)
        if near.pick:
            assert gains_of(trace, row)[near.pick] == pytest.approx(float(selection.gains[near.pick]), rel=1e-9)


def test_the_filter_compares_within_a_round():
    features = with_all(features_of([{0}, {0}, {1}, {1}, {0, 1}]))
    selection = select_indices(features, 5, "repr_filter", seed=None)
    assert selection.round_starts.tolist() == [0, 3]
    near = list(nearness(Trace.of(features, selection), np.arange(5)))
    assert [each.nearest for each in near] == [-1, 0, 0, -1, 3]
    assert [each.similarity for each in near[1:3]] == pytest.approx([0, 0.5**0.5], abs=1e-3)


def test_a_search_that_would_take_too_long_is_left_out(monkeypatch):
    features = vector_pool()
    trace = Trace.of(features, select_indices(features, 3, "facility_location"))
    monkeypatch.setattr("hf_sae_select.selection.nearness.MOST_SIMILARITIES", 2 * 60**2)
    assert [near.runner_up for near in nearness(trace, np.arange(3))] == [-1, -1, -1]
    assert all(near.runner_up >= 0 for near in nearness(trace, np.arange(2)))


# What is not the selection's


def test_features_of_other_rows_are_refused():
    features = features_of([{0, 1}, {1, 2, 3}, {3}])
    selection = select_indices(features, 2, "greedy")
    with pytest.raises(ValueError, match=r"`features` has 2 rows, but `selection` picked among 3"):
        Trace.of(features_of([{0}, {1}]), selection)
    other = Trace.of(features_of([{0}, {1}, {2}]), selection)
    with pytest.raises(ValueError, match=r"`features` are not those.* pick 0 gains 1 by them, and gained 3"):
        list(other.parts(np.arange(2)))
    vectors = vector_pool()
    selection = select_indices(vectors, 3, "kcenter")
    with pytest.raises(ValueError, match="these are not the vectors that the rows were selected by"):
        list(nearness(Trace.of(vector_pool(seed=1), selection), np.arange(3)))


def test_a_selection_without_parameters_has_only_its_picks():
    trace = Trace.of(features_of([{0}, {1}]), Selection(np.array([1]), np.array([1]), np.array([0])))
    assert trace.kind == "own" and list(trace.parts(np.arange(1))) == [] and trace.runners_up(np.arange(1))[0] == -1


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_says_what_decides(method):
    assert METHODS[method].kind in ("distribution", "coverage", "nearness", "similarity", "length", "chance")
