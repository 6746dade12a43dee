"""What an SAE is and what it reads: plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

ACTIVATIONS = ("relu", "jumprelu", "topk", "abstopk", "groupmax")
NEED_K = ("topk", "abstopk", "groupmax")
INPUT_NORMS = ("none", "layer_norm", "rms")
SIDES = ("output", "input")


@dataclass(frozen=True)
class SaeConfig:
    """Say what an SAE is and what it reads.

    Gated SAEs are jumprelu here, and so are BatchTopK ones: both are, once trained (`formats.layout`).
    """

    d_in: int
    """Width of the vectors that it reads."""
    d_sae: int
    """Number of latents, that is, of features."""
    activation: str
    """relu, jumprelu, topk, abstopk or groupmax."""
    model: str
    """Hub id of the language model."""
    hook: str
    """Where it reads: a module's path, such as `layers.12`, or a TransformerLens name: `blocks.12.hook_resid_post`."""
    side: str = "output"
    """Which side of the module at a path is read, output or input; a TransformerLens name says that itself."""
    model_revision: str | None = None
    """Commit of the language model."""
    k: int | None = None
    """Latents per token, for topk, abstopk and groupmax."""
    input_norm: str = "none"
    """What is done to a vector first: none, layer_norm (mean 0, standard deviation 1), rms (norm sqrt(d_in))."""
    d_out: int | None = None
    """Width of what it puts out, for transcoders; None: d_in."""
    skip: bool = False
    """Whether a transcoder adds a linear map of its input to what it puts out."""
    feature_threshold: float = 0.0
    """A row *has* a feature when its largest activation over the row's tokens is above this; calibrated per SAE."""
    context_size: int | None = None
    """Window, in tokens with the special ones, that it was trained on; None: as long as the model reads."""
    prepend_bos: bool | None = None
    """Whether a window begins with the BOS token (itself never read); None: as the model's tokenizer does it."""
    skip_first: bool = False
    """Whether the first token of each window is left out, for models that park attention there without a BOS."""
    max_norm_ratio: float | None = None
    """Leave out tokens whose vectors are longer than this times the median of their window; None: none."""
    l0: float | None = None
    """Mean latents per token, as its makers state it."""
    source: dict[str, Any] = field(default_factory=dict)
    """Where it was loaded from: repo, revision, path, format."""
    training: dict[str, Any] = field(default_factory=dict)
    """What is known of how the weights were made, JSON values only."""

    def __post_init__(self) -> None:
        for name, allowed in (("activation", ACTIVATIONS), ("input_norm", INPUT_NORMS), ("side", SIDES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown `{name}={getattr(self, name)!r}`; known: {', '.join(allowed)}")
        for name in ("d_in", "d_sae", "d_out"):
            value = getattr(self, name)
            if not _is_whole(value) and not (name == "d_out" and value is None):
                raise ValueError(f"`{name}={value!r}` must be a whole number from 1 on")
        for name in ("model", "hook"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value and value.isprintable()):
                raise ValueError(f"`{name}={value!r}` must be a name")
        for name in ("source", "training"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"`{name}={getattr(self, name)!r}` must be a dict of JSON values")
            try:
                json.dumps(getattr(self, name))
            except (TypeError, ValueError) as error:
                raise ValueError(f"`{name}` must be a dict of JSON values: {error}") from error
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.context_size is not None and not _is_whole(self.context_size):
            raise ValueError(f"`context_size={self.context_size!r}` must be a whole number from 1 on, or None")
        if self.prepend_bos not in (None, True, False) or self.skip_first not in (True, False):
            raise ValueError(
                f"`prepend_bos={self.prepend_bos!r}` must be True, False or None, `skip_first={self.skip_first!r}` "
                "True or False"
            )
        if self.l0 is not None and not (_is_number(self.l0) and 0 <= self.l0 < math.inf):
            raise ValueError(f"`l0={self.l0!r}` must be a number from 0 on, or None")
        if self.k is not None and not _is_whole(self.k) and self.activation not in NEED_K:
            raise ValueError(f"`k={self.k!r}` must be a whole number from 1 on, or None")
        if self.activation in NEED_K and not (_is_whole(self.k) and (self.k or 0) <= self.d_sae):
            raise ValueError(
                f"`activation={self.activation!r}` needs `k`, the latents per token, from 1 to d_sae; it is {self.k!r}"
            )
        if self.activation == "groupmax" and self.d_sae % (self.k or 1):
            raise ValueError(f"`activation='groupmax'` needs a `k` that divides d_sae={self.d_sae}; it is {self.k!r}")
        if not (_is_number(self.feature_threshold) and 0 <= self.feature_threshold < math.inf):
            raise ValueError(f"`feature_threshold={self.feature_threshold!r}` must be a finite number from 0 on")
        ratio = self.max_norm_ratio
        if ratio is not None and not (_is_number(ratio) and 1 <= ratio < math.inf):
            raise ValueError(f"`max_norm_ratio={ratio!r}` must be a number from 1 on, or None")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SaeConfig:
        """Build a config from its own fields, such as `dataclasses.asdict` gives; others are ignored.

        Raises:
            ValueError: a field without a default is missing, or a value is not allowed.
        """
        names = {each.name for each in fields(cls)}
        if missing := [name for name in ("d_in", "d_sae", "activation", "model", "hook") if values.get(name) is None]:
            raise ValueError(f"the config does not say `{missing[0]}`")
        return cls(**{name: value for name, value in values.items() if name in names})


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
