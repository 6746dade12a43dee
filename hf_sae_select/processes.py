"""The processes that share the work (`torchrun`, `accelerate launch`), of which this is one; mostly the only one."""

from __future__ import annotations

import atexit

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """Return Accelerate's view of the processes; if that begins their group, it ends when this process does."""
    begun = _in_a_group()
    # Told so, Accelerate lets processes without a GPU work together; by itself it takes each for a lone one.
    state = PartialState(cpu=not torch.accelerator.is_available())
    if not begun and _in_a_group():
        atexit.register(state.destroy_process_group)  # gloo's threads, if left to the interpreter's end, abort it
    return state


def _in_a_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
