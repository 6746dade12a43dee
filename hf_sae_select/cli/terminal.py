"""What the command line prints: text that no terminal obeys, JSON alone on stdout, warnings of one line."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from .._cards import UNSEEN
from .._secrets import masked

OVERWRITING = dict.fromkeys(map(ord, "\r\v\f"), "\ufffd")  # they move the cursor


def printable(text: str) -> str:
    """Return a text with control characters replaced, all but new lines and tabs."""
    return UNSEEN.sub("\ufffd", text).translate(OVERWRITING)


def is_printed(text: str, stream: TextIO | None) -> bool:
    """Print a text, whatever the encoding of the terminal, and tell whether it could be written.

    A reader that stops early, such as `head`, has what it wants.
    """
    if stream is None:  # closed
        return False
    encoding = stream.encoding or "utf-8"
    try:
        print(printable(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or the rest of its buffer fails at exit again
        return isinstance(error, BrokenPipeError)
    return True


def as_json(value: Any, ascii: bool = True) -> str:
    """Return a value as JSON of one line. Numbers that JSON does not have are null."""
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=ascii)


def _plain(value: Any) -> Any:
    """Return a value without what JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):  # a named tuple
        return _plain(value._asdict())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    if hasattr(value, "isoformat"):  # dates
        return value.isoformat()
    return value if value is None or isinstance(value, str | int) else str(value)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Open a closed stderr, and show warnings as lines of it.

    Libraries write to stderr, and what opens next must not take its place.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    show = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        yield
    finally:
        warnings.showwarning = show


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    is_printed(masked(f"warning: {' '.join(str(message).split())}"), sys.stderr)
