"""The processes that share the work (`torchrun`, `accelerate launch`), of which this is one; mostly the only one."""

from __future__ import annotations

import atexit
import importlib

import torch
from accelerate import PartialState

if torch.distributed.is_available():
    # Imported only when there is a group already, it would keep that alive, as the default of its functions.
    importlib.import_module("torch.distributed.nn.functional")


def processes() -> PartialState:
    """Return Accelerate's view of the processes; if that begins their group, it ends when this process does."""
    begun = _in_a_group()
    # Told so, Accelerate lets processes without a GPU work together; by itself it takes each for a lone one.
    state = PartialState(cpu=not torch.accelerator.is_available())
    if not begun and _in_a_group():  # its threads, if left to the interpreter's end, would abort it
        atexit.register(state.destroy_process_group)
    return state


def _in_a_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
