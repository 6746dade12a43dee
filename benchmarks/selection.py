"""Time every method beside one gather over all features, the least that looking at every row can cost, and plain CELF.

    python benchmarks/selection.py [--large] [--data FOLDER] [--repeats 5] [--rows 52002]

Prints one table for each pool: synthetic rows, with `--large` half a million of them too, and with `--data` Alpaca,
which FOLDER holds as alpaca_52k.parquet: encoding it takes 20 minutes and more, once, since `datasets` keeps it.

The floor reads the flag of every feature of every row once, in one thread: over the ids as held, and over ids of 32
bits, which is what scipy's CSR has. `seconds` is the median of the repeats, or one run where that takes long, and
includes whatever a method builds from the arrays. All lines of a table run in turn, so that what else the machine does
disturbs them alike. `full at` is the pick that covers the last feature. `MB` is the peak of memory above what the
process held before, the pool included; then as a share of ids and offsets, and of those and the activations.

Each run has a child process of its own, forked, in which all is compiled already. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from heapq import heapify, heappop, heappush
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import datasets
import numpy as np
from datasets import Dataset
from numba import njit
from numpy.typing import NDArray
from peers_worker import memory
from synthetic import pool

from hf_sae_select import FeatureMatrix, Selection, select_indices
from hf_sae_select.features import kernels
from hf_sae_select.features.columns import STATE, encoding_record

D_SAE, LARGE = 65_536, 500_000
FEW = 4096  # rows: more than the candidates of `herding`, whose ranking is to be compiled too
SLOW = 10  # seconds; what takes longer runs once
FLOOR, WIDE, GREEDY = "floor, ids as held", "floor, 32-bit ids", "greedy"
OURS, CELF = "greedy, until all is covered", "plain CELF"
LINES: dict[str, tuple[str, dict[str, Any]]] = {
    OURS: ("greedy", {"exhausted": "stop", "seed": None}),  # equal rows in dataset order, as plain CELF takes them
    GREEDY: ("greedy", {}),
    "weighted": ("weighted", {}),
    "concave": ("concave", {}),
    "concave, log": ("concave", {"curve": "log"}),
    "concave, mass": ("concave", {"by": "mass"}),
    "herding": ("herding", {}),
    "herding, all rows compared": ("herding", {"candidates": None}),
    "match": ("match", {}),
    "simscale": ("simscale", {}),
    "simscale, nearest": ("simscale", {"against": "nearest"}),
    "instag": ("instag", {}),
    "longest": ("longest", {}),
    "random": ("random", {}),
    "greedy, constrained": ("greedy", {"quota": "source", "quality": "quality", "per_token": 0.5}),
}
VECTOR_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {}) for name in ("facility_location", "kcenter", "repr_filter")
}
Work = Callable[[], Selection | None]


class Run(NamedTuple):
    """Hold what a piece of work took and returned."""

    seconds: float
    megabytes: float
    selection: Selection | None


def main() -> None:
    kernels.MOST_INTERPRETED = -1  # so that a few rows compile all that they call
    args = arguments()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", ".*no row left to pick")  # "stop" is meant to stop
    features = pool(args.rows, D_SAE)
    table("synthetic", features, args)
    vector_table("synthetic", clustered(args.rows), args.budget)
    if args.large:
        large = pool(LARGE * args.rows // 52_002, D_SAE)
        table("synthetic, large", large, args)
        del large
    if args.data:
        every, threshold = alpaca(args.data / "alpaca_52k.parquet", args.rows)
        table("Alpaca, above the SAE's threshold", every.above(threshold), args)
        table("Alpaca, every activation", every, args)
        table("Alpaca, the 256 strongest features of each row, as `match` has them", every.top(256), args)
        vector_table("Alpaca", every, args.budget)


def table(name: str, features: FeatureMatrix, args: argparse.Namespace) -> None:
    """Print a line for each method on a pool, then what plain CELF says of ours."""
    print(f"\n{name}: {len(features):,} rows, {len(features.ids):,} features; budget {args.budget:,}")
    for work in works(few(features), args.budget).values():
        work()  # compiles it
    runs = measure_all(works(features, args.budget), args.repeats)
    took = {line: median(run.seconds for run in measured) for line, measured in runs.items()}
    print(f"{'':<30}{'seconds':>9}{'floors':>8}{'32-bit':>8}{'greedys':>9}", end="")
    print(f"{'full at':>9}{'rounds':>8}{'MB':>8}{'of CSR':>8}{'and acts':>10}")
    for line, measured in runs.items():
        ratios = [took[line] / took[to] for to in (FLOOR, WIDE, GREEDY)]
        print(f"{line:<30}{took[line]:>9.3f}{ratios[0]:>7.1f}x{ratios[1]:>7.1f}x{ratios[2]:>8.2f}x", end="")
        print(found(measured[0].selection) + extra(features, median(run.megabytes for run in measured)))
    ours, plain = (runs[line][0].selection for line in (OURS, CELF))
    same = ours is not None and plain is not None and np.array_equal(ours.indices, plain.indices)
    print(f"ours / plain CELF: {took[OURS] / took[CELF]:.2f}; {'the same' if same else 'OTHER'} rows")


def found(selection: Selection | None) -> str:
    if selection is None:
        return f"{'':>17}"
    return f"{selection.saturated_at or 'never':>9}{len(selection.round_starts):>8}"


def extra(features: FeatureMatrix, megabytes: float) -> str:
    csr = (features.ids.nbytes + features.offsets.nbytes) / 2**20
    return f"{megabytes:>8.1f}{megabytes / csr:>8.0%}{megabytes / (csr + features.acts.nbytes / 2**20):>10.0%}"


def vector_table(name: str, features: FeatureMatrix, budget: int) -> None:
    """Print a line for each method that compares vectors; they are slow enough to be measured once."""
    assert features.vectors is not None
    print(f"\n{name}: {len(features):,} vectors of {features.vectors.shape[1]}; budget {budget:,}")
    print(f"{'':<30}{'seconds':>9}{'MB':>8}{'of vectors':>12}")
    for line in VECTOR_LINES:
        chosen(few(features, 12_000), 10, line)()  # compiles it: facility_location looks at so many in two ways
        seconds, megabytes, _ = measure(chosen(features, budget, line))
        print(f"{line:<30}{seconds:>9.2f}{megabytes:>8.1f}{megabytes * 2**20 / features.vectors.nbytes:>12.0%}")


def works(features: FeatureMatrix, budget: int) -> dict[str, Work]:
    """Return what is to be measured on a pool, by name."""
    wide, covered = features.ids.astype(np.uint32), np.zeros(features.d_sae, np.bool_)
    everything = int(np.count_nonzero(features.frequency))
    floors: dict[str, Work] = {FLOOR: partial(gather, features.ids, covered), WIDE: partial(gather, wide, covered)}
    ours = {line: chosen(features, budget, line) for line in LINES}
    return floors | {CELF: partial(plain_celf, features, budget, everything)} | ours


def chosen(features: FeatureMatrix, budget: int, line: str) -> Work:
    """Return the work of a line of LINES or VECTOR_LINES."""
    (method, options), rng = (LINES | VECTOR_LINES)[line], np.random.default_rng(0)
    n = len(features)
    columns = {"source": rng.integers(0, 8, n).tolist(), "quality": rng.random(n).tolist()}
    given: dict[str, Any] = {"seed": 0, "columns": columns} | options

    def work() -> Selection:
        fresh = replace(features)  # a copy knows no frequencies yet: counting them is part of the work
        return select_indices(fresh, min(budget, n // 2), method, **given)

    return work


def measure_all(works: dict[str, Work], repeats: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {line: [] for line in works}
    for _ in range(repeats):
        for line, earlier in runs.items():
            if not earlier or earlier[0].seconds < SLOW:
                earlier.append(measure(works[line]))
    return runs


def measure(work: Work) -> Run:
    """Do the work in a child, which finds the pool in its memory and has compiled what this process has."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        ctypes.CDLL(None).malloc_trim(0)  # memory freed but kept would be used unseen
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before, started = memory("VmRSS"), time.perf_counter()
        selection = work()
        seconds = time.perf_counter() - started
        sender.send(Run(seconds, memory("VmHWM") - before, selection))

    process = context.Process(target=child)
    process.start()
    sender.close()  # the child's end is the only one left: if it dies, `recv` says so
    run: Run = receiver.recv()
    process.join()
    return run


