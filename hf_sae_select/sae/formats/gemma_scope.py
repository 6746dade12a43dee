"""Google's Gemma Scope 1 (`params.npz`) and 2 (`params.safetensors`): JumpReLU without a pre-encoder bias.

Source: arXiv 2408.05147 and the repos' README files. Windows must begin with BOS, whose own vector is not read. The
transcoders of Gemma Scope 1 read the residual stream before the MLP divided by its root mean square, without the gain
of the norm.
"""

from __future__ import annotations

import math
import re

from .format import ConfigFile, Format
from .layout import Layout, StoredTensor
from .names import split_side
from .published import Published

NAMES = {"w_enc": "W_enc", "w_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}
SKIP = StoredTensor("affine_skip_connection", transpose=True)


def read_1(published: Published) -> Layout:
    """Read a Gemma Scope 1 SAE. Names contain all that its weights do not."""
    size, kind = _model_and_kind(published)
    tensors = {ours: StoredTensor(ours) for ours in NAMES.values()}
    tensors |= {NAMES[name.lower()]: StoredTensor(name) for name in published.shapes if name.lower() in NAMES}
    d_in, d_sae = published.matrix_shape(tensors["W_enc"])
    embedding = kind == "res" and "embedding" in published.path
    layer = "" if embedding else published.search_names(r"layer_(\d+)", "the layer")
    hooks = {
        "res": f"blocks.{layer}.hook_resid_post",
        "mlp": f"blocks.{layer}.hook_mlp_out",
        "att": f"blocks.{layer}.attn.hook_z",
        "transcoders": f"blocks.{layer}.hook_resid_mid",
    }
    l0 = re.search(r"average_l0_(\d+)", published.path)
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="jumprelu",
        model=f"google/gemma-2-{size}",
        hook="hook_embed" if embedding else hooks[kind],
        input_norm="rms" if kind == "transcoders" else "none",
        d_out=d_in if kind == "transcoders" else None,
        l0=float(l0[1]) if l0 else None,
        context_size=1024,
        prepend_bos=True,
    )
    # It was trained on rows of the embedding matrix, which the module in transformers multiplies by sqrt(d_in).
    root = math.sqrt(d_in)
    scale = {"W_enc": 1 / root, "W_dec": root, "b_dec": root} if embedding else {}
    return Layout(config, tensors, scale=scale)


def _model_and_kind(published: Published) -> tuple[str, str]:
    match = re.search(r"gemma-scope-(\w+?)-(pt|it)-(res|mlp|att|transcoders)", published.repo)
    if match is None:
        raise ValueError(
            f"the repo's name {published.repo!r} does not contain the model and the hook, as `gemma-scope-2b-pt-res` "
            "does; rename the local folder to the repo's original name"
        )
    return match[1] + ("-it" if match[2] == "it" else ""), match[3]


def read_2(published: Published) -> Layout:
    """Read a Gemma Scope 2 SAE or transcoder. Without a config, names contain what it would."""
    cfg = published.config
    if (architecture := cfg.get("architecture", "jump_relu")) != "jump_relu":
        raise ValueError(f"unknown `architecture={architecture!r}`; choose one of: jump_relu")
    if "crosscoder" in published.path or "/clt" in f"/{published.path}":
        raise ValueError(
            f"`{published.path}` is a crosscoder or cross-layer transcoder, which reads several layers at once; only "
            "encoders of one layer are supported"
        )
    transcoder = "transcoder" in published.path
    hook = published.override_or("hook", lambda: str(cfg.get("hf_hook_point_in") or _hook(published)))
    hook, side = split_side(hook)
    skip = SKIP.name in published.shapes
    tensors = {ours: StoredTensor(name) for name, ours in NAMES.items()} | ({"W_skip": SKIP} if skip else {})
    d_in, d_sae = published.matrix_shape(tensors["W_enc"])
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="jumprelu",
        model=published.override_or("model", lambda: _model(published)),
        hook=hook,
        side=side,
        d_out=published.matrix_shape(tensors["W_dec"])[1] if transcoder else None,
        skip=skip,
        l0=cfg.get("l0"),
        context_size=1024,
        prepend_bos=True,
    )
    return Layout(config, tensors)


def _hook(published: Published) -> str:
    layer = published.search_names(r"layer_(\d+)", "the layer")
    hooks = {
        "transcoder": "pre_feedforward_layernorm.output",
        "attn_out": "self_attn.o_proj.input",
        "mlp_out": "post_feedforward_layernorm.output",
        "resid_post": "output",
    }
    kind = published.search_names("(" + "|".join(hooks) + ")", "the hook")
    return f"model.layers.{layer}.{hooks[kind]}"


def _model(published: Published) -> str:
    match = re.search(r"gemma-scope-2-(\w+)-(pt|it)", published.repo)
    name = f"gemma-3-{match[1]}-{match[2]}" if match else published.require("model_name")
    name = str(name).removeprefix("google/").replace("-v3", "-3")
    # The smallest base model has no suffix on the Hub.
    return "google/" + (name.removesuffix("-pt") if "270m" in name else name)


GEMMA_SCOPE_1 = Format(name="gemma_scope_1", weights=r"(?:(?P<name>.+)/)?params\.npz", read=read_1)
GEMMA_SCOPE_2 = Format(
    name="gemma_scope_2",
    weights=r"(?:(?P<name>.+)/)?params\.safetensors",
    read=read_2,
    config_files=(ConfigFile("config.json", optional=True),),
)
