"""The model card of an SAE. No torch."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from .._cards import render
from .._validation import is_hub_id
from .config import SaeConfig

CARD_FILE = "README.md"


def is_local(model: str) -> bool:
    """Tell whether `model` is a local path and not a Hub id."""
    return not is_hub_id(model) or Path(model).is_dir()


def sae_card(
    config: SaeConfig, repo_id: str | None = None, subfolder: str | None = None, license: str | None = None
) -> str:
    """Return the model card of an SAE. It contains only facts of the config."""
    facts = defaultdict(lambda: None, config.training)  # the template asks for facts that may be missing
    for name in ("datasets", "text"):
        if isinstance(facts[name], str):
            facts[name] = [facts[name]]
    return render(
        "sae_card.md",
        config=config,
        facts=facts,
        source=defaultdict(lambda: None, config.source),
        base_model=None if is_local(config.model) else config.model,
        repo_id=repo_id,
        subfolder=subfolder,
        license=license or facts["license"],
    )
