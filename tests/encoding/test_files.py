"""`encode_files`: shards of rows go into Parquet files, by whoever encodes them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import constants

from hf_sae_select import encode, encode_files, select
from hf_sae_select.encoding import files, remote

TEXTS = ["the cat", "", "a big red bird flew over the moon", "the dog", "a dog and a cat"]
ROWS = Dataset.from_dict({"text": TEXTS, "n": range(5)})


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_files_hold_the_rows_and_codes_of_encode(sae, tmp_path):
    place = encode_files(ROWS, tmp_path / "out", sae, shard_rows=2, keep=("all", "state"))
    assert place == f"{tmp_path / 'out'}/rows-*.parquet"
    names = ["rows-000000-of-000003.parquet", "rows-000001-of-000003.parquet", "rows-000002-of-000003.parquet"]
    assert sorted(contents(tmp_path / "out")) == [*names, "sae_encoding.json"]
    written = load_dataset("parquet", data_files=place, split="train")
    one = encode(ROWS, sae, keep=("all", "state"))
    assert written[:] == one[:] and written.features == one.features
    assert select(place, 2)["n"][:] == select(one, 2)["n"][:]


def test_a_call_goes_on_where_another_one_stopped(sae, tmp_path, monkeypatch):
    encode_files(ROWS, tmp_path, sae, shard_rows=2)
    expected = contents(tmp_path)
    (tmp_path / "rows-000001-of-000003.parquet").unlink()
    encoded, call = [], remote.RowEncoder.encode
    monkeypatch.setattr(remote.RowEncoder, "encode", lambda self, *rows: encoded.append(rows[0]) or call(self, *rows))
    encode_files(ROWS, tmp_path, sae, shard_rows=2)
    assert [numbers.tolist() for numbers in encoded] == [[2, 3]] and contents(tmp_path) == expected
    monkeypatch.setattr(files, "MakeFileEncoder", lambda *_: pytest.fail)  # which would load the model
    encode_files(ROWS, tmp_path, sae, shard_rows=2)


def test_parquet_files_are_read_shard_by_shard(sae, tmp_path):
    (tmp_path / "in").mkdir()
    ROWS.select(range(3)).to_parquet(tmp_path / "in" / "a.parquet", batch_size=1)
    ROWS.select(range(3, 5)).to_parquet(tmp_path / "in" / "b.parquet")
    place = encode_files(str(tmp_path / "in" / "*.parquet"), tmp_path / "out", sae, shard_rows=2)
    parts = [
        load_dataset("parquet", data_files=str(file), split="train")["n"][:]
        for file in sorted((tmp_path / "out").glob("rows*"))
    ]
    assert parts == [[0, 1], [2], [3, 4]]
    written = load_dataset("parquet", data_files=place, split="train")
    assert written["sae_ids"][:] == encode(ROWS, sae)["sae_ids"][:]


def test_a_folder_of_other_files_is_refused_before_a_model_loads(sae, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "MakeRowEncoder", None)
    (tmp_path / "foreign").mkdir()
    ROWS.to_parquet(tmp_path / "foreign" / "train.parquet")
    with pytest.raises(
        ValueError, match=r"`out='.*foreign'` holds Parquet files of somebody else, .*'train\.parquet'"
    ):
        encode_files(ROWS, tmp_path / "foreign", sae)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sae_encoding.json").write_text(json.dumps({"encoding": {}, "shard_rows": 4000}))
    with pytest.raises(ValueError, match=r"holds files of another call, with other encoding and rows: pass the same"):
        encode_files(ROWS, tmp_path / "other", sae)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"`out='.*file'` cannot be written to: .*pass a folder that can be written to"):
        encode_files(ROWS, tmp_path / "file", sae)


def test_paths_are_those_of_the_process_that_asks(sae, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    ROWS.to_parquet("a.parquet")
    write = files.FileEncoder.write

    def elsewhere(self, name, shard):  # as a worker of Ray, which may be in another folder
        monkeypatch.chdir(tmp_path / "other")
        return write(self, name, shard)

    monkeypatch.setattr(files.FileEncoder, "write", elsewhere)
    place = encode_files("*.parquet", "codes", sae)
    monkeypatch.chdir(tmp_path / "mine")
    assert place == "codes/rows-*.parquet"
    assert select(place, 1)["n"][:] and not list((tmp_path / "other").iterdir())


def test_files_that_went_elsewhere_are_missed(sae, tmp_path, monkeypatch):
    monkeypatch.setattr(files.FileEncoder, "write", lambda self, name, shard: shard.rows)
    with pytest.raises(RuntimeError, match=r"3 files are not there, such as rows-000000-of-000003.parquet; workers"):
        encode_files(ROWS, tmp_path / "out", sae, shard_rows=2)


def test_the_name_of_the_folder_is_no_pattern(sae, tmp_path):
    encode_files(ROWS.select([0, 1]), tmp_path / "run1", sae)
    place = encode_files(ROWS.select([2, 3]), tmp_path / "run[1]", sae)
    assert sorted(select(place, 2)["n"][:]) == [2, 3]


def test_the_home_folder_is_written_out(sae, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    place = encode_files(ROWS, "~/codes", sae)
    assert len(load_dataset("parquet", data_files=place, split="train")) == 5


def test_what_it_writes_is_not_read(sae, tmp_path):
    ROWS.to_parquet(tmp_path / "a.parquet")
    pattern = str(tmp_path / "**" / "*.parquet")
    place = encode_files(pattern, tmp_path / "codes", sae)
    assert encode_files(pattern, tmp_path / "codes", sae) == place
    with pytest.raises(ValueError, match=r"`dataset=.*rows.*parquet'` names files of `out=.*codes'` alone; pass"):
        encode_files(place, tmp_path / "codes", sae)


def test_wrong_arguments_are_named_before_anything_is_written(sae, tmp_path):
    with pytest.raises(TypeError, match="`encode_files` has no argument `bogus`; it takes those of `encode`"):
        encode_files(ROWS, tmp_path / "out", sae, bogus=1)
    ROWS.select([]).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"`dataset` has no rows: none are in .*a.parquet"):
        encode_files(str(tmp_path / "*.parquet"), tmp_path / "out", sae)
    assert not (tmp_path / "out").exists()
    encode_files(ROWS, tmp_path / "out", sae, shard_rows=2)
    with pytest.raises(ValueError, match="holds files of another call, with other shard_rows: pass the same"):
        encode_files(ROWS, tmp_path / "out", sae, shard_rows=3)


def test_what_is_no_place_is_refused(sae):
    with pytest.raises(
        ValueError, match=r"`out='foo://x'` is no place for files: .*; pass a folder, or a URL such as"
    ):
        encode_files(ROWS, "foo://x")
    with pytest.raises(ValueError, match=r"`out=.*` is no place for files: no name has a null byte"):
        encode_files(ROWS, "a\0b")
    with pytest.raises(
        OSError, match=r"`out='hf://datasets/alice'` cannot be reached: Invalid HF URI .*namespace/name"
    ):
        encode_files(ROWS, "hf://datasets/alice", sae)


def test_a_hub_that_does_not_answer_is_named(sae, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for out in ("hf://datasets/alice/codes", "hf://buckets/alice/codes/all"):
        with pytest.raises(OSError, match=rf"`out='{out}'` cannot be reached: .* the Hub is out of reach; check the"):
            encode_files(ROWS, out, sae)


def test_rows_that_changed_in_their_files_are_refused(sae, tmp_path):
    (tmp_path / "in").mkdir()
    pattern = str(tmp_path / "in" / "*.parquet")
    ROWS.to_parquet(tmp_path / "in" / "a.parquet")
    encode_files(pattern, tmp_path / "out", sae)
    encode_files(pattern, tmp_path / "out", sae)
    ROWS.select([1, 0, 2, 3, 4]).map(lambda row: {"text": f"{row['text']} log"}).to_parquet(
        tmp_path / "in" / "a.parquet"
    )
    with pytest.raises(ValueError, match=r"holds files of another call, with other rows: pass the same"):
        encode_files(pattern, tmp_path / "out", sae)


def test_what_others_changed_in_the_folder_is_named_or_written_again(sae, tmp_path):
    out = tmp_path / "out"
    encode_files(ROWS, out, sae, shard_rows=2)
    expected, about = contents(out), (out / "sae_encoding.json").read_bytes()
    (out / "rows-000001-of-000003.parquet").write_bytes(b"PAR1")
    encode_files(ROWS, out, sae, shard_rows=2)
    assert contents(out) == expected
    (out / "sae_encoding.json").write_text("{")
    with pytest.raises(ValueError, match=r"`out=.*: sae_encoding.json is damaged .*; pass another folder, or remove"):
        encode_files(ROWS, out, sae, shard_rows=2)
    (out / "sae_encoding.json").unlink()
    with pytest.raises(ValueError, match=r"of a call whose sae_encoding.json is gone, such as 'rows-000000-of-000003"):
        encode_files(ROWS, out, sae, shard_rows=2, keep=3)
    (out / "sae_encoding.json").write_bytes(about)
    (out / "rows-000099-of-000100.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"holds Parquet files of somebody else, .* such as 'rows-000099-of-000100"):
        encode_files(ROWS, out, sae, shard_rows=2)


def test_splits_and_streams_are_refused_by_type(sae, tmp_path):
    for rows in (DatasetDict(train=ROWS), ROWS.to_iterable_dataset()):
        with pytest.raises(TypeError, match=rf"`dataset` is a {type(rows).__name__}; pass a Dataset, or the place"):
            encode_files(rows, tmp_path, sae)


def test_parquet_files_of_two_schemas_are_refused(sae, tmp_path):
    ROWS.to_parquet(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"the files do not have one schema: .*b\.parquet has .*a\.parquet"):
        encode_files(str(tmp_path / "*.parquet"), tmp_path / "out", sae)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ValueError, match=r"`dataset`: .*b\.parquet cannot be read as Parquet"):
        encode_files(str(tmp_path / "*.parquet"), tmp_path / "out", sae)


def test_files_of_the_hub_go_in_and_out(hub, sae, tmp_path, monkeypatch):
    ROWS.to_parquet(tmp_path / "a.parquet")
    hub.push("alice/pool", {"data/a.parquet": (tmp_path / "a.parquet").read_bytes()}, kind="dataset")
    hub.push("alice/codes", {"README.md": b""}, kind="dataset")
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    place = encode_files("hf://datasets/alice/pool/data/*.parquet", "hf://datasets/alice/codes/all", sae, shard_rows=3)
    assert place == "hf://datasets/alice/codes/all/rows-*.parquet"
    one = encode(ROWS, sae)
    assert select(place, 2)["n"][:] == select(one, 2)["n"][:]
    with pytest.raises(OSError, match=r"`out='hf://datasets/alice/none'` cannot be written to: .* create it first"):
        encode_files(ROWS, "hf://datasets/alice/none", sae)
