"""OpenMOSS: Llama Scope, Llama Scope R1, and what their llamascopium (v2) saves.

Source: OpenMOSS/Language-Model-SAEs, models/sae.py of each. All were trained on inputs scaled to norm sqrt(d_in) on
average. Llama Scope is read as its makers read it: the scale goes into the bias and out of the activations, and its
one threshold is compared with activations in raw units. The two later kinds have learned thresholds, compared in
scaled units. Where the config says `sparsity_include_decoder_norm`, what is compared is `pre` times the norm of the
decoder row. SAELens ignores that flag, and there is an open question upstream whether it holds for Llama Scope
(OpenMOSS/Language-Model-SAEs#128): `config={"sparsity_include_decoder_norm": False}` reads it SAELens's way. With the
flag, top-k activations are on the scale of a decoder of unit norms: theirs times the norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..config import SaeConfig
from .layout import Format, Layout, Published, named_model

LINEAR = {"W_enc": "encoder.weight.T", "b_enc": "encoder.bias", "W_dec": "decoder.weight.T", "b_dec": "decoder.bias"}
PLAIN = {"W_enc": "W_E", "b_enc": "b_E", "W_dec": "W_D", "b_dec": "b_D"}
AVERAGE = "dataset_average_activation_norm"
OPTIONS = frozenset(
    {"sparsity_include_decoder_norm", "norm_activation", "apply_decoder_bias_to_pre_encoder", "in", "out"}
)
# The hidden state divided by its root mean square, before the norm's gain: no module puts that out.
NORMALIZED = ("ln2.hook_normalized", "hook_resid_mid")
MODELS = (
    (r"R1-Distill", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
    (r"Llama-?3[._]1-8B", "meta-llama/Llama-3.1-8B"),
    (r"(Qwen3-[\d.]+B)", r"Qwen/\1"),
)


def read_llama_scope(published: Published) -> Layout:
    """Read a Llama Scope SAE or transcoder: `hyperparams.json`, weights in `checkpoints/`."""
    cfg = {"norm_activation": "token-wise", "apply_decoder_bias_to_pre_encoder": True}  # where the file is silent
    cfg |= published.config
    config = _config(published, cfg, "encoder.weight", 1, 0)
    scale: dict[str, float] = {}
    if _scales(cfg):
        averages = published.section(AVERAGE)
        s_in, s_out = (math.sqrt(config.d_in) / published.positive(side, averages, AVERAGE) for side in ("in", "out"))
        scale = {"b_enc": 1 / s_in, "b_dec": 1 / s_out, "W_dec": s_in / s_out}
    jumps = config.activation == "jumprelu"
    return Layout(
        config,
        LINEAR if cfg.get("use_decoder_bias", True) else {k: v for k, v in LINEAR.items() if k != "b_dec"},
        subtract_b_dec=_subtracts(cfg),
        scale=scale,
        unit_decoder=bool(cfg.get("sparsity_include_decoder_norm", True)),
        threshold=published.positive("jump_relu_threshold") if jumps else None,
    )


def read_r1(published: Published) -> Layout:
    """Read a Llama Scope R1 SAE: learned thresholds, and the average norms among the tensors."""
    return _learned(published, LINEAR | {"threshold": "log_jumprelu_threshold"}, 1, 0)


def read_llamascopium(published: Published) -> Layout:
    """Read what llamascopium saves, if it is one encoder: an SAE or a transcoder."""
    kind = published.config.get("sae_type", "sae")
    if kind != "sae":
        raise ValueError(f"`sae_type={kind!r}` is no feed-forward encoder of one hook; only 'sae' is")
    if published.config.get("use_glu_encoder"):
        raise ValueError("`use_glu_encoder=True`: an encoder with a second matrix is not read")
    jumps = published.config.get("act_fn") == "jumprelu"
    threshold = {"threshold": "activation_function.log_jumprelu_threshold"} if jumps else {}
    return _learned(published, PLAIN | threshold, 0, 1)


def _learned(published: Published, names: dict[str, str], d_in_axis: int, d_sae_axis: int) -> Layout:
    cfg = published.config
    config = _config(published, cfg, names["W_enc"].removesuffix(".T"), d_in_axis, d_sae_axis)
    if not cfg.get("use_decoder_bias", True):
        names = {ours: theirs for ours, theirs in names.items() if ours != "b_dec"}
    with_norm = bool(cfg.get("sparsity_include_decoder_norm", True))
    gate = with_norm and config.activation == "jumprelu"
    averages = {name: value for name, value in published.scalars.items() if name.startswith(f"{AVERAGE}.")}
    scale: dict[str, float] = {}
    if _scales(cfg):
        root = math.sqrt(config.d_in)
        s_in, s_out = (root / _average(averages, str(cfg.get(hook))) for hook in ("hook_point_in", "hook_point_out"))
        # A threshold is compared before the output's scale is undone, with the norms of the decoder as it is stored.
        scale = {"W_enc": s_in, "W_dec": 1 / s_out, "b_dec": 1 / s_out, "threshold": 1 / s_out if gate else 1.0}
    return Layout(
        config,
        names,
        scale=scale,
        logarithm="threshold" in names,
        norm_gate=gate,
        unit_decoder=with_norm and config.activation == "topk",  # of a ReLU the norm comes off again
        subtract_b_dec=_subtracts(cfg),
        ignored=frozenset(published.scalars),
    )


def _average(averages: dict[str, float], hook: str) -> float:
    value = averages.get(f"{AVERAGE}.{hook}")
    if value is None or not 0 < value < math.inf:
        raise ValueError(
            f"tensor `{AVERAGE}.{hook}` is missing or no positive number, and the inputs are scaled by it"
        )
    return value


def _config(published: Published, cfg: Mapping[str, Any], encoder: str, d_in_axis: int, d_sae_axis: int) -> SaeConfig:
    hook, out = str(published.need("hook_point_in")), cfg.get("hook_point_out")
    activation = str(cfg.get("act_fn", "relu")).lower()
    if activation not in ("relu", "jumprelu", "topk"):
        raise ValueError(
            f"`act_fn={activation!r}` depends on the whole batch or is unknown; known: relu, jumprelu, topk"
        )
    norm = cfg.get("norm_activation", "dataset-wise")
    if norm not in ("token-wise", "dataset-wise", "inference"):
        raise ValueError(f"`norm_activation={norm!r}` depends on the whole batch or is unknown")
    d_in = published.agreed("d_model", cfg.get("d_model"), published.size(encoder, d_in_axis))
    return published.made(
        d_in=d_in,
        d_sae=published.agreed("d_sae", cfg.get("d_sae"), published.size(encoder, d_sae_axis)),
        activation=activation,
        k=cfg.get("top_k") if activation == "topk" else None,
        model=published.said("model", lambda: named_model(published, MODELS)),
        hook=hook.replace(*NORMALIZED),
        input_norm="rms" if norm == "token-wise" or NORMALIZED[0] in hook else "none",
        d_out=d_in if out not in (None, hook) else None,
        prepend_bos=True,
    )


def _subtracts(cfg: Mapping[str, Any]) -> bool:
    return bool(cfg.get("use_decoder_bias", True) and cfg.get("apply_decoder_bias_to_pre_encoder", False))


def _scales(cfg: Mapping[str, Any]) -> bool:
    return bool(cfg.get("norm_activation", "dataset-wise") == "dataset-wise")


LLAMA_SCOPE = Format(
    "llama_scope",
    r"(?:(?P<name>.+)/)?checkpoints/final\.safetensors",
    read_llama_scope,
    ("hyperparams.json",),
    options=OPTIONS,
)
LLAMA_SCOPE_R1 = Format(
    "llama_scope_r1",
    r"(?:(?P<name>.+)/)?sae_weights\.safetensors",
    read_r1,
    ("config.json",),
    frozenset({"encoder.weight", "log_jumprelu_threshold"}),
    options=OPTIONS,
)
LLAMASCOPIUM = Format(
    "llamascopium",
    r"(?:(?P<name>.+)/)?sae_weights\.safetensors",
    read_llamascopium,
    ("config.json",),
    frozenset({"W_E", "b_E"}),
    options=OPTIONS,
)
