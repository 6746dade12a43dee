import datetime
import decimal
import json

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value, load_dataset

from hf_sae_select.encoding.text import Text, find_text
from hf_sae_select.features.columns import RowFlags


def texts(ds, text=None, **options):
    return [row.text for row in find_text(ds, text)(ds[:], **options)]


def table(**columns):
    return Dataset.from_dict(columns)


def test_empty_parts_leave_no_blank_line():
    ds = table(instruction=["Add.", None, " "], input=["", None, ""], output=["3", None, "4"])
    assert texts(ds) == ["Add.\n3", "", "4"]


def test_a_chat_is_written_turn_by_turn():
    ds = table(messages=[[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}], None, []])
    assert texts(ds) == ["user: Hi\nassistant: Yes?", "", ""]


def test_turns_with_different_keys_loaded_from_json_are_a_chat(tmp_path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "3", "name": "add", "weight": 0}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    assert texts(load_dataset("json", data_files=str(tmp_path / "chats.jsonl"), split="train")) == [
        "user: Hi\ntool (add): 3"
    ]


def test_a_chat_goes_through_the_template_where_there_is_one():
    ds = table(messages=[[{"role": "user", "content": "Hi"}], []], tools=[[{"name": "add"}], None])
    rendering = find_text(ds)
    seen = rendering(ds[:], lambda turns, tools: Text(f"<{turns[0]['content']} {tools}>", RowFlags.LEFT_OUT))
    assert seen == [Text("<Hi [{'name': 'add'}]>", RowFlags.LEFT_OUT), Text("")]
    assert rendering.columns == ("messages", "tools")
    assert rendering.record() == {"columns": ["messages"], "chat": True, "extras": ["tools"]}


CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("columns", "text", "expected"),
    [
        # A prompt and its answer as chats, as TRL has them; turns that the answer repeats are written once.
        ({"prompt": CHAT[:1], "completion": CHAT[1:]}, None, "user: a\nassistant: b"),
        ({"prompt": CHAT[:1], "chosen": CHAT, "rejected": CHAT[:1]}, None, "user: a\nassistant: b"),
        ({"prompt": "a", "chosen": CHAT, "rejected": CHAT[:1]}, None, "user: a\nassistant: b"),
        ({"prompt": "a", "completion": CHAT[1:]}, None, "user: a\nassistant: b"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, None, "a\nb"),
        ({"system": "s", "messages": CHAT}, None, "system: s\nuser: a\nassistant: b"),
        (
            {"system": "s", "messages": [{"role": "system", "content": "s"}, *CHAT]},
            None,
            "system: s\nuser: a\nassistant: b",
        ),
        ({"system": None, "messages": CHAT}, None, "user: a\nassistant: b"),
        # ... but not what is said again
        ({"prompt": [*CHAT, CHAT[0]], "completion": CHAT[1:]}, None, "user: a\nassistant: b\nuser: a\nassistant: b"),
        ({"system": "s", "prompt": CHAT[:1], "chosen": CHAT}, None, "system: s\nuser: a\nassistant: b"),
        (
            {"instruction": "i", "input": "j", "output": "o", "history": [["q", "a"]]},
            None,
            "user: q\nassistant: a\nuser: i\nuser: j\nassistant: o",
        ),
        ({"system": [{"text": "s"}], "messages": CHAT[:1]}, None, "system: s\nuser: a"),
        ({"systemInstruction": {"parts": [{"text": "s"}]}, "contents": CHAT[:1]}, None, "system: s\nuser: a"),
        ({"conversations": CHAT[:1], "chosen": CHAT[1], "rejected": CHAT[1]}, None, "user: a\nassistant: b"),
        # text that is JSON stays text
        (
            {"prompt": "Who?", "completion": '[{"type": "PERSON", "value": "Ann"}]'},
            None,
            'Who?\n[{"type": "PERSON", "value": "Ann"}]',
        ),
        ({"text": json.dumps(CHAT)}, None, json.dumps(CHAT)),
        ({"content": '{"author": "Ann", "body": "Works."}'}, None, '{"author": "Ann", "body": "Works."}'),
        # JSON text
        ({"messages": repr(CHAT)}, None, "user: a\nassistant: b"),
        ({"messages": json.dumps(CHAT)}, None, "user: a\nassistant: b"),
        (
            {"conversations": json.dumps({"from": ["human", "gpt"], "value": ["a", "b"]})},
            None,
            "user: a\nassistant: b",
        ),
        ({"messages": [json.dumps(turn) for turn in CHAT]}, None, "user: a\nassistant: b"),
        ({"chat_log": json.dumps({"messages": CHAT}), "id": 1}, "chat_log", "user: a\nassistant: b"),
        # fields of structs
        ({"data": {"messages": CHAT, "n": 1}}, "data.messages", "user: a\nassistant: b"),
        ({"data": {"inner": {"body": "a"}}}, "data.inner.body", "a"),
        ({"a.b": "a", "a": {"b": "no"}}, "a.b", "a"),
        ({"x": {"q": "a"}, "y": "b"}, ["x.q", "y"], "a\nb"),
        ({"prompt": "a\n", "chosen": [{**CHAT[0], "weight": 1}, CHAT[1]]}, None, "user: a\nassistant: b"),
        ({"title": "t", "messages": CHAT}, ["title", "messages"], "user: t\nuser: a\nassistant: b"),
        # numbers and text in JSON that is no chat
        ({"text": '{"role": 3}'}, None, '{"role": 3}'),
        ({"text": "[1, 2]"}, None, "[1, 2]"),
    ],
)
def test_columns_chats_fields_and_json_are_read(columns, text, expected):
    assert texts(Dataset.from_list([columns]), text) == [expected]


