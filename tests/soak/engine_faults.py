"""Disturb encodings and selections on engines, call them again, and count: `python tests/soak/engine_faults.py`.

In the end there must be the files and the receipt of a call that nobody disturbed, byte for byte, or an error that
names the file and the remedy, and then the same bytes from the next call. Kinds:

- processes: one of two processes that encode is killed with SIGKILL, or both are, at a random moment
- runs: two calls that know nothing of each other encode into one cache
- disk: the disk is full after a random number of bytes
- file: a file of codes is cut off at a random byte
- shards: one of two processes that hold a shard each is killed while they select
- worker: a worker of Ray that encodes is killed
- driver: the process that encodes on Ray is killed
- shard: a worker of Ray that holds a shard is killed while a method searches
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ |= {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(Path(__file__).parents[2])}

import datasets
import torch
from datasets import Dataset
from helpers import tiny

from hf_sae_select import Ray, SaeConfig, SparseAutoencoder, encode, select
from hf_sae_select.encoding import claims, distributed, encoder, run
from hf_sae_select.engines.cluster import QUIET, Cluster
from hf_sae_select.selection.sharded import driver

ROWS = 120
WORDS = "the cat sat on a mat and big red bird flew over moon".split()
TEXTS = [" ".join(WORDS[(i * k) % 13] for k in range(1, 2 + i % 7)) + " dog" * (i % 23) for i in range(ROWS)]
MEETING_SECONDS = 60
SECONDS = 300  # of a child: one that waits for ever does not survive


def rows() -> Dataset:
    return Dataset.from_dict({"text": TEXTS})


def sae_of(folder: Path) -> SparseAutoencoder:
    return SparseAutoencoder.from_pretrained(folder / "sae")


def files(cache: Path) -> dict[str, bytes]:
    """Return what an encoding has left, without the claims of killed jobs, which go after a day."""
    left = [file for file in cache.rglob("*") if file.is_file() and "jobs" not in file.parts]
    return {file.name: file.read_bytes() for file in left}


def encoded(folder: Path, cache: Path, engine: Any = None) -> Dataset:
    datasets.config.HF_DATASETS_CACHE = cache
    return encode(rows(), sae_of(folder), engine=engine)


def receipt(codes: Dataset, engine: Any = None) -> str:
    return repr(vars(select(codes, 30, "greedy", engine=engine).sae_selection))


class Trial:
    """One cache, and what must be in it in the end."""

    def __init__(self, folder: Path, cache: Path, expected: dict[str, bytes], expected_receipt: str) -> None:
        self.folder, self.cache = folder, cache
        self.expected, self.expected_receipt = expected, expected_receipt

    def ends_well(self) -> str:
        """Encode and select again in a process that nobody disturbs; return what is wrong."""
        status = self.wait([self.child(self.check)])[0]
        return "" if status == 0 else f"the next call ended with {status}"

    def check(self) -> None:
        codes = encoded(self.folder, self.cache)
        assert files(self.cache) == self.expected, sorted(files(self.cache))
        assert receipt(codes) == self.expected_receipt

    def child(self, work: Callable[[], Any], rank: int | None = None, port: int = 0) -> int:
        """Fork a process that works; return its id. With a rank, it is one of two."""
        pid = os.fork()
        if pid:
            return pid
        try:
            if rank is not None:
                ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
                os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
                # By default torch waits half an hour for a process that is killed before both have met.
                torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=MEETING_SECONDS))
            work()
        except BaseException as error:
            if not is_explained(error):
                print(f"  a child ended with {type(error).__name__}: {str(error)[:300]}", flush=True)
                os._exit(2)
            os._exit(1)
        os._exit(0)

    def wait(self, children: list[int]) -> list[int]:
        """Wait for processes, and return their exit codes; -9 for those that were killed."""
        deadline, codes = time.monotonic() + SECONDS, dict[int, int]()
        while len(codes) < len(children):
            for pid in children:
                if pid not in codes:
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        codes[pid] = os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                for pid in set(children) - codes.keys():
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    codes[pid] = 99
            time.sleep(0.01)
        return [codes[pid] for pid in children]

    def pair(self, work: Callable[[], Any]) -> list[int]:
        """Start two processes of a job."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return [self.child(work, rank, port) for rank in (0, 1)]


