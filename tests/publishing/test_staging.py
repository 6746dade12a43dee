"""What `stage` writes into a folder, and what it refuses to write; nothing is sent."""

import hashlib
import json
import shutil
import sys
from datetime import date
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio, ClassLabel, Dataset, Features, concatenate_datasets, load_dataset, load_from_disk
from helpers import tiny
from helpers.forge import RECORD
from helpers.pools import coded
from hub.metadata import problems
from huggingface_hub import DatasetCard

from hf_sae_select import SaeConfig, Selection, push, stage, verify
from hf_sae_select.publishing import hashing, part, staging, tables
from hf_sae_select.selection.attachment import attach, pool_of

ROWS = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}]  # above 0.5: {0} {2 3} {0 1 2} {}
FILES = ["README.md", "coverage.png", "data/train-00000.parquet", "pool.parquet", "provenance.json"]
FILES += ["selection.parquet"]


def picked(budget=3, method="greedy", *, rows=ROWS, **options):
    return coded(rows, record=RECORD).sae_select(budget, method, seed=None, **options)


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rows_of(folder):
    files = {"train": str(folder / "data" / "*.parquet")}
    return load_dataset("parquet", data_files=files, split="train")


def test_the_folder_holds_what_the_repo_will_hold_and_nothing_else(tmp_path):
    folder = stage(picked(), tmp_path / "new" / "folder", license="mit")
    assert folder == tmp_path / "new" / "folder"
    assert sorted(contents(folder)) == FILES
    assert [item.name for item in folder.parent.iterdir()] == ["folder"]
    assert contents(folder)["coverage.png"].startswith(b"\x89PNG")
    recorded = json.loads((folder / "provenance.json").read_text())["files"]
    assert sorted(recorded) == sorted(set(FILES) - {"README.md", "provenance.json"})
    for name, about in recorded.items():
        data = contents(folder)[name]
        assert about == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert verify(folder)


def test_staged_twice_it_is_the_same_byte_by_byte(tmp_path):
    subset = picked()
    first = contents(stage(subset, tmp_path / "a", license="mit"))
    second = contents(stage(subset, tmp_path / "b", license="mit"))
    assert [name for name in FILES if first[name] != second[name]] == []
    again = contents(stage(picked(), tmp_path / "a", license="mit"))  # selected again, staged over the first
    assert [name for name in FILES if again[name] != first[name]] == []


def test_the_table_of_picks(tmp_path):
    folder = stage(picked(), tmp_path / "f", license="mit")
    digest = {n: hashlib.sha256(b'{"text":"row %d"}' % n).hexdigest() for n in range(4)}
    columns = ("row", "pick", "gain", "round", "features", "covered", "row_sha256")
    assert [
        tuple(row[name] for name in columns) for row in pq.read_table(folder / "selection.parquet").to_pylist()
    ] == [
        (2, 0, 3, 0, 3, 3, digest[2]),
        (1, 1, 1, 0, 2, 4, digest[1]),
        (0, 2, 1, 1, 1, 4, digest[0]),
    ]
    assert tuple(pq.read_schema(folder / "selection.parquet").names) == columns
    assert rows_of(folder)["text"][:] == ["row 2", "row 1", "row 0"]


def test_codes_are_not_published_as_columns_and_features_false_leaves_them_out(tmp_path):
    folder = stage(picked(), tmp_path / "f", license="mit", include_features=False)
    assert sorted(contents(folder)) == [name for name in FILES if name != "pool.parquet"]
    assert pq.read_schema(folder / "data" / "train-00000.parquet").names == ["text"]


def test_the_pool_has_the_codes_above_the_threshold_and_no_text(tmp_path):
    table = pq.read_table(stage(picked(), tmp_path / "f", license="mit") / "pool.parquet")
    assert table.column_names == ["row_sha256", "sae_ids", "sae_acts", "sae_tokens"]
    assert table["sae_ids"].to_pylist() == [[0], [2, 3], [0, 1, 2], []]
    assert b"row 3" not in (tmp_path / "f" / "pool.parquet").read_bytes()


