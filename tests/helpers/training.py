"""Small trainings: activations with a known dictionary, and a tiny dataset."""

import torch
from torch.nn import functional as F

from hf_sae_select import SaeConfig, SaeTrainingConfig, SparseAutoencoder

from .tiny import WORDS

SOURCE = {"model": "m", "hook": "h"}
SMALL = SaeTrainingConfig(d_sae=64, k=2, training_tokens=512 * 20, train_batch_size_tokens=512)
DIRECTIONS = F.normalize(torch.randn(48, 32, generator=torch.Generator().manual_seed(7)), dim=1)


def planted(batches, seed=0):
    """Yield sums of about two of 48 directions of the 32-space."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(batches):
        on = torch.rand(512, 48, generator=generator) < 2 / 48
        yield (on * (1 + torch.rand(512, 48, generator=generator))) @ DIRECTIONS


# 60 rows of 4 to 11 words, 450 tokens, read 2.3 times in four chunks of 8 steps
ROWS = {"text": [" ".join(WORDS[i % 7 : i % 7 + 4 + i % 8]) for i in range(60)]}
TINY = SaeTrainingConfig(
    d_sae=32,
    k=4,
    training_tokens=1024,
    train_batch_size_tokens=32,
    buffer_tokens=256,
    learning_rate=1e-2,
    dead_feature_threshold=100,
)


def location(bert):
    """The hook of the tiny BERT that the SAEs read."""
    return {"model": str(bert), "hook": "encoder.layer.1"}


def weights(sae):
    return [parameter.tolist() for parameter in sae.parameters()]


def identity(model, hook):
    """Thirty-two latents that together rebuild a vector of 16 exactly."""
    sae = SparseAutoencoder(SaeConfig(16, 32, "relu", model=str(model), hook=hook)).requires_grad_(False)
    sae.W_enc.copy_(torch.cat([torch.eye(16), -torch.eye(16)], dim=1))
    sae.W_dec.copy_(sae.W_enc.T)
    return sae
