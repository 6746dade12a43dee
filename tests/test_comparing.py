import math

import pytest
from datasets import Dataset
from pools import coded

from hf_sae_select import compare

ROWS = [{0: 0.9, 1: 0.9}, {0: 0.9, 1: 0.9}, {2: 0.9}, {0: 0.9, 2: 0.9, 3: 0.9}, {4: 0.1}, {}]


def test_a_line_for_each_method_the_baselines_and_the_pool():
    table = compare(coded(ROWS), 2, ["greedy"])
    assert table.index.tolist() == ["greedy", "longest", "random", "(all rows)"]
    greedy, everything = table.loc["greedy"], table.loc["(all rows)"]
    # rows 3 and one of 0 and 1 cover 0 1 2 3; feature 4 is below the threshold
    assert (greedy["rows"], greedy["features"], greedy["share"], greedy["saturated_at"]) == (2, 4, 1, 2)
    assert (greedy["richness"], greedy["redundancy"], greedy["tokens"], greedy["rounds"]) == (2.5, 1 / 4, 3.5, 1)
    assert (everything["rows"], everything["features"], everything["share"]) == (6, 4, 1)
    assert everything["tokens"] == pytest.approx(15 / 6)
    assert math.isnan(everything["seconds"]) and greedy["seconds"] > 0


def test_methods_may_have_options_and_labels():
    methods = {"strict": {"method": "simscale", "max_overlap": 0.0, "exhausted": "stop"}}
    table = compare(coded(ROWS), 3, methods, threshold=0.05)
    assert table.index.tolist() == ["strict", "longest", "random", "(all rows)"]
    assert table.loc["strict", "rows"] == 2  # rows 3 and 4 overlap with nothing
    assert table.loc["(all rows)", "features"] == 5


def test_constraints_hold_for_every_method_and_baselines_leave_out_what_they_cannot_obey():
    ds = coded(ROWS).add_column("good", [1, 5, 1, 1, 1, 1])
    table = compare(ds, 2, ["greedy"], quality="good", per_token=0.5, exclude=[3])
    assert table.loc["longest", "features"] == 2  # rows 0 and 1
    assert table.loc["greedy", "features"] == 3


def test_a_rule_of_ones_own_is_compared_under_its_name():
    from hf_sae_select.rules import instag

    assert compare(coded(ROWS), 2, [instag]).index[0] == "instag"


def test_what_no_line_can_be_made_of_is_refused():
    with pytest.raises(TypeError, match=r"`methods='greedy'` must be a list of methods, or"):
        compare(coded(ROWS), 2, "greedy")
    with pytest.raises(ValueError, match=r"unknown `method='gready'`"):
        compare(coded(ROWS), 2, ["gready"])
    with pytest.raises(TypeError, match="`ds` is a list; pass a"):
        compare([1], 2)


def test_an_unencoded_dataset_is_encoded_once_with_what_the_methods_need(sae, monkeypatch):
    from hf_sae_select.activations import LanguageModel

    loads, load = [], LanguageModel.from_pretrained
    monkeypatch.setattr(LanguageModel, "from_pretrained", lambda *a, **k: loads.append(1) or load(*a, **k))
    ds = Dataset.from_dict({"text": ["the cat sat", "a dog ran under the log", "the red moon", "a bird flew"]})
    table = compare(ds, 2, ["match", "kcenter", "greedy"], sae=sae)
    assert table["rows"].tolist() == [2, 2, 2, 2, 2, 4]
    assert len(loads) == 1


def test_before_anything_is_encoded_every_method_is_checked(monkeypatch):
    monkeypatch.setattr("hf_sae_select.encoding.load_sae", lambda source: pytest.fail("an SAE was loaded"))
    ds = Dataset.from_dict({"text": ["a", "b"]})
    with pytest.raises(TypeError, match="unknown option `idf` for `method='longest'`"):
        compare(ds, 1, {"greedy": {"method": "greedy"}, "l": {"method": "longest", "idf": True}})
