"""dictionary_learning (Marks et al.): `trainer_i/ae.pt` beside `config.json`, one class per kind of SAE.

Source: dictionary_learning 0.1.0 (dictionary.py). Its input scale is folded before it saves. When it loads an
`AutoEncoder` it brings decoder rows to norm 1 by default, and activations with them, and so do we; SAELens does not:
`config={"normalize_decoder": False}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .layout import Format, Layout, Published

LINEAR = {"W_enc": "encoder.weight.T", "b_enc": "encoder.bias", "W_dec": "decoder.weight.T"}
PLAIN = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}


class Kind(NamedTuple):
    """Say how one of its classes encodes."""

    activation: str
    names: Mapping[str, str]
    subtracts: bool
    normalises: bool = False


KINDS = {
    "AutoEncoder": Kind("relu", LINEAR | {"b_dec": "bias"}, True, normalises=True),
    "AutoEncoderNew": Kind("relu", LINEAR | {"b_dec": "decoder.bias"}, False),
    "GatedAutoEncoder": Kind(
        "jumprelu",
        {"W_enc": "encoder.weight.T", "W_dec": "decoder.weight.T", "b_dec": "decoder_bias"}
        | {"b_gate": "gate_bias", "b_mag": "mag_bias", "r_mag": "r_mag"},
        True,
    ),
    "JumpReluAutoEncoder": Kind("jumprelu", PLAIN | {"threshold": "threshold"}, False),
    "AutoEncoderTopK": Kind("topk", LINEAR | {"b_dec": "b_dec"}, True),
    "BatchTopKSAE": Kind("jumprelu", LINEAR | {"b_dec": "b_dec", "threshold": "threshold"}, True),
    "MatryoshkaBatchTopKSAE": Kind("jumprelu", PLAIN | {"threshold": "threshold"}, True),
}
IGNORED = frozenset({"k", "threshold", "group_sizes", "active_groups"})


def read(published: Published) -> Layout:
    """Read one of dictionary_learning's classes."""
    trainer, buffer = published.section("trainer"), published.section("buffer", needed=False)
    name = str(published.need("dict_class", trainer))
    if name not in KINDS:
        raise ValueError(f"unknown `dict_class={name!r}`; known: {', '.join(KINDS)}")
    kind = KINDS[name]
    encoder = kind.names["W_enc"]
    axis = 1 if encoder.endswith(".T") else 0
    if (io := buffer.get("io", "out")) != "out":
        raise ValueError(f"`io={io!r}`: only SAEs on the output of a module are read")
    k = published.positive("k", trainer) if trainer.get("k") is not None else published.scalars.get("k")
    config = published.made(
        d_in=published.agreed(
            "activation_dim", trainer.get("activation_dim"), published.size(encoder.removesuffix(".T"), axis)
        ),
        d_sae=published.agreed(
            "dict_size", trainer.get("dict_size"), published.size(encoder.removesuffix(".T"), 1 - axis)
        ),
        activation=kind.activation,
        k=int(k) if kind.activation == "topk" and k else None,
        model=published.said("model", lambda: str(published.need("lm_name", trainer))),
        hook=published.said("hook", lambda: _hook(published, trainer)),
        l0=float(k) if kind.activation == "jumprelu" and k else None,
        context_size=buffer.get("ctx_len"),
        # Its buffers leave out each text's first token where they are told to; Qwen's parks attention there.
        skip_first=bool(buffer.get("remove_bos")),
        max_norm_ratio=buffer.get("max_activation_norm_multiple"),
    )
    return Layout(
        config,
        kind.names,
        subtract_b_dec=kind.subtracts,
        unit_decoder=kind.normalises and bool(trainer.get("normalize_decoder", True)),
        ignored=IGNORED,
    )


def _hook(published: Published, trainer: Mapping[str, Any]) -> str:
    submodule = str(trainer.get("submodule_name") or "")
    part = "mlp_out" if "mlp" in submodule else "attn_out" if "att" in submodule else "resid_post"
    return f"blocks.{published.need('layer', trainer)}.hook_{part}"


DICTIONARY_LEARNING = Format(
    "dictionary_learning",
    r"(?:(?P<name>.+)/)?ae\.pt",
    read,
    ("config.json",),
    options=frozenset({"dict_class", "layer", "lm_name", "submodule_name", "io", "normalize_decoder"}),
)
