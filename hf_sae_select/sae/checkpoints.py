"""What a torch checkpoint says it holds, read without torch: nothing that the file asks for is called or allocated.

`torch.load(weights_only=True)` runs no code, but it calls `torch.Tensor(16, 6)`, whose memory nobody has written, and
`bytearray(10**12)`. So we first read the pickle with stand-ins, and check that the file has each storage it names.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

MOST_PICKLE_BYTES = 2**24
ITEM_BYTES = {
    "ByteStorage": 1,
    "CharStorage": 1,
    "BoolStorage": 1,
    "ShortStorage": 2,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "IntStorage": 4,
    "FloatStorage": 4,
    "LongStorage": 8,
    "DoubleStorage": 8,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
}
# What tensors and plain values consist of. None allocates more than its arguments, or returns memory nobody wrote.
ALLOWED = {f"torch.{name}" for name in ITEM_BYTES} | set(
    """collections.OrderedDict torch.Size torch.device torch.serialization._get_layout torch._utils._rebuild_tensor
    torch._utils._rebuild_tensor_v2 torch._utils._rebuild_parameter torch._utils._rebuild_sparse_tensor
    torch._utils._rebuild_meta_tensor_no_storage torch.float16 torch.bfloat16 torch.float32 torch.float64 torch.uint8
    torch.int8 torch.int16 torch.int32 torch.int64 torch.bool torch.complex64 torch.complex128 _codecs.encode
    builtins.set""".split()
)


class _StandIn:
    """Take the place of a class or a function, and of what it returns."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __call__(self, *args: Any) -> Any:
        return OrderedDict() if self.name == "OrderedDict" else _StandIn()

    def __setstate__(self, state: Any) -> None:
        pass


class _Reader(pickle._Unpickler):
    # A bytearray is allocated before its bytes are read.
    dispatch: ClassVar = {
        code: read for code, read in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, int] = {}
        """Key of each storage -> its bytes."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in ALLOWED:
            raise ValueError(f"it contains {full[:80]!r}; an SAE has tensors and plain values")
        return _StandIn(name)

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, _, items, *_ = pid
        if kind != "storage" or not isinstance(key, str) or type(items) is not int or items < 0:
            raise ValueError("it has a storage without a name or a size")
        self.storages[key] = max(self.storages.get(key, 0), items * ITEM_BYTES[storage.name])
        return _StandIn()


def check_checkpoint(file: Path) -> None:
    """Check that a torch checkpoint holds only tensors and plain values, and stores each tensor.

    Raises:
        ValueError: If it does not.
    """
    try:
        if zipfile.is_zipfile(file):
            _check_archive(file)
        else:
            _check_legacy(file)
    except (ValueError, zipfile.BadZipFile):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError("it is damaged, or no checkpoint of torch") from error


def _check_archive(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        sizes: dict[str, int] = {}
        content = b""
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"`{member.filename}` in it is compressed; torch saves without compression")
            name = member.filename.partition("/")[2]
            if name in sizes:
                raise ValueError(f"it has two members `{name}`")
            sizes[name] = member.file_size
            if name == "data.pkl":
                if member.file_size > MOST_PICKLE_BYTES:
                    raise ValueError(f"its pickle has more than {MOST_PICKLE_BYTES:,} bytes; an SAE has a few tensors")
                content = archive.read(member)
    reader = _Reader(io.BytesIO(content))
    reader.load()
    _check_storages(reader.storages, {key: sizes.get(f"data/{key}", -1) for key in reader.storages})


def _check_legacy(file: Path) -> None:
    """Check a checkpoint of torch before 1.6: five pickles, and the storages behind them."""
    with open(file, "rb") as stream:
        start = io.BytesIO(stream.read(MOST_PICKLE_BYTES))
    for _ in range(3):  # a magic number, the protocol, and sizes of the system
        _Reader(start).load()
    reader = _Reader(start)
    reader.load()
    stored = set(_Reader(start).load())
    room = file.stat().st_size - start.tell()
    if sum(reader.storages.values()) > room:
        raise ValueError(f"its tensors are declared to be {sum(reader.storages.values()):,} bytes; it has {room:,}")
    _check_storages(reader.storages, {key: size if key in stored else -1 for key, size in reader.storages.items()})


def _check_storages(declared: Mapping[str, int], stored: Mapping[str, int]) -> None:
    for key, size in declared.items():
        if stored[key] < size:
            raise ValueError(f"the file does not store the {size:,} bytes of its storage {key[:80]!r}")
