"""The private files: checks of arguments, files that appear whole, and uses of what is private in `datasets`."""

import pickle

import datasets
import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from hf_sae_select._datasets import (
    check_dataset,
    fingerprint_of,
    has_row_mapping,
    in_memory,
    range_to_send,
    select_rows,
    set_fingerprint,
)
from hf_sae_select._files import whole_file
from hf_sae_select._folders import whole_folder
from hf_sae_select._validation import check_choice, check_flag, check_int, check_number, is_number


@pytest.mark.parametrize("value", [0, 1, -2.5, np.float32(1), np.int64(3), 10**400])
def test_numbers_are_numbers(value):
    assert is_number(value)


@pytest.mark.parametrize("value", [True, np.bool_(1), float("nan"), float("inf"), "1", None, 1j, [1]])
def test_what_is_no_finite_number(value):
    assert not is_number(value)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None])
def test_a_positive_integer_is_asked_for(value):
    with pytest.raises(ValueError, match=r"`k=.*` must be a positive integer"):
        check_int("k", value)


def test_integers_that_pass():
    for arguments in ((1,), (np.int64(5),), (0, 0), (None, 1, True)):
        check_int("k", *arguments)


@pytest.mark.parametrize(
    ("value", "interval"),
    [(0, "(0, 1)"), (1, "(0, 1)"), (-0.1, "[0, inf)"), (float("inf"), "[0, inf)"), (2, "[-1, 1]")],
)
def test_a_number_outside_its_interval_is_refused(value, interval):
    with pytest.raises(ValueError, match=r"`x=.*` must be a finite number in [\[(].*[\])]"):
        check_number("x", value, interval)


@pytest.mark.parametrize(
    ("value", "interval"), [(0.5, "(0, 1)"), (0, "[0, inf)"), (1, "[-1, 1]"), (10**400, "[0, inf)")]
)
def test_a_number_in_its_interval_passes(value, interval):
    check_number("x", value, interval)
    check_number("x", None, interval, optional=True)


def test_choices_and_flags():
    check_choice("how", "a", ("a", "b"))
    check_flag("on", False)
    with pytest.raises(ValueError, match=r"unknown `how='c'`; choose one of: a, b"):
        check_choice("how", "c", ("a", "b"))
    with pytest.raises(ValueError, match=r"unknown `how=\['a'\]`"):
        check_choice("how", ["a"], ("a", "b"))
    with pytest.raises(ValueError, match=r"`on=1` must be True or False"):
        check_flag("on", 1)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    file = tmp_path / "file"
    with whole_file(file) as part:
        part.write_text("one")
        assert not file.exists()
    with pytest.raises(RuntimeError), whole_file(file) as part:
        part.write_text("half")
        raise RuntimeError
    assert file.read_text() == "one" and list(tmp_path.iterdir()) == [file]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "folder"
    for content in ("one", "two"):
        with whole_folder(folder) as part:
            (part / content).write_text(content)
            assert not (folder / content).exists()
        assert [file.name for file in folder.iterdir()] == [content]
    with pytest.raises(RuntimeError), whole_folder(folder) as part:
        (part / "half").write_text("half")
        raise RuntimeError
    assert [file.name for file in folder.iterdir()] == ["two"] and list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("rows", [[2, 0], [1, 2], [0, 1, 2], [1], []])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_rows_are_selected_from_the_same_table(rows, is_mapped):
    dataset = Dataset.from_dict({"n": [7, 8, 9]})
    dataset = dataset.select([2, 0, 1]) if is_mapped else dataset
    subset, expected = select_rows(dataset, np.array(rows, np.int64)), dataset.select(rows)
    assert subset["n"][:] == expected["n"][:] and len(subset) == len(rows)
    assert subset.features == expected.features
    assert not rows or subset._data is dataset._data


def test_what_we_use_of_datasets_is_there():
    rows = Dataset.from_dict({"text": ["a", "b"]})
    assert fingerprint_of(rows) == rows._fingerprint and not has_row_mapping(rows)
    assert has_row_mapping(rows.select([1, 0])) and not has_row_mapping(rows.select([0]))
    set_fingerprint(rows, "abc")
    assert fingerprint_of(rows) == "abc" and fingerprint_of(rows.map(lambda row: row)) != "abc"


@pytest.mark.parametrize("kind", [datasets.DatasetDict, datasets.IterableDatasetDict])
def test_a_dict_of_splits_is_refused_with_what_to_do(kind):
    with pytest.raises(TypeError, match=r"`ds` is a .*Dict; pick a split: ds\['test'\]"):
        check_dataset("ds", kind({"test": Dataset.from_dict({"text": ["a"]})}), "select")


LONG = Dataset.from_dict({"text": [f"{i:0999}" for i in range(1000)]})  # a megabyte


@pytest.mark.parametrize("rows", [np.arange(20, 30), slice(20, 30), [5, 20, 25, 30, 5, 4, 3, 2, 1, 0]])
def test_a_pickle_of_rows_in_memory_holds_no_others(rows):
    some = in_memory(LONG.with_format("arrow")[rows], LONG.features)
    data = pickle.dumps(some)
    assert len(data) < 20_000
    assert pickle.loads(data)[:] == LONG[rows]


@pytest.mark.parametrize(
    "pool",
    [
        LONG,
        LONG.select(range(100, 900)),
        LONG.shuffle(seed=0),
        concatenate_datasets([LONG, LONG]),
        concatenate_datasets([LONG, LONG.rename_column("text", "more")], axis=1),
    ],
    ids=["whole", "slice", "shuffled", "parts", "columns"],
)
def test_a_range_of_rows_is_sent_alone(pool):
    part = range_to_send(pool, 30, 40)
    data = pickle.dumps(part)
    assert len(data) < 30_000
    assert pickle.loads(data)[:] == pool[30:40]


def test_rows_in_files_are_sent_by_their_files(tmp_path):
    LONG.save_to_disk(tmp_path)
    data = pickle.dumps(range_to_send(datasets.load_from_disk(tmp_path), 0, 999))
    assert len(data) < 10_000
