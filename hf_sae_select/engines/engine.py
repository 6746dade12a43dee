"""`Ray`, and the argument `engine`: where rows are encoded and selected."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._validation import check_choice, check_int, check_number, check_text

if TYPE_CHECKING:
    from .cluster import Cluster
    from .process_shards import ProcessGroup

ENGINES = ("processes", "ray")
Processes = Literal["processes"]


@dataclass(frozen=True)
class Ray:
    """Run on a Ray cluster: rows are encoded by its workers, and selected from shards that its workers hold.

    `engine="ray"` is `engine=Ray()`. A call joins the cluster that the process is connected to, or else that of
    `address`; without one, it starts a cluster on this machine and stops it at the end. See `docs/engines.md`.

    Args:
        workers (`int`, *optional*):
            Number of workers. By default one for each GPU of the cluster if workers hold GPUs, or else one for each
            CPU.
        cpus (`float`, *optional*, defaults to `0.5`):
            CPUs that a worker holds in Ray's accounts. All workers together must leave some of the cluster's CPUs.
            From 1 on it is also the number of threads of a worker.
        gpus (`float`, *optional*, defaults to `0`):
            GPUs that a worker holds while it encodes; a fraction lets workers share one.
        address (`str`, *optional*):
            Address of a cluster, such as `"10.0.0.1:6379"`, or `"auto"` for the one on this machine. By default the
            environment variable `RAY_ADDRESS`.
        resources (`dict[str, float]`, *optional*):
            Further resources of the cluster that a worker holds, as in Ray.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.

    Example:

    ```python
    encode(dataset, engine=Ray(workers=8, gpus=1, address="auto"))
    ```
    """

    workers: int | None = None
    cpus: float = 0.5
    gpus: float = 0
    address: str | None = None
    resources: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_int("workers", self.workers, optional=True)
        check_number("cpus", self.cpus, "[0, inf)")
        check_number("gpus", self.gpus, "[0, inf)")
        check_text("address", self.address, optional=True)
        if self.resources is not None and not isinstance(self.resources, Mapping):
            raise TypeError(f"`resources={self.resources!r}` must be a dict such as {{'highmem': 1}}")
        for name, amount in (self.resources or {}).items():
            check_number(f"resources[{name!r}]", amount, "[0, inf)")


def engine_of(engine: Any) -> Ray | Processes | None:
    """Check the argument `engine`.

    Raises:
        TypeError: It is neither a name nor a `Ray`.
        ValueError: No engine has this name.
    """
    if engine is None or isinstance(engine, Ray):
        return engine
    if not isinstance(engine, str):
        raise TypeError(f"`engine={engine!r}` must be None, 'processes', 'ray' or a `Ray`")
    check_choice("engine", engine, ENGINES)
    return Ray() if engine == "ray" else "processes"


def device_of(engine: Ray | Processes | None) -> str | None:
    """Return where workers of an engine encode; None where the process that asks does so too."""
    return ("cuda" if engine.gpus else "cpu") if isinstance(engine, Ray) else None


@contextmanager
def opened(engine: Ray | Processes | None) -> Iterator[Cluster | ProcessGroup | None]:
    """Yield an engine that can work, and stop what it has started; None for this process.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: No cluster is at the address.
        ValueError: There is one process only, or the processes of torchrun would each start Ray.
    """
    if engine is None:
        yield None
    elif engine == "processes":
        from .process_shards import ProcessGroup  # needs torch

        with ProcessGroup() as group:
            yield group
    else:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                f"`engine={engine!r}` in {os.environ['WORLD_SIZE']} processes of torchrun: each would use the cluster "
                "for itself; start one process, or pass engine='processes'"
            )
        from .cluster import Cluster

        with Cluster(engine) as cluster:
            yield cluster
