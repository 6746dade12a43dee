"""Shares, and the likeness of rows to a pool: by eye, against naive loops, and beside the gains of `match`."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.pools import features_of, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import FeatureMatrix, metrics, select_indices
from hf_sae_select.features.shares import STRONGEST, Shares, random_rows

ROWS = [{0, 1}, {0, 1}, {0, 2}]  # all have feature 0; the shares above the mean are {1}, {1} and {2}
strengths = st.sampled_from([0.25, 1.0, 4.0])
active_pools = st.lists(st.dictionaries(st.integers(0, 7), strengths, max_size=5), min_size=1, max_size=8)


def matrix(rows):
    dense = np.zeros((len(rows), 8), np.float32)
    for i, row in enumerate(rows):
        dense[i, list(row)] = list(row.values())
    return FeatureMatrix.from_dense(dense)


def naive_shares(rows, pool):
    """Return the shares of each row, as the definition says them."""
    roots = [{j: math.sqrt(act) for j, act in row.items()} for row in rows]
    shares = [{j: root / sum(row.values()) for j, root in row.items()} for row in roots]
    read = [i for i in pool if rows[i]]
    mean = {j: sum(shares[i].get(j, 0) for i in read) / len(read) for j in range(8)} if read else {}
    result = []
    for row in shares:
        above = {j: share - mean.get(j, 0) for j, share in row.items() if share > mean.get(j, 0) * (1 + 1e-6)}
        above = above or row
        result.append({j: part / sum(above.values()) for j, part in above.items()})
    return result


def naive_likeness(rows, indices, pool):
    shares = naive_shares(rows, pool)
    p, q = ([sum(shares[i].get(j, 0) for i in some) for j in range(8)] for some in (indices, pool))
    if not sum(q):
        return math.nan
    return sum(math.sqrt(a * b) for a, b in zip(p, q, strict=True)) / math.sqrt(sum(p) * sum(q)) if sum(p) else 0.0


def test_shares_are_what_a_row_has_above_the_mean():
    shares = Shares.of(features_of(ROWS), np.arange(3))
    assert shares.amounts.tolist() == [0, 1, 0, 1, 0, 1]
    assert shares.total.tolist()[:4] == [0, 2, 1, 0]


def test_rows_in_the_proportions_of_the_pool_are_wholly_like_it():
    features = features_of([*ROWS, *ROWS])
    assert metrics.likeness(features, range(6)) == 1
    assert metrics.likeness(features, [0, 1, 2]) == 1
    assert metrics.likeness(features, [0, 1]) == pytest.approx(math.sqrt(2 / 3))
    assert metrics.likeness(features, [2]) == pytest.approx(math.sqrt(1 / 3))


def test_a_row_that_is_listed_twice_counts_twice():
    features = features_of([{1}, {2}, {1}])
    assert metrics.likeness(features, [0, 1]) < metrics.likeness(features, [0, 0, 1]) == 1


def test_rows_are_compared_with_the_pool_that_is_named():
    features = features_of([{1}, {2}, {3}])
    assert metrics.likeness(features, [0, 1], pool=[0, 1]) == 1
    assert metrics.likeness(features, [2], pool=[0, 1]) == 0


def test_without_features_there_is_no_likeness():
    features = features_of([{1}, set()])
    assert metrics.likeness(features, []) == metrics.likeness(features, [1]) == 0
    assert math.isnan(metrics.likeness(features, [0], pool=[1]))
    assert metrics.likeness_curve(features, []).tolist() == []
    assert metrics.likeness_curve(features, [1, 0]).tolist() == [0, 1]
    assert np.isnan(metrics.likeness_curve(features, [0, 1], pool=[])).all()


def test_the_curve_is_the_likeness_after_each_row():
    features = features_of(ROWS)
    curve = metrics.likeness_curve(features, [0, 2, 1])
    assert curve == pytest.approx([math.sqrt(2 / 3), math.sqrt(2 / 6) + math.sqrt(1 / 6), 1])


def test_weak_features_count_and_of_many_the_strongest():
    weak = matrix([{0: 4.0, 1: 0.25}, {0: 4.0, 2: 0.25}])
    assert metrics.likeness(weak, [0]) == pytest.approx(math.sqrt(1 / 2))
    dense = np.ones((2, STRONGEST + 8), np.float32)
    dense[0, -8:] = 2  # of its equal others, the first 248 stay
    features = FeatureMatrix.from_dense(dense)
    cut = features.top(STRONGEST)
    assert cut.counts.tolist() == [STRONGEST, STRONGEST]
    assert metrics.likeness(features, [0]) == metrics.likeness(cut, [0]) < 1


@given(rows=active_pools, data=st.data())
@thoroughly
def test_likeness_is_what_its_definition_says(rows, data):
    some = st.lists(st.integers(0, len(rows) - 1), max_size=9)
    indices, pool = data.draw(some), sorted(set(data.draw(some)))
    features = matrix(rows)
    expected = pytest.approx(naive_likeness(rows, indices, pool), nan_ok=True, abs=1e-6)
    assert metrics.likeness(features, indices, pool) == expected
    curve = [naive_likeness(rows, indices[: k + 1], pool) for k in range(len(indices))]
    assert metrics.likeness_curve(features, indices, pool) == pytest.approx(curve, nan_ok=True, abs=1e-6)


@given(rows=active_pools.filter(any))
@thoroughly
def test_the_curve_of_match_is_the_running_sum_of_its_gains(rows):
    features = matrix([row for row in rows if row])
    n = len(features)
    selection = select_indices(features, n, "match", seed=None)
    curve = metrics.likeness_curve(features, selection.indices)
    assert selection.gains.cumsum() / np.sqrt(n * np.arange(1, n + 1)) == pytest.approx(curve, abs=1e-6)
    assert curve[-1] == pytest.approx(1)


def test_activations_of_zero_do_not_count():
    features = features_of([{1, 3}, {2}])
    features = replace(features, acts=np.array([1, 0, 1], np.float32))
    assert metrics.likeness(features, [0]) == pytest.approx(math.sqrt(1 / 2))


@pytest.mark.parametrize("name, rows", [("indices", {"indices": [9]}), ("pool", {"indices": [0], "pool": [9]})])
def test_rows_that_are_not_there_are_refused(name, rows):
    with pytest.raises(ValueError, match=f"`{name}` names rows 9 to 9"):
        metrics.likeness(features_of(ROWS), **rows)


def test_so_many_random_rows_have_a_likeness():
    curve = np.array([0.5, 0.8, 0.7, 0.9])
    asked = [0, 0.1, 0.5, 0.6, 0.75, 0.85, 0.95]
    assert [random_rows(likeness, curve) for likeness in asked] == [0, 1, 1, 2, 2, 4, 4]
    assert math.isnan(random_rows(math.nan, curve))


def test_the_curve_of_random_rows_ends_with_all_rows_and_is_the_same_each_time():
    features = features_of([{0}, {1}, {2}, {3}] * 5)
    shares = Shares.of_strongest(features, np.arange(20))
    curve = shares.random_curve(np.arange(20))
    assert len(curve) == 20 and curve[0] == pytest.approx(1 / 2) and curve[-1] == pytest.approx(1)
    assert curve.tolist() == shares.random_curve(np.arange(20)).tolist()
