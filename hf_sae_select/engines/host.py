"""Host: what runs in a worker of Ray. It makes an object, and calls its methods.

Ray sends this file as it is to its workers, so it imports the standard library alone: a worker that lacks this
package, or has another version of it, can still say so.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = "hf_sae_select"
LARGE_BYTES = 2**15
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "numba", "datasets")  # which decide codes and picks


class Host:
    """Hold an object."""

    def answer(self) -> None:
        """Answer, which shows that Ray has placed the worker."""

    def start(self, make: bytes, expected: Mapping[str, str]) -> None:
        """Make the object, by a function that was pickled.

        Raises:
            RuntimeError: This worker has other versions than those that are expected.
        """
        check_versions(expected, versions())
        self._object = pickle.loads(make)()

    def call(self, call: bytes) -> bytes:
        """Call a method of the object, see `packed`."""
        method, arguments = unpacked(call)
        return packed(getattr(self._object, method)(*arguments))

    def repeat(self, calls: Sequence[bytes]) -> None:
        """Call methods again, so that the object is as it was after them."""
        for call in calls:
            self.call(call)


def check_versions(expected: Mapping[str, str], own: Mapping[str, str]) -> None:
    """Check that a worker has the versions of the process that asks: others could give other bits.

    Raises:
        RuntimeError: It has others, which are named.
    """
    if different := [name for name in expected if own.get(name) != expected[name]]:
        words = ", ".join(f"{name} {own.get(name)} in place of {expected[name]}" for name in different)
        raise RuntimeError(
            f"a worker has other versions than the process that asks, and could give other bits: {words}; install the "
            "same versions, and the same files of hf-sae-select, everywhere"
        )


def packed(value: Any) -> bytes:
    """Pickle a value: arrays that are unpickled can be written to, which those that Ray shares cannot.

    Large ones are compressed: what a search begins with are arrays over all features, mostly of one number.
    """
    data = pickle.dumps(value, protocol=5)
    return b"z" + zlib.compress(data, 1) if len(data) > LARGE_BYTES else b"-" + data


def unpacked(data: bytes) -> Any:
    """Return a value that was packed."""
    return pickle.loads(zlib.decompress(memoryview(data)[1:]) if data[:1] == b"z" else memoryview(data)[1:])


def packed_call(method: str, arguments: Sequence[Any]) -> bytes:
    return packed((method, tuple(arguments)))


def versions() -> dict[str, str]:
    """Return the versions of all that decides codes and picks; of this package, with a digest of its files.

    The part of a version behind `+` is left out: it says for which device torch was built.
    """
    spec = find_spec(PACKAGE)
    known = {PACKAGE: "missing" if spec is None or spec.origin is None else _digest(Path(spec.origin).parent)}
    for name in LIBRARIES:
        try:
            known[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            known[name] = "missing"
    return known


def _digest(folder: Path) -> str:
    """Return the version of the package and a digest of its Python files."""
    digest = blake2b(digest_size=4)
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    text = (folder / "__init__.py").read_text(encoding="utf-8")
    return f"{text.partition('__version__ = ')[2].split()[0]} (files {digest.hexdigest()})"
