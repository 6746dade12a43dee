"""Rows that were changed after they were encoded are told from those that were not."""

import pytest
from datasets import Dataset, Features, Image, List, Value, concatenate_datasets

from hf_sae_select import compare, encode, select
from hf_sae_select.encoding import digests
from hf_sae_select.encoding.digests import check_digests, digests_of
from hf_sae_select.encoding.rows import RowReader
from hf_sae_select.encoding.text import find_text
from hf_sae_select.features.columns import code_columns, digested_columns

TEXTS = ["the cat sat", "a dog ran", "", None]
TURNS = [[{"role": "user", "content": text}] if text else [] for text in TEXTS]


@pytest.fixture
def ds():
    data = [{"messages": turns, "id": i} for i, turns in enumerate(TURNS)]
    return Dataset.from_dict({"text": TEXTS, "id": range(4), "messages": TURNS, "data": data})


def text(row):
    return row["text"]


KEPT = {  # changes that leave the text of rows as it was
    "nothing": lambda ds: ds,
    "another order": lambda ds: ds.shuffle(seed=0),
    "fewer rows": lambda ds: ds.select([3, 1]),
    "another column": lambda ds: ds.map(lambda row: {"id": row["id"] + 1}),
    "a column more": lambda ds: ds.add_column("n", [0] * 4),
    "a format": lambda ds: ds.with_format("numpy"),
    "another type of string": lambda ds: ds.cast_column("text", Value("large_string")),
    "rows twice": lambda ds: concatenate_datasets([ds, ds]),
    "no text": lambda ds: ds.remove_columns("text"),
    "tokens": lambda ds: ds.map(lambda row: {"text": [1, 2]}),
    "tokens as strings": lambda ds: ds.map(lambda row: {"text": (row["text"] or "").split()}),
    "no digests": lambda ds: ds.remove_columns("sae_digest").map(lambda row: {"text": "small"}),
}


@pytest.mark.parametrize("name", KEPT)
def test_rows_that_read_the_same_are_selected(ds, sae, name):
    assert len(select(KEPT[name](encode(ds, sae, text="text")), 1)) == 1


def rewrite(row):
    return {"text": "small"} if row["id"] in (1, 3) else {}


def turn(row):
    return {"messages": [{"role": "user", "content": "small"}]} if row["id"] in (1, 3) else {}


def nested(row):
    return {"data": {"id": 7, "messages": turn(row).get("messages", row["messages"])}}


CHANGED = {  # what was read -> a change of rows 1 and 3
    "text": ("text", rewrite),
    "several columns": (["text", "id_text"], rewrite),
    "chats": ("messages", turn),
    "a field of a struct": ("data.messages", nested),
}


@pytest.mark.filterwarnings("ignore:.* knows less than half of their tokens")  # the tiny one does not know "user:"
@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("call", [lambda ds: select(ds, 1), lambda ds: compare(ds, 1, ["greedy"])])
def test_rows_that_were_changed_are_refused(ds, sae, name, call):
    columns, change = CHANGED[name]
    coded = encode(ds.add_column("id_text", ["a", "b", "c", "d"]), sae, text=columns).map(change)
    with pytest.raises(ValueError, match=r"2 of 4 rows were changed .* row 1 is the first.*encode the dataset again"):
        call(coded)
    again = encode(coded, sae, text=columns)
    assert len(select(again, 1)) == len(select(coded.remove_columns("sae_digest"), 1)) == 1
    assert len(select(coded, 1, sae=sae, text=columns)) == 1  # it encodes again


def test_a_field_that_is_not_read_may_change(ds, sae):
    coded = encode(ds, sae, text="data.messages")
    check_digests(coded.map(lambda row: {"data": {"id": 9, "messages": row["messages"]}}))


def test_the_text_of_a_function_is_not_compared(ds, sae):
    coded = encode(ds, sae, text=text)
    assert digested_columns(coded) == {} and "sae_digest" in code_columns(coded)
    check_digests(coded.map(rewrite))


def test_of_many_rows_a_sample_is_compared(sae, monkeypatch):
    monkeypatch.setattr(digests, "ALL_ROWS", 20)
    monkeypatch.setattr(digests, "SAMPLED_ROWS", 10)
    coded = encode(Dataset.from_dict({"text": [f"the cat {i}" for i in range(40)]}), sae)
    check_digests(coded)
    with pytest.raises(ValueError, match=r"10 of 10 rows were changed"):
        check_digests(coded.map(lambda row: {"text": "small"}))


def test_images_in_chats_are_read_as_they_are_stored(sae):
    parts = List({"type": Value("string"), "text": Value("string"), "image": Image()})
    features = Features({"messages": List({"role": Value("string"), "content": parts})})
    image = {"bytes": b"no image", "path": None}
    content = [{"type": "image", "text": None, "image": image}, {"type": "text", "text": "the cat", "image": None}]
    ds = Dataset.from_dict({"messages": [[{"role": "user", "content": content}]] * 2}, features=features)
    coded = encode(ds, sae)
    assert len(set(coded["sae_digest"][:])) == 1
    check_digests(coded)


def test_codes_of_before_have_no_digests(ds, sae):
    old = encode(ds, sae, text="text").remove_columns(["sae_flags", "sae_digest"])
    assert code_columns(old) == ["sae_ids", "sae_acts", "sae_tokens"]
    assert "sae_digest" in encode(old, sae, text="text").column_names


def of(columns, text=None):
    dataset = Dataset.from_dict(columns)
    return digests_of(RowReader(dataset, find_text(dataset, text))).to_pylist()


def test_digests_are_of_cells_and_never_change():
    assert of({"text": ["the cat", None]}) == ["fdfe975ee02c4ef07ef3fc9f302aed57", "776cef04829d5d743f6a1bad2a143069"]
    assert of({"a": ["x"], "b": ["y"]}, ["a", "b"]) == of({"b": ["y"], "a": ["x"], "c": ["z"]}, ["a", "b"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": ["x"], "b": ["y"]}, {"a": ["xy"], "b": [""]}),
        ({"a": ["x"], "b": ["y"]}, {"a": ["x\\ny"], "b": [None]}),
        ({"a": ["x"], "b": [""]}, {"a": ["x"], "b": [None]}),
        ({"a": ["x"], "b": ["y"]}, {"a": ["y"], "b": ["x"]}),
        ({"a": ['x","y'], "b": [""]}, {"a": ["x"], "b": ['y",""']}),
    ],
)
def test_cells_that_differ_have_other_digests(one, other):
    assert of(one, ["a", "b"]) != of(other, ["a", "b"])
