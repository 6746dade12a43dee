"""`SaeConfig`: what an SAE is and what it reads, as plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any

from .._validation import check_choice, check_flag, check_int, check_number, is_number

ACTIVATIONS = ("relu", "jumprelu", "topk", "abstopk", "groupmax")
NEED_K = ("topk", "abstopk", "groupmax")
INPUT_NORMS = ("none", "layer_norm", "rms")
SIDES = ("output", "input")
REVISION = re.compile(r"[\w.+-]+(/[\w.+-]+)*")
REQUIRED = ("d_in", "d_sae", "activation", "model", "hook")


@dataclass(frozen=True)
class SaeConfig:
    """Describe an SAE and the vectors it reads: shapes, activation, language model, hook and tokenization.

    Gated and BatchTopK SAEs are `jumprelu` here: after training, both compute exactly that.

    Raises:
        ValueError: If a value is not allowed; the message names it.

    Example:

    ```python
    config = SaeConfig(768, 24576, "topk", model="openai-community/gpt2", hook="blocks.8.hook_resid_pre", k=32)
    ```
    """

    d_in: int
    """Width of the vectors that the SAE reads."""
    d_sae: int
    """Number of latents, also called features."""
    activation: str
    """Activation function: `relu`, `jumprelu`, `topk`, `abstopk` or `groupmax`."""
    model: str
    """Hub id of the language model."""
    hook: str
    """Where the SAE reads: the path of a module, such as `layers.12`, or a TransformerLens name, such as
    `blocks.12.hook_resid_post`."""
    side: str = "output"
    """Side of the module that the SAE reads, `output` or `input`. A TransformerLens name implies the side."""
    model_revision: str | None = None
    """Commit of the language model."""
    k: int | None = None
    """Active latents per token, for `topk`, `abstopk` and `groupmax`."""
    input_norm: str = "none"
    """Normalization of each input vector: `none`, `layer_norm` (mean 0, standard deviation 1) or `rms` (norm
    sqrt(d_in))."""
    d_out: int | None = None
    """Width of the output vectors, for transcoders. By default the SAE reconstructs its input."""
    skip: bool = False
    """Whether a transcoder adds a linear map of its input to its output."""
    feature_threshold: float = 0.0
    """A row *has* a feature if the feature's largest activation over the row's tokens exceeds this value."""
    context_size: int | None = None
    """Length of the training windows in tokens, special tokens included. By default the model's maximum."""
    prepend_bos: bool | None = None
    """Whether each window begins with the BOS token, whose own vector is never read. By default the tokenizer
    decides."""
    skip_first: bool = False
    """Whether to skip the first token of each window, for models without BOS that use it as an attention sink."""
    max_norm_ratio: float | None = None
    """Skip tokens whose vector norm exceeds this multiple of the median norm in their window."""
    l0: float | None = None
    """Mean number of active latents per token, as its publisher reports it."""
    source: dict[str, Any] = field(default_factory=dict)
    """Where the SAE was loaded from: repo, revision, path, SHA-256 and format."""
    training: dict[str, Any] = field(default_factory=dict)
    """How the weights were trained, as JSON values."""

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("input_norm", self.input_norm, INPUT_NORMS)
        check_choice("side", self.side, SIDES)
        for name in ("model", "hook"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value and value.isprintable()):
                raise ValueError(f"`{name}={value!r}` must be a non-empty string of printable characters")
        if self.model_revision is not None and not _is_revision(self.model_revision):
            raise ValueError(f"`model_revision={self.model_revision!r}` must be a branch, a tag or a commit, or None")
        for name in ("source", "training"):
            _check_json(name, getattr(self, name))
        self._check_numbers()
        self._check_k()
        for item in fields(self):  # numbers of numpy, for example, cannot be saved as JSON
            value = getattr(self, item.name)
            if is_number(value) and not isinstance(value, int | float):
                object.__setattr__(self, item.name, int(value) if isinstance(value, Integral) else float(value))

    def _check_numbers(self) -> None:
        check_int("d_in", self.d_in)
        check_int("d_sae", self.d_sae)
        check_int("d_out", self.d_out, optional=True)
        check_int("context_size", self.context_size, optional=True)
        check_choice("prepend_bos", self.prepend_bos, (True, False, None))
        check_flag("skip", self.skip)
        check_flag("skip_first", self.skip_first)
        check_number("feature_threshold", self.feature_threshold, "[0, inf)")
        check_number("max_norm_ratio", self.max_norm_ratio, "[1, inf)", optional=True)
        check_number("l0", self.l0, "[0, inf)", optional=True)

    def _check_k(self) -> None:
        if self.activation not in NEED_K:
            check_int("k", self.k, optional=True)
        elif self.k is None or not (is_number(self.k, Integral) and 1 <= self.k <= self.d_sae):
            raise ValueError(
                f"`k={self.k!r}` must be an integer from 1 to d_sae={self.d_sae} with "
                f"`activation={self.activation!r}`: the active latents per token"
            )
        elif self.activation == "groupmax" and self.d_sae % self.k:
            raise ValueError(f"`k={self.k}` must divide d_sae={self.d_sae} with `activation='groupmax'`")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SaeConfig:
        """Build a config from a mapping, such as the result of `dataclasses.asdict`.

        Args:
            values (`Mapping[str, Any]`):
                Values by field name. Unknown names are ignored.

        Returns:
            `SaeConfig`: The config.

        Raises:
            ValueError: If a field without a default is missing, or a value is not allowed.
        """
        for name in REQUIRED:
            if values.get(name) is None:
                raise ValueError(f"the config lacks `{name}`")
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})


def _is_revision(value: Any) -> bool:
    """Tell whether a value can be a revision on the Hub. The cache has files by that name: it may not lead out."""
    return isinstance(value, str) and REVISION.fullmatch(value) is not None and ".." not in value


def _check_json(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"`{name}={value!r}` must be a dict of JSON values")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be a dict of JSON values: {error}") from error
