"""`dedup`: rows that repeat others, by texts, stretches of words and features."""

import sys

import numpy as np
import pytest
from datasets import Dataset
from helpers.pools import RECORD, coded, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import dedup, load_labels
from hf_sae_select.features.leaders import BLOCK_ROWS
from hf_sae_select.features.matrix import FeatureMatrix
from hf_sae_select.features.shares import Shares

READ = RECORD | {"text": {"columns": ["text"], "chat": False}}
RHYME = "mary had a little lamb its fleece was white as snow and everywhere that mary went the lamb was sure to go"


def pool(rows, texts=None, record=READ, **columns):
    texts = [f"text number {i}" for i in range(len(rows))] if texts is None else texts
    dataset = coded(rows, record=record).remove_columns("text").add_column("text", texts)
    for name, values in columns.items():
        dataset = dataset.add_column(name, values)
    return dataset


def removed(dataset):
    result = dataset.sae_removals
    columns = result.rows.tolist(), result.kept.tolist(), result.steps, result.similarity.round(3).tolist()
    return list(zip(*columns, strict=True))


def test_equal_texts_are_removed_whatever_their_case_and_spaces():
    unique = dedup(pool([{1: 1.0}, {2: 1.0}, {3: 1.0}, {4: 1.0}], ["A dog", "a cat", "a  DOG", "a cat"]))
    assert unique["text"] == ["A dog", "a cat"]
    assert removed(unique) == [(2, 0, "text", 1.0), (3, 1, "text", 1.0)]


def test_rows_of_nearly_the_same_features_are_removed_with_the_features_that_they_share():
    rows = [{1: 9.0, 2: 1.0}, {3: 1.0}, {1: 9.0, 2: 2.0}, {4: 1.0}, {5: 1.0}]
    unique = dedup(pool(rows), 0.9)
    assert unique["text"] == ["text number 0", "text number 1", "text number 3", "text number 4"]
    table = unique.sae_removals.to_pandas()
    assert table[["row", "kept", "step", "shared"]].to_dict("records") == [
        {"row": 2, "kept": 0, "step": "features", "shared": "#1, #2"}
    ]
    assert 0.9 <= table["similarity"][0] < 1


def test_the_row_of_the_largest_quality_stays_and_rows_keep_their_order():
    rows = [{1: 1.0}, {2: 1.0}, {1: 1.0}, {3: 1.0}, {1: 1.0}]
    unique = dedup(pool(rows, score=[0.2, 0.5, 0.9, 0.0, 0.9]), quality="score")
    assert unique["text"] == ["text number 1", "text number 2", "text number 3"]
    assert unique.sae_removals.groups == [(2, 0, 4)]


def test_a_chain_of_near_rows_is_no_group():
    rows = [{1: 1.0, 2: 1.0}, {1: 1.0, 2: 1.0, 3: 1.0}, {2: 1.0, 3: 1.0}, {5: 1.0}, {6: 1.0}]
    near = cosines(rows)
    assert near[0, 1] >= 0.6 <= near[1, 2] and near[0, 2] < 0.6
    assert removed(dedup(pool(rows), 0.6)) == [(1, 0, "features", round(near[0, 1], 3))]


def test_a_copy_goes_where_the_row_goes_whose_text_it_has():
    rows = [{1: 1.0}, {2: 1.0}, {1: 1.0}, {3: 1.0}, {4: 1.0}]
    unique = dedup(pool(rows, ["a", "b", "c", "C", "d"]))
    assert removed(unique) == [(2, 0, "features", 1.0), (3, 0, "features", 1.0)]


def test_rows_without_text_stay():
    unique = dedup(pool([{}, {1: 1.0}, {}, {2: 1.0}], ["", "a", " ", "b"]))
    assert len(unique) == 4 and unique.sae_removals.blank_rows == 2


def test_rows_with_text_and_without_features_are_compared_by_text_alone():
    assert removed(dedup(pool([{}, {}, {}, {1: 1.0}], ["?", "!", "?", "a"]))) == [(2, 0, "text", 1.0)]


def test_minhash_removes_rows_that_share_most_stretches_of_words():
    pytest.importorskip("datasketch")
    texts = [RHYME, "a dog", RHYME.replace("go", "stay"), "so " + RHYME.replace("go", "stay")]
    unique = dedup(pool([{1: 1.0}, {2: 1.0}, {3: 1.0}, {4: 1.0}], texts), minhash=0.8)
    assert removed(unique) == [(2, 0, "minhash", round(17 / 19, 3)), (3, 0, "minhash", round(17 / 20, 3))]
    assert unique["text"] == texts[:2]
    assert unique.sae_removals.parameters == {"threshold": 0.9, "minhash": 0.8, "quality": None}


def test_minhash_without_its_library_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ImportError, match=r'`datasketch`: pip install "hf-sae-select\[dedup\]"'):
        dedup(pool([{1: 1.0}]), minhash=0.8)
    assert len(dedup(pool([{1: 1.0}]))) == 1


