"""The model card of an SAE. No torch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._cards import render
from .._licences import check_known
from .._validation import check_type, is_hub_id, is_number
from .config import SaeConfig
from .labels_beside import NameCount

CARD_FILE = "README.md"


PLAIN_NAME = re.compile(r"\w[\w. -]*")  # without Markdown
LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def check_license(license: Any) -> None:
    """Check the argument `license`.

    Raises:
        TypeError: If it is no string; None passes.
        ValueError: If the Hub does not know it.
    """
    check_type("license", license, str, "the id of a license, such as 'apache-2.0'", optional=True)
    if license is not None:
        check_known(license, "'other', and state it in the README")


def is_local(model: str) -> bool:
    """Tell whether `model` is a local path and not a Hub id."""
    return not is_hub_id(model) or Path(model).is_dir()


def sae_card(
    config: SaeConfig,
    repo_id: str | None = None,
    subfolder: str | None = None,
    license: Any = None,
    names: NameCount | None = None,
) -> str:
    """Return the model card of an SAE. It contains only facts of the config, and how many features have names.

    `license` is the argument, or what the README of the repo states. `names` is None without labels.
    """
    facts = defaultdict(lambda: None, config.training)  # the template asks for facts that may be missing
    for name in ("datasets", "text"):
        facts[name] = _strings(facts[name])
    license = license or facts["license"]
    return render(
        "sae_card.md",
        config=config,
        facts=facts,
        data=_training_data(facts),
        source=defaultdict(lambda: None, config.source),
        base_model=None if is_local(config.model) else config.model,
        repo_id=repo_id,
        subfolder=subfolder,
        names=names,
        license=license,
        license_id=license if isinstance(license, str) and LICENSE_ID.fullmatch(license) else None,
    )


def _training_data(facts: Mapping[str, Any]) -> list[str]:
    """Return what the config says of the training data, in items of a list."""
    hub = "https://huggingface.co/datasets"
    items = [f"[{name}]({hub}/{name})" for name in facts["datasets"] if is_hub_id(name)]
    if columns := [f"`{name}`" for name in _strings(facts["columns"]) if PLAIN_NAME.fullmatch(name)]:
        items.append(f"the text of the columns {', '.join(columns)}")
    if is_number(facts["documents"]) and is_number(facts["epochs"]):
        items.append(f"{facts['documents']:,} rows, read {facts['epochs']:.1f} times")
    if is_number(facts["context_size"]):
        items.append(f"windows of {facts['context_size']:,} tokens")
    return items


def _strings(value: Any) -> list[str]:
    """Return a string as a list of it, and of a list its strings."""
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [item for item in values if isinstance(item, str)]
