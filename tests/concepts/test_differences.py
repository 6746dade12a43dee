"""Differences: what is missing, what changed and what some rows have, by eye; all forms of rows; bad ones refused."""

from math import inf

import numpy as np
import pytest
from datasets import Dataset
from helpers.encoded import TEXTS
from helpers.pools import RECORD, coded, features_of, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import FeatureMatrix, Label, Labels, diff, find_features, missing_features
from hf_sae_select.concepts.chance import lift_intervals

POOL = [{0}] * 60 + [{0, 1}] * 39 + [{0, 1, 2}]
REFERENCE = [{0, 2, 3}] * 18 + [{0, 1}] * 2


def dataset_of(rows, activation=0.9, **how):
    return coded([dict.fromkeys(row, activation) for row in rows], **how)


def values(contrast, *fields):
    return [tuple(getattr(feature, field) for field in fields) for feature in contrast]


def test_what_the_pool_lacks_or_has_far_less_often():
    missing = missing_features(features_of(POOL), features_of(REFERENCE))
    assert values(missing, "feature", "lift") == [(3, inf), (2, pytest.approx(90))]  # 0 is in all, and 1 in fewer
    clearest, second = missing
    assert (clearest.base.rows, clearest.base.share, clearest.base.examples) == (0, 0, ())
    assert (clearest.other.rows, clearest.other.share) == (18, 0.9) and clearest.low > 10 and clearest.high == inf
    assert (second.base.rows, second.other.rows) == (1, 18)
    assert missing.names == ("pool", "reference") and missing.rows == (100, 20) and missing.less == []


def test_a_lift_has_the_interval_of_the_counts():
    second = missing_features(features_of(POOL), features_of(REFERENCE))[1]
    ends = lift_intervals(np.array([18]), 20, np.array([1]), 100)
    assert (second.low, second.high) == pytest.approx([end[0] for end in ends])


def test_what_changed_is_listed_in_both_directions():
    changed = diff(features_of(POOL), features_of(REFERENCE))
    assert [feature.feature for feature in changed.more] == [3, 2]
    assert [feature.feature for feature in changed.less] == [1] and changed.less[0].lift == pytest.approx(0.25)
    assert diff(features_of(POOL), features_of(POOL)).ids == []


def test_the_least_lift_bounds_both_directions():
    pool, reference = features_of(POOL), features_of(REFERENCE)
    assert diff(pool, reference, least_lift=5).ids == [3, 2]
    assert diff(reference, pool, least_lift=5).ids == [3, 2]
    assert missing_features(pool, reference, least_lift=100).ids == [3]


sets_of_rows = st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=40)


@given(sets_of_rows, sets_of_rows, st.integers(1, 20))
@thoroughly
def test_the_other_way_round_a_difference_is_the_inverse(first, second, copies):
    first = first * copies  # enough rows for differences that are clear
    forth, back = diff(features_of(first), features_of(second)), diff(features_of(second), features_of(first))
    assert forth.ids == back.ids
    for one, other in zip(forth, back, strict=True):
        assert (one.base.rows, one.other.rows) == (other.other.rows, other.base.rows)
        assert one.lift == pytest.approx(1 / other.lift if other.lift else inf)
        assert one.low == pytest.approx(1 / other.high if other.high else inf)
        assert one.high == pytest.approx(1 / other.low if other.low else inf)
        assert one.q_value == pytest.approx(other.q_value)
        assert one.log_likelihood_ratio == pytest.approx(other.log_likelihood_ratio)


def test_of_two_random_halves_nothing_is_listed():
    rng = np.random.default_rng(0)
    activations = rng.random((2000, 300)) * (rng.random((2000, 300)) < rng.random(300) ** 3)
    halves = FeatureMatrix.from_dense(activations[:1000]), FeatureMatrix.from_dense(activations[1000:])
    assert diff(*halves).ids == []


