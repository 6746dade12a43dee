import json

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset

from hf_sae_select.encoding.text import find_text


def texts(ds, text=None, **options):
    return find_text(ds, text)(ds[:], **options)


def table(**columns):
    return Dataset.from_dict(columns)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"only": ["a cat"]}, "a cat"),
        ({"id": [1], "only": ["a cat"]}, "a cat"),
        ({"title": ["t"], "text": ["a cat"]}, "a cat"),
        ({"instruction": ["Add."], "input": ["1 2"], "output": ["3"]}, "Add.\n1 2\n3"),
        ({"response": ["3"], "context": ["1 2"], "instruction": ["Add."], "category": ["qa"]}, "Add.\n1 2\n3"),
        ({"completion": ["3"], "prompt": ["1 2"]}, "1 2\n3"),
        ({"response": ["3"], "prompt": ["1 2"], "id": ["x"]}, "1 2\n3"),
        ({"answer": ["3"], "question": ["1 2"]}, "1 2\n3"),
    ],
)
def test_common_schemas_are_recognised(columns, expected):
    assert texts(table(**columns)) == [expected]


def test_empty_parts_leave_no_blank_line():
    ds = table(instruction=["Add.", None, " "], input=["", None, ""], output=["3", None, "4"])
    assert texts(ds) == ["Add.\n3", "", "4"]


def test_a_chat_in_either_dialect_is_written_turn_by_turn():
    openai = table(
        prompt=["x"], messages=[[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]]
    )
    sharegpt = table(conversations=[[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}]])
    assert texts(openai) == ["user: Hi\nassistant: Yes?"]
    assert texts(sharegpt) == ["user: Hi\nassistant: Yes?"]


def test_turns_and_chats_without_words_are_left_out():
    turns = [{"role": "user", "content": "Hi"}, None, {"role": "assistant", "content": None}]
    ds = table(messages=[turns, None, [], turns[2:]])
    assert texts(ds) == ["user: Hi", "", "", ""]


def test_content_in_parts_is_read_for_its_text():
    rows = [{"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]}]
    assert texts(Dataset.from_list(rows)) == ["user: What is it?"]


def test_turns_with_different_keys_loaded_from_json_are_a_chat(tmp_path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "3", "name": "add", "weight": 0}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    assert texts(load_dataset("json", data_files=str(tmp_path / "chats.jsonl"), split="train")) == [
        "user: Hi\ntool: 3"
    ]


def test_a_chat_goes_through_the_template_where_there_is_one():
    ds = table(messages=[[{"role": "user", "content": "Hi"}], []])
    assert texts(ds, template=lambda turns: f"<{turns[0]['content']}>") == ["<Hi>", ""]


def test_text_names_a_column_several_or_a_function():
    ds = table(a=["1"], b=["2"], c=["3"])
    assert texts(ds, "b") == ["2"]
    assert texts(ds, ["c", "a"]) == ["3\n1"]
    assert texts(ds, lambda row: row["a"] + row["b"]) == ["12"]


def test_a_column_of_nothing_but_none_is_blank():
    assert texts(table(text=[None, None])) == ["", ""]


def test_the_record_tells_renderings_apart():
    ds = table(a=["1"], b=["2"])
    records = [find_text(ds, text).record() for text in ("a", ["a", "b"], lambda row: row["a"], lambda row: row["b"])]
    assert records[0] == {"columns": ["a"], "chat": False}
    assert len({str(record) for record in records}) == 4


def test_an_unrecognised_schema_lists_the_columns_and_the_remedy():
    with pytest.raises(ValueError, match=r"cannot tell which column is the text, among: a, b; pass `text='column'`"):
        find_text(table(a=["1"], b=["2"]))


def test_an_unknown_column_lists_those_there_are():
    with pytest.raises(ValueError, match=r"no column `c` \(from `text`\) in this dataset; it has: a, b"):
        find_text(table(a=["1"], b=["2"]), "c")


@pytest.mark.parametrize(
    ("feature", "value"), [(Value("int64"), 1), (ClassLabel(names=["x"]), 0), (List(Value("string")), ["x"])]
)
def test_a_column_of_another_type_is_refused(feature, value):
    ds = Dataset.from_dict({"text": [value]}, features=Features({"text": feature}))
    with pytest.raises(TypeError, match=r"column `text` holds .*, not text; pass another column or `text=lambda row"):
        find_text(ds)


@pytest.mark.parametrize("text", [3, [], [1]])
def test_text_of_another_type_is_refused(text):
    with pytest.raises(TypeError, match=r"`text=.*` must be a column, a list of columns, or a function"):
        find_text(table(text=["1"]), text)


def test_a_function_that_cannot_be_hashed_is_never_found_in_the_cache():
    words = (word for word in "ab")  # a generator cannot be pickled
    rendering = find_text(table(a=["1"]), lambda row: next(words))
    with pytest.warns(UserWarning, match=r"`text=.*` cannot be hashed: the next call will not find its codes"):
        first, second = rendering.record(), rendering.record()
    assert first["hash"] != second["hash"]


def test_a_function_that_returns_no_string_is_named():
    with pytest.raises(TypeError, match=r"the function `text` returned a value of type int; it must return a string"):
        texts(table(a=["1"]), lambda row: 3)
