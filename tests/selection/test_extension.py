"""`extend`: rows are known by their content, wherever they are now."""

import json
from datetime import datetime

import datasets
import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets, load_from_disk
from helpers.pools import RECORD, coded, features_of, with_all

from hf_sae_select import METHODS, FeatureMatrix, Selection, compare, select, select_indices

OLD = [{0: 0.9, 1: 0.9}, {1: 0.9, 2: 0.9, 3: 0.9}, {3: 0.9}, {0: 0.9, 1: 0.9}, {5: 0.9, 6: 0.9}]
NEW = [{2: 0.9, 7: 0.9}, {8: 0.9, 9: 0.9, 10: 0.9}, {0: 0.9}]


def pool(*numbers):
    """Rows of OLD (0 to 4) and NEW (5 to 7), each with its own text, in this order."""
    rows = coded([(OLD + NEW)[i] for i in numbers]).remove_columns("text")
    vectors = [[float(j in (OLD + NEW)[i]) for j in range(16)] for i in numbers]
    return rows.add_column("text", [f"text {i}" for i in numbers]).add_column("v", vectors)


POOLS = {
    "the same": (0, 1, 2, 3, 4),
    "grown at its end": (0, 1, 2, 3, 4, 5, 6, 7),
    "grown at its beginning": (5, 6, 0, 1, 2, 3, 4),
    "shuffled": (3, 0, 4, 2, 1),
    "grown and shuffled": (7, 4, 3, 5, 1, 0, 6, 2),
}


def arguments_of(method):
    return {"embedding": "v"} if METHODS[method].needs_vectors else {}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("numbers", POOLS.values(), ids=POOLS)
def test_the_earlier_rows_come_first_wherever_they_are(method, numbers):
    subset = select(pool(*POOLS["the same"]), 2, method, **arguments_of(method))
    grown = select(pool(*numbers), 4, method, extend=subset, **arguments_of(method))
    assert grown["text"][:2] == subset["text"][:]
    assert len(set(grown["text"])) == 4
    assert grown.sae_selection.parameters["constraints"]["extend"] == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("numbers", POOLS.values(), ids=POOLS)
def test_rows_of_a_matrix_are_known_by_their_features(method, numbers):
    def matrix(numbers):
        features = with_all(features_of([set((OLD + NEW)[i]) for i in numbers]))
        tokens = np.array([10 + i for i in numbers], np.int32)  # rows 0 and 3 have the same features
        return FeatureMatrix(features.offsets, features.ids, features.acts, 16, tokens, features.vectors)

    earlier = select_indices(matrix(POOLS["the same"]), 2, method)
    grown = select_indices(matrix(numbers), 4, method, extend=earlier)
    assert [numbers[i] for i in grown.indices[:2]] == earlier.indices.tolist()


def test_growing_on_the_same_rows_equals_the_larger_budget():
    ds = pool(*POOLS["the same"])
    for method in ("match", "greedy", "concave"):
        at_once = select(ds, 4, method).sae_selection
        grown = select(ds, 4, method, extend=select(ds, 2, method)).sae_selection
        assert grown.indices.tolist() == at_once.indices.tolist()
        assert grown.gains == pytest.approx(at_once.gains)


def test_a_row_that_is_gone_or_was_changed_is_named():
    ds = pool(*POOLS["the same"])
    subset = select(ds, 2, "greedy", seed=None)
    assert subset.sae_selection.indices.tolist() == [1, 4]
    for other in (pool(2, 3, 0, 1), ds.map(lambda row: {"text": row["text"].replace("4", "four")})):
        with pytest.raises(ValueError, match=r"`extend` was selected from other rows: its pick 2, row 4 then, is not"):
            select(other, 3, "greedy", extend=subset)
    with pytest.raises(ValueError, match="`extend` knows its rows by column `v`, which this dataset does not have"):
        select(ds.remove_columns("v"), 3, "greedy", extend=subset)


def test_equal_rows_are_taken_one_by_one():
    twice = concatenate_datasets([pool(0, 1, 2)] * 2)
    earlier = select(twice, 6, "greedy", seed=None).sae_selection
    reversed_rows = twice.select(range(5, -1, -1))
    grown = select(reversed_rows, 6, "greedy", extend=earlier)
    assert sorted(grown.sae_selection.indices) == list(range(6))
    assert grown["text"][:] == [twice["text"][i] for i in earlier.indices]
    with pytest.raises(ValueError, match="its pick 3, row 4 then, is not"):  # only one of two equal rows is there
        select(pool(0, 1, 2), 3, "greedy", extend=Selection(**{**vars(earlier), **cut(earlier, 4)}))


def cut(selection, n):
    return {name: getattr(selection, name)[:n] for name in ("indices", "gains", "covered", "row_digests")}


def test_rows_are_known_by_the_columns_that_were_encoded():
    record = RECORD | {"text": {"columns": ["text"], "chat": False}}
    rows = coded(OLD, record=record)
    earlier = select(rows, 2)
    assert earlier.sae_selection.digest_columns == ["text"]
    more = rows.add_column("score", [1.0] * 5).add_column("day", [datetime(2024, 1, 1)] * 5)
    assert select(more, 3, extend=earlier)["text"][:2] == earlier["text"][:]
    without_text = select(coded(OLD, record=RECORD | {"text": {"function": "f", "hash": "h"}}), 2).sae_selection
    assert without_text.digest_columns == ["text"]  # the only column


