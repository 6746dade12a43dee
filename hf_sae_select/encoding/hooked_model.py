"""A transformer, run up to one of its modules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .families import INPUT, OUTPUT
from .hooks import find_hook

LISTED = 20  # modules listed in an error


class _StopForward(Exception):
    """Stop a forward pass after the hook: the layers behind it are not needed."""


class HookedModel:
    """Run a transformer up to one module and return the module's input or output.

    Args:
        model: A model of transformers. It is moved to `device`, unless transformers has placed or quantised it.
        hook: Name of the module, as `hooks.find_hook` reads it.
        side: `"output"` or `"input"` of the module.

    Raises:
        ValueError: the model has no module `hook`; the modules next to it are listed.
    """

    def __init__(self, model: Any, hook: str, side: str, device: str | torch.device) -> None:
        self.model = model.eval().requires_grad_(False)
        self.device = torch.device(device)
        if _is_placed(model):
            # Weights that are offloaded are on `meta`; accelerate's hooks then take the tokens from anywhere.
            self.device = torch.device("cpu") if model.device.type == "meta" else model.device
        else:
            self.model.to(self.device)
        for config in (model.config, model.config.get_text_config()):
            config.use_cache = False  # nothing is generated
        self.hook = find_hook(model.base_model, hook, side)
        # Longformer pads each window at its end to a multiple of this.
        self._pads_windows = hasattr(model.config, "attention_window")

    def _run(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return the vectors at the hook, [windows, length, d_in]."""
        vectors = self._read({"": (self.hook.module, self.hook.side)}, ids, mask).get("")
        if vectors is None or vectors.shape[:-1] != ids.shape:
            raise ValueError(
                f"module `{self.hook.path}` of {type(self.model.base_model).__name__} has no vector per token; choose "
                f"one of: {', '.join(self._per_token(ids, mask)) or 'the hooks of another model'}"
            )
        return vectors

    def _per_token(self, ids: Tensor, mask: Tensor | None) -> list[str]:
        """Return the paths of modules that return a vector per token, those nearest to the root first."""
        modules = {path: (module, OUTPUT) for path, module in self.model.base_model.named_modules() if path}
        vectors = self._read(modules, ids, mask)
        paths = [path for path in modules if path in vectors and vectors[path].shape[:-1] == ids.shape]
        return sorted(paths, key=lambda path: path.count("."))[:LISTED]

    def _read(
        self, places: Mapping[str, tuple[nn.Module, str]], ids: Tensor, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Run the model until all places have been read, each the first time; return name -> vectors."""
        captured: dict[str, Tensor] = {}

        def capture(name: str, module: nn.Module, args: Any, kwargs: Any, *output: Any) -> None:
            vectors = self._vectors(ids, args, kwargs, *output)
            if vectors is not None:
                # A layer may add to its input in place.
                captured.setdefault(name, vectors if len(places) == 1 else vectors.clone())
            if len(captured) == len(places):
                raise _StopForward

        handles = []
        for name, (module, side) in places.items():
            register = module.register_forward_pre_hook if side == INPUT else module.register_forward_hook
            handles.append(register(partial(capture, name), with_kwargs=True))
        try:
            self.model(input_ids=ids, attention_mask=mask)
        except _StopForward:
            pass
        except torch.OutOfMemoryError:
            raise
        except Exception:
            self._check_encoder_decoder()
        finally:
            for handle in handles:
                handle.remove()
        return captured

    def _vectors(self, ids: Tensor, args: Any, kwargs: Any, *output: Any) -> Tensor | None:
        """Return the vectors that a module takes or returns, one per token where it can be told; None if none."""
        # A layer takes its input as the first argument or by name; some layers return a tuple.
        vectors = output[0] if output else kwargs.get("hidden_states", next(iter((*args, *kwargs.values())), None))
        vectors = vectors[0] if isinstance(vectors, tuple | list) else vectors
        if not isinstance(vectors, Tensor):
            return None
        if self._pads_windows:
            vectors = vectors[:, : ids.shape[1]]
        in_a_row = vectors.dim() == 2 and len(vectors) == ids.numel() > len(ids)  # OPT's windows
        return vectors.view(*ids.shape, -1) if in_a_row else vectors

    def _check_encoder_decoder(self) -> None:
        """Raise the current exception again, but for an encoder-decoder, whose encoder has run.

        Its decoder has no tokens of its own, and raises anything.
        """
        if not getattr(self.model.config, "is_encoder_decoder", False):
            raise


def _is_placed(model: Any) -> bool:
    """Tell whether transformers has put a model on its devices, so that it must not be moved."""
    return bool(getattr(model, "hf_device_map", None)) or getattr(model, "hf_quantizer", None) is not None
