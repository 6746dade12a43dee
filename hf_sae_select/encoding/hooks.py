"""Where in a transformer an SAE reads: a hook's name -> a module and a side of it.

A name is a path, such as `layers.12` or `encoder.layer.4.output`, or one of TransformerLens's:

    hook_embed                  the embedding of the tokens
    blocks.N.hook_resid_pre     the residual stream before layer N     blocks.N.hook_attn_out   what attention adds
    blocks.N.hook_resid_mid     between attention and MLP              blocks.N.hook_mlp_out    what the MLP adds
    blocks.N.hook_resid_post    after the layer                        blocks.N.attn.hook_z     the heads, side by side
    blocks.N.mlp.hook_post      inside the MLP                         blocks.N.hook_mlp_in     as resid_mid

BERT normalises after it adds: its resid_mid and resid_post are read after the norm, as transformers' hidden states
are.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from torch import nn

INPUT, OUTPUT = "input", "output"

# Families of layers, told by a module that only they have -> place -> (module in the layer, side).
FAMILIES: dict[str, dict[str, tuple[str, str]]] = {
    "pre_feedforward_layernorm": {  # Gemma 2 and 3: norms before and after both parts
        "resid_mid": ("pre_feedforward_layernorm", INPUT),
        "attn_out": ("post_attention_layernorm", OUTPUT),
        "mlp_out": ("post_feedforward_layernorm", OUTPUT),
        "z": ("self_attn.o_proj", INPUT),
        "mlp_post": ("mlp.down_proj", INPUT),
    },
    "self_attn.o_proj": {  # Llama, Qwen 2 and 3, Mistral, Gemma 1
        "resid_mid": ("post_attention_layernorm", INPUT),
        "attn_out": ("self_attn", OUTPUT),
        "mlp_out": ("mlp", OUTPUT),
        "z": ("self_attn.o_proj", INPUT),
        "mlp_post": ("mlp.down_proj", INPUT),
    },
    "attn.c_proj": {  # GPT-2
        "resid_mid": ("ln_2", INPUT),
        "attn_out": ("attn", OUTPUT),
        "mlp_out": ("mlp", OUTPUT),
        "z": ("attn.c_proj", INPUT),
        "mlp_post": ("mlp.c_proj", INPUT),
    },
    "attention.query_key_value": {  # GPT-NeoX, Pythia
        "resid_mid": ("post_attention_layernorm", INPUT),
        "attn_out": ("attention", OUTPUT),
        "mlp_out": ("mlp", OUTPUT),
        "z": ("attention.dense", INPUT),
        "mlp_post": ("mlp.dense_4h_to_h", INPUT),
    },
    "attention.output.dense": {  # BERT, RoBERTa
        "resid_mid": ("attention.output", OUTPUT),
        "attn_out": ("attention.output.dense", OUTPUT),
        "mlp_out": ("output.dense", OUTPUT),
        "z": ("attention.output.dense", INPUT),
        "mlp_post": ("output.dense", INPUT),
    },
}
PLACES = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "hook_mlp_in": "resid_mid",
    "attn.hook_z": "z",
    "mlp.hook_post": "mlp_post",
}
# Where a model keeps its layers: the text part first, where there are others.
STACKS = ("language_model.layers", "layers", "h", "encoder.layer")


class Hook(NamedTuple):
    """A module of a model, by its path, and the side of it that is read."""

    path: str
    side: str
    module: nn.Module


def find_hook(model: nn.Module, name: str, side: str = OUTPUT) -> Hook:
    """Find the module that a hook's name means in this model.

    A path may start at the backbone or at the model with its head (`model.layers.12`), and may leave out the text part
    of a multimodal one (`model.language_model.layers.12`).

    Raises:
        ValueError: the model has no such module or place; those that it has are listed.
    """
    if name == "hook_embed":
        return _embedding(model)
    if found := re.fullmatch(r"blocks\.(\d+)\.(.+)", name):
        return _in_layer(model, int(found[1]), found[2])
    modules = dict(model.named_modules())
    short = name.partition(".")[2]
    for path in (name, short, f"language_model.{name}", f"language_model.{short}"):
        for start in ("", "model."):
            if path and not path.endswith(".") and start + path in modules:
                return Hook(start + path, side, modules[start + path])
    parent = name.rpartition(".")[0]
    near = [path for path in modules if path.rpartition(".")[0] == parent] or list(dict(model.named_children()))
    raise ValueError(f"no module `{name}` in {type(model).__name__}; there is: {', '.join(near)}")


def reads_residual(name: str) -> bool:
    """Say whether a hook's name alone tells that what it reads is as wide as the residual stream."""
    return re.fullmatch(r"blocks\.\d+\.hook_resid_(pre|mid|post)|(.*\.)?(layers|h|layer)\.\d+", name) is not None


def _embedding(model: Any) -> Hook:
    module = model.get_input_embeddings()
    return Hook(next(path for path, each in model.named_modules() if each is module), OUTPUT, module)


def _in_layer(model: nn.Module, number: int, name: str) -> Hook:
    modules = dict(model.named_modules())
    stack = next((start + path for path in STACKS for start in ("", "model.") if start + path in modules), None)
    if stack is None:
        raise ValueError(f"cannot find the layers of {type(model).__name__}; name the module's path as the hook")
    layer = modules.get(f"{stack}.{number}")
    if layer is None:
        count = len(dict(modules[stack].named_children()))
        raise ValueError(f"no layer {number} in {type(model).__name__}; it has {count}, from 0 to {count - 1}")
    place = PLACES.get(name)
    if place in ("resid_pre", "resid_post"):
        return Hook(f"{stack}.{number}", INPUT if place == "resid_pre" else OUTPUT, layer)
    inside = dict(layer.named_modules())
    places = next((places for mark, places in FAMILIES.items() if mark in inside), {})
    parallel = getattr(layer, "use_parallel_residual", False)  # both parts read the same stream: nothing is between
    if place is None or place not in places or (place == "resid_mid" and parallel):
        known = [hook for hook, each in PLACES.items() if each in (*places, "resid_pre", "resid_post")]
        known = [hook for hook in known if not (parallel and PLACES[hook] == "resid_mid")]
        raise ValueError(
            f"no place `{name}` in the layers of {type(model).__name__}; known: {', '.join(known)}, or a module's path"
        )
    path, side = places[place]
    return Hook(f"{stack}.{number}.{path}", side, inside[path])
