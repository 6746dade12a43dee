"""Tensor files, read lazily: safetensors, npz, and torch checkpoints, whose pickled code is never run."""

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
class TensorFile:
    """The shapes of a file's tensors, and a function that reads one tensor."""

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]

    @classmethod
    def open(cls, file: Path) -> TensorFile:
        """Open a tensor file by its suffix: `.safetensors`, `.npz`, `.pt` or `.pth`.

        Raises:
            ValueError: If the file is damaged, or contains anything but tensors and plain values.
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
        """The tensors that contain a single real number, by name."""
        numbers = {}
        for name in [name for name, shape in self.shapes.items() if math.prod(shape) == 1]:
            with suppress(TypeError, RuntimeError):  # text, or a complex number
                numbers[name] = float(self.read(name))
        return numbers


def _safetensors(file: Path) -> TensorFile:
    reader = safe_open(file, framework="pt")
    shapes = {name: tuple(reader.get_slice(name).get_shape()) for name in reader.keys()}
    return TensorFile(shapes, reader.get_tensor)


def _npz(file: Path) -> TensorFile:
    with zipfile.ZipFile(file) as archive:
        shapes = {name.removesuffix(".npy"): _npy_shape(archive, name) for name in archive.namelist()}

    def read(name: str) -> Tensor:
        with np.load(file, allow_pickle=False) as arrays:
            return torch.from_numpy(arrays[name])

    return TensorFile(shapes, read)


def _npy_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(member)
    if dtype.hasobject:
        raise ValueError(f"array `{name}` contains Python objects, which are never loaded for safety")
    return tuple(shape)


def _torch(file: Path) -> TensorFile:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            "it is damaged, or contains Python objects other than tensors, which are never loaded for safety"
        ) from error
    tensors = _tensors(content)
    for name, tensor in tensors.items():
        if (
            tensor.layout == torch.strided
            and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            raise ValueError(f"tensor `{name}` is {list(tensor.shape)}, larger than the file")
    return TensorFile({name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__)


def _tensors(content: Any, prefix: str = "") -> dict[str, Tensor]:
    """Flatten nested dicts of tensors into one: names are joined by dots, without the name of a state dict."""
    if not isinstance(content, Mapping):
        raise ValueError(f"it contains a {type(content).__name__} instead of a dict of tensors")
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            tensors[f"{prefix}{name}"] = value
        elif isinstance(value, bool | int | float):
            tensors[f"{prefix}{name}"] = torch.tensor(value)
        elif isinstance(value, Mapping):
            tensors |= _tensors(value, "" if name in ("state_dict", "sae") else f"{prefix}{name}.")
    return tensors
