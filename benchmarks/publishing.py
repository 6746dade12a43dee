"""Stage and verify a large subset, and set time and memory beside the least that it could be.

    python benchmarks/publishing.py --data FOLDER/alpaca_52k.parquet --rows 100000

The rows are those of the file, over and over, with drawn codes (`synthetic.py`): nothing is encoded. The floor is
what anybody must do: write the rows as Parquet, as `Dataset.to_parquet` does, and read the files for their SHA-256.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets import Dataset, concatenate_datasets, load_from_disk
from peers_worker import memory
from synthetic import pool

from hf_sae_select import stage, verify
from hf_sae_select._hub import sha256_of
from hf_sae_select.features.columns import column_types

D_SAE = 8192


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        coded(args.data, args.rows * 2, folder / "coded")
        ds = load_from_disk(folder / "coded")
        subset = ds.sae_select(args.rows, "random")
        size = sum(file.stat().st_size for file in (folder / "coded").iterdir())
        print(f"{args.rows:,} of {len(ds):,} rows; the source with its codes is {size / 1e6:,.0f} MB")
        print("| | seconds | floors | MB more at its peak |\n|---|---|---|---|")
        floor, _ = line("floor: to_parquet, SHA-256", None, lambda: write(subset, folder))
        line("`stage`", floor, lambda: stage(subset, folder / "staged", license="mit"))
        line(
            "`stage(include_features=False)`",
            floor,
            lambda: stage(subset, folder / "bare", license="mit", include_features=False),
        )
        line('`verify(level="digests")`', floor, lambda: verify(folder / "staged"))
        line('`verify(level="select")`', floor, lambda: verify(folder / "staged", "select"))
        for file in sorted(folder.glob("staged/**/*.*")):
            print(f"{file.relative_to(folder / 'staged')}: {file.stat().st_size / 1e6:,.1f} MB")


def coded(file: Path, rows: int, folder: Path) -> None:
    """Write the rows of `file`, over and over, with codes."""
    text = Dataset.from_parquet(str(file))
    features = pool(rows, d_sae=D_SAE)
    record = {"version": 1, "sae_sha256": "0" * 64, "d_sae": D_SAE, "threshold": 0.5, "model": "none"}
    record |= {"model_revision": "0" * 40, "hook": "none", "dtype": ["float32", "float32"], "window": None}
    record |= {"max_length": None, "text": {"columns": ["instruction"], "chat": False}, "chat_template_sha256": None}
    starts = pa.array(features.offsets.astype("int32"))
    codes = [pa.ListArray.from_arrays(starts, pa.array(each)) for each in (features.ids, features.acts)]
    schema = column_types(record).arrow_schema
    table = pa.table([*codes, pa.array(features.tokens)], schema=schema)
    repeated = concatenate_datasets([text] * -(-rows // len(text))).select(range(rows))
    both = concatenate_datasets([repeated, Dataset(datasets.table.InMemoryTable(table))], axis=1)
    both.save_to_disk(folder)


def write(subset: Dataset, folder: Path) -> None:
    subset.to_parquet(folder / "floor.parquet")
    sha256_of(folder / "floor.parquet")


def line(name: str, floor: float | None, work: Callable[[], Any]) -> tuple[float, float]:
    """Do `work` in a process of its own, print what it took, and return it."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before, started = memory("VmRSS"), time.perf_counter()
        work()
        sender.send((time.perf_counter() - started, memory("VmHWM") - before))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    sender.close()  # the child's end is the only one left: if it dies, `recv` says so
    seconds, more = receiver.recv()
    process.join()
    print(f"| {name} | {seconds:.1f} | {seconds / (floor or seconds):.1f}x | {more:,.0f} |", flush=True)
    return seconds, more


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a Parquet file of rows")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the subset, half of the source's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
