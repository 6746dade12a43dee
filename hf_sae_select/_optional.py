"""Libraries that publishing and verifying need and nothing else does: imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any


def extra(module: str) -> Any:
    """Import a module of the extra `publish`.

    Raises:
        ImportError: it is not installed; the line that installs it is in the message.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'publishing and verifying need `{module.partition(".")[0]}`: pip install "hf-sae-select[publish]"'
        ) from error
