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
from .published import MissingValueError, Published

NAMES = {"w_enc": "W_enc", "w_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}
SKIP = StoredTensor("affine_skip_connection", transpose=True)
REPO_1 = r"gemma-scope-(\w+?)-(pt|it)-(res|mlp|att|transcoders)"
HOOKS_1 = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z", "transcoders": "hook_resid_mid"}
HOOKS_2 = {
    "transcoder": "pre_feedforward_layernorm.output",
    "attn_out": "self_attn.o_proj.input",
    "mlp_out": "post_feedforward_layernorm.output",
    "resid_post": "output",
}


def read_1(published: Published) -> Layout:
    """Read a Gemma Scope 1 SAE. Names contain all that its weights do not."""
    tensors = {name: StoredTensor(name) for name in NAMES.values()}
    tensors |= {NAMES[name.lower()]: StoredTensor(name) for name in published.shapes if name.lower() in NAMES}
    d_in, d_sae = published.matrix_shape(tensors["W_enc"])
    hook = published.override_or("hook", lambda: _hook_1(published))
    # Only its transcoders read this place.
    transcoder = str(hook).endswith(HOOKS_1["transcoders"]) or "-transcoders" in published.repo
    l0 = re.search(r"average_l0_(\d+)", published.path)
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="jumprelu",
        model=published.override_or("model", lambda: _model_1(published)),
        hook=hook,
        input_norm="rms" if transcoder else "none",
        d_out=d_in if transcoder else None,
        l0=float(l0[1]) if l0 else None,
        context_size=1024,
        prepend_bos=True,
    )
    # It was trained on rows of the embedding matrix, which the module in transformers multiplies by sqrt(d_in).
    root = math.sqrt(d_in)
    scale = {"W_enc": 1 / root, "W_dec": root, "b_dec": root} if hook == "hook_embed" else {}
    return Layout(config, tensors, scale=scale)


def _repo_1(published: Published) -> re.Match[str]:
    if match := re.search(REPO_1, published.repo):
        return match
    raise MissingValueError(
        f"the repo's name {published.repo!r} does not contain the model and the hook, as `gemma-scope-2b-pt-res` does"
    )


def _model_1(published: Published) -> str:
    match = _repo_1(published)
    return f"google/gemma-2-{match[1]}{'-it' if match[2] == 'it' else ''}"


def _hook_1(published: Published) -> str:
    kind = _repo_1(published)[3]
    if kind == "res" and "embedding" in published.path:
        return "hook_embed"
    return f"blocks.{published.search_names('layer_([0-9]+)', 'the layer')}.{HOOKS_1[kind]}"


def read_2(published: Published) -> Layout:
    """Read a Gemma Scope 2 SAE or transcoder. Without a config, names contain what it would."""
    cfg = published.config
    _check_architecture(published)
    if "crosscoder" in published.path or "/clt/" in f"/{published.path}":
        raise ValueError(
            f"`{published.path}` is a crosscoder or a cross-layer transcoder in one file, which reads several layers; "
            "only encoders of one layer are supported"
        )
    transcoder = "transcoder" in published.path or cfg.get("hf_hook_point_out", "") not in (
        "",
        None,
        cfg.get("hf_hook_point_in"),
    )
    hook, side = split_side(str(published.override_or("hook", lambda: _hook_2(published))))
    skip = SKIP.name in published.shapes
    tensors = {name: StoredTensor(published_name) for published_name, name in NAMES.items()} | (
        {"W_skip": SKIP} if skip else {}
    )
    d_in, d_sae = published.matrix_shape(tensors["W_enc"])
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="jumprelu",
        model=published.override_or("model", lambda: _model_2(published)),
        hook=hook,
        side=side,
        d_out=published.matrix_shape(tensors["W_dec"])[1] if transcoder else None,
        skip=skip,
        l0=cfg.get("l0"),
        context_size=1024,
        prepend_bos=True,
    )
    return Layout(config, tensors)


def read_2_cross_layer(published: Published) -> Layout:
    """Read the encoder of one layer of a cross-layer transcoder: it reads this layer alone."""
    _check_architecture(published)
    tensors = {NAMES[name]: StoredTensor(name) for name in ("w_enc", "b_enc", "threshold")}
    d_in, d_sae = published.matrix_shape(tensors["W_enc"])
    hook, side = split_side(str(published.override_or("hook", lambda: _config_hook_2(published))))
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="jumprelu",
        model=published.override_or("model", lambda: _model_2(published)),
        hook=hook,
        side=side,
        d_out=d_in,
        context_size=1024,
        prepend_bos=True,
    )
    return Layout(config, tensors, ignored=frozenset({"w_dec", "b_dec", SKIP.name}))


def _check_architecture(published: Published) -> None:
    if (architecture := published.config.get("architecture", "jump_relu")) != "jump_relu":
        raise ValueError(f"unknown `architecture={architecture!r}`; choose one of: jump_relu")


def _config_hook_2(published: Published) -> str:
    """Return the hook in the config, which may have one for each layer."""
    hooks = published.require("hf_hook_point_in")
    layer = int(published.search_names(r"layer_(\d+)\.", "the layer"))
    if isinstance(hooks, list) and layer < len(hooks):
        hooks = hooks[layer]
    if not isinstance(hooks, str):
        raise MissingValueError(f"the config of `{published.path}` lacks the hook of layer {layer}")
    return hooks


def _hook_2(published: Published) -> str:
    if hook := published.config.get("hf_hook_point_in"):
        return str(hook)
    layer = published.search_names(r"layer_(\d+)", "the layer")
    kind = published.search_names("(" + "|".join(HOOKS_2) + ")", "the hook")
    return f"model.layers.{layer}.{HOOKS_2[kind]}"


def _model_2(published: Published) -> str:
    match = re.search(r"gemma-scope-2-(\w+)-(pt|it)", published.repo)
    name = f"gemma-3-{match[1]}-{match[2]}" if match else published.require_text("model_name")
    name = name.removeprefix("google/").replace("-v3", "-3")
    if "/" in name:
        return name
    # The smallest base model has no suffix on the Hub.
    return "google/" + (name.removesuffix("-pt") if "270m" in name else name)


OPTIONS_2 = frozenset({"model_name", "hf_hook_point_in"})
GEMMA_SCOPE_1 = Format(name="gemma_scope_1", weights=r"(?:(?P<name>.+)/)?params\.npz", read=read_1)
GEMMA_SCOPE_2 = Format(
    name="gemma_scope_2",
    weights=r"(?:(?P<name>.+)/)?params\.safetensors",
    read=read_2,
    config_files=(ConfigFile("config.json", optional=True),),
    options=OPTIONS_2,
)
GEMMA_SCOPE_2_CLT = Format(
    name="gemma_scope_2_clt",
    weights=r"(?:.+/)?clt/(?:.+/)?params_layer_\d+\.safetensors",
    read=read_2_cross_layer,
    config_files=(ConfigFile("config.json", optional=True),),
    required_tensors=frozenset({"w_enc", "b_enc", "threshold"}),
    options=OPTIONS_2,
)
