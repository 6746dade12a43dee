"""Training objectives: which latents fire, and the gradients. TopK, BatchTopK, Matryoshka BatchTopK and JumpReLU.

All objectives minimise sum |x - x'|^2 / tokens, with z = act((x - b_dec) @ W_enc + b_enc) and x' = z @ W_dec + b_dec.
They differ in the latents that fire:

    topk        The k largest of each token (Gao et al. 2024, arXiv 2406.04093).
    batchtopk   The k * tokens largest of the batch (arXiv 2412.06410). Hard tokens may use more latents than easy
                ones. At inference, a threshold replaces the batch: the running mean of the smallest activation of
                each batch.
    matryoshka  As batchtopk, but prefixes of the latents must also reconstruct the input: the loss is the mean of the
                squared errors of all prefixes (arXiv 2503.17547). Group g is what prefix g adds to prefix g - 1.
    jumprelu    Those above a learned threshold per latent (arXiv 2407.14435). Thresholds get their gradient from the
                activations in an interval of width `jumprelu_bandwidth`, and from the penalty (L0 / k - 1)^2.

Dead latents learn from the AuxK loss: they reconstruct the residual (Gao et al. 2024). Only k of d_sae latents fire
per token, so the pre-activations are the one dense product of a step; all gradients are sums over what fired. AuxK
alone uses dense products where few latents are dead, a large share of which it activates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import SaeTrainingConfig

# AuxK uses dense products where at most this many times more latents are dead than it takes. On a CPU, they cost as
# much as sums over what fired at about 8 times; they also need the memory of matrices [tokens, dead].
DENSE_AUXK = 4


class Parameters(NamedTuple):
    """Hold the weights of an SAE, or their gradients."""

    W_encT: Tensor
    """[d_sae, d_in]: transposed, because gradients touch whole rows."""
    W_dec: Tensor
    """[d_sae, d_in], rows of norm 1."""
    b_enc: Tensor
    """[d_sae]."""
    b_dec: Tensor
    """[d_in]."""


class Activations(NamedTuple):
    """Hold the sparse activations of a batch, in ascending order of `position`."""

    position: Tensor
    """Positions in the flattened `pre` [tokens, d_sae]."""
    pre: Tensor
    """Pre-activations at these positions."""
    z: Tensor
    """Activations; zero for JumpReLU's positions near but below a threshold, which give the threshold a gradient."""


