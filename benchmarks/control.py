"""The random-weight control: an SAE of the default's size and sparsity that has learnt nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from hf_sae_select import SparseAutoencoder, load_sae


def random_sae(seed: int = 0) -> SparseAutoencoder:
    """Return the default SAE with directions drawn at random: as many latents, as many of them on at a token.

    What stays is the origin, the default's `b_dec`, so that a latent fires for a direction away from the mean.
    """
    sae = load_sae()
    _, b_dec = sae.decoder()
    config = replace(sae.config, activation="topk", k=round(sae.config.l0 or 32), feature_threshold=0.0, training={})
    directions = torch.randn(config.d_sae, config.d_in, generator=torch.Generator().manual_seed(seed))
    directions /= directions.norm(dim=1, keepdim=True)
    tensors = {"W_enc": directions.T.contiguous(), "b_enc": -directions @ b_dec.float()}
    return SparseAutoencoder.from_tensors(config, tensors | {"W_dec": directions, "b_dec": b_dec.float()})


def random_saes(seeds: Sequence[int], states: torch.Tensor) -> SparseAutoencoder:
    """Return several random-weight SAEs side by side, so that a row is read once; each has its part of the latents.

    They are JumpReLU as the default is, with one threshold: on `states` of tokens, as many latents are on as in it.
    """
    saes = [random_sae(seed) for seed in seeds]
    tensors = {name: torch.cat([sae.state_dict()[name] for sae in saes], dim=-1) for name in ("W_enc", "b_enc")}
    tensors["W_dec"], tensors["b_dec"] = torch.cat([sae.decoder()[0] for sae in saes]), saes[0].decoder()[1]
    config = saes[0].config
    active = states @ tensors["W_enc"] + tensors["b_enc"]
    count = round(len(states) * len(seeds) * (config.k or 1))
    threshold = active.flatten().topk(count).values[-1]
    d_sae = len(tensors["b_enc"])
    tensors["threshold"] = threshold.repeat(d_sae)
    return SparseAutoencoder.from_tensors(replace(config, activation="jumprelu", k=None, d_sae=d_sae), tensors)
