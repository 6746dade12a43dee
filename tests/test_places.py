"""Where rows come from: files of every type, hostile names, folders, and datasets on the Hub."""

import json

import pytest
from datasets import Dataset, DatasetDict

from hf_sae_select._places import Place
from hf_sae_select.cli.terminal import printable

ROWS = [{"text": "a", "n": 1}, {"text": "b", "n": 2}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def load(text, **hub):
    return Place.parse("dataset", str(text), **hub).resolved().load("dataset")


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.json", "rows.csv", "ROWS.JSONL"])
def test_files_are_read_by_their_suffix(tmp_path, name):
    rows = Dataset.from_list(ROWS)
    file = tmp_path / name
    if name.endswith("parquet"):
        rows.to_parquet(file)
    elif name.endswith("csv"):
        rows.to_csv(file, index=False)
    else:
        file.write_bytes(json.dumps(ROWS).encode() if name.endswith(".json") else LINES)
    assert load(file).to_list() == ROWS


def test_a_line_of_a_text_file_is_a_row(tmp_path):
    (tmp_path / "rows.txt").write_text("first\nsecond\n")
    assert load(tmp_path / "rows.txt")["text"] == ["first", "second"]


@pytest.mark.parametrize("name", ["a[1].jsonl", "*.jsonl", "?.jsonl", "ä #%20.jsonl", "a b.jsonl", "\x1b[2J.jsonl"])
def test_a_name_is_no_pattern(tmp_path, name):
    (tmp_path / name).write_bytes(LINES)
    (tmp_path / "other.jsonl").write_text('{"text": "c"}\n')
    assert load(tmp_path / name).to_list() == ROWS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.xlsx", b"PK", "'.xlsx' is not read; pass .parquet"),
        ("rows.parquet", b"PAR0", "cannot be read as parquet"),
        ("rows.parquet", b"", "has no rows: the file is empty"),
        ("rows.txt", b"", "has no rows: the file is empty"),
        ("rows.json", b"[]", "has no rows"),
        ("rows.jsonl", b"\n\n", "has no rows"),
        ("rows.jsonl", b"{", "cannot be read as json"),
        ("a::b.jsonl", LINES, "rename the file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name)


def test_folders_of_save_to_disk(tmp_path):
    rows = Dataset.from_list(ROWS)
    rows.save_to_disk(tmp_path / "one")
    DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "two")
    assert load(tmp_path / "one").to_list() == ROWS
    assert load(tmp_path / "two", split="test").to_list() == ROWS[:1]
    with pytest.raises(ValueError, match="has several splits; pass `--split` with one of: train, test"):
        load(tmp_path / "two")
    with pytest.raises(ValueError, match="has no split 'dev'; pass `--split` with one of: train, test"):
        load(tmp_path / "two", split="dev")


@pytest.mark.parametrize(
    ("text", "hub"), [("rows.parquet", {}), ("a/b/c", {}), ("./a", {}), ("a b", {}), ("a/b:x:y.csv", {})]
)
def test_what_is_no_place(text, hub):
    with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
        Place.parse("dataset", text, **hub)


def test_options_of_the_hub_are_not_for_files(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    for name in ("split", "config_name", "revision"):
        with pytest.raises(ValueError, match=f"`{name}='x'"):
            load(tmp_path / "rows.jsonl", **{name: "x"})


def test_the_hub(hub):
    first = hub.push("alice/rows", {"train.jsonl": LINES, "test.jsonl": LINES[: len(LINES) // 2]}, kind="dataset")
    assert load("alice/rows:train").to_list() == ROWS
    assert load("alice/rows", split="test").to_list() == ROWS[:1]
    place = Place.parse("dataset", "alice/rows:train", revision="main").resolved()
    assert place == Place("alice/rows", "train", None, first)
    with pytest.raises(ValueError, match="has several splits; pass `--split`"):
        load("alice/rows")
    with pytest.raises(ValueError, match="names a split, and `split='test'` another"):
        load("alice/rows:train", split="test")
    with pytest.raises(FileNotFoundError, match="is neither a local folder nor a Hub repo"):
        load("alice/none")
    with pytest.raises(FileNotFoundError, match="has no revision 'none'"):
        load("alice/rows", revision="none")


def test_what_is_printed_moves_no_cursor():
    assert printable("a\x1b[2J\rb\n\tc\u202ed\x9b") == "a\ufffd[2J\ufffdb\n\tc\ufffdd\ufffd"
