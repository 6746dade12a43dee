"""Run files: the same run again, flags that beat the file, and neither the machine nor secrets in it."""

import json
import re
import shutil

import pytest
import yaml

from hf_sae_select import Selection
from hf_sae_select.cli.commands import COMMANDS
from hf_sae_select.cli.runs import read_run, write_run

SELECT = ["select", "pool.jsonl", "3", "--sae", "sae"]


@pytest.mark.usefixtures("saved_sae")
def test_a_run_is_repeated(rows, call):
    words = [*SELECT, "--method", "simscale", "--option", "max_overlap=0.5", "--quota", '{"lang": {"en": 0.5}}']
    assert call(*words, "--exclude", "7,2", "--max-share", "0.9", "--seed", "none", "-o", "subset.jsonl").code == 0
    values = yaml.safe_load((rows / "subset.yaml").read_text())
    assert len(values.pop("pool_sha256")) == 64
    assert values == {
        "command": "select",
        "version": call("--version").out.split()[1],
        "dataset": "pool.jsonl",
        "budget": "3",
        "method": "simscale",
        "sae": "sae",
        "max_share": 0.9,
        "seed": None,
        "exclude": [7, 2],
        "quota": {"lang": {"en": 0.5}},
        "option": {"max_overlap": 0.5},
        "out": "subset.jsonl",
    }
    files = [rows / name for name in ("subset.jsonl", "subset.yaml", "subset.selection.json")]
    before = [file.read_bytes() for file in files]
    done = call("select", "--config", "subset.yaml")
    assert done.code == 2 and "'subset.jsonl' exists" in done.err
    for file in files[::2]:
        file.unlink()
    (rows / "subset.yaml").rename("again.yaml")
    assert call("select", "--config", "again.yaml").code == 0
    assert [file.read_bytes() for file in files] == before


@pytest.mark.usefixtures("saved_sae")
def test_a_flag_beats_the_file(rows, call):
    call(*SELECT, "--exclude", "7", "--option", "exhausted=stop", "--method", "instag", "-o", "subset.csv")
    words = ["select", "--config", "subset.yaml", "--json"]
    done = call(*words, "--budget", "2", "--exclude", "1", "--out", "other.csv")
    parameters = json.loads(done.out)["parameters"]
    assert parameters["budget"] == 2 and parameters["constraints"] == {"exclude": [1]}
    assert parameters["options"] == {"exhausted": "stop"} and (rows / "other.csv").is_file()
    (rows / "other.jsonl").write_text('{"text": "a cat"}\n{"text": "a dog"}\n')
    done = call(*words, "other.jsonl", "1", "--exclude", "1", "-o", "third.csv")
    assert json.loads(done.out)["pool_rows"] == 2


@pytest.mark.usefixtures("saved_sae")
def test_paths_are_relative_to_the_file(rows, call, tmp_path, monkeypatch):
    (rows / "results").mkdir()
    call(*SELECT, "--extend", "pool.jsonl", "--budget", "8", "-o", "results/subset.csv")
    (rows / "results" / "subset.csv").unlink(missing_ok=True)
    call(*SELECT, "-o", "results/subset.csv", "--overwrite")
    values = yaml.safe_load((rows / "results" / "subset.yaml").read_text())
    assert (values["dataset"], values["sae"], values["out"]) == ("../pool.jsonl", "../sae", "subset.csv")
    text = (rows / "results" / "subset.csv").read_bytes()
    moved = shutil.move(rows, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    done = call("select", "--config", "moved/results/subset.yaml", "--overwrite")
    assert done.code == 0 and (moved / "results" / "subset.csv").read_bytes() == text


@pytest.mark.usefixtures("saved_sae")
def test_the_machine_is_not_in_the_file(rows, call, tmp_path):
    call(*SELECT, "-o", tmp_path / "subset.csv")
    text = (tmp_path / "subset.yaml").read_text()
    assert str(tmp_path) not in text and "dataset: pool.jsonl\n" in text
    call("select", rows / "pool.jsonl", "3", "--sae", "sae", "-o", "subset.csv")
    assert f"dataset: {rows / 'pool.jsonl'}" in (rows / "subset.yaml").read_text()  # as it was written


def test_no_token_is_in_the_file(tmp_path):
    secret = "hf_" + "a" * 34
    words = {"source": f"https://me:{secret}@host/x", "token": secret, "out": "sae"}
    write_run(tmp_path / "run.yaml", COMMANDS["load"], words)
    text = (tmp_path / "run.yaml").read_text()
    assert secret not in text and "token" not in text and "https://***@host/x" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budjet: 3", "has the unknown key 'budjet'; did you mean 'budget'?"),
        ("zzz: 3", "has the unknown key 'zzz'; it may have: dataset, budget"),
        ("token: x", "has the unknown key 'token'"),
        ("command: encode", "is of the command 'encode', and this is 'select'"),
        ("- a", "holds no arguments"),
        ("", "holds no arguments"),
        ("budget: 3\nbudget: 4", "it has the key 'budget' twice"),
        ("quota: {lang: {en: 1, en: 2}}", "it has the key 'en' twice"),
        ("dataset: pool.jsonl\nbudget: 3\nseed: 1.5", "'1.5' is no whole number"),
        ("a: [", "cannot be read as YAML"),
        ("a: &x [1]\nb: *x", "aliases are not read"),
        ("a: !!python/object/apply:os.system [exit]", "cannot be read as YAML"),
    ],
)
def test_files_that_are_no_run_of_this_command(rows, call, text, message):
    (rows / "run.yaml").write_text(text + "\n")
    done = call("select", "--config", "run.yaml")
    assert (done.code, done.out) == (2, "") and message in done.err and "Traceback" not in done.err
    assert message in json.loads(call("select", "--config", "run.yaml", "--json").out)["error"]


