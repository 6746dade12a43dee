"""Ctrl-C while threads work: the first one stops them, and later ones cannot break the wait for their end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from threading import current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Let Ctrl-C raise one KeyboardInterrupt, and no other until the block ends.

    An interpreter that ends while a thread runs torch aborts the process, so a second Ctrl-C must not end the wait for
    that thread. The handler of the program decides whether Ctrl-C raises at all. Python handles signals in its main
    thread: elsewhere, the block changes nothing.

    Args:
        say (`Callable`):
            Called at once when Ctrl-C stops the work.

    Example: ``with Interrupts(lambda: print("stopping")) as interrupts: work()``.
    """

    def __init__(self, say: Callable[[], None]) -> None:
        self._say = say
        self._before: Any = None
        self._is_stopping = False

    def __enter__(self) -> Interrupts:
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and current_thread() is main_thread():
            self._before = handler
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def ignore(self) -> None:
        """Ignore Ctrl-C from now on, since the work stops anyway."""
        self._is_stopping = True

    def check(self) -> None:
        """Raise the KeyboardInterrupt again, if the work goes on: what runs in a destructor or a callback loses it."""
        if self._is_stopping:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_stopping:
            return
        try:
            self._before(number, frame)
        except KeyboardInterrupt:
            self._is_stopping = True
            self._say()
            raise
