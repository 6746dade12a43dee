"""Only what is read is converted or decoded, and an error names its row and column."""

import copy
import datetime
import decimal
import json
import pickle

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Image, Value

from hf_sae_select import encode
from hf_sae_select.encoding.cells import UNREAD, LazyRow
from hf_sae_select.encoding.rows import RowReader
from hf_sae_select.encoding.text import find_text

FAR = 1_700_000_000_000  # seconds: the year 55840
TEXTS = ["the cat", "a dog", "the moon"]


@pytest.fixture
def row():
    """A row of three columns that remembers in `read` which were looked up."""
    values, read = {"a": 1, "b": [2], "c": None}, []
    row = LazyRow(values, lambda name: read.append(name) or values[name])
    return row, read


def pictures():
    """Captions beside a column of images, none of which can be decoded."""
    columns = {"caption": TEXTS, "image": [{"bytes": b"no image", "path": None}] * 3}
    return Dataset.from_dict(columns, features=Features({"caption": Value("string"), "image": Image()}))


def texts(dataset, text):
    reader = RowReader(dataset, find_text(dataset, text))
    return [text for text, _ in reader.texts(range(len(dataset)))]


@pytest.mark.parametrize(
    ("look", "result", "names"),
    [
        (lambda row: row["b"], [2], ["b"]),
        (lambda row: [row["b"], row["b"]], [[2], [2]], ["b"]),
        (lambda row: row.get("a"), 1, ["a"]),
        (lambda row: row.get("z", 5), 5, []),
        (lambda row: "c" in row and "z" not in row, True, []),
        (list, ["a", "b", "c"], []),
        (lambda row: list(row.keys()), ["a", "b", "c"], []),
        (len, 3, []),
        (lambda row: "{b[0]}".format(**row), "2", ["a", "b", "c"]),
        (lambda row: "{b[0]}".format_map(row), "2", ["b"]),
        (lambda row: row.pop("b"), [2], ["b"]),
        (lambda row: row.setdefault("a", 7), 1, ["a"]),
        (lambda row: row.setdefault("z", 7), 7, []),
        (lambda row: row.update(z=7) or row["z"], 7, []),
        (dict, {"a": 1, "b": [2], "c": None}, ["a", "b", "c"]),
        (lambda row: {**row, "d": 4}, {"a": 1, "b": [2], "c": None, "d": 4}, ["a", "b", "c"]),
        (lambda row: row | {"d": 4}, {"a": 1, "b": [2], "c": None, "d": 4}, ["a", "b", "c"]),
        (lambda row: {"d": 4} | row, {"d": 4, "a": 1, "b": [2], "c": None}, ["a", "b", "c"]),
        (lambda row: row == {"a": 1, "b": [2], "c": None}, True, ["a", "b", "c"]),
        (lambda row: row != {"a": 1, "b": [2], "c": None}, False, ["a", "b", "c"]),
        (lambda row: list(row.items()), [("a", 1), ("b", [2]), ("c", None)], ["a", "b", "c"]),
        (lambda row: list(row.values()), [1, [2], None], ["a", "b", "c"]),
        (json.dumps, '{"a": 1, "b": [2], "c": null}', ["a", "b", "c"]),
        (str, "{'a': 1, 'b': [2], 'c': None}", ["a", "b", "c"]),
        (copy.copy, {"a": 1, "b": [2], "c": None}, ["a", "b", "c"]),
        (copy.deepcopy, {"a": 1, "b": [2], "c": None}, ["a", "b", "c"]),
        (lambda row: pickle.loads(pickle.dumps(row)), {"a": 1, "b": [2], "c": None}, ["a", "b", "c"]),
    ],
)
def test_a_row_is_a_dict_that_reads_what_is_looked_up(row, look, result, names):
    row, read = row
    value = look(row)
    assert value == result and read == names and value is not UNREAD


def test_a_row_without_a_column_raises_as_a_dict_does(row):
    with pytest.raises(KeyError, match="z"):
        row[0]["z"]
    with pytest.raises(KeyError, match="z"):
        row[0].pop("z")
    assert isinstance(row[0], dict)


@pytest.mark.parametrize("text", ["caption", ["caption"], lambda row: row["caption"]])
def test_images_that_nobody_looks_at_are_not_decoded(sae, text):
    ds = pictures()
    assert texts(ds, text) == TEXTS
    assert encode(ds, sae, text=text)["sae_tokens"][:] == [2, 2, 2]
    assert encode(ds.select([2, 0]), sae, text=text)["sae_tokens"][:] == [2, 2]


def test_an_image_that_cannot_be_decoded_is_named(sae):
    ds, seen = pictures(), []
    with pytest.raises(ValueError, match=r"column `image` of row 1 cannot be read as Image") as caught:
        encode(ds, sae, text=lambda row: seen.append(row["caption"]) or str("dog" in row["caption"] and row["image"]))
    assert seen == TEXTS[:2] and caught.value.__notes__ == ["`text` was called with row 1 of the dataset"]


