"""What `paper_experiment.py --tiny` uses: settings, instructions and a model."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset
from quickstart import documented
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_sae_select import TRAINING_PRESETS

# None stands for the instructions and the model of this file.
TINY = {"data": None, "ifeval": None, "alpaca_eval": None, "base": None, "budgets": [8, 16], "held_out": 8}
TINY |= {"epochs": 1, "max_new_tokens": 16}
TINY_SAE = replace(
    TRAINING_PRESETS["paper"],
    d_sae=256,
    k=8,
    training_tokens=2048,
    train_batch_size_tokens=256,
    buffer_tokens=1024,
    learning_rate=1e-3,
)


def from_library(*modules: str) -> Dataset:
    """Make instructions from the docstrings of modules of Python's standard library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    docstrings = dict(pair for name in modules for pair in documented(library / f"{name}.py", name))
    instructions = [f"What is `{name}` of Python's standard library for?" for name in docstrings]
    return Dataset.from_dict({"instruction": instructions, "output": list(docstrings.values())})


def save_tiny_model(folder: Path, texts: Sequence[str]) -> None:
    """Save a random Llama of two layers, with a tokenizer trained on the texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    letters, special = pre_tokenizers.ByteLevel.alphabet(), ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=letters, vocab_size=512)
    backend.train_from_iterator(texts, trainer)
    names = {"bos_token": "<s>", "eos_token": "</s>", "model_input_names": ["input_ids", "attention_mask"]}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"vocab_size": backend.get_vocab_size(), "bos_token_id": 0, "eos_token_id": 1}
    LlamaForCausalLM(LlamaConfig(**sizes, **tokens)).save_pretrained(folder)
