"""What fires, and the gradients of having fired: TopK, BatchTopK, Matryoshka BatchTopK and JumpReLU.

All four minimise sum |x - x'|^2 / tokens with z = act((x - b_dec) @ W_enc + b_enc), x' = z @ W_dec + b_dec, and differ
in which latents fire:

    topk        the k largest of each token (Gao et al. 2024, arXiv 2406.04093)
    batchtopk   the k * tokens largest of the batch, so that a hard token may use more than an easy one; at inference
                the running mean of each batch's smallest stands in for the batch (arXiv 2412.06410)
    matryoshka  as batchtopk, but the first latents, group by group, must also reconstruct without the rest: the mean
                of the groups' errors is minimised (arXiv 2503.17547)
    jumprelu    those above a threshold that each latent learns (arXiv 2407.14435), through a window of width
                `bandwidth` around it, and under a penalty (L0 / k - 1)^2

Dead latents are given the residual to explain (AuxK, Gao et al. 2024), and so come back. Gradients reach only what
fired, k of d_sae latents a token, so all but the product that finds what fires is sums over those.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import SaeTrainingConfig


class Parameters(NamedTuple):
    """Hold what is trained, as parameters, gradients or running means alike."""

    encT: Tensor
    """[d_sae, d_in]: rows are what the sparse gradient touches."""
    dec: Tensor
    """[d_sae, d_in], rows of norm 1."""
    b_enc: Tensor
    b_dec: Tensor


class Fired(NamedTuple):
    """Hold what fires, as places in `pre` [tokens, d_sae] laid flat, rising."""

    place: Tensor
    pre: Tensor
    z: Tensor
    """Zero for those that only nearly fire."""


class TopK:
    """Keep each token's k largest."""

    activation = "topk"

    def __init__(self, config: SaeTrainingConfig, d_in: int, device: torch.device) -> None:
        self.k, self.aux = config.k, config.aux
        ends = config.group_ends if config.objective == "matryoshka" else [config.d_sae]
        self.group_count = len(ends)
        self.group = torch.bucketize(torch.arange(config.d_sae), torch.tensor(ends), right=True).to(device)

    def begin(self, pre: Tensor) -> None:
        """Set what depends on the data, from the first batch."""

    def fire(self, pre: Tensor) -> Fired:
        """Say what fires on a batch."""
        strongest = pre.topk(self.k, dim=1, sorted=False)
        place = strongest.indices + torch.arange(len(pre), device=pre.device)[:, None] * pre.shape[1]
        place, order = place[strongest.values > 0].sort()
        z = strongest.values[strongest.values > 0][order].float()
        return Fired(place, z, z)

    def learned(self) -> list[Tensor]:
        """Return what is trained beside the weights."""
        return []

    def gradients(self, fired: Fired, dz: Tensor, tokens: int, risen: float) -> list[Tensor]:
        """Return the gradients of `learned`."""
        return []

    def state(self) -> list[Tensor]:
        """Return what goes on from step to step."""
        return self.learned()

    def threshold(self) -> Tensor | None:
        """Return what fires at inference, for all latents or for each."""
        return None


class BatchTopK(TopK):
    """Keep the batch's k * tokens largest."""

    activation = "jumprelu"

    def __init__(self, config: SaeTrainingConfig, d_in: int, device: torch.device) -> None:
        super().__init__(config, d_in, device)
        self.running = torch.zeros((), device=device)
        self.guess = 0.0

    def fire(self, pre: Tensor) -> Fired:
        place, z = largest(pre, self.k * len(pre), self.guess)
        smallest = z.min() if len(z) else z.new_zeros(())
        self.running.copy_(torch.where(self.running > 0, 0.9 * self.running + 0.1 * smallest, smallest))
        self.guess = 0.8 * smallest.item()
        return Fired(place, z, z)

    def state(self) -> list[Tensor]:
        return [self.running]

    def threshold(self) -> Tensor | None:
        return self.running


class JumpReLU(TopK):
    """Keep what is above its latent's threshold."""

    activation = "jumprelu"

    def __init__(self, config: SaeTrainingConfig, d_in: int, device: torch.device) -> None:
        super().__init__(config, d_in, device)
        self.log_threshold = torch.zeros(config.d_sae, device=device)
        self.bandwidth, self.sparsity = config.bandwidth, config.sparsity * d_in

    def begin(self, pre: Tensor) -> None:
        """Begin where L0 is k."""
        _, z = largest(pre, self.k * len(pre), 0.0)
        self.log_threshold.fill_(z.min().log() if len(z) else 0.0)

    def fire(self, pre: Tensor) -> Fired:
        threshold = self.log_threshold.exp()
        near = (threshold - self.bandwidth / 2).relu().to(pre.dtype)
        place = (pre > near).view(-1).nonzero().squeeze(1)
        values = pre.view(-1)[place].float()
        return Fired(place, values, torch.where(values > threshold[place % len(threshold)], values, 0.0))

    def learned(self) -> list[Tensor]:
        return [self.log_threshold]

    def gradients(self, fired: Fired, dz: Tensor, tokens: int, risen: float) -> list[Tensor]:
        latent = fired.place % len(self.log_threshold)
        threshold = self.log_threshold.exp()[latent]
        near = (fired.pre - threshold).abs() < self.bandwidth / 2
        l0 = (fired.z > 0).sum() / tokens
        per_firing = self.sparsity * risen * 2 * (l0 / self.k - 1) / self.k / tokens
        # A threshold that rises by d moves d / bandwidth of those near it from firing, at its height, to silence.
        found = -(dz * threshold + per_firing) / self.bandwidth * threshold
        return [torch.zeros_like(self.log_threshold).index_add_(0, latent[near], found[near])]

    def threshold(self) -> Tensor | None:
        return self.log_threshold.exp()