def test_the_pool_of_match_has_the_strongest_features_of_each_row(tmp_path):
    def stored(rows=ROWS, record=RECORD, **options):
        subset = coded(rows, record=record).sae_select(1, seed=None, **options)
        folder = stage(subset, tmp_path / "f", license="mit")
        assert verify(folder, "select")
        return pq.read_table(folder / "pool.parquet")["sae_ids"].to_pylist()

    assert stored() == [[0, 1], [2, 3], [0, 1, 2], []]  # all that fire
    assert stored(top=2) == [[0, 1], [2, 3], [0, 1], []]  # of equals the first
    assert stored(top=2, threshold=0.5) == [[0], [2, 3], [0, 1], []]
    long = {"rows": [{j: 300.0 - j for j in range(300)}, {0: 1.0}], "record": RECORD | {"d_sae": 300}}
    assert stored(**long) == [[*range(256)], [0]]
    assert stored(**long, method="greedy") == [[*range(300)], [0]]


def test_the_pool_has_weaker_features_too_where_max_share_makes_room_for_them(tmp_path):
    rows = [{0: 0.9, 1: 0.8, 4: 0.7}, {0: 0.9, 2: 0.8}, {0: 0.9, 3: 0.8}]
    subset = picked(2, "match", rows=rows, top=1, max_share=0.5)
    assert subset.sae_selection.pool_coverage == 3  # 1, 2 and 3: all have 0
    folder = stage(subset, tmp_path / "f", license="mit")
    assert pq.read_table(folder / "pool.parquet")["sae_ids"].to_pylist() == [[0, 1, 4], [0, 2], [0, 3]]
    assert verify(folder, "select")


def test_the_pool_of_a_large_source_is_in_parts(tmp_path, monkeypatch):
    whole = stage(picked(), tmp_path / "whole", license="mit")
    monkeypatch.setattr(tables, "BLOCK_ROWS", 1)
    monkeypatch.setattr(tables, "PART_BLOCKS", 3)
    folder = stage(picked(), tmp_path / "parts", license="mit")
    names = ["pool-00000-of-00002.parquet", "pool-00001-of-00002.parquet"]
    assert sorted(file.name for file in folder.glob("pool*")) == names
    parts = [pq.read_table(folder / name) for name in names]
    assert [len(part) for part in parts] == [3, 1]
    assert pa.concat_tables(parts).equals(pq.read_table(whole / "pool.parquet"))
    assert verify(folder, "select")
    (folder / names[1]).unlink()
    assert "is missing" in str(verify(folder, "select"))


@pytest.mark.parametrize("present", ["folder", "file", "beside ours"])
def test_a_folder_with_other_things_is_refused_and_not_touched(tmp_path, present):
    place = tmp_path / "mine" if present == "file" else tmp_path / "mine" / "notes.txt"
    if present == "beside ours":
        stage(picked(1), tmp_path / "mine", license="mit")
    place.parent.mkdir(exist_ok=True)
    place.write_text("mine")
    before = contents(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"mine'` exists and is not a staged subset; pass a new or an empty folder"):
        stage(picked(), tmp_path / "mine", license="mit")
    assert place.read_text() == "mine" and contents(tmp_path / "mine") == before
    assert [item.name for item in tmp_path.iterdir() if item.name != "cache"] == ["mine"]


def test_an_empty_folder_is_filled_and_a_staged_one_replaced(tmp_path):
    (tmp_path / "f").mkdir()
    stage(picked(), tmp_path / "f", license="mit")
    (tmp_path / "f" / "data" / "train-00001.parquet").write_bytes(b"stale")
    stage(picked(1), tmp_path / "f", license="mit")
    assert sorted(contents(tmp_path / "f")) == FILES
    assert rows_of(tmp_path / "f")["text"][:] == ["row 2"]


