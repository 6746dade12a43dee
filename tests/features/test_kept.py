"""What is kept of each row: its strongest features and all above a threshold, and which cuts that is enough for."""

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.pools import RECORD, coded, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import select_indices
from hf_sae_select.features.kept import Kept, check_kept
from hf_sae_select.features.matrix import FeatureMatrix
from hf_sae_select.selection.cuts import Cuts

THRESHOLD = 2.003  # no half is equal to it, nor to 0.6 times it
KEPT = Kept.of(2, THRESHOLD)
near_a_threshold = st.sampled_from([THRESHOLD, KEPT.above, 1.0, 5e-8]).flatmap(
    lambda limit: st.floats(-1e-3, 1e-3).map(lambda change: abs(limit * (1 + change)))
)
activations = (near_a_threshold | st.floats(2**-23, 60_000, width=32)).map(np.float32)
rows_of_activations = st.lists(st.dictionaries(st.integers(0, 15), activations, max_size=8), min_size=1, max_size=8)


def stored_rows(rows, kept):
    """Return rows, {feature: activation}, as they are stored."""
    stored = []
    for row in rows:
        ids, acts = kept.cut(np.array(sorted(row), int), np.array([row[i] for i in sorted(row)], np.float32))
        stored.append(dict(zip(ids.tolist(), kept.stored(acts, THRESHOLD).tolist(), strict=True)))
    return stored


def matrix_of(rows, kept=None):
    """Make the matrix of rows, with all activations of them or those that are kept."""
    tokens = np.array([len(row) for row in rows], np.int32)
    rows = rows if kept is None else stored_rows(rows, kept)
    ids = np.array([i for row in rows for i in sorted(row)], np.uint16)
    acts = np.array([row[i] for row in rows for i in sorted(row)], np.float32)
    return FeatureMatrix(np.cumsum([0, *map(len, rows)]), ids, acts, 16, tokens, kept=kept)


def encoded(rows, kept):
    """Make an encoded dataset of what is kept of rows."""
    return coded(stored_rows(rows, kept), record=RECORD | {"threshold": THRESHOLD, "keep": kept.record()})


def fields_of(features):
    return [getattr(features, name).tolist() for name in ("offsets", "ids", "acts", "tokens")]


def test_a_row_keeps_its_strongest_features_the_lower_of_equals_and_all_above_the_threshold():
    kept = Kept(2, 5.0)
    ids, acts = np.arange(6), np.array([1, 3, 9, 3, 6, 7], np.float32)
    assert kept.cut(ids, acts)[0].tolist() == [2, 4, 5]
    assert Kept(5, 5.0).cut(ids, acts)[0].tolist() == [1, 2, 3, 4, 5]
    assert Kept(4, 8.0).cut(ids, acts)[0].tolist() == [1, 2, 4, 5]
    assert Kept(6, 5.0).cut(ids, acts)[0].tolist() == [0, 1, 2, 3, 4, 5]


@thoroughly
@given(rows_of_activations)
def test_halves_stay_on_their_side_of_the_thresholds(rows):
    acts = np.array([act for row in rows for act in row.values()], np.float32)
    halves = KEPT.stored(acts, THRESHOLD).astype(np.float32)
    for limit in np.array([0, KEPT.above, THRESHOLD], np.float32):
        assert ((halves > limit) == (acts > limit)).all()
    assert np.allclose(halves, acts, rtol=2**-10, atol=2**-23)


@thoroughly
@given(rows_of_activations)
def test_what_counts_features_counts_the_same_of_what_is_kept(rows):
    for threshold in (THRESHOLD, KEPT.above):
        every, kept = (Cuts(threshold).apply(matrix_of(rows, how)) for how in (None, KEPT))
        assert fields_of(every)[:2] == fields_of(kept)[:2]


@pytest.mark.parametrize("method", ["greedy", "simscale", "concave", "instag", "longest", "random"])
def test_methods_that_count_pick_the_same_rows_of_what_is_kept(method):
    rng = np.random.default_rng(0)
    rows = [dict(zip(range(16), 4 * rng.random(16, np.float32), strict=True)) for _ in range(30)]
    every, kept = (Cuts(THRESHOLD).apply(matrix_of(rows, how)) for how in (None, KEPT))
    picks, again = (select_indices(features, 20, method) for features in (every, kept))
    assert picks.indices.tolist() == again.indices.tolist() and picks.gains.tolist() == again.gains.tolist()


