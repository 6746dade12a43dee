"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

LARGEST_TEXT = 64 * 2**20


def read_text(file: Path) -> str:
    """Read a text file that may be anybody's.

    Raises:
        ValueError: If it is too large for what we read as text, or not UTF-8.
    """
    if (size := file.stat().st_size) > LARGEST_TEXT:
        raise ValueError(f"it has {size:,} bytes; at most {LARGEST_TEXT:,} are read")
    return file.read_text(encoding="utf-8")


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield a path beside `file` to write to; it replaces `file` if the block succeeds, and is removed if not.

    The path is unique, so several processes may write the same file: the last one to finish replaces it.

    Example: ``with whole_file(path) as part: part.write_text("all of it")``.
    """
    part = file.with_name(f".{file.name}.{uuid4().hex[:12]}.part")
    try:
        part.touch()
        mode = part.stat().st_mode  # as the umask has it; some writers make files that nobody else may read
        yield part
        with suppress(OSError):  # some mounts know no permissions
            part.chmod(mode)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder` to write to; it replaces `folder` if the block succeeds, and is removed if not.

    Example: ``with whole_folder(path) as part: (part / "file").write_text("all of it")``.
    """
    part, earlier = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("unfinished", "earlier"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(earlier)
        part.rename(folder)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