def is_explained(error: BaseException) -> bool:
    """Tell whether an error is one that a fault may cause: of files it names the remedy."""
    words = str(error)
    of_files = "HF_DATASETS_CACHE" in words or "delete it, and encode again" in words
    return of_files or any(part in words for part in ("Connection", "gloo", "Broken pipe", "closed", "timed out"))


# ---- faults of processes: each takes a trial and a moment in [0, 1), and returns what is wrong


def kill_processes(trial: Trial, moment: float, seconds: float) -> str:
    children = trial.pair(partial(encoded, trial.folder, trial.cache, "processes"))
    time.sleep(moment * seconds)
    victims = random.choice([children[:1], children[1:], children])
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    codes = trial.wait(children)
    # Whoever is left does the work of the other, unless it waited for a message of the other.
    return "" if all(code in (0, 1, -9) for code in codes) else f"the processes ended with {codes}"


def run_twice(trial: Trial, moment: float, seconds: float) -> str:
    work = partial(encoded, trial.folder, trial.cache)
    first = trial.child(work)
    time.sleep(moment * seconds / 2)
    codes = trial.wait([first, trial.child(work)])
    return "" if codes == [0, 0] else f"the calls ended with {codes}"


def fill_disk(trial: Trial, moment: float, seconds: float) -> str:
    largest = max(map(len, trial.expected.values()))

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(moment * largest), resource.RLIM_INFINITY))
        encoded(trial.folder, trial.cache)

    (code,) = trial.wait([trial.child(work)])
    return "" if code == 1 else f"the call ended with {code}, and not with an error that names the remedy"


def cut_file(trial: Trial, moment: float, seconds: float) -> str:
    trial.wait([trial.child(partial(encoded, trial.folder, trial.cache))])
    file = random.choice(sorted(trial.cache.rglob("codes-*.arrow")))
    os.truncate(file, int(moment * file.stat().st_size))
    (code,) = trial.wait([trial.child(trial.check)])
    if code == 1:  # as the error says
        file.unlink()
    return "" if code in (0, 1) else f"the call with a file cut off ended with {code}"


def kill_selecting(trial: Trial, moment: float, seconds: float) -> str:
    trial.wait([trial.child(partial(encoded, trial.folder, trial.cache))])
    children = trial.pair(lambda: receipt(encoded(trial.folder, trial.cache, "processes"), "processes"))
    time.sleep(moment * seconds)
    os.kill(children[random.randrange(2)], signal.SIGKILL)
    codes = trial.wait(children)
    return "" if all(code in (0, 1, -9) for code in codes) else f"the processes ended with {codes}"


# ---- faults of Ray


def kill_worker(trial: Trial, moment: float, seconds: float) -> str:
    place, workers = Cluster.place, list[Any]()

    def placed(self: Cluster, *arguments: Any, **options: Any) -> list[Any]:
        hosts = place(self, *arguments, **options)
        workers.extend(hosts)
        return hosts

    def kill() -> None:
        import ray

        if workers:
            ray.kill(random.choice(workers[:2]))

    Cluster.place = placed  # type: ignore[method-assign]
    timer = Timer(moment * seconds, kill)
    timer.start()
    try:
        encoded(trial.folder, trial.cache, Ray(workers=2))
    finally:
        timer.cancel()
        Cluster.place = place  # type: ignore[method-assign]
    return ""


def kill_driver(trial: Trial, moment: float, seconds: float) -> str:
    import ray

    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, __file__, "--driver", address, str(trial.folder), str(trial.cache)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        child.wait(moment * seconds)
    except subprocess.TimeoutExpired:
        child.kill()
    return "" if child.wait() in (0, -9) else f"the driver ended with {child.returncode}"