@thoroughly
@given(rows_of_activations, st.floats(0, 4), st.none() | st.integers(1, 5), st.none() | st.just(0.5))
def test_a_cut_is_refused_or_gives_what_it_gives_of_all_activations(rows, threshold, top, max_share):
    full = Kept.of(2, THRESHOLD, "float32")
    cuts = Cuts(threshold, top, max_share)
    try:
        again = cuts.apply(matrix_of(rows, full))
    except ValueError as error:
        assert "keep='all'" in str(error) and not cuts.is_of_kept(full)
    else:
        assert fields_of(again)[:3] == fields_of(cuts.apply(matrix_of(rows)))[:3]


ROWS = [{0: 1.0, 3: 2.5}, {}, {1: 3.5, 2: 1.5, 3: 2.25, 9: 2.75}, {3: 3.0}, {2: 2.125, 3: 4.0}]


@pytest.mark.parametrize("order", [None, [4, 2, 0, 3, 1], [2, 2], []])
@pytest.mark.parametrize(
    "cuts", [Cuts(0.0, 2), Cuts(THRESHOLD), Cuts(THRESHOLD, 1), Cuts(THRESHOLD, None, 0.5), Cuts(1.25, 1, 0.7)]
)
def test_a_cut_of_what_is_read_by_blocks_is_the_cut_of_all(monkeypatch, cuts, order):
    monkeypatch.setattr("hf_sae_select.features.codes.BLOCK_ENTRIES", 4)
    rows = encoded(ROWS, KEPT)
    rows = rows if order is None else rows.select(order)
    expected = cuts.apply(FeatureMatrix.from_dataset(rows), [0] if len(rows) else [])
    assert fields_of(cuts.read(rows, excluded=[0] if len(rows) else [])) == fields_of(expected)


def test_a_row_that_was_not_cut_knows_all_its_features():
    rows = encoded([{0: 1.0}, {3: 5.0, 4: 2.5, 5: 2.25}], Kept.of(2, THRESHOLD))
    assert FeatureMatrix.from_dataset(rows.select([0]), threshold=0.5).ids.tolist() == [0]
    with pytest.raises(ValueError, match=r"of row 1 only the 2 strongest .* all above 0.5 are needed.*keep='all'"):
        FeatureMatrix.from_dataset(rows, threshold=0.5)
    with pytest.raises(ValueError, match=r"of row 1 only the 2 strongest .* the 3 strongest above"):
        FeatureMatrix.from_dataset(rows).top(3)
    assert FeatureMatrix.from_dataset(rows, threshold=THRESHOLD).ids.tolist() == [3, 4, 5]


def test_the_matrix_forgets_what_was_kept_once_it_is_cut():
    features = FeatureMatrix.from_dataset(encoded([{3: 5.0, 4: 2.5, 5: 2.25}], KEPT))
    assert features.kept == KEPT and features.above(0.5).kept == KEPT
    for cut in (features.above(THRESHOLD), features.top(2), features.of_features(np.ones(16, bool))):
        assert cut.kept is None
        check_kept(cut, 0.0)


def test_half_precision_ends_at_65_504():
    assert KEPT.holds(65_504) and not KEPT.holds(65_505) and not KEPT.holds(np.inf)
    full = replace(KEPT, type="float32")
    acts = np.array([1, 70_000], np.float32)
    assert full.holds(70_000) and full.stored(acts, THRESHOLD) is acts


def test_a_threshold_that_half_precision_cannot_tell_from_others_keeps_full_precision():
    assert Kept.of(2, 1e-6).type == "float32"
    assert Kept.of(2, 0.0).type == Kept.of(2, 0.5).type == "float16"


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (256, "`keep=256` must be what is kept of each row"),
        ({"strongest": 2}, "`keep` has strongest"),
        ({"strongest": 0, "above": 0.5, "type": "float16"}, "`strongest=0`"),
        ({"strongest": 2, "above": "x", "type": "float16"}, "`above='x'`"),
        ({"strongest": 2, "above": 0.5, "type": "int8"}, "`type='int8'`"),
    ],
)
def test_a_record_that_says_something_else_is_refused(keep, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        Kept.of_record({"keep": keep})


def test_nobody_knows_how_common_features_are_of_which_not_all_were_kept():
    features = FeatureMatrix.from_dataset(encoded([{0: 1.0, 3: 2.5, 4: 2.0}, {3: 3.0}], Kept.of(2, THRESHOLD)))
    with pytest.raises(ValueError, match="of row 0 only the 2 strongest"):
        features.rare(0.5)
    with pytest.raises(ValueError, match="of row 0 only the 2 strongest"):
        features.above(0.5).common(0.5)
    assert features.above(2.0).common(0.5).tolist()[:5] == [False, False, False, True, False]
