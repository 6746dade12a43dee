"""Activations -> SparseAutoencoder: a BatchTopK autoencoder, kept as a JumpReLU one.

BatchTopK (arXiv 2412.06410) keeps the k * batch largest activations of a whole batch, so that a hard token may use
more latents than an easy one; at inference a single threshold, the running mean of each batch's smallest kept
activation, stands in for the batch. Gradients reach only what was kept, k of d_sae latents a token, so the backward
pass is sparse: the cost of a step is the one dense product that finds what fires. Latents that have not fired for long
are given the residual to explain (AuxK, Gao et al. 2024, arXiv 2406.04093), and so come back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from datasets.utils import tqdm
from torch import Tensor
from torch.nn import functional as F

from .config import SaeConfig
from .sae import SparseAutoencoder

AUX_COEFFICIENT = 1 / 32  # Gao et al. 2024, appendix A.2


@dataclass(frozen=True)
class Quality:
    """Say how well an SAE does on vectors it has not seen."""

    explained_variance: float
    """1 - sum |x - x'|^2 / sum |x - mean|^2."""
    l0: float
    """Mean number of features per token."""
    dead: float
    """Share of latents that fired on no token."""
    tokens: int


def train_sae(
    batches: Iterable[Tensor],
    config: SaeConfig,
    *,
    k: int,
    steps: int,
    lr: float | None = None,
    seed: int = 0,
    decay: float = 0.2,
    warmup: int = 200,
    dead_after: int = 200_000,
) -> SparseAutoencoder:
    """Train on `steps` batches [tokens, d_in] of hidden states and return the SAE in the units of those states.

    Args:
        batches: shuffled hidden states; all of one size. The first one sets the input scale and the biases.
        config: d_in, d_sae, model, hook; its activation must be jumprelu.
        k: latents per token, on average over a batch.
        lr: Adam's step, by default 2e-4 / sqrt(d_sae / 2^14) (Gao et al. 2024 scale it with the width); warmed up over
            `warmup` steps and brought to zero over the last `decay` of them.
        dead_after: tokens without firing after which a latent counts as dead and is revived.

    Raises:
        ValueError: `config` is not jumprelu, `k` is not from 1 to d_sae, or the batches end before `steps`.
    """
    if config.activation != "jumprelu":
        raise ValueError(f"`config.activation={config.activation!r}`: training leaves a 'jumprelu' SAE behind")
    if not 1 <= k <= config.d_sae:
        raise ValueError(f"`k={k}` latents per token of {config.d_sae}: pass 1 to {config.d_sae}")
    trainer: _Trainer | None = None
    for step, batch in zip(tqdm(range(steps), desc="Training", unit=" steps"), batches, strict=False):
        if trainer is None:
            trainer = _Trainer(batch, config, k, lr or 2e-4 / math.sqrt(config.d_sae / 2**14), dead_after, seed)
        ramp = min(1.0, (step + 1) / max(1, warmup), (steps - step) / max(1.0, decay * steps))
        trainer.step(batch, ramp)
    if trainer is None or step + 1 < steps:
        raise ValueError(f"`steps={steps}` but the batches ended after {0 if trainer is None else step + 1}")
    return trainer.finish()


