from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.nn import functional as F

from hf_sae_select import SaeConfig, SparseAutoencoder, train_sae
from hf_sae_select.training import _Trainer, calibrate, evaluate, shuffled

CONFIG = SaeConfig(32, 64, "jumprelu", model="m", hook="h")


def planted(batches, seed=0):
    """Yield sums of about two of 48 directions of the 32-space."""
    generator = torch.Generator().manual_seed(seed)
    directions = F.normalize(torch.randn(48, 32, generator=torch.Generator().manual_seed(7)), dim=1)
    for _ in range(batches):
        on = torch.rand(512, 48, generator=generator) < 2 / 48
        yield (on * (1 + torch.rand(512, 48, generator=generator))) @ directions


def test_a_planted_dictionary_is_recovered():
    directions = F.normalize(torch.randn(48, 32, generator=torch.Generator().manual_seed(7)), dim=1)
    sae = train_sae(planted(800), CONFIG, k=2, steps=800, lr=1e-2, dead_after=5000)
    found = F.normalize(sae.W_dec, dim=1) @ directions.T
    assert (found.max(dim=0).values > 0.95).float().mean() > 0.95
    quality = evaluate(sae, planted(4, seed=1))
    assert quality.explained_variance > 0.95
    assert 1.8 < quality.l0 < 2.2
    assert quality.dead <= 16 / 64  # 48 directions need no more latents


def test_a_step_s_gradients_are_those_of_autograd():
    (x,) = planted(1)
    trainer = _Trainer(x, CONFIG, k=2, lr=1e-3, dead_after=10**9, seed=0)
    encT, dec, b_enc, b_dec = weights = [w.clone().requires_grad_() for w in trainer.weights]
    scaled = x * trainer.scale
    pre = (scaled - b_dec) @ encT.T + b_enc
    cut = pre.detach().flatten().topk(2 * len(x)).values[-1]
    z = torch.where(pre >= cut, pre, 0.0)
    ((z @ dec + b_dec - scaled) ** 2).sum(dim=1).mean().backward()
    dec.grad -= (dec.grad * dec).sum(dim=1, keepdim=True) * dec.detach()  # the decoder's rows keep their norm
    for ours, theirs in zip(trainer.gradients(x), weights, strict=True):
        torch.testing.assert_close(ours, theirs.grad, atol=1e-5, rtol=1e-4)


def test_the_same_seed_gives_the_same_sae():
    first, again, other = (train_sae(planted(20), CONFIG, k=2, steps=20, seed=seed) for seed in (0, 0, 1))
    assert first.digest() == again.digest() != other.digest()


def test_training_takes_a_jumprelu_config_and_enough_batches():
    with pytest.raises(ValueError, match=r"`config.activation='relu'`: training leaves a 'jumprelu' SAE behind"):
        train_sae(planted(1), replace(CONFIG, activation="relu"), k=2, steps=1)
    with pytest.raises(ValueError, match=r"`k=65` latents per token of 64: pass 1 to 64"):
        train_sae(planted(1), CONFIG, k=65, steps=1)
    with pytest.raises(ValueError, match=r"`steps=5` but the batches ended after 3"):
        train_sae(planted(3), CONFIG, k=2, steps=5)


def test_shuffled_gives_every_token_once_but_for_the_last_short_batch():
    blocks = [torch.arange(start, start + 7.0)[:, None] for start in range(0, 70, 7)]
    batches = list(shuffled(iter(blocks), batch=8, buffer=24))
    assert [len(batch) for batch in batches] == [8] * 8
    tokens = torch.cat(batches).flatten().tolist()
    assert len(set(tokens)) == 64 and tokens != sorted(tokens)


def test_a_buffer_smaller_than_a_batch_gives_no_empty_batches():
    blocks = [torch.arange(start, start + 4.0)[:, None] for start in range(0, 24, 4)]
    assert all(len(batch) == 8 for batch in shuffled(iter(blocks), batch=8, buffer=4))


def axis():
    """One latent that reads and writes the first axis."""
    sae = SparseAutoencoder(SaeConfig(2, 2, "jumprelu", model="m", hook="h")).requires_grad_(False)
    sae.W_enc.copy_(tensor([[1.0, 0.0], [0.0, 0.0]]))
    sae.W_dec.copy_(tensor([[1.0, 0.0], [0.0, 0.0]]))
    return sae


def test_evaluate_by_hand():
    # mean (1, 0); variance 1 + 1 + 4 + 4 = 10; the second axis, of square 8, is lost
    quality = evaluate(axis(), [tensor([[2.0, 0.0], [0.0, 0.0]]), tensor([[1.0, 2.0], [1.0, -2.0]])])
    assert quality.explained_variance == pytest.approx(1 - 8 / 10)
    assert (quality.l0, quality.dead, quality.tokens) == (0.75, 0.5, 4)


def test_calibrate_leaves_the_wanted_number_of_features_per_row():
    maxima = tensor([[5.0, 4.0, 3.0, 0.0], [2.0, 1.0, 0.0, 0.0]])
    sae = calibrate(axis(), maxima, features_per_row=1.5)
    assert sae.config.feature_threshold == 2.0
    assert (maxima > 2.0).sum() / 2 == 1.5
    assert calibrate(axis(), maxima, features_per_row=9).config.feature_threshold == 0.0
