"""Models, SAEs and texts of given sizes, with random numbers in them: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoModel, Gemma2Config, LlamaConfig, PreTrainedTokenizerFast

from hf_sae_select import SaeConfig, SparseAutoencoder

Product = tuple[int, int, int]  # rows, d_in, d_sae
L0 = 64  # features that fire on a token


class Shape(NamedTuple):
    """A language model up to the layer that its SAE reads, the last one that it has here."""

    config: Any
    d_in: int

    @property
    def hook(self) -> str:
        return f"layers.{self.config.num_hidden_layers - 1}"


class Sizes(NamedTuple):
    """How large all is that one run measures."""

    warm_up: int
    repeats: int
    products: tuple[Product, ...]
    copies: int  # floats
    models: dict[str, Shape]
    main: str  # the model of `encode` and `equal`
    latents: tuple[int, ...]
    floats: tuple[int, ...]  # of pre-activations computed at once
    passes: tuple[int, ...]  # tokens of a forward pass
    segments: tuple[int, ...]  # tokens of a row
    rows: dict[int, int]  # mean tokens of a row -> rows to encode
    compared: int  # rows of which codes are compared
    training: tuple[tuple[int, int, int], ...]  # d_in, d_sae, k
    batches: tuple[int, ...]  # tokens of a step
    steps: int
    pool: int  # rows to select from


def llama(hidden: int, intermediate: int, heads: int, layers: int, vocabulary: int = 32_000) -> Shape:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        num_hidden_layers=layers,
        max_position_embeddings=8192,
    )
    return Shape(config, hidden)


def gemma(hidden: int, intermediate: int, heads: int, layers: int, vocabulary: int = 32_000) -> Shape:
    config = Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=256 if heads == 8 else 8,
        num_hidden_layers=layers,
        max_position_embeddings=8192,
    )
    return Shape(config, hidden)


FULL = Sizes(
    warm_up=3,
    repeats=10,
    products=((4096, 2048, 65_536), (16_384, 2048, 65_536), (16_384, 4096, 131_072)),
    copies=2**28,
    # half of the layers: of Llama 3.2 1B, of Gemma 2 2B and of Llama 3.1 8B
    models={"1B": llama(2048, 8192, 32, 9), "2B": gemma(2304, 9216, 8, 13), "8B": llama(4096, 14_336, 32, 17)},
    main="1B",
    latents=(16_384, 65_536, 131_072, 2**20),
    floats=(2**26, 2**28, 2**30),
    passes=(1024, 4096, 16_384, 65_536),
    segments=(73, 512, 4096),
    rows={73: 8000, 400: 1500, 2000: 300},
    compared=512,
    training=((2304, 16_384, 32), (2304, 131_072, 64), (4096, 131_072, 128)),
    batches=(4096, 16_384, 32_768),
    steps=200,
    pool=100_000,
)
TINY = Sizes(
    warm_up=0,
    repeats=1,
    products=((256, 16, 64),),
    copies=2**12,
    models={"1B": llama(16, 32, 2, 2, 64), "2B": gemma(16, 32, 2, 2, 64)},
    main="1B",
    latents=(64, 128),
    floats=(2**14,),
    passes=(32, 64),
    segments=(7, 300),
    rows={12: 24},
    compared=12,
    training=((16, 64, 4),),
    batches=(64,),
    steps=8,
    pool=200,
)


def model_of(shape: Shape, device: torch.device, **options: Any) -> Any:
    """Return a model with random weights in bfloat16 on a device."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModel.from_config(shape.config, dtype=torch.bfloat16, **options)


def tokenizer_of(shape: Shape) -> Any:
    """Return a tokenizer that splits at spaces; the words are `w2`, `w3` and so on."""
    vocabulary = {"[PAD]": 0, "[BOS]": 1, **{f"w{i}": i for i in range(2, shape.config.vocab_size)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 1)])
    names = {"pad_token": "[PAD]", "bos_token": "[BOS]"}
    longest = shape.config.max_position_embeddings
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=longest, **names)


def save(shape: Shape, folder: Path, device: torch.device) -> Path:
    """Write a model and its tokenizer as a Hub repo holds them."""
    model_of(shape, device).save_pretrained(folder)
    tokenizer_of(shape).save_pretrained(folder)
    return folder


def texts_of(shape: Shape, rows: int, mean: int, seed: int = 0) -> list[str]:
    """Draw texts of lognormal lengths; a word is a token."""
    rng = np.random.default_rng(seed)
    sigma = 0.6
    lengths = np.clip(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, rows), 2, 8000).astype(int)
    words = rng.integers(2, shape.config.vocab_size, lengths.sum()).astype(str)
    return [" ".join(f"w{word}" for word in row) for row in np.split(words, np.cumsum(lengths)[:-1])]


def sae_of(config: SaeConfig, states: Tensor) -> SparseAutoencoder:
    """Return the encoder of a random SAE whose thresholds let `L0` features fire on a token, by some states."""
    device = states.device
    generator = torch.Generator(device).manual_seed(0)
    weights = torch.randn(config.d_in, config.d_sae, device=device, generator=generator) / config.d_in**0.5
    tensors = {"W_enc": weights, "b_enc": torch.zeros(config.d_sae, device=device)}
    if config.activation == "jumprelu":
        pre = states[:256].float() @ weights
        threshold = pre.topk(min(L0, config.d_sae // 4), dim=1).values[:, -1].median()
        tensors["threshold"] = threshold.clamp(min=0).expand(config.d_sae).clone()
    return SparseAutoencoder.from_tensors(config, tensors)
