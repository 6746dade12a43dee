"""Families of transformers: where in a layer its attention and its MLP are, and the proof that they are there.

Models of one family give their modules the same names, so a few names show the family of a layer. Names prove nothing:
a model may scale what it adds, or normalise it first. So `proven` looks at the vectors of a few tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

INPUT, OUTPUT = "input", "output"
Place = tuple[str, str]
"""A module's path within the layer, and its side."""
ROUNDINGS = 4  # as many errors of rounding, in the model's dtype, are no difference
# What is added may differ by this share of itself; by more where its multiple is fitted to rounded sums.
TOLERANCE, MULTIPLE_TOLERANCE = 0.002, 0.25


class Family(NamedTuple):
    """The parts of a layer. The first module of each that the layer has is the one."""

    attention: str
    mlp: str
    mid: Place | None = None
    """Where the stream between attention and MLP can be read. None if both read the same stream."""
    added: tuple[str, str] | None = None
    """Norms of what attention and MLP add. None if their outputs are added as they are."""
    norms: tuple[str, str] | None = None
    """Norms of the stream after each sum, as BERT has them."""


ATTENTION, MLP = "self_attn linear_attn", "mlp feed_forward block_sparse_moe"
# Modules that show a family, those that it does not have, and its parts. The first that fits is taken.
FAMILIES: list[tuple[str, str, Family]] = [
    (  # Gemma 2 and 3
        "pre_feedforward_layernorm post_feedforward_layernorm",
        "",
        Family(
            ATTENTION,
            MLP,
            ("pre_feedforward_layernorm", INPUT),
            ("post_attention_layernorm", "post_feedforward_layernorm"),
        ),
    ),
    (
        "pre_feedforward_layernorm",
        "post_attention_layernorm",
        Family(ATTENTION, MLP, ("pre_feedforward_layernorm", INPUT)),
    ),
    (  # GLM 4
        "post_self_attn_layernorm post_mlp_layernorm",
        "",
        Family(
            ATTENTION, MLP, ("post_attention_layernorm", INPUT), ("post_self_attn_layernorm", "post_mlp_layernorm")
        ),
    ),
    (  # AFMoE
        "pre_mlp_layernorm post_mlp_layernorm",
        "",
        Family(ATTENTION, MLP, ("pre_mlp_layernorm", INPUT), ("post_attention_layernorm", "post_mlp_layernorm")),
    ),
    (  # OLMo 2 and 3, EXAONE 4
        "post_attention_layernorm post_feedforward_layernorm",
        "input_layernorm",
        Family(ATTENTION, MLP, ("mlp", INPUT), ("post_attention_layernorm", "post_feedforward_layernorm")),
    ),
    (  # Nomic BERT, GTE
        "post_attention_layernorm post_mlp_layernorm",
        "input_layernorm",
        Family(
            ATTENTION,
            MLP,
            ("post_attention_layernorm", OUTPUT),
            norms=("post_attention_layernorm", "post_mlp_layernorm"),
        ),
    ),
    (
        "attention_layernorm feedforward_layernorm",
        "",
        Family(ATTENTION, MLP, ("feedforward_layernorm", INPUT)),
    ),  # Apertus
    ("pre_ff_layernorm", "", Family(ATTENTION, MLP, ("pre_ff_layernorm", INPUT))),  # Jamba
    (  # LFM 3
        "post_operator_norm post_ffn_norm",
        "",
        Family(ATTENTION, MLP, ("ffn_norm", INPUT), ("post_operator_norm", "post_ffn_norm")),
    ),
    ("operator_norm ffn_norm", "", Family(ATTENTION, MLP, ("ffn_norm", INPUT))),  # LFM 2
    ("layer_norm1 layer_norm2", "", Family(ATTENTION, MLP, ("layer_norm2", INPUT))),  # CLIP
    (
        "input_layernorm post_attention_layernorm self_attn",
        "",
        Family(ATTENTION, MLP, ("post_attention_layernorm", INPUT)),
    ),
    (
        "input_layernorm post_attention_layernorm linear_attn",
        "",
        Family(ATTENTION, MLP, ("post_attention_layernorm", INPUT)),
    ),
    ("input_layernorm self_attn mlp", "", Family(ATTENTION, MLP)),  # Cohere, Phi
    ("ln_1 attn ln_2", "", Family("attn", "mlp", ("ln_2", INPUT))),  # GPT-2, GPT-Neo
    ("ln_1 attn", "", Family("attn", "mlp")),  # GPT-J, CodeGen
    ("norm_1 attn norm_2", "", Family("attn", "ffn.down_proj", ("norm_2", INPUT))),  # MPT
    ("attn mlp mlp_norm", "", Family("attn", "mlp", ("mlp_norm", INPUT))),  # ModernBERT
    ("ln1 ln2 attention feed_forward", "", Family("attention", "feed_forward", ("ln2", INPUT))),  # RWKV
    ("attention.query_key_value", "", Family("attention", "mlp", ("post_attention_layernorm", INPUT))),  # GPT-NeoX
    (  # BLOOM, Falcon
        "self_attention.query_key_value post_attention_layernorm",
        "",
        Family("self_attention.dense", "mlp.dense_4h_to_h", ("post_attention_layernorm", INPUT)),
    ),
    ("self_attention.query_key_value", "", Family("self_attention.dense", "mlp.dense_4h_to_h")),
    (  # OPT, BioGPT, XGLM
        "self_attn_layer_norm fc2 final_layer_norm",
        "",
        Family("self_attn", "fc2", ("final_layer_norm", INPUT)),
    ),
    (  # BERT, RoBERTa
        "attention.output.LayerNorm output.LayerNorm",
        "",
        Family(
            "attention.output.dense",
            "output.dense",
            ("attention.output", OUTPUT),
            norms=("attention.output.LayerNorm", "output.LayerNorm"),
        ),
    ),
    (  # ESM, XLM-RoBERTa-XL
        "attention.output.dense output.dense",
        "",
        Family("attention.output.dense", "output.dense", ("attention.output", OUTPUT)),
    ),
    (  # DistilBERT
        "sa_layer_norm output_layer_norm",
        "",
        Family("attention", "ffn", ("sa_layer_norm", OUTPUT), norms=("sa_layer_norm", "output_layer_norm")),
    ),
    (  # MPNet
        "attention.attn attention.LayerNorm output.LayerNorm",
        "",
        Family(
            "attention.attn", "output.dense", ("attention", OUTPUT), norms=("attention.LayerNorm", "output.LayerNorm")
        ),
    ),
]
# Projections that end attention and the MLP.
ATTENTION_ENDS = "o_proj dense out_proj c_proj Wo out_lin o output attention.out_proj".split()
MLP_ENDS = "down_proj c_proj fc2 dense_4h_to_h fc_out Wo lin2 w2".split()