class _Trainer:
    """Hold weights in scaled units: inputs divided so that their mean norm is sqrt(d_in), decoder rows of norm 1."""

    def __init__(self, sample: Tensor, config: SaeConfig, k: int, lr: float, dead_after: int, seed: int) -> None:
        generator = torch.Generator(device=sample.device).manual_seed(seed)
        directions = torch.randn(config.d_sae, config.d_in, generator=generator, device=sample.device)
        self.config, self.k, self.lr, self.dead_after = config, k, lr, dead_after
        self.scale = math.sqrt(config.d_in) / sample.norm(dim=1).mean().item()
        self.W_dec = F.normalize(directions, dim=1)
        self.W_encT = self.W_dec.clone()  # [d_sae, d_in]: rows are what the sparse gradient touches
        self.b_enc = torch.zeros(config.d_sae, device=sample.device)
        self.b_dec = sample.mean(dim=0) * self.scale
        self.weights = [self.W_encT, self.W_dec, self.b_enc, self.b_dec]
        self.optimizer = torch.optim.Adam(self.weights, lr=lr, fused=True)
        self.threshold = self.guess = 0.0
        self.idle = torch.zeros(config.d_sae, dtype=torch.long, device=sample.device)  # tokens since it last fired
        self.pre = sample.new_empty(0)

    @torch.no_grad()
    def step(self, batch: Tensor, ramp: float) -> None:
        """Take one step of Adam, its size times `ramp`."""
        for weight, gradient in zip(self.weights, self.gradients(batch), strict=True):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.param_groups[0]["lr"] = self.lr * ramp
        self.optimizer.step()
        self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)

    @torch.no_grad()
    def gradients(self, batch: Tensor) -> list[Tensor]:
        """Return the gradients of the mean squared error, and of AuxK, in the order of `weights`."""
        x = batch * self.scale
        centred = x - self.b_dec
        token, latent, z = self._fire(centred)
        begins = torch.searchsorted(token, torch.arange(len(x), device=x.device))
        with torch.enable_grad():  # only for d loss / d z, which embedding_bag's backward computes without a gather
            z = z.requires_grad_()
            error = _weighted_sums(self.W_dec, latent, begins, z) + self.b_dec - x
            (dz,) = torch.autograd.grad((error**2).sum() / len(x), z)
        by_latent = latent.argsort(stable=True)
        owner = token[by_latent]
        begins = torch.searchsorted(latent[by_latent], torch.arange(self.config.d_sae, device=x.device))
        error = error.detach()
        d_error = 2 / len(x) * error
        dW_encT = _weighted_sums(centred, owner, begins, dz[by_latent])
        dW_dec = _weighted_sums(d_error, owner, begins, z.detach()[by_latent])
        db_enc = torch.zeros_like(self.b_enc).index_add_(0, latent, dz)
        db_dec = d_error.sum(dim=0) - db_enc @ self.W_encT
        self.idle += len(x)
        self.idle[latent] = 0
        self._revive(centred, -error, dW_encT, dW_dec, db_enc)
        # The part of the gradient along a decoder row would only change its norm, which is fixed at 1.
        dW_dec -= (dW_dec * self.W_dec).sum(dim=1, keepdim=True) * self.W_dec
        return [dW_encT, dW_dec, db_enc, db_dec]

    def _revive(self, centred: Tensor, residual: Tensor, *gradients: Tensor) -> None:
        """Add AuxK's `gradients`: the dead latents alone, d_in / 2 of them a token, explain what was left over."""
        dead = (self.idle > self.dead_after).nonzero().squeeze(1)
        if not len(dead):
            return
        with torch.enable_grad():
            encT, dec, bias = (w[dead].requires_grad_() for w in (self.W_encT, self.W_dec, self.b_enc))
            strongest = (centred @ encT.T + bias).topk(min(len(dead), self.config.d_in // 2), dim=1)
            z = torch.zeros(len(centred), len(dead), device=dead.device)
            error = z.scatter(1, strongest.indices, strongest.values.relu()) @ dec - residual
            loss = AUX_COEFFICIENT * (error**2).sum() / len(centred)
            parts = torch.autograd.grad(loss, (encT, dec, bias))
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.index_add_(0, dead, part)

    def _fire(self, centred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (token, latent, activation) of the k * batch largest activations, ordered by token."""
        if self.pre.shape[0] != len(centred):
            self.pre = centred.new_empty(len(centred), self.config.d_sae)  # kept: fresh pages cost as much as the GEMM
        torch.addmm(self.b_enc, centred, self.W_encT.T, out=self.pre)
        flat, wanted = self.pre.view(-1), self.k * len(centred)
        # Of 33 million values 131 thousand are wanted. Last time's cut, lowered, leaves few candidates to rank; only
        # when it leaves too few are all positive ones ranked. The result is the same.
        found = (flat > self.guess).nonzero().squeeze(1)
        if len(found) < wanted:
            found = (flat > 0).nonzero().squeeze(1)
        z = flat[found]
        if len(z) > wanted:
            cut = z.kthvalue(len(z) - wanted + 1).values
            found, z = found[z >= cut], z[z >= cut]
        smallest = z.min().item() if len(z) else 0.0
        self.threshold = smallest if not self.threshold else 0.9 * self.threshold + 0.1 * smallest
        self.guess = 0.8 * smallest
        return found // self.config.d_sae, found % self.config.d_sae, z

    def finish(self) -> SparseAutoencoder:
        """Fold the input scale and the pre-encoder bias into the weights."""
        sae = SparseAutoencoder(self.config).requires_grad_(False)
        sae.W_enc.copy_(self.W_encT.T * self.scale)
        sae.b_enc.copy_(self.b_enc - self.W_encT @ self.b_dec)
        for parameter, value in ((sae.W_dec, self.W_dec / self.scale), (sae.b_dec, self.b_dec / self.scale)):
            if parameter is not None:
                parameter.copy_(value)
        if sae.threshold is not None:
            sae.threshold.fill_(self.threshold)
        return sae


def _weighted_sums(table: Tensor, index: Tensor, begins: Tensor, weights: Tensor) -> Tensor:
    """Return for each bag the weighted sum of rows of `table`: a sparse matrix product, without sparse tensors."""
    return F.embedding_bag(index, table, begins, mode="sum", per_sample_weights=weights)


def shuffled(states: Iterable[Tensor], batch: int, buffer: int, seed: int = 0) -> Iterator[Tensor]:
    """Cut a stream of [tokens, d_in] into batches drawn from a shuffled buffer of `buffer` tokens.

    Neighbouring tokens of a text are alike; a batch should not be. The buffer is emptied by half, then filled again.
    """
    generator = torch.Generator().manual_seed(seed)
    held: list[Tensor] = []
    size = 0
    for block in states:
        held.append(block)
        size += len(block)
        if size >= buffer:
            mixed = torch.cat(held)[torch.randperm(size, generator=generator)]
            used = size // 2 // batch * batch
            if used:
                yield from torch.split(mixed[:used], batch)
            held, size = [mixed[used:]], size - used
    if size >= batch:
        mixed = torch.cat(held)[torch.randperm(size, generator=generator)]
        yield from torch.split(mixed[: size // batch * batch], batch)


@torch.no_grad()
def evaluate(sae: SparseAutoencoder, batches: Iterable[Tensor]) -> Quality:
    """Measure an SAE on batches [tokens, d_in] of hidden states from texts that it was not trained on."""
    tokens, l0, error = 0, 0.0, 0.0
    total = square = torch.zeros(sae.config.d_in, dtype=torch.float64)
    fired = torch.zeros(sae.config.d_sae, dtype=torch.bool)
    for x in batches:
        z = sae.encode(x)
        fired |= (z > 0).any(dim=0)
        l0 += (z > 0).sum().item()
        error += ((sae.decode(z) - x).double() ** 2).sum().item()
        total = total + x.double().sum(dim=0)
        square = square + (x.double() ** 2).sum(dim=0)
        tokens += len(x)
    variance = (square - total**2 / tokens).sum().item()
    return Quality(1 - error / variance, l0 / tokens, 1 - fired.float().mean().item(), tokens)


def calibrate(sae: SparseAutoencoder, row_maxima: Tensor, features_per_row: float) -> SparseAutoencoder:
    """Set `feature_threshold` so that the rows [rows, d_sae] of maxima keep `features_per_row` features on average."""
    values = row_maxima[row_maxima > 0]
    wanted = round(features_per_row * len(row_maxima))
    threshold = values.kthvalue(len(values) - wanted).values.item() if len(values) > wanted else 0.0
    sae.config = replace(sae.config, feature_threshold=threshold)
    return sae
