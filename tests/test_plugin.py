import inspect
import pickle

import pytest
from datasets import Dataset
from helpers.pools import coded

import hf_sae_select
from hf_sae_select import plugin

ROWS = [{0: 0.9, 1: 0.9}, {2: 0.9}, {0: 0.9, 2: 0.9, 3: 0.9}]


def test_the_methods_are_doors_to_the_functions(monkeypatch):
    ds, seen = coded(ROWS), []
    for function in ("selection.api.select", "selection.comparison.compare", "encoding.encoder.encode"):
        monkeypatch.setattr(f"hf_sae_select.{function}", lambda *given, **named: seen.append((*given, named)))
    ds.sae_select(2, "random", seed=7)
    ds.sae_compare(2, ["greedy"], top=3)
    ds.sae_encode("folder", keep="state")
    named = {"text": None, "max_length": None, "batch_size": 32, "keep": "state"}
    assert seen == [(ds, 2, "random", {"seed": 7}), (ds, 2, ["greedy"], {"top": 3}), (ds, "folder", named)]
    seen.clear()
    ds.sae_select(2)
    ds.sae_compare(2)
    assert seen == [(ds, 2, "match", {}), (ds, 2, ("match",), {})]


@pytest.mark.parametrize(
    ("function", "method"), [(hf_sae_select.select, "sae_select"), (hf_sae_select.compare, "sae_compare")]
)
def test_methods_and_functions_have_the_same_defaults(function, method):
    budget, default = list(inspect.signature(function).parameters.values())[1:3]
    assert list(inspect.signature(getattr(Dataset, method)).parameters.values())[1:3] == [budget, default]


def test_sae_select_passes_everything_on():
    ds = coded(ROWS)
    subset = ds.sae_select(2, "simscale", threshold=0.1, top=2, seed=3, max_overlap=0.5, order="given")
    assert subset.sae_selection.parameters == {
        "budget": 2,
        "seed": 3,
        "max_overlap": 0.5,
        "against": "union",
        "order": "given",
        "exhausted": "restart",
        "threshold": 0.1,
        "top": 2,
        "encoding": {"d_sae": 16, "threshold": 0.5, "sae_sha256": "abc"},
    }


def test_a_row_of_text_goes_in_and_the_diverse_rows_come_out(sae):
    ds = Dataset.from_dict({"text": ["the cat", "the cat", "", "a big red bird flew over the moon", "the cat"]})
    subset = ds.sae_select(2, sae=sae)
    assert subset.column_names == ["text"]
    assert set(subset["text"]) == {"a big red bird flew over the moon", "the cat"}  # and not "the cat" twice
    assert ds.sae_encode(sae).sae_select(2)["text"][:] == subset["text"][:]
    assert ds.sae_select(5, sae=sae)["text"][4] == ""


def test_a_bad_budget_is_refused_before_a_model_loads(monkeypatch):
    monkeypatch.setattr("hf_sae_select.encoding.encoder.load_sae", lambda source: pytest.fail("an SAE was loaded"))
    with pytest.raises(ValueError, match=r"`budget=3` but the dataset has 2 rows"):
        Dataset.from_dict({"text": ["a", "b"]}).sae_select(3)


def test_the_receipt_survives_pickling_and_formats_and_is_dropped_by_other_rows():
    subset = coded(ROWS).sae_select(2)
    for same in (pickle.loads(pickle.dumps(subset)), subset.with_format("numpy")):
        assert same.sae_selection.indices.tolist() == subset.sae_selection.indices.tolist()
    for other in (subset.select([0]), subset.shuffle(seed=1), subset.map(lambda row: row)):
        assert not hasattr(other, "sae_selection")


def test_attaching_again_changes_nothing():
    before = Dataset.sae_select
    plugin.attach()
    assert Dataset.sae_select is before


def test_a_foreign_attribute_is_not_overwritten(monkeypatch):
    monkeypatch.setattr(Dataset, "sae_select", lambda self: "somebody else's")
    with pytest.raises(
        AttributeError, match=r"datasets.Dataset already has an attribute `sae_select` that is not ours"
    ):
        plugin.attach()


def test_public_names_are_there_and_no_others():
    assert all(getattr(hf_sae_select, name) is not None for name in hf_sae_select.__all__)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'"):
        _ = hf_sae_select.nothing
