"""Representation: shares by eye, chance by exact counting, and labels of another width refused."""

import numpy as np
import pytest
from helpers.naive import exact_tail
from helpers.pools import features_of, pools, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select.concepts.chance import adjusted, tails
from hf_sae_select.concepts.representation import representation
from hf_sae_select.sae.labels import Label, Labels

ROWS = [{0, 1}, {0, 1}, {0, 2}]


def test_each_feature_of_the_pool_has_its_shares():
    shares = representation(features_of(ROWS), [0, 1]).features
    assert [(share.feature, share.pool_rows, share.rows) for share in shares] == [(0, 3, 2), (1, 2, 2), (2, 1, 0)]
    assert shares[1].pool_share == 2 / 3 and shares[1].share == 1 and shares[1].lift == 1.5
    assert [share.kind for share in shares] == ["", "", "missing"]  # of three rows anything may be chance


def test_what_chance_explains_is_no_difference():
    rows = [{0}] * 50 + [{1}] * 50
    clear = representation(features_of(rows), [*range(20)])
    assert [share.feature for share in clear.over] == [0]
    assert [share.feature for share in clear.missing] == [1] and clear.under == []
    assert clear.over[0].lift == 2
    fair = representation(features_of(rows), [*range(12), *range(50, 58)])
    assert fair.over == fair.under == fair.missing == []


def test_random_picks_have_few_differences():
    rng = np.random.default_rng(0)
    rows = [set(np.flatnonzero(rng.random(16) < 0.3).tolist()) for _ in range(400)]
    result = representation(features_of(rows), rng.permutation(400)[:100])
    assert result.over == result.under == []


def test_the_largest_differences_come_first():
    rows = [{0}] * 40 + [{0, 1}] * 40 + [{2}] * 40 + [{3}] * 5
    result = representation(features_of(rows), [*range(40, 80), 80, 81])
    assert [share.feature for share in result.over] == [1, 0]
    assert [share.feature for share in result.under] == [2]
    assert repr(result) == "Representation(rows=42 of 125, features=4, over=2, under=1, missing=1)"


def test_shares_are_of_the_pool_that_is_named():
    result = representation(features_of([{0}, {1}, {1}]), [0], pool=[0, 1])
    assert [(share.feature, share.pool_share) for share in result.features] == [(0, 0.5), (1, 0.5)]


def test_a_table_has_a_line_a_feature():
    table = representation(features_of(ROWS), [0, 1]).to_pandas()
    assert table["feature"].tolist() == [0, 1, 2] and table["kind"].tolist() == ["", "", "missing"]
    assert representation(features_of([]), []).to_pandas().columns.tolist() == table.columns.tolist()


def test_features_have_the_names_of_labels_of_the_same_width():
    shares = representation(features_of(ROWS), [0, 1], labels=Labels([Label(1, "cats")], d_sae=16)).features
    assert [share.name for share in shares] == ["", "cats", ""]
    with pytest.raises(ValueError, match=r"`labels` are of an SAE with d_sae=8"):
        representation(features_of(ROWS), [0, 1], labels=Labels([], d_sae=8))


def test_without_picks_all_is_missing():
    result = representation(features_of(ROWS), [])
    assert len(result.missing) == 3 and result.missing[0].feature == 0


@given(rows=pools, data=st.data())
@thoroughly
def test_chance_is_counted_exactly(rows, data):
    n = len(rows)
    picks = data.draw(st.lists(st.integers(0, n - 1), unique=True)) if n else []
    shares = representation(features_of(rows), picks).features
    expected = [exact_tail(n, len(picks), share.pool_rows, share.rows) for share in shares]
    counts = [np.array([getattr(share, name) for share in shares], np.int64) for name in ("pool_rows", "rows")]
    assert tails(n, len(picks), *counts) == pytest.approx(expected)
    assert [share.q_value for share in shares] == pytest.approx(adjusted(np.array(expected)).tolist())
