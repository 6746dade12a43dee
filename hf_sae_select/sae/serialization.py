"""The native format of SAEs: `config.json`, `sae_weights.safetensors`, and `cfg.json`, which SAELens 6 reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .._files import whole_file
from .config import SaeConfig

CONFIG_FILE, WEIGHTS_FILE, SAELENS_FILE = "config.json", "sae_weights.safetensors", "cfg.json"
LIBRARY = "hf-sae-select"  # identifies a config.json of the native format
MOST_CONFIG_BYTES = 2**20  # configs of SAEs have a few kilobytes
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

SAELENS_ARCHITECTURES = {"relu": "standard", "jumprelu": "jumprelu", "topk": "topk", "abstopk": "abstopk"}
SAELENS_INPUT_NORMS = {"none": "none", "layer_norm": "layer_norm", "rms": "constant_norm_rescale"}


def tensor_shapes(config: SaeConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of an SAE, by name."""
    d_in, d_sae, d_out = config.d_in, config.d_sae, config.d_out or config.d_in
    shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (d_in, d_sae),
        "b_enc": (d_sae,),
        "W_dec": (d_sae, d_out),
        "b_dec": (d_out,),
    }
    if config.activation == "jumprelu":
        shapes["threshold"] = (d_sae,)
    if config.skip:
        shapes["W_skip"] = (d_out, d_in)
    return shapes


def write_sae(folder: Path, config: SaeConfig, tensors: Mapping[str, Tensor]) -> None:
    """Write the files of an SAE into `folder`. Each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS_FILE) as part:
        save_file(dict(tensors), part, metadata={"format": "pt"})
    _write_json(folder / CONFIG_FILE, {"library_name": LIBRARY, **asdict(config)})
    dtype = str(tensors["W_enc"].dtype).removeprefix("torch.")
    if (cfg := to_saelens(config, dtype)) is not None:
        _write_json(folder / SAELENS_FILE, cfg)


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    with whole_file(file) as part:
        part.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_config_size(file: Path) -> None:
    """Check that a config file is no larger than configs are.

    Raises:
        ValueError: If it is.
    """
    if (size := file.stat().st_size) > MOST_CONFIG_BYTES:
        raise ValueError(f"{file.name} has {size:,} bytes; the config of an SAE has at most {MOST_CONFIG_BYTES:,}")


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: If the file does not contain one, or is far too large.
    """
    check_config_size(file)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise ValueError(f"cannot read {file.name}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file.name} contains a {type(values).__name__}; it must be a JSON object")
    return values


def check_numbers(name: str, tensor: Tensor, place: str, logarithm: bool = False) -> None:
    """Check that a tensor is dense, floating-point and finite; a `logarithm` may be that of 0.

    Raises:
        ValueError: If it is not; the message names the tensor and its `place`, such as a file.
    """
    if tensor.dtype not in FLOATS or tensor.layout != torch.strided or tensor.is_meta:
        kind = "on the meta device" if tensor.is_meta else f"{tensor.layout}, {tensor.dtype}"
        raise ValueError(
            f"tensor `{name}` in {place} is {kind}; it must be dense, of float16, bfloat16, float32 or float64"
        )
    if not (tensor.isfinite() | (tensor == -torch.inf if logarithm else False)).all():
        raise ValueError(f"tensor `{name}` in {place} contains NaN or infinity")


def to_saelens(config: SaeConfig, dtype: str) -> dict[str, Any] | None:
    """Return `config` as a `cfg.json` of SAELens 6, or None if SAELens has no such architecture.

    Values that SAELens does not know go into its free-form `metadata`.
    """
    architecture = SAELENS_ARCHITECTURES.get(config.activation)
    if config.d_out is not None and architecture is not None:
        kind = "skip_transcoder" if config.skip else "transcoder"
        architecture = {"standard": kind, "jumprelu": f"jumprelu_{kind}"}.get(architecture)
    if architecture is None:
        return None
    metadata = asdict(config)
    for name in ("d_in", "d_sae", "d_out", "activation", "k", "input_norm", "skip"):
        del metadata[name]
    metadata |= {"model_name": metadata.pop("model"), "hook_name": metadata.pop("hook"), "hf_hook_name": config.hook}
    # Without a version, SAELens assumes one before 6 and drops the metadata. This is the version we tested.
    metadata |= {
        "sae_lens_version": "6.54.12",
        "model_class_name": "AutoModel",
        "prepend_bos": True if config.prepend_bos is None else config.prepend_bos,
        "exclude_special_tokens": True,
    }
    cfg = {
        "d_in": config.d_in,
        "d_sae": config.d_sae,
        "architecture": architecture,
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": SAELENS_INPUT_NORMS[config.input_norm],
        "reshape_activations": "none",
        "metadata": metadata,
    }
    if config.d_out is not None:
        cfg["d_out"] = config.d_out
    if "topk" in architecture:
        cfg |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    return cfg
