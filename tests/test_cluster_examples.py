"""Examples for clusters and jobs, as far as one machine can try them: their commands, and what they run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
TEXTS = [f"{verb} {noun}." for verb in ("Boil", "Paint") for noun in ("eggs", "doors", "ink")]
STAND_INS = {
    "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift 2; done\nexec "$@"\n',  # options of srun have values here
    "scontrol": "#!/bin/bash\necho 127.0.0.1\n",
}
SCRIPT = """
import sys
from hf_sae_select import Ray, select
if __name__ == "__main__":
    pool, engine, out = sys.argv[1:]
    subset = select(pool, 2, engine=Ray(workers=1) if engine == "ray" else engine)
    subset.to_parquet(out)
"""


@pytest.fixture
def pool(tmp_path):
    Dataset.from_dict({"text": TEXTS}).to_parquet(tmp_path / "pool.parquet")
    return tmp_path / "pool.parquet"


def environment(folder, **more):
    """Return an environment whose caches and Ray's token are in a folder."""
    kept = {"HOME": str(folder), "HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | kept | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def commands():
    """Return the commands of `hf_job.py` that the examples and the docs name, without the script."""
    places = [*EXAMPLES.glob("*.*"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in places)
    return re.findall(r"^.* (?:[\w/]*/)hf_job\.py +(.+)$", text, re.M)


def test_every_command_that_names_the_job_is_one_that_it_takes():
    sys.path.append(str(EXAMPLES))
    import hf_job

    assert len(commands()) >= 3
    for words in commands():
        args = hf_job.arguments(words.split())
        assert args.out is not None or args.repo is not None


@pytest.mark.slow
@pytest.mark.parametrize("engine", [[], pytest.param(["--engine", "ray"], marks=pytest.mark.ray)])
def test_the_job_selects_rows_of_a_file(tmp_path, pool, engine):
    if engine:
        pytest.importorskip("ray", reason='needs Ray: pip install "hf-sae-select[ray]"')
    out = tmp_path / "subset.parquet"
    command = [sys.executable, "-W", "error", EXAMPLES / "hf_job.py", pool, "2", "--out", out, *engine]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Selection(method='herding', rows=2 of 6")
    assert len(load_dataset("parquet", data_files=str(out), split="train")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("engine", [pytest.param("ray", marks=pytest.mark.ray), "processes"])
def test_the_slurm_script_selects_on_the_machine_that_it_gets(tmp_path, pool, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason='needs Ray: pip install "hf-sae-select[ray]"')
    for name, text in (STAND_INS | {"script.py": SCRIPT}).items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    out = tmp_path / "subset.parquet"
    slurm = {"SLURM_JOB_NODELIST": "one", "SLURM_JOB_ID": str(os.getpid()), "ACCELERATE_USE_CPU": "true"}
    command = ["bash", EXAMPLES / "slurm.sh", engine, tmp_path / "script.py", pool, engine, out]
    done = subprocess.run(
        command, env=environment(tmp_path, **slurm), cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert len(load_dataset("parquet", data_files=str(out), split="train")) == 2


@pytest.mark.ray
def test_the_cluster_file_is_one_that_ray_takes():
    pytest.importorskip("ray", reason='needs Ray: pip install "hf-sae-select[ray]"')
    import jsonschema  # of Ray
    from ray import autoscaler

    schema = json.loads((Path(autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((EXAMPLES / "ray_cluster.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError, match="'many' is not of type 'integer'"):
        jsonschema.validate(config | {"max_workers": "many"}, schema)
