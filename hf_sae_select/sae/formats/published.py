"""What a format knows of an SAE before it reads a number: names, config and shapes, and the caller's overrides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ..._validation import is_number
from ..config import SaeConfig
from .layout import StoredTensor

# Fields of `SaeConfig` that a caller may override; the weights determine the others.
OVERRIDABLE = frozenset(item.name for item in fields(SaeConfig)) - {
    "d_in",
    "d_sae",
    "d_out",
    "activation",
    "skip",
    "source",
}

# Values that errors propose for `config`.
EXAMPLES: dict[str, Any] = {
    "model": "owner/name",
    "hook": "layers.12",
    "k": 8,
    "activation": "relu",
    "apply_b_dec_to_input": False,
    "input_norm": "none",
}


class MissingValueError(ValueError):
    """A value that neither the files nor their names contain; the caller may pass it."""


@dataclass(frozen=True)
class Published:
    """An SAE as its publisher distributes it."""

    repo: str
    """Hub id, or the full path of the local folder."""
    path: str
    """Path of the weights file in the repo."""
    config: Mapping[str, Any]
    """Content of the config files, merged, with the caller's overrides applied at the top level."""
    shapes: Mapping[str, tuple[int, ...]]
    """Shapes of the tensors in the weights file."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Values of the tensors with a single number."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What the weights file contains beside tensors."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """The caller's `config`: fields of `SaeConfig`, or keys of the publisher's config."""
    missing: dict[str, str] = field(default_factory=dict)
    """Values that the files lack -> why."""

    def override_or(self, name: str, default: Callable[[], Any]) -> Any:
        """Return the caller's override of a value, or else compute the default.

        If the files lack it, `check_complete` raises the error, so that one error names all values that are missing.
        """
        if name in self.overrides:
            return self.overrides[name]
        try:
            return default()
        except MissingValueError as error:
            self.missing[name] = str(error).partition("; pass ")[0]
            return None

    def check_complete(self) -> None:
        """Check that no value of `override_or` is missing.

        Raises:
            ValueError: If any is; the message contains the `config` that helps.
        """
        if self.missing:
            config = {name: EXAMPLES[name] for name in self.missing}
            reasons = "; ".join(dict.fromkeys(self.missing.values()))
            raise ValueError(f"{reasons}; pass {' and '.join(f'`{name}`' for name in config)}: `config={config!r}`")

    def search_names(self, pattern: str, meaning: str) -> str:
        """Return the first group of `pattern` in the path, or else in the repo's name.

        Raises:
            MissingValueError: If neither matches; `meaning` says what the name should contain.
        """
        for name in (self.path, self.repo):
            if match := re.search(pattern, name, re.IGNORECASE):
                return match[1]
        raise MissingValueError(f"neither the path `{self.path}` nor the repo's name contains {meaning}")

    def search_model(self, models: Sequence[tuple[str, str]]) -> str:
        r"""Return the base model that the repo's name or the path implies.

        `models` are pairs of a pattern and a Hub id, in which `\1` stands for the pattern's first group.

        Raises:
            MissingValueError: If no pattern matches.
        """
        names = f"{self.repo}/{self.path}"
        for pattern, model in models:
            if match := re.search(pattern, names, re.IGNORECASE):
                return match.expand(model)
        raise MissingValueError(f"the name `{names}` does not imply the base model")

    def section(self, key: str, required: bool = True) -> dict[str, Any]:
        """Return a nested section of the config, with the caller's overrides applied.

        Raises:
            ValueError: If the section is missing, or not a mapping.
        """
        value = self.config.get(key)
        if not isinstance(value, Mapping) and (required or value is not None):
            raise ValueError(f"the config of `{self.path}` lacks the section `{key}`; it is {value!r}")
        return {**(value or {}), **self.overrides}

    def section_of_values(self, key: str) -> dict[str, Any]:
        """Return a nested section of the plain values in the weights file; empty if there is none."""
        value = self.values.get(key)
        return dict(value) if isinstance(value, Mapping) else {}

    def require(self, key: str, section: Mapping[str, Any] | None = None) -> Any:
        """Return a value of the config, or of one of its sections.

        Raises:
            MissingValueError: If it is missing.
        """
        value = (self.config if section is None else section).get(key)
        if value is None:
            raise MissingValueError(
                f"the config of `{self.path}` lacks `{key}`; pass it with `config={{{key!r}: ...}}`"
            )
        return value

    def require_text(self, key: str, section: Mapping[str, Any] | None = None) -> str:
        """Return a string of the config, or of one of its sections.

        Raises:
            MissingValueError: If it is missing.
            ValueError: If it is no string.
        """
        value = self.require(key, section)
        if not isinstance(value, str):
            raise ValueError(f"`{key}={str(value)[:80]}` in the config of `{self.path}` must be a string")
        return value

    def flag(self, key: str, default: bool, section: Mapping[str, Any] | None = None) -> bool:
        """Return a truth value of the config, or of one of its sections.

        Raises:
            ValueError: If it is anything else: "false" would count as true.
        """
        value = (self.config if section is None else section).get(key)
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"`{key}={value!r}` in the config of `{self.path}` must be true or false")
        return default if value is None else value

    def require_positive(self, key: str, section: Mapping[str, Any] | None = None, prefix: str = "") -> float:
        """Return a positive finite number of the config, or of one of its sections.

        Raises:
            ValueError: If it is missing or not positive; the message calls it `prefix` and `key`.
        """
        value: Any = self.require(key) if section is None else section.get(key)
        if not is_number(value) or value <= 0:
            raise ValueError(
                f"`{prefix}{key}={value!r}` in the config of `{self.path}` must be a positive finite number; pass it "
                f"with `config={{{key!r}: ...}}`"
            )
        return float(value)

    def check_size(self, key: str, value: Any, size: int) -> int:
        """Check that a size in the config, if there is one, equals the size of the tensors. Return the latter.

        Raises:
            ValueError: If they differ.
        """
        if value is not None and value != size:
            raise ValueError(f"the config of `{self.path}` has `{key}={value!r}`, but its tensors have {size}")
        return size

    def matrix_shape(self, tensor: StoredTensor) -> tuple[int, int]:
        """Return the shape of a matrix, after the transposition that `tensor` asks for.

        Raises:
            ValueError: If the tensor is missing, or not a matrix.
        """
        shape = self.shapes.get(tensor.name)
        if shape is None:
            names = ", ".join(sorted(self.shapes))
            raise ValueError(f"tensor `{tensor.name}` is missing from {self.path}, which contains: {names}")
        if len(shape) != 2:
            raise ValueError(f"tensor `{tensor.name}` in {self.path} has shape {list(shape)}; it must be a matrix")
        return (shape[1], shape[0]) if tensor.transpose else (shape[0], shape[1])

    def sae_config(self, **values: Any) -> SaeConfig:
        """Build the `SaeConfig` from what the format read; the caller's overrides take precedence.

        Raises:
            ValueError: If a value is missing or not allowed.
        """
        self.check_complete()
        overrides = {name: value for name, value in self.overrides.items() if name in OVERRIDABLE}
        return SaeConfig(**{**values, **overrides})
