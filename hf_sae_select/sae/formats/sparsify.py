"""EleutherAI's sparsify: one folder per hookpoint, named after it, with `cfg.json` and `sae.safetensors`.

Source: sparsify 1.3.3 (sparsify/sparse_coder.py). The encoder subtracts `b_dec` from its input, unless it transcodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .format import ConfigFile, Format
from .layout import Layout, StoredTensor, same_names
from .published import Published

# Base models of repos without the training run's config.json, by the repo's name.
MODELS = (
    (r"llama-3\.1-8b", "meta-llama/Llama-3.1-8B"),
    (r"llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
    (r"(DeepSeek-R1-Distill-Qwen-[\d.]+B)", r"deepseek-ai/\1"),
    (r"(pythia-\d+[mb](?:-deduped)?)", r"EleutherAI/\1"),
    (r"(SmolLM2-\d+M)", r"HuggingFaceTB/\1"),
)
TENSORS = {
    "W_enc": StoredTensor("encoder.weight", transpose=True),
    "b_enc": StoredTensor("encoder.bias"),
    **same_names("W_dec", "b_dec"),
}


def read(published: Published) -> Layout:
    """Read a sparsify config. The training run's config at the root of the repo names the base model."""
    cfg = published.config
    transcodes = bool(cfg.get("transcode"))
    d_in, d_sae = published.matrix_shape(TENSORS["W_enc"])
    num_latents = cfg.get("num_latents") or (cfg.get("expansion_factor") or 0) * cfg.get("d_in", 0) or None
    config = published.sae_config(
        d_in=published.check_size("d_in", cfg.get("d_in"), d_in),
        d_sae=published.check_size("num_latents", num_latents, d_sae),
        activation=_activation(cfg),
        k=published.require("k"),
        model=published.override_or("model", lambda: _model(published)),
        hook=published.override_or("hook", lambda: _hook(published)),
        side="input" if transcodes else "output",
        d_out=published.matrix_shape(TENSORS["W_dec"])[1] if transcodes else None,
        skip=bool(cfg.get("skip_connection")),
        context_size=cfg.get("ctx_len"),
        prepend_bos=False,  # sparsify trains on concatenated documents, separated by EOS
    )
    skip = same_names("W_skip") if config.skip else {}
    return Layout(config, TENSORS | skip, subtract_b_dec=not transcodes)


def _activation(cfg: Mapping[str, Any]) -> str:
    name = cfg.get("activation") or "topk"  # older files lack it
    if name not in ("topk", "groupmax"):
        raise ValueError(f"unknown `activation={name!r}`; choose one of: topk, groupmax")
    return "abstopk" if cfg.get("signed") else str(name)


def _model(published: Published) -> str:
    name = published.config.get("model")
    return name if isinstance(name, str) else published.search_model(MODELS)


def _hook(published: Published) -> str:
    """Return the name of the SAE's folder, or of the one above it if several seeds were trained."""
    folders = f"{published.repo}/{published.path}".split("/")[:-1]
    name = next(folder for folder in reversed(folders) if not re.fullmatch(r"seed\d+", folder))
    if not re.search(r"\.\d+(\.|$)|embed", name):
        raise ValueError(
            f"the folder of `{published.path}` does not name the module that the SAE reads; pass it with "
            "`config={'hook': ...}`, such as 'layers.12'"
        )
    return name


SPARSIFY = Format(
    name="sparsify",
    weights=r"(?:(?P<name>.+)/)?sae\.safetensors",
    read=read,
    config_files=(ConfigFile("cfg.json"), ConfigFile("config.json", optional=True, at_root=True)),
    options=frozenset({"activation", "signed"}),
)
