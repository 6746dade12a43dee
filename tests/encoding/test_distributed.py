import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from datasets import Dataset
from helpers import tiny

from hf_sae_select import SparseAutoencoder, encode

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from zlib import crc32
import datasets, torch
from accelerate import PartialState
from hf_sae_select import SparseAutoencoder, encode
from hf_sae_select.encoding import claims, distributed, run
from hf_sae_select.encoding.encoder import Encoder
from hf_sae_select.encoding.language_model import LanguageModel
torch.set_num_threads(1)
claims.TOUCH_SECONDS, claims.DEAD_SECONDS, claims.POLL_SECONDS, distributed.SEEN_SECONDS = 0.1, 2, 0.05, 0.2
run.FILE_BYTES = 1
if "apart" in sys.argv:
    datasets.config.HF_DATASETS_CACHE = Path(datasets.config.HF_DATASETS_CACHE) / os.environ["RANK"]
    LanguageModel.of = None  # an error before the model is loaded is another one
ds = datasets.Dataset.from_dict({"text": ["the cat", "a dog", "the moon", "it was red", "a log"]})
read, call, death = [], Encoder.tokenized, Path(datasets.config.HF_DATASETS_CACHE) / "death"
def tokenized(self, rows, texts):
    if f"kill {os.environ.get('RANK')}" in sys.argv and read:
        while not any(death.parent.rglob("piece-*")):  # of the row that was read
            time.sleep(0.01)
        death.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    while f"kill {1 - int(os.environ.get('RANK', 0))}" in sys.argv and not death.exists():
        time.sleep(0.01)
    read.extend(texts)
    return call(self, rows, texts)
Encoder.tokenized = tokenized
# the hash of a set in a lambda differs from process to process
text = lambda row: " ".join(word for word in row["text"].split() if word not in {"x", "y", "z"})
coded = encode(ds, SparseAutoencoder.from_pretrained("FOLDER"), text=text, keep="state")
kept = crc32(str(coded["sae_state"][:]).encode())
# One short write: under torchrun the processes share an unbuffered stdout.
print(f"{PartialState().num_processes} {len(read)} {coded['sae_ids'][:]} {kept}\\n", end="")
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]


