"""Cross-entropy with the vectors at a hook replaced, on tiny models with a head."""

import pytest
import torch
from helpers import families, tiny
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, GPT2LMHeadModel, LlamaForCausalLM

from hf_sae_select.training.cross_entropy import CausalLanguageModel

TEXTS = ["the cat sat on the mat", "a dog ran"]


def language_model(kind, hook, **options):
    torch.manual_seed(0)
    if kind in tiny.MODELS:
        model = {"llama": LlamaForCausalLM, "gpt2": GPT2LMHeadModel}[kind](tiny.MODELS[kind][1])
    else:
        model = AutoModelForCausalLM.from_config(families.config(kind))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5)
    return CausalLanguageModel(model, tiny.tokenizer(), hook, **options)


HOOKS = [
    ("llama", "blocks.1.hook_resid_post", {}),
    ("llama", "layers.1", {"side": "input"}),
    ("gpt2", "h.1", {}),
    ("gpt2", "transformer.h.1", {}),
    ("gpt2", "blocks.1.attn.hook_z", {}),
    ("opt", "blocks.1.hook_resid_mid", {}),  # where it has the windows in a row
    ("openai-gpt", "blocks.1.hook_resid_post", {}),  # whose layers return a list
]


@pytest.mark.parametrize(("kind", "hook", "options"), HOOKS)
def test_vectors_replaced_by_themselves_change_nothing(kind, hook, options):
    lm = language_model(kind, hook, **options)
    windows = lm.windows(TEXTS)
    assert lm.cross_entropy(windows, lambda x: x) == pytest.approx(lm.cross_entropy(windows), rel=1e-5)


@pytest.mark.parametrize(("kind", "hook", "options"), HOOKS)
def test_vectors_of_text_tokens_are_replaced_and_no_others(kind, hook, options):
    lm = language_model(kind, hook, **options)
    seen = []
    lm.cross_entropy(lm.windows(TEXTS), lambda x: seen.append(x.shape) or x * 0)
    assert seen == [(6, lm.width), (3, lm.width)]
    assert lm.cross_entropy(lm.windows(TEXTS), lambda x: x * 0) != pytest.approx(lm.cross_entropy(lm.windows(TEXTS)))


def test_the_loss_is_that_of_the_text_tokens():
    lm = language_model("llama", "layers.1")
    (window,) = lm.windows(["the cat sat"])  # [CLS] the cat sat [SEP]
    ids = torch.tensor([window.ids])
    with torch.no_grad():
        logits = lm.model(input_ids=ids).logits[0]
    expected = F.cross_entropy(logits[:3], ids[0, 1:4])
    assert lm.cross_entropy([window]) == pytest.approx(expected.item(), rel=1e-5)


def test_without_a_token_to_predict_there_is_an_error():
    lm = language_model("llama", "layers.1", prepend_bos=False)
    with pytest.raises(ValueError, match="no token that follows another one"):
        lm.cross_entropy(lm.windows(["", "cat"])[:0])


def test_vectors_that_an_sae_does_not_read_are_not_replaced():
    lm = language_model("llama", "layers.1", max_norm_ratio=1.0)
    windows = lm.windows(TEXTS)
    read, replaced = sum(len(states) for _, states in lm.states(windows)), []
    lm.cross_entropy(windows, lambda x: replaced.append(len(x)) or x)
    assert read == sum(replaced) < 9
