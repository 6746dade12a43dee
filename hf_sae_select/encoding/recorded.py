"""What an encoding record names, loaded and configured again as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..features.kept import Kept
from ..sae.loading import SaeSource, load_sae
from ..sae.model import SparseAutoencoder
from .arguments import EncodingArguments
from .language_model import READING_DEFAULTS


def configured(sae: SparseAutoencoder, record: Mapping[str, Any]) -> SparseAutoencoder:
    """Set the config of an SAE to what it was when rows were encoded."""
    settings: dict[str, Any] = {name: record.get(name, default) for name, default in READING_DEFAULTS.items()}
    settings |= {"model": record["model"], "model_revision": record["model_revision"], "hook": record["hook"]}
    settings |= {"context_size": record["window"], "feature_threshold": record["threshold"]}
    sae.config = replace(sae.config, **settings)
    return sae


def recorded_sae(record: Mapping[str, Any], sae: SaeSource | None = None) -> SparseAutoencoder:
    """Return the SAE that rows were encoded with; `sae` where the record does not say where it is.

    Raises:
        ValueError: The record names no place, or the SAE there is another one.
    """
    arguments: dict[str, Any] = {"source": sae, "encoder_only": True}
    if sae is None:
        place = record.get("sae", {})
        if "repo" in place:
            arguments |= {name: place[name] for name in ("revision", "format", "config") if place.get(name)}
            arguments |= {"source": place["repo"], "filename": place["path"]}
            if Path(place["repo"]).exists():
                raise ValueError(
                    f"the folder `{place['repo']}` has the name of the repo of the SAE, and would be read instead of "
                    "it: pass `sae`"
                )
        elif "package" not in place:
            raise ValueError("the encoding record does not say where the SAE is: pass `sae`, the one that encoded")
        arguments["dtype"] = getattr(torch, record["dtype"][1])
    is_own = isinstance(sae, SparseAutoencoder)
    loaded = load_sae(**arguments)
    if loaded.digest() != record["sae_sha256"]:
        raise ValueError(
            f"`sae` is another SAE than the one that encoded the rows: its digest is {loaded.digest()[:12]}, the "
            f"record has {record['sae_sha256'][:12]}; pass the SAE that encoded"
        )
    return loaded if is_own else configured(loaded, record)


def keep_of(record: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Return the argument `keep` that a record names, but for what is kept beside the codes."""
    kept = Kept.of_record(record)
    return ("all",) if kept is None else (kept.strongest, *(["float32"] if kept.type == "float32" else []))


def recorded_arguments(record: Mapping[str, Any], **changed: Any) -> EncodingArguments:
    """Return the arguments of `encode` that a record names; `changed` are others, such as `batch_size`."""
    dtype = record["dtype"][0]
    arguments = {
        "max_length": record["max_length"],
        "keep": keep_of(record),
        "dtype": None if dtype == "auto" else dtype,
        "precision": record.get("precision"),
        "model_kwargs": record.get("model_kwargs"),
        "chat_template_kwargs": record.get("chat_template_kwargs"),
    }
    return EncodingArguments.parse(**arguments | changed)
