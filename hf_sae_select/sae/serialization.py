"""The layout that our own SAEs are kept in: `config.json`, `sae_weights.safetensors`, and `cfg.json` for SAELens 6."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import SaeConfig

CONFIG_FILE, WEIGHTS_FILE, SAELENS_FILE = "config.json", "sae_weights.safetensors", "cfg.json"
LIBRARY = "hf-sae-select"  # how our config.json is told from others
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DECODER = ("W_dec", "b_dec", "W_skip")

ARCHITECTURES = {"relu": "standard", "jumprelu": "jumprelu", "topk": "topk", "abstopk": "abstopk"}  # -> SAELens's word
INPUT_NORMS = {"none": "none", "layer_norm": "layer_norm", "rms": "constant_norm_rescale"}


def shapes(config: SaeConfig) -> dict[str, tuple[int, ...]]:
    """Return the tensors that an SAE of this config has, by name."""
    d_in, d_sae, d_out = config.d_in, config.d_sae, config.d_out or config.d_in
    found: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_out)}
    found["b_dec"] = (d_out,)
    if config.activation == "jumprelu":
        found["threshold"] = (d_sae,)
    if config.skip:
        found["W_skip"] = (d_out, d_in)
    return found


def write_native(folder: Path, config: SaeConfig, tensors: Mapping[str, Tensor]) -> None:
    """Write the files of an SAE into `folder`; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / WEIGHTS_FILE, lambda file: save_file(dict(tensors), file, metadata={"format": "pt"}))
    _put_json(folder / CONFIG_FILE, {"library_name": LIBRARY, **asdict(config)})
    dtype = str(tensors["W_enc"].dtype).removeprefix("torch.")
    if (cfg := to_saelens(config, dtype)) is not None:
        _put_json(folder / SAELENS_FILE, cfg)


def read_native(
    config_file: Path, weights_file: Path, *, encoder_only: bool, source: Mapping[str, Any]
) -> tuple[SaeConfig, dict[str, Tensor]]:
    """Read what `write_native` wrote; with `encoder_only` the decoder stays on disk.

    Raises:
        ValueError: a file cannot be read or is not ours, a tensor is missing, unexpected or of another shape.
    """
    values = read_json(config_file)
    if values.get("library_name") != LIBRARY:
        raise ValueError(f"{config_file.name} is not of this library; `hf_sae_select.load_sae` reads others' layouts")
    try:
        config = SaeConfig.from_dict(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config_file.name}: {error}") from error
    if source:
        config = replace(config, source=dict(source))
    expected = shapes(config)
    tensors = {}
    try:
        with safe_open(weights_file, framework="pt") as file:
            check_shapes({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, expected)
            for name in expected:
                if not (encoder_only and name in DECODER):
                    tensors[name] = file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"cannot read {weights_file.name}: {error}") from error
    return config, tensors


def check_shapes(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors that are not exactly what the config promises, naming the tensor."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ValueError(f"tensor `{name}` is missing from {WEIGHTS_FILE}")
        if name not in expected:
            known = ", ".join(sorted(expected))
            raise ValueError(f"tensor `{name}` in {WEIGHTS_FILE} is unexpected; expected: {known}")
        if found[name] != expected[name]:
            raise ValueError(f"tensor `{name}` is {list(found[name])}; {CONFIG_FILE} says {list(expected[name])}")


def check_tensors(tensors: Mapping[str, Tensor], file: str) -> None:
    """Refuse what is no finite floating-point number, naming the tensor."""
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS or tensor.layout != torch.strided or tensor.is_meta:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"tensor `{name}` in {file} is {kind}, not dense or not there; weights are plain floats")
        if not tensor.isfinite().all():
            raise ValueError(f"tensor `{name}` in {file} holds NaN or infinity")


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: it is none.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
        raise ValueError(f"cannot read {file.name}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file.name} is no JSON object")
    return values


def to_saelens(config: SaeConfig, dtype: str) -> dict[str, Any] | None:
    """Say `config` in SAELens 6's words, its free `metadata` for the rest; None where SAELens has no such SAE."""
    architecture = ARCHITECTURES.get(config.activation)
    if config.d_out is not None and architecture is not None:
        kind = "skip_transcoder" if config.skip else "transcoder"
        architecture = {"standard": kind, "jumprelu": f"jumprelu_{kind}"}.get(architecture)
    if architecture is None:
        return None
    own = asdict(config)
    for name in ("d_in", "d_sae", "d_out", "activation", "k", "input_norm", "skip"):
        own.pop(name)
    metadata = {"model_name": own.pop("model"), "hook_name": own.pop("hook"), "hf_hook_name": config.hook}
    # Without a version SAELens takes a config for one of before 6 and drops its metadata; this is the one tested.
    metadata |= {
        "sae_lens_version": "6.54.12",
        "model_class_name": "AutoModel",
        "prepend_bos": True if config.prepend_bos is None else config.prepend_bos,
        "exclude_special_tokens": True,
    }
    cfg = {"d_in": config.d_in, "d_sae": config.d_sae, "architecture": architecture, "dtype": dtype, "device": "cpu"}
    cfg |= {"apply_b_dec_to_input": False, "normalize_activations": INPUT_NORMS[config.input_norm]}
    cfg |= {"reshape_activations": "none", "metadata": {**own, **metadata}}
    if config.d_out is not None:
        cfg["d_out"] = config.d_out
    return cfg | ({"k": config.k, "rescale_acts_by_decoder_norm": False} if "topk" in architecture else {})


def _put_json(file: Path, values: Mapping[str, Any]) -> None:
    put_text(file, json.dumps(values, indent=2, sort_keys=True) + "\n")


def put_text(file: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    _put(file, lambda path: Path(path).write_text(text, encoding="utf-8"))


def _put(file: Path, write: Callable[[str], Any]) -> None:
    part = file.with_name(f".{file.name}.part")
    try:
        part.touch()
        mode = part.stat().st_mode  # as the umask has it; safetensors lets nobody else read what it writes
        write(str(part))
        with suppress(OSError):  # some mounts know no permissions
            part.chmod(mode)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
