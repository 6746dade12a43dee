"""Tensor files, read lazily: safetensors, npz, and torch checkpoints, whose pickled code is never run.

A file cannot make the reader allocate much more than the file itself occupies: declared sizes are compared with the
size on disk before anything is unpacked.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .checkpoints import check_checkpoint

# Compression takes a few percent off trained weights, and at most most of a matrix that is mostly zeros. Content that
# unpacks to more than this multiple of its file is no SAE. Files that unpack to less than SMALL bytes do no harm.
MOST_EXPANSION = 20
SMALL = 2**26
MOST_TENSORS = 10_000
MOST_HEADER_BYTES = 2**24
MOST_CHARACTERS = 2**22  # of the plain values of a checkpoint

STATE_DICTS = ("state_dict", "sae", "weight")  # keys of a checkpoint that hold its tensors
CONFIG = "config."

# What wrappers put before and between the names of a module's parameters: DistributedDataParallel, torch.compile.
WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod)\.)+|\b_orig_mod\.")


@dataclass(frozen=True)
class TensorFile:
    """The shapes of a file's tensors, a function that reads one tensor, and the plain values beside them."""

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    values: Mapping[str, Any] = field(default_factory=dict)
    """The values of a torch checkpoint that are no tensors, or the metadata of a safetensors file."""

    @classmethod
    def open(cls, file: Path) -> TensorFile:
        """Open a tensor file by its suffix: `.safetensors`, `.npz`, `.pt` or `.pth`.

        Prefixes of names that wrappers of modules add are left out.

        Raises:
            ValueError: If the file is damaged, contains anything but tensors and plain values, or declares to be far
                larger than it is.
        """
        with open(file, "rb") as stream:
            if stream.read(64).startswith(b"version https://git-lfs"):
                raise ValueError(
                    f"{file.name} is a git-lfs pointer, not the file itself: run `git lfs pull` in its folder"
                )
        opener = {".safetensors": _safetensors, ".npz": _npz}.get(file.suffix, _torch)
        try:
            return _unwrapped(opener(file))
        except (
            SafetensorError,
            zipfile.BadZipFile,
            OSError,
            EOFError,
            ValueError,
            RuntimeError,
            RecursionError,
            NotImplementedError,
        ) as error:
            raise ValueError(f"cannot read {file.name}: {error}") from error

    @property
    def scalars(self) -> dict[str, float]:
        """The tensors that contain a single real number, by name."""
        numbers = {}
        for name in [name for name, shape in self.shapes.items() if math.prod(shape) == 1]:
            with suppress(TypeError, RuntimeError, ValueError, NotImplementedError):  # text, or a complex number
                numbers[name] = float(self.read(name))
        return numbers


def _unwrapped(file: TensorFile) -> TensorFile:
    stored = {WRAPPERS.sub("", name): name for name in file.shapes}
    if len(stored) < len(file.shapes):
        raise ValueError("two of its tensors differ only by the prefixes `module.` and `_orig_mod.`")
    shapes = {name: file.shapes[original] for name, original in stored.items()}
    return TensorFile(shapes, lambda name: file.read(stored[name]), file.values)


def _check_size(file: Path, declared: int) -> None:
    """Check the declared size of a file's content against the file, which is small for compressed zeros and holes."""
    if declared <= SMALL:
        return
    stored = _bytes_without_holes(file)
    if declared > MOST_EXPANSION * stored:
        raise ValueError(
            f"its content is declared to be {declared:,} bytes, which is more than {MOST_EXPANSION} times the "
            f"{stored:,} bytes of the file; weights do not compress like that"
        )


def _bytes_without_holes(file: Path) -> int:
    """Return the bytes that a file stores: its size, without holes where the file system tells of them."""
    size, position, stored = file.stat().st_size, 0, 0
    with open(file, "rb") as stream:
        while position < size:
            try:
                start = os.lseek(stream.fileno(), position, os.SEEK_DATA)
                position = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            except (OSError, AttributeError) as error:
                if getattr(error, "errno", None) == errno.ENXIO:  # a hole until the end
                    break
                return size
            stored += position - start
    return stored


