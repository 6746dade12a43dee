"""From a publisher's tensors to ours: how a format stores an SAE, and the folding that follows from it.

Every encoder becomes one matrix, one bias and an activation:

    pre-encoder bias        (x - b_dec) @ W + b               ->  b - b_dec @ W
    input scale             (s x) @ W + b                     ->  s W;  W_dec / s, b_dec / s
    centered input          (x - mean(x)) @ W + b             ->  W minus the mean of each column
    decoder norms           f(pre |W_dec|), unit rows         ->  W |W_dec|, b |W_dec|;  W_dec / |W_dec|
    gate                    p = x @ W                         ->  jumprelu of W e^r_mag with bias b_mag and
                            relu(e^r_mag p + b_mag)               threshold b_mag - e^r_mag b_gate
                            where p > -b_gate, else 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..config import SaeConfig
from ..serialization import tensor_shapes

GATE = ("b_gate", "b_mag", "r_mag")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a publisher's file, and how it is oriented there."""

    name: str
    transpose: bool = False
    """Whether the file stores the transpose of our matrix, as `nn.Linear` does."""


def same_names(*names: str) -> dict[str, StoredTensor]:
    """Return a mapping for tensors that a publisher calls and orients as we do."""
    return {name: StoredTensor(name) for name in names}


def linear_layers(encoder: str, decoder: str) -> dict[str, StoredTensor]:
    """Return the mapping of `W_enc`, `b_enc` and `W_dec` for two `nn.Linear` modules."""
    return {
        "W_enc": StoredTensor(f"{encoder}.weight", transpose=True),
        "b_enc": StoredTensor(f"{encoder}.bias"),
        "W_dec": StoredTensor(f"{decoder}.weight", transpose=True),
    }


@dataclass(frozen=True)
class Layout:
    """How to turn a publisher's tensors into those of a `SparseAutoencoder`."""

    config: SaeConfig
    tensors: Mapping[str, StoredTensor]
    """Our name -> the stored tensor. Gated SAEs have `b_gate`, `b_mag` and `r_mag` instead of `b_enc`; `scaling` is a
    factor of each decoder row."""
    subtract_b_dec: bool = False
    """Whether the encoder subtracts `b_dec` from its input."""
    scale: Mapping[str, float] = field(default_factory=dict)
    """Our name -> factor to multiply the tensor by."""
    log_threshold: bool = False
    """Whether the file stores the logarithm of the threshold."""
    unit_decoder: bool = False
    """Whether the activation applies to `pre` times the norm of the latent's decoder row."""
    norm_gate: bool = False
    """Whether only the comparison with the threshold uses `pre` times that norm."""
    center_input: bool = False
    """Whether the encoder subtracts from each input vector its mean."""
    threshold: float | None = None
    """A threshold that all latents share and the config contains."""
    tied: bool = False
    """Whether the decoder is the transpose of the encoder, and is not stored."""
    ignored: frozenset[str] = frozenset()
    """Stored tensors that an SAE does not need."""

    @property
    def has_decoder(self) -> bool:
        """Whether there is one. The encoder of one layer of a cross-layer transcoder has none of its own."""
        return self.tied or "W_dec" in self.tensors

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the expected shape of each of `tensors`, in our orientation."""
        shapes = tensor_shapes(self.config)
        shapes |= dict.fromkeys((*GATE, "scaling"), shapes["b_enc"])
        return {name: shapes[name] for name in self.tensors}

    def needed(self, encoder_only: bool) -> list[str]:
        """Return the names of the tensors to read."""
        if not encoder_only:
            return list(self.tensors)
        unused = {"W_skip", "scaling"}
        if not (self.unit_decoder or self.norm_gate):
            unused.add("W_dec")
        if not self.subtract_b_dec:
            unused.add("b_dec")
        return [name for name in self.tensors if name not in unused]

    def fold(self, tensors: Mapping[str, Tensor], encoder_only: bool) -> dict[str, Tensor]:
        """Fold the tensors of a file, in our names and orientation, into those of a `SparseAutoencoder`."""
        t = dict(tensors)
        config = self.config
        self._scale(t)
        if self.tied and not encoder_only:
            t["W_dec"] = t["W_enc"].T
        if "b_gate" in t:
            _fold_gate(t)
        t.setdefault("b_enc", t["W_enc"].new_zeros(config.d_sae))
        if "scaling" in t:
            t["W_dec"] = t["W_dec"] * t.pop("scaling")[:, None]
        self._fold_norms(t)
        if self.subtract_b_dec:
            t["b_enc"] = t["b_enc"] - t["b_dec"] @ t["W_enc"]
        if self.center_input:
            t["W_enc"] = t["W_enc"] - t["W_enc"].mean(dim=0)
        if encoder_only:
            return {name: t[name] for name in ("W_enc", "b_enc", "threshold") if name in t}
        t.setdefault("b_dec", t["W_enc"].new_zeros(config.d_out or config.d_in))
        return t

    def _scale(self, t: dict[str, Tensor]) -> None:
        if self.log_threshold:
            t["threshold"] = t["threshold"].exp()
        for name, factor in self.scale.items():
            if name in t:
                t[name] = t[name] * factor
        if self.threshold is not None:
            t["threshold"] = t["W_enc"].new_tensor(self.threshold)
        if "threshold" in t and t["threshold"].numel() == 1:
            t["threshold"] = t["threshold"].reshape(()).expand(self.config.d_sae).clone()

    def _fold_norms(self, t: dict[str, Tensor]) -> None:
        if not (self.unit_decoder or self.norm_gate):
            return
        norm = t["W_dec"].norm(dim=1)
        norm[norm == 0] = 1.0  # a latent whose decoder row is zero stays as it is
        if self.norm_gate:
            t["threshold"] = t["threshold"] / norm
            return
        for name in ("W_enc", "b_enc"):
            t[name] = t[name] * norm
        t["W_dec"] = t["W_dec"] / norm[:, None]


def _fold_gate(t: dict[str, Tensor]) -> None:
    """Turn a gated encoder into the equivalent jumprelu."""
    gain, b_gate = t.pop("r_mag").exp(), t.pop("b_gate")
    t["W_enc"] = t["W_enc"] * gain
    t["b_enc"] = t.pop("b_mag")
    t["threshold"] = t["b_enc"] - gain * b_gate
