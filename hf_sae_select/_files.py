"""Files that appear whole or not at all, and reading files of others."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

from ._validation import check_flag, check_text

fcntl: Any  # mypy knows this module on one system only
try:
    import fcntl
except ImportError:  # Windows, where an open file can neither be replaced nor removed
    fcntl = None

PART = re.compile(r"\..+\.[0-9a-f]{12}\.part")
LARGEST_TEXT = 64 * 2**20
MOST_NAME_BYTES = 255 - len("..0123456789ab.part")  # of a file, whose part has a longer name


def read_text(file: Path) -> str:
    """Read a text file that may be anybody's.

    Raises:
        ValueError: If it is too large for what we read as text, or not UTF-8.
    """
    if (size := file.stat().st_size) > LARGEST_TEXT:
        raise ValueError(f"it has {size:,} bytes; at most {LARGEST_TEXT:,} are read")
    return file.read_text(encoding="utf-8")


def check_target(name: str, path: Any, example: str) -> Path:
    """Return the path of a file to write, checked before slow work.

    Args:
        name: the argument, for errors.
        example: such as "report.html".

    Raises:
        TypeError: It is no path.
        ValueError: No file can have this name.
        OSError: The folder does not exist or cannot be written to, or something else than a file is there.
    """
    check_text(name, path, (str, Path))
    shown, file = f"`{name}={str(path)!r}`", Path(path)
    try:
        size = len(os.fsencode(file.name))
    except UnicodeEncodeError:
        size = 0
    if not size or "\0" in str(path):
        raise ValueError(f"{shown} has no name that a file can have; pass one such as {example!r}")
    if size > MOST_NAME_BYTES:
        raise OSError(f"{shown[:200]}… has a name of {size:,} bytes; at most {MOST_NAME_BYTES} are allowed")
    if not os.path.isdir(file.parent) or os.path.isdir(file):  # also False where a folder's name is too long
        raise OSError(f"{shown} must be a file in a folder that exists, such as {example!r}")
    check_writable(file.parent, shown)
    _check_replaceable(file, shown)
    return file


def check_writable(folder: Path, shown: str) -> None:
    """Check that files can be made in a folder, by making one: permissions do not tell, such as those of `/proc`.

    Args:
        shown: the argument and its value, for errors.

    Raises:
        PermissionError: None can.
    """
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionError(
            f"{shown}: the folder {str(folder)!r} cannot be written to ({error.strerror}); pass a path in another"
        ) from error


def check_own_target(
    path: Any, overwrite: Any, example: str, is_own: Callable[[Path], bool], kind: str, writer: str
) -> Path:
    """Return the path of a file to write, checked before slow work: a file of others is replaced only if asked for.

    Args:
        is_own: tells whether an existing file may be replaced.
        kind: what `writer` writes, such as "report", for errors.

    Raises:
        TypeError, ValueError, OSError: As `check_target`, whose argument is called `path`.
        FileExistsError: The file is another one, and `overwrite` is not set.
    """
    check_flag("overwrite", overwrite)
    file = check_target("path", path, example)
    if file.exists() and not overwrite and not is_own(file):
        raise FileExistsError(
            f"`path={str(path)!r}` is a file that is no {kind}, which `{writer}` did not write: choose another name, "
            "or pass `overwrite=True` to replace it"
        )
    return file


def _check_replaceable(file: Path, shown: str) -> None:
    """Refuse to replace what is no file. A link to a file is replaced, and the file that it names stays.

    Raises:
        OSError: It is a device, a pipe or the like, or a link to nothing.
    """
    if file.is_symlink() and not file.exists():
        raise OSError(f"{shown} is a link to a file that does not exist; remove the link, or pass another path")
    if file.exists() and not file.is_file():
        raise OSError(f"{shown} is no regular file, so it is not replaced; pass another path")


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield a path beside `file` to write to; it replaces `file` if the block succeeds, and is removed if not.

    The path is unique, so several processes may write the same file: the last one to finish replaces it. A killed
    process leaves its part behind, until `remove_leftovers`.

    Raises:
        OSError: Something else than a file is there, or a link to nothing.

    Example: ``with whole_file(path) as part: part.write_text("all of it")``.
    """
    _check_replaceable(file, repr(str(file)))
    part = file.with_name(f".{file.name}.{uuid4().hex[:12]}.part")
    try:
        with _locked(part):
            mode = part.stat().st_mode  # as the umask has it; some writers make files that nobody else may read
            yield part
            with suppress(OSError):  # some mounts know no permissions
                part.chmod(mode)
            os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Create a file, and hold a lock on it as long as this process lives."""
    if fcntl is None:
        part.touch()
        yield
        return
    handle = -1
    while handle < 0 or not part.exists():  # `remove_leftovers` may have removed it before it was locked
        if handle >= 0:
            os.close(handle)
        handle = os.open(part, os.O_CREAT | os.O_RDWR, 0o666)
        _lock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def _lock(handle: int, mode: int) -> bool:
    """Lock an open file, and tell whether that succeeded; some mounts know no locks."""
    try:
        fcntl.flock(handle, mode)
    except OSError:
        return False
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove the parts of `whole_file` in a folder that killed processes have left; nobody holds their locks."""
    for part in folder.glob(".*.part") if fcntl is not None else ():
        if not PART.fullmatch(part.name):
            continue
        with suppress(OSError):  # another process removes it too, or it belongs to somebody else
            handle = os.open(part, os.O_RDWR)
            try:
                if _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    part.unlink()
            finally:
                os.close(handle)
