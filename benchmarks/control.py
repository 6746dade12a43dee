"""The random-weight control: an SAE of the default's size and sparsity that has learnt nothing."""

from __future__ import annotations

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
