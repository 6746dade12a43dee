"""Trainer: the weights, Adam and the counts of one SAE, advanced one step per batch of hidden states."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from ..sae.config import SaeConfig
from ..sae.model import SparseAutoencoder
from .config import SaeTrainingConfig
from .objectives import OBJECTIVE_CLASSES, Parameters, StepGradients, compute_gradients

THRESHOLD_LEARNING_RATE = 10  # times that of the weights: a threshold must follow all weights of its latent


class StepStatistics(NamedTuple):
    """Describe one step on the batch of this process, as tensors without dimensions."""

    loss: Tensor
    """Mean squared error per token, in the scaled units."""
    explained_variance: Tensor
    l0: Tensor
    dead: Tensor
    """Share of dead latents."""


class Trainer:
    """Hold the training state in scaled units: inputs of mean norm sqrt(d_in), decoder rows of norm 1.

    Each process takes its steps on its own batches. Gradients and counts are reduced over the processes, so all hold
    the same weights.
    """

    def __init__(self, config: SaeTrainingConfig, d_in: int, accelerator: Accelerator) -> None:
        self.config, self.accelerator, self.device = config, accelerator, accelerator.device
        directions = torch.randn(config.d_sae, d_in, generator=torch.Generator().manual_seed(config.seed))
        W_dec = F.normalize(directions, dim=1).to(self.device)
        b_enc, b_dec = (torch.zeros(width, device=self.device) for width in (config.d_sae, d_in))
        self.weights = Parameters(W_dec.clone(), W_dec, b_enc, b_dec)
        self.objective = OBJECTIVE_CLASSES[config.objective](config, d_in, self.device)
        self.parameters = [*self.weights, *self.objective.parameters()]
        groups = [{"params": self.weights, "factor": 1.0}]
        if self.objective.parameters():
            groups.append({"params": self.objective.parameters(), "factor": THRESHOLD_LEARNING_RATE})
        self.optimizer = torch.optim.Adam(groups, lr=0.0, fused=True)
        self.tokens_since_firing = torch.zeros(config.d_sae, dtype=torch.long, device=self.device)
        self.scale = 0.0
        self.step_count = self.token_count = 0
        dtype = getattr(torch, config.precision_on(self.device.type))
        self._buffer = torch.empty(0, config.d_sae, dtype=dtype, device=self.device)

    @torch.no_grad()
    def step(self, batch: Tensor) -> StepStatistics:
        """Take one step of Adam on a batch [tokens, d_in]. The first batch sets the input scale and the biases.

        Raises:
            ValueError: If the batch has another shape, or its gradient is not finite.
        """
        self._check(batch)
        x = self._without_outliers(batch.to(self.device, torch.float32))
        if not self.step_count:
            self._initialize(x)
        x = x * self.scale
        dead = (self.tokens_since_firing > self.config.tokens_until_dead).nonzero().squeeze(1)
        warmup = self.config.warmup_at(self.step_count)
        result = compute_gradients(self.weights, self.objective, x, self._pre_activations(x), dead, warmup)
        self._update(result.gradients)
        self._count(len(batch), result.latents)
        return self._statistics(x, result)

    def _check(self, batch: Any) -> None:
        d_in = self.weights.W_dec.shape[1]
        if not isinstance(batch, Tensor) or batch.dim() != 2 or not len(batch) or batch.shape[1] != d_in:
            shape = list(batch.shape) if isinstance(batch, Tensor) else type(batch).__name__
            raise ValueError(f"`batches` must be tensors [tokens, {d_in}] with at least one token; one is {shape}")

    def _without_outliers(self, x: Tensor) -> Tensor:
        if self.config.max_norm_ratio is None:
            return x
        norms = x.norm(dim=1)
        ordinary = x[norms <= self.config.max_norm_ratio * norms.nanmedian()]
        if not len(ordinary):
            raise ValueError(f"`batches`: step {self.step_count + 1} has no finite hidden state")
        return ordinary

    def _initialize(self, x: Tensor) -> None:
        """Set the input scale, the biases, the scale of the encoder and the thresholds from the first batch."""
        d_in = x.shape[1]
        norm, mean = self.accelerator.reduce([x.norm(dim=1).mean(), x.mean(dim=0)], "mean")
        if not 0 < norm.item() < math.inf:
            raise ValueError(
                f"the hidden states of the first batch have a mean norm of {norm.item()}; the input scale needs a "
                "positive, finite one"
            )
        self.scale = math.sqrt(d_in) / norm.item()
        self.weights.b_dec.copy_(mean * self.scale)
        self._scale_encoder(x * self.scale)
        self.objective.initialize(self._pre_activations(x * self.scale))
        self.average_objective_state()

    def _scale_encoder(self, x: Tensor) -> None:
        """Scale the encoder by least squares, so that the first reconstructions have the size of the input.

        The sum of k random directions would exceed it.
        """
        strongest = self._pre_activations(x).float().topk(self.config.k, dim=1)
        z = torch.zeros(len(x), self.config.d_sae, device=x.device)
        reconstruction = z.scatter_(1, strongest.indices, strongest.values.relu()) @ self.weights.W_dec
        products = (reconstruction * (x - self.weights.b_dec)).sum(), reconstruction.square().sum()
        overlap, square = self.accelerator.reduce(torch.stack(products), "sum").tolist()
        self.weights.W_encT.mul_(overlap / square if overlap > 0 else 1.0)

    def _pre_activations(self, x: Tensor) -> Tensor:
        """Return the pre-activations [tokens, d_sae], the one dense product of a step."""
        if len(self._buffer) < len(x):  # reused, because allocating fresh memory takes as long as the product
            self._buffer = self._buffer.new_empty(len(x), self.config.d_sae)
        dtype = self._buffer.dtype
        W_encT, b_enc = self.weights.W_encT.to(dtype), self.weights.b_enc.to(dtype)
        return torch.addmm(b_enc, (x - self.weights.b_dec).to(dtype), W_encT.T, out=self._buffer[: len(x)])

    def _update(self, gradients: list[Tensor]) -> None:
        """Average the gradients over the processes, clip them, and take a step of Adam."""
        if self.accelerator.num_processes > 1:  # `reduce` copies the gradients, as large as the weights, in any case
            gradients = self.accelerator.reduce(gradients, "mean")
        for tensor, gradient in zip(self.parameters, gradients, strict=True):
            tensor.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        if not norm.isfinite():
            raise ValueError(
                f"the gradient of step {self.step_count + 1} is not finite: its hidden states hold NaN, infinity or "
                "very large numbers; leave such tokens out (`max_norm_ratio`), or fix the hidden states"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(self.step_count) * group["factor"]
        self.optimizer.step()
        self.weights.W_dec.div_(self.weights.W_dec.norm(dim=1, keepdim=True))

    def _count(self, tokens: int, latents: Tensor) -> None:
        """Count the step, its tokens, and for each latent the tokens since it fired, over all processes."""
        tokens = tokens * self.accelerator.num_processes
        fired = torch.zeros(self.config.d_sae, device=self.device).index_fill_(0, latents, 1.0)
        self.tokens_since_firing += tokens
        self.tokens_since_firing[self.accelerator.reduce(fired, "sum") > 0] = 0
        self.step_count += 1
        self.token_count += tokens

    def _statistics(self, x: Tensor, result: StepGradients) -> StepStatistics:
        squared_error = (result.error**2).sum()
        variance = ((x - x.mean(dim=0)) ** 2).sum()
        return StepStatistics(
            loss=squared_error / len(x),
            explained_variance=1 - squared_error / variance,
            l0=x.new_full((), len(result.latents) / len(x)),
            dead=(self.tokens_since_firing > self.config.tokens_until_dead).float().mean(),
        )

    def average(self, statistics: StepStatistics) -> dict[str, float]:
        """Return the means of the statistics over all processes. All processes must call this together."""
        means = self.accelerator.reduce(torch.stack(list(statistics)), "mean").tolist()
        return dict(zip(statistics._fields, means, strict=True))

    def average_objective_state(self) -> None:
        """Replace the state of the objective by its mean over all processes.

        BatchTopK's running mean is linear in the batches, so averaging it now equals averaging after every step.
        """
        state = self.objective.state()
        for tensor, mean in zip(state, self.accelerator.reduce(state, "mean"), strict=True):
            tensor.copy_(mean)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next steps depend on."""
        return {
            "tensors": self._state_tensors(),
            "optimizer": self.optimizer.state_dict(),
            "scale": self.scale,
            "step_count": self.step_count,
            "token_count": self.token_count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for tensor, saved in zip(self._state_tensors(), state["tensors"], strict=True):
            tensor.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scale, self.step_count, self.token_count = (
            state[name] for name in ("scale", "step_count", "token_count")
        )

    def _state_tensors(self) -> list[Tensor]:
        return [*self.weights, *self.objective.state(), self.tokens_since_firing]

    @torch.no_grad()
    def build_sae(self, config: SaeConfig) -> SparseAutoencoder:
        """Return the SAE in the units of the hidden states: fold the input scale and the pre-encoder bias into it.

        `d_in` is filled in here, and what the trainer alone knows of the training.
        """
        self.average_objective_state()
        W_encT, W_dec, b_enc, b_dec = (weight.cpu() for weight in self.weights)
        tensors = {"W_enc": (W_encT.T * self.scale).contiguous(), "b_enc": b_enc - W_encT @ b_dec}
        tensors |= {"W_dec": W_dec / self.scale, "b_dec": b_dec / self.scale}
        if (threshold := self.objective.threshold()) is not None:
            tensors["threshold"] = threshold.cpu().expand(config.d_sae).clone()
        facts = {
            "training_tokens": self.token_count,
            "learning_rate": self.config.peak_learning_rate,
            "dead_feature_threshold": self.config.tokens_until_dead,
            "precision": self.config.precision_on(self.device.type),
        }
        config = replace(config, d_in=len(b_dec), training=config.training | facts)
        return SparseAutoencoder.from_tensors(config, tensors)
