"""What holds workers, as those who use them see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

MOST_LOSSES = 5  # of workers with the same rows


class LostWorker(RuntimeError):
    """A worker has ended: it was killed, had no memory left, or its machine is gone."""


class Workers(Protocol):
    """Hold workers of Ray, see `Cluster`."""

    ray: Any
    """The module."""

    @property
    def workers(self) -> int:
        """The number of workers."""

    def place(self, count: int, least: int, *, with_gpus: bool = False, threads: int = 1) -> list[Any]:
        """Ask Ray for workers, and wait until it has placed at least so many."""

    def start(self, worker: Any, make: Callable[[], Any]) -> Any:
        """Let a worker make what it holds, and return what Ray calls the answer."""

    def answer(self, reference: Any) -> Any:
        """Wait for an answer of a worker."""

    def end(self, hosts: Iterable[Any]) -> None:
        """End workers."""
