"""The pieces of encoding, each alone: the SAE's product and maximum, and the language model's forward pass."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

import torch
from torch import nn

from hf_sae_select import SaeConfig
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.sae import model as sae_model
from hf_sae_select.sae.products import PRECISIONS, SplitProduct

from .bench import Bench, Figures
from .shapes import Shape, model_of, sae_of, tokenizer_of


def measure(bench: Bench) -> None:
    """Measure the small before the large: what has no time left is what matters less."""
    sizes = bench.sizes
    d_in, tokens = sizes.models[sizes.main].d_in, sizes.passes[-2:][0]
    for d_sae in sizes.latents:
        for precision in PRECISIONS:
            for length in sizes.segments:
                pooled(bench, d_in, d_sae, "jumprelu", precision, length, tokens, sizes.floats[len(sizes.floats) // 2])
        pooled(bench, d_in, d_sae, "topk", "float32", sizes.segments[0], tokens, sizes.floats[0])
    for floats in sizes.floats:
        pooled(bench, d_in, sizes.latents[1], "jumprelu", "float32", sizes.segments[0], tokens, floats)
    for name, shape in sizes.models.items():
        usual = model_of(shape, torch.device("meta")).config._attn_implementation
        forward(bench, name, shape, usual, sizes.passes)
        if usual != "eager":
            forward(bench, name, shape, "eager", sizes.passes[-2:-1])


def pooled(
    bench: Bench, d_in: int, d_sae: int, activation: str, precision: str, length: int, tokens: int, floats: int
) -> None:
    """Measure `encode_max`: microseconds a token, the share of the roof of its precision, and the memory."""

    def figures() -> Figures:
        states = bench.normal(tokens, d_in).bfloat16()
        k = min(64, d_sae // 4) if activation == "topk" else None
        sae = sae_of(SaeConfig(d_in, d_sae, activation, model="m", hook="h", k=k), states)
        product = None if precision == "float32" else SplitProduct(sae.W_enc, precision)
        x = states.float() if product is None else states
        lengths = [length] * (tokens // length) + ([tokens % length] if tokens % length else [])
        name = "GPU_CHUNK_FLOATS" if bench.is_cuda else "CHUNK_FLOATS"
        with patch.object(sae_model, name, floats):
            took = bench.median(lambda: sae.encode_max(x, lengths, product))
        peak = bench.peak_mb()  # before the roof is measured
        roof = 2 * tokens * d_in * d_sae / took / bench.roof(precision)
        return {"us/token": 1e6 * took / tokens, "of roof": f"{roof:.0%}", "peak MB": peak}

    settings = {"d_sae": d_sae, "activation": activation, "precision": precision, "tokens a row": length}
    bench.measure("product and maximum", figures, **settings, floats=floats)


def forward(bench: Bench, name: str, shape: Shape, attention: str, passes: tuple[int, ...]) -> None:
    """Measure forward passes of several numbers of tokens, with and without a mask."""
    model: LanguageModel | None = None

    @torch.no_grad()
    def figures(tokens: int, masked: bool) -> Figures:
        nonlocal model
        if model is None:
            backbone = model_of(shape, bench.device, attn_implementation=attention)
            model = LanguageModel(backbone, tokenizer_of(shape), shape.hook, device=bench.device)
        length = min(512, tokens)
        ids = torch.randint(2, shape.config.vocab_size, (tokens // length, length), device=bench.device)
        mask = torch.ones_like(ids) if masked else None
        took = bench.median(lambda: model._run(ids, mask))
        peak = bench.peak_mb()
        share = 2 * tokens * weights_of(model.model) / took / bench.roof("bfloat16, plain")
        return {"us/token": 1e6 * took / tokens, "of roof": f"{share:.0%}", "peak MB": peak}

    for tokens in passes:
        for masked in (False, True):
            settings = {"model": name, "attention": attention, "mask": masked, "tokens": tokens}
            bench.measure("forward", partial(figures, tokens, masked), **settings)


def weights_of(model: nn.Module) -> int:
    """Count the weights that a token is multiplied with."""
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
