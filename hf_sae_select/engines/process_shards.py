"""Shards in the processes of a job, one in each. All processes go through the same selection.

Each calls the same methods with the same arguments, computes the answer of its own shard, and gets those of the
others. So no process waits for orders of another, and all have the same result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Self

import torch

from .host import check_versions, packed, unpacked, versions
from .processes import has_group, processes


class ProcessGroup:
    """Hold a shard in each process.

    Raises:
        ValueError: Nobody has started several processes.
        RuntimeError: The processes have different versions.
    """

    def __init__(self) -> None:
        state = processes()
        if state.num_processes == 1 and "WORLD_SIZE" not in os.environ:
            raise ValueError(
                "`engine='processes'` shares the work among the processes that torchrun or accelerate launch have "
                "started, and there is one; start several, such as `torchrun --nproc-per-node 2 script.py`, or leave "
                "`engine` out"
            )
        self.workers, self._rank = state.num_processes, state.process_index
        self._group: Any = None  # the one that was started, where it works on the CPU
        if has_group() and torch.distributed.get_backend() != "gloo":
            self._group = torch.distributed.new_group(backend="gloo")

    def __enter__(self) -> Self:
        own = versions()
        for other in self.gathered(own):
            check_versions(own, other)
        return self

    def __exit__(self, *_: object) -> None:
        if self._group is not None:
            torch.distributed.destroy_process_group(self._group)

    def gathered(self, value: Any) -> list[Any]:
        """Return the value of each process."""
        values = [value] * self.workers
        if self.workers > 1:
            torch.distributed.all_gather_object(values, value, self._group)
        return values

    def check_same(self, values: Mapping[str, Any]) -> None:
        """Check that each value is the same in all processes.

        Raises:
            RuntimeError: Some differ; the message has their names.
        """
        digests = self.gathered({name: blake2b(packed(value)).digest() for name, value in values.items()})
        if different := [name for name in values if len({digest[name] for digest in digests}) > 1]:
            raise RuntimeError(
                f"the processes do not select in the same way: {', '.join(different)} differ; call `select` with the "
                "same arguments and the same rows in all"
            )

    @contextmanager
    def shards(self, make: Sequence[Callable[[], Any]]) -> Iterator[ProcessShards]:
        """Hold the shard of this process."""
        yield ProcessShards(self._rank, self.gathered, make[self._rank])


class ProcessShards:
    """Call shards, see `Shards`."""

    def __init__(self, rank: int, gathered: Callable[[Any], list[Any]], make: Callable[[], Any]) -> None:
        self._rank, self._gathered = rank, gathered
        self._shard: Any = None
        self._count = len(self._shared("make", lambda: setattr(self, "_shard", make())))

    def __len__(self) -> int:
        return self._count

    def call(self, method: str, *arguments: Any) -> list[Any]:
        return self._shared(_name(method, arguments), lambda: getattr(self._shard, method)(*arguments))

    def call_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        own = arguments[self._rank]
        return self._shared(_name(method, own), lambda: getattr(self._shard, method)(*own))

    def call_one(self, shard: int, method: str, *arguments: Any) -> Any:
        is_own, name = shard == self._rank, _name(method, arguments)
        return self._shared(name, lambda: getattr(self._shard, method)(*arguments) if is_own else None)[shard]

    def _shared(self, name: str, answer: Callable[[], Any]) -> list[Any]:
        """Compute an answer, and return that of each process.

        Raises:
            Exception: What a process raised, in all of them: otherwise the others would wait for it.
            RuntimeError: The processes do not do the same.
        """
        try:
            own = packed((name, answer(), None))
        except Exception as error:
            own = _packed_error(name, error)
        names, answers, errors = zip(*map(unpacked, self._gathered(own)), strict=True)
        for raised in filter(None, errors):
            raise raised
        if len(set(names)) > 1:
            raise RuntimeError(
                f"the processes do not select in the same way: one calls {names[0]}, another "
                f"{next(name for name in names if name != names[0])}; call `select` with the same arguments in all"
            )
        return list(answers)


def _name(method: str, arguments: Sequence[Any]) -> str:
    """Name a call, to compare it with those of other processes."""
    return " ".join([method, *(argument for argument in arguments if isinstance(argument, str))])


def _packed_error(name: str, error: Exception) -> bytes:
    try:
        return packed((name, None, error))
    except Exception:  # it holds something that no other process can have
        return packed((name, None, RuntimeError(f"{type(error).__name__}: {error}")))
