"""DatasetDict: each split alone, a budget each or one for every split."""

import pytest
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from helpers.pools import coded

from hf_sae_select import compare

TRAIN = [{0: 0.9, 1: 0.9}, {2: 0.9}, {0: 0.9, 2: 0.9, 3: 0.9}]
TEST = [{1: 0.9}, {1: 0.9, 2: 0.9}]


@pytest.fixture
def splits():
    return DatasetDict(train=coded(TRAIN), test=coded(TEST))


def indices(subsets):
    return {split: rows.sae_selection.indices.tolist() for split, rows in subsets.items()}


def test_one_budget_is_that_of_every_split(splits):
    subsets = splits.sae_select(1, "greedy")
    assert type(subsets) is DatasetDict and indices(subsets) == {"train": [2], "test": [1]}
    assert indices(splits.sae_select("50%", "greedy")) == {"train": [2, 0], "test": [1]}


def test_each_split_may_have_a_budget_and_is_selected_as_alone(splits):
    subsets = splits.sae_select({"test": 1, "train": 2}, "greedy", seed=3)
    assert list(subsets) == ["train", "test"]
    assert (
        subsets["train"].sae_selection.parameters
        == splits["train"].sae_select(2, "greedy", seed=3).sae_selection.parameters
    )
    assert indices(subsets) == {"train": [2, 0], "test": [1]}


@pytest.mark.parametrize(
    ("budget", "error", "message"),
    [
        ({"train": 1}, ValueError, "has no budget for the split 'test'; name all splits"),
        ({"train": 1, "test": 1, "dev": 1}, ValueError, "`budget` names the split 'dev'; there are: train, test"),
        (3, ValueError, "`budget=3` but the dataset has 2 rows"),
        ({"train": 1, "test": "many"}, ValueError, "`budget='many'`"),
        ([1, 2], TypeError, r"`budget=\[1, 2\]`"),
    ],
)
def test_budgets_are_checked_for_all_splits_before_any_is_selected(splits, budget, error, message, monkeypatch):
    monkeypatch.setattr("hf_sae_select.selection.api.run_on_dataset", lambda *_: pytest.fail("it selected"))
    with pytest.raises(error, match=message):
        splits.sae_select(budget)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": {"test": [9]}}, "`exclude` has 9; it must be a row index from 0 to 1"),
        ({"must_include": {"test": [2]}}, "`must_include` has 2"),
        ({"must_include": {"test": [0]}, "exclude": {"test": [0]}}, "row 0 is in `exclude` and in `must_include`"),
        ({"must_include": {"test": [0, 1]}}, "`must_include` and `extend` have 2 rows, but `budget=1`"),
        ({"exclude": {"test": [0, 1]}}, "no row"),
        ({"budget": 2, "exclude": {"test": [0]}}, "`budget=2` but the dataset has 1 rows"),
        ({"quality": "n"}, r"no column 'n' \(from `quality`\)"),
    ],
)
def test_constraints_are_checked_for_all_splits_before_any_is_selected(splits, arguments, message, monkeypatch):
    monkeypatch.setattr("hf_sae_select.selection.api.run_on_dataset", lambda *_: pytest.fail("it selected"))
    for act in (splits.sae_select, splits.sae_compare):
        with pytest.raises(ValueError, match=message) as error:
            act(**{"budget": 1} | arguments)
        assert error.value.__notes__ == [f"in the split {'train' if 'quality' in arguments else 'test'!r}"]


def test_what_needs_no_row_is_checked_for_all_streams_before_any_is_read(splits):
    unread = IterableDataset.from_generator(lambda: pytest.fail("it was read"), features=splits["test"].features)
    streams = IterableDatasetDict(train=unread, test=unread)
    with pytest.raises(ValueError, match="`budget=0` must be 1 row or more") as error:
        streams.sae_select({"train": 1, "test": 0})
    assert error.value.__notes__ == ["in the split 'test'"]
    with pytest.raises(ValueError, match="`exclude` has -1"):
        streams.sae_select(1, exclude={"test": [-1]})


def test_an_error_names_its_split(splits):
    with pytest.raises(ValueError, match="`budget=3`") as error:
        splits.sae_select(3)
    assert error.value.__notes__ == ["in the split 'test'"]


def test_a_dict_without_splits_and_an_empty_split_are_refused(splits):
    with pytest.raises(ValueError, match="the dict has no splits"):
        DatasetDict().sae_select(1)
    with pytest.raises(ValueError, match=r"`dataset\['test'\]`: the dataset is empty"):
        DatasetDict(train=splits["train"], test=splits["test"].select([])).sae_select(1)


def test_arguments_about_rows_are_by_split(splits):
    assert indices(splits.sae_select(1, "greedy", exclude={"train": [2]})) == {"train": [0], "test": [1]}
    assert indices(splits.sae_select(1, "greedy", must_include={"test": [0]})) == {"train": [2], "test": [0]}
    with pytest.raises(TypeError, match=r"`exclude` is about rows of one split, .* must be a dict"):
        splits.sae_select(1, exclude=[2])
    with pytest.raises(ValueError, match="`must_include` names the split 'dev'"):
        splits.sae_select(1, must_include={"dev": [0]})


def test_subsets_of_splits_grow(splits):
    earlier = splits.sae_select(1, "greedy")
    assert indices(splits.sae_select(2, "greedy", extend=earlier)) == {"train": [2, 0], "test": [1, 0]}


def test_all_splits_are_encoded_alike(sae):
    rows = Dataset.from_dict({"text": ["the cat", "a dog ran"]})
    splits = DatasetDict(train=rows, test=rows.select([1]))
    encoded = splits.sae_encode(sae)
    assert type(encoded) is DatasetDict and encoded["train"].features == encoded["test"].features
    assert encoded["test"].to_list() == rows.sae_encode(sae).to_list()[1:]
    streams = IterableDatasetDict({split: rows.to_iterable_dataset() for split, rows in splits.items()})
    assert list(streams.sae_encode(sae)["test"]) == encoded["test"].to_list()
    assert indices(streams.sae_select(1, sae=sae)) == indices(splits.sae_select(1, sae=sae))


def test_a_comparison_has_the_lines_of_all_splits(splits):
    table = splits.sae_compare({"train": 2, "test": 1}, ["greedy"])
    assert table.columns[0] == "split" and table.index.tolist() == [*compare(splits["train"], 2, ["greedy"]).index] * 2
    assert table["split"].tolist() == ["train"] * 4 + ["test"] * 4
    assert table[table["split"] == "test"]["rows"].tolist() == [1, 1, 1, 2]
    assert "greedy" in repr(table) and "to all rows, up to 1" in repr(table)
    with pytest.raises(ValueError, match="several splits; plot one"):
        table.plot()