COLUMNS = {  # Arrow arrays of three rows, the last without a value -> what a function gets of the row in the middle
    "string_view": (pa.array(["a", "b", None], pa.string_view()), "b"),
    "large_string": (pa.array(["a", "b", None], pa.large_string()), "b"),
    "dictionary": (pa.array(["a", "b", None]).dictionary_encode(), "b"),
    "binary": (pa.array([b"a", b"\xff", None]), b"\xff"),
    "binary_view": (pa.array([b"a", b"\xff", None], pa.binary_view()), b"\xff"),
    "large_binary": (pa.array([b"a", b"\xff", None], pa.large_binary()), b"\xff"),
    "large_list": (pa.array([[1], [2, 3], None], pa.large_list(pa.int64())), [2, 3]),
    "fixed_size_list": (pa.array([[1, 2], [2, 3], None], pa.list_(pa.int64(), 2)), [2, 3]),
    "decimal": (pa.array([decimal.Decimal("1.5"), decimal.Decimal("2.5"), None]), decimal.Decimal("2.5")),
    "date": (pa.array([1, 2, None], pa.int32()).cast(pa.date32()), datetime.date(1970, 1, 3)),
    "null": (pa.nulls(3), None),
    "empty struct": (pa.array([{}, {}, None], pa.struct([])), {}),
    "empty structs": (pa.array([[{}], [], None], pa.list_(pa.struct([]))), []),
    "half": (pa.array([1.0, 2.0, None]).cast(pa.float16()), 2.0),
    "uint64": (pa.array([1, 2**63, None], pa.uint64()), 2**63),
    "far timestamp": (pa.array([0, FAR, None], pa.int64()).cast(pa.timestamp("s")), None),
    "far timestamp of a place": (pa.array([0, FAR, None], pa.int64()).cast(pa.timestamp("s", "Asia/Tokyo")), None),
    "far date": (pa.array([0, 2**31 - 1, None], pa.int32()).cast(pa.date32()), None),
    "long duration": (pa.array([0, 2**62, None], pa.int64()).cast(pa.duration("s")), None),
    "far date in a struct": (pa.array([{"a": 0}, {"a": FAR}, None], pa.struct({"a": pa.timestamp("s")})), None),
}
UNREADABLE = [name for name in COLUMNS if "far" in name or "long" in name]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_passes_through(sae, name):
    table = pa.table({"text": TEXTS, "x": COLUMNS[name][0]})
    for ds in (Dataset(table), Dataset(table).select([2, 0, 1])):
        for text in ("text", lambda row: row["text"]):
            coded = encode(ds, sae, text=text)
            assert coded.features["x"] == ds.features["x"]
            assert coded.with_format("arrow")[:]["x"].equals(ds.with_format("arrow")[:]["x"])


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in UNREADABLE])
def test_a_function_gets_what_datasets_returns(name):
    ds = Dataset(pa.table({"text": TEXTS, "x": COLUMNS[name][0]}))
    seen = []
    texts(ds, lambda row: seen.append(row["x"]))
    assert seen == ds["x"][:] and seen[1] == COLUMNS[name][1]


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_cell_that_python_has_no_object_for_is_named(name):
    ds, seen = Dataset(pa.table({"text": TEXTS, "x": COLUMNS[name][0]})), []
    with pytest.raises(ValueError, match=r"column `x` of row 1 cannot be read as .* mend or drop that row"):
        texts(ds, lambda row: seen.append(row["x"]))
    assert len(seen) == 1  # the row before it


def test_of_a_struct_only_the_fields_that_are_read_are_converted(sae):
    turns = [{"role": "user", "content": "the cat"}]
    table = pa.table({"data": pa.array([{"messages": turns, "made": FAR, "note": "a dog"}, None] * 2, STRUCT)})
    ds = Dataset(table).select([1, 2])
    assert texts(ds, "data.note") == ["", "a dog"]
    assert texts(ds, "data.messages") == ["", "user: the cat"]
    assert texts(ds, ["data.note", "data.messages"])[1].startswith("user: a dog")
    assert encode(ds, sae, text="data.note")["sae_tokens"][:] == [0, 2]


STRUCT = pa.struct(
    {
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "made": pa.timestamp("s"),
        "note": pa.string(),
    }
)


def test_a_cell_of_a_column_that_is_read_is_named():
    turns = pa.struct({"role": pa.string(), "content": pa.string(), "time": pa.timestamp("s")})
    cells = [[{"role": "user", "content": "the cat", "time": time}] for time in (0, FAR)]
    ds = Dataset(pa.table({"messages": pa.array(cells, pa.list_(turns))}))
    with pytest.raises(ValueError, match="column `messages` of row 1 cannot be read as"):
        texts(ds, "messages")


def test_a_function_is_told_where_it_failed():
    ds = Dataset.from_dict({"text": TEXTS})
    with pytest.raises(KeyError) as caught:
        RowReader(ds, find_text(ds, lambda row: row["tex"])).texts([2, 0])
    assert caught.value.__notes__ == ["`text` was called with row 2 of the dataset"]
    with pytest.raises(TypeError, match="returned a value of type int"):
        texts(ds, lambda row: 5)
    assert texts(ds, lambda row: None) == [""] * 3


@pytest.mark.parametrize("kind", ["numpy", "torch", "pandas", "arrow"])
def test_rows_are_python_objects_whatever_the_format(kind):
    ds = Dataset.from_dict({"text": TEXTS, "n": [1, 2, 3]}).with_format(kind)
    assert texts(ds, lambda row: f"{row['n']!r} {row['text']}") == ["1 the cat", "2 a dog", "3 the moon"]
    shouting = ds.with_transform(lambda batch: {"text": [text.upper() for text in batch["text"]]})
    assert texts(shouting, "text") == TEXTS


def test_the_numbers_of_rows_in_errors_are_those_of_the_dataset():
    chats = datasets.Json()
    ds = Dataset.from_dict({"messages": [[{"role": "user", "content": "a"}], 5]}, features=Features(messages=chats))
    with pytest.raises(ValueError, match="row 1, column `messages`"):
        RowReader(ds, find_text(ds)).texts([1, 0])
