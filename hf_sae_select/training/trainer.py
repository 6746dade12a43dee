"""Trainer: weights, Adam and counts, one step on one batch of hidden states at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from ..sae.config import SaeConfig
from ..sae.model import SparseAutoencoder
from .config import SaeTrainingConfig
from .objectives import RULES, Parameters, gradients

THRESHOLD_PACE = 10  # a threshold has to keep up with all of its latent's weights


class Trainer:
    """Hold weights in scaled units: inputs divided so that their mean norm is sqrt(d_in), decoder rows of norm 1.

    Several processes each take a step on a batch of their own; gradients and counts are shared, so all hold the same
    weights.
    """

    def __init__(self, config: SaeTrainingConfig, d_in: int, accelerator: Accelerator) -> None:
        self.config, self.accelerator, self.device = config, accelerator, accelerator.device
        directions = torch.randn(config.d_sae, d_in, generator=torch.Generator().manual_seed(config.seed))
        dec = F.normalize(directions, dim=1).to(self.device)
        self.weights = Parameters(
            dec.clone(), dec, torch.zeros(config.d_sae, device=self.device), torch.zeros(d_in, device=self.device)
        )
        self.objective = RULES[config.objective](config, d_in, self.device)
        self.trained = [*self.weights, *self.objective.learned()]
        groups = [{"params": self.weights, "pace": 1.0}, {"params": self.objective.learned(), "pace": THRESHOLD_PACE}]
        self.optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=0.0, fused=True)
        self.idle = torch.zeros(config.d_sae, dtype=torch.long, device=self.device)  # tokens since it last fired
        self.scale = 0.0
        self.taken = self.tokens = 0
        self._buffer = torch.empty(0, config.d_sae, dtype=getattr(torch, config.precision), device=self.device)

    @torch.no_grad()
    def step(self, batch: Tensor) -> None:
        """Take one step of Adam on a batch [tokens, d_in]; the first one sets the input scale and the biases."""
        self._check(batch)
        x = self._without_outliers(batch.to(self.device, torch.float32))
        if not self.taken:
            self._begin(x)
        x = x * self.scale
        dead = (self.idle > self.config.dead_after).nonzero().squeeze(1)
        risen = self.config.risen(self.taken)
        found, error, latent = gradients(self.weights, self.objective, x, self._pre(x), dead, risen)
        for tensor, gradient in zip(self.trained, self.accelerator.reduce(found, "mean"), strict=True):
            tensor.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.config.clip)
        if not norm.isfinite():
            raise ValueError(
                f"the gradient of step {self.taken + 1} is not finite: its hidden states hold NaN, infinity or very "
                "large numbers; leave such tokens out (`max_norm_ratio`) or mend where they come from"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr_at(self.taken) * group["pace"]
        self.optimizer.step()
        self.weights.dec.div_(self.weights.dec.norm(dim=1, keepdim=True))
        fired = torch.zeros(self.config.d_sae, device=self.device).index_fill_(0, latent, 1.0)
        self.idle += len(batch) * self.accelerator.num_processes
        self.idle[self.accelerator.reduce(fired, "sum") > 0] = 0
        self.taken += 1
        self.tokens += len(batch) * self.accelerator.num_processes
        self._last = x, error, len(latent)

    def _check(self, batch: Any) -> None:
        d_in = self.weights.dec.shape[1]
        if not isinstance(batch, Tensor) or batch.dim() != 2 or not len(batch) or batch.shape[1] != d_in:
            shape = list(batch.shape) if isinstance(batch, Tensor) else type(batch).__name__
            raise ValueError(f"`batches` must be tensors [tokens, {d_in}] of one token or more; one is {shape}")

    def _without_outliers(self, x: Tensor) -> Tensor:
        if self.config.max_norm_ratio is None:
            return x
        norms = x.norm(dim=1)
        kept = x[norms <= self.config.max_norm_ratio * norms.nanmedian()]
        if not len(kept):
            raise ValueError(f"no hidden state of step {self.taken + 1} is a number")
        return kept

    def _begin(self, x: Tensor) -> None:
        d_in = x.shape[1]
        norm, mean = self.accelerator.reduce([x.norm(dim=1).mean(), x.mean(dim=0)], "mean")
        if not 0 < norm.item() < math.inf:
            raise ValueError(
                f"the hidden states of the first batch have a mean norm of {norm.item()}; their scale is taken from it"
            )
        self.scale = math.sqrt(d_in) / norm.item()
        self.weights.b_dec.copy_(mean * self.scale)
        self._shrink(x * self.scale)
        self.objective.begin(self._pre(x * self.scale))
        self.agree()

    def _shrink(self, x: Tensor) -> None:
        """Scale the encoder so that what fires at first adds up to the input: k random directions overshoot it."""
        strongest = self._pre(x).float().topk(self.config.k, dim=1)
        z = torch.zeros(len(x), self.config.d_sae, device=x.device)
        rebuilt = z.scatter_(1, strongest.indices, strongest.values.relu()) @ self.weights.dec
        both = torch.stack([(rebuilt * (x - self.weights.b_dec)).sum(), rebuilt.square().sum()])
        overlap, square = self.accelerator.reduce(both, "sum").tolist()
        self.weights.encT.mul_(overlap / square if overlap > 0 else 1.0)

    def _pre(self, x: Tensor) -> Tensor:
        """Return the pre-activations [tokens, d_sae], the one dense product of a step."""
        if len(self._buffer) < len(x):  # kept: fresh pages cost as much as the product
            self._buffer = self._buffer.new_empty(len(x), self.config.d_sae)
        encT, _, b_enc, b_dec = self.weights
        b_enc, centred, encT = (each.to(self._buffer.dtype) for each in (b_enc, x - b_dec, encT))
        return torch.addmm(b_enc, centred, encT.T, out=self._buffer[: len(x)])

    def figures(self) -> dict[str, float]:
        """Say how the last step went, over all processes."""
        x, error, fired = self._last
        variance = ((x - x.mean(dim=0)) ** 2).sum()
        squared = (error**2).sum()
        found = torch.stack([squared / len(x), 1 - squared / variance, squared.new_tensor(fired / len(x))])
        loss, explained, l0 = self.accelerator.reduce(found, "mean").tolist()
        dead = (self.idle > self.config.dead_after).float().mean().item()
        return {"loss": loss, "explained_variance": explained, "l0": l0, "dead": dead}

    def state(self) -> dict[str, Any]:
        """Return all that the next steps depend on."""
        tensors = [*self.weights, *self.objective.state(), self.idle]
        adam = self.optimizer.state_dict()
        return {"tensors": tensors, "adam": adam, "scale": self.scale, "taken": self.taken, "tokens": self.tokens}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        for tensor, saved in zip([*self.weights, *self.objective.state(), self.idle], state["tensors"], strict=True):
            tensor.copy_(saved)
        self.optimizer.load_state_dict(state["adam"])
        self.scale, self.taken, self.tokens = state["scale"], state["taken"], state["tokens"]

    def agree(self) -> None:
        """Let all processes go on from the mean of what each has kept count of."""
        # A running mean is linear: averaged now, it is what averaging every batch would have made it.
        mine = self.objective.state()
        for tensor, mean in zip(mine, self.accelerator.reduce(mine, "mean"), strict=True):
            tensor.copy_(mean)

    @torch.no_grad()
    def finish(self, config: SaeConfig) -> SparseAutoencoder:
        """Fold the input scale and the pre-encoder bias into the weights of an SAE.

        `config` says all of it but its width and the tokens that it saw.
        """
        self.agree()
        encT, dec, b_enc, b_dec = (each.cpu() for each in self.weights)
        tensors = {"W_enc": (encT.T * self.scale).contiguous(), "b_enc": b_enc - encT @ b_dec}
        tensors |= {"W_dec": dec / self.scale, "b_dec": b_dec / self.scale}
        if (threshold := self.objective.threshold()) is not None:
            tensors["threshold"] = threshold.cpu().expand(config.d_sae).clone()
        config = replace(config, d_in=len(b_dec), training=config.training | {"tokens": self.tokens})
        return SparseAutoencoder.from_tensors(config, tensors)