class TopK:
    """Activate the k largest latents of each token."""

    activation = "topk"

    def __init__(self, config: SaeTrainingConfig, d_in: int, device: torch.device) -> None:
        self.k, self.auxk_alpha = config.k, config.auxk_alpha
        self.auxk_latents = min(config.auxk_latents, d_in // 2)
        widths = config.group_widths if config.objective == "matryoshka" else [config.d_sae]
        self.groups = len(widths)
        self.group_of_latent = torch.bucketize(torch.arange(config.d_sae), torch.tensor(widths), right=True).to(device)

    def initialize(self, pre: Tensor) -> None:
        """Set the state that depends on the data, from the pre-activations [tokens, d_sae] of the first batch."""

    def activate(self, pre: Tensor) -> Activations:
        """Return the latents that fire, from pre-activations [tokens, d_sae]."""
        strongest = pre.topk(self.k, dim=1, sorted=False)
        position = strongest.indices + torch.arange(len(pre), device=pre.device)[:, None] * pre.shape[1]
        positive = strongest.values > 0
        position, order = position[positive].sort()
        z = strongest.values[positive][order].float()
        return Activations(position, z, z)

    def parameters(self) -> list[Tensor]:
        """Return the parameters that the objective has beside the weights."""
        return []

    def gradients(self, activations: Activations, dz: Tensor, tokens: int, warmup: float) -> list[Tensor]:
        """Return the gradients of `parameters`."""
        return []

    def state(self) -> list[Tensor]:
        """Return the tensors that a checkpoint must keep."""
        return self.parameters()

    def threshold(self) -> Tensor | None:
        """Return the threshold at inference: one for all latents, one per latent, or None for TopK."""
        return None


class BatchTopK(TopK):
    """Activate the k * tokens largest latents of the batch."""

    activation = "jumprelu"

    def __init__(self, config: SaeTrainingConfig, d_in: int, device: torch.device) -> None:
        super().__init__(config, d_in, device)
        self.running_threshold = torch.zeros((), device=device)
        self.lower_bound = 0.0

    def activate(self, pre: Tensor) -> Activations:
        position, z = batch_topk(pre, self.k * len(pre), self.lower_bound)
        smallest = z.min() if len(z) else z.new_zeros(())
        running = self.running_threshold
        running.copy_(torch.where(running > 0, 0.9 * running + 0.1 * smallest, smallest))
        self.lower_bound = 0.8 * smallest.item()
        return Activations(position, z, z)

    def state(self) -> list[Tensor]:
        return [self.running_threshold]

    def threshold(self) -> Tensor | None:
        return self.running_threshold


class JumpReLU(TopK):
    """Activate the latents above their thresholds."""

    activation = "jumprelu"

    def __init__(self, config: SaeTrainingConfig, d_in: int, device: torch.device) -> None:
        super().__init__(config, d_in, device)
        self.log_threshold = torch.zeros(config.d_sae, device=device)
        self.bandwidth, self.l0_coefficient = config.jumprelu_bandwidth, config.l0_coefficient * d_in

    def initialize(self, pre: Tensor) -> None:
        """Set all thresholds to the value at which the first batch has an L0 of k."""
        _, z = batch_topk(pre, self.k * len(pre))
        self.log_threshold.fill_(z.min().log() if len(z) else 0.0)

    def activate(self, pre: Tensor) -> Activations:
        threshold = self.log_threshold.exp()
        lower_edge = (threshold - self.bandwidth / 2).relu().to(pre.dtype)
        position = (pre > lower_edge).view(-1).nonzero().squeeze(1)
        values = pre.view(-1)[position].float()
        return Activations(position, values, torch.where(values > threshold[position % len(threshold)], values, 0.0))

    def parameters(self) -> list[Tensor]:
        return [self.log_threshold]

    def gradients(self, activations: Activations, dz: Tensor, tokens: int, warmup: float) -> list[Tensor]:
        latent = activations.position % len(self.log_threshold)
        threshold = self.log_threshold.exp()[latent]
        near = (activations.pre - threshold).abs() < self.bandwidth / 2
        l0 = (activations.z > 0).sum() / tokens
        penalty = (
            self.l0_coefficient * warmup * 2 * (l0 / self.k - 1) / self.k / tokens
        )  # d loss / d (one more firing)
        # If a threshold rises by d, the share d / bandwidth of the activations near it drops from `threshold` to 0.
        # The last factor is d threshold / d log_threshold.
        gradient = -(dz * threshold + penalty) / self.bandwidth * threshold
        return [torch.zeros_like(self.log_threshold).index_add_(0, latent[near], gradient[near])]

    def threshold(self) -> Tensor | None:
        return self.log_threshold.exp()


OBJECTIVE_CLASSES = {"topk": TopK, "batchtopk": BatchTopK, "matryoshka": BatchTopK, "jumprelu": JumpReLU}


def batch_topk(pre: Tensor, count: int, lower_bound: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return (flat positions, values) of the `count` largest positive entries of `pre`; ties with the last are kept.

    `lower_bound` only saves time: of 8 million entries, 32 thousand are selected, so entries above a guess of the
    smallest are enough to rank. If the guess is too high, all positive entries are ranked.
    """
    flat = pre.view(-1)
    position = (flat > lower_bound).nonzero().squeeze(1)
    if len(position) < count:
        position = (flat > 0).nonzero().squeeze(1)
    z = flat[position].float()
    if len(z) > count:
        smallest = z.kthvalue(len(z) - count + 1).values
        position, z = position[z >= smallest], z[z >= smallest]
    return position, z


class StepGradients(NamedTuple):
    """Hold the gradients of a batch, and what they were computed from."""

    gradients: list[Tensor]
    """Of the weights, in the order of `Parameters`, then of the objective's own parameters."""
    error: Tensor
    """x' - x, [tokens, d_in]."""
    latents: Tensor
    """Latent of each activation, with repetitions."""


class _Reconstruction(NamedTuple):
    """Hold one reconstruction loss over N activations, and its gradients.

    A *bag* is a pair of a token and a group; bag b = token * groups + group. `sums[b]` is the sum over the activations
    of that bag of z * W_dec[latent].
    """

    latent: Tensor
    """[N]."""
    bag: Tensor
    """[N]."""
    token: Tensor
    """[N]."""
    z: Tensor
    """[N]."""
    dz: Tensor
    """[N]: d loss / d z."""
    dsums: Tensor
    """[tokens, groups, d_in]: d loss / d sums."""
    error: Tensor
    """[tokens, d_in]: reconstruction by all groups, less the target."""


class _DeadBlock(NamedTuple):
    """Hold the AuxK loss over all dead latents, most of which do not fire, and its gradients, as dense matrices."""

    latent: Tensor
    """[dead]: ids of the latents."""
    z: Tensor
    """[tokens, dead]."""
    dz: Tensor
    """[tokens, dead]: d loss / d z, 0 where z is 0."""
    dsums: Tensor
    """[tokens, d_in]: d loss / d (z @ W_dec)."""


def compute_gradients(
    weights: Parameters, objective: TopK, x: Tensor, pre: Tensor, dead: Tensor, warmup: float
) -> StepGradients:
    """Compute the gradients of the loss on a batch x [tokens, d_in].

    Args:
        pre: (x - b_dec) @ W_encT.T + b_enc, [tokens, d_sae].
        dead: Ids of the dead latents, which learn from the AuxK loss.
        warmup: Factor of JumpReLU's penalty.
    """
    tokens, d_sae = pre.shape
    centred = x - weights.b_dec
    activations = objective.activate(pre)
    token, latent = activations.position // d_sae, activations.position % d_sae
    group = objective.group_of_latent[latent]
    main = _reconstruct(weights.W_dec, centred, token, latent, activations.z, group, objective.groups)
    own_gradients = objective.gradients(activations, main.dz, tokens, warmup)
    losses = [main._replace(dz=torch.where(main.z > 0, main.dz, 0.0))]  # the derivative of act
    blocks = []
    if len(dead):
        auxk = objective.auxk_latents, objective.auxk_alpha
        if len(dead) <= DENSE_AUXK * objective.auxk_latents:
            blocks.append(_dense_auxk(weights.W_dec, -main.error, pre, dead, *auxk))
        else:
            losses.append(_sparse_auxk(weights.W_dec, -main.error, pre, dead, *auxk))
    gradients = _weight_gradients(weights, centred, losses, blocks)
    return StepGradients([*gradients, *own_gradients], main.error, latent[activations.z > 0])


def _reconstruct(
    W_dec: Tensor, target: Tensor, token: Tensor, latent: Tensor, z: Tensor, group: Tensor, groups: int
) -> _Reconstruction:
    """Differentiate the mean over prefixes of groups of |target - z @ W_dec|^2 / tokens."""
    bag = token * groups + group
    offsets = torch.searchsorted(bag, torch.arange(len(target) * groups, device=z.device))
    with torch.enable_grad():  # embedding_bag's backward computes d loss / d z without gathering rows of W_dec
        z = z.detach().requires_grad_()
        sums = _weighted_sums(W_dec, latent, offsets, z).view(len(target), groups, -1)
        error = sums.cumsum(dim=1) - target[:, None]
        dz, dsums = torch.autograd.grad((error**2).sum() / (len(target) * groups), (z, sums))
    return _Reconstruction(latent, bag, token, z.detach(), dz, dsums, error[:, -1].detach())


def _dense_auxk(W_dec: Tensor, residual: Tensor, pre: Tensor, dead: Tensor, latents: int, alpha: float) -> _DeadBlock:
    """Differentiate the AuxK loss: the strongest dead latents of each token reconstruct the residual."""
    z = pre[:, dead].float().relu_()
    if len(dead) > latents:
        strongest = z.topk(latents, dim=1)
        z = torch.zeros_like(z).scatter_(1, strongest.indices, strongest.values)
    rows = W_dec[dead]
    dsums = (z @ rows - residual) * (2 * alpha / len(residual))
    return _DeadBlock(dead, z, (dsums @ rows.T).mul_(z > 0), dsums)


def _sparse_auxk(
    W_dec: Tensor, residual: Tensor, pre: Tensor, dead: Tensor, latents: int, alpha: float
) -> _Reconstruction:
    """Do the same by sums over what fired."""
    strongest = pre[:, dead].float().topk(min(len(dead), latents), dim=1)
    token, column = (strongest.values > 0).nonzero(as_tuple=True)
    latent, z = dead[strongest.indices[token, column]], strongest.values[token, column]
    loss = _reconstruct(W_dec, residual, token, latent, z, torch.zeros_like(token), 1)
    return loss._replace(dz=loss.dz * alpha, dsums=loss.dsums * alpha)


def _weight_gradients(
    weights: Parameters, centred: Tensor, losses: list[_Reconstruction], blocks: list[_DeadBlock]
) -> Parameters:
    """Return the gradients of the weights, from those of the activations and of the sums.

    For activation i, of latent l(i), token t(i) and bag b(i):

        sums[b]  = sum over i in bag b of z[i] * W_dec[l(i)]
        pre[i]   = centred[t(i)] . W_encT[l(i)] + b_enc[l(i)],    centred = x - b_dec

    The chain rule gives, for latent j, sums over its activations, i with l(i) = j:

        dW_dec[j]  = sum of z[i]  * dsums[b(i)]
        dW_encT[j] = sum of dz[i] * centred[t(i)]
        db_enc[j]  = sum of dz[i]

    The first two are weighted sums of rows of a table, one per latent. `F.embedding_bag` computes just that, with one
    of its bags per latent, once the activations are sorted by latent. It needs no dense [tokens, d_sae] matrix.
    The sums over the activations of a block of dead latents are products of its matrices.
    """
    token, latent, z, dz = (
        torch.cat([getattr(loss, name) for loss in losses]) for name in ("token", "latent", "z", "dz")
    )
    dsums = [loss.dsums.flatten(0, 1) for loss in losses]
    bag = torch.cat([loss.bag + start for loss, start in zip(losses, (0, len(dsums[0])), strict=False)])
    order = latent.argsort(stable=True)
    offsets = torch.searchsorted(latent[order], torch.arange(len(weights.W_dec), device=z.device))
    dW_encT = _weighted_sums(centred, token[order], offsets, dz[order])
    dW_dec = _weighted_sums(torch.cat(dsums), bag[order], offsets, z[order])
    db_enc = torch.zeros_like(weights.b_enc).index_add_(0, latent, dz)
    for block in blocks:
        dW_encT.index_add_(0, block.latent, block.dz.T @ centred)
        dW_dec.index_add_(0, block.latent, block.z.T @ block.dsums)
        db_enc.index_add_(0, block.latent, block.dz.sum(dim=0))
    # b_dec occurs twice. Added to every reconstruction, it has the gradient of the first group's sums, which are part
    # of every prefix; AuxK's target is a constant. Subtracted from the encoder's input, it has that of -pre.
    db_dec = losses[0].dsums[:, 0].sum(dim=0) - db_enc @ weights.W_encT
    # Remove the component along each decoder row: it would only change the row's norm, which stays 1.
    dW_dec -= (dW_dec * weights.W_dec).sum(dim=1, keepdim=True) * weights.W_dec
    return Parameters(dW_encT, dW_dec, db_enc, db_dec)


def _weighted_sums(table: Tensor, index: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Return, per bag, the weighted sum of rows of `table`; bag b holds the entries from offsets[b] to offsets[b + 1].

    This is the product of a sparse matrix with `table`, without sparse tensors.
    """
    return F.embedding_bag(index, table, offsets, mode="sum", per_sample_weights=weights)