class Parts(NamedTuple):
    """The places of one layer, and what the proof needs."""

    places: dict[str, Place]
    modules: dict[str, nn.Module]
    raw: dict[str, Place]
    """The outputs of attention and MLP themselves, and of the projections that end them."""
    norms: tuple[str, str] | None


def parts_of(layer: nn.Module) -> Parts:
    """Find the places of a layer, by the names of its modules."""
    modules = dict(layer.named_modules())
    places: dict[str, Place] = {"resid_pre": ("", INPUT), "resid_post": ("", OUTPUT)}
    family = next(
        (
            family
            for needed, lacking, family in FAMILIES
            if all(name in modules for name in needed.split()) and not any(name in modules for name in lacking.split())
        ),
        None,
    )
    if family is None:
        return Parts(places, modules, {}, None)
    raw: dict[str, Place] = {}
    if family.mid and family.mid[0] in modules and not getattr(layer, "use_parallel_residual", False):
        places["resid_mid"] = family.mid
    for i, (part, names, ends) in enumerate(
        (("attn", family.attention, ATTENTION_ENDS), ("mlp", family.mlp, MLP_ENDS))
    ):
        path = next((name for name in names.split() if name in modules), None)
        if path is None:
            continue
        raw[part] = (path, OUTPUT)
        places[f"{part}_out"] = (family.added[i], OUTPUT) if family.added else (path, OUTPUT)
        is_leaf = not dict(modules[path].named_children())
        if part == "mlp" and not is_leaf:
            places["mlp_in"] = (path, INPUT)
        end = path if is_leaf else next((f"{path}.{e}" for e in ends if f"{path}.{e}" in modules), None)
        if end is not None and isinstance(getattr(modules[end], "weight", None), Tensor):
            raw[f"{part}_end"] = (end, OUTPUT)
            places["z" if part == "attn" else "mlp_post"] = (end, INPUT)
    return Parts(places, modules, raw, family.norms)