def _safetensors(file: Path) -> TensorFile:
    size = file.stat().st_size
    with open(file, "rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    if MOST_HEADER_BYTES < header <= size:  # a longer one is an error of the library
        raise ValueError(f"its header is declared to be {header:,} bytes; an SAE has at most {MOST_HEADER_BYTES:,}")
    _check_size(file, size)
    reader = safe_open(file, framework="pt")
    shapes = {name: tuple(reader.get_slice(name).get_shape()) for name in reader.keys()}
    values = {name: _parsed(value) for name, value in (reader.metadata() or {}).items()}
    return TensorFile(shapes, reader.get_tensor, values)


def _parsed(value: str) -> Any:
    """Return the JSON value that a metadata string holds, or else the string."""
    with suppress(ValueError, RecursionError):
        return json.loads(value)
    return value


def _npz(file: Path) -> TensorFile:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MOST_TENSORS:
            raise ValueError(f"it contains {len(members):,} arrays; an SAE has a few")
        _check_size(file, sum(member.file_size for member in members))
        if len({member.filename.removesuffix(".npy") for member in members}) < len(members):
            raise ValueError("two of its arrays have one name")
        shapes = {member.filename.removesuffix(".npy"): _npy_shape(archive, member) for member in members}

    def read(name: str) -> Tensor:
        with np.load(file, allow_pickle=False) as arrays:
            return torch.from_numpy(arrays[name])

    return TensorFile(shapes, read)


def _npy_shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, ...]:
    """Return the shape in the header of an array, which must fit the size of the array."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            shape, _, dtype = header(stream)
        except ValueError as error:  # numpy says how to load the file all the same
            raise ValueError(f"the header of array `{member.filename}` is damaged, or far too long") from error
        size = member.file_size - stream.tell()
    if dtype.hasobject:
        raise ValueError(f"array `{member.filename}` contains Python objects, which are never loaded for safety")
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"array `{member.filename}` is {list(shape)} of {dtype}, but has {size:,} bytes")
    return tuple(shape)


def _torch(file: Path) -> TensorFile:
    _check_size(file, file.stat().st_size)
    check_checkpoint(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            "it is damaged, or contains Python objects other than tensors, which are never loaded for safety"
        ) from error
    tensors, values = _flatten(content)
    for name, tensor in tensors.items():
        if (
            tensor.layout == torch.strided
            and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            raise ValueError(f"tensor `{name}` is {list(tensor.shape)}, larger than the file")
    return TensorFile({name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__, values)


def _flatten(content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of nested dicts, and the other values in their nested dicts.

    Names of tensors are joined by dots, without the name of a state dict. A number counts as both: some files store
    `k` beside the tensors.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"it contains a {type(content).__name__} instead of a dict of tensors")
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    entries, size, pending = 0, 0, [(content, "", values)]
    for mapping, prefix, rest in pending:  # grows as it is read; a pickle may hold one dict many times
        for name, value in mapping.items():
            entries += 1
            if entries > MOST_TENSORS:
                raise ValueError(f"it contains more than {MOST_TENSORS:,} entries; an SAE has a few")
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, Mapping):
                rest[str(name)] = {}
                pending.append((value, "" if name in STATE_DICTS else f"{prefix}{name}.", rest[str(name)]))
            else:
                size += _size_of(value, MOST_CHARACTERS - size)
                rest[str(name)] = value
                if isinstance(value, bool | int | float) and not prefix.startswith(CONFIG):
                    tensors[f"{prefix}{name}"] = torch.tensor(value)
    return tensors, values


def _size_of(value: Any, most: int) -> int:
    """Return how long a value is when it is printed, about; it may hold one list many times.

    Raises:
        ValueError: If that is more than `most`.
    """
    size, pending = 0, [value]
    while pending:
        item = pending.pop()
        size += 1 + (len(item) if isinstance(item, str | bytes) else 0)
        if size > most:
            raise ValueError("its plain values are too long to print; an SAE has a few")
        if isinstance(item, list | tuple | set):
            pending += item
        elif isinstance(item, Mapping):
            pending += [*item, *item.values()]
    return size
