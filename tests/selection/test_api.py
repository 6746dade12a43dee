import json
import pickle

import datasets
import numpy as np
import pytest
from helpers.pools import RECORD, coded, features_of

from hf_sae_select import Selection, compare, select, select_indices
from hf_sae_select.selection.attachment import pool_of

CODED = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}]  # above 0.5: {0} {2 3} {0 1 2} {}


def test_select_returns_the_rows_in_pick_order_without_codes_and_with_a_receipt():
    ds = coded(CODED)
    subset = select(ds, 3, "greedy", seed=None)
    assert subset["text"] == ["row 2", "row 1", "row 0"]  # row 0 adds nothing: a second round
    assert subset.column_names == ["text"]
    kept = select(ds, 3, "greedy", seed=None, keep_codes=True)
    assert kept.features == ds.features and kept["text"] == subset["text"]
    receipt = subset.sae_selection
    assert receipt.indices.tolist() == [2, 1, 0]
    assert receipt.gains.tolist() == [3, 1, 1]
    assert receipt.round_starts.tolist() == [0, 2]
    assert (receipt.method, receipt.fingerprint) == ("greedy", ds._fingerprint)
    assert receipt.parameters == {
        "budget": 3,
        "seed": None,
        "options": {"idf": False, "exhausted": "restart"},
        "constraints": {},
        "cuts": {"threshold": 0.5, "top": None, "max_share": None, "embedding": None},
        "encoding": RECORD,
    }
    assert json.loads(json.dumps(receipt.parameters)) == receipt.parameters


def test_the_threshold_is_the_records_unless_another_is_given():
    ds = coded(CODED)
    assert select(ds, 4, "greedy").sae_selection.gains.sum() == 3 + 1 + 1
    lower = select(ds, 4, "greedy", threshold=0.1, seed=None).sae_selection
    assert lower.parameters["cuts"]["threshold"] == 0.1
    assert lower.gains.tolist() == [3, 1, 2, 0]  # row 0 has both of its features
    assert select(ds, 4, "greedy", threshold=0.8, seed=None)["text"] == ["row 1", "row 0", "row 2", "row 3"]


def test_top_keeps_long_rows_from_winning_by_length():
    selection = select(coded(CODED), 2, "greedy", top=1, seed=None).sae_selection
    assert selection.gains.tolist() == [1, 1]  # each row has one feature now: 0, 2, 0
    assert selection.indices.tolist() == [0, 1]
    assert selection.parameters["cuts"]["top"] == 1


def test_the_callers_dataset_is_left_alone_even_if_all_of_it_is_selected():
    ds = coded(CODED)
    subset = select(ds, len(ds), "simscale", order="given", max_overlap=1)
    assert subset is not ds
    assert subset["text"] == ["row 0", "row 1", "row 2", "row 3"]
    assert not hasattr(ds, "sae_selection")


def test_rows_of_a_filtered_dataset_are_counted_in_the_filtered_dataset():
    ds = coded(CODED).filter(lambda row: row["text"] != "row 2")
    subset = select(ds, 2, "greedy", seed=None)
    assert subset["text"] == ["row 1", "row 0"]
    assert subset.sae_selection.indices.tolist() == [1, 0]


def test_an_encoded_dataset_is_not_encoded_by_another_sae_unasked():
    with pytest.raises(
        ValueError, match=r"encoded already; to encode it again by `text` or `max_length`, pass `sae` too"
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
    subset = select(coded(CODED), 3, "greedy", seed=None)
    assert select(subset, 1, "greedy", seed=None)["text"] == ["row 2"]


def test_stop_may_return_a_dataset_without_rows():
    with (
        pytest.warns(UserWarning, match="returning 0 rows"),
        pytest.warns(UserWarning, match="no row has one after the cuts"),
    ):
        subset = select(coded([{1: 0.1}, {}]), 2, "greedy", exhausted="stop")
    assert len(subset) == len(subset.sae_selection) == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"threshold": -1}, "`threshold=-1` must be a finite number in [0, inf), or None"),
        ({"threshold": float("inf")}, "`threshold=inf` must be"),
        ({"threshold": float("nan")}, "`threshold=nan` must be"),
        ({"threshold": "1"}, "`threshold='1'` must be"),
        ({"threshold": True}, "`threshold=True` must be"),
        ({"top": 0}, "`top=0` must be a positive integer, or None"),
        ({"top": 1.5}, "`top=1.5` must be"),
        ({"top": True}, "`top=True` must be"),
        ({"max_share": 1}, "`max_share=1` must be a finite number in (0, 1), or None"),
        ({"max_share": "0.5"}, "`max_share='0.5'` must be"),
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
            r"`dataset` is a DatasetDict; pick a split: dataset\[.test.\]",
        ),
        (lambda ds: ds.to_iterable_dataset(), r"`dataset` is an IterableDataset.*Dataset\.from_list"),
        (
            lambda ds: datasets.IterableDatasetDict({"train": ds.to_iterable_dataset()}),
            r"pick a split: dataset\['train'\]",
        ),
        (lambda ds: ds["text"][:], "`dataset` is a list.*datasets.Dataset"),
    ],
)
def test_what_is_no_dataset_is_refused_with_what_to_do(make, message):
    with pytest.raises(TypeError, match=message):
        select(make(coded(CODED)), 2)


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="the dataset is empty"):
        select(coded(CODED).select([]), 1)