def test_a_struct_that_is_null_is_blank():
    ds = Dataset.from_list([{"data": {"body": "a"}}, {"data": None}])
    assert texts(ds, "data.body") == ["a", ""]


def test_what_cannot_be_read_names_row_and_column():
    ds = table(messages=[CHAT, [{"role": "user", "content": b"\xff\xfe"}]][1:] * 2)
    with pytest.raises(ValueError, match=r"row 0, column `messages`: cannot read 2 bytes that are no UTF-8 text"):
        texts(ds)


@pytest.mark.parametrize("dtype", ["string", "large_string", "string_view"])
def test_every_type_of_string_is_text(dtype):
    ds = Dataset(pa.table({"text": pa.array(["a cat", None], getattr(pa, dtype)())}))
    assert texts(ds) == texts(ds, "text") == texts(ds, ["text"]) == ["a cat", ""]


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c", r"no column `c` \(from `text`\) in this dataset; it has: a, b"),
        (["a", "c"], r"no column `c` \(from `text`\) in this dataset; it has: a, b"),
        ("b.y", r"no column `b.y` \(from `text`\) in `b`; it has: x"),
        ("b.x.y", r"no column `b.x.y` \(from `text`\) in `b.x`; it holds string"),
        ("a.x", r"no column `a.x` \(from `text`\) in `a`; it holds string"),
    ],
)
def test_an_unknown_column_lists_those_there_are(text, message):
    with pytest.raises(ValueError, match=message):
        find_text(Dataset.from_list([{"a": "1", "b": {"x": "2"}}]), text)


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (Value("int64"), 1),
        (Value("binary"), b"x"),
        (Value("date32"), datetime.date(2024, 1, 1)),
        (Value("decimal128(5, 2)"), decimal.Decimal("1.50")),
        (ClassLabel(names=["x"]), 0),
        (List(Value("string")), ["x"]),
        (List(Value("int32")), [1]),
        ({"a": Value("string")}, {"a": "x"}),
        (List({"a": Value("string")}), [{"a": "x"}]),
        (Image(), {"bytes": b"", "path": None}),
    ],
)
def test_a_column_of_another_type_is_refused(feature, value):
    ds = Dataset.from_dict({"text": [value]}, features=Features({"text": feature}))
    with pytest.raises(TypeError, match=r"column `text` holds .*, not text and no chat; pass another column"):
        find_text(ds, "text")
    with pytest.raises(
        ValueError, match=r"cannot tell which column is the text .*, among: text: .*; pass `text='column'`"
    ):
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
