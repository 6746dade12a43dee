"""CheckpointSchedule: when to write a checkpoint, and a thread that writes it beside the training."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, recursively_apply

from .checkpoint import Checkpoint

# Seconds between two checkpoints. A wide SAE with Adam's state has many gigabytes: written after every buffer, they
# would cost more than the steps.
INTERVAL = 300


class CheckpointSchedule:
    """Write a checkpoint every `INTERVAL` seconds and after the last step.

    Leaving the context waits for the last write.

    Args:
        checkpoint: What to write, or None for nothing. The main process writes the states of all processes.
    """

    def __init__(self, checkpoint: Checkpoint | None, accelerator: Accelerator) -> None:
        self.checkpoint, self.accelerator = checkpoint, accelerator
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._write: Future[None] | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()
        elif self._write is not None and (failure := self._write.exception()) not in (None, error):
            error.add_note(f"the last checkpoint could not be written: {failure}")

    def is_due(self, is_last: bool) -> bool:
        """Tell whether to write a checkpoint now, by the clock of the main process; all processes call this together.

        Args:
            is_last: Whether the training has taken its last step.
        """
        if self.checkpoint is None:
            return False
        is_due = [is_last or time.monotonic() - self._began >= INTERVAL]
        return bool(broadcast_object_list(is_due)[0])

    def write(self, state: dict[str, Any]) -> None:
        """Copy a state, and begin to write the copy once the checkpoint before is written.

        Raises:
            OSError: If the checkpoint before could not be written.
        """
        self._began = time.monotonic()
        if self.checkpoint is None or not self.accelerator.is_main_process:
            return
        self._wait()
        # The next steps change the tensors in place.
        copy = recursively_apply(lambda tensor: tensor.to("cpu", copy=True), state)
        self._write = self._thread.submit(self.checkpoint.save, copy)

    def _wait(self) -> None:
        """Wait for the write, and raise its error."""
        if self._write is not None:
            self._write.result()
