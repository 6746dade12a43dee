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


def test_the_verbs_one_after_another(rows, process):
    """With the SAE of the package."""
    done = process("encode", "pool.jsonl", "-o", "encoded.parquet", "--batch-size", "8")
    assert done.code == 0 and done.out.splitlines()[-1] == "written: encoded.parquet, encoded.yaml"
    assert "Encoding `text`: 100%" in done.err and "Encoding" not in done.out
    done = process("select", "encoded.parquet", "4", "--out", "subset.parquet", "--json")
    result = json.loads(done.out)
    assert (done.code, result["rows"], result["out"]) == (0, 4, "subset.parquet")
    subset = Dataset.from_parquet("subset.parquet")
    assert subset["text"][:] == [Dataset.from_json("pool.jsonl")[row]["text"] for row in result["indices"]]
    done = process("select", "--config", "subset.yaml", "--out", "again.parquet", "--json")
    assert json.loads(done.out) == result | {"out": "again.parquet"}
    done = process("compare", "subset.parquet")
    assert done.code == 0 and done.out.splitlines()[1].split()[:2] == ["match", "4"]
    done = process("explain", "subset.parquet", "--picks", "0,1", "--json")
    assert [reason["row"] for reason in json.loads(done.out)["reasons"]] == result["indices"][:2]
    assert process("why-not", "subset.parquet", result["indices"][0]).out.startswith("Row ")
    done = process("report", "subset.parquet", "report.html")
    assert (done.code, done.out) == (0, "report.html\n") and (rows / "report.html").is_file()
    assert process("atlas", "encoded.parquet", "atlas.parquet").code == 0
    assert process("stage", "subset.parquet", "staged", "--license", "mit").code == 0
    done = process("verify", "staged", "--level", "select", "--json")
    assert done.code == 0 and json.loads(done.out)["verified"] is True
    (rows / "staged" / "likeness.png").write_bytes(b"")
    done = process("verify", "staged")
    assert done.code == 1 and "DIFFERS  digests: files: likeness.png" in done.out


def test_a_model_in_a_folder(rows, saved_sae, bert, process):
    config = ["topk", "d_sae=32", "k=4", "training_tokens=256", "train_batch_size_tokens=32", "buffer_tokens=256"]
    words = [word for value in config for word in ("--training-config", value)]
    done = process("train", "pool.jsonl", "--model", bert, "--hook", "encoder.layer.1", *words, "-o", "own", "--json")
    assert done.code == 0 and json.loads(done.out)["config"]["k"] == 4 and "Training:" in done.err
    done = process("evaluate", "own", "pool.jsonl", "--text", "text")
    assert done.code == 0 and done.out.startswith("explained_variance: ")
    done = process("label", "pool.jsonl", "--sae", "own", "--out", "own/labels.parquet")
    assert done.code == 0 and done.out.splitlines()[1] == "written: own/labels.parquet, own/labels.yaml"
    done = process("check-l0", saved_sae, "pool.jsonl")
    assert done.code in (0, 1) and done.out.startswith("L0 ")


def test_the_hub(hub, rows, sae, bert, process):
    hub.push("alice/rows", {"train.jsonl": (rows / "pool.jsonl").read_bytes()}, kind="dataset")
    model = hub.push("alice/bert", {file.name: file.read_bytes() for file in bert.iterdir()})
    sae.config = replace(sae.config, model="alice/bert", model_revision=model)
    sae.push_to_hub("alice/sae", token="hf_alice")
    online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_alice"}
    done = process("load", "alice/sae", "-o", "copy", **online)
    assert done.code == 0 and done.out.startswith("SparseAutoencoder(16 -> 32") and (rows / "copy.yaml").is_file()
    words = ["select", "alice/rows:train", "3", "--sae", "alice/sae", "-o", "subset.parquet"]
    assert process(*words, **online).code == 0
    done = process("publish", "subset.parquet", "alice/first", "--license", "mit", **online)
    assert done.code == 0 and done.out.startswith(f"{hub.url}/datasets/alice/first/commit/")
    assert process("stage", "subset.parquet", "staged", "--license", "mit", **online).code == 0
    done = process("push", "staged", "alice/second", "--json", **online)
    assert done.code == 0 and len(json.loads(done.out)["commit"]) == 40
    done = process("verify", "alice/second", "--level", "select", **online)
    assert done.code == 0 and "source  alice/rows at " in done.out
    done = process("load-selection", "alice/second", "--json", **online)
    assert json.loads(done.out)["rows"] == 3
    assert all(verify(name, "select") for name in ("alice/first", "alice/second"))


def test_errors_and_wrong_calls(rows, process):
    done = process("select", "pool.jsonl", "900", "--json")
    assert done.code == 2 and "`budget=900`" in json.loads(done.out)["error"]
    assert done.err.splitlines()[-1].startswith("cannot select: ValueError: `budget=900`")
    assert "Traceback" not in done.err
    assert process().code == 2 and process("selekt").code == 2
    done = process("--version")
    assert (done.code, done.out, done.err) == (0, f"hf-sae-select {__version__}\n", "")


def test_ctrl_c_ends_quietly_and_says_what_is_kept(rows, saved_sae, process):
    (rows / "mine.py").write_text(
        "import os, signal\n\n\ndef text(row):\n"
        "    if 'log' in row['text']:\n        os.kill(os.getpid(), signal.SIGINT)\n    return row['text']\n"
    )
    words = ["select", "pool.jsonl", "3", "--sae", saved_sae, "--text", "mine.py:text", "-o", "subset.csv"]
    done = process(*words)
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-1] == "interrupted; subset.csv is not written" and "Traceback" not in done.err
    assert sorted(path.name for path in rows.iterdir()) == ["__pycache__", "mine.py", "pool.jsonl", "sae"][1:]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/full"])
def test_closed_and_full_streams(rows, closed):
    script = f'"$0" -m hf_sae_select load {closed}'
    done = subprocess.run(["sh", "-c", script, sys.executable], capture_output=True, text=True, timeout=120)
    is_printed = closed == "2>&-"
    assert done.returncode == (0 if is_printed else 2) and "Traceback" not in done.stderr
    assert done.stdout.startswith("SparseAutoencoder(") == is_printed


def test_hostile_names_are_not_obeyed(rows, saved_sae, process):
    Dataset.from_dict({HOSTILE: ["the cat sat", "a dog ran", "the moon"]}).to_parquet("rows.parquet")
    os.rename("rows.parquet", f"{HOSTILE}.parquet")
    done = process("select", f"{HOSTILE}.parquet", "2", "--sae", saved_sae, "--text", HOSTILE, "-o", f"{HOSTILE}.csv")
    assert done.code == 0, done.err
    assert "\x07" not in done.out + done.err and "\x1b[2J" not in done.out + done.err
    done = process("select", f"{HOSTILE}.parquet", "2", "--quota", HOSTILE)
    assert done.code == 2 and "\x07" not in done.err and "\x1b[2J" not in done.err
    done = process("encode", f"{HOSTILE}.parquet", "--sae", saved_sae, "--text", HOSTILE, "--json")
    assert json.loads(done.out)["columns"][0] == HOSTILE
