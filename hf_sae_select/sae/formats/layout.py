"""How a publisher's tensors become ours: what a format says of an SAE, and the folding that follows from it.

Every encoder here is one matrix, one bias and an activation, whatever it looked like before:

    a pre-encoder bias      (x - b_dec) @ W + b               ->  b - b_dec @ W
    an input scale          (s x) @ W + b                     ->  (s W); W_dec and b_dec by 1/s
    centring the input      (x - mean(x)) @ W + b             ->  W less the mean of each column
    the decoder's norms     f(pre |W_dec|) by unit rows       ->  (W |W_dec|), (b |W_dec|), W_dec / |W_dec|
    a gate                  p = x @ W;  p > -b_gate opens     ->  jumprelu of W e^r, b_mag, at b_mag - e^r b_gate
                            relu(e^r p + b_mag)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

from ..config import SaeConfig

SCALED_BY_NORM = ("W_enc", "b_enc")


# What a caller may say of an SAE; the rest is in its weights.
SAYABLE = frozenset(each.name for each in fields(SaeConfig)) - {
    "d_in",
    "d_sae",
    "d_out",
    "activation",
    "skip",
    "source",
}


@dataclass(frozen=True)
class Published:
    """Hold what a format has to read: everything but the numbers themselves."""

    repo: str
    """The Hub's id, or the whole path of the local folder."""
    path: str
    """The weights file, from the top of the repo."""
    config: Mapping[str, Any]
    """What the config files say, those of several files together, and over it what the caller says."""
    shapes: Mapping[str, tuple[int, ...]]
    """The tensors in the weights file."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Those of a single number."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """What the caller says, to be put over sections of the config and over what is read from names too."""

    def said(self, name: str, otherwise: Callable[[], Any]) -> Any:
        """Return what the caller says of a field of `SaeConfig`, or else find it out."""
        return self.given[name] if name in self.given else otherwise()

    def search(self, pattern: str, what: str) -> str:
        """Return the first group of `pattern` in the path or else the repo's name.

        Raises:
            ValueError: it is in neither; `what` says what was looked for.
        """
        for place in (self.path, self.repo):
            if found := re.search(pattern, place, re.IGNORECASE):
                return found[1]
        raise ValueError(
            f"neither the repo's name nor the path `{self.path}` says {what}; keep the names that the publisher gave "
            "them, or say `model`, `hook` and, for top-k, `k` with `config={...}`"
        )

    def section(self, key: str, needed: bool = True) -> dict[str, Any]:
        """Return a part of the config that is a mapping itself, with what the caller says put over it.

        Raises:
            ValueError: it is not there or no mapping.
        """
        found = self.config.get(key)
        if not isinstance(found, Mapping) and (needed or found is not None):
            raise ValueError(f"the config beside `{self.path}` has no section `{key}`")
        return {**(found or {}), **self.given}

    def need(self, key: str, place: Mapping[str, Any] | None = None) -> Any:
        """Return a value of the config, or of a `section` of it.

        Raises:
            ValueError: it is not there.
        """
        value = (self.config if place is None else place).get(key)
        if value is None:
            raise ValueError(
                f"the config beside `{self.path}` does not say `{key}`; say it with `config={{{key!r}: ...}}`"
            )
        return value

    def positive(self, key: str, place: Mapping[str, Any] | None = None, within: str = "") -> float:
        """Return a number of the config, or of the section `within` it, that must be finite and above 0.

        Raises:
            ValueError: it is not there or no such number.
        """
        value = place.get(key) if within and place is not None else self.need(key, place)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            name = f"{within}.{key}" if within else key
            raise ValueError(
                f"`{name}={value!r}` in the config beside `{self.path}` must be a finite number above 0; say it with "
                f"`config={{{key!r}: ...}}`"
            )
        return float(value)

    def agreed(self, name: str, stated: Any, measured: int) -> int:
        """Return what the tensors say, if the config does not say otherwise.

        Raises:
            ValueError: it does.
        """
        if stated is not None and stated != measured:
            raise ValueError(f"the config beside `{self.path}` says `{name}={stated!r}`, the tensors in it {measured}")
        return measured

    def size(self, name: str, axis: int) -> int:
        """Return the length of one axis of a matrix.

        Raises:
            ValueError: there is no such tensor, or it is no matrix.
        """
        shape = self.shapes.get(name)
        if shape is None:
            raise ValueError(
                f"tensor `{name}` is missing from {self.path}; there is: {', '.join(sorted(self.shapes))}"
            )
        if len(shape) != 2:
            raise ValueError(f"tensor `{name}` in {self.path} is {list(shape)}; it should be a matrix")
        return shape[axis]

    def made(self, **values: Any) -> SaeConfig:
        """Build the config, with what the caller says put over what was read."""
        return SaeConfig(**{**values, **{name: self.given[name] for name in self.given if name in SAYABLE}})


def named_model(published: Published, names: Sequence[tuple[str, str]]) -> str:
    """Return the base model that the repo's or the path's name speaks of: (pattern, Hub id with its groups).

    Raises:
        ValueError: none does.
    """
    place = f"{published.repo}/{published.path}"
    for pattern, model in names:
        if found := re.search(pattern, place, re.IGNORECASE):
            return found.expand(model)
    raise ValueError(f"no name says on which model it was trained; say it with `config={{'model': ...}}`: {place}")


@dataclass(frozen=True)
class Layout:
    """Say how a publisher's tensors become ours."""

    config: SaeConfig
    names: Mapping[str, str]
    """Our name of a tensor -> theirs; `.T` behind it for one that is stored the other way round. A gated SAE has
    `b_gate`, `b_mag` and `r_mag` in place of `b_enc`."""
    subtract_b_dec: bool = False
    scale: Mapping[str, float] = field(default_factory=dict)
    """Our name -> what it is multiplied by as it is read."""
    logarithm: bool = False
    """Whether the threshold is stored as its logarithm."""
    unit_decoder: bool = False
    """Whether the activation sees `pre` times the norm of the latent's decoder row."""
    norm_gate: bool = False
    """Whether only the comparison with the threshold does."""
    centre: bool = False
    threshold: float | None = None
    """One threshold for all latents, where the config and not the weights say it."""
    ignored: frozenset[str] = frozenset()
    """Tensors that are known and not needed."""

    def theirs(self, name: str) -> str:
        """Return a publisher's name for one of our tensors."""
        return self.names.get(name, name).removesuffix(".T")

    def wanted(self, encoder_only: bool) -> list[str]:
        """Return which of our tensors have to be read."""
        if not encoder_only:
            return list(self.names)
        decoder = {"W_skip", "scaling"}
        if not (self.unit_decoder or self.norm_gate):
            decoder.add("W_dec")
        if not self.subtract_b_dec:
            decoder.add("b_dec")
        return [name for name in self.names if name not in decoder]

    def folded(self, tensors: dict[str, Tensor], encoder_only: bool) -> dict[str, Tensor]:
        """Fold what was read, under our names and in float32, into the tensors of a `SparseAutoencoder`."""
        t = dict(tensors)
        config = self.config
        self._scale(t)
        if "b_gate" in t:
            _ungate(t)
        t.setdefault("b_enc", t["W_enc"].new_zeros(config.d_sae))
        if "scaling" in t:
            t["W_dec"] = t["W_dec"] * t.pop("scaling")[:, None]
        self._fold_norms(t)
        if self.subtract_b_dec:
            t["b_enc"] = t["b_enc"] - t["b_dec"] @ t["W_enc"]
        if self.centre:
            t["W_enc"] = t["W_enc"] - t["W_enc"].mean(dim=0)
        if encoder_only:
            return {name: t[name] for name in ("W_enc", "b_enc", "threshold") if name in t}
        t.setdefault("b_dec", t["W_enc"].new_zeros(config.d_out or config.d_in))
        return t

    def _scale(self, t: dict[str, Tensor]) -> None:
        if self.logarithm:
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
        norm[norm == 0] = 1.0  # a latent that writes nothing: nothing to take out
        if self.norm_gate:
            t["threshold"] = t["threshold"] / norm
            return
        for name in SCALED_BY_NORM:
            t[name] = t[name] * norm
        t["W_dec"] = t["W_dec"] / norm[:, None]


