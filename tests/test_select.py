import json

import datasets
import numpy as np
import pytest
from pools import RECORD, coded

from hf_sae_select.selection import Selection, select

CODED = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}]  # above 0.5: {0} {2 3} {0 1 2} {}


def test_select_returns_the_rows_in_pick_order_with_the_columns_they_had_and_a_receipt():
    ds = coded(CODED)
    subset = select(ds, 3, seed=None)
    assert subset["text"] == ["row 2", "row 1", "row 0"]  # row 0 adds nothing: a second round
    assert subset.column_names == ds.column_names
    assert subset.features == ds.features
    receipt = subset.sae_selection
    assert receipt.indices.tolist() == [2, 1, 0]
    assert receipt.gains.tolist() == [3, 1, 1]
    assert receipt.round_starts.tolist() == [0, 2]
    assert (receipt.method, receipt.fingerprint) == ("greedy", ds._fingerprint)
    assert receipt.parameters == {
        "budget": 3,
        "seed": None,
        "pick": "best",
        "exhausted": "restart",
        "threshold": 0.5,
        "top": None,
        "encoding": RECORD,
    }
    assert json.loads(json.dumps(receipt.parameters)) == receipt.parameters


def test_the_threshold_is_the_records_unless_another_is_given():
    ds = coded(CODED)
    assert select(ds, 4).sae_selection.gains.sum() == 3 + 1 + 1
    lower = select(ds, 4, threshold=0.1, seed=None).sae_selection
    assert lower.parameters["threshold"] == 0.1
    assert lower.gains.tolist() == [3, 1, 2, 0]  # row 0 has both of its features
    assert select(ds, 4, threshold=0.8, seed=None)["text"] == ["row 1", "row 0", "row 2", "row 3"]


def test_top_keeps_long_rows_from_winning_by_length():
    selection = select(coded(CODED), 2, top=1, seed=None).sae_selection
    assert selection.gains.tolist() == [1, 1]  # each row has one feature now: 0, 2, 0
    assert selection.indices.tolist() == [0, 1]
    assert selection.parameters["top"] == 1


def test_the_callers_dataset_is_left_alone_even_if_all_of_it_is_selected():
    ds = coded(CODED)
    subset = select(ds, len(ds), "simscale", order="given", max_overlap=1)
    assert subset is not ds
    assert subset["text"] == ["row 0", "row 1", "row 2", "row 3"]
    assert not hasattr(ds, "sae_selection")


def test_rows_of_a_filtered_dataset_are_counted_in_the_filtered_dataset():
    ds = coded(CODED).filter(lambda row: row["text"] != "row 2")
    subset = select(ds, 2, seed=None)
    assert subset["text"] == ["row 1", "row 0"]
    assert subset.sae_selection.indices.tolist() == [1, 0]


def test_an_encoded_dataset_is_not_encoded_by_another_sae_unasked():
    with pytest.raises(
        ValueError, match=r"encoded already; to encode it anew by `text` or `max_length`, pass `sae` too"
    ):
        select(coded(CODED), 2, max_length=3)


@pytest.mark.parametrize("rows", [[1, 1], [0, 1, 2], [-1], [4]])
def test_a_rule_that_returns_no_selection_of_rows_is_refused(rows):
    def rule(features, budget, rng):
        picks = np.array(rows)
        return Selection(picks, np.zeros_like(picks), picks[:1])

    with pytest.raises(ValueError, match=r"`method='rule'` must return at most 2 different rows from 0 to 3"):
        select(coded(CODED), 2, rule)


def test_a_rule_that_returns_a_list_is_refused():
    with pytest.raises(TypeError, match=r"`method='<lambda>'` returned a list; it must return a Selection"):
        select(coded(CODED), 2, lambda features, budget, rng: [0])


def test_a_subset_can_be_selected_from_again():
    subset = select(coded(CODED), 3, seed=None)
    assert select(subset, 1, seed=None)["text"] == ["row 2"]


def test_stop_may_return_a_dataset_without_rows():
    with pytest.warns(UserWarning, match="returning 0 rows"):
        subset = select(coded([{1: 0.1}, {}]), 2, exhausted="stop")
    assert len(subset) == len(subset.sae_selection) == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"threshold": -1}, "`threshold=-1` must be a number >= 0, or None"),
        ({"threshold": float("inf")}, "`threshold=inf` must be"),
        ({"threshold": float("nan")}, "`threshold=nan` must be"),
        ({"threshold": "1"}, "`threshold='1'` must be"),
        ({"threshold": True}, "`threshold=True` must be"),
        ({"top": 0}, "`top=0` must be a whole number >= 1, or None"),
        ({"top": 1.5}, "`top=1.5` must be"),
        ({"top": True}, "`top=True` must be"),
    ],
)
def test_what_cannot_cut_features_is_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        select(coded(CODED), 2, **arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda ds: datasets.DatasetDict({"test": ds}),
            r"`ds` is a DatasetDict; pick a split: ds\['test'\].sae_select",
        ),
        (lambda ds: ds.to_iterable_dataset(), r"`ds` is a IterableDataset; a stream .*Dataset\.from_list"),
        (lambda ds: datasets.IterableDatasetDict({"train": ds.to_iterable_dataset()}), r"pick a split: ds\['train'\]"),
        (lambda ds: ds["text"][:], "`ds` is a list; pass a datasets.Dataset"),
    ],
)
def test_what_is_no_dataset_is_refused_with_what_to_do(make, message):
    with pytest.raises(TypeError, match=message):
        select(make(coded(CODED)), 2)


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="the dataset is empty"):
        select(coded(CODED).select([]), 1)
