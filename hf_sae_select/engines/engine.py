"""`Ray`, and the argument `engine`: where rows are encoded and selected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .._validation import check_choice, check_int, check_number, check_text

ENGINES = ("processes", "ray")
Processes = Literal["processes"]


@dataclass(frozen=True)
class Ray:
    """Run on a Ray cluster: rows are encoded by its workers, and selected from shards that its workers hold.

    `engine="ray"` is `engine=Ray()`. A call joins the cluster that the process is connected to, or else that of
    `address`; without one, it starts a cluster on this machine and stops it at the end. See `docs/engines.md`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.

    Example:

    ```python
    encode(dataset, engine=Ray(workers=8, gpus=1, address="auto"))
    ```
    """

    workers: int | None = None
    """Number of workers. By default one for each GPU of the cluster if workers hold GPUs, or else one for each CPU."""
    cpus: float = 0.5
    """CPUs that a worker holds in Ray's accounts.

    All workers together must leave some of the cluster's CPUs. From 1 on it is also a worker's number of threads.
    """
    gpus: float = 0
    """GPUs that a worker holds while it encodes; a fraction lets workers share one."""
    address: str | None = None
    """Address of a cluster: `"10.0.0.1:6379"`, or `"auto"` for the one on this machine. By default `RAY_ADDRESS`."""
    resources: Mapping[str, float] | None = None
    """Further resources of the cluster that a worker holds, as in Ray."""

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