@njit(cache=True)  # type: ignore[untyped-decorator]
def gather_flags(ids: NDArray[Any], covered: NDArray[np.bool_]) -> int:
    n = 0
    for feature in ids:
        n += covered[feature]
    return n


def gather(ids: NDArray[Any], covered: NDArray[np.bool_]) -> None:
    gather_flags(ids, covered)


def plain_celf(features: FeatureMatrix, budget: int, everything: int) -> Selection:
    """Select as the literature does it; `everything` is the number of different features, counted beforehand."""
    budget = min(budget, len(features) // 2)
    picks, gains = celf(features.offsets, features.ids, np.zeros(features.d_sae, np.bool_), budget)
    covered = np.cumsum(gains)
    return Selection(
        np.array(picks), np.array(gains), np.zeros(1, np.int64), covered=covered, pool_coverage=everything
    )


@njit(cache=True)  # type: ignore[untyped-decorator]
def celf(
    offsets: NDArray[np.int64], ids: NDArray[Any], covered: NDArray[np.bool_], budget: int
) -> tuple[list[int], list[int]]:
    """Lazy greedy: read the row with the largest old gain again; if it is still the best, pick it."""
    heap = [(offsets[i] - offsets[i + 1], i) for i in range(len(offsets) - 1)]  # (-gain, row)
    heapify(heap)
    picks, gains = [0 for _ in range(0)], [0 for _ in range(0)]
    while len(picks) < budget and len(heap) > 0:
        i = heappop(heap)[1]
        row = ids[offsets[i] : offsets[i + 1]]
        gain = 0
        for feature in row:
            gain += not covered[feature]
        if gain > 0 and len(heap) > 0 and heap[0] < (-gain, i):
            heappush(heap, (-gain, i))
        elif gain > 0:
            picks.append(i)
            gains.append(gain)
            for feature in row:
                covered[feature] = True
    return picks, gains


def few(features: FeatureMatrix, rows: int = FEW) -> FeatureMatrix:
    """Return the first rows, to compile all that they call."""
    offsets, tokens = features.offsets[: rows + 1], features.tokens[:rows]
    ids, acts = features.ids[: offsets[-1]], features.acts[: offsets[-1]]
    vectors = None if features.vectors is None else features.vectors[:rows]
    return FeatureMatrix(offsets, ids, acts, features.d_sae, tokens, vectors=vectors)


def clustered(rows: int, width: int = 384, centres: int = 2000, seed: int = 0) -> FeatureMatrix:
    """Draw vectors around random centres, the noise as long as the centre; rows without features."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((centres, width), np.float32)[rng.integers(0, centres, rows)]
    vectors += rng.standard_normal(vectors.shape, np.float32)
    nothing = np.empty(0, np.uint16)
    offsets, tokens = np.zeros(rows + 1, np.int64), np.ones(rows, np.int32)
    return FeatureMatrix(offsets, nothing, nothing.astype(np.float32), 1, tokens, vectors=vectors)


def alpaca(path: Path, rows: int) -> tuple[FeatureMatrix, float]:
    """Return the real thing, with hidden states, and the SAE's threshold."""
    print("\nencoding Alpaca: 20 minutes and more the first time, on two cores", flush=True)
    ds = Dataset.from_parquet(str(path))
    ds = ds if rows >= len(ds) else ds.select(range(rows))
    coded = ds.sae_encode(keep=("all", "state"))
    view = FeatureMatrix.from_dataset(coded, vectors=STATE)
    # a file's pages count as memory when they are first read: copy them beforehand
    copies: dict[str, Any] = {name: getattr(view, name).copy() for name in ("ids", "acts", "vectors")}
    return replace(view, **copies), encoding_record(coded)["threshold"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also half a million rows")
    parser.add_argument("--data", type=Path, help="also Alpaca: the folder of alpaca_52k.parquet")
    parser.add_argument("--budget", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=52_002, help="fewer for a quick look; the large pool shrinks too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