def kill_shard(trial: Trial, moment: float, seconds: float) -> str:
    import ray

    from hf_sae_select.engines.ray_shards import RayShards

    codes = encoded(trial.folder, trial.cache)
    answers, calls, victim = RayShards._answers, 0, int(moment * seconds)  # `seconds` are calls here

    def killing(self: RayShards, packed: dict[int, bytes]) -> list[Any]:
        nonlocal calls
        calls += 1
        if calls == victim + 1:
            ray.kill(random.choice(self.hosts))
        return answers(self, packed)

    RayShards._answers = killing  # type: ignore[method-assign]
    try:
        same = receipt(codes, Ray(workers=2)) == trial.expected_receipt
    finally:
        RayShards._answers = answers  # type: ignore[method-assign]
    return "" if same and calls > victim else f"another receipt, or no kill in {calls} calls"


OF_PROCESSES = {
    "processes": kill_processes,
    "runs": run_twice,
    "disk": fill_disk,
    "file": cut_file,
    "shards": kill_selecting,
}
OF_RAY = {"worker": kill_worker, "driver": kill_driver, "shard": kill_shard}


def main() -> int:
    """Print how many faults of each kind were tried, and how many calls survived them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=50, help="number of random moments of each kind")
    parser.add_argument("--kinds", nargs="*", choices=[*OF_PROCESSES, *OF_RAY], default=[*OF_PROCESSES, *OF_RAY])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--driver", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    warnings.simplefilter("ignore")
    # Many tasks, pieces and trips of a few rows.
    encoder.GROUP_ROWS, run.READ_ROWS, run.FILE_BYTES, run.TASK_ROWS, driver.OFFERED = 8, 4, 1, 8, 2
    claims.TOUCH_SECONDS, claims.DEAD_SECONDS, claims.POLL_SECONDS, distributed.SEEN_SECONDS = 0.2, 5, 0.05, 5
    if arguments.driver:
        address, folder, cache = arguments.driver
        encoded(Path(folder), Path(cache), Ray(workers=2, address=address))
        return 0
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        return tried(Path(name), arguments.kinds, arguments.points)


def tried(folder: Path, kinds: list[str], points: int) -> int:
    bert = tiny.save("bert", folder / "bert")
    config = SaeConfig(16, 32, "jumprelu", model=str(bert), hook="encoder.layer.1", feature_threshold=0.5)
    tiny.sae(config).save_pretrained(folder / "sae")
    whole = Trial(folder, folder / "whole", {}, "")
    reading, writing = os.pipe()
    begin = time.monotonic()
    child = whole.child(lambda: os.write(writing, receipt(encoded(folder, whole.cache)).encode()))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        expected_receipt = pipe.read()
    assert whole.wait([child]) == [0]
    expected, seconds, lost = files(whole.cache), time.monotonic() - begin, 0
    for kind in sorted(kinds, key=lambda kind: kind in OF_RAY):  # Ray's threads do not survive a fork
        survived = 0
        if kind in OF_RAY:
            connect()
        for point in range(points):
            trial = Trial(folder, folder / f"{kind}-{point}", expected, expected_receipt)
            moment, limit = random.random(), {"shard": 12.0, "worker": 12.0, "driver": 25.0}.get(kind, 2 * seconds)
            problem = {**OF_PROCESSES, **OF_RAY}[kind](trial, moment, limit)
            problem = problem or (trial.ends_well() if kind not in OF_RAY else ends_well_here(trial))
            survived += not problem
            if problem:
                print(f"  {kind} at {moment:.3f} of {limit:.1f}: {problem}", flush=True)
        print(f"{kind}: tried {points}, survived {survived}", flush=True)
        lost += points - survived
    return lost


def connect() -> None:
    import ray

    os.environ |= QUIET
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def ends_well_here(trial: Trial) -> str:
    try:
        trial.check()
    except AssertionError as error:
        return f"other files or another receipt in the end: {str(error)[:300]}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
