"""What is read of a row decides whether it is encoded again; codes are the same bytes whatever was encoded before."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, concatenate_datasets
from helpers import tiny

from hf_sae_select import FeatureMatrix, encode, select
from hf_sae_select._files import remove_leftovers, whole_file
from hf_sae_select.encoding import encoder, pipeline, run, store
from hf_sae_select.features.columns import ACTS, DIGEST, FLAGS, IDS, TOKENS

WORDS = tiny.WORDS[:9]
CODES = [IDS, ACTS, TOKENS, FLAGS, DIGEST]


@pytest.fixture
def ds():
    return Dataset.from_dict({"text": [f"the {word}" for word in WORDS], "id": list(range(9))})


@pytest.fixture
def read(monkeypatch):
    """The texts that went through the model."""
    texts, call = [], encoder.Encoder.tokenized

    def recorded(self, rows, batch):
        texts.extend(text for text, _ in batch)
        return call(self, rows, batch)

    monkeypatch.setattr(encoder.Encoder, "tokenized", recorded)
    return texts


def rows_of(coded):
    """Return the codes of each text: numbers as bytes."""
    table = coded.with_format("arrow")[:]
    acts = [np.asarray(acts, np.float32).tobytes() for acts in table[ACTS].to_pylist()]
    codes = zip(table[IDS].to_pylist(), acts, table[TOKENS].to_pylist(), strict=True)
    return dict(zip(table["text"].to_pylist(), codes, strict=True))


CHANGES = {  # change of a dataset -> the texts that have to be encoded
    "a column is added": (lambda ds: ds.add_column("score", [0.5] * 9), []),
    "a column is removed": (lambda ds: ds.remove_columns("id"), []),
    "a column that nobody reads changes": (lambda ds: ds.map(lambda row: {"id": row["id"] + 1}), []),
    "rows are shuffled": (lambda ds: ds.shuffle(seed=0), []),
    "rows are left out": (lambda ds: ds.select([8, 1, 1, 5]), []),
    "the type of the text changes": (lambda ds: ds.cast_column("text", datasets.Value("large_string")), []),
    "the pool grows at its end": (lambda ds: concatenate_datasets([ds, tail()]), ["a dog", ""]),
    "the pool grows at its start": (lambda ds: concatenate_datasets([tail(), ds]), ["a dog", ""]),
    "a text changes": (lambda ds: ds.map(lambda row: {"text": "a log"} if row["id"] == 4 else row), ["a log"]),
    "a format is set": (lambda ds: ds.with_format("numpy"), []),
    "it is loaded from disk": (lambda ds: Dataset.from_list(ds.to_list()), []),
}


def tail():
    return Dataset.from_dict({"text": ["a dog", "", "a dog"], "id": [9, 10, 11]})


@pytest.mark.parametrize("change", CHANGES)
def test_only_rows_whose_text_is_new_are_encoded(ds, sae, read, cache, monkeypatch, change):
    whole = rows_of(encode(ds, sae))
    assert sorted(read) == sorted(ds["text"])
    change, expected = CHANGES[change]
    read.clear()
    other = change(ds)
    coded = encode(other, sae)
    assert sorted(read) == sorted(expected)
    kept = coded.with_format("arrow")[:].select(other.column_names)
    assert kept.equals(other.with_format("arrow")[:])
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "other")
    fresh = encode(other, sae)
    assert rows_of(coded) == rows_of(fresh) and coded.with_format("arrow")[:].equals(fresh.with_format("arrow")[:])
    assert {text: row for text, row in rows_of(coded).items() if text in whole}.items() <= whole.items()
    assert coded._fingerprint == fresh._fingerprint


@pytest.mark.parametrize("flat", [1, 256])
def test_selecting_reads_stored_codes_in_any_order(ds, sae, loads, monkeypatch, flat):
    monkeypatch.setattr(store, "MOST_RUNS", flat)
    encode(ds, sae)
    mixed = ds.select([8, 1, 1, 5, 0])
    alone = pipeline.codes(mixed, sae)
    coded = encode(mixed, sae)
    assert alone.select_columns(CODES)[:] == coded.select_columns(CODES)[:]
    assert FeatureMatrix.from_dataset(alone).tokens.tolist() == coded["sae_tokens"][:]
    assert select(mixed, 2, sae=sae)["text"] == select(coded, 2)["text"] and len(loads) == 1


def test_a_first_encoding_is_a_view_of_its_files(ds, sae, cache):
    coded = encode(ds, sae)
    assert [Path(file["filename"]).parent.parent.parent for file in coded.cache_files] == [cache]
    assert len(list(cache.rglob("*.arrow"))) == 1


def test_equal_rows_are_encoded_once(sae, read):
    coded = encode(Dataset.from_dict({"text": ["the cat", "a dog", "the cat", None, "", "the cat"]}), sae)
    assert read == ["the cat", "a dog", "", ""]  # None and "" are different cells
    assert coded["sae_tokens"][:] == [2, 2, 2, 0, 0, 2]


def test_codes_are_copied_in_blocks(ds, sae, monkeypatch):
    whole = rows_of(encode(ds, sae))
    monkeypatch.setattr(store, "MOST_RUNS", 1)
    monkeypatch.setattr(store, "BLOCK_ROWS", 2)
    shuffled = ds.select([8, 7, 0, 3, 2, 1, 3])
    coded = encode(shuffled, sae)
    assert rows_of(coded).items() <= whole.items() and coded["id"][:] == [8, 7, 0, 3, 2, 1, 3]


def test_a_function_is_read_by_what_it_returns(ds, sae, read):
    def text(row):
        return row["text"] + " ran" if row["id"] < 3 else "a dog"

    encode(ds, sae, text=text)
    assert read == [f"the {word} ran" for word in WORDS[:3]] + ["a dog"]
    encode(ds.map(lambda row: {"id": row["id"] + 5}), sae, text=text)
    assert len(read) == 4


@pytest.mark.parametrize("damage", [b"", b"not arrow", "cut", "flipped", "other"])
def test_a_damaged_file_is_named(ds, sae, cache, damage):
    encode(ds, sae)
    (file,) = cache.rglob("*.arrow")
    if damage == "other":
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, pa.schema({"x": pa.int8()})):
            pass
    elif damage == "flipped":  # in the middle, where the codes are
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(file.read_bytes()[:-200] if damage == "cut" else damage)
    with pytest.raises(OSError, match=rf"the cache file {file} is damaged .*; delete it, and encode again"):
        encode(ds, sae)
    file.unlink()
    assert encode(ds, sae)["sae_tokens"][0] == 2


def test_files_of_others_in_the_folder_are_left_alone(ds, sae, cache):
    coded = encode(ds, sae)
    folder = next(cache.rglob("*.arrow")).parent
    (folder / "cache-0123.arrow").write_bytes(b"of datasets")
    (folder / "tmp0123").touch()
    assert encode(ds.shuffle(seed=1), sae)["sae_tokens"][:] == coded["sae_tokens"][:]
    assert (folder / "tmp0123").exists()


# ---- disks


def part_of(folder, name="codes-0.arrow", digits="0123456789ab"):
    return folder / f".{name}.{digits}.part"


def test_parts_of_killed_processes_are_removed_and_no_others(tmp_path):
    part_of(tmp_path).touch()
    for other in ("notes.part", ".notes.part", ".a.0123456789ab.part.txt", "codes-0.arrow"):
        (tmp_path / other).touch()
    with whole_file(tmp_path / "codes-1.arrow") as part:
        remove_leftovers(tmp_path)  # the part of a living process
        assert part.exists() and not part_of(tmp_path).exists()
        part.write_text("all of it")
    assert (tmp_path / "codes-1.arrow").read_text() == "all of it"
    assert len(list(tmp_path.iterdir())) == 5


def test_the_parts_of_another_living_process_stay(tmp_path):
    code = "import sys; from pathlib import Path; from hf_sae_select._files import whole_file\n"
    code += f"with whole_file(Path({str(tmp_path / 'file')!r})): print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        process.kill()
        process.wait()
        remove_leftovers(tmp_path)
        assert not list(tmp_path.iterdir())


def test_the_next_encoding_removes_leftovers(ds, sae, cache):
    encode(ds, sae)
    folder = next(cache.rglob("*.arrow")).parent
    part_of(folder).touch()
    encode(tail(), sae)
    assert not part_of(folder).exists()


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_names_path_bytes_and_remedy(ds, sae, cache, monkeypatch):
    monkeypatch.setattr(run, "FILE_BYTES", 1)  # a file for each forward pass

    class Writer:
        tables = 0

        def __init__(self, sink, schema):
            self.writer = make(sink, schema)

        def write_table(self, table):
            Writer.tables += 1
            return full_disk() if Writer.tables == 2 else self.writer.write_table(table)

        def close(self):
            self.writer.close()

    with monkeypatch.context() as patch:
        make = pa.ipc.new_stream
        patch.setattr(pa.ipc, "new_stream", Writer)
        message = r"cannot write .*piece-\w+\.arrow: No space left on device; 0\.0 MB are still to be written; free .*"
        with pytest.raises(OSError, match=message + "HF_DATASETS_CACHE") as caught:
            encode(ds, sae, batch_size=4)
    assert caught.value.errno == errno.ENOSPC
    (folder,) = (cache / "hf_sae_select").iterdir()
    assert len(list(folder.iterdir())) == 1  # the first piece; no part of the second one
    assert encode(ds, sae)["sae_tokens"][:] == [2] * 9


def test_a_folder_that_cannot_be_written_to_is_named_before_the_model_is_loaded(ds, sae, loads, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    with pytest.raises(OSError, match=r"cannot write .*/file/hf_sae_select.*HF_DATASETS_CACHE"):
        encode(ds, sae)
    assert not loads


def test_a_copy_of_rows_on_a_full_disk_leaves_nothing_behind(ds, sae, tmp_path, cache, monkeypatch):
    def files():
        return sorted(file for folder in (tmp_path, cache) for file in folder.rglob("rows/*"))

    ds.save_to_disk(tmp_path / "rows")
    shuffled = datasets.load_from_disk(tmp_path / "rows").shuffle(seed=0)
    before = files()
    pipeline.codes(shuffled, sae)
    with monkeypatch.context() as patch:
        patch.setattr(pa.ipc.RecordBatchStreamWriter, "write_table", full_disk)
        with pytest.raises(OSError, match=r"cannot write .*rows.*No space left on device.*HF_DATASETS_CACHE"):
            encode(shuffled, sae)
    assert files() == before
    coded = encode(shuffled, sae)
    assert coded["id"][:] == shuffled["id"][:] and coded.features["id"] == ds.features["id"]


LIMITED = """
import resource, sys
from datasets import Dataset
from hf_sae_select import encode
ds = Dataset.from_dict({"text": [f"the cat {i}" for i in range(200)]})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    encode(ds, sys.argv[1], keep="state")
except OSError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE")
def test_a_limit_of_file_sizes_is_explained_and_leaves_nothing_behind(sae, tmp_path):
    sae.save_pretrained(tmp_path / "sae")
    env = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "sae")], env=env, capture_output=True, text=True, check=True
    )
    assert "File too large" in done.stdout and "HF_DATASETS_CACHE" in done.stdout, done.stderr
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