@pytest.fixture(scope="module")
def script(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    tiny.sae_on(bert).save_pretrained(folder / "sae")
    file = folder / "script.py"
    file.write_text(SCRIPT.replace("FOLDER", str(folder / "sae")))
    return file


@pytest.fixture(scope="module")
def one(script):
    """What one process makes: the lines that it prints, and its files."""
    _, lines, _ = run([sys.executable], script, script.parent / "one")
    return lines, files(script.parent / "one")


def environment(cache):
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return os.environ | quiet | {"HF_DATASETS_CACHE": str(cache)}


def run(launcher, script, cache, *arguments):
    """Return the exit code and the lines of stdout: (number of rows that were read, all codes)."""
    done = subprocess.run(
        [*launcher, script, *arguments], env=environment(cache), capture_output=True, text=True, timeout=120
    )
    return done.returncode, lines_of(done.stdout), done.stderr


def run_two(script, cache, *arguments):
    """Start a job of two processes without torchrun, which ends both when one dies; return (code, stdout, stderr)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, script, *arguments],
            env=environment(cache) | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def lines_of(stdout):
    return [(int(rows), codes) for rows, codes in re.findall(r"^\d (\d) (\[\[.*)$", stdout, re.MULTILINE)]


def files(cache):
    """The files that stay, without those of the job."""
    return sorted(file.relative_to(cache).parts[-1] for file in Path(cache).rglob("*") if file.is_file())


@pytest.mark.slow
def test_two_processes_share_the_work_and_agree_with_one(script, one, tmp_path):
    [(rows, codes)], files_of_one = one
    assert rows == 5
    code, lines, errors = run(TORCHRUN, script, tmp_path / "two")
    assert code == 0, errors
    assert sum(rows for rows, _ in lines) == 5 and [codes for _, codes in lines] == [codes] * 2
    assert files(tmp_path / "two") == files_of_one


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("killed", [0, 1])
def test_when_a_process_dies_the_other_one_encodes_its_rows(script, one, tmp_path, killed):
    [(_, codes)], _ = one
    outputs = run_two(script, tmp_path / "two", f"kill {killed}")
    assert outputs[killed][0] == -9 and outputs[1 - killed][0] == 0, outputs
    ((rows, same),) = lines_of(outputs[1 - killed][1])
    assert 4 <= rows <= 5 and same == codes  # the other one had read a row when it was killed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_whose_process_was_killed_goes_on_where_it_stopped(script, one, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # then the second run has the same function
    [(_, codes)], _ = one
    code, _, _ = run(TORCHRUN, script, tmp_path / "two", "kill 1")
    assert code != 0  # torchrun ends all processes when one dies
    stored = [file for file in files(tmp_path / "two") if file.startswith("piece-")]  # one for each row
    code, lines, errors = run(TORCHRUN, script, tmp_path / "two")
    assert code == 0, errors
    assert [codes for _, codes in lines] == [codes] * 2
    assert stored and sum(rows for rows, _ in lines) == 5 - len(stored)


@pytest.mark.slow
def test_processes_that_share_no_folder_are_told_before_a_model_is_loaded(script, tmp_path):
    for code, _, errors in run_two(script, tmp_path / "two", "apart"):
        assert code != 0 and "only 1 of 2 processes see the folder" in errors and "HF_DATASETS_CACHE" in errors


ROWS_SCRIPT = """
import datasets, os, sys
from hf_sae_select import SparseAutoencoder, encode, select
from hf_sae_select.encoding import claims
claims.POLL_SECONDS = 0.05
rank, sae = int(os.environ["RANK"]), SparseAutoencoder.from_pretrained("FOLDER")
ds = datasets.Dataset.from_dict({"text": WORDS})
def fail(row):
    if rank and row["text"] == "a log":
        raise OSError("a disk is gone")
    return row["text"]
answers = []
for rows, options in (
    (ds.select([0, 1, 2, 3 + rank]), {}),
    (ds.select(range(3 * rank, 3 * rank + 3)), {}),
    (ds.select(range(4 + rank)), {"engine": "processes"}),
    (ds.select([0, 1]) if rank else ds.select([1, 0]), {"text": lambda row: row["text"]}),
    (ds, {"text": fail}),
    (ds, {"text": fail if rank else "text"}),
    (ds, {"keep": "state"} if rank else {}),
):
    try:
        encode(rows, sae, **options)
    except (OSError, RuntimeError) as error:
        answers.append(str(error).split(";")[0])
try:
    select(ds.select([0, 1, 2, 3 + rank]), 2, "greedy", sae=sae, engine=None)
except RuntimeError as error:
    answers.append(str(error).split(";")[0])
same = encode(ds.select([0, 1]), sae)
print("|".join([*answers, str(same["sae_ids"][:])]))
"""
WORDS = ["the cat", "a dog", "the moon", "it was red", "a log", "big"]


@pytest.mark.slow
def test_processes_that_encode_different_rows_are_refused_before_codes_are_written(bert, tmp_path, monkeypatch):
    tiny.sae_on(bert).save_pretrained(tmp_path / "sae")
    script = tmp_path / "script.py"
    script.write_text(ROWS_SCRIPT.replace("FOLDER", str(tmp_path / "sae")).replace("WORDS", str(WORDS)))
    outputs = run_two(script, tmp_path / "two")
    assert [code for code, *_ in outputs] == [0, 0], outputs
    (*first, codes), (*second, same) = (stdout.strip().split("|") for _, stdout, _ in outputs)
    refused, options = "the processes do not encode the same rows", "the processes do not encode in the same way"
    assert first == [
        f"{refused}: row 3 differs in process 1",
        f"{refused}: row 0 differs in process 1",
        f"{refused}: process 0 has 4 rows, and process 1 has 5",
        f"{refused}: row 0 differs in process 1",
        "process 1 cannot read its rows: OSError: a disk is gone",
        f"{options}: text differ",
        f"{options}: keep differ",
        f"{refused}: row 3 differs in process 1",
    ]
    assert second == [*first[:4], "a disk is gone", *first[5:]]
    ds, sae, made = Dataset.from_dict({"text": WORDS}), SparseAutoencoder.from_pretrained(tmp_path / "sae"), []
    for cache in ("two", "new"):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / cache)
        ranges = range(3), range(3, 6), range(2)
        made.append([encode(ds.select(rows), sae)[:] for rows in ranges])
    assert made[0] == made[1] and codes == same == str(made[1][2]["sae_ids"])
