"""Selection, by the number of threads. It runs on the CPU alone, so the cores beside the GPU are what counts."""

from __future__ import annotations

import time
from functools import partial

import numba
import numpy as np
from numpy.typing import NDArray
from synthetic import pool

from hf_sae_select import FeatureMatrix, select_indices

from .bench import Bench, Figures

METHODS = ("greedy", "herding", "simscale")
THREADS = (1, 4, 16)
D_SAE, SHARE = 65_536, 50  # one of so many rows is selected
FEATURES = 256  # a row, for methods that read as many


def measure(bench: Bench) -> None:
    features = pool(bench.sizes.pool, D_SAE)
    bench.lines.add(bench.part, "pool", rows=bench.sizes.pool, features=len(features.ids))
    strongest = features.top(FEATURES)
    most = numba.config.NUMBA_NUM_THREADS
    try:
        for method in METHODS:
            rows = strongest if method == "herding" else features
            select_indices(rows, 2, method, seed=0)  # compiles the loops, or loads them
            results: list[NDArray[np.int64]] = []
            for threads in sorted({min(count, most) for count in THREADS}):
                numba.set_num_threads(threads)
                call = partial(select, rows, bench.sizes.pool // SHARE, method, results)
                bench.measure("select", call, method=method, threads=threads)
    finally:
        numba.set_num_threads(most)


def select(features: FeatureMatrix, budget: int, method: str, results: list[NDArray[np.int64]]) -> Figures:
    started = time.perf_counter()
    results.append(select_indices(features, budget, method, seed=0).indices)
    took = time.perf_counter() - started
    return {"s": took, "picks as before": bool(np.array_equal(results[0], results[-1]))}
