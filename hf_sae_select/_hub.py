"""Files in a local folder or in a Hub repo at one commit, and the Hub's errors explained. No torch."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from json import JSONDecodeError
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import (
    HfApi,
    constants,
    hf_hub_download,
    resolve_revision,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # exported lazily

from ._secrets import mask_record

Token = str | bool | None

# Its warnings of repeated requests have the address of the Hub, which may hold a password.
for name in ("huggingface_hub.utils._http", "huggingface_hub.file_download"):
    logging.getLogger(name).addFilter(mask_record)

REMEDIES = {  # HTTP status -> cause and remedy
    401: "the Hub does not accept the token, or there is none: log in (`hf auth login`) or pass a valid `token`",
    403: "the token lacks permission: ask for access to the repo, or use a token with write access",
    404: "the Hub has nothing at this address: check the id, which is owner/name",
    409: "another commit to the repo is in progress: try again in a moment",
    412: "the repo has a newer commit, so nothing was written: review that commit, then push again",
    429: "too many requests: wait a few minutes, or log in (`hf auth login`) for a higher limit",
}

UNREADABLE_ANSWER = "the Hub's answer cannot be read, perhaps it is from a proxy or a login page; try again later"

TRANSLATIONS: dict[type[Exception], tuple[type[OSError], str]] = {  # huggingface_hub's error -> ours
    HFValidationError: (
        FileNotFoundError,
        "{name!r} is neither a local folder nor a valid Hub repo id (owner/name)",
    ),
    GatedRepoError: (
        PermissionError,
        "{name} is gated: ask for access on its page, then log in (`hf auth login`) or pass `token`",
    ),
    RepositoryNotFoundError: (
        FileNotFoundError,
        "{name!r} is neither a local folder nor a Hub repo that you can access; if it is private, pass `token`",
    ),
    RevisionNotFoundError: (
        FileNotFoundError,
        "{name} has no revision {revision!r}; omit `revision` for the latest commit",
    ),
    LocalTokenNotFoundError: (
        PermissionError,
        "`token=True`, but nobody is logged in on this machine: log in (`hf auth login`), or pass the token itself",
    ),
}
# What huggingface_hub raises when an answer is no JSON, or JSON of another form than the Hub's.
UNEXPECTED = (JSONDecodeError, UnicodeError, LookupError, TypeError, AttributeError, AssertionError, httpx.InvalidURL)


class NoSuchFile(FileNotFoundError):
    """A folder, or a repo that answered, has no file of that path."""


@dataclass(frozen=True)
class Repo:
    """A local folder, or a Hub repo pinned to the commit that its revision resolved to."""

    name: str
    """Path of the folder, or Hub id."""
    folder: Path | None = None
    """Folder that holds all files: the local folder, or the cached snapshot when the Hub must not be asked."""
    revision: str | None = None
    """Commit; None for a local folder."""
    token: Token = field(default=None, repr=False)
    cache_dir: str | Path | None = None
    kind: str = "model"
    """Repo type on the Hub: `model` or `dataset`."""
    date: datetime | None = None
    """When the commit was made, where the Hub was asked."""
    paths: frozenset[str] | None = None
    """Paths of all files, where they were listed."""
    within: str = ""
    """Folder of the repo that all paths are relative to, with a slash at its end; empty for the root."""

    @classmethod
    def at(
        cls,
        source: str | Path,
        revision: str | None = None,
        token: Token = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        kind: str = "model",
        newest: bool = False,
    ) -> Repo:
        """Open a local folder, or else a Hub repo, and resolve its `revision` to a commit once.

        Args:
            newest: whether the Hub must say which commit that is; otherwise, if it is out of reach, the cache may.

        Raises:
            FileNotFoundError: If `source` is neither a folder nor a repo, or the revision does not exist.
            NotADirectoryError: If `source` is a file, such as `subset.parquet`.
            PermissionError: If the repo is gated, or the Hub does not accept the token.
            OSError: If the Hub is out of reach and the cache lacks the repo.
        """
        if Path(source).is_dir():
            if revision is not None:
                raise ValueError(f"`revision={revision!r}` applies to Hub repos only; {str(source)!r} is a folder")
            return cls(str(source), Path(source))
        name = str(source)
        if Path(source).is_file() and Path(source).suffix:  # without one, it may have the name of a repo by chance
            needed = "stage it first, or pass" if kind == "dataset" else "pass"
            raise NotADirectoryError(f"{name} is a file; {needed} the folder, or the id of a Hub repo")
        if newest and not (local_files_only or constants.HF_HUB_OFFLINE):
            with _no_folder(name), hub_errors(name, revision):
                info = HfApi(token=token).repo_info(name, revision=revision, repo_type=kind)
            if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
                raise OSError(f"{name}: {UNREADABLE_ANSWER}")
            return cls(name, None, info.sha, token, cache_dir, kind, info.last_modified)
        with _no_folder(name), hub_errors(name, revision):
            commit = resolve_revision(
                name,
                repo_type=kind,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            ).resolved
        repo = cls(name, None, commit, token, cache_dir, kind)
        return repo.cached() if local_files_only else repo

    def cached(self) -> Repo:
        """Return the same repo, read from the cache alone."""
        with hub_errors(self.name, self.revision):
            folder = snapshot_download(
                self.name, repo_type=self.kind, revision=self.revision, cache_dir=self.cache_dir, local_files_only=True
            )
        return Repo(self.name, Path(folder), self.revision, kind=self.kind)

    def listed(self) -> Repo:
        """Return the same repo with its files listed, so that a missing file is told from one that cannot be fetched.

        Raises:
            OSError: If the Hub does not list them.
        """
        return replace(self, paths=frozenset(self.all_files()))

    def files(self) -> list[str]:
        """Return the paths of all files; where the Hub is out of reach, of those that the cache has.

        Raises:
            ValueError: If a path points outside the repo.
        """
        try:
            return self.all_files()
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:  # an earlier download may suffice
            try:
                return self.cached().all_files()
            except OSError:
                raise error from None

    def all_files(self) -> list[str]:
        """Return the paths of all files, relative to `within`, with slashes.

        Raises:
            ValueError: If a path points outside the repo.
            OSError: If the Hub does not list them.
        """
        if self.paths is not None:
            return sorted(path.removeprefix(self.within) for path in self.paths if path.startswith(self.within))
        if self.folder is not None:
            return sorted(
                file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file()
            )
        with hub_errors(self.name, self.revision):
            paths = HfApi(token=self.token).list_repo_files(self.name, revision=self.revision, repo_type=self.kind)
        return sorted(check_path(path) for path in paths)

    def fetch(self, path: str) -> Path:
        """Return the local path of the file `path`, downloading it first if necessary.

        Raises:
            NoSuchFile: If the repo has no such file.
            OSError: If the Hub does not send the content that it announces.
        """
        path = f"{self.within}{path}"
        if self.paths is not None and path not in self.paths:
            if self.revision is not None and self.folder is not None:
                raise OSError(f"`{path}` of {self.name} is not in the cache, and the Hub is not asked")
            raise NoSuchFile(f"no `{path}` in {self.name}")
        if self.folder is not None:
            file = self.folder / check_path(path)
            # The cache consists of links. In any other folder, a link may point at a file that nobody meant to share.
            escapes = self.revision is None and not file.resolve().is_relative_to(self.folder.resolve())
            if escapes or not file.is_file():
                raise NoSuchFile(f"no `{path}` in {self.name}")
            return file
        options: dict[str, Any] = {"repo_type": self.kind, "revision": self.revision, "cache_dir": self.cache_dir}
        try:
            with hub_errors(self.name, self.revision, path):
                is_cached = isinstance(try_to_load_from_cache(self.name, check_path(path), **options), str)
                file = Path(hf_hub_download(self.name, path, token=self.token, **options))
        except NoSuchFile as error:
            if self.paths is None:
                raise
            raise OSError(f"`{path}` of {self.name}: the Hub lists it, but does not send it; try again") from error
        if not is_cached and not _is_as_announced(file):
            file.resolve().unlink(missing_ok=True)
            file.unlink(missing_ok=True)
            raise OSError(
                f"`{path}` of {self.name} at {self.revision}: what arrived is not what the Hub announced; try again"
            )
        return file

    def source(self, path: str) -> dict[str, Any]:
        """Return repo, commit, path and SHA-256 of a file; empty for a local folder, which others cannot access."""
        if self.revision is None:
            return {}
        blob = self.fetch(path).resolve()  # the cache names large files by their SHA-256
        digest = blob.name if re.fullmatch("[0-9a-f]{64}", blob.name) else sha256_of(blob)
        return {"repo": self.name, "revision": self.revision, "path": path, "sha256": digest}


def check_token(token: Any) -> None:
    """Check the argument `token`; the error does not show it.

    Raises:
        TypeError: If it is neither a text, a truth value nor None.
        ValueError: If it has characters that no token has.
    """
    if token is not None and not isinstance(token, str | bool):
        raise TypeError(f"`token` is of type {type(token).__name__}; pass the token as text, True, False or None")
    if isinstance(token, str) and not re.fullmatch("[!-~]+", token):
        raise ValueError("`token` is empty or has spaces or other characters that no token has; copy it again")


def _is_as_announced(file: Path) -> bool:
    """Tell whether a downloaded file has the digest that the Hub announced, by which the cache names it."""
    blob = file.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name):  # a large file
        return sha256_of(blob) == blob.name
    if re.fullmatch("[0-9a-f]{40}", blob.name):  # a file in git
        return git_sha1(blob.read_bytes()) == blob.name
    return True  # a file system without links, or another Hub's names


def git_sha1(content: bytes) -> str:
    """Return the id that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def check_path(path: str) -> str:
    """Check that `path` stays inside its repo, and return it.

    Raises:
        ValueError: If it is absolute or points outside.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or re.match("[A-Za-z]:", path):
        raise ValueError(f"the path {path!r} points outside the repo")
    return path


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def subfolder_prefix(subfolder: str | None) -> str:
    """Return the prefix of all paths in a subfolder: `a/b/`, or an empty string for the root.

    Raises:
        ValueError: If it points outside the repo, or contains characters that would break the card.
    """
    path = PurePosixPath((subfolder or "").strip("/")).as_posix()
    if path == ".":
        return ""
    if not path.isprintable() or re.search('["`|<>]|--', path):
        raise ValueError(
            f"`subfolder={subfolder!r}` contains characters that would break the card "
            "(quotes, backticks, `|`, `<`, `>`, `--` or control characters); choose another name"
        )
    return f"{check_path(path)}/"


@contextmanager
def _no_folder(name: str) -> Iterator[None]:
    """Add to an error that a name could be that of a folder, where the Hub does not tell."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        error.add_note(f"there is no folder {name!r} on this machine")
        raise


