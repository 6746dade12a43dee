"""SAEs of no known publisher: common names of tensors and config keys; the caller passes what the files do not say.

A linear encoder with a bias looks the same whether it subtracts a bias from its input or not, and whatever its
activation is. Nothing of this is guessed: either a config says it, in the weights file (a torch checkpoint or the
metadata of a safetensors file) or beside it, or an error asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import NEED_K
from .format import ConfigFile, Format
from .layout import Layout, StoredTensor
from .names import hub_id, split_side
from .published import MissingValueError, Published

# our tensor -> names of it; those that end in `.weight` are stored as `nn.Linear` does
TENSORS = {
    "W_enc": ("W_enc", "w_enc", "W_E", "encoder.weight", "encoder_linear.weight"),
    "b_enc": ("b_enc", "b_E", "encoder.bias", "encoder_linear.bias", "latent_bias", "neuron_bias"),
    "W_dec": ("W_dec", "w_dec", "W_D", "decoder.weight", "decoder_linear.weight"),
    "b_dec": ("b_dec", "b_D", "decoder.bias", "decoder_linear.bias", "pre_bias", "input_bias", "bias"),
    "threshold": ("threshold", "log_threshold"),
}
# our value -> keys of it
KEYS = {
    "activation": ("activation", "architecture", "act_fn", "activation_fn", "sae_type", "dict_class"),
    "k": ("k", "top_k", "topk", "topK"),
    "apply_b_dec_to_input": ("apply_b_dec_to_input", "apply_decoder_bias_to_pre_encoder"),
    "input_norm": ("input_norm", "normalize_activations"),
    "model": ("model", "model_name", "lm_name", "base_model", "model_id"),
    "hook": ("hook", "hook_name", "hookpoint", "hook_point", "hf_hook_name"),
}
# Sections of a config that are the SAE's; a section of its model or optimizer has keys of the same names.
SECTIONS = ("sae", "sae_config", "sae_cfg", "config", "cfg", "metadata", "trainer")
# Fields of `SaeConfig` that a config may have by their own names.
FIELDS = ("prepend_bos", "context_size", "skip_first", "max_norm_ratio", "model_revision", "feature_threshold", "l0")
# Keys of what this format does not compute -> the values with which nothing is to compute.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "norm_scaling_factor": (1,),
    "scaling_factor": (1,),
    "rescale_acts_by_decoder_norm": (False,),
    "sparsity_include_decoder_norm": (False,),
    "normalize_decoder": (False,),
    "finetuning_scaling_factor": (False,),
    "reshape_activations": ("none",),
    "hook_head_index": (),
    "signed": (False,),
    "transcode": (False,),
    "is_transcoder": (False,),
    "skip": (False,),
    "skip_connection": (False,),
    "use_skip_connection": (False,),
    "io": ("out",),
}
OUTPUTS = ("hook_out", "hook_name_out", "hook_point_out", "d_out")  # a transcoder has others than its inputs
SIZES = {
    "d_in": ("d_in", "d_model", "activation_dim", "input_dim"),
    "d_sae": ("d_sae", "dict_size", "num_latents", "d_hidden"),
}
ACTIVATIONS = {
    "relu": "relu",
    "standard": "relu",
    "topk": "topk",
    "top_k": "topk",
    "jumprelu": "jumprelu",
    "jump_relu": "jumprelu",
}
INPUT_NORMS = {
    "none": "none",
    False: "none",
    "layer_norm": "layer_norm",
    "rms": "rms",
    "constant_norm_rescale": "rms",
}


def read(published: Published) -> Layout:
    """Read the tensors by their names and shapes, and the rest from any config or from the caller."""
    cfg = _merged(published)
    stored = {name: _present(published, names) for name, names in TENSORS.items()}
    if not all(stored[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")):
        raise ValueError(
            f"`{published.path}` is not an SAE of a known format; its tensors: {', '.join(sorted(published.shapes))}"
        )
    d_in, d_sae = _widths(published, stored["W_enc"], stored["b_dec"])
    tensors = {name: StoredTensor(names) for name, names in stored.items() if names}
    for name, shape in (("W_enc", (d_in, d_sae)), ("W_dec", (d_sae, d_in))):
        tensors[name] = StoredTensor(stored[name], transpose=published.shapes[stored[name]] == shape[::-1])
    for size, value in (("d_in", d_in), ("d_sae", d_sae)):
        for key in SIZES[size]:
            published.check_size(key, cfg.get(key), value)
    _check_supported(published, cfg, d_in)
    activation = published.override_or("activation", lambda: _value(cfg, "activation", ACTIVATIONS))
    name = str(published.override_or("hook", lambda: _text(published, cfg, "hook")))
    hook, side = split_side(name)
    if hook != name and cfg.get("side") not in (None, side):
        raise ValueError(f"`hook={name!r}` in the config of `{published.path}` contradicts `side={cfg['side']!r}`")
    k = None
    if activation in NEED_K:
        k = published.override_or("k", lambda: _required(cfg, "k"))
    elif activation == "jumprelu" and "threshold" not in tensors:
        raise ValueError(f"tensor `threshold` is missing from {published.path}, which `activation='jumprelu'` needs")
    subtracts = published.override_or("apply_b_dec_to_input", lambda: _required(cfg, "apply_b_dec_to_input"))
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation=activation,
        k=k,
        model=published.override_or("model", lambda: hub_id(_text(published, cfg, "model"))),
        hook=hook,
        side=side if cfg.get("side") is None else cfg["side"],
        input_norm=published.override_or("input_norm", lambda: _value(cfg, "input_norm", INPUT_NORMS)),
        **{field: cfg[field] for field in FIELDS if cfg.get(field) is not None},
    )
    return Layout(
        config,
        tensors if config.activation == "jumprelu" else {n: t for n, t in tensors.items() if n != "threshold"},
        subtract_b_dec=published.flag("apply_b_dec_to_input", False, {"apply_b_dec_to_input": subtracts}),
        log_threshold=stored["threshold"] == "log_threshold",
        ignored=frozenset(published.scalars),
    )


def _merged(published: Published) -> dict[str, Any]:
    """Return all values of the files, those of the SAE's own sections too."""
    merged: dict[str, Any] = {}
    for values in (published.values, published.config):
        for section in (*(values[name] for name in SECTIONS if isinstance(values.get(name), Mapping)), values):
            merged |= {key: value for key, value in section.items() if not isinstance(value, Mapping)}
    return merged


