"""SaeTrainingConfig: everything that decides what is trained, and the named ones that are good to start from."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from itertools import pairwise

OBJECTIVES = ("topk", "batchtopk", "matryoshka", "jumprelu")
PRECISIONS = ("float32", "bfloat16")


def is_number(value: object) -> bool:
    """Say whether a value is a finite number."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class SaeTrainingConfig:
    """Say how an SAE is trained; the same config, data and versions give the same SAE on a CPU."""

    objective: str = "batchtopk"
    """topk, batchtopk, matryoshka or jumprelu: what fires, and what is minimised (see objectives.py)."""
    d_sae: int = 8192
    """Number of latents."""
    k: int = 32
    """Latents per token: of every token for topk, on average for the others."""
    tokens: int = 4_000_000
    """Tokens to train on; a dataset that has fewer is read again."""
    batch: int = 1024
    """Tokens per step, over all processes."""
    lr: float | None = None
    """Adam's step at its highest; None: 7e-4 / sqrt(d_sae / 2^14).

    It scales with the width as in Gao et al. 2024 and was found on 4 million tokens; trainings of billions want less.
    """
    warmup: float = 0.05
    """Share of the steps over which the step size, and jumprelu's penalty, rise from zero."""
    decay: float = 0.2
    """Share of the steps over which the step size falls to zero at the end."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    dead_after: int = 20_000
    """Tokens without firing after which a latent counts as dead and is revived (AuxK)."""
    aux: float = 1 / 4
    """Weight of what the dead latents leave of the residual (AuxK); Gao et al. 2024 have 1/32."""
    buffer: int = 2**18
    """Tokens shuffled together, and between two checkpoints."""
    max_norm_ratio: float | None = None
    """Leave out tokens of a norm above this many times their batch's median, such as attention sinks; None: none."""
    groups: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    """For matryoshka: shares of the latents, each of which must reconstruct by itself."""
    bandwidth: float = 1.0
    """For jumprelu: width of the window around a threshold in which it feels a gradient, inputs of norm sqrt(d_in)."""
    sparsity: float = 1.0
    """For jumprelu: weight of (L0 / k - 1)^2 beside the squared error per token and dimension."""
    precision: str = "float32"
    """Type of the one dense product of a step, float32 or bfloat16; everything else is float32."""
    seed: int = 0
    """Decides the first weights, the order of the documents and the shuffling."""

    def __post_init__(self) -> None:
        for name, known in (("objective", OBJECTIVES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown `{name}={getattr(self, name)!r}`; known: {', '.join(known)}")
        for name in ("d_sae", "k", "tokens", "batch", "dead_after", "buffer", "seed"):
            value = getattr(self, name)
            least = 0 if name == "seed" else 1
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
                raise ValueError(f"`{name}={value!r}`: pass a whole number from {least} on")
            object.__setattr__(self, name, int(value))  # numpy's are no JSON
        for name in ("lr", "clip", "aux", "max_norm_ratio", "bandwidth", "sparsity"):
            value = getattr(self, name)
            if value is None and name in ("lr", "max_norm_ratio"):
                continue
            if not is_number(value) or value < 0 or (value == 0 and name not in ("aux", "sparsity")):
                raise ValueError(f"`{name}={value!r}`: pass a finite number above 0")
        if self.max_norm_ratio is not None and self.max_norm_ratio < 1:
            raise ValueError(f"`max_norm_ratio={self.max_norm_ratio!r}`: pass a number from 1 on, or None")
        self._check_together()

    def _check_together(self) -> None:
        if self.k > self.d_sae:
            raise ValueError(f"`k={self.k}` latents per token of `d_sae={self.d_sae}`: pass 1 to {self.d_sae}")
        if self.batch > min(self.tokens, self.buffer):
            raise ValueError(
                f"`batch={self.batch}` is more than `tokens={self.tokens}` or `buffer={self.buffer}`: "
                "a step takes one batch, the buffer holds one or more"
            )
        shares = is_number(self.warmup) and is_number(self.decay)
        if not (shares and self.warmup >= 0 and self.decay >= 0 and self.warmup + self.decay <= 1):
            raise ValueError(f"`warmup={self.warmup}` and `decay={self.decay}` are shares: from 0, together at most 1")
        if isinstance(self.groups, list):
            object.__setattr__(self, "groups", tuple(self.groups))
        if self.objective != "matryoshka":
            return
        plain = isinstance(self.groups, tuple) and all(map(is_number, self.groups))
        ends = [0, *self.group_ends] if plain else [0]
        if ends[-1] != self.d_sae or any(a >= b for a, b in pairwise(ends)):
            raise ValueError(f"`groups={self.groups}`: pass rising shares of the {self.d_sae} latents, the last one 1")

    @property
    def group_ends(self) -> list[int]:
        """Number of latents in each of `groups`."""
        return [round(share * self.d_sae) for share in self.groups]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.tokens // self.batch

    @property
    def peak_lr(self) -> float:
        """The step size between warm-up and decay."""
        return self.lr or 7e-4 / math.sqrt(self.d_sae / 2**14)

    def risen(self, step: int) -> float:
        """Share of the warm-up that is behind at `step`, counted from 0."""
        return min(1.0, (step + 1) / max(1.0, self.warmup * self.steps))

    def lr_at(self, step: int) -> float:
        """Step size at `step`, counted from 0."""
        left = min(1.0, (self.steps - step) / max(1.0, self.decay * self.steps))
        return self.peak_lr * min(self.risen(step), left)


PRESETS = {
    "batchtopk": SaeTrainingConfig(),
    "matryoshka": SaeTrainingConfig("matryoshka"),
    "topk": SaeTrainingConfig("topk"),
    "jumprelu": SaeTrainingConfig("jumprelu"),
    # The SAE of arXiv 2502.14050: TopK on the last layer of Llama 3.1 8B Instruct, 10 B tokens of RedPajama 2.
    "paper": SaeTrainingConfig(
        "topk",
        d_sae=131_072,
        k=128,
        tokens=10**10,
        batch=4096,
        lr=7e-5,
        warmup=0.0004,
        dead_after=10**7,
        aux=1 / 32,
    ),
}
