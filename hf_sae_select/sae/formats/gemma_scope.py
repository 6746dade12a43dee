"""Google's Gemma Scope 1 (`params.npz`) and 2 (`params.safetensors`): JumpReLU, nothing subtracted.

Source: arXiv 2408.05147 and the repos' README files. BOS must be there and is itself not read. What Gemma Scope 1's
transcoders read is the residual stream before the MLP, divided by its root mean square, without the norm's gain.
"""

from __future__ import annotations

import math
import re

from .layout import Format, Layout, Published
from .saelens import split_side

TENSORS = {"w_enc": "W_enc", "w_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}
SKIP = "affine_skip_connection"  # [d_in, d_out]


def read_1(published: Published) -> Layout:
    """Read a Gemma Scope 1 SAE: all that is not in its weights is in its names."""
    size, kind = _repo(published)
    ours = {name: name for name in TENSORS.values()}
    ours |= {TENSORS[name.lower()]: name for name in published.shapes if name.lower() in TENSORS}  # some in lower case
    d_in, d_sae = published.size(ours["W_enc"], 0), published.size(ours["W_enc"], 1)
    embedding = kind == "res" and "embedding" in published.path
    layer = "" if embedding else published.search(r"layer_(\d+)", "the layer")
    hooks = {
        "res": f"blocks.{layer}.hook_resid_post",
        "mlp": f"blocks.{layer}.hook_mlp_out",
        "att": f"blocks.{layer}.attn.hook_z",
        "transcoders": f"blocks.{layer}.hook_resid_mid",
    }
    l0 = re.search(r"average_l0_(\d+)", published.path)
    config = published.made(
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
    # It was trained on the rows of the embedding matrix; the module in transformers multiplies them by sqrt(d_in).
    root = math.sqrt(d_in)
    scale = {"W_enc": 1 / root, "W_dec": root, "b_dec": root} if embedding else {}
    return Layout(config, ours, scale=scale)


def _repo(published: Published) -> tuple[str, str]:
    found = re.search(r"gemma-scope-(\w+?)-(pt|it)-(res|mlp|att|transcoders)", published.repo)
    if found is None:
        raise ValueError(
            f"the repo's name {published.repo!r} does not say which Gemma and which hook, as `gemma-scope-2b-pt-res` "
            "does; give a local folder that name"
        )
    return found[1] + ("-it" if found[2] == "it" else ""), found[3]


def read_2(published: Published) -> Layout:
    """Read a Gemma Scope 2 SAE or transcoder, from its config or, where there is none, from its names."""
    cfg = published.config
    if (architecture := cfg.get("architecture", "jump_relu")) != "jump_relu":
        raise ValueError(f"unknown `architecture={architecture!r}`; known: jump_relu")
    folder = published.path
    if "crosscoder" in folder or "/clt" in f"/{folder}":
        raise ValueError(
            "crosscoders and cross-layer transcoders read several layers at once: they are no single encoder"
        )
    transcoder = "transcoder" in folder
    hook, side = split_side(published.said("hook", lambda: str(cfg.get("hf_hook_point_in") or _hook(published))))
    skip = SKIP in published.shapes
    d_in = published.size("w_enc", 0)
    config = published.made(
        d_in=d_in,
        d_sae=published.size("w_enc", 1),
        activation="jumprelu",
        model=published.said("model", lambda: _model(published)),
        hook=hook,
        side=side,
        d_out=published.size("w_dec", 1) if transcoder else None,
        skip=skip,
        l0=cfg.get("l0"),
        context_size=1024,
        prepend_bos=True,
    )
    names = {ours: theirs for theirs, ours in TENSORS.items()}
    return Layout(config, names | ({"W_skip": f"{SKIP}.T"} if skip else {}))


def _hook(published: Published) -> str:
    layer = published.search(r"layer_(\d+)", "the layer")
    hooks = {
        "transcoder": "pre_feedforward_layernorm.output",
        "attn_out": "self_attn.o_proj.input",
        "mlp_out": "post_feedforward_layernorm.output",
        "resid_post": "output",
    }
    kind = published.search("(" + "|".join(hooks) + ")", "what it reads")
    return f"model.layers.{layer}.{hooks[kind]}"


def _model(published: Published) -> str:
    found = re.search(r"gemma-scope-2-(\w+)-(pt|it)", published.repo)
    name = f"gemma-3-{found[1]}-{found[2]}" if found else published.need("model_name")
    name = str(name).removeprefix("google/").replace("-v3", "-3")
    # The smallest base model has no suffix on the Hub.
    return "google/" + (name.removesuffix("-pt") if "270m" in name else name)


GEMMA_SCOPE_1 = Format("gemma_scope_1", r"(?:(?P<name>.+)/)?params\.npz", read_1)
GEMMA_SCOPE_2 = Format("gemma_scope_2", r"(?:(?P<name>.+)/)?params\.safetensors", read_2, ("config.json?",))
