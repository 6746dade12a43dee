"""Leaders: near pairs of rows against the comparison of all pairs."""

import numpy as np
import pytest
from helpers.pools import features_of, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import FeatureMatrix
from hf_sae_select.features import leaders
from hf_sae_select.features.leaders import Leaders
from hf_sae_select.features.shares import Shares

matrices = st.lists(st.lists(st.sampled_from([0.0, 0.0, 1.0, 1.1, 4.0]), min_size=6, max_size=6), max_size=9)


def shares_of(features):
    return Shares.of_strongest(features, np.arange(len(features)))


def cosines(features):
    shares = shares_of(features)
    dense = np.zeros((len(features), features.d_sae))
    for i in range(len(features)):
        entries = slice(*shares.features.offsets[i : i + 2])
        dense[i, shares.features.ids[entries]] = shares.amounts[entries]
    dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-30)
    return dense @ dense.T


def test_a_block_is_compared_with_itself_and_with_the_rows_that_are_kept():
    rows = Leaders(shares_of(features_of([{1}, {2}, {1}, {3}, {2}, set(), set()])), 0.95)
    assert rows.near([0, 1]) == [] and rows.near([2, 0]) == [(0, 2, 1.0)]
    rows.keep([0, 1])
    assert rows.near([2, 3, 5, 6]) == [(2, 0, 1.0)]
    rows.keep([3])
    assert rows.near([4]) == [(4, 1, 1.0)]


@pytest.mark.parametrize("buckets", [1, 3, 128])
@given(rows=matrices, data=st.data())
@thoroughly
def test_no_pair_is_missed_whatever_the_buckets(buckets, rows, data):
    features = FeatureMatrix.from_dense(np.array(rows, np.float32).reshape(len(rows), 6))
    least = data.draw(st.sampled_from([0.5, 0.8, 0.95, 1.0]))
    order = data.draw(st.permutations(range(len(rows))))
    cut = data.draw(st.integers(0, len(rows)))
    exact = cosines(features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaders, "BUCKETS", buckets)
        patch.setattr(leaders, "MORE_BUCKETS", buckets)
        result = Leaders(shares_of(features), least)
    result.keep(order[:cut])
    near = {(row, other): cosine for row, other, cosine in result.near(order[cut:])}
    earlier = {(row, other) for place, row in enumerate(order) for other in order[:place] if place >= cut}
    assert near == {pair: pytest.approx(exact[pair], abs=1e-5) for pair in near}
    assert near.keys() <= {pair for pair in earlier if exact[pair] >= least - 1e-5}
    assert {pair for pair in earlier if exact[pair] >= least + 1e-5} <= near.keys()
