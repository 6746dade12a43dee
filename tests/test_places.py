"""Where rows come from: files of every type, hostile names, folders, and datasets on the Hub."""

import json
import re

import pytest
from datasets import Dataset, DatasetDict
from helpers.pools import coded
from huggingface_hub import constants

import hf_sae_select
from hf_sae_select._places import Place
from hf_sae_select.cli.terminal import printable

ROWS = [{"text": "a", "n": 1}, {"text": "b", "n": 2}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def load(text, **hub):
    return Place.parse("dataset", str(text), **hub).resolved("dataset").load("dataset")


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
    with pytest.raises(ValueError, match="has several splits; name one of: train, test, such as"):
        load(tmp_path / "two")
    with pytest.raises(ValueError, match="has no split 'dev'; name one of: train, test, such as"):
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
    place = Place.parse("dataset", "alice/rows:train", revision="main").resolved("dataset")
    assert place == Place("alice/rows", "train", None, first)
    with pytest.raises(ValueError, match="has several splits; name one of"):
        load("alice/rows")
    with pytest.raises(ValueError, match="names a split, and `split='test'` another"):
        load("alice/rows:train", split="test")
    with pytest.raises(FileNotFoundError, match="is neither a local folder nor a Hub repo"):
        load("alice/none")
    with pytest.raises(FileNotFoundError, match="has no revision 'none'"):
        load("alice/rows", revision="none")


def test_what_is_printed_moves_no_cursor():
    assert printable("a\x1b[2J\rb\n\tc\u202ed\x9b") == "a\ufffd[2J\ufffdb\n\tc\ufffdd\ufffd"


def test_a_folder_of_files_and_a_pattern_are_read_in_the_order_of_their_names(tmp_path):
    for name, row in (("b", 1), ("a", 0)):
        Dataset.from_list([ROWS[row]]).to_parquet(tmp_path / "data" / f"{name}.parquet")
    assert load(tmp_path / "data").to_list() == ROWS
    assert load(tmp_path / "data" / "*.parquet").to_list() == ROWS
    assert load(tmp_path / "data" / "*").to_list() == ROWS
    assert load(tmp_path / "data" / "b*.parquet").to_list() == ROWS[1:]


def test_a_folder_may_name_its_split(tmp_path):
    rows = Dataset.from_list(ROWS)
    DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "two")
    assert load(f"{tmp_path / 'two'}:test").to_list() == ROWS[:1]


def test_files_of_several_schemas_are_named(tmp_path):
    Dataset.from_list(ROWS).to_parquet(tmp_path / "a.parquet")
    Dataset.from_list([{"weight": 1.5}]).to_parquet(tmp_path / "b.parquet")
    for place in (tmp_path, tmp_path / "*.parquet"):
        with pytest.raises(ValueError, match=r"`dataset=.*: the files do not have one schema .*pattern"):
            load(place)