def test_a_file_that_is_missing(rows, call):
    done = call("select", "--config", "run.yaml")
    assert done.code == 2 and "`config='run.yaml'`: there is no such file" in done.err


def test_a_file_written_by_hand(tmp_path):
    (tmp_path / "rows.csv").write_text("text\na\n")
    (tmp_path / "run.yaml").write_text(
        "dataset: rows.csv\nbudget: 0.5\nmust-include: [3, 4]\ntext: [a, b]\nkeep_codes: true\nseed: null\n"
        "quota: {lang: {en: 2}}\nexclude: 7\noption:\n  max_overlap: 0.5\n"
    )
    assert read_run(tmp_path / "run.yaml", COMMANDS["select"]) == {
        "dataset": str(tmp_path / "rows.csv"),
        "budget": "0.5",
        "must_include": ["3", "4"],
        "text": ["a", "b"],
        "keep_codes": True,
        "seed": "none",
        "quota": '{"lang": {"en": 2}}',
        "exclude": ["7"],
        "option": ['{"max_overlap": 0.5}'],
    }


@pytest.mark.usefixtures("saved_sae")
def test_the_commit_of_a_hub_dataset_is_kept(hub, rows, call):
    first = hub.push("alice/rows", {"train.jsonl": (rows / "pool.jsonl").read_bytes()}, kind="dataset")
    words = ["select", "alice/rows:train", "3", "--sae", "sae", "-o", "subset.csv"]
    assert call(*words).code == 0
    values = yaml.safe_load((rows / "subset.yaml").read_text())
    assert (values["dataset"], values["revision"]) == ("alice/rows:train", first)
    subset = (rows / "subset.csv").read_bytes()
    hub.push("alice/rows", {"train.jsonl": b'{"text": "other"}\n'}, kind="dataset")
    assert call("select", "--config", "subset.yaml", "--overwrite").code == 0
    assert (rows / "subset.csv").read_bytes() == subset


@pytest.mark.usefixtures("saved_sae")
def test_compare_reads_the_run_of_a_selection(rows, call):
    call(*SELECT, "--method", "greedy", "--exclude", "7", "--keep-codes", "-o", "subset.csv")
    call(*SELECT, "--method", "greedy", "--exclude", "7", "-o", "subset.csv", "--overwrite")
    lines = {}
    for name, words in {"config": ["--config", "subset.yaml"], "subset": ["subset.csv"]}.items():
        done = call("compare", *words, "--json")
        assert done.code == 0, done.err
        lines[name] = json.loads(re.sub('"seconds": [^,}]*', '"seconds": 0', done.out))["methods"]
    assert lines["config"] == lines["subset"]
    assert [line["method"] for line in lines["config"]] == ["greedy", "longest", "random", "(all rows)"]
    assert [line["rows"] for line in lines["config"]] == [3, 3, 3, 7]
    assert Selection.load("subset.selection.json").pool_rows == 8
