"""Imports torch and transformers in less time than Python takes by itself."""

from __future__ import annotations

import gc
import os
import sys

from datasets.utils import tqdm  # the bar that `datasets.disable_progress_bars` switches off


def import_libraries(show: bool | None = None) -> None:
    """Import torch and what all models of transformers need, without Python's garbage collector.

    A terminal shows a progress bar meanwhile, unless `show` is False or bars of `datasets` are switched off.

    It would look through what they make again and again, though all of that stays: a quarter of the time that a script
    of one `select` takes. Afterwards all objects are frozen until the next full collection, which short scripts do not
    reach. What the user has frozen stays so.
    """
    if "transformers.modeling_utils" in sys.modules:
        return
    was_enabled, was_frozen = gc.isenabled(), gc.get_freeze_count() > 0
    hidden = True if show is False or os.environ.get("LOCAL_RANK", "0") != "0" else None  # None: but in a terminal
    gc.disable()
    try:
        with tqdm(total=2, desc="Importing torch and transformers", leave=False, disable=hidden) as bar:
            import torch  # noqa: F401

            bar.update()
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
