"""Stages of a pipeline: generators that run ahead of who reads them, each in a thread of its own.

A stage reads from the stage before it, so order is kept. An error of a stage comes out where its next item would have,
after all items before it. Who closes the last stage ends all threads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
TICK_SECONDS = 1.0


class _End(NamedTuple):
    """The last thing that a stage has to say."""

    error: BaseException | None


def ahead(items: Generator[Item], size: int, tick: Callable[[], None] | None = None) -> Generator[Item]:
    """Run a generator in a thread, up to `size` items ahead; call `tick` every second while its next item is awaited.

    Close the result, with `contextlib.closing`: then the thread ends after the item that it is making.

    Example: ``with closing(ahead(slow(), 2)) as items: list(items)``.
    """
    results: SimpleQueue[Item | _End] = SimpleQueue()
    room, stopped = Semaphore(size), Event()

    def produce() -> None:
        error = None
        try:
            with closing(items):
                while room.acquire() and not stopped.is_set():
                    results.put(next(items))
        except StopIteration:
            pass
        except BaseException as raised:  # KeyboardInterrupt too: who waits for an item must hear of it
            error = raised
        results.put(_End(error))

    thread = Thread(target=copy_context().run, args=[produce], daemon=True)
    thread.start()
    try:
        while not isinstance(item := _awaited(results, tick), _End):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        room.release()
        thread.join()


def _awaited(results: SimpleQueue[Item | _End], tick: Callable[[], None] | None) -> Item | _End:
    """Wait for the next item. A wait without a time limit could not be interrupted on Windows."""
    while True:
        try:
            return results.get(timeout=TICK_SECONDS)
        except Empty:
            if tick is not None:
                tick()
