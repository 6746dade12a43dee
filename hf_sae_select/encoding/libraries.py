"""Imports torch and transformers in less time than Python takes by itself."""

from __future__ import annotations

import gc
import sys


def import_libraries() -> None:
    """Import torch and what all models of transformers need, without Python's garbage collector.

    It would look through what they make again and again, though all of that stays: a quarter of the time that a script
    of one `select` takes. Afterwards all objects are frozen until the next full collection, which short scripts do not
    reach. What the user has frozen stays so.
    """
    if "transformers.modeling_utils" in sys.modules:
        return
    was_enabled, was_frozen = gc.isenabled(), gc.get_freeze_count() > 0
    gc.disable()
    try:
        import torch  # noqa: F401
        import transformers.modeling_utils  # noqa: F401
    finally:
        if not was_frozen:
            gc.freeze()
            gc.callbacks.append(_unfreeze)
        if was_enabled:
            gc.enable()


def _unfreeze(phase: str, info: dict[str, int]) -> None:
    """Let a full collection look through all objects, but for the one at the end of the process."""
    if phase == "start" and info["generation"] == 2 and not sys.is_finalizing():
        gc.callbacks.remove(_unfreeze)
        gc.unfreeze()