@pytest.mark.parametrize("late", ["curve_png", "subset_card", "write_selection", "write_pool", "rename"])
def test_an_error_half_way_leaves_nothing_and_an_earlier_folder_as_it_was(tmp_path, monkeypatch, late):
    before, rename = contents(stage(picked(1), tmp_path / "old", license="mit")), Path.rename

    def fails(place, *more, **_):
        if late == "rename" and not place.name.endswith(".unfinished"):
            return rename(place, *more)
        raise KeyboardInterrupt

    owners = {"rename": Path, "subset_card": staging}
    monkeypatch.setattr(owners.get(late, part), late, fails)
    for name in ("old", "new"):
        with pytest.raises(KeyboardInterrupt):
            stage(picked(), tmp_path / name, license="mit")
    assert [item.name for item in tmp_path.iterdir() if item.name != "cache"] == ["old"]
    assert contents(tmp_path / "old") == before


CHANGES = {
    "select": lambda subset: subset.select([0, 1]),
    "shuffle": lambda subset: subset.shuffle(seed=1),
    "map": lambda subset: subset.map(lambda row: {"text": row["text"] + "!"}),
    "filter": lambda subset: subset.filter(lambda row: row["text"] != "row 1"),
    "remove_columns": lambda subset: subset.remove_columns("label"),
    "add_column": lambda subset: subset.add_column("more", [1, 2, 3]),
    "rename_column": lambda subset: subset.rename_column("text", "words"),
    "cast": lambda subset: subset.cast_column("label", ClassLabel(names=["a", "b"])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_subset_that_was_changed_is_refused_with_what_to_do(tmp_path, change):
    ds = coded(ROWS, record=RECORD).add_column("label", [0, 1, 0, 1])
    changed = CHANGES[change](ds.sae_select(3, seed=None))
    with pytest.raises((TypeError, ValueError)) as error:
        stage(changed, tmp_path / "f", license="mit")
    remedies = ("do those before you select", "change the dataset first, and select from the result")
    assert any(remedy in str(error.value) for remedy in (*remedies, "filter first, then select"))
    assert not (tmp_path / "f").exists()


def test_a_change_that_only_the_content_shows_is_refused(tmp_path):
    subset = picked()
    other = subset.map(lambda row: {"text": row["text"].replace("row 1", "row 9")})
    attach(other, subset.sae_selection, pool_of(subset))
    with pytest.raises(ValueError, match=r"row 1 of `subset` is not row 1 of the source, which was picked"):
        stage(other, tmp_path / "f", license="mit")
    moved = subset.select([1, 0, 2])
    attach(moved, subset.sae_selection, pool_of(subset))
    with pytest.raises(ValueError, match=r"row 0 of `subset` is not row 2 of the source.*select from the result"):
        stage(moved, tmp_path / "f", license="mit")
    assert not (tmp_path / "f").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("what", ["plain", "reloaded", "list"])
def test_what_has_no_receipt_is_refused(tmp_path, what):
    subset = picked()
    if what == "reloaded":
        subset.save_to_disk(tmp_path / "saved")
        passed = load_from_disk(tmp_path / "saved")
    else:
        passed = {"plain": coded(ROWS, record=RECORD), "list": [{"text": "a"}]}[what]
    message = "`subset` is a list" if what == "list" else "`subset` has no `sae_selection`: .*saving and loading drop"
    with pytest.raises(TypeError, match=message):
        stage(passed, tmp_path / "f", license="mit")


def test_a_subset_without_rows_is_refused(tmp_path):
    with (
        pytest.warns(UserWarning, match="returning 0 rows"),
        pytest.warns(UserWarning, match="no row has one after the cuts"),
    ):
        subset = picked(2, rows=[{1: 0.1}, {}], exhausted="stop")
    with pytest.raises(ValueError, match="`subset`: the dataset is empty"):
        stage(subset, tmp_path / "f", license="mit")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "the source states no licence: pass `license`, such as 'cc-by-4.0'"),
        ({"license": 3}, TypeError, "`license=3` must be the id of a licence"),
        ({"license": " "}, TypeError, "`license=' '` must be the id of a licence"),
        ({"license": "my own licence"}, TypeError, "`license='my own licence'` must be the id of a licence"),
        ({"license": []}, TypeError, "`license=[]` must be the id of a licence"),
        ({"license": "mit", "metadata": "en"}, TypeError, "`metadata='en'` must be a mapping"),
        ({"license": "mit", "metadata": {"configs": []}}, ValueError, "`metadata` has `configs`, which follows from"),
        ({"license": "mit", "metadata": {"license": "mit"}}, ValueError, "`metadata` has `license`, which follows"),
        ({"license": "mit", "metadata": {"x": object()}}, TypeError, "YAML cannot: Object of type object"),
        ({"license": "mit", "source": 3}, TypeError, "`source=3`: pass the id of a Hub dataset"),
        (
            {"license": "mit", "source": "/my/rows"},
            ValueError,
            "`source='/my/rows'` does not name a dataset on the Hub",
        ),
    ],
)
def test_what_cannot_be_said_of_a_subset_is_refused_before_a_folder_is_made(tmp_path, arguments, error, message):
    with pytest.raises(error) as caught:
        stage(picked(), tmp_path / "f", **arguments)
    assert message in str(caught.value)
    assert not (tmp_path / "f").exists() and not list(tmp_path.glob(".*"))


