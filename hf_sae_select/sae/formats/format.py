"""`Format`: how to recognise the SAEs of one publisher in a repo, and how to read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from .layout import Layout
from .published import Published


@dataclass(frozen=True)
class ConfigFile:
    """A config file of an SAE."""

    name: str
    optional: bool = False
    at_root: bool = False
    """Whether it is at the root of the repo instead of in the SAE's folder."""
    after_stem: bool = False
    """Whether the name of the weights file, without its suffix, precedes `name`: `X.pt` has `X_cfg.json`."""

    def path(self, weights: str, folder: str) -> str:
        """Return its path for an SAE whose weights file is `weights` and whose folder is `folder`."""
        name = PurePosixPath(weights).stem + self.name if self.after_stem else self.name
        return name if self.at_root or not folder else f"{folder}/{name}"


@dataclass(frozen=True)
class Format:
    """How one publisher lays out SAEs."""

    name: str
    weights: str
    """Regular expression of the paths of weights files. Its group `name`, or else the path, is the SAE's name."""
    read: Callable[[Published], Layout]
    config_files: tuple[ConfigFile, ...] = ()
    """In order of precedence: a value in an earlier file overrides the same key in a later one."""
    required_tensors: frozenset[str] = frozenset()
    """Tensors that tell its weights files from other formats' files of the same name."""
    required_values: Mapping[str, Any] = field(default_factory=dict)
    """Values that tell its config files from other formats' files of the same name."""
    options: frozenset[str] = frozenset()
    """Keys that a caller's `config` may set although the config files lack them."""
    bare: bool = False
    """Whether its weights files have neither a config file nor a distinctive name."""

    def sae_name(self, weights: str) -> str | None:
        """Return the name of the SAE with this weights file (empty at the root), or None if no SAE has such a file."""
        match = re.fullmatch(self.weights, weights)
        return match and (match["name"] or "" if "name" in match.groupdict() else weights)

    def config_paths(self, weights: str) -> dict[str, ConfigFile]:
        """Return the config files that the SAE with this weights file may have, by path."""
        name = self.sae_name(weights)
        folder = weights.rpartition("/")[0] if name is None or name == weights else name
        return {file.path(weights, folder): file for file in self.config_files}
