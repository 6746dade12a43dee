"""Libraries that only some of the package needs: imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

PURPOSES = {
    "publish": "publishing and verifying need",
    "report": "charts and reports need",
    "ray": "`engine='ray'` needs",
    "dedup": "`minhash` needs",
}


def extra(module: str, name: str = "publish") -> Any:
    """Import a module of the extra `name`.

    Raises:
        ImportError: it is not installed; the line that installs it is in the message.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{PURPOSES[name]} `{module.partition(".")[0]}`: pip install "hf-sae-select[{name}]"'
        ) from error
