"""Which latents fire, and that the sparse gradients equal those of autograd."""

from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.nn import functional as F

from hf_sae_select.training import objectives
from hf_sae_select.training.config import TRAINING_PRESETS, SaeTrainingConfig
from hf_sae_select.training.objectives import OBJECTIVE_CLASSES, Parameters, batch_topk, compute_gradients

D_IN, D_SAE, TOKENS = 8, 24, 40
CONFIG = SaeTrainingConfig(
    d_sae=D_SAE,
    k=3,
    training_tokens=TOKENS,
    train_batch_size_tokens=TOKENS,
    group_fractions=(0.25, 0.5, 1.0),
    jumprelu_bandwidth=0.7,
)
CPU = torch.device("cpu")


class Step(torch.autograd.Function):
    """1 where pre > threshold; its gradient in the threshold is a rectangle's (arXiv 2407.14435, appendix J)."""

    @staticmethod
    def forward(context, pre, threshold):
        context.save_for_backward(pre, threshold)
        return (pre > threshold).float()

    @staticmethod
    def backward(context, upstream):
        pre, threshold = context.saved_tensors
        near = ((pre - threshold).abs() < CONFIG.jumprelu_bandwidth / 2).float()
        return torch.zeros_like(pre), (-near / CONFIG.jumprelu_bandwidth * upstream).sum(dim=0)


def activations(objective, pre, log_threshold):
    """Return the dense activations of an objective, and its penalty."""
    if objective == "topk":
        return torch.where(pre >= pre.topk(3, dim=1).values[:, -1:], pre, 0.0).relu(), 0.0
    if objective == "jumprelu":
        threshold = log_threshold.exp()
        step = Step.apply(pre, threshold)
        # z = pre * step; its pseudo-derivative in the threshold is that of threshold * step (the paper's equation 11)
        z = pre * step.detach() + threshold.detach() * (step - step.detach())
        return z, CONFIG.l0_coefficient * D_IN * (step.sum() / TOKENS / 3 - 1) ** 2
    return torch.where(pre >= pre.detach().flatten().topk(3 * TOKENS).values[-1], pre, 0.0).relu(), 0.0


def problem(objective):
    generator = torch.Generator().manual_seed(0)
    shapes = ((D_SAE, D_IN), (D_SAE, D_IN), (D_SAE,), (D_IN,))
    W_encT, W_dec, b_enc, b_dec = (torch.randn(shape, generator=generator) for shape in shapes)
    weights = Parameters(W_encT, F.normalize(W_dec, dim=1), b_enc, b_dec)
    x = torch.randn(TOKENS, D_IN, generator=generator)
    instance = OBJECTIVE_CLASSES[objective](replace(CONFIG, objective=objective), D_IN, CPU)
    instance.initialize((x - b_dec) @ W_encT.T + b_enc)
    return weights, x, instance


