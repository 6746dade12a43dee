"""Select from encoded datasets of up to ten million rows, and see how time and memory grow with rows and picks.

    python benchmarks/scale.py --rows 100000 1000000 10000000 --picks 1000 10000

The datasets lie on disk as `encode` writes them: drawn codes, 256 features a row, in half precision, of which about 20
are above the threshold. Each selection runs in a process of its own, which compiles on a few rows first; it is timed
with reading, by the clock and in CPU seconds, which other work disturbs less. Growth is that of CPU seconds. The peak
is that of private memory, above what the process held before: pages of the file are not counted. Large pools are
selected from in shards, and with `--shards` all.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset
from peers_worker import memory

from hf_sae_select import select
from hf_sae_select._arrow import write_tables
from hf_sae_select.features.columns import column_types
from hf_sae_select.features.kept import Kept
from hf_sae_select.selection import run

D_SAE, FEATURES, THRESHOLD = 8192, 256, 3.0
BATCH_ROWS = 1000
RECORD = {"d_sae": D_SAE, "threshold": THRESHOLD, "sae_sha256": "drawn", "keep": Kept.of(FEATURES, THRESHOLD).record()}
KINDS = 100  # of rows: the features of a row are mostly those of its kind


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    print("| method | rows | picks | seconds | CPU s | peak MB | bytes a row | grows with rows | grows with picks |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        files = {n: Path(scratch) / f"{n}.arrow" for n in args.rows}
        for n, file in files.items():
            write_tables(file, column_types(RECORD).arrow_schema, drawn(n), n)
        for method in args.methods:
            seconds: dict[tuple[int, int], float] = {}
            for n, file in files.items():
                for k in args.picks:
                    clock, seconds[n, k], peak = measured(file, k, method, args.shards)
                    cells = [f"`{method}`", f"{n:,}", f"{k:,}", f"{clock:.1f}", f"{seconds[n, k]:.1f}", f"{peak:,.0f}"]
                    cells += [f"{peak * 2**20 / n:,.0f}", exponents(seconds, n, k)]
                    print(f"| {' | '.join(cells)} |", flush=True)


def drawn(rows: int, seed: int = 0) -> Iterator[pa.Table]:
    """Yield the code columns of drawn rows, batch by batch."""
    rng = np.random.default_rng(seed)
    likely = np.argsort(rng.random((KINDS, D_SAE)), axis=1)[:, : 4 * FEATURES].astype(np.uint16)
    types = column_types(RECORD).arrow_schema
    for start in range(0, rows, BATCH_ROWS):
        n = min(BATCH_ROWS, rows - start)
        order = np.argpartition(rng.random((n, 4 * FEATURES), np.float32), FEATURES, axis=1)[:, :FEATURES]
        ids = np.sort(np.take_along_axis(likely[rng.integers(KINDS, size=n)], order, axis=1), axis=1)
        acts = rng.lognormal(0.3, 0.58, ids.shape).astype(np.float16)
        offsets = pa.array(np.arange(n + 1) * FEATURES, pa.int32())
        lists = [pa.ListArray.from_arrays(offsets, pa.array(values.ravel())) for values in (ids, acts)]
        yield pa.table([*lists, pa.array(np.full(n, 80, np.int32))], schema=types)


def measured(file: Path, picks: int, method: str, shards: bool) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and megabytes of one selection in a process of its own."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=selected, args=(file, picks, method, shards, sender))
    process.start()
    sender.close()
    try:
        seconds, cpu_seconds, peak = json.loads(receiver.recv())
    finally:
        process.join()
    return seconds, cpu_seconds, peak


def selected(file: Path, picks: int, method: str, shards: bool, sender: Any) -> None:
    """Select in this process, and send what it took."""
    datasets.disable_progress_bars()
    if shards:
        run.MANY_ROWS = 0
    rows = Dataset.from_file(str(file))
    select(rows.select(range(50_000)), 2000, method)  # enough for all loops to be compiled
    held, largest, is_over = memory("RssAnon"), 0.0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not is_over.wait(0.005):
            largest = max(largest, memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, cpu_started = time.perf_counter(), time.process_time()
    select(rows, picks, method)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    is_over.set()
    watcher.join()
    sender.send(json.dumps([seconds, cpu_seconds, largest - held]))


def exponents(seconds: dict[tuple[int, int], float], rows: int, picks: int) -> str:
    """Return the exponents of the growth since the next smaller number of rows, and of picks, as cells."""
    cells = []
    for place, now in ((0, rows), (1, picks)):
        sizes = sorted({key[place] for key in seconds if key[1 - place] == (rows, picks)[1 - place]})
        before = {later: earlier for earlier, later in pairwise(sizes)}.get(now)
        if before is None:
            cells.append("")
            continue
        smaller = (before, picks) if place == 0 else (rows, before)
        growth = math.log(seconds[rows, picks] / seconds[smaller]) / math.log(now / before)
        cells.append(f"{growth:.2f}")
    return " | ".join(cells)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--picks", nargs="+", type=int, default=[1000, 10_000])
    parser.add_argument("--methods", nargs="+", default=["herding", "greedy", "match"])
    parser.add_argument("--shards", action="store_true", help="select in shards from smaller datasets too")
    parser.add_argument("--folder", type=Path, help="where the datasets are written, a gigabyte for a million rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
