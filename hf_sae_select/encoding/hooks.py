"""Where in a transformer an SAE reads: the name of a hook -> a module, and its input or output.

A name is a module's path, such as `layers.12` or `encoder.layer.4.output`, or a name of TransformerLens:

    hook_embed                  the embedding of the tokens
    blocks.N.hook_resid_pre     the residual stream before layer N     blocks.N.hook_attn_out   what attention adds
    blocks.N.hook_resid_mid     between attention and MLP              blocks.N.hook_mlp_out    what the MLP adds
    blocks.N.hook_resid_post    after the layer                        blocks.N.attn.hook_z     the heads, side by side
    blocks.N.mlp.hook_post      inside the MLP                         blocks.N.hook_mlp_in     as resid_mid

BERT normalises after it adds, so resid_mid and resid_post are read after the norm, like transformers' hidden states.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from torch import nn

INPUT, OUTPUT = "input", "output"

# Families of layers, by a module that only they have -> place -> (module in the layer, side).
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
# Paths of the stack of layers. The text part of a multimodal model comes first.
STACKS = ("language_model.layers", "layers", "h", "encoder.layer")


class Hook(NamedTuple):
    """A module of a model, its path, and whether its input or its output is read."""

    path: str
    side: str
    module: nn.Module


def find_hook(model: nn.Module, name: str, side: str = OUTPUT) -> Hook:
    """Find the module that the name of a hook stands for in this model.

    A path may start at the backbone or at the model with its head (`model.layers.12`). It may leave out the text part
    of a multimodal model (`model.language_model.layers.12`).

    Raises:
        ValueError: the model has no such module or place; the modules and places next to it are listed.
    """
    if name == "hook_embed":
        return _embedding(model)
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", name):
        return _in_layer(model, int(match[1]), match[2])
    modules = dict(model.named_modules())
    short = name.partition(".")[2]
    for path in (name, short, f"language_model.{name}", f"language_model.{short}"):
        for start in ("", "model."):
            if path and not path.endswith(".") and start + path in modules:
                return Hook(start + path, side, modules[start + path])
    parent = name.rpartition(".")[0]
    siblings = [path for path in modules if path.rpartition(".")[0] == parent] or list(dict(model.named_children()))
    raise ValueError(f"no module `{name}` in {type(model).__name__}; choose one of: {', '.join(siblings)}")


def reads_residual(name: str) -> bool:
    """Tell whether the name of a hook alone shows that it reads the residual stream."""
    return re.fullmatch(r"blocks\.\d+\.hook_resid_(pre|mid|post)|(.*\.)?(layers|h|layer)\.\d+", name) is not None


def _embedding(model: Any) -> Hook:
    module = model.get_input_embeddings()
    return Hook(next(path for path, other in model.named_modules() if other is module), OUTPUT, module)


def _in_layer(model: nn.Module, number: int, name: str) -> Hook:
    modules = dict(model.named_modules())
    stack = next((start + path for path in STACKS for start in ("", "model.") if start + path in modules), None)
    if stack is None:
        raise ValueError(f"cannot find the layers of {type(model).__name__}; set the hook to the path of a module")
    layer = modules.get(f"{stack}.{number}")
    if layer is None:
        count = len(dict(modules[stack].named_children()))
        raise ValueError(f"no layer {number} in {type(model).__name__}; it has {count}, from 0 to {count - 1}")
    place = PLACES.get(name)
    if place in ("resid_pre", "resid_post"):
        return Hook(f"{stack}.{number}", INPUT if place == "resid_pre" else OUTPUT, layer)
    inside = dict(layer.named_modules())
    places = next((places for mark, places in FAMILIES.items() if mark in inside), {})
    # Attention and MLP in parallel read the same stream, so there is no resid_mid.
    parallel = getattr(layer, "use_parallel_residual", False)
    if place is None or place not in places or (place == "resid_mid" and parallel):
        known = [hook for hook, place in PLACES.items() if place in (*places, "resid_pre", "resid_post")]
        known = [hook for hook in known if not (parallel and PLACES[hook] == "resid_mid")]
        raise ValueError(
            f"no place `{name}` in the layers of {type(model).__name__}; choose one of: {', '.join(known)}, or the "
            "path of a module"
        )
    path, side = places[place]
    return Hook(f"{stack}.{number}.{path}", side, inside[path])
