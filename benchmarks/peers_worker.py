"""Run one contender of peers.py once, in a process of its own and maybe in an environment without this package.

    python peers_worker.py "apricot lazy" FOLDER BUDGET

`FOLDER` holds the pool as offsets.npy and ids.npy; result.json is written beside them. Loading and importing are not
timed. A contender is run on a few rows first, so that what is compiled once is not timed either. Memory is read from
Linux's /proc.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# (offsets, ids, budget) -> picks
Runner = Callable[[NDArray[np.int64], NDArray[Any], int], Iterable[int]]


def main() -> None:
    name, folder, budget = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    result = folder / "result.json"
    try:
        result.write_text(json.dumps(measure(CONTENDERS[name](), folder, budget)))
    except Exception as error:  # whatever a peer raises is its entry in the table
        first_line = f"{type(error).__name__}: {error}".splitlines()[0]
        result.write_text(json.dumps({"error": first_line}))


def measure(run: Runner, folder: Path, budget: int) -> dict[str, Any]:
    """Time `run` and return it with the peak memory, in MB, and the picks."""
    offsets, ids = np.load(folder / "offsets.npy"), np.load(folder / "ids.npy")
    started = time.perf_counter()
    few = min(200, len(offsets) - 1)
    run(offsets[: few + 1], ids[: offsets[few]], few // 2)
    warming = time.perf_counter() - started
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    loaded = memory("VmRSS")
    started = time.perf_counter()
    picks = run(offsets, ids, budget)
    seconds = time.perf_counter() - started
    peak = memory("VmHWM")
    rows = [int(i) for i in picks]  # JSON knows no numpy
    return {"seconds": seconds, "warming": warming, "peak": peak, "above": peak - loaded, "picks": rows}


def memory(field: str) -> float:
    """Read a field of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def ours(**options: Any) -> Runner:
    from hf_sae_select import FeatureMatrix, select_indices
    from hf_sae_select.features import kernels

    kernels.MOST_INTERPRETED = -1  # a few rows compile what is timed

    def run(offsets: NDArray[np.int64], ids: NDArray[Any], budget: int) -> Iterable[int]:
        acts = np.broadcast_to(np.float32(1), len(ids))  # no memory: greedy reads no activation
        features = FeatureMatrix(offsets, ids, acts, D_SAE, np.diff(offsets).astype(np.int32))
        return select_indices(features, budget, "greedy", seed=None, **options).indices

    return run


def apricot(optimizer: str, *, as_shipped: bool = False) -> Runner:
    from apricot import MaxCoverageSelection  # type: ignore[import-not-found]
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    def run(offsets: NDArray[np.int64], ids: NDArray[Any], budget: int) -> Iterable[int]:
        arrays = np.ones(len(ids)), ids.astype(np.int32), offsets.astype(np.int32)  # the types that it is compiled for
        selector = MaxCoverageSelection(budget, optimizer=optimizer)
        if not as_shipped:
            # As shipped every pick copies all rows picked before it, dense, to append one: `self.subset =
            # concatenate(...)`, O(budget^2 d_sae). Maximum coverage never reads them, and the copies are nearly all
            # of the time. This is the library's own switch around that line, which nothing else here looks at:
            # without it one line would be measured, and not the algorithm.
            selector.metric = "precomputed"
        ranking: Iterable[int] = selector.fit(csr_matrix(arrays, shape=(len(offsets) - 1, D_SAE))).ranking
        return ranking

    return run


def submodlib(optimizer: str) -> Runner:
    from submodlib import SetCoverFunction  # type: ignore[import-not-found]

    def run(offsets: NDArray[np.int64], ids: NDArray[Any], budget: int) -> Iterable[int]:
        sets = [set(ids[start:end].tolist()) for start, end in pairwise(offsets)]
        function = SetCoverFunction(len(sets), sets, D_SAE)
        return [row for row, _ in function.maximize(budget, optimizer, show_progress=False)]

    return run


D_SAE = 65_536
CONTENDERS: dict[str, Callable[[], Runner]] = {
    "ours": ours,
    "ours, until all is covered": partial(ours, exhausted="stop"),
    "apricot lazy": partial(apricot, "lazy"),
    "apricot two-stage": partial(apricot, "two-stage"),
    "apricot lazy, as shipped": partial(apricot, "lazy", as_shipped=True),
    "apricot two-stage, as shipped": partial(apricot, "two-stage", as_shipped=True),
    "submodlib LazyGreedy": partial(submodlib, "LazyGreedy"),
    "submodlib LazierThanLazyGreedy": partial(submodlib, "LazierThanLazyGreedy"),
}

if __name__ == "__main__":
    main()
