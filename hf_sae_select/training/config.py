"""Hyperparameters of SAE training, and presets to start from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

from .._validation import check_choice, check_int, check_number, is_number

OBJECTIVES = ("topk", "batchtopk", "matryoshka", "jumprelu")
PRECISIONS = ("float32", "bfloat16")
DEAD_AFTER = 20_000  # tokens, up to 256 latents per active one, as the default config has
# field -> smallest value
INTEGERS = {
    "d_sae": 1,
    "k": 1,
    "training_tokens": 1,
    "train_batch_size_tokens": 1,
    "dead_feature_threshold": 1,
    "auxk_latents": 1,
    "buffer_tokens": 1,
    "seed": 0,
}
# field -> interval of its values
NUMBERS = {
    "learning_rate": "(0, inf)",
    "max_grad_norm": "(0, inf)",
    "auxk_alpha": "[0, inf)",
    "max_norm_ratio": "[1, inf)",
    "jumprelu_bandwidth": "(0, inf)",
    "l0_coefficient": "[0, inf)",
}
OPTIONAL = ("dead_feature_threshold", "learning_rate", "max_norm_ratio")


@dataclass(frozen=True)
class SaeTrainingConfig:
    """Hold the hyperparameters of SAE training.

    The same config, dataset and library versions give the same SAE, bit for bit, on a CPU. `TRAINING_PRESETS` holds
    configs to start from; `dataclasses.replace` changes one.

    Raises:
        ValueError: If a value is not allowed, or two values contradict each other.

    Example:

    ```python
    config = SaeTrainingConfig("topk", d_sae=32_768, k=64, training_tokens=100_000_000)
    ```
    """

    objective: str = "batchtopk"
    """Activation function and loss: `"topk"`, `"batchtopk"`, `"matryoshka"` or `"jumprelu"`.

    TopK is that of Gao et al. 2024 (arXiv 2406.04093), BatchTopK of arXiv 2412.06410, Matryoshka BatchTopK of
    arXiv 2503.17547, JumpReLU of arXiv 2407.14435.
    """
    d_sae: int = 8192
    """Number of latents."""
    k: int = 32
    """Active latents per token: of every token for `"topk"`, on average for the other objectives."""
    training_tokens: int = 4_000_000
    """Number of tokens to train on, over all processes. A smaller dataset is read several times."""
    train_batch_size_tokens: int = 1024
    """Number of tokens per optimizer step, over all processes."""
    learning_rate: float | None = None
    """Adam's highest learning rate. None means 7e-4 / sqrt(d_sae / 2^14).

    The scaling with the width is that of Gao et al. 2024. We tuned the factor 7e-4 on 4 million tokens; a training on
    billions of tokens needs a lower one.
    """
    warmup_steps: int | float = 0.05
    """Steps in which the learning rate, and the L0 penalty of `"jumprelu"`, rise linearly from zero.

    An integer is a number of steps; a float below 1 is a share of all steps, as in `transformers.TrainingArguments`.
    """
    decay_steps: int | float = 0.2
    """Last steps, in which the learning rate falls linearly to zero; an integer or a share, as for `warmup_steps`."""
    max_grad_norm: float = 1.0
    """Norm to which the gradient of all parameters together is clipped."""
    dead_feature_threshold: int | None = None
    """Number of tokens without firing after which a latent counts as dead, as in sparsify's config.

    None means 20,000, or 78 d_sae / k where that is more. A latent of average frequency fires on k of d_sae tokens, so
    it fires at least 78 times in the tokens that make a silent one dead.
    """
    auxk_alpha: float = 1 / 4
    """Weight of the AuxK loss, in which dead latents reconstruct the residual. Gao et al. 2024 use 1/32."""
    auxk_latents: int = 512
    """Largest number of dead latents per token in the AuxK loss, which takes d_in / 2 in narrower models."""
    buffer_tokens: int = 2**18
    """Number of tokens that are shuffled together, over all processes."""
    max_norm_ratio: float | None = None
    """Leave out tokens, such as attention sinks, with a norm above this many times the median norm of their batch.

    The trained SAE leaves out such tokens by the median of their window. None means that no token is left out.
    """
    group_fractions: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    """For `"matryoshka"`: increasing shares of the latents, the last one 1.

    The first latents, up to each share, must reconstruct the input without the rest (arXiv 2503.17547).
    """
    jumprelu_bandwidth: float = 1.0
    """For `"jumprelu"`: width of the interval around a threshold in which activations give the threshold a gradient.

    The unit is that of the scaled input, whose mean norm is sqrt(d_in).
    """
    l0_coefficient: float = 1.0
    """For `"jumprelu"`: weight of the penalty (L0 / k - 1)^2 beside the mean squared error per token and dimension."""
    precision: str | None = None
    """Dtype of the dense encoder product, `"float32"` or `"bfloat16"`. All other operations are in float32.

    None means `"bfloat16"` on CUDA, which multiplies it several times faster, and `"float32"` elsewhere.
    """
    seed: int = 0
    """Seed of the initial weights, of the order of the documents and of the shuffling."""

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, OBJECTIVES)
        if self.precision is not None:
            check_choice("precision", self.precision, PRECISIONS)
        for name, least in INTEGERS.items():
            check_int(name, getattr(self, name), least, optional=name in OPTIONAL)
        for name, interval in NUMBERS.items():
            check_number(name, getattr(self, name), interval, optional=name in OPTIONAL)
        for name in ("warmup_steps", "decay_steps"):
            _check_steps(name, getattr(self, name))
        for name in (*INTEGERS, *NUMBERS, "warmup_steps", "decay_steps"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        if isinstance(self.group_fractions, list):
            object.__setattr__(self, "group_fractions", tuple(self.group_fractions))
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.k > self.d_sae:
            raise ValueError(f"`k={self.k}` exceeds `d_sae={self.d_sae}`; pass a `k` from 1 to {self.d_sae}")
        if self.train_batch_size_tokens > min(self.training_tokens, self.buffer_tokens):
            raise ValueError(
                f"`train_batch_size_tokens={self.train_batch_size_tokens}` exceeds "
                f"`training_tokens={self.training_tokens}` or `buffer_tokens={self.buffer_tokens}`; "
                "both must hold at least one batch"
            )
        scheduled = self._number_of_steps(self.warmup_steps) + self._number_of_steps(self.decay_steps)
        if scheduled > self.steps + 1e-6:  # shares such as 0.7 and 0.3 may exceed all steps by rounding
            raise ValueError(
                f"`warmup_steps={self.warmup_steps}` and `decay_steps={self.decay_steps}` together exceed the "
                f"{self.steps} steps of the training; pass smaller ones, or more `training_tokens`"
            )
        if self.objective == "matryoshka":
            self._check_groups()

    def _check_groups(self) -> None:
        fractions = self.group_fractions
        numbers = isinstance(fractions, tuple) and all(map(is_number, fractions))
        widths = [0, *self.group_widths] if numbers else [0]
        if widths[-1] != self.d_sae or any(a >= b for a, b in pairwise(widths)):
            raise ValueError(
                f"`group_fractions={fractions!r}` must be increasing shares of the `d_sae={self.d_sae}` latents, "
                "the last one 1, such as (0.25, 0.5, 1.0)"
            )

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return self.training_tokens // self.train_batch_size_tokens

    @property
    def peak_learning_rate(self) -> float:
        """Learning rate between warm-up and decay: `learning_rate`, or the default for this width."""
        return self.learning_rate or 7e-4 / math.sqrt(self.d_sae / 2**14)

    @property
    def tokens_until_dead(self) -> int:
        """Number of tokens without firing after which a latent is dead: `dead_feature_threshold`, or the default."""
        return self.dead_feature_threshold or max(DEAD_AFTER, round(DEAD_AFTER * self.d_sae / self.k / 256))

    def precision_on(self, device: str) -> str:
        """Return the dtype of the encoder product on a device: `precision`, or the default there.

        Args:
            device (`str`):
                Type of the device, such as `"cpu"` or `"cuda"`.

        Returns:
            `str`: `"float32"` or `"bfloat16"`.
        """
        return self.precision or ("bfloat16" if device == "cuda" else "float32")

    @property
    def group_widths(self) -> list[int]:
        """Number of latents up to each share in `group_fractions`."""
        return [round(share * self.d_sae) for share in self.group_fractions]

    def warmup_at(self, step: int) -> float:
        """Return how much of the warm-up is done at a step.

        Args:
            step (`int`):
                Number of the step, counted from 0.

        Returns:
            `float`: A factor above 0 and at most 1.
        """
        return min(1.0, (step + 1) / max(1.0, self._number_of_steps(self.warmup_steps)))

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate at a step.

        Args:
            step (`int`):
                Number of the step, counted from 0.

        Returns:
            `float`: The learning rate of Adam.
        """
        decay = min(1.0, (self.steps - step) / max(1.0, self._number_of_steps(self.decay_steps)))
        return self.peak_learning_rate * min(self.warmup_at(step), decay)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values.

        Returns:
            `dict`: One entry per field.
        """
        values = asdict(self)
        return values | {"group_fractions": list(values["group_fractions"])}

    def _number_of_steps(self, value: int | float) -> float:
        return value if isinstance(value, int) else value * self.steps


def _check_steps(name: str, value: Any) -> None:
    """Check that `value` is a non-negative integer or a share below 1.

    Raises:
        ValueError: If it is neither.
    """
    if not is_number(value) or value < 0 or (value >= 1 and not isinstance(value, Integral)):
        raise ValueError(
            f"`{name}={value!r}` must be a non-negative integer, the number of steps, or a float in [0, 1), "
            "a share of all steps"
        )


def _plain(value: Any) -> Any:
    """Return a number as `int` or `float`: JSON does not know the types of NumPy."""
    if value is None or isinstance(value, int | float):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


TRAINING_PRESETS = {
    "batchtopk": SaeTrainingConfig(),
    "matryoshka": SaeTrainingConfig("matryoshka"),
    "topk": SaeTrainingConfig("topk"),
    "jumprelu": SaeTrainingConfig("jumprelu"),
    # The SAE of arXiv 2502.14050: TopK on the last layer of Llama 3.1 8B Instruct, 10 B tokens of RedPajama 2.
    "paper": SaeTrainingConfig(
        "topk",
        d_sae=131_072,
        k=128,
        training_tokens=10**10,
        train_batch_size_tokens=4096,
        learning_rate=7e-5,
        warmup_steps=0.0004,
        dead_feature_threshold=10**7,
        auxk_alpha=1 / 32,
        auxk_latents=2048,  # half of the model's width, about as in Gao et al. 2024
    ),
}
"""The configs by name, to start from: what `config` may be in `train_sae`, beside a `SaeTrainingConfig`."""