@pytest.mark.parametrize(
    ("suffix", "content"), [(".parquet", b"PAR0PAR0PAR0"), (".jsonl", b'{"text": "a"'), (".csv", b'text\n"a')]
)
def test_of_many_files_the_damaged_one_is_named(tmp_path, suffix, content):
    rows = Dataset.from_list(ROWS)
    for name in ("a", "c"):
        getattr(rows, {".parquet": "to_parquet", ".jsonl": "to_json", ".csv": "to_csv"}[suffix])(
            tmp_path / (name + suffix)
        )
    (tmp_path / f"b{suffix}").write_bytes(content)
    for place in (tmp_path, tmp_path / f"*{suffix}"):
        with pytest.raises(ValueError, match=rf"`dataset=.*cannot be read in .*b\{suffix}: "):
            load(place)


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ("train.parquet", "more.parquet"),
        ("a.parquet", "sub/b.PARQUET"),
        ("part_test_1.parquet", "part_2.parquet"),
    ],
)
def test_files_of_a_folder_that_datasets_leaves_out_are_named(tmp_path, taken, left):
    for name in (taken, left, ".hidden.parquet", "__pycache__/c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Dataset.from_list(ROWS).to_parquet(tmp_path / name)
    with pytest.warns(UserWarning, match=rf"1 files were left out, such as '{left}': .* by a pattern such as"):
        assert load(tmp_path).num_rows == 2


def test_what_is_beside_the_rows_of_a_folder_is_no_loss(tmp_path):
    Dataset.from_list(ROWS).to_parquet(tmp_path / "a.parquet")
    for name in ("LICENSE.txt", "README.md", "config.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "none.parquet")
    assert load(tmp_path).num_rows == 2


def test_files_of_other_configs_are_no_loss(tmp_path):
    for name in ("en", "fr"):
        (tmp_path / name).mkdir()
        Dataset.from_list(ROWS).to_parquet(tmp_path / name / "rows.parquet")
    configs = [f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("en", "fr")]
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs[0]}  default: true\n{configs[1]}---\n")
    assert load(tmp_path).num_rows == 2


def test_a_saved_folder_that_is_damaged_or_lacks_the_split_is_named(tmp_path):
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved").to_list() == ROWS
    with pytest.raises(ValueError, match=r"`dataset=.*saved'` has no splits, and 'no' is named; leave ':no' out"):
        load(f"{tmp_path / 'saved'}:no")
    for name in ("data-00000-of-00001.arrow", "state.json"):
        (tmp_path / "saved" / name).write_text("{")
        with pytest.raises(ValueError, match=r"`dataset=.*saved'` is a folder of `save_to_disk`, and cannot be read"):
            load(tmp_path / "saved")


def test_files_and_folders_without_rows_are_named(tmp_path):
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "a.jsonl").write_text("\n")
    (tmp_path / "blank").mkdir()
    Dataset.from_list(ROWS).select([]).to_parquet(tmp_path / "blank" / "a.parquet")
    for place in ("lines", "lines/*.jsonl", "blank", "blank/*.parquet"):
        with pytest.raises(ValueError, match=rf"`dataset='.*{re.escape(place)}'` has no rows"):
            load(tmp_path / place)


@pytest.mark.parametrize("name", ["rows[1]", "a::b", "rows*"])
def test_a_folder_that_datasets_cannot_read_by_its_name_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    Dataset.from_list(ROWS).to_parquet(tmp_path / name / "a.parquet")
    with pytest.raises(ValueError, match=r"datasets does not read a folder whose name has .*; rename it"):
        load(tmp_path / name)


def test_a_name_that_is_neither_here_nor_on_the_hub_is_named(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("nosuch", "alice/nosuch"):
        with pytest.raises(OSError, match=rf"`dataset='{name}'`: .* not in the cache .*; there is no folder '{name}'"):
            load(name)


def test_the_root_of_the_disk_holds_no_rows():
    with pytest.raises(FileNotFoundError, match=r"`dataset='/'` is the root of the disk; pass a folder of rows in it"):
        load("/")


def test_damaged_files_empty_folders_and_mixed_types_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"`dataset=.*empty'`: no files of rows are there"):
        load(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"no file of this pattern"):
        load(tmp_path / "empty" / "*.parquet")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.parquet").write_bytes(b"PAR0PAR0PAR0")
    for place in (tmp_path / "bad", tmp_path / "bad" / "*.parquet"):
        with pytest.raises(ValueError, match=r"`dataset=.*cannot be read"):
            load(place)
    (tmp_path / "bad" / "a.csv").write_text("text\na\n")
    with pytest.raises(ValueError, match=r"several types \(.csv, .parquet\)"):
        load(tmp_path / "bad" / "*")