def test_what_some_rows_have_that_the_rest_has_not():
    rows = [{0, 1, 4}, {0, 1, 5}, {0, 1}, *[{0}] * 40, *[{0, 1}] * 2]
    these = find_features(features_of(rows), [2, 0, 1])
    assert these.ids == [1, 4, 5]  # 0 is everywhere; 4 and 5 are in one of the three rows
    assert these.names == ("rest", "these") and these.rows == (42, 3)
    assert (these[0].base.rows, these[0].other.rows) == (2, 3)
    assert [example.row for example in these[0].other.examples] == [0, 1, 2]
    assert [example.row for example in these[0].base.examples] == [43, 44]


def test_rows_may_be_numbers_of_any_kind():
    features = features_of([{0}, {1}, {1}, {2}])
    assert find_features(features, np.array([1, 2])).ids == find_features(features, range(1, 3)).ids == [1]


def test_a_dataset_has_the_threshold_of_its_sae():
    pool = dataset_of([{0}] * 20)
    reference = coded([{0: 0.9, 1: 0.9, 2: 0.4}] * 20)
    assert pool.sae_missing(reference).ids == [1]
    assert sorted(pool.sae_missing(reference, threshold=0.3).ids) == [1, 2]
    assert pool.sae_missing(reference).threshold == RECORD["threshold"]
    matrix = FeatureMatrix.from_dataset(reference)
    assert missing_features(pool, matrix).ids == [1]  # of features beside a dataset too
    assert missing_features(matrix, matrix).threshold == 0


def test_examples_are_the_strongest_rows_with_their_texts():
    pool = dataset_of([{0}] * 20)
    reference = coded([{0: 0.9, 1: 0.6 + i / 100} for i in range(20)], record=RECORD | {"text": {"columns": ["text"]}})
    pool = pool.cast(reference.features)
    strongest = pool.sae_missing(reference, examples=2, show_texts=True)[0].other.examples
    assert [(example.row, example.text) for example in strongest] == [(19, "row 19"), (18, "row 18")]
    assert strongest[0].activation == pytest.approx(0.79)
    assert pool.sae_missing(reference)[0].other.examples[0].text == ""
    assert pool.sae_missing(reference, examples=0)[0].other.examples == ()


def test_texts_that_cannot_be_read_are_said():
    pool, reference = features_of([{0}] * 20), dataset_of([{1}] * 20)
    with pytest.warns(UserWarning, match=r"no texts of `reference` are shown: nothing says which of its columns"):
        missing = missing_features(pool, reference, show_texts=True)
    assert missing[0].other.examples[0].text == ""
    gone = dataset_of([{1}] * 20, record=RECORD | {"text": {"columns": ["text"]}}).remove_columns("text")
    with pytest.warns(UserWarning, match=r"rows of `reference`: The texts cannot be read as they were encoded"):
        missing_features(pool, gone, show_texts=True)


def test_features_have_the_names_of_labels():
    labels = Labels([Label(3, "cooking")], d_sae=16)
    missing = missing_features(features_of(POOL), features_of(REFERENCE), labels=labels)
    assert [feature.title for feature in missing] == ["#3 cooking", "#2"]
    for pool in (features_of(POOL), dataset_of(POOL)):
        with pytest.raises(ValueError, match=r"`labels` are of an SAE with d_sae=8"):
            missing_features(pool, features_of(REFERENCE), labels=Labels([], d_sae=8))


def test_rows_that_are_not_encoded_are_encoded_as_the_others_are(sae):
    texts = Dataset.from_dict({"text": ["the cat sat on the mat", "a dog", "then it was small"] * 20})
    others = Dataset.from_dict({"text": ["the big red bird flew over the moon"] * 30})
    expected = texts.sae_encode(sae).sae_diff(others.sae_encode(sae))
    assert len(expected) > 2
    for a, b in [
        (texts, others),
        (texts.sae_encode(sae), others),
        (texts, others.sae_encode(sae)),
        (texts["text"][:], others["text"][:]),
        (texts, FeatureMatrix.from_dataset(others.sae_encode(sae))),
    ]:
        assert diff(a, b, sae=sae).features == expected.features