def test_many_rows_go_to_several_files_batch_by_batch_and_load_back_in_order(tmp_path, monkeypatch):
    lengths = []

    class Spy(pq.ParquetWriter):
        def write_table(self, table, *arguments, **options):
            lengths.append(len(table))
            return super().write_table(table, *arguments, **options)

    monkeypatch.setattr(hashing, "BATCH_ROWS", 4)
    monkeypatch.setattr(tables, "SHARD_BYTES", 100)
    monkeypatch.setattr(pq, "ParquetWriter", Spy)
    subset = picked(25, rows=[{n % 16: 0.9} for n in range(30)])
    folder = stage(subset, tmp_path / "f", license="mit", include_features=False)
    assert lengths == [4, 4, 4, 4, 4, 4, 1]  # never more rows in memory
    files = sorted(file.name for file in (folder / "data").iterdir())
    assert files[:2] == ["train-00000.parquet", "train-00001.parquet"] and len(files) == 3
    assert rows_of(folder)["text"][:] == subset["text"][:]
    assert [f"row {n}" for n in subset.sae_selection.indices] == subset["text"][:]
    assert verify(folder)


@pytest.mark.parametrize("missing", ["altair", "jsonschema", "vl_convert"])
def test_without_the_extra_the_line_that_installs_it_is_told(tmp_path, monkeypatch, missing):
    subset = picked()
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf'need `{missing}`: pip install "hf-sae-select\[publish\]"'):
        stage(subset, tmp_path / "f", license="mit")
    assert not (tmp_path / "f").exists()


def test_nothing_is_asked_of_the_hub(hub, tmp_path):
    stage(picked(), tmp_path / "f", license="mit")
    assert hub.requests == []


def test_an_encoded_dataset_stages_what_a_plain_one_does(tmp_path, sae):
    ds = Dataset.from_dict({"text": ["the cat", "a big red bird flew", "", "the dog sat on a mat"]})
    plain = stage(ds.sae_select(2, sae=sae), tmp_path / "a", license="mit")
    encoded = stage(ds.sae_encode(sae).sae_select(2), tmp_path / "b", license="mit")
    for name in ("data/train-00000.parquet", "pool.parquet", "likeness.png"):
        assert (plain / name).read_bytes() == (encoded / name).read_bytes()
    tables = [pq.read_table(folder / "selection.parquet").to_pylist() for folder in (plain, encoded)]
    assert tables[0] == tables[1] and len(tables[0]) == 2
    assert all(str(tmp_path).encode() not in data for data in contents(plain).values())  # the model lay in a folder
    assert rows_of(encoded).column_names == ["text"]


