"""Measure how long the report and the reasons of a selection take, beside the selection itself.

    python benchmarks/reporting.py --data FOLDER/alpaca_52k.parquet

Encode the rows before: this reads them from the cache of `datasets`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
from datasets import load_dataset

import hf_sae_select  # noqa: F401  # its methods on Dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a Parquet file of rows")
    parser.add_argument("--budget", type=int, default=3000, help="rows to select (3000)")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    rows = load_dataset("parquet", data_files=str(args.data), split="train").sae_encode()
    print("| method | select | first report | second report | bytes | sae_explain() of all picks |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for method in ("match", "greedy"):
            page = Path(folder) / f"{method}.html"
            subset, selected = timed(rows.sae_select, args.budget, method)
            reports = [timed(subset.sae_report, page, overwrite=True)[1] for _ in range(2)]
            explained = timed(subset.sae_explain, spans=0)[1]
            print(f"| `{method}` | {selected:.1f} | {reports[0]:.1f} | {reports[1]:.1f} | ", end="")
            print(f"{page.stat().st_size:,} | {explained:.1f} |", flush=True)


def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    """Return what a function returns, and the seconds that it took."""
    started = time.perf_counter()
    return function(*arguments, **options), time.perf_counter() - started


if __name__ == "__main__":
    main()
