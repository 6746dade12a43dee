"""The scripts that the README names run, on a few rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

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


@pytest.mark.parametrize("method", ["greedy", "simscale"])
def test_quickstart_on_a_file(tmp_path, method):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in ROWS))
    printed = run("examples/quickstart.py", "--data", file, "--budget", 4, "--method", method, cache=tmp_path / "c")
    assert "12 rows; columns: text" in printed
    assert f"4 rows picked by '{method}'" in printed
    assert printed.count("brings") == 4 and "random" in printed and "longest" in printed


def test_the_docstrings_of_the_standard_library_are_thousands():
    sys.path.append(str(ROOT / "examples"))
    from quickstart import docstrings

    ds = docstrings()
    assert 2000 < len(ds) <= 4000 and ds.column_names == ["name", "text"]
    assert len(set(ds["text"])) == len(ds)


def test_the_alpaca_benchmark_on_a_few_rows(tmp_path):
    columns = {"instruction": ROWS, "input": [""] * 12, "output": ROWS[::-1]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "rows.parquet")
    printed = run("benchmarks/alpaca.py", "--data", tmp_path / "rows.parquet", "--budget", 4, cache=tmp_path / "c")
    for method in ("greedy", "simscale", "random", "longest"):
        assert method in printed
    assert "12 rows" in printed and "Pearson r" in printed


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

    assert (run().returncode, run().stdout.splitlines()[-1]) == (0, "verified to the level `select`")
    (tmp_path / "subset/coverage.png").unlink()
    done = run()
    assert done.returncode == 1 and "DIFFERS  digests: files: coverage.png is missing" in done.stdout