RULES = {"topk": TopK, "batchtopk": BatchTopK, "matryoshka": BatchTopK, "jumprelu": JumpReLU}


def largest(pre: Tensor, wanted: int, guess: float) -> tuple[Tensor, Tensor]:
    """Return (places, values) of the `wanted` largest positive entries of `pre`, and of those equal to the smallest.

    Of 8 million entries 32 thousand are wanted: those above `guess` are ranked if they are enough, else all positive
    ones. The result is the same.
    """
    flat = pre.view(-1)
    found = (flat > guess).nonzero().squeeze(1)
    if len(found) < wanted:
        found = (flat > 0).nonzero().squeeze(1)
    z = flat[found].float()
    if len(z) > wanted:
        cut = z.kthvalue(len(z) - wanted + 1).values
        found, z = found[z >= cut], z[z >= cut]
    return found, z


class _Part(NamedTuple):
    """Hold one error to explain: which bag, that is, which sum, each activation adds to, and the sums' gradients."""

    latent: Tensor
    bag: Tensor
    token: Tensor
    z: Tensor
    dz: Tensor
    d_sums: Tensor
    """[tokens, groups, d_in]."""
    error: Tensor
    """[tokens, d_in], of all groups together."""


def gradients(
    weights: Parameters, objective: TopK, x: Tensor, pre: Tensor, dead: Tensor, risen: float
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return the gradients of `weights` and of what the objective learns, the error [tokens, d_in], and what fired.

    Args:
        x: a batch [tokens, d_in]; `pre` is (x - b_dec) @ encT.T + b_enc.
        dead: ids of the latents to revive.
        risen: how much of jumprelu's penalty counts.
    """
    tokens, d_sae = pre.shape
    centred = x - weights.b_dec
    fired = objective.fire(pre)
    token, latent = fired.place // d_sae, fired.place % d_sae
    main = _explain(weights.dec, centred, token, latent, fired.z, objective.group[latent], objective.group_count)
    learned = objective.gradients(fired, main.dz, tokens, risen)
    parts = [main._replace(dz=torch.where(main.z > 0, main.dz, 0.0))]
    if len(dead):
        parts.append(_revive(weights.dec, -main.error, pre, dead, objective.aux))
    found = _sum_up(weights, centred, parts)
    return [*found, *learned], main.error, latent[fired.z > 0]


def _explain(
    dec: Tensor, target: Tensor, token: Tensor, latent: Tensor, z: Tensor, group: Tensor, groups: int
) -> _Part:
    """Differentiate the mean over groups of |target - z @ dec|^2 / tokens, where each group includes those before."""
    bag = token * groups + group
    begins = torch.searchsorted(bag, torch.arange(len(target) * groups, device=z.device))
    with torch.enable_grad():  # embedding_bag's backward computes d loss / d z without a gather
        z = z.detach().requires_grad_()
        sums = _weighted_sums(dec, latent, begins, z).view(len(target), groups, -1)
        error = sums.cumsum(dim=1) - target[:, None]
        dz, d_sums = torch.autograd.grad((error**2).sum() / (len(target) * groups), (z, sums))
    return _Part(latent, bag, token, z.detach(), dz, d_sums, error[:, -1].detach())


def _revive(dec: Tensor, residual: Tensor, pre: Tensor, dead: Tensor, aux: float) -> _Part:
    """Let the dead latents alone, d_in / 2 of them a token, explain what was left over."""
    strongest = pre[:, dead].float().topk(min(len(dead), residual.shape[1] // 2), dim=1)
    token, column = (strongest.values > 0).nonzero(as_tuple=True)
    latent, z = dead[strongest.indices[token, column]], strongest.values[token, column]
    part = _explain(dec, residual, token, latent, z, torch.zeros_like(token), 1)
    return part._replace(dz=part.dz * aux, d_sums=part.d_sums * aux)


def _sum_up(weights: Parameters, centred: Tensor, parts: list[_Part]) -> Parameters:
    """Carry the gradients of the activations and of the sums on to the weights."""
    token, latent, z, dz = (torch.cat([getattr(p, name) for p in parts]) for name in ("token", "latent", "z", "dz"))
    tables = [part.d_sums.flatten(0, 1) for part in parts]
    bag = torch.cat([part.bag + offset for part, offset in zip(parts, (0, len(tables[0])), strict=False)])
    by_latent = latent.argsort(stable=True)
    begins = torch.searchsorted(latent[by_latent], torch.arange(len(weights.dec), device=z.device))
    d_encT = _weighted_sums(centred, token[by_latent], begins, dz[by_latent])
    d_dec = _weighted_sums(torch.cat(tables), bag[by_latent], begins, z[by_latent])
    db_enc = torch.zeros_like(weights.b_enc).index_add_(0, latent, dz)
    # The first group's sums are in every group's reconstruction, and so is b_dec; it is also taken off the input.
    db_dec = parts[0].d_sums[:, 0].sum(dim=0) - db_enc @ weights.encT
    # The part of the gradient along a decoder row would only change its norm, which is fixed at 1.
    d_dec -= (d_dec * weights.dec).sum(dim=1, keepdim=True) * weights.dec
    return Parameters(d_encT, d_dec, db_enc, db_dec)


def _weighted_sums(table: Tensor, index: Tensor, begins: Tensor, weights: Tensor) -> Tensor:
    """Return for each bag the weighted sum of rows of `table`: a sparse matrix product, without sparse tensors."""
    return F.embedding_bag(index, table, begins, mode="sum", per_sample_weights=weights)
