"""Imports torch and transformers in less time than Python takes by itself."""

from __future__ import annotations

import gc
import sys


def import_libraries() -> None:
    """Import torch and what all models of transformers need, without Python's garbage collector.

    What they make stays. The collector would look through it again and again, and once more at the end of the process:
    a quarter of the time of a first `select`. So it is set apart for good, and with it what the user has made so far,
    unless the user has imported torch: then there may be models and tensors, which must be collected one day.
    """
    is_first, was_enabled = "torch" not in sys.modules, gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
        import transformers.modeling_utils  # noqa: F401
    finally:
        if is_first:
            gc.freeze()
        if was_enabled:
            gc.enable()
