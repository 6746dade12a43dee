"""EleutherAI's sparsify: a folder per hookpoint with `cfg.json` and `sae.safetensors`; the folder's name is the hook.

Source: sparsify 1.3.3 (sparsify/sparse_coder.py). The decoder's bias is subtracted first, unless it transcodes.
"""

from __future__ import annotations

import re
from typing import Any

from .layout import Format, Layout, Published, named_model

# The base model of a repo whose top lacks the training run's config.json, from the repo's name.
MODELS = (
    (r"llama-3\.1-8b", "meta-llama/Llama-3.1-8B"),
    (r"llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
    (r"(DeepSeek-R1-Distill-Qwen-[\d.]+B)", r"deepseek-ai/\1"),
    (r"(pythia-\d+[mb](?:-deduped)?)", r"EleutherAI/\1"),
    (r"(SmolLM2-\d+M)", r"HuggingFaceTB/\1"),
)


def read(published: Published) -> Layout:
    """Read a sparsify config; the base model is that of the training run's config at the top of the repo."""
    cfg = published.config
    transcodes = bool(cfg.get("transcode"))
    d_in, d_sae = published.size("encoder.weight", 1), published.size("encoder.weight", 0)
    stated = cfg.get("num_latents") or (cfg.get("expansion_factor") or 0) * cfg.get("d_in", 0) or None
    config = published.made(
        d_in=published.agreed("d_in", cfg.get("d_in"), d_in),
        d_sae=published.agreed("num_latents", stated, d_sae),
        activation=_activation(cfg),
        k=published.need("k"),
        model=published.said("model", lambda: _model(published)),
        hook=published.said("hook", lambda: _hook(published)),
        side="input" if transcodes else "output",
        d_out=published.size("W_dec", 1) if transcodes else None,
        skip=bool(cfg.get("skip_connection")),
        context_size=cfg.get("ctx_len"),
        prepend_bos=False,  # it trains on documents strung together, with an EOS between them
    )
    names = {"W_enc": "encoder.weight.T", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}
    if config.skip:
        names["W_skip"] = "W_skip"
    return Layout(config, names, subtract_b_dec=not transcodes)


def _activation(cfg: Any) -> str:
    name = cfg.get("activation") or "topk"  # older files do not say
    if name not in ("topk", "groupmax"):
        raise ValueError(f"unknown `activation={name!r}`; known: topk, groupmax")
    return "abstopk" if cfg.get("signed") else str(name)


def _model(published: Published) -> str:
    if isinstance(named := published.config.get("model"), str):
        return named
    return named_model(published, MODELS)


def _hook(published: Published) -> str:
    """Return the name of the folder that the SAE lies in, or the one above where several seeds were trained."""
    folders = f"{published.repo}/{published.path}".split("/")[:-1]
    name = next(folder for folder in reversed(folders) if not re.fullmatch(r"seed\d+", folder))
    if not re.search(r"\.\d+(\.|$)|embed", name):
        raise ValueError(
            f"`{published.path}` lies in no folder that says which module it reads; say it with "
            "`config={'hook': ...}`, such as 'layers.12'"
        )
    return name


SPARSIFY = Format(
    "sparsify",
    r"(?:(?P<name>.+)/)?sae\.safetensors",
    read,
    ("cfg.json", "/config.json?"),
    options=frozenset({"activation", "signed"}),
)
