"""Shards: ranges of the rows of a pool, and how the driver calls them, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...features.kernels import in_threads
from .shard import Shard

FEW_ROWS = 2**18  # of a shard: what it does in a call takes less time than threads lose by waiting for each other

MakeShard = Callable[[], Shard]
"""Makes a shard where it will be: it can be pickled, and reads the rows itself."""


class Shards(Protocol):
    """Call the shards of a pool, in the order of its rows."""

    def __len__(self) -> int:
        """Return the number of shards."""

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard with the same arguments, and return what each returns."""

    def call_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of every shard with arguments of its own, and return what each returns."""

    def call_one(self, shard: int, method: str, *arguments: Any) -> Any:
        """Call a method of one shard."""


class LocalShards:
    """Hold shards in this process."""

    def __init__(self, make: Sequence[MakeShard]) -> None:
        self._shards = [make_shard() for make_shard in make]

    def __len__(self) -> int:
        return len(self._shards)

    def call(self, method: str, *arguments: Any) -> list[Any]:
        return self.call_each(method, [arguments] * len(self))

    def call_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        calls = [(getattr(shard, method), own) for shard, own in zip(self._shards, arguments, strict=True)]
        if max(map(len, self._shards)) <= FEW_ROWS:
            return [function(*own) for function, own in calls]
        return in_threads(lambda function, own: function(*own), calls)

    def call_one(self, shard: int, method: str, *arguments: Any) -> Any:
        return getattr(self._shards[shard], method)(*arguments)
