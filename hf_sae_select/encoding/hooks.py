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

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from torch import nn

from .families import OUTPUT, Parts, parts_of

PLACES = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "hook_mlp_in": "resid_mid",
    "attn.hook_z": "z",
    "mlp.hook_post": "mlp_post",
    "mlp.hook_in": "mlp_in",
}
# Paths of the stack of layers. The text part of a multimodal model comes first.
STACKS = """language_model.layers language_model.model.layers text_model.layers layers h blocks encoder.layer
encoder.layers encoder.block decoder.layers decoder.block transformer.layer""".split()


class Hook(NamedTuple):
    """A module of a model, its path, and whether its input or its output is read."""

    path: str
    side: str
    module: nn.Module
    place: str | None = None
    """What a name of TransformerLens stands for, such as `attn_out`; None for a path."""
    parts: Parts | None = None
    """The layer around it."""


def find_hook(model: nn.Module, name: str, side: str = OUTPUT) -> Hook:
    """Find the module that the name of a hook stands for in this model.

    A path may start at the backbone or at the model with its head (`model.layers.12`). It may leave out the text part
    of a multimodal model (`model.language_model.layers.12`).

    Raises:
        ValueError: the model has no such module or place; the modules and places next to it are listed.
    """
    if name == "hook_embed":
        return _embedding(model)
    if match := re.fullmatch(r"blocks\.(\d+)\.(.*hook_\w+)", name):
        return _in_layer(model, int(match[1]), match[2])
    modules = dict(model.named_modules())
    short = name.partition(".")[2]
    for path in (name, short, f"language_model.{name}", f"language_model.{short}"):
        for start in ("", "model."):
            if path and not path.endswith(".") and start + path in modules:
                return Hook(start + path, side, modules[start + path])
    parent = name.rpartition(".")[0]
    siblings = [path for path in modules if path.rpartition(".")[0] == parent]
    choice = f"choose one of: {', '.join(siblings or dict(model.named_children()))}"
    if not parent or not siblings:
        near = difflib.get_close_matches(name, filter(None, modules), n=1)
        choice = f"did you mean `{near[0]}`? {choice}" if near else choice
    raise ValueError(f"no module `{name}` in {type(model).__name__}; {choice}")


def reads_residual(name: str) -> bool:
    """Tell whether the name of a hook alone shows that it reads the residual stream."""
    return re.fullmatch(r"blocks\.\d+\.hook_resid_(pre|mid|post)|(.*\.)?(layers|h|layer)\.\d+", name) is not None


def _embedding(model: nn.Module) -> Hook:
    modules = dict(model.named_modules())
    path = _embedding_path(model, modules)
    if path is None:
        raise ValueError(
            f"cannot find the embedding of {type(model).__name__}; set the hook to the path of a module, one of: "
            f"{', '.join(dict(model.named_children()))}"
        )
    return Hook(path, OUTPUT, modules[path])


def _embedding_path(model: Any, modules: Mapping[str, nn.Module]) -> str | None:
    try:
        module = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        module = None
    module = modules.get("encoder.embed_tokens", module)  # some encoders have one of their own, and run that
    return next((path for path, other in modules.items() if other is module), None)


def names_of(places: Collection[str]) -> list[str]:
    """Return the names of TransformerLens for places."""
    return [name for name, place in PLACES.items() if place in places]


def layers_needed(model: nn.Module, hook: Hook) -> tuple[str, int] | None:
    """Return the path of the stack of layers that a hook is in, and how many of its layers are needed to read it.

    None if all of them may: the hook is in no stack under a known name, and is not the embedding.
    """
    modules = dict(model.named_modules())
    stacks = [path for path in _stacks(modules) if isinstance(modules[path], nn.ModuleList)]
    for stack in stacks:
        if match := re.match(rf"{re.escape(stack)}\.(\d+)(\.|$)", hook.path):
            return stack, int(match[1]) + 1
    is_embedding = hook.path == _embedding_path(model, modules)
    return (stacks[0], 1) if is_embedding and len(stacks) == 1 else None  # XMOD looks at a layer before it embeds


def _stacks(modules: Mapping[str, nn.Module]) -> list[str]:
    return [start + path for start in ("", "model.") for path in STACKS if start + path in modules]


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return path -> layer of all layers, in their order."""
    modules = dict(model.named_modules())
    kind = type(model).__name__
    stacks = _stacks(modules)
    if not stacks or {"encoder", "decoder"} <= {path.rpartition(".")[0] for path in stacks}:
        reason = "it has an encoder and a decoder" if stacks else "it has no stack of layers under a known name"
        if "encoder.albert_layer_groups" in modules:
            reason = "they share one module, which runs once for each"
        raise ValueError(f"cannot find the layers of {kind}: {reason}; choose `hook_embed` or the path of a module")
    return {f"{stacks[0]}.{name}": layer for name, layer in modules[stacks[0]].named_children()}


def _in_layer(model: nn.Module, number: int, name: str) -> Hook:
    layers = list(_layers(model).items())
    kind = type(model).__name__
    if number >= len(layers):
        raise ValueError(f"no layer {number} in {kind}; it has {len(layers)}, from 0 to {len(layers) - 1}")
    start, layer = layers[number]
    parts = parts_of(layer)
    place = PLACES.get(name)
    if place is None or place not in parts.places:
        reason = ""
        if name.endswith("hook_normalized"):
            reason = (
                "it lies within a norm, before or after its weights as TransformerLens loaded the model, so no module "
                "surely reads or returns it (before the weights of an RMSNorm, it is `hook_resid_mid` with "
                "`input_norm='rms'` in the config of the SAE); "
            )
        raise ValueError(
            f"no place `{name}` in the layers of {kind}; {reason}choose one of: {', '.join(names_of(parts.places))}, "
            "or the path of a module"
        )
    path, side = parts.places[place]
    return Hook(f"{start}.{path}".rstrip("."), side, parts.modules[path], place, parts)
