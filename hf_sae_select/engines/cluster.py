"""Cluster: a Ray cluster that was joined, or started on this machine, and the workers that it can hold."""

from __future__ import annotations

import math
import os
import socket
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from .._optional import extra
from . import host
from .engine import Ray, device_of
from .ray_shards import RayShards
from .work import Work
from .workers import LostWorker

CONNECT_SECONDS = 5.0  # Ray itself looks for a cluster for minutes
PLACE_SECONDS = 60.0  # in which Ray places workers on nodes that are up
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray warns of otherwise; workers on CPUs ask for no GPU
}


class Cluster:
    """Hold workers on a Ray cluster. It is joined, or started, when workers are asked for.

    Args:
        engine (`Ray`):
            Which cluster, and what a worker holds.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: Nothing answers at the address.
    """

    def __init__(self, engine: Ray) -> None:
        for name, value in QUIET.items():  # Ray reads them when it is imported
            os.environ.setdefault(name, value)
        self.engine, self.ray = engine, extra("ray", "ray")
        self._is_joined, self._is_own = False, False
        self._address = engine.address or os.environ.get("RAY_ADDRESS") or "local"
        if not self.ray.is_initialized():
            _check_answers(self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_own:
            self.ray.shutdown()
            self._is_own = self._is_joined = False

    # ---- what the cluster has

    @property
    def device(self) -> str | None:
        """The type of device that workers encode on."""
        return device_of(self.engine)

    @property
    def workers(self) -> int:
        """The number of workers.

        Raises:
            ValueError: The cluster is too small for them.
        """
        own = self.engine
        if own.workers and self._address == "local" and not self.ray.is_initialized():
            self._check_fits(own.workers, {"CPU": os.cpu_count() or 1})  # Ray takes seconds to start
        total = {**dict.fromkeys(self._needs, 0.0), **self._join()}
        default = total["GPU"] / own.gpus if own.gpus else total["CPU"]
        count = own.workers or max(int(default), 1)
        self._check_fits(count, total)
        return count

    def _check_fits(self, count: int, total: Mapping[str, float]) -> None:
        """Check that a cluster has enough of each resource in `total`, and a CPU that no worker holds.

        Raises:
            ValueError: It is too small.
        """
        for name, amount in self._needs.items():
            if amount * count > total.get(name, math.inf):
                remedy = "fewer workers, or less for each"
                if amount > total[name]:
                    remedy = f"less {name} for each, or another cluster"
                raise ValueError(
                    f"`engine={self.engine!r}`: {count} workers need {amount * count:g} {name}, and the cluster has "
                    f"{total[name]:g}; pass {remedy}"
                )
        if self.engine.cpus * count >= total["CPU"]:
            raise ValueError(
                f"`engine={self.engine!r}`: {count} workers would hold all {total['CPU']:g} CPUs of the "
                "cluster, so that nothing else could run; pass fewer workers, or `cpus=0.5`"
            )

    @property
    def _needs(self) -> dict[str, float]:
        own = self.engine
        return {"CPU": own.cpus, "GPU": own.gpus, **(own.resources or {})}

    def _join(self) -> Mapping[str, float]:
        """Join the cluster, or start one, and return what it has in all.

        Raises:
            ConnectionError: No cluster is at the address.
        """
        if not self._is_joined and not self.ray.is_initialized():
            local = {"include_dashboard": False} if self._address == "local" else {}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.ray.init(address=self._address, log_to_driver=False, logging_level="ERROR", **local)
            except (ConnectionError, RuntimeError) as error:
                raise ConnectionError(_no_cluster(self._address, error)) from error
            self._is_own = True
        total: Mapping[str, float] = self.ray.cluster_resources()
        if not self._is_joined and total.get("GPU") and not self.engine.gpus:
            warnings.warn(
                f"the cluster has {total['GPU']:g} GPUs, and workers use none: to encode on them, pass "
                "engine=Ray(gpus=1)",
                stacklevel=2,
            )
        self._is_joined = True
        return total

    # ---- workers

    def place(self, count: int, least: int, *, with_gpus: bool = False, threads: int = 1) -> list[Any]:
        """Ask Ray for workers, and wait until it has placed at least so many.

        Raises:
            RuntimeError: It has not, in a minute.
        """
        own, pickle = self.engine, self.ray.cloudpickle
        gpus, resources = own.gpus if with_gpus else 0, dict(own.resources or {})
        pickle.register_pickle_by_value(host)  # see `host.py`
        try:
            kind = self.ray.remote(host.Host).options(
                num_cpus=own.cpus, num_gpus=gpus, resources=resources, max_concurrency=threads
            )
            hosts = [kind.remote() for _ in range(count)]
        finally:
            pickle.unregister_pickle_by_value(host)
        answers = [one.answer.remote() for one in hosts]
        placed = self.ray.wait(answers, num_returns=least, timeout=PLACE_SECONDS)[0] if least else []
        if len(placed) < least:
            self.end(hosts)
            free = self.ray.available_resources()
            needs = ", ".join(
                f"{amount:g} of {free.get(name, 0):g} free {name}" for name, amount in self._needs.items()
            )
            raise RuntimeError(
                f"Ray placed {len(placed)} of {count} workers in {PLACE_SECONDS:g} s; each needs {needs}: wait until "
                "the other work of the cluster has ended, or pass fewer workers"
            )
        return hosts

    def start(self, worker: Any, make: Callable[[], Any]) -> Any:
        """Let a worker make what it holds, and return what Ray calls the answer."""
        return worker.start.remote(self.ray.cloudpickle.dumps(make), host.versions())

    def answer(self, reference: Any) -> Any:
        """Wait for an answer of a worker.

        Raises:
            LostWorker: The worker has ended.
            Exception: What the worker raised.
        """
        errors = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except errors.RayError as error:
            raise LostWorker(" ".join(str(error).split())[:500]) from error

    def end(self, hosts: Iterable[Any]) -> None:
        """End workers."""
        for one in hosts:
            self.ray.kill(one)

    def results(
        self, make: Callable[[], Any], method: str, count: int, arguments: Callable[[int], tuple[Any, ...]]
    ) -> Generator[tuple[int, Any]]:
        """Share tasks among workers, see `Work`."""
        return Work(self, make, method, count, arguments).results()

    @contextmanager
    def shards(self, make: Sequence[Callable[[], Any]]) -> Iterator[RayShards]:
        """Hold shards in workers, one in each."""
        shards = RayShards(self, make)
        try:
            yield shards
        finally:
            self.end(shards.hosts)


def _check_answers(address: str) -> None:
    """Check that something answers at the address of a cluster.

    Raises:
        ConnectionError: Nothing does.
        ValueError: It is no address.
    """
    if address in ("auto", "local"):
        return
    name, _, port = address.rpartition("://")[2].rpartition(":")
    if not name or not port.isdigit():
        raise ValueError(f"`address={address!r}` must be 'auto', or host:port such as '10.0.0.1:6379'")
    try:
        socket.create_connection((name.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(_no_cluster(address, error)) from error


def _no_cluster(address: str, reason: object) -> str:
    return (
        f"no Ray cluster is at `address={address!r}` ({' '.join(str(reason).split())[:300]}); start one there by "
        "`ray start --head`, which asks for a token: set RAY_AUTH_MODE=token here; without an address and "
        "RAY_ADDRESS, one is started on this machine"
    )