def test_rows_are_pointed_at_by_texts(sae):
    pool = Dataset.from_dict({"text": [text or "" for text in TEXTS] * 8})
    birds = ["the big red bird flew over the moon and then it was small"]
    by_texts = pool.sae_find_features(birds, sae=sae)
    assert len(by_texts) > 2 and by_texts.rows == (48, 1)
    assert pool.sae_find_features(birds[0], sae=sae).features == by_texts.features
    assert pool.sae_find_features(Dataset.from_dict({"text": birds}), sae=sae).features == by_texts.features
    by_rows = pool.sae_encode(sae).sae_find_features([4])
    assert by_rows.rows == (47, 1) and by_rows.ids[0] in by_texts.ids


OTHER = RECORD | {"sae_sha256": "def"}
PAIRS = {
    "empty pool": ([], ["a"], ValueError, "`pool` is empty"),
    "blank texts": (["a"], ["", "  "], ValueError, "`reference` holds blank texts alone"),
    "no texts": (["a"], [{"text": "a"}], TypeError, r"`reference\[0\]` is a dict"),
    "a number": (5, ["a"], TypeError, "`pool` is of type int"),
    "empty dataset": (["a"], Dataset.from_dict({"text": []}), ValueError, "`reference`: the dataset is empty"),
    "blank dataset": (
        dataset_of(POOL),
        Dataset.from_dict({"text": [" ", ""]}),
        ValueError,
        "`reference`: all of its 2 rows are blank",
    ),
    "another SAE": (
        dataset_of(POOL),
        dataset_of(POOL, record=OTHER),
        ValueError,
        "codes of `pool` and `reference` are not comparable: `sae_sha256` is 'abc' and 'def'",
    ),
    "another width": (dataset_of(POOL), features_of(POOL, d_sae=8), ValueError, "`reference` is of an SAE with 8"),
    "no feature": (features_of(POOL), features_of([set()] * 9), ValueError, "`reference`: none of its 9 rows has"),
    "weak features": (dataset_of(POOL), dataset_of(POOL, 0.2), ValueError, "above `threshold=0.5`; are they blank"),
}


@pytest.mark.parametrize("case", sorted(PAIRS))
def test_rows_that_cannot_be_compared_are_refused_before_a_model_loads(case, monkeypatch):
    pool, reference, kind, message = PAIRS[case]
    monkeypatch.setattr("hf_sae_select.encoding.pipeline.load_sae", lambda *_, **__: pytest.fail("an SAE was loaded"))
    with pytest.raises(kind, match=message):
        missing_features(pool, reference)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": -1}, "`threshold=-1`"),
        ({"least_lift": 0.5}, r"`least_lift=0\.5` must be a finite number in \[1, inf\)"),
        ({"examples": -1}, "`examples=-1`"),
        ({"show_texts": 1}, "`show_texts=1` must be True or False"),
        ({"sae": "some/repo"}, "`sae` would encode rows, but there are none to encode"),
    ],
)
def test_arguments_that_are_not_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        missing_features(features_of(POOL), features_of(REFERENCE), **arguments)
    with pytest.raises(TypeError, match=r"`labels='x'` must be Labels"):
        missing_features(features_of(POOL), features_of(REFERENCE), labels="x")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([100], "`text_or_rows` has 100; it must be a row index from 0 to 99"),
        ([-1], "`text_or_rows` has -1"),
        ([1, 1], "`text_or_rows` has row 1 twice"),
        ([1, "a"], "`text_or_rows` has 'a'"),
        (range(100), "`text_or_rows` has all 100 rows of `dataset`"),
        ([], "`text_or_rows` is empty"),
        ("  ", "`text_or_rows` holds blank texts alone"),
    ],
)
def test_rows_that_do_not_exist_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        find_features(features_of(POOL), rows)


def test_rows_without_features_say_nothing():
    with pytest.raises(ValueError, match="`text_or_rows`: none of its 1 rows has a feature"):
        find_features(features_of([set(), {0}, {1}]), [0])


def test_rows_that_were_changed_since_they_were_encoded_are_refused(sae):
    pool = Dataset.from_dict({"text": ["the cat", "a dog"]}).sae_encode(sae)
    changed = pool.map(lambda row: {"text": "the moon"})
    with pytest.raises(ValueError, match="2 of 2 rows were changed after they were encoded"):
        changed.sae_missing(pool)
