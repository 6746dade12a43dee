"""Labels: names, words and scores of features, in memory and as a file that may be anybody's."""

import json
import math
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_sae_select import load_labels
from hf_sae_select.sae.label_file import SCHEMA
from hf_sae_select.sae.labels import Example, Label, Labels, labels_of
from hf_sae_select.sae.labels_beside import KEY

HOSTILE = '<script>alert(1)</script> [x](http://e.vil) ](x) "`$(rm)`'
CATS = Label(1, "cat, cats", ("cat", "cats"), 0.875, (0.75, 1.0), 0.25, (Example("A cat sat.", ((2, 5),), 3.5),))
COOKS = Label(3, "cookies", ("cookie", "cook book"), 0.75, (0.5, 0.875), 0.125)
COOK = Label(4, "", ("cook",), 0.5, (0.25, 0.75), 0.5)


def labels(*more, **options):
    return Labels([CATS, COOKS, COOK, *more], 8, **{"sae_sha256": "ab" * 32, "metadata": {"rows": 7}} | options)


def test_a_feature_has_a_name_a_title_and_its_label():
    made = labels()
    assert (made.name(1), made.title(1), made[1]) == ("cat, cats", "#1 cat, cats", CATS)
    assert (made.name(4), made.title(4), made.title(0)) == ("", "#4", "#0")
    assert made[0].words == () and math.isnan(made[0].score)
    assert len(made) == 8 and [label.feature for label in made] == list(range(8))
    assert made.named == [1, 3] and repr(made) == "Labels(2 of 8 features have names)"


def test_a_feature_that_the_sae_lacks_is_an_index_error():
    for feature in (8, -1):
        with pytest.raises(IndexError, match=rf"{feature}: the SAE has d_sae=8"):
            labels().name(feature)


def test_find_has_whole_words_first_and_knows_no_case():
    assert labels().find("COOK ") == [4, 3]
    assert labels().find("cat") == [1]
    assert labels().find("dog") == []
    with pytest.raises(ValueError, match="`text=' '` is empty"):
        labels().find(" ")


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"d_sae": 16}, "d_sae=8, but the SAE in use has d_sae=16"),
        ({"d_sae": 8, "sae_sha256": "cd" * 32}, "another SAE of the same width"),
    ],
)
def test_codes_of_another_sae_are_refused(record, problem):
    with pytest.raises(ValueError, match=problem):
        labels().check(record)


def test_codes_of_the_same_sae_pass():
    labels().check({"d_sae": 8, "sae_sha256": "ab" * 32})
    labels().check({"d_sae": 8})
    labels(sae_sha256=None).check({"d_sae": 8, "sae_sha256": "cd" * 32})


@pytest.mark.parametrize("name", ["labels.parquet", "mine.parquet", "."])
def test_what_is_saved_is_loaded(tmp_path, name):
    hostile = Label(5, HOSTILE, (HOSTILE, "naïve", "日本"), examples=(Example(f"\x00\n{HOSTILE}", ((0, 1),)),))
    labels(hostile).save(tmp_path / name)
    loaded = load_labels(tmp_path / name)
    assert loaded == labels(hostile)
    assert loaded[5].examples[0].text == f"\x00\n{HOSTILE}" and loaded[5].name == HOSTILE
    assert (loaded.d_sae, loaded.sae_sha256, loaded.metadata) == (8, "ab" * 32, {"rows": 7})


