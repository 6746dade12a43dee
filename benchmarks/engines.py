"""Time what an engine adds to the work itself, on two workers of this machine.

    python benchmarks/engines.py --rows 600 2400 --repeats 3
    python benchmarks/engines.py --vectors 20000 --picks 1000

Encoding: rows of a few words by the default SAE. The bare work is two processes that know nothing of each other and
encode half of the rows each. Two numbers of rows tell the time a row takes from the time of a start, which imports
torch and loads the model. Selection: drawn codes, `greedy`, in one process, and in shards. All codes are computed in a
cache of their own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset

from hf_sae_select import FeatureMatrix, Ray, encode
from hf_sae_select.engines.cluster import QUIET, Cluster
from hf_sae_select.engines.host import packed, packed_call
from hf_sae_select.engines.process_shards import ProcessGroup
from hf_sae_select.engines.ray_shards import RayShards
from hf_sae_select.selection import run
from hf_sae_select.selection.request import SelectionRequest
from hf_sae_select.selection.sharded import pool
from hf_sae_select.selection.sharded.features import ShardedFeatures
from hf_sae_select.selection.sharded.shard import Shard
from hf_sae_select.selection.sharded.shards import LocalShards

WORDS = "how do I boil an egg prove that the square root of two is irrational write a poem about leaves".split()
ENGINES = ("bare", "processes", "ray")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=[600, 2400], help="numbers of rows to encode")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pool", type=int, default=52_002, help="rows to select among; 0 for none")
    parser.add_argument("--picks", type=int, default=3000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument(
        "--vectors", type=int, default=0, help="rows with drawn vectors to select among, in this process"
    )
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--select-part", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    datasets.disable_progress_bars()
    if args.part:
        encode_part(*args.part)
        return
    if args.select_part:
        select_part(*args.select_part)
        return
    if args.vectors:
        by_vectors(args.vectors, args.picks, args.shards)
        return
    os.environ |= QUIET
    begin = time.monotonic()
    import ray

    ray.init(address="local", num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    print(f"start of a Ray cluster on this machine: {time.monotonic() - begin:.1f} s", flush=True)
    if args.rows[1]:
        few, many = args.rows
        encoding(few, many, args.repeats)
    if args.pool:
        selecting(args.pool, args.picks, args.shards, args.repeats)


# ---- encoding


def texts(rows: int) -> list[str]:
    return [
        " ".join(WORDS[(i * k + i // 7) % len(WORDS)] for k in range(1, 6 + i % 25)) + f" {i}" for i in range(rows)
    ]


def encoding(few: int, many: int, repeats: int) -> None:
    """Print the seconds of a row, and of a start, of each engine."""
    seconds = {name: {rows: list[float]() for rows in (few, many)} for name in ENGINES}
    for repeat in range(repeats + 1):  # the first compiles, and reads files that are not in memory yet
        for rows in (few, many) if repeat else (few,):
            for name in ENGINES:
                with tempfile.TemporaryDirectory() as cache:
                    taken = timed(name, rows, cache)
                if repeat:
                    seconds[name][rows].append(taken)
    print("\n| encoding | ms a row | over the bare work | start, s |\n|---|---|---|---|")
    bare = None
    for name in ENGINES:
        less, more = (statistics.median(seconds[name][rows]) for rows in (few, many))
        slope = (more - less) / (many - few)
        bare = bare or slope
        print(f"| {name} | {slope * 1e3:.2f} | {slope / bare:.2f} | {less - few * slope:.1f} |", flush=True)


def timed(name: str, rows: int, cache: str) -> float:
    """Encode rows by two workers, and return the seconds."""
    environment = os.environ | {"HF_DATASETS_CACHE": cache, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    part = [sys.executable, __file__, "--part"]
    begin = time.monotonic()
    if name == "ray":
        datasets.config.HF_DATASETS_CACHE = Path(cache)
        encode(Dataset.from_dict({"text": texts(rows)}), engine=Ray(workers=2))
        return time.monotonic() - begin
    if name == "processes":
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
        commands = [[*launcher, __file__, "--part", str(rows), "0", "1"]]
    else:
        commands = [[*part, str(rows), str(half), "2"] for half in (0, 1)]
    children = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for command in commands]
    assert [child.wait() for child in children] == [0] * len(children)
    return time.monotonic() - begin


def encode_part(rows: str, part: str, parts: str) -> None:
    """Encode one of so many parts of the rows."""
    mine = texts(int(rows))[int(part) :: int(parts)]
    encode(Dataset.from_dict({"text": mine}), engine="processes" if "WORLD_SIZE" in os.environ else None)


# ---- selection


def selecting(rows: int, picks: int, shards: int, repeats: int) -> None:
    """Print the seconds of `greedy` in one process and in shards, and the bytes that shards send and get."""
    features, request, few = work(rows, picks)
    encoded = encoded_of(features)
    what = f"`greedy`, {rows:,} rows, {len(features.ids):,} ids, {picks:,} picks"
    print(f"\n| {what} | seconds | bytes a shard |\n|---|---|---|")
    local = seconds_of(lambda one: run.run(one, features), request, few, repeats)
    print(f"| one process | {local:.2f} | |", flush=True)
    here = pool.of_matrix(features, shards)
    taken = seconds_of(lambda one: run.run(one, here), request, few, repeats)
    print(f"| {shards} shards in one process | {taken:.2f} ({taken / local:.1f}x) | |", flush=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(shards), "--standalone"]
    part = ["--select-part", *map(str, (rows, picks, repeats))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    taken = float(subprocess.check_output([*launcher, __file__, *part], env=environment, stderr=subprocess.DEVNULL))
    print(f"| {shards} shards in processes of torchrun | {taken:.2f} ({taken / local:.1f}x) | |", flush=True)
    with Cluster(Ray(workers=shards)) as cluster:
        begin = time.monotonic()
        with pool.of_dataset(encoded, cluster) as there:
            there.counts  # noqa: B018, which waits for all shards
            start = time.monotonic() - begin
            taken = seconds_of(lambda one: run.run(one, there), request, few, repeats)
            sent = counted(there.shards, lambda: run.run(request, there))
    size = " + ".join(f"{count / shards / 1e6:.2f} MB" for count in sent)
    print(f"| {shards} shards on Ray | {taken:.2f} ({taken / local:.1f}x) | {size} |")
    print(f"\nshards on Ray are ready after {start:.1f} s; bytes a shard: sent to it + received from it")


def work(rows: int, picks: int) -> tuple[FeatureMatrix, SelectionRequest, SelectionRequest]:
    """Return drawn codes, what to select from them, and a selection of a few rows."""
    from synthetic import pool as drawn

    many, few = (SelectionRequest.parse(rows, {}, budget, "greedy", {}) for budget in (picks, 20))
    return drawn(rows), many, few


def select_part(rows: int, picks: int, repeats: int) -> None:
    """Select with the other processes of torchrun; one of them prints the seconds."""
    features, request, few = work(rows, picks)
    with ProcessGroup() as group, pool.of_dataset(encoded_of(features), group) as there:
        taken = seconds_of(lambda one: run.run(one, there), request, few, repeats)
    if os.environ["RANK"] == "0":
        print(taken)


def by_vectors(rows: int, picks: int, shards: int) -> None:
    """Print the CPU seconds of the methods that compare vectors, whole and in shards, and the bytes of a shard."""
    from selection import clustered

    features = clustered(rows)
    print(
        f"| {rows:,} vectors, {picks:,} picks | one process, CPU s | {shards} shards, CPU s | trips | bytes a shard |"
    )
    print("|---|---|---|---|---|")
    for name, options in (("kcenter", {}), ("repr_filter", {"max_similarity": 0.9})):
        request = SelectionRequest.parse(rows, {}, picks, name, options)
        whole, one = cpu_seconds(partial(run.run, request, features))
        taken, same = cpu_seconds(partial(run.run, request, pool.of_matrix(features, shards)))
        assert repr(vars(same)) == repr(vars(one))
        parts = pool.ranges(rows, shards)
        counts = CountedShards([partial(Shard, features.take(np.arange(low, high))) for low, high in parts])
        run.run(request, ShardedFeatures(counts, [high - low for low, high in parts], features.d_sae))
        size = f"{counts.sent / shards / 1e6:.2f} MB + {counts.received / shards / 1e6:.2f} MB"
        print(f"| `{name}` | {whole:.2f} | {taken:.2f} ({taken / whole:.1f}x) | {counts.trips} | {size} |", flush=True)


class CountedShards(LocalShards):
    """Count what a network would carry to shards and from them."""

    sent = received = trips = 0

    def call_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        answers = super().call_each(method, arguments)
        self.sent += sum(len(packed_call(method, own)) for own in arguments)
        self.received += sum(len(packed(answer)) for answer in answers)
        self.trips += "offer" in map(str, arguments[0][:4])
        return answers


def cpu_seconds(select: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a selection, the less of two runs, and what it selected."""
    taken = []
    for _ in range(2):
        begin = time.process_time()
        selected = select()
        taken.append(time.process_time() - begin)
    return min(taken), selected


