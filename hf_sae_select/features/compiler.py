"""numba, which compiles loops, and a progress bar meanwhile. `kernels.py` imports this file when it compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets.utils import tqdm  # the bar that `datasets.disable_progress_bars` switches off
from numba import njit
from numba.core.event import Event, Listener, register

PACKAGE = __name__.partition(".")[0] + "."


class Progress(Listener):  # type: ignore[misc]
    """Show a progress bar while numba compiles; what it reads from its files is no work, and shows nothing."""

    def __init__(self) -> None:
        self._depth = 0  # a function compiles the functions that it calls: their events are nested
        self._bar: Any = None

    def notify(self, event: Event) -> None:
        """Listen to what begins with a function of this package: others compile with numba too."""
        function = getattr(event.data["dispatcher"], "py_func", None)  # a dispatcher of another kind may have none
        if self._depth or (getattr(function, "__module__", None) or "").startswith(PACKAGE):
            super().notify(event)

    def on_start(self, event: Event) -> None:
        if self._depth == 0:
            self._bar = tqdm(desc="Compiling, once on this machine", unit=" functions", leave=False)
        self._depth += 1

    def on_end(self, event: Event) -> None:
        self._depth -= 1
        self._bar.update()
        if self._depth == 0:
            self._bar.close()


def dispatcher(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return a function that compiles for the types of its arguments, and keeps the machine code on disk."""
    compiling: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    return compiling


register("numba:compile", Progress())
