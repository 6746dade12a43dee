"""Processes of torchrun: each holds a shard, all go through the same selection and get the result of one process."""

import json
import os
import subprocess
import sys

import pytest

from hf_sae_select import SparseAutoencoder

SCRIPT = """
import json, os, sys, warnings
from datasets import Dataset
from hf_sae_select import SparseAutoencoder, encode, select
warnings.simplefilter("ignore", UserWarning)
engine = "processes" if "WORLD_SIZE" in os.environ else None
texts = [" ".join("the cat sat on a big red moon".split()[: 1 + i % 8]) + " dog" * (i % 5) for i in range(30)]
rows = Dataset.from_dict({"text": texts, "kind": ["ab"[i % 2] for i in range(30)]})
coded = encode(rows, SparseAutoencoder.from_pretrained("FOLDER"), keep="state", engine=engine)
answers = [str(coded[:])]
for method in ("greedy", "match", "simscale", "instag", "longest", "random", "herding", "kcenter", "repr_filter"):
    subset = select(coded, 9, method, quota="kind", must_include=[3], engine=engine)
    answers.append(repr(vars(subset.sae_selection)))
if engine and "fail" in sys.argv:
    from hf_sae_select.selection.sharded.shard import Shard
    def fail(self):
        raise OSError("a shard cannot be read")
    summary = Shard.summary
    if os.environ["RANK"] == "1":
        Shard.summary = fail
    try:
        select(coded, 9, "greedy", engine=engine)
    except OSError as error:
        answers.append(str(error))
    Shard.summary = summary
    rank, others = int(os.environ["RANK"]), rows.select(range(29, -1, -1))
    coded_others = encode(others, SparseAutoencoder.from_pretrained("FOLDER"), engine=engine)
    for pool, budget, method, options in (
        (coded, 9, ["greedy", "random"][rank], {}),
        (coded, 9 + rank, "greedy", {}),
        (coded, 9, "greedy", {"seed": rank}),
        (coded, 9, "greedy", {"exclude": [[0, 24], [15, 1]][rank]}),
        (coded, 9, "greedy", {"threshold": 0.5 + rank}),
        ([coded, coded_others][rank], 9, "greedy", {}),
        (coded.select(range(20 + rank)), 9, "greedy", {}),
        (rows, 9, "greedy", {"sae": SparseAutoencoder.from_pretrained("FOLDER"), "max_length": [8, 4][rank]}),
        (rows, 9, "greedy", {"sae": SparseAutoencoder.from_pretrained("FOLDER"), "text": ["text", "kind"][rank]}),
        (coded, 5, "match", {"target": [[0, 3], [1, 2]][rank]}),
    ):
        if "target" in options:
            options = {"target": coded.select(options["target"]), "overlap": "keep"}
        try:
            select(pool, budget, method, engine=engine, **options)
        except RuntimeError as error:
            answers.append(str(error).partition(": ")[2].partition(";")[0])
with open(sys.argv[1] + os.environ.get("RANK", "one"), "w") as file:
    json.dump(answers, file)
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]


@pytest.mark.slow
def test_processes_select_what_one_process_selects(sae, tmp_path):
    sae.save_pretrained(tmp_path / "sae")
    assert SparseAutoencoder.from_pretrained(tmp_path / "sae").digest() == sae.digest()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("FOLDER", str(tmp_path / "sae")))
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "ACCELERATE_USE_CPU": "true"}
    for launcher, cache in (([sys.executable], "one"), (TORCHRUN, "two")):
        environment = os.environ | quiet | {"HF_DATASETS_CACHE": str(tmp_path / cache)}
        command = [*launcher, script, str(tmp_path / "answers-"), "fail"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, first, second = (json.loads((tmp_path / f"answers-{name}").read_text()) for name in ("one", "0", "1"))
    assert len(one) == 10 and first[:10] == second[:10] == one
    differ = ["`method` or its options", "`budget`", "`seed`", "constraints"]
    differ += [
        "`threshold`, `top`, `max_share` or `embedding`",
        "rows",
        "rows, constraints",
        "max_length",
        "text",
        "`target`",
    ]
    assert first[10:] == second[10:] == ["a shard cannot be read", *(f"{name} differ" for name in differ)]
