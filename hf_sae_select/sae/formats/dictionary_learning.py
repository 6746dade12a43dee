"""dictionary_learning (Marks et al.): `trainer_i/ae.pt` and `config.json`, with one class per kind of SAE.

Source: dictionary_learning 0.1.0 (dictionary.py). It folds its input scale before it saves. When it loads an
`AutoEncoder`, it rescales decoder rows to norm 1 by default, and activations with them; so do we. SAELens does not:
`config={"normalize_decoder": False}` reads it SAELens's way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .format import ConfigFile, Format
from .layout import Layout, StoredTensor, linear_layers, same_names
from .published import MissingValueError, Published

LINEAR = linear_layers("encoder", "decoder")
PLAIN = same_names("W_enc", "b_enc", "W_dec", "b_dec")
THRESHOLD = same_names("threshold")
GATED = {
    "W_enc": LINEAR["W_enc"],
    "W_dec": LINEAR["W_dec"],
    "b_dec": StoredTensor("decoder_bias"),
    "b_gate": StoredTensor("gate_bias"),
    "b_mag": StoredTensor("mag_bias"),
    "r_mag": StoredTensor("r_mag"),
}


class Kind(NamedTuple):
    """How one class of the library encodes."""

    activation: str
    tensors: Mapping[str, StoredTensor]
    subtract_b_dec: bool
    unit_decoder: bool = False


KINDS = {
    "AutoEncoder": Kind("relu", LINEAR | {"b_dec": StoredTensor("bias")}, True, unit_decoder=True),
    "AutoEncoderNew": Kind("relu", LINEAR | {"b_dec": StoredTensor("decoder.bias")}, False),
    "GatedAutoEncoder": Kind("jumprelu", GATED, True),
    "JumpReluAutoEncoder": Kind("jumprelu", PLAIN | THRESHOLD, False),
    "AutoEncoderTopK": Kind("topk", LINEAR | same_names("b_dec"), True),
    "BatchTopKSAE": Kind("jumprelu", LINEAR | same_names("b_dec") | THRESHOLD, True),
    "MatryoshkaBatchTopKSAE": Kind("jumprelu", PLAIN | THRESHOLD, True),
}
# Names of modules, as the library's own scripts write them -> where they are.
PLACES = {
    "resid_post": "hook_resid_post",
    "attention_out": "hook_attn_out",
    "attn_out": "hook_attn_out",
    "attn": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "mlp": "hook_mlp_out",
}
IGNORED = frozenset({"k", "threshold", "group_sizes", "active_groups"})


def read(published: Published) -> Layout:
    """Read one of dictionary_learning's classes."""
    trainer, buffer = published.section("trainer"), published.section("buffer", required=False)
    class_name = str(published.require("dict_class", trainer))
    if class_name not in KINDS:
        raise ValueError(f"unknown `dict_class={class_name!r}`; choose one of: {', '.join(KINDS)}")
    kind = KINDS[class_name]
    if (io := buffer.get("io", "out")) != "out":
        raise ValueError(f"`io={io!r}` is not supported; only SAEs that read the output of a module are (`io='out'`)")
    k = _k(published, trainer)
    d_in, d_sae = published.matrix_shape(kind.tensors["W_enc"])
    config = published.sae_config(
        d_in=published.check_size("activation_dim", trainer.get("activation_dim"), d_in),
        d_sae=published.check_size("dict_size", trainer.get("dict_size"), d_sae),
        activation=kind.activation,
        k=k if kind.activation == "topk" else None,
        model=published.override_or("model", lambda: published.require_text("lm_name", trainer)),
        hook=published.override_or("hook", lambda: _hook(published, trainer)),
        l0=float(k) if kind.activation == "jumprelu" and k else None,
        context_size=buffer.get("ctx_len"),
        # With `remove_bos` its buffers skip each text's first token, for models that use it as an attention sink.
        skip_first=published.flag("remove_bos", False, buffer),
        max_norm_ratio=buffer.get("max_activation_norm_multiple"),
    )
    return Layout(
        config,
        kind.tensors,
        subtract_b_dec=kind.subtract_b_dec,
        unit_decoder=kind.unit_decoder and published.flag("normalize_decoder", True, trainer),
        ignored=IGNORED,
    )


def _k(published: Published, trainer: Mapping[str, Any]) -> int | None:
    """Return `k` of the config, or else of the weights."""
    k = published.require_positive("k", trainer) if trainer.get("k") is not None else published.scalars.get("k")
    if k is not None and k != int(k):
        raise ValueError(f"`k={k}` of `{published.path}` must be a whole number")
    return None if k is None else int(k)


def _hook(published: Published, trainer: Mapping[str, Any]) -> str:
    layers = published.require("layer", trainer)
    layer = layers[0] if isinstance(layers, list) and len(layers) == 1 else layers
    if not re.fullmatch(r"[0-9]+", str(layer)):
        raise ValueError(
            f"`layer={layers!r}` in the config of `{published.path}` must be the number of one layer; pass it with "
            "`config={'layer': ...}`"
        )
    submodule = trainer.get("submodule_name")
    place = "resid_post" if submodule is None else str(submodule).removesuffix(f"_layer_{layer}")
    if place not in PLACES:
        raise MissingValueError(
            f"`submodule_name={str(submodule)[:80]!r}` in the config of `{published.path}` names no module that we "
            f"know; known are {', '.join(PLACES)}, each also with `_layer_{layer}` behind it"
        )
    return f"blocks.{layer}.{PLACES[place]}"


DICTIONARY_LEARNING = Format(
    name="dictionary_learning",
    weights=r"(?:(?P<name>.+)/)?ae\.pt",
    read=read,
    config_files=(ConfigFile("config.json"),),
    options=frozenset({"dict_class", "layer", "lm_name", "submodule_name", "io", "normalize_decoder"}),
)
