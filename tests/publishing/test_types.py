"""Columns of every type: staged, verified and read back as they were, or refused by name before a folder appears."""

from decimal import Decimal

import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets import (
    Array2D,
    ClassLabel,
    Dataset,
    Features,
    Image,
    Json,
    List,
    Translation,
    TranslationVariableLanguages,
    concatenate_datasets,
    load_dataset,
)
from helpers.forge import RECORD
from helpers.pools import coded
from packaging.version import Version

from hf_sae_select import stage, verify
from hf_sae_select.publishing.hashing import digests_of, row_digests

FAR = 1_700_000_000_000  # milliseconds, taken for seconds: the year 55840


def typed(type, *values):
    return Dataset.from_dict({"v": list(values)}, Features({"v": type}))


def arrow(type, *values):
    values = [*values, None][:3] if len(values) < 3 else values
    return Dataset(pa.table({"v": pa.array(values, type)}))


NOT_UNICODE = pa.array([b"\xed\xa0\x80"] * 3).view(pa.string())  # lone surrogates, which Python's own texts may have

TAKEN = {
    "seconds that are milliseconds": arrow(pa.timestamp("s"), FAR, 0, None),
    "milliseconds that are microseconds": arrow(pa.timestamp("ms"), FAR * 10**5, 0, None),
    "microseconds, the largest": arrow(pa.timestamp("us"), 2**63 - 1, -(2**63) + 1, None),
    "nanoseconds, the least": arrow(pa.timestamp("ns"), -(2**63) + 1, 1, None),
    "a time zone": arrow(pa.timestamp("us", "Europe/Berlin"), FAR * 10**6, 0, None),
    "a time zone that nobody knows": arrow(pa.timestamp("us", "Mars/Olympus"), 1, 0, None),
    "a day before year 1": arrow(pa.date32(), -800_000, 0, None),
    "a long duration": arrow(pa.duration("us"), 2**62, 1, None),
    "nanoseconds of a day": arrow(pa.time64("ns"), 1_234_567_891, 1, None),
    "times in a struct": arrow(
        pa.struct({"a": pa.list_(pa.timestamp("us")), "b": pa.date32()}),
        {"a": [2**62, 0], "b": 1},
        {"a": [], "b": -(10**6)},
    ),
    "string_view": arrow(pa.string_view(), "a", "a", None),
    "binary_view": arrow(pa.binary_view(), b"a", b"\xff", None),
    "large_string": arrow(pa.large_string(), "a", "", None),
    "large_list": arrow(pa.large_list(pa.int64()), [1], [], None),
    "a list of nothing": arrow(pa.list_(pa.null()), [None], [], None),
    "nothing": arrow(pa.null(), None, None, None),
    "a dictionary": Dataset(pa.table({"v": pa.array(["a", "b", "a"]).dictionary_encode()})),
    "decimals": arrow(pa.decimal256(40, 5), Decimal("1.5"), Decimal("-0.00001"), None),
    "numbers that are none": arrow(pa.float64(), float("nan"), float("-inf"), -0.0),
    "half floats": Dataset(pa.table({"v": pa.array(np.array([1, np.nan, 65504], np.float16))})),
    "the largest integer": arrow(pa.uint64(), 2**64 - 1, 0, None),
    "truth values": arrow(pa.bool_(), True, False, None),
    "a field that is always null": Dataset.from_list(
        [{"v": {"a": "x", "b": {"c": None}}}, {"v": None}, {"v": {"a": ""}}]
    ),
    "turns with a field that is always null": Dataset.from_list(
        [{"v": [{"role": "user", "content": text, "tool_calls": None}] * 2} for text in ("a", "", "b")]
    ),
    "a struct with nulls": Dataset.from_list([{"v": {"a": 1, "b": {"c": "x"}}}, {"v": {"a": None}}, {"v": {"a": 2}}]),
    "a label that is none": typed(ClassLabel(names=["a", "b"]), 0, 1, -1),
    "a matrix": typed(Array2D((2, 2), "float32"), [[1, 2], [3, 4]], None, [[5, 6], [7, 8]]),
    "translations": typed(Translation(["en", "de"]), *[{"en": "a", "de": "b"}] * 3),
    "several translations": typed(TranslationVariableLanguages(["en", "de"]), *[{"en": "a", "de": ["b", "c"]}] * 3),
    "an image": typed(Image(), *[{"bytes": b"x", "path": None}] * 3),
    "lists of images": typed(List(Image()), [{"bytes": b"x", "path": None}], [], None),
    "any JSON": typed(Json(), {"a": 1}, [1, "b"], None),
    "turns of several forms": typed(
        List(Json()), [{"role": "user", "content": "a"}], [{"role": "assistant", "tool_calls": [{"id": 1}]}], None
    ),
}
if Version(datasets.__version__) >= Version("5.1"):  # 5.0 has no type for them
    TAKEN["bytes of fixed length"] = arrow(pa.binary(2), b"ab", b"\x00\xff", None)