def encoded_of(features: FeatureMatrix) -> Dataset:
    """Return features as an encoded dataset."""
    import pyarrow as pa

    from hf_sae_select.features.columns import ACTS, IDS, TOKENS, column_types

    types = column_types({"d_sae": features.d_sae, "threshold": 0.0, "sae_sha256": "drawn"})
    offsets = pa.array(features.offsets, pa.int32())
    columns = {
        IDS: pa.ListArray.from_arrays(offsets, pa.array(features.ids)),
        ACTS: pa.ListArray.from_arrays(offsets, pa.array(features.acts)),
        TOKENS: pa.array(features.tokens),
    }
    return Dataset(pa.table(columns).cast(types.arrow_schema), info=datasets.DatasetInfo(features=types))


def seconds_of(
    select: Callable[[SelectionRequest], Any], request: SelectionRequest, few: SelectionRequest, repeats: int
) -> float:
    """Return the median seconds of a selection, after one of a few rows that compiles."""
    select(few)
    taken = []
    for _ in range(repeats):
        begin = time.monotonic()
        select(request)
        taken.append(time.monotonic() - begin)
    return statistics.median(taken)


def counted(shards: Any, select: Callable[[], Any]) -> tuple[int, int]:
    """Return how many bytes go to all shards, and come back, in a selection."""
    sent, received, cluster = [0], [0], shards._cluster
    answers, answer = RayShards._answers, cluster.answer

    def count_sent(self: RayShards, calls: dict[int, bytes]) -> list[Any]:
        sent[0] += sum(map(len, calls.values()))
        return answers(self, calls)

    def count_received(reference: Any) -> Any:
        data = answer(reference)
        received[0] += len(data)
        return data

    RayShards._answers, cluster.answer = count_sent, count_received  # type: ignore[method-assign]
    try:
        select()
    finally:
        RayShards._answers, cluster.answer = answers, answer  # type: ignore[method-assign]
    return sent[0], received[0]


if __name__ == "__main__":
    main()
