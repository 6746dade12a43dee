"""Duplicates: by eye, and against the comparison of all pairs."""

import numpy as np
import pytest
from helpers.pools import features_of, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import FeatureMatrix
from hf_sae_select.features.duplicates import Duplicates, duplicates, near_rows
from hf_sae_select.features.shares import Shares

matrices = st.lists(st.lists(st.sampled_from([0.0, 0.0, 1.0, 1.1, 4.0]), min_size=6, max_size=6), max_size=9)


def pairs(result):
    return list(zip(result.picks.tolist(), result.rows.tolist(), result.similarity.tolist(), strict=True))


def naive_pairs(features, picks, pool, least):
    shares = Shares.of_strongest(features, np.array(pool, np.int64))
    dense = np.zeros((len(features), features.d_sae))
    for i in range(len(features)):
        entries = slice(*shares.features.offsets[i : i + 2])
        dense[i, shares.features.ids[entries]] = shares.amounts[entries]
    dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-30)
    cosine = dense @ dense.T
    return {
        (k, row): cosine[i, row] for k, i in enumerate(picks) for row in pool if row != i and cosine[i, row] >= least
    }


def test_rows_with_the_features_of_a_pick_are_its_duplicates():
    features = features_of([{0, 1}, {0, 1}, {0, 2}, set(), set(), {0, 2}])
    result = duplicates(features, [0, 3, 2])
    assert pairs(result) == [(0, 1, 1.0), (2, 5, 1.0)]
    assert result.of(0) == [(1, 1.0)] and result.of(1) == [] and result.n_rows == 2
    assert result.to_pandas().to_dict("list") == {"pick": [0, 2], "row": [1, 5], "similarity": [1.0, 1.0]}


def test_what_all_rows_have_makes_no_two_alike():
    alike = features_of([{0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 6}, {0, 1, 2, 3, 4, 7}])
    assert pairs(duplicates(alike, [0, 1])) == []


def test_near_is_a_matter_of_degree_and_the_nearest_comes_first():
    dense = np.array([[0, 9, 1, 0], [0, 9, 1, 0], [0, 9, 2, 0], *[[9, 0, 0, 9]] * 5], np.float32)
    features = FeatureMatrix.from_dense(dense)
    result = duplicates(features, [0], least=0.9)
    assert result.rows.tolist() == [1, 2] and result.similarity[0] == 1 > result.similarity[1] > 0.9
    assert duplicates(features, [0], least=1).rows.tolist() == [1]


def test_picks_that_repeat_each_other_are_a_group():
    features = features_of([{1}, {2}, {1}, {3}, {2}, {1}])
    result = duplicates(features, [1, 5, 4, 3, 2, 0])
    assert result.groups == [(5, 2, 0), (1, 4)] and result.n_rows == 0


def test_a_group_is_what_links_connect():
    chain = Duplicates(np.array([7, 8, 9, 6]), np.array([0, 1]), np.array([8, 9]), np.ones(2, np.float32))
    assert chain.groups == [(7, 8, 9)]


def test_rows_beside_the_pool_are_not_compared():
    features = features_of([{1}, {1}, {1}, {2}])
    assert pairs(duplicates(features, [0], pool=[0, 2, 3])) == [(0, 2, 1.0)]
    assert pairs(duplicates(features, [])) == pairs(duplicates(features_of([]), [])) == []


@given(rows=matrices, data=st.data())
@thoroughly
def test_no_pair_is_missed(rows, data):
    features = FeatureMatrix.from_dense(np.array(rows, np.float32).reshape(len(rows), 6))
    picks = data.draw(st.lists(st.integers(0, len(rows) - 1), unique=True)) if rows else []
    least = data.draw(st.sampled_from([0.5, 0.8, 0.95, 1.0]))
    pool = range(len(rows))
    exact = naive_pairs(features, picks, pool, least - 1e-5)
    result = duplicates(features, picks, least=least)
    near = {(pick, row): similarity for pick, row, similarity in pairs(result)}
    assert near == {pair: pytest.approx(exact[pair], abs=1e-5) for pair in near}
    assert {pair for pair, cosine in exact.items() if cosine >= least + 1e-5} <= near.keys()


def test_of_many_rows_all_pairs_are_those_of_comparing_all():
    rng = np.random.default_rng(0)
    dense = (rng.random((300, 40)) < 0.2) * rng.random((300, 40))
    dense[150:] = dense[:150] * rng.choice([0.8, 1.0, 1.25], (150, 40))
    features = FeatureMatrix.from_dense(dense.astype(np.float32))
    exact = naive_pairs(features, range(0, 300, 3), range(300), 0.95)
    assert len(exact) > 50
    result = duplicates(features, range(0, 300, 3))
    assert {(pick, row) for pick, row, _ in pairs(result)} == exact.keys()


def test_a_least_cosine_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"`least=0` must be"):
        duplicates(features_of([{1}]), [0], least=0)


@given(rows=matrices, cut=st.integers(0, 9), least=st.sampled_from([0.5, 0.8, 1.0]))
@thoroughly
def test_rows_of_another_matrix_are_compared_by_the_means_of_the_first(rows, cut, least):
    dense = np.array(rows, np.float32).reshape(len(rows), 6)
    both = FeatureMatrix.from_dense(dense)
    n = min(cut, len(rows))
    exact = naive_pairs(both, range(n, len(rows)), range(n), least - 1e-5)
    pool, reference = FeatureMatrix.from_dense(dense[:n]), FeatureMatrix.from_dense(dense[n:])
    near, others, similarity = near_rows(pool, reference, least)
    assert near.tolist() == sorted(set(near.tolist()))
    for row, other, cosine in zip(near.tolist(), others.tolist(), similarity.tolist(), strict=True):
        assert exact[other, row] == pytest.approx(cosine, abs=1e-5)
        assert cosine >= max(value for (_, i), value in exact.items() if i == row) - 1e-5
    assert {row for (_, row), cosine in exact.items() if cosine >= least + 1e-5} <= set(near.tolist())
