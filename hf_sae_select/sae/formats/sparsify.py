"""EleutherAI's sparsify: one folder per hookpoint, named after it, with `cfg.json` and `sae.safetensors`.

Source: sparsify 1.3.3 (sparsify/sparse_coder.py). The encoder subtracts `b_dec` from its input, unless it transcodes.
The package latent-sae saves its top-k SAEs in the same way. They encode embeddings of whole texts, and their files
name neither a model nor a module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..._validation import is_number
from .format import ConfigFile, Format
from .layout import Layout, StoredTensor, same_names
from .published import MissingValueError, Published

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
    transcodes = published.flag("transcode", False)
    d_in, d_sae = published.matrix_shape(TENSORS["W_enc"])
    published.check_size("d_in", cfg.get("d_in"), d_in)
    config = published.sae_config(
        d_in=d_in,
        d_sae=published.check_size("num_latents", _num_latents(cfg, d_in), d_sae),
        activation=_activation(published),
        k=published.override_or("k", lambda: published.require("k")),
        model=published.override_or("model", lambda: _model(published)),
        hook=published.override_or("hook", lambda: _hook(published)),
        side="input" if transcodes else "output",
        d_out=published.matrix_shape(TENSORS["W_dec"])[1] if transcodes else None,
        skip=published.flag("skip_connection", False),
        context_size=cfg.get("ctx_len"),
        prepend_bos=False,  # sparsify trains on concatenated documents, separated by EOS
    )
    skip = same_names("W_skip") if config.skip else {}
    return Layout(config, TENSORS | skip, subtract_b_dec=not transcodes)


def _num_latents(cfg: Mapping[str, Any], d_in: int) -> Any:
    factor = cfg.get("expansion_factor")
    return cfg.get("num_latents") or (factor * d_in if is_number(factor) and factor else None)


def _activation(published: Published) -> str:
    cfg = published.config
    if (kind := cfg.get("sae_type", "topk")) != "topk":
        raise ValueError(f"`sae_type={kind!r}` is not supported; only top-k SAEs of latent-sae are")
    name = cfg.get("activation") or "topk"  # older files lack it
    if name not in ("topk", "groupmax"):
        raise ValueError(f"unknown `activation={name!r}`; choose one of: topk, groupmax")
    return "abstopk" if published.flag("signed", False) else str(name)


def _model(published: Published) -> str:
    # The config of a training run of another library may be a mapping.
    name = published.config.get("model")
    return name if isinstance(name, str) else published.search_model(MODELS)


def _hook(published: Published) -> str:
    """Return the name of the SAE's folder, or of the one above it if several seeds were trained."""
    folders = f"{published.repo}/{published.path}".split("/")[:-1]
    name = next((folder for folder in reversed(folders) if not re.fullmatch(r"seed\d+", folder)), "")
    if not re.search(r"\.\d+(\.|$)|embed", name):
        raise MissingValueError(f"the folder of `{published.path}` does not name the module that the SAE reads")
    return name


SPARSIFY = Format(
    name="sparsify",
    weights=r"(?:(?P<name>.+)/)?sae\.safetensors",
    read=read,
    config_files=(ConfigFile("cfg.json", optional=True), ConfigFile("config.json", optional=True, at_root=True)),
    required_tensors=frozenset({"encoder.weight", "encoder.bias", "W_dec"}),
    options=frozenset({"activation", "signed", "transcode", "skip_connection"}),
)