def test_files_that_a_folder_leaves_out_are_named(tmp_path, monkeypatch):
    Dataset.from_list(ROWS).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_bytes(LINES)
    (tmp_path / "README.md").write_text("of no rows")
    (tmp_path / "sae_encoding.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"1 files were left out, such as 'b.jsonl': of a folder"):
        assert load(tmp_path).to_list() == ROWS
    (tmp_path / "b.jsonl").unlink()
    monkeypatch.chdir(tmp_path)
    assert load(".").to_list() == ROWS


@pytest.mark.parametrize("text", ["", " "])
def test_a_text_that_names_nothing_is_refused(text):
    with pytest.raises(ValueError, match=rf"`dataset='{text}'` names no rows; pass a file, a pattern, a folder"):
        load(text)


def test_urls_of_the_hub(hub):
    first = hub.push("alice/rows", {"data/a.jsonl": LINES, "data/b.jsonl": LINES, "old.jsonl": LINES}, kind="dataset")
    assert load("hf://datasets/alice/rows/data/a.jsonl").to_list() == ROWS
    assert load("hf://datasets/alice/rows/data/*.jsonl").to_list() == ROWS * 2
    assert load("hf://datasets/alice/rows/data").to_list() == ROWS * 2
    assert load(f"hf://datasets/alice/rows@{first}/data/a.jsonl:train").to_list() == ROWS
    assert Place.parse("dataset", "hf://datasets/alice/rows@main").resolved("dataset") == Place(
        "alice/rows", revision=first
    )
    for url in ("hf://datasets/alice", "hf://alice/rows", "hf://datasets/alice/rows/../../x.jsonl", "hf://models/a/b"):
        with pytest.raises(ValueError, match=rf"`dataset='{url}'` is no URL of rows"):
            load(url)
    with pytest.raises(FileNotFoundError, match="is neither a local folder nor a Hub repo"):
        load("hf://datasets/alice/none")
    with pytest.raises(FileNotFoundError, match="`dataset='alice/rows'`: no files of rows are there"):
        load("hf://datasets/alice/rows/none/*.jsonl")


@pytest.mark.parametrize("status", [None, 401, 403])
def test_a_bucket_that_cannot_be_read_is_named(hub, status):
    if status is not None:
        hub.fail(None, "buckets", status, times=100)
    with pytest.raises(
        OSError, match=r"`dataset='hf://buckets/alice/pool/\*.parquet'`: the bucket does not exist, or your token"
    ):
        load("hf://buckets/alice/pool/*.parquet")
    with pytest.raises(ValueError, match="`revision='main'` is of a Hub dataset"):
        load("hf://buckets/alice/pool/*.parquet", revision="main")


def test_a_repo_cannot_name_files_of_this_disk(hub, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    card = f"---\nconfigs:\n- config_name: default\n  data_files: {tmp_path / 'secret.txt'}\n---\n"
    hub.push("alice/rows", {"README.md": card.encode(), "a.txt": b"a\n"}, kind="dataset")
    with pytest.raises(ValueError, match="Data files don't belong to alice/rows"):
        load("hf://datasets/alice/rows")


def test_the_functions_take_places(tmp_path, sae):
    Dataset.from_dict({"text": ["the cat", "a dog ran", "the cat"]}).to_parquet(tmp_path / "rows.parquet")
    place = tmp_path / "rows.parquet"
    expected = load(place).sae_select(2, sae=sae)
    for name in (place, str(place), str(tmp_path / "*.parquet")):
        assert hf_sae_select.select(name, 2, sae=sae).to_list() == expected.to_list()
    assert hf_sae_select.encode(place, sae).to_list() == load(place).sae_encode(sae).to_list()
    assert (
        hf_sae_select.compare(place, 2, sae=sae).index.tolist() == load(place).sae_compare(2, sae=sae).index.tolist()
    )
    with pytest.raises(FileNotFoundError, match=r"`dataset='no-such\.parquet'`"):
        hf_sae_select.select("no-such.parquet", 2)


def test_codes_survive_a_place(tmp_path):
    encoded = coded([{0: 0.9}, {1: 0.9, 2: 0.9}])
    encoded.to_parquet(tmp_path / "coded.parquet")
    assert hf_sae_select.select(tmp_path / "coded.parquet", 1, "greedy")["text"] == ["row 1"]
