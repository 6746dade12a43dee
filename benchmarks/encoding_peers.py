"""Encode rows of Alpaca: ours beside what people write or use instead, on the same texts in one run.

    python benchmarks/encoding_peers.py --data FOLDER/alpaca_52k.parquet [--rows 800] [--runs 3] [--env FOLDER]

Makes an environment for the peers, and hands every contender the same texts in a process of its own, with as many
threads. All read the default SAE's model and SAE, in float32 and in batches of 32. Rows that do not fit in one window
are left out, since the peers would cut them. Imports, loading and a call on a few rows are not timed, except that
`sae_encode` loads the model in every call. `CPU s` and `wall s` are medians of the runs; `peak MB` is the process's
peak, `above` is that less what the process held before. `largest difference` is between the activations of all
features of all rows and ours, as a share of the largest activation. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from datasets import Dataset
from encoding_peers_worker import CONTENDERS, OURS, activations_file

from hf_sae_select import load_sae
from hf_sae_select.encoding.pretrained import locate
from hf_sae_select.encoding.text import find_text
from hf_sae_select.encoding.tokens import TextTokenizer

PEERS = ("sae-lens==6.54.12", "sentence-transformers==6.2.0")
Run = dict[str, Any]  # what a worker measured


def main() -> None:
    args = arguments()
    sae = load_sae()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sae.save_pretrained(folder / "sae")  # in SAELens' form too
        model, _ = locate(sae.config.model, sae.config.model_revision)
        task = {"model": model, "hook": sae.config.hook, "window": sae.config.context_size}
        texts, tokens = texts_of(args.data, args.rows, model, sae.config.context_size or 256)
        (folder / "task.json").write_text(json.dumps(task | {"texts": texts}))
        print(f"{len(texts):,} rows, {tokens:,} tokens, {args.threads} threads, {args.runs} runs\n")
        names = [name for name in CONTENDERS if name == OURS or name in (args.only or CONTENDERS)]
        peers = environment(args.env or folder / "env") if len(names) > 1 else Path(sys.executable)
        runs = measure(names, peers, folder, args)
        print_table(runs, folder, len(texts))


def texts_of(data: Path, rows: int, model: str, window: int) -> tuple[list[str], int]:
    """Return the texts of the first rows that fit in a window, and how many tokens these have."""
    from transformers import AutoTokenizer

    dataset = Dataset.from_parquet(str(data)).select(range(rows))
    texts = [text for text, _ in find_text(dataset)(dataset[:])]
    tokenizer = TextTokenizer(AutoTokenizer.from_pretrained(model), None)
    room = window - len(tokenizer.before) - len(tokenizer.after)
    lengths = [len(ids) for ids in tokenizer(texts, None)]
    fitting = [i for i, length in enumerate(lengths) if 0 < length <= room]
    return [texts[i] for i in fitting], sum(lengths[i] for i in fitting)


def environment(folder: Path) -> Path:
    """Return the Python of an environment with the peers, made in `folder` unless it is there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, symlinks=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return python


def measure(names: list[str], peers: Path, folder: Path, args: argparse.Namespace) -> dict[str, list[Run]]:
    """Run the contenders in turn, so that what else the machine does disturbs them alike."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(args.runs):
        for name in names:
            python = Path(sys.executable) if name == OURS else peers
            runs[name].append(run(name, python, folder, args.threads))
            print(f"{name}: {runs[name][-1]['cpu']:.1f} s of CPU", file=sys.stderr)
    return runs


def run(name: str, python: Path, folder: Path, threads: int) -> Run:
    worker = Path(__file__).with_name("encoding_peers_worker.py")
    alike = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([python, worker, name, folder], env=os.environ | alike, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    measured: Run = json.loads((folder / "result.json").read_text())
    return measured


def print_table(runs: dict[str, list[Run]], folder: Path, rows: int) -> None:
    reference = np.load(activations_file(folder, OURS))
    print("| contender | CPU s | ratio | wall s | rows/s | peak MB | above | largest difference |")
    print("|---|---|---|---|---|---|---|---|")
    least = median(once["cpu"] for once in runs[OURS])
    for name, measured in runs.items():
        cpu, wall, peak, above = (median(once[key] for once in measured) for key in ("cpu", "wall", "peak", "above"))
        difference = ""
        if name != OURS and (file := activations_file(folder, name)).exists():
            difference = f"{np.abs(np.load(file) - reference).max() / reference.max():.1e}"
        cells = f"{cpu:.1f} | {cpu / least:.2f}x | {wall:.1f} | {rows / wall:.1f} | {peak:,.0f} | {above:,.0f}"
        print(f"| {name} | {cells} | {difference} |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="alpaca_52k.parquet")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help="these beside ours")
    parser.add_argument("--env", type=Path, help="keep the peers' environment in this folder, or use the one there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