def test_the_same_labels_are_the_same_bytes(tmp_path):
    labels().save(tmp_path / "a.parquet")
    Labels([COOK, COOKS, CATS], 8, "ab" * 32, {"rows": 7}).save(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_names_of_files_become_one_line_without_control_characters(tmp_path):
    write(tmp_path / "labels.parquet", name=["a\nb\x1b[31m\u202ec", "x" * 5000])
    loaded = Labels.load(tmp_path)
    assert loaded.name(0) == "a b\ufffd[31m\ufffdc"
    assert loaded.name(1) == "x" * 199 + "…"


def write(file, own=None, **columns):
    """Write a file of two labels as another program might."""
    table = {"feature": [0, 1], "name": ["a", "b"], "words": [["a"], ["b"]], "score": [0.5, None]}
    table |= {"low": [0.25, None], "high": [1.0, None], "frequency": [0.5, 0.5], "examples": [[], None]} | columns
    own = {"d_sae": 4, "sae_sha256": None, "metadata": {}} if own is None else own
    metadata = {KEY: own if isinstance(own, bytes) else json.dumps(own).encode()}
    pq.write_table(
        pa.table({name: cells for name, cells in table.items() if cells}).replace_schema_metadata(metadata), file
    )


def test_plain_columns_of_another_program_are_read(tmp_path):
    write(tmp_path / "labels.parquet")
    loaded = Labels.load(tmp_path / "labels.parquet")
    assert [loaded.name(i) for i in range(4)] == ["a", "b", "", ""]
    assert loaded[0].interval == (0.25, 1.0) and math.isnan(loaded[1].score)


EXAMPLE = {"text": "cat", "spans": [{"start": 0, "end": 9}], "activation": 1.0}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"score": [1.5, 0.5]}, "score"),
        ({"score": [math.inf, 0.5]}, "score"),
        ({"frequency": [-0.5, 0.5]}, "frequency"),
        ({"low": [0.75, None], "high": [0.5, None]}, r"`interval=\(0.75, 0.5\)` of feature 0 ends before it begins"),
        ({"words": [[None], ["b"]]}, "`words=None` must be a string"),
        ({"examples": [[None], []]}, "`examples` of feature 0 has an entry that is no example"),
        ({"examples": [[EXAMPLE | {"spans": None}], []]}, "`spans=None` of an example"),
        ({"examples": [[EXAMPLE | {"spans": [{"start": 0, "end": None}]}], []]}, r"`spans=\(\(0, None\),\)`"),
        ({"examples": [[EXAMPLE | {"spans": [], "activation": math.inf}], []]}, "`activation=inf` of an example"),
        ({"feature": [0, 9]}, "9"),
        ({"feature": [1, 1]}, "two labels of feature 1"),
        ({"feature": [-1, 1]}, "-1"),
        ({"name": [1, 2], "words": ["a", "b"]}, "words|list"),
        ({"name": []}, "name"),
        ({"words": [["a"] * 100, ["b"]]}, "`words` of feature 0 has 100 entries"),
        ({"examples": [[EXAMPLE], []]}, "span"),
        ({"own": b"no JSON"}, "."),
        ({"own": {"d_sae": 2**40, "sae_sha256": None, "metadata": {}}}, "d_sae"),
        ({"own": {"d_sae": "4", "sae_sha256": None, "metadata": {}}}, "d_sae"),
        ({"own": {"d_sae": 4, "sae_sha256": 5, "metadata": {}}}, "sae_sha256"),
        ({"own": {"d_sae": 4, "sae_sha256": None, "metadata": []}}, "metadata"),
        ({"own": {}}, "d_sae"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_file_that_holds_no_labels_is_refused_by_name(tmp_path, change, problem):
    write(tmp_path / "labels.parquet", **change)
    with pytest.raises(ValueError, match=rf"(?s)labels\.parquet holds no labels.*({problem})"):
        Labels.load(tmp_path)


def test_a_file_with_more_rows_than_features_is_refused_before_it_is_read(tmp_path, monkeypatch):
    write(tmp_path / "labels.parquet", own={"d_sae": 1, "sae_sha256": None, "metadata": {}})
    monkeypatch.delattr("hf_sae_select.sae.label_file.read_table")
    with pytest.raises(ValueError, match=r"labels\.parquet holds no labels.*2 rows, more than d_sae=1"):
        Labels.load(tmp_path)


@pytest.mark.parametrize("spans", [None, 5, ((0, 9),), (None,), ((0,),), ((0, 1.5),)], ids=str)
def test_spans_of_an_example_are_checked(spans):
    with pytest.raises(ValueError, match=f"`spans={re.escape(str(spans))}` of an example must be pairs"):
        Example("cat", spans)
    with pytest.raises(ValueError, match="`examples` of feature 0 has an entry that is no example"):
        Label(0, examples=(None,))


def test_bytes_that_are_no_parquet_are_refused(tmp_path):
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(ValueError, match=r"labels\.parquet holds no labels"):
        Labels.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file labels\.parquet"):
        Labels.load(tmp_path / "nowhere" / "labels.parquet")


def test_a_file_without_our_metadata_is_refused(tmp_path):
    pq.write_table(pa.Table.from_pylist([], SCHEMA), tmp_path / "labels.parquet")
    with pytest.raises(ValueError, match="holds no labels"):
        Labels.load(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "two\nlines"},
        {"name": "x" * 300},
        {"name": None},
        {"words": ("a\x00",)},
        {"score": 2},
        {"score": True},
        {"interval": (0.5, 2.0)},
        {"interval": (0.9, 0.1)},
        {"words": (None,)},
        {"frequency": "often"},
        {"feature": -1},
    ],
    ids=str,
)
def test_a_label_is_checked(values):
    name = next(iter(values))
    with pytest.raises(ValueError, match=f"`{name}="):
        Label(**{"feature": 0} | values)


def test_labels_are_checked():
    with pytest.raises(ValueError, match="feature 8, but the SAE has d_sae=8"):
        labels(Label(8))
    with pytest.raises(ValueError, match="two labels of feature 1"):
        labels(Label(1))
    with pytest.raises(ValueError, match="`metadata`"):
        labels(metadata={"a": math.nan})
    with pytest.raises(TypeError, match="`sae_sha256=5`"):
        labels(sae_sha256=5)


def test_codes_of_any_other_sae_have_no_packaged_labels():
    assert labels_of({"d_sae": 8192, "sae_sha256": "ab" * 32}) is None
    assert labels_of({}) is None
