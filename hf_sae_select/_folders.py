"""Folders that appear whole or not at all, written by one process at a time."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ._files import fcntl


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder` to write to; it replaces `folder` if the block succeeds, and is removed if not.

    A link is kept, and the folder that it points to is replaced. What a killed process left is repaired by the next
    one: `folder` is then what it was before, or what was written.

    Raises:
        OSError: If another process is writing the same folder.

    Example: ``with whole_folder(folder) as part: (part / "file").write_text("all of it")``.
    """
    folder = folder.resolve()
    part = folder.with_name(f".{folder.name}.unfinished")
    with _locked(part, folder):
        _repair(folder)
        _empty(part)
        try:
            yield part
            _replace(folder, part)
        except BaseException:
            if part.exists():
                shutil.rmtree(part, ignore_errors=True)
            raise


def _replace(folder: Path, part: Path) -> None:
    """Put `part` in the place of `folder`."""
    earlier = folder.with_name(f".{folder.name}.{uuid4().hex[:12]}.earlier")
    try:
        if folder.exists():
            folder.rename(earlier)
        part.rename(folder)
    except BaseException:
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        raise
    _remove(earlier)


@contextmanager
def _locked(part: Path, folder: Path) -> Iterator[None]:
    """Make the folder `part` and hold a lock on it. The system releases the lock of a process that was killed."""
    descriptor = _open_locked(part, folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_locked(part: Path, folder: Path) -> int | None:
    if fcntl is None:  # Windows cannot lock a folder
        part.mkdir(parents=True, exist_ok=True)
        return None
    while True:
        part.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(part, os.O_RDONLY)
        except FileNotFoundError:  # another process has just finished
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if part.exists() and os.path.samestat(part.stat(), os.fstat(descriptor)):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise OSError(
                f"another process is writing {str(folder)!r}: wait until it has finished, or pass another folder"
            ) from error
        except FileNotFoundError:
            pass
        os.close(descriptor)  # the folder was renamed meanwhile: this lock is of what another process has finished


def _repair(folder: Path) -> None:
    """Bring back a folder that was set aside and not replaced, and remove what else is left beside it."""
    name = re.compile(rf"\.{re.escape(folder.name)}(\.[0-9a-f]{{12}})?\.(earlier|removed)")
    for path in sorted(folder.parent.iterdir()):
        if name.fullmatch(path.name):
            if path.suffix == ".earlier" and not folder.exists():
                path.rename(folder)
            else:
                _remove(path)


def _remove(folder: Path) -> None:
    """Remove a folder, after a change of its name: so that half of it is never brought back."""
    removed = folder.with_name(f"{folder.name.removesuffix('.earlier').removesuffix('.removed')}.removed")
    with suppress(OSError):
        folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _empty(folder: Path) -> None:
    """Remove what a folder holds."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
