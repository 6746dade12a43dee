"""Files in a local folder or in a Hub repo at one commit, and the single commit that writes to a repo. No torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    hf_hub_download,
    resolve_revision,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # exported lazily

Token = str | bool | None

REMEDIES = {  # HTTP status -> cause and remedy
    401: "the Hub does not accept the token: log in again (`hf auth login`) or pass a valid `token`",
    403: "the token lacks permission: ask for access to the repo, or use a token with write access",
    409: "another commit to the repo is in progress: try again in a moment",
    412: "the repo has a newer commit, so nothing was written: review that commit, then push again",
    429: "too many requests: wait a few minutes, or log in (`hf auth login`) for a higher limit",
}

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
}


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

    @classmethod
    def at(
        cls,
        source: str | Path,
        revision: str | None = None,
        token: Token = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        kind: str = "model",
    ) -> Repo:
        """Open a local folder, or else a Hub repo, and resolve its `revision` to a commit once.

        Raises:
            FileNotFoundError: If `source` is neither a folder nor a repo, or the revision does not exist.
            PermissionError: If the repo is gated, or the Hub does not accept the token.
            OSError: If the Hub is out of reach and the cache lacks the repo.
        """
        if Path(source).is_dir():
            if revision is not None:
                raise ValueError(f"`revision={revision!r}` applies to Hub repos only; {str(source)!r} is a folder")
            return cls(str(source), Path(source))
        name = str(source)
        with hub_errors(name, revision):
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

    def files(self) -> list[str]:
        """Return the paths of all files, relative to the root, with slashes.

        Raises:
            ValueError: If a path points outside the repo.
        """
        if self.folder is not None:
            return sorted(
                file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file()
            )
        try:
            with hub_errors(self.name, self.revision):
                paths = HfApi(token=self.token).list_repo_files(self.name, revision=self.revision, repo_type=self.kind)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:  # the Hub is down or out of reach: an earlier download may suffice
            try:
                return self.cached().files()
            except OSError:
                raise error from None
        return sorted(check_path(path) for path in paths)

    def fetch(self, path: str) -> Path:
        """Return the local path of the file `path`, downloading it first if necessary.

        Raises:
            FileNotFoundError: If the repo has no such file.
        """
        if self.folder is not None:
            file = self.folder / check_path(path)
            # The cache consists of links. In any other folder, a link may point at a file that nobody meant to share.
            escapes = self.revision is None and not file.resolve().is_relative_to(self.folder.resolve())
            if escapes or not file.is_file():
                raise FileNotFoundError(f"no `{path}` in {self.name}")
            return file
        with hub_errors(self.name, self.revision, path):
            return Path(
                hf_hub_download(
                    self.name,
                    check_path(path),
                    repo_type=self.kind,
                    revision=self.revision,
                    token=self.token,
                    cache_dir=self.cache_dir,
                )
            )

    def source(self, path: str) -> dict[str, Any]:
        """Return repo, commit, path and SHA-256 of a file; empty for a local folder, which others cannot access."""
        if self.revision is None:
            return {}
        blob = self.fetch(path).resolve()  # the cache names large files by their SHA-256
        digest = blob.name if re.fullmatch("[0-9a-f]{64}", blob.name) else sha256_of(blob)
        return {"repo": self.name, "revision": self.revision, "path": path, "sha256": digest}


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


def prepare(
    repo_id: str, *, private: bool | None, revision: str | None, token: Token, kind: str = "model"
) -> tuple[Repo, str | None]:
    """Create the repo unless it exists. Return it at the head of `revision`, with the text of its README.

    Raises:
        ValueError: If `private` is set and the repo exists and is public.
        FileNotFoundError, PermissionError, OSError: As `Repo.at`.
    """
    if revision is not None:  # check the branch first: a new repo has none
        try:
            Repo.at(repo_id, revision, token, kind=kind)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{repo_id} has no branch {revision!r}: create it first, or omit `revision`"
            ) from error
    with hub_errors(repo_id, revision):
        api = HfApi(token=token)
        name = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True).repo_id
        if private and not api.repo_info(name, repo_type=kind).private:
            raise ValueError(f"`private=True`, but {name} exists and is public; make it private first, or omit it")
    repo = Repo.at(name, revision, token, kind=kind)
    try:
        readme = repo.fetch("README.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        readme = None
    return repo, readme


def push(
    repo: Repo,
    files: Mapping[str, str | Path | bytes],
    *,
    message: str,
    revision: str | None = None,
    create_pr: bool = False,
    deleted: Sequence[str] = (),
) -> CommitInfo:
    """Write `files` in one commit on top of the commit that `repo` is pinned to.

    Args:
        files: Path in the repo -> local file or content.
        deleted: Files that the same commit deletes.

    Raises:
        FileNotFoundError, PermissionError, OSError: As `Repo.at`; the repo is unchanged.
    """
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(check_path(path), content if isinstance(content, bytes) else str(content))
        for path, content in files.items()
    ]
    operations += [CommitOperationDelete(check_path(path)) for path in deleted]
    with hub_errors(repo.name, revision):
        return HfApi(token=repo.token).create_commit(
            repo.name,
            operations,
            repo_type=repo.kind,
            commit_message=message,
            revision=revision,
            create_pr=create_pr,
            parent_commit=repo.revision,
        )


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
        raise FileNotFoundError(f"no `{path}` in {place}") from error
    except httpx.HTTPError as error:
        raise _http_error(place, error) from error
    except RuntimeError as error:  # huggingface_hub raises this for a failed upload, over LFS or Xet
        raise _http_error(place, error.__cause__) from error


def _http_error(place: str, error: BaseException | None) -> OSError:
    """Return our error for an HTTP error, a missing answer, or an upload that failed for another reason."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        default = "the Hub has a problem: try again later" if status >= 500 else "see the cause above"
        kind = PermissionError if status in (401, 403) else OSError
        return kind(f"{place}: HTTP {status}; {REMEDIES.get(status, default)}")
    if isinstance(error, httpx.HTTPError):
        return OSError(f"{place}: the Hub does not answer ({type(error).__name__}); try again later")
    return OSError(f"{place}: the transfer was interrupted; try again: files that arrived are not sent again")
