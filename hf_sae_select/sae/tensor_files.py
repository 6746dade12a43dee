"""Files of tensors, opened without reading them: safetensors, npz, and torch's own, whose code is never run."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """Hold the shapes of a file's tensors, and read one when it is asked for."""

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]

    @classmethod
    def open(cls, file: Path) -> Weights:
        """Open a file of tensors by its ending: .safetensors, .npz, .pt or .pth.

        Raises:
            ValueError: it is damaged, no such file, or holds anything but tensors and plain values.
        """
        with open(file, "rb") as stream:
            if stream.read(64).startswith(b"version https://git-lfs"):
                raise ValueError(
                    f"{file.name} is a git-lfs pointer, not the file itself: run `git lfs pull` in its folder"
                )
        opener = {".safetensors": _safetensors, ".npz": _npz}.get(file.suffix, _torch)
        try:
            return opener(file)
        except (
            SafetensorError,
            zipfile.BadZipFile,
            OSError,
            EOFError,
            ValueError,
            RuntimeError,
            RecursionError,
        ) as error:
            raise ValueError(f"cannot read {file.name}: {error}") from error

    @property
    def scalars(self) -> dict[str, float]:
        """The tensors of a single real number."""
        found = {}
        for name in [name for name, shape in self.shapes.items() if math.prod(shape) == 1]:
            with suppress(TypeError, RuntimeError):  # text, or a complex number
                found[name] = float(self.read(name))
        return found


def _safetensors(file: Path) -> Weights:
    opened = safe_open(file, framework="pt")
    shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}
    return Weights(shapes, opened.get_tensor)


def _npz(file: Path) -> Weights:
    with zipfile.ZipFile(file) as archive:
        shapes = {name.removesuffix(".npy"): _npy_shape(archive, name) for name in archive.namelist()}

    def read(name: str) -> Tensor:
        with np.load(file, allow_pickle=False) as arrays:
            return torch.from_numpy(arrays[name])

    return Weights(shapes, read)


def _npy_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(member)
    if dtype.hasobject:
        raise ValueError(f"array `{name}` holds Python objects, which are never loaded")
    return tuple(shape)


def _torch(file: Path) -> Weights:
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # a damaged pickle raises what it likes
        raise ValueError("it is damaged, or holds more than plain tensors, which is never loaded") from error
    tensors = _tensors(found)
    for name, tensor in tensors.items():
        if (
            tensor.layout == torch.strided
            and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            raise ValueError(f"tensor `{name}` is {list(tensor.shape)}, more than the file holds")
    return Weights({name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__)


def _tensors(found: Any, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a dict; those of a dict in it under its name and a dot, unless they are a state dict."""
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__}, not tensors by name")
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        if isinstance(value, Tensor):
            tensors[f"{prefix}{name}"] = value
        elif isinstance(value, bool | int | float):
            tensors[f"{prefix}{name}"] = torch.tensor(value)
        elif isinstance(value, Mapping):
            tensors |= _tensors(value, "" if name in ("state_dict", "sae") else f"{prefix}{name}.")
    return tensors
