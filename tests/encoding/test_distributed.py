import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from zlib import crc32
import datasets, torch
from accelerate import PartialState
from hf_sae_select import SparseAutoencoder, encode
from hf_sae_select.encoding import pipeline
from hf_sae_select.encoding.encoder import Encoder
torch.set_num_threads(1)
pipeline.SHARD_ROWS = 2
ds = datasets.Dataset.from_dict({"text": ["the cat", "a dog", "the moon", "it was red", "a log"]})
read = []
call = Encoder.__call__
Encoder.__call__ = lambda self, texts: read.extend(texts) or call(self, texts)
# the hash of a set in a lambda differs from process to process
text = lambda row: " ".join(word for word in row["text"].split() if word not in {"x", "y", "z"})
coded = encode(ds, SparseAutoencoder.from_pretrained("FOLDER"), text=text, keep="state")
kept = crc32(str(coded["sae_state"][:]).encode())
# One short write: under torchrun the processes share an unbuffered stdout.
print(f"{PartialState().num_processes} {len(read)} {coded['sae_ids'][:]} {kept}\\n", end="")
"""


@pytest.mark.slow
def test_two_processes_share_the_work_and_agree_with_one(sae, tmp_path):
    sae.save_pretrained(tmp_path / "sae")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("FOLDER", str(tmp_path / "sae")))
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}

    def run(*launcher, cache):
        env = os.environ | quiet | {"HF_DATASETS_CACHE": str(tmp_path / cache)}
        done = subprocess.run([*launcher, str(script)], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line]

    (alone,) = run(sys.executable, cache="one")
    assert alone.startswith("1 5 [[")
    torchrun = Path(sys.executable).with_name("torchrun")
    shared = run(torchrun, "--nproc_per_node", "2", "--standalone", cache="two")
    codes = alone.removeprefix("1 5 ")
    assert sorted(shared) == [f"2 2 {codes}", f"2 3 {codes}"]  # three shards, the last of one row