@pytest.mark.parametrize(
    ("dead", "dense"),
    [([], 8), ([2, 5, 7], 8), ([2, 5, 7, 11, 20, 23], 8), ([2, 5, 7, 11, 20, 23], 0), ([2, 5, 7], 0)],
    ids=["none dead", "few dead, dense", "some dead, dense", "some dead, sparse", "few dead, sparse"],
)
@pytest.mark.parametrize("name", OBJECTIVE_CLASSES)
def test_gradients_are_those_of_autograd(name, dead, dense, monkeypatch):
    monkeypatch.setattr(objectives, "DENSE_AUXK", dense)
    weights, x, objective = problem(name)
    pre = (x - weights.b_dec) @ weights.W_encT.T + weights.b_enc
    log_threshold = objective.log_threshold.clone() if name == "jumprelu" else torch.zeros(D_SAE)
    result = compute_gradients(weights, objective, x, pre, tensor(dead, dtype=torch.long), warmup=1.0)

    parameters = [tensor.clone().requires_grad_() for tensor in (*weights, log_threshold)]
    W_encT, W_dec, b_enc, b_dec, log_threshold = parameters
    pre = (x - b_dec) @ W_encT.T + b_enc
    z, penalty = activations(name, pre, log_threshold)
    ends = (6, 12, 24) if name == "matryoshka" else (24,)
    losses = [((z[:, :end] @ W_dec[:end] + b_dec - x) ** 2).sum() / TOKENS for end in ends]
    loss = sum(losses) / len(losses) + penalty
    residual = (x - z @ W_dec - b_dec).detach()
    if dead:
        strongest = pre[:, dead].topk(min(D_IN // 2, len(dead)), dim=1)
        aux = torch.zeros(TOKENS, len(dead)).scatter(1, strongest.indices, strongest.values.relu())
        loss = loss + CONFIG.auxk_alpha * ((aux @ W_dec[dead] - residual) ** 2).sum() / TOKENS
    loss.backward()
    W_dec.grad -= (W_dec.grad * W_dec).sum(dim=1, keepdim=True) * W_dec.detach()  # its rows keep their norm

    torch.testing.assert_close(result.error, -residual)
    for gradient, parameter in zip(result.gradients, parameters, strict=False):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-5, rtol=1e-4)
    assert len(result.gradients) == (5 if name == "jumprelu" else 4)


def dense(objective, pre):
    activations = objective.activate(pre)
    z = torch.zeros(pre.numel())
    z[activations.position] = activations.z
    return z.view(pre.shape).tolist()


def small(name):
    sizes = {"d_sae": 3, "k": 1, "training_tokens": 2, "train_batch_size_tokens": 2}
    config = SaeTrainingConfig(name, **sizes, group_fractions=(0.34, 1.0), jumprelu_bandwidth=0.1)
    return OBJECTIVE_CLASSES[name](config, 2, CPU)


PRE = tensor([[4.0, 3.0, -1.0], [1.0, 2.0, 0.5]])


def test_topk_keeps_one_of_each_token_and_batchtopk_two_of_both():
    assert dense(small("topk"), PRE) == [[4, 0, 0], [0, 2, 0]]
    assert dense(small("batchtopk"), PRE) == [[4, 3, 0], [0, 0, 0]]


def test_auxk_takes_half_the_width_but_not_more_than_the_config_allows():
    def latents(preset):
        return [OBJECTIVE_CLASSES["topk"](preset, d_in, CPU).auxk_latents for d_in in (384, 1024, 4096)]

    assert latents(TRAINING_PRESETS["topk"]) == [192, 512, 512]
    assert latents(TRAINING_PRESETS["paper"]) == [192, 512, 2048]


def test_latents_that_are_not_positive_never_fire():
    assert dense(small("topk"), -PRE) == [[0, 0, 1], [0, 0, 0]]
    assert dense(small("batchtopk"), -PRE) == [[0, 0, 1], [0, 0, 0]]


def test_jumprelu_starts_with_an_l0_of_k():
    jumprelu = small("jumprelu")
    jumprelu.initialize(PRE)
    assert jumprelu.threshold().tolist() == pytest.approx([3, 3, 3])
    assert dense(jumprelu, tensor([[4.0, 2.9, 0.0], [0.0, 0.0, 3.5]])) == [[4, 0, 0], [0, 0, 3.5]]


def test_batchtopk_s_threshold_is_the_running_mean_of_the_smallest():
    batchtopk = small("batchtopk")
    batchtopk.activate(PRE)
    assert batchtopk.threshold().item() == 3
    batchtopk.activate(2 * PRE)
    assert batchtopk.threshold().item() == pytest.approx(0.9 * 3 + 0.1 * 6)


def test_matryoshka_s_groups_are_nested_prefixes():
    assert small("matryoshka").group_of_latent.tolist() == [0, 1, 1]
    assert small("batchtopk").group_of_latent.tolist() == [0, 0, 0]


@pytest.mark.parametrize("lower_bound", [0.0, 2.5, 9.0])
def test_the_lower_bound_does_not_change_the_result(lower_bound):
    positions, values = batch_topk(PRE, 3, lower_bound)
    assert (positions.tolist(), values.tolist()) == ([0, 1, 4], [4, 3, 2])
