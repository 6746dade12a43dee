"""Read the codes of datasets in order, shuffled and filtered, and see how much memory that takes at most.

    python benchmarks/reading.py --rows 300000

The codes lie on disk as `scale.py` draws them: 256 features a row in half precision. Each way runs in a process of
its own, which first reads a few rows. The peak is that of private memory above what the process held before, beside
the bytes of the matrix that is kept; pages of the file, which the system may drop, are beside it.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset
from peers_worker import memory
from scale import FEATURES, RECORD, THRESHOLD, drawn

from hf_sae_select import FeatureMatrix
from hf_sae_select._arrow import write_tables
from hf_sae_select.features.columns import column_types

CUTS = {"256 strongest": (0.0, FEATURES), "above the threshold": (THRESHOLD, None)}
ORDERS = ("in order", "shuffled", "filtered")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, help="where the codes are written, 0.3 GB for 300,000 rows")
    args = parser.parse_args()
    print("| rows | cut | seconds | matrix MB | peak MB | ratio | file pages MB |\n" + "|---" * 7 + "|", flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        file = Path(scratch) / "codes.arrow"
        write_tables(file, column_types(RECORD).arrow_schema, drawn(args.rows), args.rows)
        for cut in CUTS:
            for order in ORDERS:
                seconds, size, peak, pages = measured(file, order, cut)
                figures = f"{seconds:.1f} | {size:,.0f} | {peak:,.0f} | {peak / size:.2f}x | {pages:,.0f}"
                print(f"| {order} | {cut} | {figures} |", flush=True)


def measured(file: Path, order: str, cut: str) -> list[float]:
    """Return the seconds and megabytes of reading once, in a process of its own."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=read, args=(file, order, cut, sender))
    process.start()
    sender.close()
    try:
        figures: list[float] = receiver.recv()
    finally:
        process.join()
    return figures


def read(file: Path, order: str, cut: str, sender: Any) -> None:
    """Read in this process, and send what it took."""
    datasets.disable_progress_bars()
    threshold, top = CUTS[cut]
    rows = ordered(Dataset.from_file(str(file)), order)
    FeatureMatrix.from_dataset(Dataset.from_file(str(file)).select(range(5000)), threshold=threshold, top=top)
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)  # what the first rows took and nobody holds
    kinds, largest, is_over = ("RssAnon", "RssFile"), [0.0, 0.0], threading.Event()
    held = [memory(kind) for kind in kinds]

    def watch() -> None:
        while not is_over.wait(0.002):
            largest[:] = [max(before, memory(kind)) for before, kind in zip(largest, kinds, strict=True)]

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    matrix = FeatureMatrix.from_dataset(rows, threshold=threshold, top=top)
    seconds = time.perf_counter() - started
    is_over.set()
    watcher.join()
    size = sum(array.nbytes for array in (matrix.offsets, matrix.ids, matrix.acts, matrix.tokens)) / 2**20
    sender.send([seconds, size, *(most - before for most, before in zip(largest, held, strict=True))])


def ordered(rows: Dataset, order: str) -> Dataset:
    """Return rows in an order: as they are, shuffled, or a half of them as `filter` leaves it."""
    rng = np.random.default_rng(0)
    if order == "shuffled":
        return rows.select(rng.permutation(len(rows)))
    return rows.select(np.flatnonzero(rng.random(len(rows)) < 0.5)) if order == "filtered" else rows


if __name__ == "__main__":
    main()
