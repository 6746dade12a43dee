"""Bench: the device, its clock and memory, the time that is left, and where figures go."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hf_sae_select.sae.products import SplitProduct

from .lines import Lines
from .shapes import Sizes

Figures = Mapping[str, Any]
SLOW = 0.2  # seconds


class Bench:
    """Measure one call after another, each within the time of its part.

    Args:
        device: Where all runs.
        sizes: How large all is.
        lines: Where the figures go.
    """

    def __init__(self, device: torch.device, sizes: Sizes, lines: Lines) -> None:
        self.device, self.sizes, self.lines = device, sizes, lines
        self.part, self.end = "", 0.0
        self.roof = cache(self._roof)

    def begin(self, part: str, seconds: float) -> None:
        self.part, self.end = part, time.monotonic() + seconds

    def measure(self, table: str, call: Callable[[], Figures], **settings: Any) -> None:
        """Add what `call` returns as a line; or that it needs too much memory, or that no time is left."""
        if time.monotonic() > self.end:
            self.lines.add(self.part, table, **settings, missing="no time left")
            return
        self.forget_peak()
        try:
            figures = call()
        except torch.OutOfMemoryError:
            figures = {"missing": "out of memory"}
        except (RuntimeError, ValueError) as error:  # what a card or its torch cannot do is a figure too
            figures = {"missing": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
        self.lines.add(self.part, table, **settings, **figures)
        if self.is_cuda:
            torch.cuda.empty_cache()

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the seconds of one call, with all that it queues on the device."""
        self.wait()
        started = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - started

    def median(self, call: Callable[[], object]) -> float:
        """Return the median seconds of a call, by the device's own clock where it has one, after calls to warm up.

        A slow call is not repeated as often.
        """
        is_slow = self.seconds(call) > SLOW
        warm_up, repeats = (0, min(3, self.sizes.repeats)) if is_slow else (self.sizes.warm_up, self.sizes.repeats)
        for _ in range(warm_up):
            call()
        timed = self._event_seconds if self.is_cuda else self.seconds
        return statistics.median(timed(call) for _ in range(repeats))

    def _event_seconds(self, call: Callable[[], object]) -> float:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        stop.record()
        stop.synchronize()
        milliseconds: float = start.elapsed_time(stop)
        return milliseconds / 1000

    def forget_peak(self) -> None:
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_mb(self) -> float:
        """Return the most memory that the device held since `forget_peak`; of a CPU, what the process has held."""
        return torch.cuda.max_memory_allocated(self.device) / 2**20 if self.is_cuda else process_mb()

    def _roof(self, precision: str) -> float:
        """Return the most useful operations a second of a product in this precision, over some shapes.

        Parts of a split product count once: a product of [n, d_in] and [d_in, d_sae] has 2 n d_in d_sae of them.
        """
        return max(self.operations(precision, *shape) for shape in self.sizes.products)

    def operations(self, precision: str, rows: int, d_in: int, d_sae: int) -> float:
        """Return useful operations a second of a product: in `float32`, `tf32`, a policy, or plain bfloat16.

        The policies multiply bfloat16 into float32; plain bfloat16, as language models use it, into bfloat16.
        """
        x, weights = self.normal(rows, d_in), self.normal(d_in, d_sae)
        if precision in ("float32", "tf32"):
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            took = self.median(lambda: x @ weights)
            torch.set_float32_matmul_precision(before)
        elif precision == "bfloat16, plain":
            half, half_weights = x.bfloat16(), weights.bfloat16()
            took = self.median(lambda: half @ half_weights)
        else:
            product, half = SplitProduct(weights, precision), x.bfloat16()
            took = self.median(lambda: product(half))
        return 2 * rows * d_in * d_sae / took

    def normal(self, *shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        return torch.randn(*shape, device=self.device, generator=generator)


def process_mb() -> float:
    """Return the most memory that the process has held since its start; on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
