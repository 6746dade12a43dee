"""A row's SHA-256: the same wherever the row lies, another as soon as anything in it is."""

import hashlib
import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, List, Value
from helpers.pools import thoroughly
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from hf_sae_select.publishing import hashing
from hf_sae_select.publishing.hashing import digest_of, digests_of, row_digests


def sha256(text):
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


def hexdigests(ds):
    return [bytes(row).hex() for row in row_digests(ds)]


def of(values, type=None):
    """The digests of the rows of one column `v`."""
    features = None if type is None else Features({"v": type})
    return hexdigests(Dataset.from_dict({"v": values}, features=features))


def test_a_row_has_the_digest_of_its_json():
    ds = Dataset.from_list([{"text": "Hi", "label": 1}, {"text": 'Ü 😀 "\n', "label": None}])
    assert hexdigests(ds) == [sha256('{"label":1,"text":"Hi"}'), sha256('{"label":null,"text":"Ü 😀 \\"\\n"}')]
    assert hexdigests(ds)[0] == "5473b01fb278334db223571c7a346f61d08dee8884f8b45578796e04d3cd9f97"


def test_neither_the_order_of_columns_nor_that_of_keys_matters():
    one = Dataset.from_list([{"a": 1, "b": {"x": 1, "y": [2]}}])
    other = Dataset.from_list([{"b": {"y": [2], "x": 1}, "a": 1}])
    assert hexdigests(one) == hexdigests(other) == [sha256('{"a":1,"b":{"x":1,"y":[2]}}')]


def test_the_name_of_a_column_counts():
    assert hexdigests(Dataset.from_dict({"a": [1]})) != hexdigests(Dataset.from_dict({"b": [1]}))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (2**62, "4611686018427387904"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        ("a\u2028b", '"a\u2028b"'),
        ("", '""'),
        ([], "[]"),
        (["a", None], '["a",null]'),
        ([{"role": "user", "content": "hi"}], '[{"content":"hi","role":"user"}]'),
        (date(2024, 2, 29), '"2024-02-29"'),
        (datetime(2024, 2, 29, 12, 30), '"2024-02-29T12:30:00"'),
        (datetime(2024, 2, 29, 12, 30, tzinfo=UTC), '"2024-02-29T12:30:00+00:00"'),
        (b"\x00\xff", f'"{sha256(bytes([0, 255]))}"'),
    ],
)
def test_each_kind_of_value_as_it_is_written(value, written):
    assert of([value]) == [sha256(f'{{"v":{written}}}')]


def test_values_that_look_alike_differ():
    alike = [*of([None]), *of(["null"]), *of([math.nan]), *of(["NaN"]), *of([""]), *of([[]]), *of([0]), *of([0.0])]
    alike += [*of([False]), *of(["0"]), *of([b""]), *of([-0.0]), *of([[None]]), *of([["", ""]]), *of([[""]])]
    assert len(set(alike)) == len(alike) == 15


def test_how_arrow_holds_a_value_does_not_matter():
    assert of(["a"], Value("large_string")) == of(["a"], Value("string"))
    assert of([[1]], List(Value("int8"), length=1)) == of([[1]], List(Value("int64")))
    assert of([b"a"], Value("large_binary")) == of([b"a"], Value("binary"))
    times = [datetime(2024, 2, 29, 12, 30, 0, 1000)]
    assert len({*of(times, Value("timestamp[ms]")), *of(times, Value("timestamp[us]"))}) == 1
    assert len({*of(times, Value("timestamp[us]")), *of(times, Value("timestamp[ns]"))}) == 1
    assert of([timedelta(seconds=90)], Value("duration[us]")) == of([timedelta(seconds=90)], Value("duration[us]"))


