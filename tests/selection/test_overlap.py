"""Rows of a pool that repeat rows of another dataset: by text, by 8-grams of words, by features."""

import re
import unicodedata

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_sae_select.features.matrix import FeatureMatrix
from hf_sae_select.selection import overlap
from hf_sae_select.selection.ngrams import normalised, words
from hf_sae_select.selection.overlap import equal_features, equal_values, overlap_of, texts_of

RHYME = "mary had a little lamb its fleece was white as snow"  # eleven words, four 8-grams


def test_a_short_row_is_repeated_by_a_row_of_which_it_is_a_line():
    texts = [
        "What is a prime?\nA number.",
        "user: What is  a PRIME?\nassistant: A number",
        "What is a prime number?",
        "Hi",
    ]
    result = overlap_of(texts, ["What is a prime?", "A number."])  # two words are too few
    assert (result.rows.tolist(), result.reference_rows.tolist(), result.exact.tolist()) == (
        [0, 1],
        [0, 0],
        [False] * 2,
    )


def naive(texts, reference):
    """Compare every row with every other: (row, row of the reference, whether equal, share)."""

    def plain(text):
        return " ".join(unicodedata.normalize("NFKC", text).lower().split())

    def grams(text):
        row = re.findall(r"\w+", plain(text))
        return {tuple(row[i : i + 8]) for i in range(len(row) - 7)}

    pairs = []
    for i, text in enumerate(texts):
        shares = [len(grams(text) & grams(other)) / max(len(grams(other)), 1) for other in reference]
        equal = [plain(other) == plain(text) != "" for other in reference]
        if any(equal):
            pairs.append((i, equal.index(True), True, 1.0))
        elif shares and max(shares) >= 0.5:
            pairs.append((i, shares.index(max(shares)), False, max(shares)))
    return pairs


def pairs_of(result):
    columns = result.rows, result.reference_rows, result.exact, result.share
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_equal_texts_are_found_whatever_their_case_form_and_spaces():
    result = overlap_of(["Add 3 and 4.", "Sing.", "\uff21dd  3\nAND 4. "], ["Dance.", "add 3 and 4."])
    assert pairs_of(result) == [(0, 1, True, 1.0), (2, 1, True, 1.0)]


def test_punctuation_makes_another_text():
    assert len(overlap_of(["What is 3 - 4?"], ["What is 3 + 4?"])) == 0


def test_a_row_with_half_of_the_8_grams_of_another_repeats_it():
    half = "they sang: Mary had a little lamb, its fleece was white; then they slept"  # two of four
    less = "they sang: Mary had a little lamb, its fleece was; then they slept"  # one
    assert pairs_of(overlap_of([less, half], [RHYME])) == [(1, 0, False, 0.5)]


def test_a_long_row_that_holds_a_short_one_repeats_it_and_not_the_other_way_round():
    assert pairs_of(overlap_of(["question", "q " * 40 + RHYME], [RHYME])) == [(1, 0, False, 1.0)]
    assert len(overlap_of([RHYME], ["q " * 40 + RHYME])) == 0


def test_rows_of_less_than_eight_words_are_repeated_by_an_equal_text_alone():
    assert len(overlap_of(["name the capital of France, please, now"], ["name the capital of France, please"])) == 0


def test_blank_rows_repeat_nothing():
    assert len(overlap_of(["", " \n"], ["", " "])) == 0


def test_characters_of_languages_without_spaces_are_words():
    assert words(normalised("Tokyo は日本の首都 です")) == ["tokyo", "は", "日", "本", "の", "首", "都", "で", "す"]
    assert pairs_of(overlap_of(["答えて。日本の首都はどこですか。"], ["日本の首都はどこですか"])) == [
        (0, 0, False, 1.0)
    ]


@pytest.mark.parametrize("texts", [[], ["Sing.", RHYME]])
def test_nothing_repeats_rows_of_no_reference(texts):
    assert pairs_of(overlap_of(texts, [])) == []


def test_batches_change_nothing(monkeypatch):
    texts = ["Sing.", RHYME, "", "so " + RHYME, "Dance."] * 3
    whole = pairs_of(overlap_of(texts, [RHYME, "dance."]))
    monkeypatch.setattr(overlap, "BATCH_ROWS", 2)
    assert pairs_of(overlap_of(iter(texts), [RHYME, "dance."])) == whole
    assert [row for row, *_ in whole] == [1, 3, 4, 6, 8, 9, 11, 13, 14]


rows_of_words = st.lists(st.sampled_from(["a", "b", "B", "c,"]), max_size=14).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(rows_of_words, max_size=6), st.lists(rows_of_words, max_size=6))
def test_the_index_gives_what_a_comparison_of_all_pairs_gives(texts, reference):
    assert pairs_of(overlap_of(texts, reference)) == naive(texts, reference)


def test_rows_with_equal_features_are_the_same_row():
    pool = FeatureMatrix.from_dense([[0.5, 0, 1], [0, 0, 0], [0.5, 0, 1.5], [0, 2, 0]])
    other = FeatureMatrix.from_dense([[0, 0, 0], [0, 2, 0], [0.5, 0, 1]])
    assert pairs_of(equal_features(pool, other)) == [(0, 2, True, 1.0), (3, 1, True, 1.0)]


def test_digests_that_are_missing_are_equal_to_nothing():
    assert pairs_of(equal_values(["x", None, "y"], [None, "y", "y"])) == [(2, 1, True, 1.0)]


def test_texts_are_read_as_they_were_encoded_or_would_be():
    dataset = Dataset.from_dict({"instruction": ["Add.", "Sing."], "output": ["3", None], "note": ["x", "y"]})
    assert list(texts_of(dataset)) == ["Add.\n3", "Sing."]
    assert list(texts_of(dataset, "note")) == ["x", "y"]
    assert list(texts_of(dataset, record={"text": {"columns": ["output"], "chat": False}})) == ["3", ""]
    assert list(texts_of(dataset, lambda row: row["note"] * 2)) == ["xx", "yy"]
    with pytest.raises(ValueError, match="`text`"):
        texts_of(dataset, record={"text": {"function": "f", "hash": "0"}})
    with pytest.raises(ValueError, match="`text`"):
        texts_of(dataset.remove_columns("output"), record={"text": {"columns": ["output"], "chat": False}})


def test_overlaps_have_stated_types():
    result = overlap_of(["Sing."], [])
    types = [array.dtype for array in (result.rows, result.reference_rows, result.exact, result.share)]
    assert types == [np.int64, np.int64, np.bool_, np.float64]
