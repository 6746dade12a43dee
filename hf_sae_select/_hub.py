"""Files in a folder or in a Hub repo at one commit, and the one commit that writes to a repo. No torch."""

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

REMEDIES = {  # HTTP status -> what to do
    401: "the token is not accepted: log in again (`hf auth login`) or pass a valid `token`",
    403: "the token may not do this: ask for access to the repo, or use a token that may write",
    409: "somebody is writing to the repo: try again in a moment",
    412: "the repo has got a new commit meanwhile: nothing was written; look at it, then push again",
    429: "too many requests: wait some minutes, or log in (`hf auth login`) for a higher limit",
}

WORDS: dict[type[Exception], tuple[type[OSError], str]] = {  # what huggingface_hub raises -> what we say instead
    HFValidationError: (FileNotFoundError, "{name!r} is neither a folder here nor the id of a Hub repo (owner/name)"),
    GatedRepoError: (
        PermissionError,
        "{name} is gated: ask for access on its page, then log in (`hf auth login`) or pass `token`",
    ),
    RepositoryNotFoundError: (
        FileNotFoundError,
        "{name!r} is neither a folder here nor a Hub repo that can be seen; if it is private, pass `token`",
    ),
    RevisionNotFoundError: (
        FileNotFoundError,
        "{name} has no revision {revision!r}; leave `revision` out for the latest",
    ),
}


@dataclass(frozen=True)
class Repo:
    """Hold the place of files: a folder here, or a Hub repo at the commit that its revision was resolved to, once."""

    name: str
    """The folder's path, or the Hub's id."""
    folder: Path | None = None
    """A folder that holds all there is: a local one, or what the cache has, where the Hub is not to be asked."""
    revision: str | None = None
    """The commit; None for a local folder."""
    token: Token = field(default=None, repr=False)
    cache_dir: str | Path | None = None
    kind: str = "model"
    """What kind of repo the Hub has it as: model or dataset."""

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
        """Find a folder, or else a repo on the Hub, whose `revision` is resolved to a commit here and now.

        Raises:
            FileNotFoundError: neither a folder nor a repo, or no such revision.
            PermissionError: the repo is gated, or the token is not accepted.
            OSError: the Hub is out of reach, and the cache does not have the repo.
        """
        if Path(source).is_dir():
            if revision is not None:
                raise ValueError(f"`revision={revision!r}` is for Hub repos; {str(source)!r} is a folder")
            return cls(str(source), Path(source))
        name = str(source)
        with explained(name, revision):
            commit = resolve_revision(
                name,
                repo_type=kind,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            ).resolved
        repo = cls(name, None, commit, token, cache_dir, kind)
        return repo.held() if local_files_only else repo

    def held(self) -> Repo:
        """Return the repo as the cache has it, where the Hub must not be asked."""
        with explained(self.name, self.revision):
            held = snapshot_download(
                self.name, repo_type=self.kind, revision=self.revision, cache_dir=self.cache_dir, local_files_only=True
            )
        return Repo(self.name, Path(held), self.revision, kind=self.kind)

    def files(self) -> list[str]:
        """Return the paths of all files, from the top, with slashes.

        Raises:
            ValueError: a path leads out of the repo.
        """
        if self.folder is not None:
            return sorted(
                file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file()
            )
        try:
            with explained(self.name, self.revision):
                found = HfApi(token=self.token).list_repo_files(self.name, revision=self.revision, repo_type=self.kind)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:  # the Hub is out of reach or in trouble: what was downloaded once may do
            try:
                return self.held().files()
            except OSError:
                raise error from None
        return sorted(checked(path) for path in found)

    def fetch(self, path: str) -> Path:
        """Return where file `path` lies on this machine, downloaded if it must be.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if self.folder is not None:
            file = self.folder / checked(path)
            # In the cache files are links; in a folder from anywhere one may lead to what nobody meant to show.
            strays = self.revision is None and not file.resolve().is_relative_to(self.folder.resolve())
            if strays or not file.is_file():
                raise FileNotFoundError(f"no `{path}` in {self.name}")
            return file
        with explained(self.name, self.revision, path):
            return Path(
                hf_hub_download(
                    self.name,
                    checked(path),
                    repo_type=self.kind,
                    revision=self.revision,
                    token=self.token,
                    cache_dir=self.cache_dir,
                )
            )

    def source(self, path: str) -> dict[str, Any]:
        """Say where file `path` can be had again, by commit and SHA-256; nothing of a folder, which others lack."""
        if self.revision is None:
            return {}
        blob = self.fetch(path).resolve()  # the cache names large files by their SHA-256
        digest = blob.name if re.fullmatch("[0-9a-f]{64}", blob.name) else sha256_of(blob)
        return {"repo": self.name, "revision": self.revision, "path": path, "sha256": digest}


def checked(path: str) -> str:
    """Return `path` if it stays inside its repo.

    Raises:
        ValueError: it is absolute or climbs out.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or re.match("[A-Za-z]:", path):
        raise ValueError(f"the path {path!r} leads out of the repo")
    return path


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def inside(subfolder: str | None) -> str:
    """Return the beginning of the paths in a subfolder: `a/b/`, or nothing for the top.

    Raises:
        ValueError: it leads out, or has signs that would break the card it is named in.
    """
    path = PurePosixPath((subfolder or "").strip("/")).as_posix()
    if path == ".":
        return ""
    if not path.isprintable() or re.search('["`|<>]|--', path):
        raise ValueError(f"`subfolder={subfolder!r}` has signs that a card cannot name; choose a plainer one")
    return f"{checked(path)}/"