@contextmanager
def hub_errors(name: str, revision: str | None = None, path: str | None = None) -> Iterator[None]:
    """Translate huggingface_hub's errors into errors that name the repo and the remedy, and contain no token."""
    place = name + (f" at {revision}" if revision else "")
    try:
        yield
    except tuple(TRANSLATIONS) as error:
        kind, text = next(value for source, value in TRANSLATIONS.items() if isinstance(error, source))
        raise kind(text.format(name=name, revision=revision)) from error
    except (LocalEntryNotFoundError, RevisionResolutionError, OfflineModeIsEnabled, ConnectionError) as error:
        if isinstance(error.__cause__, HfHubHTTPError):  # the Hub answered with an error
            raise _http_error(place, error.__cause__) from error
        target = f"`{path}` of {place}" if path else place
        raise OSError(
            f"{target} is not in the cache and the Hub is out of reach; check the network, HF_HUB_OFFLINE and "
            "`local_files_only`, or download the repo and pass its folder"
        ) from error
    except EntryNotFoundError as error:
        raise NoSuchFile(f"no `{path}` in {place}") from error
    except httpx.HTTPError as error:
        raise _http_error(place, error) from error
    except RuntimeError as error:  # huggingface_hub raises this for a failed upload, over LFS or Xet
        raise _http_error(place, error.__cause__) from error
    except UNEXPECTED as error:
        raise OSError(f"{place}: {UNREADABLE_ANSWER}") from error
    except OSError as error:
        if error.errno is not None:  # of this machine: a full disk, a folder that cannot be written
            raise
        raise OSError(f"`{path}` of {place}: the download is incomplete; try again" if path else str(error)) from error


def _http_error(place: str, error: BaseException | None) -> OSError:
    """Return our error for an HTTP error, a missing answer, or an upload that failed for another reason."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        default = "the Hub has a problem: try again later" if status >= 500 else "the Hub refuses the request"
        kind = PermissionError if status in (401, 403) else OSError
        return kind(f"{place}: HTTP {status}; {REMEDIES.get(status, default)}")
    if isinstance(error, httpx.HTTPError):
        return OSError(f"{place}: the Hub does not answer ({type(error).__name__}); try again later")
    return OSError(f"{place}: the transfer was interrupted; try again: files that arrived are not sent again")