# The receipt


def test_the_receipt_says_what_was_covered_when_and_by_which_row():
    features = features_of([{0, 1}, {1, 2, 3}, {3}])
    receipt = select_indices(features, 3, "greedy", seed=None)
    assert receipt.covered.tolist() == [3, 4, 4]
    assert receipt.rounds.tolist() == [0, 0, 1]
    assert (receipt.pool_coverage, receipt.saturated_at) == (4, 2)
    assert receipt.first_rows(features).tolist()[:5] == [0, 1, 1, 1, -1]


def test_a_receipt_that_never_covers_the_pool_says_so():
    receipt = select_indices(features_of([{0, 1}, {2}]), 1, "longest", seed=None)
    assert (receipt.covered.tolist(), receipt.pool_coverage, receipt.saturated_at) == ([2], 3, None)


# SAE codes


def test_a_subset_has_no_codes_unless_they_are_asked_for(tmp_path):
    state = datasets.List(datasets.Value("float32"), length=1)
    ds = coded(CODED).add_column("sae_state", [[1.0]] * 4, feature=state)
    subset = select(ds, 2)
    subset.to_json(tmp_path / "rows.jsonl")
    assert [json.loads(line).keys() for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == [{"text"}] * 2
    assert select(ds, 2, keep_codes=True).column_names == ds.column_names
    with pytest.raises(ValueError, match="`keep_codes='yes'` must be True or False"):
        select(ds, 2, keep_codes="yes")


def test_the_codes_of_the_pool_serve_a_subset_that_was_not_changed(monkeypatch):
    monkeypatch.setattr("hf_sae_select.encoding.pipeline.load_sae", lambda *a, **k: pytest.fail("an SAE was loaded"))
    ds = coded(CODED)
    subset = select(ds, 3, "greedy", seed=None)
    for again in (subset, pickle.loads(pickle.dumps(subset))):
        smaller = select(again, 2, "greedy", seed=None)
        assert (smaller["text"][:], smaller.column_names) == (["row 2", "row 1"], ["text"])
        assert smaller.sae_selection.parameters["encoding"] == RECORD
        assert select(smaller, 1, "greedy", seed=None)["text"][:] == ["row 2"]
        assert compare(again, 2, ["greedy"])["rows"].tolist() == [2, 2, 2, 3]
    assert select(select(ds, 3, "greedy", keep_codes=True), 1, "greedy")["text"][:] == ["row 2"]


def test_the_codes_of_the_pool_do_not_serve_a_subset_that_was_changed():
    ds = coded(CODED).add_column("other", ["a", "b", "c", "d"])
    subset = select(ds, 3, "greedy", seed=None)
    for changed in (
        subset.rename_columns({"text": "other", "other": "text"}),
        subset.remove_columns("other"),
        subset.filter(lambda row: row["text"] != "row 2"),
    ):
        with pytest.raises(ValueError, match="has no codes, and was changed since it was selected: pass `sae`"):
            select(changed, 1)


def test_a_dataset_without_any_feature_is_refused_and_one_of_few_is_spoken_of():
    for method in ("match", "greedy", "random", "longest"):
        with pytest.raises(ValueError, match="all 3 rows are blank, without any feature: see which columns"):
            select(coded([{}, {}, {}]), 1, method)
        with pytest.warns(
            UserWarning, match="2 of 3 rows are blank, without any feature: see which columns"
        ) as caught:
            select(coded([{}, {}, {0: 1.0}]), 1, method)
        assert len(caught) == 1
        assert len(select(coded([{}, {0: 1.0}]), 1, method)) == 1  # half of them
        assert len(select(coded([{}, {}, {0: 1.0}]), 1, method, exclude=[0])) == 1
    with pytest.raises(ValueError, match="all 2 rows are blank"):
        select(coded([{}, {}, {0: 1.0}]), 1, exclude=[2])


def test_rows_of_blank_texts_are_refused(sae):
    with pytest.raises(ValueError, match="all 2 rows are blank"):
        select(datasets.Dataset.from_dict({"text": ["", "  "]}), 1, sae=sae)


# Columns, constraints and what methods need


def test_constraints_name_columns_of_the_dataset():
    ds = coded(CODED).add_column("kind", ["a", "b", "b", "b"]).add_column("good", [1.0, 5.0, 1.0, 1.0])
    subset = select(ds, 2, "greedy", quota="kind", quality="good", must_include=[3], seed=None)
    assert subset["text"] == ["row 3", "row 0"]
    assert subset.sae_selection.parameters["constraints"]["quota"] == "kind"
    fixed = select(ds, 2, "greedy", quota={"kind": {"b": 1}}, quality="good", seed=None).sae_selection
    assert fixed.indices.tolist() == [1, 0]
    assert fixed.parameters["constraints"]["quota"] == {"kind": [["b", 1]]}
    assert json.loads(json.dumps(fixed.parameters)) == fixed.parameters


def test_a_budget_in_tokens_or_in_a_column():
    ds = coded(CODED).add_column("chars", [10, 20, 30, 40])  # 3, 3, 4 and 1 tokens
    receipt = select(ds, "7 tokens", "greedy", seed=None).sae_selection
    assert receipt.indices.tolist() == [2, 1]  # 3 features for 4 tokens, then 1 for 3
    assert (receipt.parameters["budget"], receipt.parameters["constraints"]["cost"]) == (7.0, "tokens")
    assert select(ds, "30 chars", "greedy", seed=None)["text"] == ["row 0", "row 1"]


def test_features_that_many_rows_have_can_be_ignored():
    receipt = select(coded(CODED), 2, "greedy", max_share=0.49, seed=None).sae_selection  # 0 and 2 are in half
    assert receipt.indices.tolist() == [1, 2]
    assert receipt.parameters["cuts"]["max_share"] == 0.49


def test_a_subset_can_be_extended_by_its_receipt_or_by_itself():
    ds = coded(CODED)
    earlier = select(ds, 1, seed=None)
    for extend in (earlier, earlier.sae_selection):
        assert select(ds, 3, extend=extend, seed=None)["text"] == select(ds, 3, seed=None)["text"]
    with pytest.raises(ValueError, match="`must_include` and `extend` have 4 rows, but `budget=3`"):
        select(ds, 3, extend=ds)  # rows without a selection are known by their content
    for extend in (["row 1"], 3, {"text": ["row 1"]}):
        with pytest.raises(TypeError, match=r"`extend` is a \w+; pass a subset, a Selection, or"):
            select(ds, 3, extend=extend)


def test_an_embedding_column_needs_no_sae():
    ds = datasets.Dataset.from_dict({"v": [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], "text": ["a", "b", "c"]})
    subset = select(ds, 2, "kcenter", embedding="v", center=False, seed=None)
    assert subset["text"] == ["a", "c"]
    assert subset.sae_selection.parameters["cuts"]["embedding"] == "v"
    assert subset.sae_selection.covered.tolist() == [0, 0]


def test_an_embedding_is_read_before_anything_is_encoded(monkeypatch, sae):
    monkeypatch.setattr("hf_sae_select.encoding.pipeline.load_sae", lambda source: pytest.fail("an SAE was loaded"))
    ds = datasets.Dataset.from_dict({"v": [[1.0], [1.0, 0.1]], "text": ["a", "b"]})
    for column, message in (
        ("v", "column `v` holds lists of 1 to 2"),
        ("w", "no column `w`"),
        ("text", "`text` holds"),
    ):
        with pytest.raises(ValueError, match=message):
            select(ds, 1, "kcenter", embedding=column, sae=sae)


def test_without_codes_nobody_knows_how_many_tokens_rows_have():
    ds = datasets.Dataset.from_dict({"v": [[1.0], [2.0]]})
    for asked in ({"budget": "1 tokens"}, {"budget": 1, "per_token": 1}):
        with pytest.raises(ValueError, match="without SAE codes nobody knows the rows' tokens"):
            select(ds, method="facility_location", embedding="v", **asked)


def test_a_subset_that_was_filtered_since_is_not_extended():
    ds = coded(CODED)
    with pytest.raises(ValueError, match=r"`extend` was changed: .* describes 2 rows, but this dataset has 1"):
        select(ds, 3, extend=select(ds, 2, seed=None).filter(lambda row: row["text"] == "row 2"))


def test_a_rule_of_ours_given_as_a_function_is_the_method(sae):
    from hf_sae_select.selection.methods import match

    ds = datasets.Dataset.from_dict({"text": ["the cat sat", "a dog ran", "the red moon"]})
    assert select(ds, 2, match, sae=sae)["text"] == select(ds, 2, "match", sae=sae)["text"]


def test_an_embedding_column_goes_with_codes():
    ds = coded(CODED).add_column("v", [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]])
    receipt = select(ds, 2, "kcenter", embedding="v", center=False, seed=None).sae_selection
    assert receipt.indices.tolist() == [0, 2]
    assert receipt.covered.tolist() == [1, 3]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"method": "kcenter"},
            "`sae_state`, which this method needs: encode with `keep='state'`, or pass `embedding=",
        ),
        ({"method": "kcenter", "embedding": "w"}, "no column `w` of vectors"),
        (
            {"method": "greedy", "embedding": "text"},
            "`embedding='text'` is for the methods that compare vectors",
        ),
    ],
)
def test_what_a_method_needs_and_does_not_find_is_named(arguments, message):
    with pytest.raises(ValueError) as error:
        select(coded(CODED), 2, **arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "method, options, kept",
    [
        ("kcenter", {}, ["sae_state"]),
        ("greedy", {}, []),
        ("match", {}, []),
    ],
)
def test_what_a_method_needs_is_kept_when_select_encodes(method, options, kept, sae):
    ds = datasets.Dataset.from_dict({"text": ["the cat sat", "a dog ran under the log", "the red moon", ""]})
    subset = select(ds, 3, method, sae=sae, **options)
    codes = ["sae_ids", "sae_acts", "sae_tokens", "sae_flags", "sae_digest"]
    assert pool_of(subset).codes.column_names == [*codes, *kept]
    again = select(ds.sae_encode(sae, keep="state"), 3, method, **options)
    assert subset["text"] == again["text"] and "" not in subset["text"][:]
    assert subset.column_names == ["text"]
    assert subset.sae_selection.parameters["cuts"]["threshold"] == (0.0 if method == "match" else 0.5)


