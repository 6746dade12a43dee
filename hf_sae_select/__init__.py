"""Choose training data by what it means: the rows of a dataset that stand for all, by SAE features.

Importing this package sets `sae_select`, `sae_encode`, `sae_compare` and `sae_publish` on `datasets.Dataset`; the
functions below do the same without the methods. Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .plugin import attach

if TYPE_CHECKING:
    from .comparing import compare
    from .config import SaeConfig
    from .constraints import Constraints
    from .encoding import encode
    from .features import Features
    from .loading import load_sae
    from .publishing import publish, push
    from .quality import check_l0, evaluate, evaluate_on_text
    from .recipe import TrainingConfig
    from .rules import SELECTORS
    from .sae import SparseAutoencoder
    from .selecting import choose, select
    from .selection import Selection
    from .staging import stage
    from .training import fit, train_sae
    from .verifying import Verification, verify

__version__ = "0.1.0"

_HOMES = {
    "encode": "encoding",
    "Features": "features",
    "load_sae": "loading",
    "SaeConfig": "config",
    "SparseAutoencoder": "sae",
    "compare": "comparing",
    "Constraints": "constraints",
    "check_l0": "quality",
    "evaluate": "quality",
    "evaluate_on_text": "quality",
    "TrainingConfig": "recipe",
    "SELECTORS": "rules",
    "publish": "publishing",
    "push": "publishing",
    "Selection": "selection",
    "stage": "staging",
    "Verification": "verifying",
    "verify": "verifying",
    "choose": "selecting",
    "select": "selecting",
    "fit": "training",
    "train_sae": "training",
}

__all__ = [
    "SELECTORS",
    "Constraints",
    "Features",
    "SaeConfig",
    "Selection",
    "SparseAutoencoder",
    "TrainingConfig",
    "Verification",
    "check_l0",
    "choose",
    "compare",
    "encode",
    "evaluate",
    "evaluate_on_text",
    "fit",
    "load_sae",
    "publish",
    "push",
    "select",
    "stage",
    "train_sae",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its file when it is first asked for: torch and numba cost seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


attach()