ODD = ["<b>bold</b> | <script>x</script>", "a --> b", "`code` ```fence", "\n# Heading\n\n* [link](http://x)", "😀"]
ODD += ["<!-- end of hf-sae-select: subset -->", "<!-- hf-sae-select: subset, written anew at each push -->"]
ODD += ["{{ 7 * 7 }} {% raw %}", "", None, "OWNER/NAME", "---\nlicense: apache-2.0\n---"]


def test_what_rows_say_cannot_break_the_card(tmp_path):
    ds = coded([{n: 0.9, 15: 0.8} for n in range(len(ODD))], record=RECORD).remove_columns("text")
    ds = ds.add_column("text", ODD)
    texts = ""
    for first in range(0, len(ODD), 4):  # five picks are shown
        rows = range(first, min(first + 4, len(ODD)))
        subset = ds.sae_select(len(rows), seed=None, exclude=[n for n in range(len(ODD)) if n not in rows])
        folder = stage(subset, tmp_path / "f", license="mit")
        text = (folder / "README.md").read_text()
        assert text.count("<!-- end of hf-sae-select: subset -->") == 1
        assert text.rstrip().endswith("<!-- end of hf-sae-select: subset -->")
        assert text.count("<!--") == text.count("-->") == 2
        assert text.count("OWNER/NAME") == 5  # twice to load it, three times to check it
        shown = text.partition("## Why the first rows were picked\n")[2].partition("## Known limits")[0]
        assert not set(shown.replace("<br>", "")) & set("<>|`*[]{}/")
        assert sum(line.startswith("# ") for line in text.splitlines()) == 1
        assert problems("dataset", DatasetCard(text).data.to_dict()) == ([], [])
        assert rows_of(folder)["text"][:] == subset["text"][:]
        assert verify(folder)
        texts += shown
    assert "“&#60;b&#62;bold&#60;&#47;b&#62;" in texts and "“&#128512;”" in texts and "“”" in texts