# The default


def test_by_default_a_subset_has_each_kind_of_row_in_its_proportion():
    ds = coded([{0: 0.9, 1: 0.9}] * 4 + [{0: 0.9, 2: 0.9}] * 2)  # encoded without `keep`
    subset = select(ds, 3, seed=None)
    assert subset["text"] == ["row 0", "row 4", "row 1"]
    receipt = subset.sae_selection
    assert receipt.method == select_indices(features_of([{0}]), 1).method == "herding"
    assert receipt.parameters == {
        "budget": 3,
        "seed": None,
        "options": {"width": 0.5, "redundancy": 1.25, "candidates": 2048},
        "constraints": {},
        "cuts": {"threshold": 0.0, "top": 256, "max_share": None, "embedding": None},
        "encoding": RECORD,
    }
    assert json.loads(json.dumps(receipt.parameters)) == receipt.parameters


def test_weak_features_count_for_match_and_the_256_strongest_of_a_row():
    ds = coded([{0: 0.9, 1: 0.1}, {0: 0.9, 2: 0.1}, {0: 0.9, 2: 0.1}])
    receipt = select(ds, 2, "match", seed=None).sae_selection
    assert receipt.indices.tolist() == [1, 0] and receipt.pool_coverage == 3
    long = coded([{j: 300.0 - j for j in range(300)}, {0: 1.0}], record=RECORD | {"d_sae": 300})
    assert select(long, 1, must_include=[0]).sae_selection.covered.tolist() == [256]
    assert select(long, 1, "greedy").sae_selection.covered.tolist() == [300]


def test_another_top_than_the_method_s_may_be_given():
    ds = coded(CODED)
    for method, top, expected in (("match", 3, 3), ("match", None, 256), ("greedy", None, None), ("greedy", 3, 3)):
        assert select(ds, 2, method, top=top).sae_selection.parameters["cuts"]["top"] == expected
    assert select(ds, 2, top=1, seed=None).sae_selection.covered.tolist() == [1, 2]  # of 0, 2 and 0