def test_without_texts_rows_of_equal_features_are_the_same():
    record = RECORD | {"text": {"function": "f", "hash": "0"}}
    unique = dedup(pool([{1: 1.0}, {2: 1.0}, {1: 1.0}, {}], record=record))
    assert removed(unique) == [(2, 0, "text", 1.0)]
    pytest.importorskip("datasketch")
    with pytest.raises(ValueError, match=r"`minhash=0.8` compares texts"):
        dedup(pool([{1: 1.0}], record=record), minhash=0.8)


def test_a_dataset_that_is_not_encoded_is_encoded_and_stays_without_codes(sae):
    dataset = Dataset.from_dict({"text": ["the cat sat on the mat", "a dog", "The cat sat  on the mat", "", ""]})
    unique = dataset.sae_dedup(sae=sae)
    assert unique.column_names == ["text"] and unique["text"] == ["the cat sat on the mat", "a dog", "", ""]
    encoded = dataset.sae_encode(sae).sae_dedup()
    assert encoded["text"] == unique["text"] and "sae_ids" in encoded.column_names


def test_removals_are_dropped_or_refused_where_rows_changed():
    unique = dedup(pool([{1: 1.0}, {2: 1.0}, {1: 1.0}]))
    with pytest.raises(AttributeError, match="no `sae_removals`"):
        unique.select([0]).sae_removals  # noqa: B018
    with pytest.raises(ValueError, match="filtered out"):
        unique.filter(lambda row: row["text"] != "text number 0").sae_removals  # noqa: B018


def test_the_printed_form_says_what_was_removed():
    unique = dedup(pool([{1: 1.0}, {2: 1.0}, {1: 1.0}, {3: 1.0}], ["a", "b", "c", "B"]))
    assert repr(unique.sae_removals) == "Removals(rows=2 of 4, groups=2, steps={'text': 1, 'features': 1})"
    assert repr(dedup(pool([{1: 1.0}])).sae_removals) == "Removals(rows=0 of 1, groups=0, steps={})"


def test_bad_arguments_are_named():
    dataset = pool([{1: 1.0}], score=["good"])
    for name, value, message in (
        ("threshold", 0, "`threshold=0`"),
        ("minhash", 2, "`minhash=2`"),
        ("quality", "no", "no column 'no'"),
        ("quality", "score", "column `score`"),
        ("text", "text", "encoded already"),
    ):
        with pytest.raises(ValueError, match=message):
            dedup(dataset, **{name: value})
    with pytest.raises(TypeError, match="`labels="):
        dedup(dataset, labels={})
    with pytest.raises(ValueError, match="SAE"):
        dedup(dataset, labels=load_labels())


def cosines(rows):
    features = FeatureMatrix.from_dataset(coded(rows))
    shares = Shares.of_strongest(features, np.arange(len(rows)))
    dense = np.zeros((len(rows), features.d_sae))
    for i in range(len(rows)):
        entries = slice(*shares.features.offsets[i : i + 2])
        dense[i, shares.features.ids[entries]] = shares.amounts[entries]
    dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-30)
    return dense @ dense.T


def naive(rows, texts, scores, threshold):
    """Compare all pairs: rows from the best to the worst stay unless they are near one that stays."""
    near, order = cosines(rows), sorted(range(len(rows)), key=lambda row: -scores[row])
    first, stays, reasons = {}, [], {}
    for row in order:
        if not texts[row]:
            continue
        if first.setdefault(texts[row], row) != row:
            continue
        alike = [other for other in stays if near[row, other] >= threshold]
        if alike:
            reasons[row] = max(alike, key=lambda other: (near[row, other].round(5), -stays.index(other)))
        else:
            stays.append(row)
    copies = {row: first[text] for row, text in enumerate(texts) if text and first[text] != row}
    return reasons | {row: reasons.get(same, same) for row, same in copies.items()}


cells = st.dictionaries(st.integers(0, 5), st.sampled_from([1.0, 4.0]), max_size=4)


@given(st.lists(st.tuples(cells, st.sampled_from(["a", "b", "c", "d", "e", ""]), st.integers(0, 2)), min_size=1))
@thoroughly
def test_what_stays_is_what_a_comparison_of_all_pairs_lets_stay(drawn):
    rows, texts, scores = map(list, zip(*drawn, strict=True))
    rows = [row if text else {} for row, text in zip(rows, texts, strict=True)]
    unique = dedup(pool(rows, texts, score=scores), 0.8, quality="score")
    removals = unique.sae_removals
    assert dict(zip(removals.rows.tolist(), removals.kept.tolist(), strict=True)) == naive(rows, texts, scores, 0.8)


def test_rows_of_many_blocks_are_compared_with_each_other():
    rows = [{i % 7: 1.0, 7 + i % 5: 2.0} for i in range(2 * BLOCK_ROWS + 40)]
    unique = dedup(pool(rows))
    assert len(unique) == 35 and unique.sae_removals.groups[0][0] == 0
