"""Rows of a pool that are near rows of another dataset: `exclude_near`."""

import json

import numpy as np
import pytest
from datasets import Dataset
from helpers import forge
from helpers.pools import RECORD, coded, features_of

from hf_sae_select import FeatureMatrix, Selection, compare, select, stage, verify
from hf_sae_select.publishing.replay import replay

READ = RECORD | {"text": {"columns": ["text"], "chat": False}}
QUESTION = "how many apples are left when three of ten are eaten"
ROWS = [{0: 1.0}, {1: 1.0}, {2: 1.0, 3: 1.0}, {4: 1.0}, {5: 1.0}, {6: 1.0}]
TEXTS = ["sing", f"tell me {QUESTION} at noon", "A Dog.", "walk", "run", "sleep"]


def pool(texts=TEXTS, rows=ROWS, record=READ):
    return coded(rows, record=record).remove_columns("text").add_column("text", texts)


def left_out(subset):
    return subset.sae_selection.parameters["constraints"].get("left_out", {})


def test_rows_of_the_same_text_or_words_or_features_are_left_out_and_recorded():
    evaluation = pool(["a  dog.", QUESTION, "stroll"], [{8: 1.0}, {9: 1.0}, {4: 2.0}])
    subset = select(pool(), 3, "greedy", exclude_near=evaluation)
    assert sorted(subset["text"]) == ["run", "sing", "sleep"]
    assert left_out(subset) == {"exclude_near": [1, 2, 3]}
    assert subset.sae_selection.left_out == {"exclude_near": 3}
    assert json.loads(json.dumps(subset.sae_selection.parameters)) == subset.sae_selection.parameters


def test_a_selection_is_repeated_without_the_rows_that_were_near():
    dataset = pool()
    selection = select(dataset, 3, "greedy", exclude_near=pool(["walk"], [{9: 1.0}])).sae_selection
    again = replay(dataset, selection)
    assert again.indices.tolist() == selection.indices.tolist() and 3 not in again.indices
    assert again.parameters == selection.parameters and again.left_out == selection.left_out


def test_a_published_selection_is_verified_without_the_rows_that_were_near(tmp_path):
    record = forge.RECORD | {"d_sae": 16, "text": {"columns": ["text"], "chat": False}}
    evaluation = pool(["walk", QUESTION], [{9: 1.0}, {8: 1.0}], record)
    subset = pool(record=record).sae_select(3, "greedy", exclude_near=evaluation)
    assert left_out(subset) == {"exclude_near": [1, 3]}
    folder = stage(subset, tmp_path / "staged", license="mit")
    assert verify(folder, "select")
    assert not any(QUESTION.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("form", ["texts", "raw", "file"])
@pytest.mark.parametrize("is_encoded", [False, True])
def test_rows_that_are_not_encoded_are_encoded_as_the_pool_is(sae, tmp_path, form, is_encoded):
    raw, file = Dataset.from_dict({"text": ["A dog"]}), tmp_path / "e.parquet"
    raw.to_parquet(file)
    sae.save_pretrained(tmp_path / "sae")
    dataset = Dataset.from_dict({"text": ["the cat sat on the mat", "a dog", "the big red bird", ""] * 2})
    dataset = dataset.sae_encode(tmp_path / "sae") if is_encoded else dataset
    how = {} if is_encoded else {"sae": tmp_path / "sae"}
    evaluation = {"texts": ["A dog"], "raw": raw.sae_encode(sae) if is_encoded else raw, "file": file}
    if is_encoded and form != "raw":
        with pytest.raises(ValueError, match="does not say where the SAE is"):
            dataset.sae_select(2, "greedy", exclude_near=evaluation[form])
        return
    subset = dataset.sae_select(2, "greedy", exclude_near=evaluation[form], **how)
    assert {1, 5} <= set(left_out(subset)["exclude_near"]) and "a dog" not in subset["text"]


def test_features_are_compared_where_nobody_knows_the_texts():
    reference = features_of([{4}, {2, 3}])
    subset = select(pool(), 3, "greedy", exclude_near=reference)
    assert left_out(subset) == {"exclude_near": [2, 3]}
    assert left_out(select(pool(record=RECORD), 3, "greedy", exclude_near=pool(["sing"], [{4: 1.0}]))) == {
        "exclude_near": [3]
    }


def test_rows_that_are_picked_first_stay():
    subset = select(pool(), 3, "greedy", must_include=[3], exclude_near=pool(["walk", "run"], [{8: 1.0}, {9: 1.0}]))
    assert subset["text"][0] == "walk" and left_out(subset) == {"exclude_near": [4]}


def test_nothing_is_recorded_where_no_row_is_near():
    subset = select(pool(), 3, "greedy", exclude_near=pool(["yawn"], [{9: 1.0}]))
    assert left_out(subset) == {} and subset.sae_selection.left_out == {}


def test_the_table_of_methods_leaves_the_same_rows_out():
    table = compare(pool(), 2, ["greedy"], exclude_near=pool(["walk", "run"], [{8: 1.0}, {9: 1.0}]))
    assert table.loc["(all rows)", "rows"] == 4


def test_why_not_names_the_argument():
    subset = pool().sae_select(3, "greedy", exclude_near=pool(["walk"], [{9: 1.0}]))
    assert "`exclude_near` leaves it out" in str(subset.sae_why_not(3))


def test_what_is_no_reference_is_refused_before_anything_is_encoded():
    with pytest.raises(ValueError, match="`exclude_near` is empty"):
        select(pool(), 3, exclude_near=[])
    with pytest.raises(TypeError, match=r"`exclude_near\[0\]` is a int"):
        select(pool(), 3, exclude_near=[1])
    with pytest.raises(ValueError, match="`exclude_near` is of an SAE with 8 features"):
        select(pool(), 3, exclude_near=FeatureMatrix.from_dense(np.ones((1, 8))))
    with pytest.raises(ValueError, match="exclude_near"):
        select(pool(), 3, exclude_near=pool(record=READ | {"sae_sha256": "other"}))
    vectors = Dataset.from_dict({"text": ["a", "b"], "v": [[1.0, 0.0], [0.0, 1.0]]})
    with pytest.raises(ValueError, match="`exclude_near` needs"):
        select(vectors, 1, "kcenter", embedding="v", exclude_near=["a"])


@pytest.mark.parametrize("evaluation", [TEXTS, TEXTS[:2]])
def test_too_few_rows_are_an_error_that_names_the_argument(evaluation):
    reference = pool(evaluation, ROWS[: len(evaluation)])
    with pytest.raises(ValueError, match=f"`exclude_near` leaves {6 - len(evaluation) or 'no'} "):
        select(pool(), 5, "greedy", exclude_near=reference)


def test_a_saved_selection_keeps_the_rows(tmp_path):
    subset = select(pool(), 3, "greedy", exclude_near=pool(["walk"], [{9: 1.0}]))
    subset.sae_selection.save(tmp_path / "s.json")
    assert Selection.load(tmp_path / "s.json").parameters == subset.sae_selection.parameters
