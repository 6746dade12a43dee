"""Work: tasks that workers of a cluster share. Each does the next task when it has done one."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from statistics import median
from typing import Any, NamedTuple

from .host import packed_call, unpacked
from .workers import MOST_LOSSES, LostWorker, Workers

AT_ONCE = 2  # tasks of a worker: it reads one while it computes the other
POLL_SECONDS = 0.5
SLOW = 3.0  # times as long as most tasks took: then a free worker does the task too


class Call(NamedTuple):
    """What a worker does now."""

    task: int | None
    """None: it makes what it works with."""
    worker: Any
    begin: float


class Work:
    """Do tasks, in any order, and yield their results.

    A worker that ends is replaced, and its tasks are done again. When no task waits any more, free workers do those
    that take long too, and the first result of a task counts.

    Args:
        cluster (`Workers`):
            Has the workers.
        make (`Callable`):
            Makes, in each worker, the object whose method is called.
        method (`str`):
            The method, which two threads of a worker may call at once.
        count (`int`):
            Number of tasks.
        arguments (`Callable`):
            Returns the arguments of a task when it is sent.
    """

    def __init__(
        self,
        cluster: Workers,
        make: Callable[[], Any],
        method: str,
        count: int,
        arguments: Callable[[int], tuple[Any, ...]],
    ) -> None:
        self._cluster, self._make, self._method, self._arguments = cluster, make, method, arguments
        self._waiting, self._left = deque(range(count)), set(range(count))
        self._calls: dict[Any, Call] = {}  # by Ray's reference to the answer
        self._workers: list[Any] = []
        self._losses: Counter[int | None] = Counter()
        self._seconds: list[float] = []  # of tasks that are done

    def results(self) -> Generator[tuple[int, Any]]:
        """Yield the number and the result of each task when it is done.

        Raises:
            RuntimeError: Workers end again and again.
            Exception: What a worker raised.
        """
        try:
            self._hire(min(self._cluster.workers, len(self._left)), 1)
            while self._left:
                ready, _ = self._cluster.ray.wait(list(self._calls), timeout=POLL_SECONDS)
                for reference in ready:
                    if reference in self._calls:  # its worker was not lost meanwhile
                        yield from self._take(reference)
                self._repeat_slow()
        finally:
            self._cluster.end(self._workers)

    def _hire(self, count: int, least: int) -> None:
        """Take on workers."""
        for worker in self._cluster.place(count, least, with_gpus=True, threads=AT_ONCE):
            self._workers.append(worker)
            self._calls[self._cluster.start(worker, self._make)] = Call(None, worker, time.monotonic())

    def _take(self, reference: Any) -> Iterator[tuple[int, Any]]:
        """Take an answer, and give its worker something to do."""
        call = self._calls[reference]
        try:
            answer = self._cluster.answer(reference)
        except LostWorker as error:
            self._replace(call.worker, error)
            return
        del self._calls[reference]
        is_new = call.task in self._left
        if is_new:
            self._left.discard(call.task)
            self._seconds.append(time.monotonic() - call.begin)
        for _ in range(AT_ONCE if call.task is None else 1):
            self._send_next(call.worker)
        if is_new and call.task is not None:
            yield call.task, unpacked(answer)

    def _send_next(self, worker: Any) -> None:
        while self._waiting:
            task = self._waiting.popleft()
            if task in self._left:
                self._send(worker, task)
                return

    def _send(self, worker: Any, task: int) -> None:
        reference = worker.call.remote(packed_call(self._method, self._arguments(task)))
        self._calls[reference] = Call(task, worker, time.monotonic())

    def _replace(self, worker: Any, error: LostWorker) -> None:
        """Take on another worker in the place of one that has ended."""
        lost = [reference for reference, call in self._calls.items() if call.worker is worker]
        for reference in lost:
            task = self._calls.pop(reference).task
            self._losses[task] += 1
            if self._losses[task] == MOST_LOSSES:
                raise RuntimeError(
                    f"{MOST_LOSSES} workers have ended one after another, at the same rows or before they had any: "
                    f"{error}; look at the memory of the machines"
                ) from error
            if task is not None:
                self._waiting.appendleft(task)
        self._workers.remove(worker)
        self._hire(1, 0)

    def _repeat_slow(self) -> None:
        """Let a worker that has nothing to do repeat the task that others take longest for."""
        if self._waiting or len(self._seconds) < 2:
            return
        busy = {id(call.worker) for call in self._calls.values()}
        copies = Counter(call.task for call in self._calls.values())
        latest = time.monotonic() - SLOW * median(self._seconds)
        slow = [call for call in self._calls.values() if call.task in self._left and call.begin < latest]
        for worker in self._workers:
            call = min((call for call in slow if copies[call.task] == 1), key=lambda call: call.begin, default=None)
            if call is not None and call.task is not None and id(worker) not in busy:
                self._send(worker, call.task)
                copies[call.task] += 1