def test_a_sound_is_staged_without_being_decoded(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")  # whoever decodes it fails
    ds = coded(ROWS, record=RECORD).add_column("sound", [str(tmp_path / "a.wav")] * 4)
    ds = ds.cast_column("sound", Audio())
    folder = stage(ds.sae_select(2, seed=None), tmp_path / "f", license="mit")
    sounds = pq.read_table(folder / "data" / "train-00000.parquet")["sound"].to_pylist()
    assert sounds == [{"bytes": b"RIFF", "path": "a.wav"}] * 2


def test_a_pool_without_any_features_can_be_staged(tmp_path):
    with pytest.warns(UserWarning, match="no row has one after the cuts"):
        subset = picked(1, rows=[{0: 0.1}, {}])
    folder = stage(subset, tmp_path / "f", license="mit")
    assert rows_of(folder)["text"][:] == ["row 0"]


def test_a_rule_of_ones_own_with_options_that_json_has_no_word_for(tmp_path):
    here = [str(tmp_path), tmp_path]

    def mine(features, budget, rng, *, place=tmp_path, places=here, weight=2):
        return Selection(np.array([3]), np.array([0]), np.array([0]))

    folder = stage(picked(1, method=mine), tmp_path / "f", license="mit")
    recorded = json.loads((folder / "provenance.json").read_text())["selection"]
    options = recorded["parameters"]["options"]
    assert (recorded["method"], recorded["builtin"], options["weight"]) == ("mine", False, 2)
    assert all(
        list(options[name]) == ["sha256"] and len(options[name]["sha256"]) == 64 for name in ("place", "places")
    )
    assert all(str(tmp_path).encode() not in data for data in contents(folder).values())


def test_a_rule_of_ones_own_that_is_named_like_one_of_ours_is_not_taken_for_it(tmp_path):
    def longest(features, budget, rng):
        return Selection(np.array([3]), np.array([0]), np.array([0]))

    folder = stage(picked(1, method=longest), tmp_path / "f", license="mit")
    recorded = json.loads((folder / "provenance.json").read_text())["selection"]
    assert (recorded["method"], recorded["builtin"], rows_of(folder)["text"][:]) == ("own_longest", False, ["row 3"])
    assert "# 1 row of a dataset, selected by `own_longest`\n" in (folder / "README.md").read_text()
    assert verify(folder, "select", method=longest)


COLUMNS = [{"quality": "tokens"}, {"quality": "tokens", "budget": "7 tokens"}, {"cost": "sae_tokens", "budget": 7}]
COLUMNS += [{"quota": "sae_tokens"}, {"quota": {"sae_tokens": {3: 1}}}]


@pytest.mark.parametrize("options", COLUMNS, ids=str)
def test_columns_that_are_named_like_ours_are_kept_apart(tmp_path, options):
    ds = coded(ROWS, record=RECORD).add_column("tokens", [9.0, 2.0, 1.0, 0.0])
    folder = stage(ds.sae_select(seed=None, **{"budget": 3} | options), tmp_path / "f", license="mit")
    named = {"row_sha256", "sae_ids", "sae_acts", "sae_tokens"} | ({"tokens"} if "quality" in options else set())
    assert set(pq.read_schema(folder / "pool.parquet").names) == named
    assert verify(folder, "select")


QUOTAS = {
    "row_sha256": (
        list("abab"),
        ValueError,
        "the rows were selected by a column `row_sha256`.*rename it, and select again",
    ),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_quotas_that_cannot_be_recorded_are_refused_before_a_folder_is_made(tmp_path, name):
    values, error, message = QUOTAS[name]
    ds = concatenate_datasets([coded(ROWS, record=RECORD), Dataset.from_dict({name: values})], axis=1)
    subset = ds.sae_select(3, seed=None, quota={name: {values[0]: 1}})
    with pytest.raises(error, match=message):
        stage(subset, tmp_path / "f", license="mit")
    assert not (tmp_path / "f").exists() and not list(tmp_path.glob(".*"))


def test_the_rows_of_a_published_subset_can_be_grown(tmp_path):
    subset = picked(2)
    folder = stage(subset, tmp_path / "f", license="mit")
    grown = coded(ROWS, record=RECORD).shuffle(seed=1).sae_select(3, "greedy", extend=rows_of(folder))
    assert grown["text"][:2] == subset["text"][:] and len(set(grown["text"])) == 3
    again = stage(grown, tmp_path / "g", license="mit")
    assert verify(again, "select")


def test_a_quota_of_dates_is_recorded_as_text_and_repeated(tmp_path):
    days = Dataset.from_dict({"day": [date(2024, 2, n) for n in (1, 2, 1, 2)]})
    ds = concatenate_datasets([coded(ROWS, record=RECORD), days], axis=1)
    folder = stage(ds.sae_select(3, quota={"day": {date(2024, 2, 1): 1}}), tmp_path / "f", license="mit")
    constraints = json.loads((folder / "provenance.json").read_text())["selection"]["parameters"]["constraints"]
    assert constraints == {"quota": {"day": [["2024-02-01", 1]]}}
    assert verify(folder, "select")


def test_shares_of_classes_are_recorded_and_repeated(tmp_path):
    kinds = Dataset.from_dict({"kind": [0, 1, 1, 0]}, features=Features({"kind": ClassLabel(names=["a", "b"])}))
    ds = concatenate_datasets([coded(ROWS, record=RECORD), kinds], axis=1)
    for budget in (2, "6 tokens"):
        folder = stage(ds.sae_select(budget, quota={"kind": {"a": 0.5, "b": "rest"}}), tmp_path / "f", license="mit")
        constraints = json.loads((folder / "provenance.json").read_text())["selection"]["parameters"]["constraints"]
        assert constraints["quota"] == {"kind": [["a", 0.5], ["b", "rest"]]}
        assert verify(folder, "select")


def test_a_chat_template_is_recorded_while_its_model_is_there_and_left_out_when_it_is_gone(tmp_path):
    model, tokenizer = tiny.save("bert", tmp_path / "model"), tiny.tokenizer()
    tokenizer.chat_template = "{% for turn in messages %}{{ turn.content }}{% endfor %}"
    tokenizer.save_pretrained(model)
    sae = tiny.sae(SaeConfig(16, 32, "jumprelu", model=str(model), hook="encoder.layer.1", feature_threshold=0.5))
    chats = [[{"role": "user", "content": f"the {word}"}] for word in ("cat", "dog", "moon")]
    subset = Dataset.from_dict({"messages": chats}).sae_select(2, sae=sae)
    for expected in (tokenizer.chat_template, None):
        folder = stage(subset, tmp_path / "f", license="mit")
        assert json.loads((folder / "provenance.json").read_text())["encoding"]["chat_template"] == expected
        shutil.rmtree(model, ignore_errors=True)


def test_the_format_of_a_dataset_does_not_matter(tmp_path):
    datasets.disable_caching()
    folder = stage(picked().with_format("numpy"), tmp_path / "f", license="mit")
    assert contents(folder) == contents(stage(picked(), tmp_path / "g", license="mit"))


def edit_record(folder):
    record = json.loads((folder / "provenance.json").read_text())
    record["selection"]["parameters"]["budget"] = 4
    (folder / "provenance.json").write_text(json.dumps(record))


def edit_row(folder):
    Dataset.from_dict({"text": ["row 2", "row 0"]}).to_parquet(folder / "data" / "train-00000.parquet")


EDITS = {
    "record": (edit_record, "record: provenance.json was edited after it was written"),
    "picture": (lambda f: (f / "coverage.png").write_bytes(b"x"), "files: coverage.png was changed: its SHA-256 is"),
    "gone": (lambda f: (f / "pool.parquet").unlink(), "files: pool.parquet is missing"),
    "more rows": (lambda f: (f / "data" / "x.parquet").write_bytes(b""), "files: data/x.parquet is not in the record"),
    "configs": (lambda f: (f / "README.md").write_text("# Mine\n"), "card: README.md has the config `default` as"),
    "a row": (edit_row, "rows: row 1 was changed: it is no longer row 1 of the source"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_staged_folder_that_was_edited_is_refused_before_anything_is_sent(hub, tmp_path, edit):
    staged = stage(picked(2), tmp_path / "f", license="mit")
    change, message = EDITS[edit]
    change(staged)
    with pytest.raises(ValueError) as error:
        push(staged, "alice/f", token="hf_alice")
    assert f"was changed after it was staged: {message}" in str(error.value)
    assert str(error.value).endswith("; stage it again")
    assert hub.requests == []


def test_include_features_must_be_a_flag(tmp_path):
    subset = coded([{0: 0.9}, {1: 0.9}, {2: 0.9}, {3: 0.9}], record=RECORD).sae_select(3, "greedy", seed=None)
    with pytest.raises(ValueError, match="`include_features='no'` must be True or False"):
        stage(subset, tmp_path / "f", license="mit", include_features="no")
    assert not (tmp_path / "f").exists()


def test_a_folder_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert stage(picked(2), "~/x", license="mit") == tmp_path / "home" / "x"
    assert verify("~/x") and not (tmp_path / "~").exists()


def test_a_link_to_a_folder_is_kept_and_the_folder_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):
        assert stage(picked(2), tmp_path / "link", license="mit") == tmp_path / "link"
        assert (tmp_path / "link").is_symlink() and verify(tmp_path / "real")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["link", "real"]


def test_a_folder_within_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("mine")
    for name in ("file/x", "file/x/y"):
        with pytest.raises(
            ValueError, match=r"`folder='.*'` cannot be made: '.*/file' is a file; pass another folder"
        ):
            stage(picked(2), tmp_path / name, license="mit")
    with pytest.raises(ValueError, match=r"exists and is not a staged subset"):
        stage(picked(2), tmp_path / "file", license="mit")


@pytest.mark.parametrize("revision", ["", " "])
def test_an_empty_revision_is_refused_by_name(tmp_path, revision):
    folder = stage(picked(2), tmp_path / "f", license="mit")
    for call in (lambda: verify(folder, revision=revision), lambda: push(folder, "alice/f", revision=revision)):
        with pytest.raises(ValueError, match=r"`revision=' ?'` is empty"):
            call()