def _check_supported(published: Published, cfg: Mapping[str, Any], d_in: int) -> None:
    """Check that no value of the files asks for what this format does not compute."""
    values = {**published.scalars, **cfg}
    neutral: dict[str, Sequence[Any]] = dict(UNSUPPORTED)
    for key in OUTPUTS:
        neutral[key] = [d_in] if key == "d_out" else [cfg.get(name) for name in KEYS["hook"]]
    for key, allowed in neutral.items():
        value = values.get(key)
        if value is not None and value not in allowed:
            raise ValueError(
                f"`{key}={str(value)[:80]}` of `{published.path}` is not supported in a file of no known format; if "
                f"the tensors already include it, pass `config={{{key!r}: {next(iter(allowed), None)!r}}}`"
            )


def _present(published: Published, names: Sequence[str]) -> str:
    return next((name for name in names if name in published.shapes), "")


def _widths(published: Published, encoder: str, decoder_bias: str) -> tuple[int, int]:
    """Return `d_in` and `d_sae` of an encoder that may be stored in either orientation."""
    rows, columns = published.matrix_shape(StoredTensor(encoder, transpose=encoder.endswith(".weight")))
    if encoder.endswith(".weight") or published.shapes[decoder_bias] == (rows,) != (columns,):
        return rows, columns
    if published.shapes[decoder_bias] == (columns,) != (rows,):
        return columns, rows
    raise ValueError(
        f"tensor `{encoder}` in {published.path} has shape {[rows, columns]}, which does not tell d_in from d_sae "
        f"beside `{decoder_bias}` of {list(published.shapes[decoder_bias])}"
    )


def _required(cfg: Mapping[str, Any], name: str) -> Any:
    value = next((cfg[key] for key in KEYS[name] if cfg.get(key) is not None), None)
    if value is None:
        raise MissingValueError(f"no publisher's format fits and the files lack `{name}`")
    return value


def _text(published: Published, cfg: Mapping[str, Any], name: str) -> str:
    return published.require_text(name, {name: _required(cfg, name)})


def _value(cfg: Mapping[str, Any], name: str, known: Mapping[Any, str]) -> str:
    value = _required(cfg, name)
    value = value.lower() if isinstance(value, str) else value
    if not isinstance(value, str | bool) or value not in known:
        raise ValueError(
            f"unknown `{name}={repr(value)[:80]}`; known are: {', '.join(map(str, known))}; if it is the "
            f"same as one of them, pass that: `config={{{name!r}: {next(iter(known.values()))!r}}}`"
        )
    return known[value]


OTHER = Format(
    name="other",
    weights=r"(?:.+/)?[^/]+\.(?:safetensors|npz|pth?)",
    read=read,
    config_files=(ConfigFile("config.json", optional=True), ConfigFile("cfg.json", optional=True)),
    options=frozenset({"activation", "apply_b_dec_to_input"}),
    bare=True,
)
