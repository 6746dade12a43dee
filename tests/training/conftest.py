import pytest
import torch
from helpers import tiny
from transformers import LlamaForCausalLM


@pytest.fixture
def after_every_buffer(monkeypatch):
    """A checkpoint is due as soon as a buffer is used up."""
    monkeypatch.setattr("hf_sae_select.training.checkpoint_schedule.INTERVAL", 0)


@pytest.fixture
def llama(tmp_path):
    """A tiny Llama with its head in a folder."""
    torch.manual_seed(0)
    LlamaForCausalLM(tiny.MODELS["llama"][1]).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    return tmp_path
