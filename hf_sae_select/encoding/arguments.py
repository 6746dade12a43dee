"""The arguments of `encode`: checked once, each in one form."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self

import torch

from .._validation import check_choice, check_flag, check_int, is_number
from ..engines.processes import processes
from ..features.kept import STRONGEST
from ..sae.products import PRECISIONS
from .chat_template import RESERVED_VARIABLES
from .devices import available
from .text import TextSource

DEFAULT_WINDOWS, DEFAULT_GPU_TOKENS = 32, 16_384  # of a forward pass
KEEP = ("all", "float32", "state")
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")

# Keys of `model_kwargs` that would contradict what the library passes to transformers -> what to do instead.
RESERVED = {
    "pretrained_model_name_or_path": "set `model` in the config of the SAE",
    "config": "set `model` in the config of the SAE",
    "state_dict": "set `model` in the config of the SAE",
    "subfolder": "set `model` in the config of the SAE",
    "gguf_file": "set `model` in the config of the SAE",
    "revision": "set `model_revision` in the config of the SAE",
    "code_revision": "code from a model's repo never runs",
    "trust_remote_code": "code from a model's repo never runs",
    "weights_only": "weights that hold code are never loaded",
    "dtype": "pass `dtype` to `encode`",
    "torch_dtype": "pass `dtype` to `encode`",
    "output_loading_info": "leave it out",
    "output_hidden_states": "the states at the hook of the SAE are read",
    "output_attentions": "the states at the hook of the SAE are read",
    "return_dict": "leave it out",
    "use_cache": "nothing is generated, so nothing is cached",
    "hidden_size": "set `model` in the config of the SAE",
    "vocab_size": "set `model` in the config of the SAE",
    "layer_types": "set `model` in the config of the SAE",
    **dict.fromkeys(
        ("num_hidden_layers", "num_layers", "n_layer", "n_layers"),
        "the layers above the hook of the SAE are left out without it",
    ),
    "cache_dir": "set the environment variable HF_HUB_CACHE",
    "local_files_only": "set the environment variable HF_HUB_OFFLINE",
    "proxies": "set the environment variable HTTPS_PROXY",
    "token": "log in with `hf auth login`, or set the environment variable HF_TOKEN",
    "use_auth_token": "log in with `hf auth login`, or set the environment variable HF_TOKEN",
}


@dataclass(frozen=True)
class EncodingArguments:
    """How to encode: all arguments of `encode` but the dataset and the SAE."""

    text: TextSource | None
    max_length: int | None
    batch_size: int
    tokens_per_batch: int | None
    keep_state: bool
    strongest: int | None
    """How many of a row's strongest features are stored, beside those above a threshold; None for all."""
    acts_type: str
    """Type of the stored activations, where not all are stored."""
    device: torch.device
    dtype: str
    """Type of the language model's weights, as `from_pretrained` takes it."""
    precision: str
    model_kwargs: dict[str, Any]
    model_kwargs_record: dict[str, Any]
    """`model_kwargs` as JSON."""
    chat_template_kwargs: dict[str, Any]
    """Variables of the chat template, as JSON."""
    show_progress_bar: bool | None

    @property
    def budget(self) -> int | None:
        """Number of tokens of a forward pass; None if it has `batch_size` windows."""
        is_default = self.tokens_per_batch is None and self.batch_size == DEFAULT_WINDOWS
        return DEFAULT_GPU_TOKENS if is_default and self.device.type == "cuda" else self.tokens_per_batch

    @classmethod
    def parse(
        cls,
        *,
        text: TextSource | None = None,
        max_length: int | None = None,
        batch_size: int = DEFAULT_WINDOWS,
        tokens_per_batch: int | None = None,
        keep: int | str | Collection[int | str] = STRONGEST,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        precision: str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        show_progress_bar: bool | None = None,
        of_workers: str | None = None,
    ) -> Self:
        """Check the arguments of `encode`.

        Args:
            of_workers: the type of device that workers of an engine encode on; None where this process encodes.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: an argument has a value that is not allowed, or the device is not available.
        """
        check_int("max_length", max_length, optional=True)
        check_int("batch_size", batch_size)
        check_int("tokens_per_batch", tokens_per_batch, optional=True)
        if tokens_per_batch is not None and batch_size != DEFAULT_WINDOWS:
            raise ValueError(
                f"`batch_size={batch_size}` and `tokens_per_batch={tokens_per_batch}` both say how large a forward "
                "pass is; pass one of them"
            )
        if show_progress_bar is not None:
            check_flag("show_progress_bar", show_progress_bar)
        record = _as_json_dict(
            "model_kwargs",
            model_kwargs,
            RESERVED,
            "arguments for `from_pretrained`",
            "{'attn_implementation': 'eager'}",
        )
        template_kwargs = _as_json_dict(
            "chat_template_kwargs",
            chat_template_kwargs,
            RESERVED_VARIABLES,
            "variables of the chat template",
            "{'enable_thinking': True}",
        )
        strongest, names = _kept(keep)
        parsed_device = _device(device) if of_workers is None else _device_of_workers(device, of_workers)
        return cls(
            text=text,
            max_length=None if max_length is None else int(max_length),
            batch_size=int(batch_size),
            tokens_per_batch=None if tokens_per_batch is None else int(tokens_per_batch),
            keep_state="state" in names,
            strongest=strongest,
            acts_type="float32" if "float32" in names else "float16",
            device=parsed_device,
            dtype=_dtype(dtype, parsed_device),
            precision=_precision(precision, parsed_device),
            model_kwargs=dict(model_kwargs or {}),
            model_kwargs_record=record,
            chat_template_kwargs=template_kwargs,
            show_progress_bar=show_progress_bar,
        )


