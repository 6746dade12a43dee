"""What fires, and that the sparse gradients are those of autograd."""

from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.nn import functional as F

from hf_sae_select.training.config import SaeTrainingConfig
from hf_sae_select.training.objectives import RULES, Parameters, gradients, largest

D_IN, D_SAE, TOKENS = 8, 24, 40
CONFIG = SaeTrainingConfig(d_sae=D_SAE, k=3, tokens=TOKENS, batch=TOKENS, groups=(0.25, 0.5, 1.0), bandwidth=0.7)
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
        near = ((pre - threshold).abs() < CONFIG.bandwidth / 2).float()
        return torch.zeros_like(pre), (-near / CONFIG.bandwidth * upstream).sum(dim=0)


def activations(objective, pre, log_threshold):
    """Say plainly what each objective makes of `pre`, and its penalty."""
    if objective == "topk":
        return torch.where(pre >= pre.topk(3, dim=1).values[:, -1:], pre, 0.0).relu(), 0.0
    if objective == "jumprelu":
        threshold = log_threshold.exp()
        step = Step.apply(pre, threshold)
        # z = pre * step; its pseudo-derivative in the threshold is that of threshold * step (the paper's equation 11)
        z = pre * step.detach() + threshold.detach() * (step - step.detach())
        return z, CONFIG.sparsity * D_IN * (step.sum() / TOKENS / 3 - 1) ** 2
    return torch.where(pre >= pre.detach().flatten().topk(3 * TOKENS).values[-1], pre, 0.0).relu(), 0.0


def problem(objective):
    generator = torch.Generator().manual_seed(0)
    shapes = ((D_SAE, D_IN), (D_SAE, D_IN), (D_SAE,), (D_IN,))
    encT, dec, b_enc, b_dec = (torch.randn(shape, generator=generator) for shape in shapes)
    weights = Parameters(encT, F.normalize(dec, dim=1), b_enc, b_dec)
    x = torch.randn(TOKENS, D_IN, generator=generator)
    rule = RULES[objective](replace(CONFIG, objective=objective), D_IN, CPU)
    rule.begin((x - b_dec) @ encT.T + b_enc)
    return weights, x, rule


@pytest.mark.parametrize("dead", [[], [2, 5, 7, 11, 20, 23]], ids=["none dead", "some dead"])
@pytest.mark.parametrize("objective", RULES)
def test_gradients_are_those_of_autograd(objective, dead):
    weights, x, rule = problem(objective)
    pre = (x - weights.b_dec) @ weights.encT.T + weights.b_enc
    log_threshold = rule.log_threshold.clone() if objective == "jumprelu" else torch.zeros(D_SAE)
    ours, error, _ = gradients(weights, rule, x, pre, tensor(dead, dtype=torch.long), risen=1.0)

    theirs = [each.clone().requires_grad_() for each in (*weights, log_threshold)]
    encT, dec, b_enc, b_dec, log_threshold = theirs
    pre = (x - b_dec) @ encT.T + b_enc
    z, penalty = activations(objective, pre, log_threshold)
    ends = (6, 12, 24) if objective == "matryoshka" else (24,)
    losses = [((z[:, :end] @ dec[:end] + b_dec - x) ** 2).sum() / TOKENS for end in ends]
    loss = sum(losses) / len(losses) + penalty
    residual = (x - z @ dec - b_dec).detach()
    if dead:
        strongest = pre[:, dead].topk(D_IN // 2, dim=1)
        aux = torch.zeros(TOKENS, len(dead)).scatter(1, strongest.indices, strongest.values.relu())
        loss = loss + CONFIG.aux * ((aux @ dec[dead] - residual) ** 2).sum() / TOKENS
    loss.backward()
    dec.grad -= (dec.grad * dec).sum(dim=1, keepdim=True) * dec.detach()  # the decoder's rows keep their norm

    torch.testing.assert_close(error, -residual)
    for mine, plain in zip(ours, theirs, strict=False):
        torch.testing.assert_close(mine, plain.grad, atol=1e-5, rtol=1e-4)
    assert len(ours) == (5 if objective == "jumprelu" else 4)


def fired(rule, pre):
    found = rule.fire(pre)
    z = torch.zeros(pre.numel())
    z[found.place] = found.z
    return z.view(pre.shape).tolist()


def rule(objective):
    config = SaeTrainingConfig(objective, d_sae=3, k=1, tokens=2, batch=2, groups=(0.34, 1.0), bandwidth=0.1)
    return RULES[objective](config, 2, CPU)


PRE = tensor([[4.0, 3.0, -1.0], [1.0, 2.0, 0.5]])


def test_topk_keeps_one_of_each_token_and_batchtopk_two_of_both():
    assert fired(rule("topk"), PRE) == [[4, 0, 0], [0, 2, 0]]
    assert fired(rule("batchtopk"), PRE) == [[4, 3, 0], [0, 0, 0]]


def test_what_is_not_positive_never_fires():
    assert fired(rule("topk"), -PRE) == [[0, 0, 1], [0, 0, 0]]
    assert fired(rule("batchtopk"), -PRE) == [[0, 0, 1], [0, 0, 0]]


def test_jumprelu_begins_where_l0_is_k():
    jumprelu = rule("jumprelu")
    jumprelu.begin(PRE)
    assert jumprelu.threshold().tolist() == pytest.approx([3, 3, 3])
    assert fired(jumprelu, tensor([[4.0, 2.9, 0.0], [0.0, 0.0, 3.5]])) == [[4, 0, 0], [0, 0, 3.5]]


def test_batchtopk_s_threshold_is_the_running_mean_of_the_smallest():
    batchtopk = rule("batchtopk")
    batchtopk.fire(PRE)
    assert batchtopk.threshold().item() == 3
    batchtopk.fire(2 * PRE)
    assert batchtopk.threshold().item() == pytest.approx(0.9 * 3 + 0.1 * 6)


def test_matryoshka_s_groups_are_nested_prefixes():
    assert rule("matryoshka").group.tolist() == [0, 1, 1]
    assert rule("batchtopk").group.tolist() == [0, 0, 0]


@pytest.mark.parametrize("guess", [0.0, 2.5, 9.0])
def test_a_guess_changes_no_result(guess):
    places, values = largest(PRE, 3, guess)
    assert (places.tolist(), values.tolist()) == ([0, 1, 4], [4, 3, 2])
