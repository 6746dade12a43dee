import inspect
import pickle

import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, IterableDatasetDict, load_from_disk
from helpers.pools import coded

import hf_sae_select
from hf_sae_select import plugin

ROWS = [{0: 0.9, 1: 0.9}, {2: 0.9}, {0: 0.9, 2: 0.9, 3: 0.9}]


DOORS = {
    "sae_select": "selection.api.select",
    "sae_compare": "selection.comparison.compare",
    "sae_encode": "encoding.pipeline.encode",
    "sae_missing": "concepts.differences.missing_features",
    "sae_diff": "concepts.differences.diff",
    "sae_find_features": "concepts.differences.find_features",
    "sae_explain": "concepts.explanation.explain",
    "sae_why_not": "concepts.rejection.why_not",
    "sae_publish": "publishing.pushing.publish",
    "sae_report": "concepts.report.report",
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


@pytest.mark.parametrize(
    "change", [lambda ds: ds, lambda ds: ds.shuffle(seed=0), lambda ds: ds.remove_columns("kind")]
)
@pytest.mark.parametrize("keep_codes", [False, True])
def test_a_subset_of_rows_with_several_files_of_codes_is_pickled(change, keep_codes, sae, monkeypatch, tmp_path):
    monkeypatch.setattr("hf_sae_select.encoding.store.FILE_ROWS", 2)
    rows = Dataset.from_dict({"text": ["the cat", "a dog ran", "the moon", "a big red bird"], "kind": list("abab")})
    rows.save_to_disk(tmp_path / "rows")
    encoded = change(load_from_disk(tmp_path / "rows").sae_encode(sae))
    subset = encoded.sae_select(2, keep_codes=keep_codes)
    again = pickle.loads(pickle.dumps(subset))
    assert again.to_list() == subset.to_list() and ("sae_ids" in again.column_names) == keep_codes
    assert again.sae_selection.indices.tolist() == subset.sae_selection.indices.tolist()
    assert again.sae_select(1).to_list() == subset.sae_select(1).to_list()


# The other containers of datasets

CONTAINERS = {
    "DatasetDict": lambda ds: DatasetDict(train=ds),
    "IterableDataset": lambda ds: ds.to_iterable_dataset(),
    "IterableDatasetDict": lambda ds: IterableDatasetDict(train=ds.to_iterable_dataset()),
}
CALLS = {
    "sae_select": ([2], hf_sae_select.select),
    "sae_compare": ([2], hf_sae_select.compare),
    "sae_encode": ([], hf_sae_select.encode),
    "sae_explain": ([0], hf_sae_select.explain),
    "sae_why_not": ([0], hf_sae_select.why_not),
    "sae_publish": (["me/subset"], hf_sae_select.publish),
}


OWN = {"sae_select", "sae_compare", "sae_encode"}  # see test_splits.py and test_streams.py


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", sorted(OWN))
def test_functions_of_a_dataset_name_the_method_of_another_container(container, name):
    arguments, function = CALLS[name]
    with pytest.raises(TypeError, match=rf"is an? {container}.*, or call its method `{name}`"):
        function(CONTAINERS[container](coded(ROWS)), *arguments)


REFUSED = [(container, name) for container in CONTAINERS for name in sorted(CALLS.keys() - OWN)]
REFUSED.remove(("DatasetDict", "sae_publish"))  # see publishing/test_splits.py


@pytest.mark.parametrize(("container", "name"), REFUSED)
def test_other_containers_have_the_methods_and_refuse_as_the_functions_do(container, name):
    value = CONTAINERS[container](coded(ROWS))
    arguments, function = CALLS[name]
    with pytest.raises(TypeError, match=rf"is an? {container}.*(pick a split|Dataset\.from_list)") as by_method:
        getattr(value, name)(*arguments)
    with pytest.raises(TypeError) as by_function:
        function(value, *arguments)
    assert str(by_method.value) == str(by_function.value)


class Frame(list):
    """Stands for a frame of a library that is not installed."""


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (pd.DataFrame({"text": ["a"]}), "Dataset.from_pandas(dataset)"),
        (type("DataFrame", (Frame,), {"__module__": "polars.dataframe.frame"})(), "Dataset.from_polars(dataset)"),
        (type("LazyFrame", (Frame,), {"__module__": "polars.lazyframe.frame"})(), "from_polars(dataset.collect())"),
        (pa.table({"text": ["a"]}), "Dataset(dataset)"),
        ([{"text": "a"}], "Dataset.from_list(dataset)"),
        (({"text": "a"},), "Dataset.from_list(dataset)"),
        ({"text": ["a"]}, "Dataset.from_dict(dataset)"),
        (["a"], "Dataset.from_dict({'text': dataset})"),
    ],
)
def test_what_is_no_dataset_is_refused_with_the_way_out(value, remedy):
    for function in (lambda: hf_sae_select.select(value, 1), lambda: hf_sae_select.encode(value)):
        with pytest.raises(TypeError, match=r"it must be a datasets\.Dataset: ") as error:
            function()
        assert str(error.value).endswith(remedy)
    with pytest.raises(TypeError, match=r"`dataset` is a int; it must be a datasets\.Dataset$"):
        hf_sae_select.select(3, 1)


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