def test_columns_that_python_cannot_hold_or_that_are_files_are_not_read(tmp_path):
    image = {"bytes": None, "path": str(tmp_path / "gone.png")}
    types = {"image": datasets.Image(), "day": datasets.Value("timestamp[s]"), "n": datasets.Value("int64")}
    columns = {"image": [image] * 5, "day": [datetime(2024, 1, 1)] * 5, "n": list(range(5))}
    extra = Dataset.from_dict(columns, features=datasets.Features(types))
    ds = concatenate_datasets([coded(OLD), extra], axis=1)
    subset = select(ds, 2)
    assert subset.sae_selection.digest_columns == ["n", "text"]
    assert select(ds.shuffle(seed=1), 3, extend=subset)["n"][:2] == subset["n"][:]


def test_rows_of_codes_alone_are_known_by_their_codes():
    ds = coded(OLD).remove_columns("text")
    earlier = select(ds, 2, "greedy", seed=None)
    assert earlier.column_names == ds.column_names  # or nothing would be left
    assert earlier.sae_selection.digest_columns == ["sae_acts", "sae_ids", "sae_tokens"]
    grown = select(ds.select([4, 2, 1, 0]), 3, "greedy", seed=None, extend=earlier).sae_selection
    assert grown.indices[:2].tolist() == [2, 0]


# ---- saved, loaded and published


@pytest.mark.parametrize("numbers", POOLS.values(), ids=POOLS)
def test_a_saved_selection_extends(numbers, tmp_path):
    subset = select(pool(*POOLS["the same"]), 2)
    subset.sae_selection.save(tmp_path / "s.json")
    loaded = Selection.load(tmp_path / "s.json")
    assert loaded.row_digests == subset.sae_selection.row_digests and len(loaded.row_digests) == 2
    assert select(pool(*numbers), 4, extend=loaded)["text"][:2] == subset["text"][:]


def test_a_selection_that_was_saved_without_digests_is_checked_by_gains(tmp_path):
    ds = pool(*POOLS["the same"])
    select(ds, 2, "greedy", seed=None).sae_selection.save(tmp_path / "s.json")
    values = json.loads((tmp_path / "s.json").read_text())
    del values["row_digests"], values["digest_columns"]
    (tmp_path / "s.json").write_text(json.dumps(values | {"format": 1}))
    loaded = Selection.load(tmp_path / "s.json")
    assert select(ds, 3, "greedy", extend=loaded)["text"][:2] == ["text 1", "text 4"]
    with pytest.raises(ValueError, match="from other rows: its pick 1, row 1, added 3 then and adds 1 now"):
        select(pool(1, 2, 0, 3, 4), 3, "greedy", seed=None, extend=loaded)


@pytest.mark.parametrize("numbers", POOLS.values(), ids=POOLS)
def test_rows_without_a_selection_extend_by_their_content(numbers, tmp_path):
    subset = select(pool(*POOLS["the same"]), 2, "greedy")
    subset.save_to_disk(tmp_path / "saved")
    subset.to_parquet(tmp_path / "rows.parquet")
    others = [load_from_disk(tmp_path / "saved"), Dataset.from_list(subset.to_list()), subset.map(lambda row: row)]
    others += [
        Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path)),
        subset.remove_columns("v"),
    ]
    for rows in others[:4]:
        grown = select(pool(*numbers), 4, "greedy", extend=rows)
        assert grown["text"][:2] == subset["text"][:] and len(set(grown["text"])) == 4
    grown = select(pool(*numbers), 4, "greedy", extend=others[4])  # which keeps its selection
    assert grown["text"][:2] == subset["text"][:]


def test_rows_that_are_not_in_the_dataset_or_share_no_column_do_not_extend():
    ds = pool(*POOLS["the same"])
    with pytest.raises(ValueError, match="its pick 1, row 0 then, is not in this dataset"):
        select(ds, 3, extend=Dataset.from_dict({"text": ["text 9"]}))
    with pytest.raises(ValueError, match="`extend` has no column of plain values that this dataset has too"):
        select(ds, 3, extend=Dataset.from_dict({"words": ["text 0"]}))


def test_compare_extends_too():
    earlier = select(pool(*POOLS["the same"]), 2)
    table = compare(pool(*POOLS["grown and shuffled"]), 3, ["match", "greedy"], extend=earlier)
    assert table["rows"].tolist() == [3, 3, 3, 3, 8]


def test_select_indices_takes_the_selection_of_a_dataset_and_back():
    ds = pool(*POOLS["the same"])
    subset = select(ds, 2, "greedy", seed=None)
    features = FeatureMatrix.from_dataset(ds).above(0.5)
    grown = select_indices(features, 3, "greedy", seed=None, extend=subset.sae_selection)
    assert grown.indices[:2].tolist() == [1, 4]
    assert select(ds, 4, "greedy", extend=grown)["text"][:3] == [f"text {i}" for i in grown.indices]
    other_cut = select_indices(features.top(1), 3, "longest", extend=select_indices(features, 2, "greedy", seed=None))
    assert other_cut.indices[:2].tolist() == [1, 4]
    with pytest.raises(ValueError, match="its pick 1, row 1 then, is not in this dataset"):
        select_indices(features.top(1), 3, "greedy", extend=select_indices(features, 2, "greedy", seed=None))
    with pytest.raises(TypeError, match="`extend` is a Dataset; pass a Selection"):
        select_indices(features, 3, extend=ds)


def test_a_field_that_was_encoded_is_known_by_its_struct():
    ds = coded(OLD, record=RECORD | {"text": {"columns": ["data.messages"], "chat": True}})
    ds = ds.add_column("data", [{"messages": f"Hi {i}"} for i in range(5)])
    subset = select(ds, 2)
    assert subset.sae_selection.digest_columns == ["data"]
    assert select(ds.shuffle(seed=2), 3, extend=subset)["data"][:2] == subset["data"][:]
