"""The processes that share the work, as `torchrun` and `accelerate launch` start them. Mostly there is one.

Importing this file has a side effect: it imports `torch.distributed.nn.functional`. The functions of that module take
the process group as a default argument. Imported after a group has started, they would keep that group alive until
the interpreter ends, and its threads would then abort the interpreter. Imported before, they hold no group.
"""

from __future__ import annotations

import atexit
import importlib

import torch
from accelerate import PartialState

if torch.distributed.is_available():
    importlib.import_module("torch.distributed.nn.functional")


def processes() -> PartialState:
    """Return Accelerate's state: the number of processes, the index and the device of this one.

    The first call starts the process group, unless the caller has started one. A group that this function started
    ends when the process exits.
    """
    had_group = has_group()
    # Without `cpu=True`, Accelerate takes each process without a GPU for a single one.
    state = PartialState(cpu=not torch.accelerator.is_available())
    if not had_group and has_group():
        atexit.register(state.destroy_process_group)
    return state


def has_group() -> bool:
    """Tell whether the process is in a group, which may be of this process alone."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
