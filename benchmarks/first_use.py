"""Measure what a first call costs, in CPU seconds, in processes with an empty cache of machine code.

    python benchmarks/first_use.py [--example] [--repeats 3]

Each line is the median of `--repeats` processes. "first" finds no machine code on disk, "second" what it left;
`functions` counts what numba compiled, its own helpers too. `all` is the whole process, `call` is `sae_select` alone.
The rows are synthetic: 700 features of 8,192 each. `--example` also runs the example of README.md, which needs the
default SAE's model on this machine; beside it stands what its imports of torch and transformers alone cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from time import process_time
from typing import Any

CASES = [(8, 4), (4000, 400)]  # rows, budget
METHODS = ("herding", "match", "greedy", "simscale")
FEATURES, D_SAE = 700, 8192

IMPORTS = "import datasets, torch, transformers; from transformers import AutoTokenizer, BertModel"
EXAMPLE = """
from datasets import Dataset
import hf_sae_select
texts = ["How do I boil an egg?", "How do I boil two eggs?", "How do you boil eggs?",
         "Prove that the square root of two is irrational.", "Is the square root of 2 irrational? Prove it.",
         "Write a haiku about autumn leaves.", "", "What is the capital of Mongolia?"]
print(Dataset.from_dict({"text": texts}).sae_select(4).sae_selection)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--example", action="store_true", help="also run the example of README.md")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", nargs=3, metavar=("METHOD", "ROWS", "BUDGET"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(args.worker[0], int(args.worker[1]), int(args.worker[2]))))
        return
    print("| method | rows | budget | process | datasets | package | call | all | functions |\n" + "|---" * 9 + "|")
    for method in METHODS:
        for rows, budget in CASES:
            for line in first_and_second(method, rows, budget, args.repeats):
                print(line, flush=True)
    if args.example:
        for name, code in (("imports of torch and transformers", IMPORTS), ("the example of README.md", EXAMPLE)):
            print(
                f"{name}: {statistics.median(seconds_of(code) for _ in range(args.repeats)):.2f} s of CPU", flush=True
            )


def first_and_second(method: str, rows: int, budget: int, repeats: int) -> list[str]:
    """Return the lines of processes that find no machine code, and of those that find it."""
    runs: dict[str, list[dict[str, float]]] = {"first": [], "second": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, __file__, "--worker", method, str(rows), str(budget)]
            for process in runs.values():
                done = subprocess.run(command, env=environment(cache), capture_output=True, text=True, check=True)
                process.append(json.loads(done.stdout.splitlines()[-1]))
    lines = []
    for name, results in runs.items():
        datasets, package, call, everything, functions = (
            statistics.median(result[key] for result in results) for key in results[0]
        )
        seconds = f"{datasets:.2f} | {package:.3f} | {call:.2f} | {everything:.2f}"
        lines.append(f"| `{method}` | {rows:,} | {budget} | {name} | {seconds} | {functions:.0f} |")
    return lines


def environment(cache: str) -> dict[str, str]:
    """Return variables for a process; it keeps the bytecode of what it imports, which pip makes when it installs."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return variables | {"NUMBA_CACHE_DIR": cache, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}


def work(method: str, rows: int, budget: int) -> dict[str, float]:
    """Select in this process, and return its CPU seconds and the number of functions that were compiled."""
    times = [process_time()]
    import datasets

    times.append(process_time())
    import hf_sae_select  # noqa: F401 -- gives datasets their methods

    times.append(process_time())
    dataset = encoded(datasets, rows)
    begin = process_time()
    dataset.sae_select(budget, method)
    call = process_time() - begin
    package, imports = times[2] - times[1], times[1] - times[0]
    return {"datasets": imports, "package": package, "call": call, "all": times[2] + call, "functions": compiled()}


def encoded(datasets: Any, rows: int) -> Any:
    import numpy as np

    from hf_sae_select.features.columns import ACTS, IDS, TOKENS, column_types

    rng, record = np.random.default_rng(0), {"d_sae": D_SAE, "threshold": 1.5, "sae_sha256": "synthetic"}
    ids = [np.sort(rng.choice(D_SAE, FEATURES, replace=False)) for _ in range(rows)]
    acts = [rng.gamma(1, size=FEATURES).astype(np.float32) for _ in range(rows)]
    columns = {IDS: ids, ACTS: acts, TOKENS: [70] * rows}
    return datasets.Dataset.from_dict(columns, features=column_types(record))


def compiled() -> int:
    """Count the functions that numba compiled in this process; what it read from its files does not count."""
    if "numba" not in sys.modules:
        return 0
    import gc

    from numba.core.dispatcher import Dispatcher

    dispatchers = [thing for thing in gc.get_objects() if isinstance(thing, Dispatcher)]
    return sum(sum(dispatcher.stats.cache_misses.values()) for dispatcher in dispatchers)


def seconds_of(code: str) -> float:
    """Return the CPU seconds of a process that runs some code, with empty caches."""
    with tempfile.TemporaryDirectory() as cache:
        script = f"{code}\nimport time; print(time.process_time())"
        variables = environment(cache) | {"HF_DATASETS_CACHE": cache}
        done = subprocess.run(
            [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True
        )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
