"""Which rows of the pool each pick stands for."""

import numpy as np
import pytest
from helpers.pools import features_of, pools, thoroughly, with_all
from hypothesis import given

from hf_sae_select import select_indices
from hf_sae_select.concepts.neighbours import Neighbours, nearest_picks
from hf_sae_select.features.shares import Shares
from hf_sae_select.selection.trace import Trace


def naive(features, picks, pool):
    """Return the cosine of each row's shares with those of each pick: [n, k]."""
    dense = np.zeros((len(features), features.d_sae))
    amounts = Shares.of(features, pool).amounts
    for i in range(len(features)):
        dense[i, features.row(i)] = amounts[features.offsets[i] : features.offsets[i + 1]]
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    unit = np.divide(dense, lengths, out=np.zeros_like(dense), where=lengths > 0)
    return unit @ unit[picks].T


def test_rows_belong_to_the_nearest_pick_and_those_like_none_to_nobody():
    features = features_of([{0, 1}, {0, 1}, {0, 2}, {3}, set()])
    near = Neighbours.by_features(features, np.array([0, 2]), np.arange(5))
    assert near.pick.tolist() == [0, 0, 1, -1, -1] and near.similarity.tolist() == pytest.approx([1, 1, 1, 0, 0])
    assert near.counts.tolist() == [2, 1] and near.n_alone == 2
    assert near.rows_of(0).tolist() == [1] and near.rows_of(1).tolist() == []


def test_equal_rows_belong_to_the_earlier_pick_and_picks_to_themselves():
    features = features_of([{0}, {1}, {0}, {0}, {1}])
    near = Neighbours.by_features(features, np.array([2, 3, 1]), np.arange(5))
    assert near.pick.tolist() == [0, 2, 0, 1, 2] and near.similarity.tolist() == [1] * 5


def test_rows_that_could_not_be_selected_belong_to_nobody_and_are_not_counted():
    features = features_of([{0}, {0}, {1}])
    near = Neighbours.by_features(features, np.array([0]), np.array([0, 2]))
    assert near.pick.tolist() == [0, -1, -1] and near.n_alone == 1


@thoroughly
@given(rows=pools)
def test_neighbours_equal_naive_comparison(rows):
    if not rows:
        return
    features = features_of(rows)
    trace = Trace.of(features, select_indices(features, (len(rows) + 1) // 2))
    picks = trace.selection.indices
    like, near = naive(features, picks, np.arange(len(rows))), Neighbours.of(trace)
    for i in range(len(rows)):
        best = like[i].max()
        assert near.similarity[i] == pytest.approx(1 if i in picks else best, abs=1e-6)
        if i in picks:
            assert picks[near.pick[i]] == i
        elif best == 0:
            assert near.pick[i] == -1
        else:
            assert like[i, near.pick[i]] == pytest.approx(best, abs=1e-6)
        nearest = nearest_picks(trace, i, 3)
        assert [share for _, share in nearest] == pytest.approx(sorted(like[i][like[i] > 0])[::-1][:3], abs=1e-6)
    rows_of = [near.rows_of(pick).tolist() for pick in range(len(picks))]
    assert sum(map(len, rows_of)) + len(picks) + near.n_alone - sum(near.pick[picks] < 0) == len(rows)
    for of_pick in rows_of:
        assert near.similarity[of_pick].tolist() == sorted(near.similarity[of_pick], reverse=True)


def test_threads_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    features = features_of([set(rng.choice(60, 9, replace=False).tolist()) for _ in range(200)], d_sae=64)
    alone = Neighbours.by_features(features, np.arange(40), np.arange(200))
    monkeypatch.setattr("hf_sae_select.features.kernels.FEW_IDS", 0)
    monkeypatch.setattr("hf_sae_select.features.kernels.cores", lambda: 3)
    shared = Neighbours.by_features(features, np.arange(40), np.arange(200))
    assert shared.pick.tolist() == alone.pick.tolist() and shared.similarity.tolist() == alone.similarity.tolist()


def test_a_method_that_compares_vectors_has_neighbours_by_vectors():
    features = with_all(features_of([{0}, {1}, {0}, {1}, set()]))
    features.vectors[:4, :2] = [[1, 0.1], [0.1, 1], [1, 0.2], [0.2, 1]]
    trace = Trace.of(features, select_indices(features, 2, "facility_location", seed=None))
    near = Neighbours.of(trace)
    assert len(set(near.pick[:4].tolist())) == 2 and near.pick[0] == near.pick[2] and near.pick[1] == near.pick[3]
    assert near.pick[4] == -1 and near.n_alone == 1
    assert [pick for pick, _ in nearest_picks(trace, 0, 3)] == [near.pick[0]]
