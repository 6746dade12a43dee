"""Select small, representative training subsets by the features of a sparse autoencoder.

Importing this package sets `sae_select`, `sae_encode`, `sae_compare`, `sae_dedup`, `sae_missing`, `sae_diff`,
`sae_find_features`, `sae_explain`, `sae_why_not`, `sae_report`, `sae_publish`, `sae_selection` and `sae_removals` on
`datasets.Dataset`; the functions below do the same without the methods. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .plugin import attach

if TYPE_CHECKING:
    from ._environment import Environment, environment
    from .concepts.atlas import export_atlas
    from .concepts.contrast import Contrast
    from .concepts.differences import diff, find_features, missing_features
    from .concepts.evidence import Reason
    from .concepts.explanation import explain
    from .concepts.naming import label_features
    from .concepts.reason_table import Reasons
    from .concepts.reasons import reasons
    from .concepts.rejection import WhyNot, why_not
    from .concepts.report import report
    from .encoding.files import encode_files
    from .encoding.pipeline import encode
    from .engines.engine import Ray
    from .features import metrics
    from .features.concatenation import concatenate
    from .features.matrix import FeatureMatrix
    from .publishing.published import load_selection
    from .publishing.pushing import publish, push
    from .publishing.staging import stage
    from .publishing.verdict import Verification
    from .publishing.verification import verify
    from .sae.config import SaeConfig
    from .sae.label_sources import load_labels
    from .sae.labels import Label, Labels
    from .sae.loading import load_sae
    from .sae.model import SparseAutoencoder
    from .selection.api import select
    from .selection.comparison import compare
    from .selection.constraints import Constraints
    from .selection.deduplication import dedup
    from .selection.indices import select_indices
    from .selection.methods import METHODS
    from .selection.removals import Removals
    from .selection.result import Selection
    from .selection.target_comparison import target_distances
    from .training.config import TRAINING_PRESETS, SaeTrainingConfig
    from .training.evaluation import Quality, evaluate_sae, evaluate_sae_on_activations
    from .training.l0_check import L0Check, check_l0
    from .training.train import train_sae, train_sae_on_activations

__version__ = "0.1.0"

_MODULES = {  # public name -> the file that defines it
    "Environment": "_environment",
    "environment": "_environment",
    "Contrast": "concepts.contrast",
    "diff": "concepts.differences",
    "explain": "concepts.explanation",
    "export_atlas": "concepts.atlas",
    "find_features": "concepts.differences",
    "Label": "sae.labels",
    "Labels": "sae.labels",
    "label_features": "concepts.naming",
    "load_labels": "sae.label_sources",
    "missing_features": "concepts.differences",
    "Reason": "concepts.evidence",
    "Reasons": "concepts.reason_table",
    "reasons": "concepts.reasons",
    "why_not": "concepts.rejection",
    "WhyNot": "concepts.rejection",
    "concatenate": "features.concatenation",
    "encode": "encoding.pipeline",
    "encode_files": "encoding.files",
    "Ray": "engines.engine",
    "report": "concepts.report",
    "FeatureMatrix": "features.matrix",
    "load_sae": "sae.loading",
    "SaeConfig": "sae.config",
    "SparseAutoencoder": "sae.model",
    "compare": "selection.comparison",
    "dedup": "selection.deduplication",
    "target_distances": "selection.target_comparison",
    "Removals": "selection.removals",
    "Constraints": "selection.constraints",
    "check_l0": "training.l0_check",
    "evaluate_sae": "training.evaluation",
    "evaluate_sae_on_activations": "training.evaluation",
    "L0Check": "training.l0_check",
    "Quality": "training.evaluation",
    "SaeTrainingConfig": "training.config",
    "TRAINING_PRESETS": "training.config",
    "METHODS": "selection.methods",
    "load_selection": "publishing.published",
    "publish": "publishing.pushing",
    "push": "publishing.pushing",
    "Selection": "selection.result",
    "stage": "publishing.staging",
    "Verification": "publishing.verdict",
    "verify": "publishing.verification",
    "select_indices": "selection.indices",
    "select": "selection.api",
    "train_sae": "training.train",
    "train_sae_on_activations": "training.train",
}

__all__ = [
    "METHODS",
    "TRAINING_PRESETS",
    "Constraints",
    "Contrast",
    "Environment",
    "FeatureMatrix",
    "L0Check",
    "Label",
    "Labels",
    "Quality",
    "Ray",
    "Reason",
    "Reasons",
    "Removals",
    "SaeConfig",
    "SaeTrainingConfig",
    "Selection",
    "SparseAutoencoder",
    "Verification",
    "WhyNot",
    "check_l0",
    "compare",
    "concatenate",
    "dedup",
    "diff",
    "encode",
    "encode_files",
    "environment",
    "evaluate_sae",
    "evaluate_sae_on_activations",
    "explain",
    "export_atlas",
    "find_features",
    "label_features",
    "load_labels",
    "load_sae",
    "load_selection",
    "metrics",
    "missing_features",
    "publish",
    "push",
    "reasons",
    "report",
    "select",
    "select_indices",
    "stage",
    "target_distances",
    "train_sae",
    "train_sae_on_activations",
    "verify",
    "why_not",
]


def _public(name: str) -> Any:
    """Import a public name from its file when it is first used: torch and numba take seconds to import."""
    if name == "metrics":
        return importlib.import_module(".features.metrics", __name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


if not TYPE_CHECKING:  # else type checkers would take any name for one of this package
    __getattr__ = _public


def __dir__() -> list[str]:
    """Show the public names, which are imported only when they are used."""
    return __all__


attach()
