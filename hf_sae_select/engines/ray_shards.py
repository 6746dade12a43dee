"""RayShards: shards in workers of a Ray cluster, one in each. A worker that ends is replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .host import packed_call, unpacked
from .workers import MOST_LOSSES, LostWorker, Workers


class RayShards:
    """Call shards, see `Shards`.

    What a shard answers depends on what it holds and on the calls before, so the calls are kept: in a new worker, a
    shard is made again and called again. The calls are as large as what was sent.
    """

    def __init__(self, cluster: Workers, make: Sequence[Callable[[], Any]]) -> None:
        self._cluster, self._make = cluster, make
        self._calls: list[list[bytes]] = [[] for _ in make]
        self.losses = 0
        self.hosts = cluster.place(len(make), len(make))
        starts = [cluster.start(worker, make_one) for worker, make_one in zip(self.hosts, make, strict=True)]
        for shard, reference in enumerate(starts):
            try:
                cluster.answer(reference)
            except LostWorker as error:
                self._replace(shard, error)

    def __len__(self) -> int:
        return len(self.hosts)

    def call(self, method: str, *arguments: Any) -> list[Any]:
        return self._answers(dict.fromkeys(range(len(self)), packed_call(method, arguments)))

    def call_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        return self._answers({shard: packed_call(method, own) for shard, own in enumerate(arguments)})

    def call_one(self, shard: int, method: str, *arguments: Any) -> Any:
        return self._answers({shard: packed_call(method, arguments)})[0]

    def _answers(self, calls: dict[int, bytes]) -> list[Any]:
        """Send calls to shards, and wait for what they return."""
        references = {shard: self.hosts[shard].call.remote(call) for shard, call in calls.items()}
        answers = [self._answer(shard, calls[shard], reference) for shard, reference in references.items()]
        for shard, call in calls.items():
            self._calls[shard].append(call)
        return answers

    def _answer(self, shard: int, call: bytes, reference: Any) -> Any:
        while True:
            try:
                return unpacked(self._cluster.answer(reference))
            except LostWorker as error:
                self._replace(shard, error)
                reference = self.hosts[shard].call.remote(call)

    def _replace(self, shard: int, error: LostWorker) -> None:
        """Make a shard again in a new worker, as it was before the call that is not answered."""
        while True:
            self.losses += 1
            if self.losses > MOST_LOSSES * len(self.hosts):
                raise RuntimeError(
                    f"workers of {len(self.hosts)} shards have ended {self.losses} times: {error}; look at the "
                    "memory of the machines, or pass more workers, which hold smaller shards"
                ) from error
            (worker,) = self._cluster.place(1, 1)
            self.hosts[shard] = worker
            try:
                self._cluster.answer(self._cluster.start(worker, self._make[shard]))
                self._cluster.answer(worker.repeat.remote(self._calls[shard]))
                return
            except LostWorker as another:
                error = another
