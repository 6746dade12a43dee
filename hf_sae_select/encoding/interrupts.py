"""Ctrl-C while threads work: it stops them where that is safe, and cannot break the wait for their end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from threading import current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Let Ctrl-C raise one KeyboardInterrupt, by `check`, and none elsewhere until the block ends.

    An interpreter that ends while a thread runs torch aborts the process. So no Ctrl-C may come between the start of a
    thread and the wait for it, nor end that wait. The handler of the program decides whether Ctrl-C raises at all.
    Python handles signals in its main thread: elsewhere, the block changes nothing.

    Args:
        say (`Callable`):
            Called at once when Ctrl-C stops the work.

    Example: ``with Interrupts(lambda: print("stopping")) as interrupts: work(interrupts.check)``.
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
        if kind is None:
            self.check()

    def ignore(self) -> None:
        """Ignore Ctrl-C from now on, since an error stops the work anyway."""
        self._is_stopping = True

    def check(self) -> None:
        """Stop here, if Ctrl-C was pressed.

        Raises:
            KeyboardInterrupt: It was.
        """
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