if Version(pa.__version__) >= Version("26"):  # earlier ones cannot read nulls among them in Parquet; `verify` says so
    TAKEN["a list of fixed length"] = arrow(pa.list_(pa.int64(), 2), [1, 2], [3, None], None)
REFUSED = {
    "empty structs": (Dataset.from_list([{"v": {}}] * 3), "column `v` is of type struct<>, which Parquet cannot hold"),
    "empty structs within": (Dataset.from_list([{"v": [{"a": {}}]}] * 3), "column `v` is of type list<"),
    "lists of length 0": (arrow(pa.list_(pa.int64(), 0), [], [], None), "column `v` is of type fixed_size_list<"),
    "lists of length 0 within": (
        arrow(pa.struct({"a": pa.list_(pa.list_(pa.int8(), 0))}), {"a": [[]]}, {"a": []}, None),
        "column `v` is of type struct<a: list<",
    ),
    "a negative scale": (
        arrow(pa.decimal128(5, -2), Decimal(100), Decimal(200), None),
        "column `v` is of type decimal",
    ),
    "text that is no Unicode": (Dataset(pa.table({"v": NOT_UNICODE})), "column `v` holds a value that cannot be read"),
}
if Version(pa.__version__) >= Version("25"):  # earlier ones write other times without an error
    REFUSED["seconds beyond milliseconds"] = (arrow(pa.timestamp("s"), 2**60, 0, None), "column `v` of type timestamp")


def subset_of(column):
    pool = coded([{0: 0.9}, {1: 0.9}, {2: 0.9, 3: 0.9}], record=RECORD)
    return concatenate_datasets([pool, column], axis=1).sae_select(3, "greedy", seed=None)


@pytest.mark.parametrize("name", TAKEN)
def test_a_column_is_staged_verified_and_read_back(tmp_path, name):
    subset = subset_of(TAKEN[name])
    folder = stage(subset, tmp_path / "staged", license="mit")
    verification = verify(folder, "select")
    assert verification, str(verification)
    again = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "again"))
    if not name.startswith("seconds"):  # Parquet has none
        assert again.features["v"] == subset.features["v"]
        read, written = (row_digests(rows.select_columns(["v"])).tolist() for rows in (again, subset))
        assert read == written


@pytest.mark.parametrize("name", REFUSED)
def test_a_column_is_refused_by_name_and_nothing_is_left(tmp_path, name):
    column, message = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        stage(subset_of(column), tmp_path / "staged", license="mit")
    assert str(caught.value).startswith(message) and "before you select" in str(caught.value)
    assert list(tmp_path.iterdir()) == [] or [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_the_digest_of_a_row_is_that_of_its_values():
    texts = ["a", None, "ü" * 20]
    types = (pa.string(), pa.large_string(), pa.string_view())
    digests = [row_digests(arrow(type, *texts)).tolist() for type in types]
    chunked = Dataset(pa.table({"v": pa.chunked_array([texts[:1], texts[1:]])}))
    assert digests[0] == digests[1] == digests[2] == row_digests(chunked).tolist()


def test_the_digest_of_a_row_does_not_depend_on_other_rows():
    table = pa.table({"v": pa.array([FAR, 0, 1], pa.timestamp("s")), "day": pa.array([1, 2, 3], pa.date32())})
    alone = [digests_of(table.slice(i, 1), {}).tolist()[0] for i in range(3)]
    assert digests_of(table, {}).tolist() == alone and len({bytes(digest) for digest in alone}) == 3
