import inspect
import pickle

import pytest
from datasets import Dataset
from helpers.pools import coded

import hf_sae_select
from hf_sae_select import plugin

ROWS = [{0: 0.9, 1: 0.9}, {2: 0.9}, {0: 0.9, 2: 0.9, 3: 0.9}]


DOORS = {
    "sae_select": "selection.api.select",
    "sae_compare": "selection.comparison.compare",
    "sae_encode": "encoding.pipeline.encode",
    "sae_publish": "publishing.pushing.publish",
}


@pytest.mark.parametrize("name", DOORS)
def test_a_method_passes_every_argument_on_to_its_function(name, monkeypatch):
    dataset, calls = coded(ROWS), []
    monkeypatch.setattr(f"hf_sae_select.{DOORS[name]}", lambda *args, **named: calls.append((args, named)))
    parameters = list(inspect.signature(getattr(Dataset, name)).parameters.values())[1:]
    positional = [object() for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = {p.name: object() for p in parameters if p.kind is p.KEYWORD_ONLY}
    named |= {"an_option": object()} if any(p.kind is p.VAR_KEYWORD for p in parameters) else {}
    getattr(dataset, name)(*positional, **named)
    assert calls == [((dataset, *positional), named)]


def test_a_row_of_text_goes_in_and_the_diverse_rows_come_out(sae):
    ds = Dataset.from_dict({"text": ["the cat", "the cat", "", "a big red bird flew over the moon", "the cat"]})
    subset = ds.sae_select(2, sae=sae)
    assert subset.column_names == ["text"]
    assert set(subset["text"]) == {"a big red bird flew over the moon", "the cat"}  # and not "the cat" twice
    assert ds.sae_encode(sae).sae_select(2)["text"][:] == subset["text"][:]
    assert ds.sae_select(5, sae=sae)["text"][4] == ""


def test_a_bad_budget_is_refused_before_a_model_loads(monkeypatch):
    monkeypatch.setattr("hf_sae_select.encoding.pipeline.load_sae", lambda source: pytest.fail("an SAE was loaded"))
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
        AttributeError, match=r"datasets.Dataset already has an attribute `sae_select` that is not of hf_sae_select"
    ):
        plugin.attach()


def test_public_names_are_there_and_no_others():
    assert dir(hf_sae_select) == sorted(hf_sae_select.__all__)
    assert all(getattr(hf_sae_select, name) is not None for name in hf_sae_select.__all__)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'"):
        _ = hf_sae_select.nothing
