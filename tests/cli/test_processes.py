"""Every command as a process: exit codes, results on stdout, bars and errors on stderr."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from datasets import Dataset

from hf_sae_select import __version__, verify

pytestmark = pytest.mark.slow

HOSTILE = "\x1b]0;owned\x07\x1b[2J"


def test_the_verbs_one_after_another(rows, call, process, processes):
    """With the SAE of the package."""
    done = process("encode", "pool.jsonl", "-o", "encoded.parquet", "--batch-size", "8")
    assert done.code == 0 and done.out.splitlines()[-1] == "written: encoded.parquet, encoded.yaml"
    assert "Encoding `text`: 100%" in done.err and "Encoding" not in done.out
    select, again, compare, explain, why_not, report, atlas, stage, verification = processes(
        ["select", "encoded.parquet", "4", "--out", "subset.parquet", "--json"],
        ["select", "--config", "subset.yaml", "--out", "again.parquet", "--json"],
        ["compare", "subset.parquet"],
        ["explain", "subset.parquet", "--picks", "0,1", "--json"],
        ["why-not", "subset.parquet", "0"],
        ["report", "subset.parquet", "report.html"],
        ["atlas", "encoded.parquet", "atlas.parquet"],
        ["stage", "subset.parquet", "staged", "--license", "mit"],
        ["verify", "staged", "--level", "select", "--json"],
    )
    result = json.loads(select.out)
    assert (select.code, result["rows"], result["out"]) == (0, 4, "subset.parquet")
    subset = Dataset.from_parquet("subset.parquet")
    assert subset["text"][:] == [Dataset.from_json("pool.jsonl")[row]["text"] for row in result["indices"]]
    assert json.loads(again.out) == result | {"out": "again.parquet"}
    assert compare.code == 0 and compare.out.splitlines()[1].split()[:2] == ["herding", "4"]
    assert [reason["row"] for reason in json.loads(explain.out)["reasons"]] == result["indices"][:2]
    assert why_not.out.startswith("Row 0 ")
    assert (report.code, report.out) == (0, "report.html\n") and (rows / "report.html").is_file()
    assert (atlas.code, stage.code) == (0, 0)
    assert verification.code == 0 and json.loads(verification.out)["verified"] is True
    (rows / "staged" / "likeness.png").write_bytes(b"")
    done = call("verify", "staged")
    assert done.code == 1 and "DIFFERS  digests: files: likeness.png" in done.out


def test_a_model_in_a_folder(rows, saved_sae, bert, processes):
    config = ["topk", "d_sae=32", "k=4", "training_tokens=256", "train_batch_size_tokens=32", "buffer_tokens=256"]
    words = [word for value in config for word in ("--training-config", value)]
    train, evaluate, label, check = processes(
        ["train", "pool.jsonl", "--model", bert, "--hook", "encoder.layer.1", *words, "-o", "own", "--json"],
        ["evaluate", "own", "pool.jsonl", "--text", "text"],
        ["label", "pool.jsonl", "--sae", "own", "--out", "own/labels.parquet"],
        ["check-l0", saved_sae, "pool.jsonl"],
    )
    assert train.code == 0 and json.loads(train.out)["config"]["k"] == 4 and "Training:" in train.err
    assert evaluate.code == 0 and evaluate.out.startswith("explained_variance: ")
    assert label.code == 0 and label.out.splitlines()[1] == "written: own/labels.parquet, own/labels.yaml"
    assert check.code in (0, 1) and check.out.startswith("L0 ")


def test_the_hub(hub, rows, sae, bert, processes):
    hub.push("alice/rows", {"train.jsonl": (rows / "pool.jsonl").read_bytes()}, kind="dataset")
    model = hub.push("alice/bert", {file.name: file.read_bytes() for file in bert.iterdir()})
    sae.config = replace(sae.config, model="alice/bert", model_revision=model)
    sae.push_to_hub("alice/sae", token="hf_alice")
    online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_alice"}
    load, select, publish, stage, push, verification, selection = processes(
        ["load", "alice/sae", "-o", "copy"],
        ["select", "alice/rows:train", "3", "--sae", "alice/sae", "-o", "subset.parquet"],
        ["publish", "subset.parquet", "alice/first", "--license", "mit"],
        ["stage", "subset.parquet", "staged", "--license", "mit"],
        ["push", "staged", "alice/second", "--json"],
        ["verify", "alice/second", "--level", "select"],
        ["load-selection", "alice/second", "--json"],
        **online,
    )
    assert load.code == 0 and load.out.startswith("SparseAutoencoder(16 -> 32") and (rows / "copy.yaml").is_file()
    assert (select.code, stage.code) == (0, 0)
    assert publish.code == 0 and publish.out.startswith(f"{hub.url}/datasets/alice/first/commit/")
    assert push.code == 0 and len(json.loads(push.out)["commit"]) == 40
    assert verification.code == 0 and "source  alice/rows at " in verification.out
    assert json.loads(selection.out)["rows"] == 3
    assert all(verify(name, "select") for name in ("alice/first", "alice/second"))


def test_errors_and_wrong_calls(rows, process):
    done = process("select", "pool.jsonl", "900", "--json")
    assert done.code == 2 and "`budget=900`" in json.loads(done.out)["error"]
    assert done.err.splitlines()[-1].startswith("cannot select: ValueError: `budget=900`")
    assert "Traceback" not in done.err and process().code == 2
    done = process("--version")
    assert (done.code, done.out, done.err) == (0, f"hf-sae-select {__version__}\n", "")


def test_ctrl_c_ends_quietly_and_says_what_is_kept(rows, saved_sae, process):
    # A process that a script started in the background ignores the signal: here it heeds it, as in a terminal.
    (rows / "mine.py").write_text(
        "import os, signal\n\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n\n\ndef text(row):\n"
        "    if 'log' in row['text']:\n        os.kill(os.getpid(), signal.SIGINT)\n    return row['text']\n"
    )
    words = ["select", "pool.jsonl", "3", "--sae", saved_sae, "--text", "mine.py:text", "-o", "subset.csv"]
    done = process(*words)
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-1] == "interrupted; subset.csv is not written" and "Traceback" not in done.err
    assert sorted(path.name for path in rows.iterdir()) == ["__pycache__", "mine.py", "pool.jsonl", "sae"][1:]


PASS = """
import os, signal, time, torch
from hf_sae_select.encoding.language_model import LanguageModel

