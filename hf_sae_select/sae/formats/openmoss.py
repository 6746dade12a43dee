"""OpenMOSS: Llama Scope, Llama Scope R1, and llamascopium (version 2).

Source: OpenMOSS/Language-Model-SAEs, models/sae.py of each. Their inputs are scaled to norm sqrt(d_in) on average.

- Llama Scope: we fold as the authors' code does. The input scale goes into the bias and out of the activations; the
  single threshold applies to unscaled activations.
- Llama Scope R1 and llamascopium: the thresholds are learned and apply to scaled activations.

With `sparsity_include_decoder_norm`, the activation function sees `pre` times the norm of the decoder row. SAELens
ignores this flag, and whether it holds for Llama Scope is an open question (OpenMOSS/Language-Model-SAEs#128):
`config={"sparsity_include_decoder_norm": False}` reads it SAELens's way. With the flag, our top-k activations are
theirs times the norm, because we rescale decoder rows to norm 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..config import SaeConfig
from .format import ConfigFile, Format
from .layout import Layout, StoredTensor, linear_layers
from .published import Published

LINEAR = linear_layers("encoder", "decoder") | {"b_dec": StoredTensor("decoder.bias")}
PLAIN = {
    "W_enc": StoredTensor("W_E"),
    "b_enc": StoredTensor("b_E"),
    "W_dec": StoredTensor("W_D"),
    "b_dec": StoredTensor("b_D"),
}
AVERAGE = "dataset_average_activation_norm"
OPTIONS = frozenset(
    {"sparsity_include_decoder_norm", "norm_activation", "apply_decoder_bias_to_pre_encoder", "in", "out"}
)
# The hidden state divided by its root mean square, before the gain of the norm: no module of transformers outputs it.
NORMALIZED = ("ln2.hook_normalized", "hook_resid_mid")
MODELS = (
    (r"R1-Distill", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
    (r"Llama-?3[._]1-8B", "meta-llama/Llama-3.1-8B"),
    (r"(Qwen3-[\d.]+B)", r"Qwen/\1"),
)


def read_llama_scope(published: Published) -> Layout:
    """Read a Llama Scope SAE or transcoder: `hyperparams.json` and `checkpoints/`."""
    cfg = {"norm_activation": "token-wise", "apply_decoder_bias_to_pre_encoder": True}  # defaults of its code
    cfg |= published.config
    config = _config(published, cfg, LINEAR["W_enc"])
    scale: dict[str, float] = {}
    if _scales_inputs(cfg):
        averages = published.section(AVERAGE)
        s_in, s_out = (
            math.sqrt(config.d_in) / published.require_positive(side, averages, prefix=f"{AVERAGE}.")
            for side in ("in", "out")
        )
        scale = {"b_enc": 1 / s_in, "b_dec": 1 / s_out, "W_dec": s_in / s_out}
    return Layout(
        config,
        _without_unused_bias(published, LINEAR, cfg),
        subtract_b_dec=_subtracts_b_dec(published, cfg),
        scale=scale,
        unit_decoder=published.flag("sparsity_include_decoder_norm", True, cfg),
        threshold=published.require_positive("jump_relu_threshold") if config.activation == "jumprelu" else None,
    )


def read_r1(published: Published) -> Layout:
    """Read a Llama Scope R1 SAE: learned thresholds, and the average norms among the tensors."""
    return _read_learned(published, LINEAR, "log_jumprelu_threshold")


def read_llamascopium(published: Published) -> Layout:
    """Read an SAE or a transcoder of llamascopium."""
    kind = published.config.get("sae_type", "sae")
    if kind != "sae":
        raise ValueError(f"`sae_type={kind!r}` is not a feed-forward encoder of one hook; only 'sae' is supported")
    if published.flag("use_glu_encoder", False):
        raise ValueError("`use_glu_encoder=True` is not supported: its encoder has a second matrix")
    return _read_learned(published, PLAIN, "activation_function.log_jumprelu_threshold")


def _read_learned(published: Published, tensors: Mapping[str, StoredTensor], threshold: str) -> Layout:
    cfg = published.config
    config = _config(published, cfg, tensors["W_enc"])
    tensors = _without_unused_bias(published, tensors, cfg)
    jumprelu = config.activation == "jumprelu"
    if jumprelu:
        tensors["threshold"] = StoredTensor(threshold)
    with_norm = published.flag("sparsity_include_decoder_norm", True, cfg)
    scale: dict[str, float] = {}
    if _scales_inputs(cfg):
        s_in, s_out = (
            math.sqrt(config.d_in) / _average_norm(published, str(cfg.get(hook)))
            for hook in ("hook_point_in", "hook_point_out")
        )
        scale = {"W_enc": s_in, "W_dec": 1 / s_out, "b_dec": 1 / s_out}
        if jumprelu and with_norm:  # the threshold applies before the output scale, with norms of the stored decoder
            scale["threshold"] = 1 / s_out
    return Layout(
        config,
        tensors,
        scale=scale,
        log_threshold=jumprelu,
        norm_gate=jumprelu and with_norm,
        unit_decoder=with_norm and config.activation == "topk",  # for ReLU the norm cancels
        subtract_b_dec=_subtracts_b_dec(published, cfg),
        ignored=frozenset(published.scalars),
    )


def _average_norm(published: Published, hook: str) -> float:
    name = f"{AVERAGE}.{hook}"
    value = published.scalars.get(name)
    if value is None:
        raise ValueError(f"tensor `{name}` is missing from `{published.path}`; the input scale needs it")
    if not 0 < value < math.inf:
        raise ValueError(f"tensor `{name}` in `{published.path}` is {value}; it must be positive and finite")
    return value


def _config(published: Published, cfg: Mapping[str, Any], encoder: StoredTensor) -> SaeConfig:
    hook, hook_out = published.require_text("hook_point_in"), cfg.get("hook_point_out")
    activation = str(cfg.get("act_fn", "relu")).lower()
    if activation not in ("relu", "jumprelu", "topk"):
        raise ValueError(
            f"`act_fn={activation!r}` is unknown or depends on the whole batch; choose one of: relu, jumprelu, topk"
        )
    norm = cfg.get("norm_activation", "dataset-wise")
    if norm not in ("token-wise", "dataset-wise", "inference"):
        raise ValueError(
            f"`norm_activation={norm!r}` is unknown or depends on the whole batch; choose one of: token-wise, "
            "dataset-wise, inference"
        )
    d_in, d_sae = published.matrix_shape(encoder)
    return published.sae_config(
        d_in=published.check_size("d_model", cfg.get("d_model"), d_in),
        d_sae=published.check_size("d_sae", cfg.get("d_sae"), d_sae),
        activation=activation,
        k=cfg.get("top_k") if activation == "topk" else None,
        model=published.override_or("model", lambda: published.search_model(MODELS)),
        hook=hook.replace(*NORMALIZED),
        input_norm="rms" if norm == "token-wise" or NORMALIZED[0] in hook else "none",
        d_out=d_in if hook_out not in (None, hook) else None,
        prepend_bos=True,
    )


def _without_unused_bias(
    published: Published, tensors: Mapping[str, StoredTensor], cfg: Mapping[str, Any]
) -> dict[str, StoredTensor]:
    keeps_bias = published.flag("use_decoder_bias", True, cfg)
    return {name: tensor for name, tensor in tensors.items() if keeps_bias or name != "b_dec"}


def _subtracts_b_dec(published: Published, cfg: Mapping[str, Any]) -> bool:
    return published.flag("use_decoder_bias", True, cfg) and published.flag(
        "apply_decoder_bias_to_pre_encoder", False, cfg
    )


def _scales_inputs(cfg: Mapping[str, Any]) -> bool:
    return bool(cfg.get("norm_activation", "dataset-wise") == "dataset-wise")


LLAMA_SCOPE = Format(
    name="llama_scope",
    weights=r"(?:(?P<name>.+)/)?checkpoints/final\.safetensors",
    read=read_llama_scope,
    config_files=(ConfigFile("hyperparams.json"),),
    options=OPTIONS,
)
LLAMA_SCOPE_R1 = Format(
    name="llama_scope_r1",
    weights=r"(?:(?P<name>.+)/)?sae_weights\.safetensors",
    read=read_r1,
    config_files=(ConfigFile("config.json"),),
    required_tensors=frozenset({"encoder.weight", "log_jumprelu_threshold"}),
    options=OPTIONS,
)
LLAMASCOPIUM = Format(
    name="llamascopium",
    weights=r"(?:(?P<name>.+)/)?sae_weights\.safetensors",
    read=read_llamascopium,
    config_files=(ConfigFile("config.json"),),
    required_tensors=frozenset({"W_E", "b_E"}),
    options=OPTIONS,
)
