"""The part of a model before a hook: the layers above it are neither read from the files nor moved.

The config stays that of the whole model, since some models scale by the number of their layers.
"""

from __future__ import annotations

from typing import Any

from .hooks import Hook, layers_needed


def truncated(model: Any, hook: Hook) -> type | None:
    """Return a class of models like this one, without the layers above a hook; None if the hook needs all of them.

    Args:
        model: The whole model; its weights may be on `meta`.
        hook: The hook in it.
    """
    needed = layers_needed(model.base_model, hook)
    if needed is None:
        return None
    stack, count = needed
    whole = type(model)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        whole.__init__(self, *args, **kwargs)
        del self.base_model.get_submodule(stack)[count:]

    # Under the names of the whole class, by which transformers looks up what it knows of it.
    return type(whole.__name__, (whole,), {"__init__": init, "__module__": whole.__module__})
