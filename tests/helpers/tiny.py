"""Tiny random transformers and a tokenizer of whole words, made on the spot."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2Model,
    Gemma3Config,
    Gemma3Model,
    Gemma3TextConfig,
    Gemma3TextModel,
    GemmaConfig,
    GemmaModel,
    GPT2Config,
    GPT2Model,
    GPTNeoXConfig,
    GPTNeoXModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
    SiglipVisionConfig,
)

from hf_sae_select import SaeConfig, SparseAutoencoder

WORDS = "the a cat dog bird sat ran flew on under over mat log moon and then it was red blue green big small".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = {word: i for i, word in enumerate(SPECIAL + WORDS)}
SIZES = {"vocab_size": len(VOCABULARY), "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 16}
HEADS = {"num_key_value_heads": 2, "head_dim": 8}

# kind -> (model class, config, path of layer i, name of the final norm or None)
MODELS = {
    "bert": (BertModel, BertConfig(**SIZES), "encoder.layer.{}", None),
    "llama": (LlamaModel, LlamaConfig(**SIZES, **HEADS), "layers.{}", "norm"),
    "gemma": (Gemma2Model, Gemma2Config(**SIZES, **HEADS), "layers.{}", "norm"),
    "gpt2": (
        GPT2Model,
        GPT2Config(vocab_size=len(VOCABULARY), n_embd=16, n_layer=3, n_head=2, n_positions=16),
        "h.{}",
        "ln_f",
    ),
}
TEXT = Gemma3TextConfig(**SIZES, **HEADS)
EYES = SiglipVisionConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=28
)
# Families whose hooks are looked up: like MODELS, without the norm.
MORE = {
    "gemma1": (GemmaModel, GemmaConfig(**SIZES, **HEADS), "layers.{}"),
    "gemma3": (Gemma3TextModel, TEXT, "layers.{}"),
    "gemma3 with eyes": (Gemma3Model, Gemma3Config(text_config=TEXT, vision_config=EYES), "language_model.layers.{}"),
    "mistral": (MistralModel, MistralConfig(**SIZES, **HEADS), "layers.{}"),
    "qwen2": (Qwen2Model, Qwen2Config(**SIZES, num_key_value_heads=2), "layers.{}"),
    "qwen3": (Qwen3Model, Qwen3Config(**SIZES, **HEADS), "layers.{}"),
    "neox": (GPTNeoXModel, GPTNeoXConfig(**SIZES), "layers.{}"),
    "neox, serial": (GPTNeoXModel, GPTNeoXConfig(**SIZES, use_parallel_residual=False), "layers.{}"),
    "roberta": (RobertaModel, RobertaConfig(**SIZES | {"max_position_embeddings": 20}), "encoder.layer.{}"),
}


def tokenizer(frame="[CLS] $A [SEP]"):
    """Split at spaces; put the special tokens of `frame` around the text."""
    backend = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(token, VOCABULARY[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single=frame, special_tokens=special)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=16, **names)


def model(kind):
    """Return a random model whose weights are large enough that tokens differ."""
    torch.manual_seed(0)
    made, config = (MODELS | MORE)[kind][:2]
    made = made(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5)
    return made


def save(kind, folder, **options):
    """Save a model and its tokenizer into `folder`, as a Hub repo holds them."""
    model(kind).save_pretrained(folder)
    tokenizer(**options).save_pretrained(folder)
    return folder


def sae(config):
    """Return an SAE of random weights, its thresholds above 0."""
    made = SparseAutoencoder(config).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in made.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if name == "threshold":
            parameter.abs_()
    return made


def sae_on(bert):
    """Return a random jumprelu SAE with 32 latents on the second layer of a tiny BERT in a folder."""
    return sae(SaeConfig(16, 32, "jumprelu", model=str(bert), hook="encoder.layer.1", feature_threshold=0.5))