signal.signal(signal.SIGINT, signal.default_int_handler)
forward = LanguageModel._forward


def interrupted(self, batch, length):
    matrix = torch.ones(300, 300)
    for seconds in (0.3, 0.3, 1):
        os.kill(os.getpid(), signal.SIGINT)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            matrix @ matrix
    return forward(self, batch, length)


LanguageModel._forward = interrupted


def text(row):
    return row["text"]
"""


def test_ctrl_c_again_and_again_ends_as_one_does(rows, saved_sae, process):
    """An interpreter that ends while a thread runs torch aborts."""
    (rows / "mine.py").write_text(PASS)
    done = process("encode", "pool.jsonl", "--sae", saved_sae, "--text", "mine.py:text", "-o", "encoded.parquet")
    assert (done.code, done.out) == (130, "") and "Traceback" not in done.err
    assert "Interrupted: stopping after the forward pass under way" in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("interrupted; encoded.parquet is not written; 0 of 8 rows are encoded and kept in ")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/full"])
def test_closed_and_full_streams(folder, closed):
    script = f'"$0" -m hf_sae_select load-selection "$1" {closed}'  # which loads no torch
    done = subprocess.run(["sh", "-c", script, sys.executable, folder], capture_output=True, text=True, timeout=120)
    is_printed = closed == "2>&-"
    assert done.returncode == (0 if is_printed else 2)
    assert done.stdout.startswith("Selection(") == is_printed
    is_told = closed in (">&-", ">/dev/full")
    assert done.stderr == "the result cannot be printed: stdout is closed or full\n" * is_told


@pytest.mark.parametrize(("reader", "code"), [("| head -1", 0), (">/dev/full", 2)])
def test_help_that_is_not_read(reader, code):
    script = f'set -o pipefail; "$0" -m hf_sae_select --help {reader}'
    done = subprocess.run(["bash", "-c", script, sys.executable], capture_output=True, text=True, timeout=120)
    assert done.returncode == code and done.stderr.count("\n") == (code > 0) and "Traceback" not in done.stderr


def test_hostile_names_are_not_obeyed(rows, saved_sae, processes):
    Dataset.from_dict({HOSTILE: ["the cat sat", "a dog ran", "the moon"]}).to_parquet("rows.parquet")
    os.rename("rows.parquet", f"{HOSTILE}.parquet")
    select, quota, encode = processes(
        ["select", f"{HOSTILE}.parquet", "2", "--sae", saved_sae, "--text", HOSTILE, "-o", f"{HOSTILE}.csv"],
        ["select", f"{HOSTILE}.parquet", "2", "--quota", HOSTILE],
        ["encode", f"{HOSTILE}.parquet", "--sae", saved_sae, "--text", HOSTILE, "--json"],
    )
    assert (select.code, quota.code) == (0, 2), select.err
    for text in (select.out, select.err, quota.err):
        assert "\x07" not in text and "\x1b[2J" not in text
    assert json.loads(encode.out)["columns"][0] == HOSTILE