def test_the_order_and_number_of_rows_is_the_dataset_s_own(monkeypatch):
    ds = Dataset.from_dict({"n": list(range(10))})
    plain = hexdigests(ds)
    assert plain == [sha256(f'{{"n":{n}}}') for n in range(10)]
    monkeypatch.setattr(hashing, "BATCH_ROWS", 3)  # in batches that do not divide
    assert hexdigests(ds) == plain
    assert hexdigests(ds.select([7, 2, 2])) == [plain[7], plain[2], plain[2]]
    assert hexdigests(ds.select(range(4, 6))) == plain[4:6]
    shuffled = ds.shuffle(seed=1)
    assert hexdigests(shuffled) == [plain[n] for n in shuffled["n"]] != plain
    assert hexdigests(ds.with_format("numpy")) == plain
    assert row_digests(ds.select([])).shape == (0, 32) and row_digests(ds).dtype == np.uint8


def pictures(folder):
    """Two picture files below `folder`, and their bytes."""
    folder.mkdir()
    for name, color in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        Picture.new("RGB", (2, 2), color).save(folder / f"{name}.png")
    files = [folder / "red.png", folder / "blue.png"]
    return [str(file) for file in files], [file.read_bytes() for file in files]


@pytest.mark.parametrize("shape", ["plain", "list", "nested"])
def test_of_a_picture_the_content_counts_and_not_the_place(tmp_path, shape):
    paths, contents = pictures(tmp_path / "one")
    elsewhere, _ = pictures(tmp_path / "other")
    type = {"plain": Image(), "list": List(Image()), "nested": {"x": Image(), "n": Value("int64")}}[shape]
    put = {"plain": lambda v: v, "list": lambda v: [v, None], "nested": lambda v: {"x": v, "n": 1}}[shape]
    written = {"plain": '"{}"', "list": '["{}",null]', "nested": '{{"n":1,"x":"{}"}}'}[shape]
    expected = [sha256(f'{{"v":{written.format(sha256(content))}}}') for content in contents]
    embedded = [{"bytes": content, "path": "any.png"} for content in contents]
    for given_as in (paths, elsewhere, embedded, [{"bytes": content} for content in contents]):
        given_as = [item if isinstance(item, str) else {"path": None} | item for item in given_as]
        assert of([put(item) for item in given_as], type) == expected
    assert of([None], type) == [sha256('{"v":null}')]


def test_json_values_and_arrays_have_digests_too():
    assert digest_of({"b": [1, None], "a": "ü"}) == sha256('{"a":"ü","b":[1,null]}')
    assert digest_of(np.array([1, 2], "<i8")) == sha256(b"\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0")
    assert digest_of([1, 2]) != digest_of([2, 1])


words = st.one_of(
    st.none(), st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["\x00", "\ufeffa", "é", "é"])
)
drawn = st.fixed_dictionaries(
    {
        "text": words,
        "whole": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "number": st.one_of(st.none(), st.floats()),
        "list": st.one_of(st.none(), st.lists(words, max_size=3)),
        "data": st.one_of(st.none(), st.binary(max_size=5)),
        "turns": st.lists(st.fixed_dictionaries({"role": words, "n": st.floats(width=32)}), max_size=2),
    }
)
TYPES = {"text": Value("string"), "whole": Value("int64"), "number": Value("float64"), "list": List(Value("string"))}
TYPES |= {"data": Value("binary"), "turns": List({"role": Value("string"), "n": Value("float32")})}


@thoroughly
@given(rows=st.lists(drawn, min_size=1, max_size=4))
def test_digests_survive_a_file(rows):
    ds = Dataset.from_list(rows, features=Features(TYPES))
    sink = pa.BufferOutputStream()
    pq.write_table(ds.with_format("arrow")[:], sink)
    table = pq.read_table(pa.BufferReader(sink.getvalue()))
    read = Features.from_arrow_schema(table.schema)
    assert [bytes(row).hex() for row in digests_of(table, read)] == hexdigests(ds)
    assert len(set(hexdigests(ds))) == len({repr(row) for row in ds})
