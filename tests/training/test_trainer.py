"""Trainer, by `train_sae_on_activations`: what is learned, and which batches are refused."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from helpers.training import DIRECTIONS, SMALL, SOURCE, planted
from torch.nn import functional as F

from hf_sae_select import SaeTrainingConfig, evaluate_sae_on_activations, train_sae_on_activations
from hf_sae_select.training.config import OBJECTIVES
from hf_sae_select.training.trainer import Trainer


@pytest.mark.parametrize(
    ("objective", "precision"), [*((objective, "float32") for objective in OBJECTIVES), ("batchtopk", "bfloat16")]
)
@pytest.mark.slow
def test_a_planted_dictionary_is_recovered(objective, precision):
    config = replace(SMALL, objective=objective, training_tokens=512 * 800, learning_rate=1e-2, precision=precision)
    # topk alone needs as many latents on each token; a first group too small would have to mix directions
    k = 4 if objective == "topk" else 2
    config = replace(config, k=k, dead_feature_threshold=5000, group_fractions=(0.75, 1.0))
    sae = train_sae_on_activations(planted(800), config, **SOURCE)
    cosines = F.normalize(sae.W_dec, dim=1) @ DIRECTIONS.T
    assert (cosines.max(dim=0).values > 0.95).float().mean() > 0.95
    quality = evaluate_sae_on_activations(sae, planted(4, seed=1))
    assert quality.explained_variance > 0.95
    assert 1.8 < quality.l0 < (4 if objective == "topk" else 2.2)
    assert quality.dead <= 16 / 64  # 48 directions need no more latents


def test_the_same_seed_gives_the_same_sae():
    configs = [replace(SMALL, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (train_sae_on_activations(planted(20), config, **SOURCE) for config in configs)
    assert first.digest() == again.digest() != other.digest()


def test_tokens_of_huge_norm_are_left_out():
    plain = list(planted(20))
    sinks = [torch.cat([batch, 1000 + batch[:3]]) for batch in plain]
    expected = train_sae_on_activations(plain, SMALL, **SOURCE).digest()
    assert train_sae_on_activations(sinks, replace(SMALL, max_norm_ratio=10), **SOURCE).digest() == expected
    assert train_sae_on_activations(sinks, SMALL, **SOURCE).digest() != expected


def test_a_step_returns_its_statistics():
    trainer = Trainer(replace(SMALL, objective="topk"), 32, Accelerator(cpu=True))
    statistics = [trainer.average(trainer.step(batch)) for batch in planted(20)]
    assert set(statistics[0]) == {"loss", "explained_variance", "l0", "dead"}
    assert statistics[0]["explained_variance"] < statistics[-1]["explained_variance"] < 1
    assert statistics[0]["loss"] > statistics[-1]["loss"] > 0
    assert statistics[-1]["l0"] == pytest.approx(2, abs=0.01) and statistics[-1]["dead"] == 0
    assert (trainer.step_count, trainer.token_count) == (20, 20 * 512)


def test_gradients_are_reduced_only_among_several_processes(monkeypatch):
    reduced = []

    def reduce(accelerator, tensors, *arguments):
        reduced.append(tensors)
        return tensors

    trainer = Trainer(SMALL, 32, Accelerator(cpu=True))
    monkeypatch.setattr(Accelerator, "reduce", reduce)
    gradients = [torch.ones_like(parameter) for parameter in trainer.parameters]
    trainer._update(gradients)
    assert reduced == []
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    trainer._update(gradients)
    assert reduced == [gradients]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_hidden_states_that_are_not_finite_end_the_training(objective, bad):
    batches = list(planted(10))
    batches[5][3, 7] = bad
    config = replace(SMALL, objective=objective, training_tokens=512 * 10)
    with pytest.raises(ValueError, match=r"the gradient of step 6 is not finite.*`max_norm_ratio`"):
        train_sae_on_activations(batches, config, **SOURCE)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_max_norm_ratio_leaves_out_nan(objective):
    batches = list(planted(10))
    batches[5][3, 7] = float("nan")
    config = replace(SMALL, objective=objective, training_tokens=512 * 10, max_norm_ratio=10.0)
    assert train_sae_on_activations(batches, config, **SOURCE).W_enc.isfinite().all()


@pytest.mark.parametrize(
    ("batches", "ratio", "message"),
    [
        ([torch.zeros(4, 8)], None, "the first batch have a mean norm of 0.0"),
        ([torch.full((4, 8), float("nan"))], 2.0, "step 1 has no finite hidden state"),
        ([torch.ones(8)], None, r"`batches` must be tensors \[tokens, d_in\]; the first one is Tensor"),
        ([torch.ones(4, 8), torch.ones(4, 7)], None, r"must be tensors \[tokens, 8\].*; one is \[4, 7\]"),
        ([torch.ones(4, 8), torch.ones(0, 8)], None, r"one is \[0, 8\]"),
        ([torch.ones(4, 8), [1.0]], None, "one is list"),
    ],
)
def test_errors_of_batches(batches, ratio, message):
    config = SaeTrainingConfig(d_sae=8, k=2, training_tokens=8, train_batch_size_tokens=4, max_norm_ratio=ratio)
    with pytest.raises(ValueError, match=message):
        train_sae_on_activations(batches, config, **SOURCE)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_first_batch_of_equal_vectors_does_not_end_the_training(objective):
    batches = [torch.ones(512, 32), *planted(19)]
    sae = train_sae_on_activations(batches, replace(SMALL, objective=objective), **SOURCE)
    assert sae.W_enc.isfinite().all()