def prepare(
    repo_id: str, *, private: bool | None, revision: str | None, token: Token, kind: str = "model"
) -> tuple[Repo, str | None]:
    """Create a repo if there is none, and return it at the head of `revision`, with its README's text.

    Raises:
        ValueError: a private one is asked for, and there is a public one.
        FileNotFoundError, PermissionError, OSError: as `Repo.at`.
    """
    if revision is not None:  # or a repo would be made that has no such branch
        try:
            Repo.at(repo_id, revision, token, kind=kind)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{repo_id} has no branch {revision!r}: create it first, or leave `revision` out"
            ) from error
    with explained(repo_id, revision):
        api = HfApi(token=token)
        name = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True).repo_id
        if private and not api.repo_info(name, repo_type=kind).private:
            raise ValueError(f"`private=True`, but {name} is there and public; make it private first, or leave it out")
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
    """Write `files`, path in the repo -> file here or content, in one commit on top of the one that `repo` is at.

    Args:
        deleted: files of the repo that go away in the same commit.

    Raises:
        FileNotFoundError, PermissionError, OSError: as `Repo.at`; the repo is then as it was.
    """
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(checked(path), content if isinstance(content, bytes) else str(content))
        for path, content in files.items()
    ]
    operations += [CommitOperationDelete(checked(path)) for path in deleted]
    with explained(repo.name, revision):
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
def explained(name: str, revision: str | None = None, path: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises into errors that name the repo and say what to do; no token is in them."""
    at = name + (f" at {revision}" if revision else "")
    try:
        yield
    except tuple(WORDS) as error:
        kind, words = next(value for each, value in WORDS.items() if isinstance(error, each))
        raise kind(words.format(name=name, revision=revision)) from error
    except (LocalEntryNotFoundError, RevisionResolutionError, OfflineModeIsEnabled, ConnectionError) as error:
        if isinstance(error.__cause__, HfHubHTTPError):  # reached, but in trouble
            raise _refused(at, error.__cause__) from error
        wanted = f"`{path}` of {at}" if path else at
        raise OSError(
            f"{wanted} is not in the cache and the Hub is out of reach; check the network, HF_HUB_OFFLINE and "
            "`local_files_only`, or download the repo and pass its folder"
        ) from error
    except EntryNotFoundError as error:
        raise FileNotFoundError(f"no `{path}` in {at}") from error
    except httpx.HTTPError as error:
        raise _refused(at, error) from error
    except RuntimeError as error:  # the client's word for an upload that failed, over LFS or Xet
        raise _refused(at, error.__cause__) from error


def _refused(at: str, error: BaseException | None) -> OSError:
    """Say what to do about an HTTP error, an answer that never came, or an upload that failed for another reason."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        usual = "the Hub has a problem: try again later" if status >= 500 else "see the cause above"
        kind = PermissionError if status in (401, 403) else OSError
        return kind(f"{at}: HTTP {status}; {REMEDIES.get(status, usual)}")
    if isinstance(error, httpx.HTTPError):
        return OSError(f"{at}: the Hub does not answer ({type(error).__name__}); try again later")
    return OSError(f"{at}: the transfer broke off; try again: what arrived is not sent twice")
