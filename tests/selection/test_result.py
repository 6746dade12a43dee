"""The result of a selection: saved and loaded, short in words, and attached only to rows that it describes."""

import json
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from helpers.pools import coded, features_of

from hf_sae_select import Selection, select, select_indices

ROWS = [{0: 0.9, 1: 0.9}, {1: 0.9, 2: 0.9, 3: 0.9}, {3: 0.9}]


def equal(one, other):
    for field in fields(Selection):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert type(a) is type(b) and (np.array_equal(a, b) and a.dtype == b.dtype if hasattr(a, "dtype") else a == b)
    return True


@pytest.mark.parametrize("method", ["greedy", "match", "concave"])
def test_a_selection_is_saved_and_loaded_to_the_bit(method, tmp_path):
    selection = select(coded(ROWS), 3, method).sae_selection
    selection.save(tmp_path / "selection.json")
    assert equal(Selection.load(tmp_path / "selection.json"), selection)
    assert [file.name for file in tmp_path.iterdir()] == ["selection.json"]


def test_the_file_is_plain_json(tmp_path):
    select(coded(ROWS), 3, "greedy", seed=None).sae_selection.save(tmp_path / "s")
    values = json.loads((tmp_path / "s").read_text())
    assert values["format"] == 3 and values["indices"] == [1, 0, 2] and values["gains"] == [3, 1, 1]
    assert values["parameters"]["options"] == {"idf": False, "exhausted": "restart"}


def test_an_empty_selection_is_saved_too(tmp_path):
    with pytest.warns(UserWarning, match="returning 0 rows"):
        selection = select_indices(features_of([set()]), 1, "greedy", exhausted="stop")
    selection.save(tmp_path / "s")
    assert equal(Selection.load(tmp_path / "s"), selection)


def test_an_option_that_json_cannot_hold_is_named_and_no_file_is_left(tmp_path):
    def own(features, budget, rng, *, what=None):
        return Selection(np.arange(budget), np.zeros(budget), np.zeros(1, np.int64))

    selection = select_indices(features_of([{0}]), 1, own, what=object())
    with pytest.raises(TypeError, match=r"`parameters` or `gains` hold a value that JSON cannot hold: .*object"):
        selection.save(tmp_path / "s")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.clear(),
        lambda values: values.update(format=4),
        lambda values: values.update(indices=[1, 1, 2]),
        lambda values: values.update(indices=[[1], [0], [2]]),
        lambda values: values.update(indices=[1, 0, -2]),
        lambda values: values.update(indices=[1.5, 0, 2]),
        lambda values: values.update(indices=[True, 0, 2]),
        lambda values: values.update(indices=["1", "0", "2"]),
        lambda values: values.update(indices=[1, 0, 10**30]),
        lambda values: values.update(round_starts=[1]),
        lambda values: values.update(round_starts=[0, 9]),
        lambda values: values.update(round_starts=[-1, 2]),
        lambda values: values.update(gains=[1]),
        lambda values: values.update(gains=["1", "2", "3"]),
        lambda values: values.update(parameters=[]),
        lambda values: values.update(more=1),
        lambda values: values.update(row_digests=["a"]),
        lambda values: values.update(row_digests=[1, 2, 3]),
        lambda values: values.update(digest_columns="text"),
        lambda values: values.pop("method"),
    ],
)
def test_a_file_that_does_not_hold_a_selection_is_refused(change, tmp_path):
    file = tmp_path / "s"
    select(coded(ROWS), 3, "greedy").sae_selection.save(file)
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    if values and "method" not in values:
        assert Selection.load(file).method == ""  # it has a default
        return
    with pytest.raises(ValueError, match=r"`path=.*` does not hold a saved Selection"):
        Selection.load(file)


def test_what_is_not_json_or_not_a_file_is_named(tmp_path):
    (tmp_path / "s").write_text("{")
    with pytest.raises(ValueError, match=r"`path=.*s'` does not hold a saved Selection"):
        Selection.load(tmp_path / "s")
    with pytest.raises(FileNotFoundError):
        Selection.load(tmp_path / "none")


def test_the_repr_is_one_line():
    selection = select(coded(ROWS), 2, "greedy").sae_selection
    assert repr(selection) == "Selection(method='greedy', rows=2 of 3, gain=4, features=4/4)"
    assert repr(Selection(np.array([5]), np.ones(1), np.zeros(1, np.int64))) == (
        "Selection(method='', rows=1, gain=1, features=0/0)"
    )


@pytest.mark.parametrize("method", ["facility_location", "a_method_of_my_own_with_a_name_that_nobody_can_read" * 3])
def test_the_repr_of_a_large_selection_fits_a_hundred_columns(method):
    rows = np.arange(2_000_000)
    selection = Selection(rows, rows * 0.5, rows[:1], method, covered=rows, pool_coverage=2**27, pool_rows=10**9)
    assert max(map(len, repr(selection).splitlines())) <= 100
    assert repr(selection).splitlines()[1] == "          gain=1e+12, features=1,999,999/134,217,728)"


def test_the_html_shows_rows_gain_and_coverage_and_escapes_the_method():
    def own(features, budget, rng):
        return Selection(np.arange(budget), np.ones(budget, np.int64), np.zeros(1, np.int64))

    own.__name__ = "<script>"
    html = select(coded(ROWS), 2, own).sae_selection._repr_html_()
    assert "<td>2 of 3</td>" in html and "<td>4/4 (100.0%)</td>" in html and "<td>2</td>" in html
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_a_selection_is_frozen():
    selection = select_indices(features_of([{0}]), 1)
    with pytest.raises(FrozenInstanceError):
        selection.method = "other"


# Attached to a subset


def test_a_dataset_that_was_not_selected_has_no_selection():
    ds = coded(ROWS)
    assert not hasattr(ds, "sae_selection")
    with pytest.raises(AttributeError, match=r"this dataset has no `sae_selection`: `sae_select` attaches it"):
        _ = ds.sae_selection


def test_a_selection_on_filtered_rows_raises_instead_of_answering():
    subset = select(coded(ROWS), 2, "greedy", seed=None)
    filtered = subset.filter(lambda row: row["text"] == "row 1")
    with pytest.raises(ValueError, match="`sae_selection` describes 2 rows, but this dataset has 1"):
        _ = filtered.sae_selection
    assert len(subset.sae_selection) == 2


def test_a_view_of_the_same_rows_keeps_the_selection():
    subset = select(coded(ROWS), 2, "greedy", seed=None)
    for view in (subset.with_format("numpy"), subset.remove_columns("text"), subset.filter(lambda row: True)):
        assert view.sae_selection.indices.tolist() == [1, 0]


@pytest.mark.parametrize(
    "change", [lambda ds: ds.map(lambda row: row), lambda ds: ds.select([0]), lambda ds: ds.shuffle()]
)
def test_what_makes_other_rows_drops_the_selection(change):
    assert not hasattr(change(select(coded(ROWS), 2)), "sae_selection")


def test_the_pool_s_number_of_rows_is_recorded():
    assert select(coded(ROWS), 2, exclude=[0]).sae_selection.pool_rows == 3
    assert select_indices(features_of([{0}, {1}]), 1).pool_rows == 2
