"""The scripts that the README names run, on a few rows."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from helpers import tiny

from hf_sae_select import stage

ROOT = Path(__file__).parent.parent
ROWS = [
    f"{verb} {noun}." for verb in ("Boil", "Paint", "Sell", "Describe") for noun in ("an egg", "a house", "a poem")
]


def run(script, *arguments, cache):
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(cache)}
    command = [sys.executable, "-W", "error", str(ROOT / script), *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", ["match", "simscale"])
@pytest.mark.slow
def test_quickstart_on_a_file(tmp_path, method):
    file, report = tmp_path / "rows.jsonl", tmp_path / "report.html"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in ROWS))
    command = ["examples/quickstart.py", "--data", file, "--budget", "34%", "--method", method, "--report", report]
    printed = run(*command, cache=tmp_path / "c")
    assert "12 rows; columns: text" in printed
    assert f"4 rows picked by '{method}'" in printed
    assert "The 4 picks are as like all 12 rows as " in printed
    for name in ("likeness random_rows", "random", "longest", "the picks have most often: #", "no pick has"):
        assert name in " ".join(printed.split())
    assert printed.count("Pick ") == 4 and printed.count("“") == 4
    assert printed.splitlines()[-1].endswith(f"Open it in a browser: {report.as_uri()}")
    assert report.read_text(encoding="utf-8").startswith("<!")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "no.jsonl"], "--data: no such file: 'no.jsonl'"),
        (["--report", "no/report.html"], "--report: 'no/report.html' must be a file in a folder that exists"),
        (["--report", "."], "--report: '.' must be a file"),
    ],
)
def test_quickstart_checks_its_arguments_first(monkeypatch, capsys, words, message):
    sys.path.append(str(ROOT / "examples"))
    import quickstart

    monkeypatch.setattr(sys, "argv", ["quickstart.py", *words])
    with pytest.raises(SystemExit) as stopped:
        quickstart.main()
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert [quickstart.rows_or_share(text) for text in ("4", "0.5", "5%", "2k tokens")] == [4, 0.5, "5%", "2k tokens"]


@pytest.mark.slow
def test_rows_for_a_task(tmp_path):
    pool, target = tmp_path / "pool.jsonl", tmp_path / "target.jsonl"
    pool.write_text("".join(json.dumps({"text": text}) + "\n" for text in ROWS))
    target.write_text("".join(json.dumps({"text": f"Boil {noun}."}) + "\n" for noun in "abcdefgh"))
    command = ["examples/select_for_a_task.py", "--pool", pool, "--target", target, "--budget", 3]
    printed = run(*command, cache=tmp_path / "c")
    assert "Selection(method='herding', rows=3 of 12" in printed and "- Boil an egg." in printed
    assert "untargeted" in printed and "in reference (8 rows)" in printed


@pytest.mark.slow
def test_the_docstrings_of_the_standard_library_are_thousands():
    sys.path.append(str(ROOT / "examples"))
    from quickstart import docstrings

    ds = docstrings()
    assert 2000 < len(ds) <= 4000 and ds.column_names == ["name", "text"]
    assert len(set(ds["text"])) == len(ds)


@pytest.mark.slow
def test_the_alpaca_benchmark_on_a_few_rows(tmp_path):
    columns = {"instruction": ROWS, "input": [""] * 12, "output": ROWS[::-1]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "rows.parquet")
    printed = run("benchmarks/alpaca.py", "--data", tmp_path / "rows.parquet", "--budget", 4, cache=tmp_path / "c")
    for method in ("greedy", "simscale", "random", "longest"):
        assert method in printed
    assert "12 rows" in printed and "Pearson r" in printed


@pytest.mark.slow
def test_the_papers_experiment_on_a_tiny_model_goes_on_where_it_stopped(tmp_path):
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ROWS))
    command = [
        "examples/paper_experiment.py",
        "--tiny",
        "--out",
        tmp_path / "out",
        "--budgets",
        8,
        "--methods",
        "random",
    ]
    command += ["greedy", "--train-sae-on", tmp_path / "texts.jsonl"]
    printed = run(*command, cache=tmp_path / "c")
    assert printed.count("These numbers mean nothing; we have never run the full experiment.") == 2
    assert printed.count("train_runtime") == 2
    asked = ["heapq", "heapq.heappush", "heapq.heappop", "heapq.heapreplace"]
    asked = [f"What is `{name}` of Python's standard library for?" for name in asked]
    for method in ("random", "greedy"):
        folder = tmp_path / "out" / f"{method}-8"
        files = ["losses.json", "model", "model_outputs.json", "responses.jsonl", "selection.json"]
        assert sorted(file.name for file in folder.iterdir()) == files
        selection = json.loads((folder / "selection.json").read_text())
        picked, held_out = set(selection["indices"]), set(selection["parameters"]["constraints"]["exclude"])
        assert (selection["method"], len(selection["indices"]), len(picked), len(held_out)) == (method, 8, 8, 8)
        assert not picked & held_out
        responses = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
        assert [each["prompt"] for each in responses] == asked
        outputs = json.loads((folder / "model_outputs.json").read_text())
        assert [each["instruction"] for each in outputs] == asked  # the same questions, so the same answers
        assert [each["output"] for each in outputs] == [each["response"] for each in responses]
        assert {(each["generator"], each["dataset"]) for each in outputs} == {(f"out-{method}-8", "standard library")}
        losses = json.loads((folder / "losses.json").read_text())
        assert len(losses) == 8 and all(each["tokens"] > 1 and 6 < each["loss"] < 6.5 for each in losses)  # log(512)

    shutil.rmtree(tmp_path / "out/greedy-8/model")  # no longer needed
    (tmp_path / "out/random-8/losses.json").unlink()
    again = run(*command, cache=tmp_path / "c")
    assert "train_runtime" not in again and not (tmp_path / "out/greedy-8/model").exists()
    assert again.partition("held-out loss")[2] == printed.partition("held-out loss")[2]


def test_the_papers_experiment_learns_the_responses_alone():
    sys.path.append(str(ROOT / "examples"))
    from paper_experiment import WINDOW, example

    tokenizer = tiny.tokenizer("[CLS] $A")
    tokenizer.eos_token = "[SEP]"
    made = example(tokenizer, {"instruction": "the cat", "input": None, "output": "sat on the mat"})
    response = [tiny.VOCABULARY[word] for word in ("sat", "on", "the", "mat", "[SEP]")]
    asked = len(made["labels"]) - 5
    assert made["labels"] == [-100] * asked + response and made["input_ids"][asked:] == response
    assert made["input_ids"][0] == tiny.VOCABULARY["[CLS]"]
    cut = example(tokenizer, {"instruction": "the cat", "output": "sat " * WINDOW})
    assert len(cut["input_ids"]) == WINDOW
    assert cut["labels"] == [-100] * asked + [tiny.VOCABULARY["sat"]] * (WINDOW - asked)


@pytest.mark.slow
def test_the_workflow_runs_and_fails_where_something_differs(tmp_path):
    workflow = yaml.safe_load((ROOT / "examples/verify_subset.yml").read_text())
    *_, install, verify = workflow["jobs"]["verify"]["steps"]
    assert install["run"] == 'pip install "hf-sae-select[publish]"'
    subset = Dataset.from_dict({"text": ROWS}).sae_select(4)
    stage(subset, tmp_path / "subset", license="mit")
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SUBSET": str(tmp_path / "subset"),
    }

    def run():
        command = ["bash", "-e", "-c", verify["run"]]
        return subprocess.run(command, env=env | {"LEVEL": "select"}, capture_output=True, text=True, timeout=300)

    done = run()
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("verified to the level `select`: ")
    (tmp_path / "subset/likeness.png").unlink()
    done = run()
    assert done.returncode == 1 and "DIFFERS  digests: files: likeness.png is missing" in done.stdout