def _ungate(t: dict[str, Tensor]) -> None:
    """Turn a gated encoder into the jumprelu that it is."""
    gain, b_gate = t.pop("r_mag").exp(), t.pop("b_gate")
    t["W_enc"] = t["W_enc"] * gain
    t["b_enc"] = t.pop("b_mag")
    t["threshold"] = t["b_enc"] - gain * b_gate


@dataclass(frozen=True)
class Format:
    """Say how one publisher's SAEs lie in a repo, and how they are read."""

    name: str
    weights: str
    """A regular expression for the paths of weights files; its group `name`, or else all, is what an SAE is called."""
    read: Callable[[Published], Layout]
    configs: tuple[str, ...] = ()
    """The config files, from the folder of the SAE, or from the top of the repo if they begin with `/`. One that ends
    in `?` may be absent; `{stem}` stands for the weights file without its ending."""
    tensors: frozenset[str] = frozenset()
    """Tensors by which its weights files are told from others of the same name."""
    marks: Mapping[str, Any] = field(default_factory=dict)
    """Values by which its config files are."""
    options: frozenset[str] = frozenset()
    """What a caller may say in `config` beside the fields of `SaeConfig` and what the config files have."""
    bare: bool = False
    """Whether its weights files have neither a config beside them nor a name of their own."""