def proven(parts: Parts, vectors: Mapping[str, Tensor]) -> set[str]:
    """Return the places that are what they are called, judged by the vectors of a few tokens at each of them."""
    holds = set(vectors) & {"resid_pre", "resid_post", "mlp_in"}
    if not {"resid_pre", "resid_post"} <= holds:
        return holds
    pre, post, mid = vectors["resid_pre"], vectors["resid_post"], vectors.get("resid_mid")
    attention, mlp = vectors.get("attn_out"), vectors.get("mlp_out")
    first, second = (parts.modules[name] for name in parts.norms) if parts.norms else (None, None)
    if mid is None:
        if attention is not None and mlp is not None and _adds_up(post, pre, attention, mlp):
            holds |= {"attn_out", "mlp_out"}
    else:
        if attention is not None and _adds_up(mid, pre, attention, norm=first):
            holds |= {"resid_mid", "attn_out"}
        elif attention is not None and first is None and _is_multiple(mid, pre, attention):
            holds |= {"resid_mid"}  # the model scales what attention adds
        if mlp is not None and _adds_up(post, mid, mlp, norm=second):
            holds |= {"resid_mid", "mlp_out"}  # also in a layer without attention
    for part, inside in (("attn", "z"), ("mlp", "mlp_post")):
        if f"{part}_end" in vectors and part in vectors and _close(vectors[part], vectors[f"{part}_end"]):
            holds |= {inside}
    return holds


def _adds_up(
    total: Tensor, stream: Tensor, *parts: Tensor, norm: nn.Module | None = None, tolerance: float = TOLERANCE
) -> bool:
    """Tell whether a stream and what is added to it are the total, after the norm if there is one.

    The dtype of the model rounds each sum, so we round as the model does, and compare with what the parts change.
    """
    if any(part.shape != stream.shape for part in (total, *parts)):
        return False
    # The model adds two parts one after another, or their sum.
    sums = [sum(parts, start=stream), stream + torch.stack(parts).sum(dim=0)]
    if norm is None:
        change = torch.stack([_lengths(part) for part in parts]).amin(dim=0)
    else:
        sums = [norm(sums[0])]
        if not isinstance(sums[0], Tensor) or sums[0].shape != total.shape:
            return False
        change = _lengths(sums[0].float() - norm(stream).float())
    rounding = torch.finfo(total.dtype).eps * _lengths(total)
    # Where rounding hides the parts, every sum fits.
    is_visible = bool((rounding <= change).any())
    slack = torch.minimum(ROUNDINGS * (rounding + torch.finfo(total.dtype).eps * change), tolerance * change)
    return is_visible and any(bool((_lengths(total.float() - one.float()) <= slack).all()) for one in sums)


def _is_multiple(total: Tensor, stream: Tensor, part: Tensor) -> bool:
    """Tell whether a stream and some multiple of `part` are the total."""
    if not total.shape == stream.shape == part.shape:
        return False
    gain, exact = (total - stream).double(), part.double()  # half precision would overflow
    multiple = ((gain * exact).sum() / (exact * exact).sum() * exact).to(part.dtype)
    return _adds_up(total, stream, multiple, tolerance=MULTIPLE_TOLERANCE)


def _lengths(vectors: Tensor) -> Tensor:
    lengths: Tensor = vectors.float().norm(dim=-1)
    return lengths


def _close(one: Tensor, other: Tensor) -> bool:
    """Tell whether vectors are equal but for rounding."""
    if one.shape != other.shape:
        return False
    slack = ROUNDINGS * torch.finfo(one.dtype).eps * _lengths(other)
    return bool((_lengths(one.float() - other.float()) <= slack).all())