def _kept(keep: Any) -> tuple[int | None, set[str]]:
    """Return the number of strongest features that `keep` asks for, None for all, and its names."""
    items = [keep] if isinstance(keep, str) or not isinstance(keep, Collection) else list(keep)
    names = {item for item in items if isinstance(item, str)}
    numbers = [item for item in items if not isinstance(item, str)]
    is_known = names <= set(KEEP) and all(is_number(number, Integral) and number > 0 for number in numbers)
    if not is_known or len(numbers) + ("all" in names) > 1:
        raise ValueError(
            f"unknown `keep={keep!r}`; pass a number of features of a row from 1 on, such as {STRONGEST}, or 'all'; "
            f"'float32' for activations in full precision; 'state' for the mean hidden states; or several: "
            f"({STRONGEST}, 'state')"
        )
    return (None if "all" in names else int(numbers[0]) if numbers else STRONGEST), names


def _device(device: Any) -> torch.device:
    """Return the device to encode on, with its index; by default Accelerate's device of this process."""
    if device is None:
        default: torch.device = processes().device
        return default
    if not isinstance(device, str | torch.device):
        raise TypeError(f"`device={device!r}` must be a string such as 'cpu' or 'cuda:0', or a torch.device")
    return available(device)


def _device_of_workers(device: Any, of_workers: str) -> torch.device:
    """Return the device that workers encode on, which this process may lack."""
    if device is not None and str(device) != of_workers:
        raise ValueError(
            f"`device={str(device)!r}`: workers encode on '{of_workers}', as `gpus` of the engine says; leave "
            "`device` out, and pass engine=Ray(gpus=1) for a GPU each, or gpus=0"
        )
    return torch.device(of_workers)


def _dtype(dtype: Any, device: torch.device) -> str:
    """Return the name of the language model's dtype, as `from_pretrained` takes it."""
    if dtype is None:
        # A GPU holds large models in the dtype they were saved in. Many CPUs are slow in half precision.
        return "auto" if device.type == "cuda" else "float32"
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype
    check_choice("dtype", name, DTYPES)
    return str(name)


def _precision(precision: Any, device: torch.device) -> str:
    """Return how the SAE multiplies."""
    if precision is None:
        return "float32"
    check_choice("precision", precision, PRECISIONS)
    if precision != "float32" and device.type == "cuda" and not hasattr(torch.ops.aten.mm, "dtype"):
        raise ValueError(
            f"`precision={precision!r}` needs a newer torch than {torch.__version__}, which multiplies bfloat16 into "
            "float32 on a GPU; upgrade torch, or pass precision='float32'"
        )
    return str(precision)


def _as_json_dict(name: str, values: Any, reserved: Mapping[str, str], what: str, example: str) -> dict[str, Any]:
    """Check a dict of keyword arguments, and return them as JSON values."""
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise TypeError(f"`{name}={values!r}` must be a dict of {what}, such as {example}")
    for key in values:
        if key in reserved:
            raise ValueError(f"`{name}` must not have `{key}`: {reserved[key]}")
    return {key: _as_json(f"{name}[{key!r}]", value) for key, value in values.items()}


def _as_json(name: str, value: Any) -> Any:
    """Return a keyword argument as a JSON value; configs of transformers by their `to_dict`."""
    try:
        return json.loads(json.dumps(value, default=lambda item: item.to_dict(), allow_nan=False))
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(
            f"`{name}={value!r}` has no JSON form, which the encoding record needs ({error}); "
            "pass JSON values, or an object with `to_dict`"
        ) from error
