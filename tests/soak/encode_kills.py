"""Kill `encode` at every step in turn, call it again, and count what survived: `python tests/soak/encode_kills.py`.

After a kill, the same call must give the codes of an encoding that nobody disturbed, byte for byte, encode no row
again that a finished file has, and leave no part of a file and no unmerged piece behind. `--steps` kills at so many
steps, spread evenly.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import datasets
import pyarrow as pa
import torch
from datasets import Dataset
from helpers import tiny

from hf_sae_select import encode
from hf_sae_select.encoding import encoder, run, store
from hf_sae_select.encoding.collector import RowCollector
from hf_sae_select.encoding.encoder import Encoder

ROWS = 22
WORDS = "the cat sat on a mat and big red bird flew over moon".split()
TEXTS = [" ".join(WORDS[(i * k) % 13] for k in range(1, 2 + i % 7)) + " dog" * i for i in range(ROWS)]


def steps(act: Callable[[], None]) -> None:
    """Call `act` before and after each step of an encoding."""

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            act()
            result = function(*arguments, **options)
            act()
            return result

        return call

    class Writer:
        def __init__(self, sink: Any, schema: Any) -> None:
            writer = pa.RecordBatchStreamWriter(sink, schema)
            self.write_table, self.close = watched(writer.write_table), watched(writer.close)

    Encoder.tokenized = watched(Encoder.tokenized)  # type: ignore[method-assign]
    RowCollector.add = watched(RowCollector.add)  # type: ignore[method-assign]
    pa.ipc.new_stream = watched(Writer)
    os.replace = watched(os.replace)
    store.remove_leftovers = watched(store.remove_leftovers)


def in_child(cache: Path, sae: Any, step: int = -1) -> tuple[int, list[str]]:
    """Encode in a process of its own, killed at a step; return its status and what it printed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        datasets.config.HF_DATASETS_CACHE = cache
        rows, counter = 0, itertools.count()  # of steps in several threads

        def act() -> None:
            if next(counter) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        steps(act)
        call = Encoder.tokenized

        def count(self: Encoder, numbers: Any, texts: Any) -> Any:
            nonlocal rows
            rows += len(texts)
            return call(self, numbers, texts)

        Encoder.tokenized = count  # type: ignore[method-assign]
        # In another order than the store, so that the codes are copied too.
        order = [*range(ROWS - 1, -1, -1), 3, 3]
        coded = encode(Dataset.from_dict({"text": TEXTS}).select(order), sae, keep="state", batch_size=2)
        table = coded.with_format("arrow")[:]
        digest = sha256(repr(table.to_pydict()).encode()).hexdigest()
        os.write(writing, f"{next(counter)} {rows} {digest} {coded._fingerprint}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        words = pipe.read().split()
    return os.waitpid(child, 0)[1], words


def main() -> int:
    """Print how many kills were tried, and how many encodings survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="number of steps to kill at, by default all")
    wanted = parser.parse_args().steps
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    # A piece for each forward pass of two rows; files of five.
    encoder.GROUP_ROWS, run.READ_ROWS, run.FILE_BYTES = 4, 2, 1
    store.MOST_RUNS, store.FILE_ROWS, store.BLOCK_ROWS = 1, 5, 3
    tried = survived = 0
    with tempfile.TemporaryDirectory() as folder:
        bert = tiny.save("bert", Path(folder) / "bert")
        sae = tiny.sae_on(bert)
        _, (total, _, *expected) = in_child(Path(folder) / "whole", sae)
        last = int(total)
        for step in range(last) if wanted is None else [last * i // wanted for i in range(wanted)]:
            cache = Path(folder) / str(step)
            status, _ = in_child(cache, sae, step)
            files = [Dataset.from_file(str(file)) for file in cache.rglob("*-*.arrow")]  # pieces and files
            finished = len({digest for file in files for digest in file["sae_digest"]})
            _, (_, rows, *result) = in_child(cache, sae)
            parts = [file.name for file in cache.rglob("*") if file.name.endswith(".part") or "piece" in file.name]
            tried += 1
            if status == signal.SIGKILL and result == expected and int(rows) == ROWS - finished and not parts:
                survived += 1
            else:
                print(f"step {step}: status {status}, {rows} rows after {finished}, {parts}, {result} {expected}")
    print(f"killed {tried} encodings: {survived} survived")
    return tried - survived


if __name__ == "__main__":
    sys.exit(main())
