"""The single commit that writes to a Hub repo. No torch."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import hf_raise_for_status, httpx  # type: ignore[attr-defined]  # exported lazily

from ._hub import UNEXPECTED, NoSuchFile, Repo, Token, check_path, check_token, git_sha1, hub_errors
from ._secrets import check_no_token
from ._validation import check_flag, check_text, check_type, is_hub_id

Operations = Sequence[CommitOperationAdd | CommitOperationDelete]


def check_repo_id(repo_id: Any) -> None:
    """Check the argument `repo_id` of a function that pushes.

    Raises:
        ValueError: If it is no valid id of a repo, or looks like an access token.
    """
    if not isinstance(repo_id, str) or not is_hub_id(repo_id):
        raise ValueError(f"`repo_id={repo_id!r}` is not a valid id of a Hub repo; pass owner/name")
    check_no_token("repo_id", repo_id)


def check_push(
    repo_id: Any,
    *,
    private: Any,
    revision: Any,
    create_pr: Any,
    commit_message: Any,
    token: Any,
    subfolder: Any = None,
) -> None:
    """Check the arguments of a function that pushes, before anything is sent.

    Raises:
        TypeError: If one has another type.
        ValueError: If `repo_id` is no valid id, or a text that will be public looks like an access token.
    """
    check_repo_id(repo_id)
    check_type("subfolder", subfolder, str, "a string", optional=True)
    check_type("private", private, bool, "True or False", optional=True)
    check_flag("create_pr", create_pr)
    check_text("revision", revision, optional=True)
    check_text("commit_message", commit_message)
    check_token(token)
    for name, text in (("commit_message", commit_message), ("subfolder", subfolder), ("revision", revision)):
        check_no_token(name, text, token)


def check_card(card: str, kind: str) -> None:
    """Ask the Hub whether it takes the metadata of a card, before anything is written.

    `RepoCard.validate` does the same, but before huggingface_hub 2.2 it sends the card to the public Hub even where
    HF_ENDPOINT names another one.

    Raises:
        ValueError: If the Hub refuses the card.
        HfHubHTTPError: If the Hub does not answer the question.
    """
    url = f"{constants.ENDPOINT}/api/validate-yaml"
    response = get_session().post(url, json={"content": card, "repoType": kind})
    if response.status_code == 400:
        raise ValueError(response.text)
    hf_raise_for_status(response)


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
            Repo.at(repo_id, revision, token, kind=kind, newest=True)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{repo_id} has no branch {revision!r}: create it first, or omit `revision`"
            ) from error
    with hub_errors(repo_id, revision):
        api = HfApi(token=token)
        name = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True).repo_id
        if private and not api.repo_info(name, repo_type=kind).private:
            raise ValueError(f"`private=True`, but {name} exists and is public; make it private first, or omit it")
    repo = Repo.at(name, revision, token, kind=kind, newest=True)
    try:
        return repo, repo.fetch("README.md").read_text(encoding="utf-8")
    except NoSuchFile:
        return repo, None
    except UnicodeDecodeError as error:
        raise ValueError(f"the README.md of {name} is not UTF-8; fix it") from error


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
    try:
        with hub_errors(repo.name, revision), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")  # of labels
            return HfApi(token=repo.token).create_commit(
                repo.name,
                operations,
                repo_type=repo.kind,
                commit_message=message,
                revision=revision,
                create_pr=create_pr,
                parent_commit=repo.revision,
            )
    except OSError as error:
        if not _is_answer_to_commit(error):
            raise
        try:
            commit = _lost_commit(repo, operations, message, revision, create_pr)
        except OSError:
            if _is_refusal(error):
                raise error from error.__cause__
            raise
        if commit is None:
            raise
        return commit


def _is_answer_to_commit(error: OSError) -> bool:
    """Tell whether an error came instead of the Hub's answer to a commit, which may have been made."""
    cause = error.__cause__
    if isinstance(cause, HfHubHTTPError):
        return "/commit/" in str(cause.response.url)
    if isinstance(cause, httpx.RequestError):
        return "/commit/" in str(cause.request.url)
    return isinstance(cause, UNEXPECTED)


def _is_refusal(error: OSError) -> bool:
    """Tell whether the Hub refused a commit; behind a proxy that sends it twice, it may have been made before."""
    return isinstance(error.__cause__, HfHubHTTPError) and error.__cause__.response.status_code < 500


def _lost_commit(
    repo: Repo, operations: Operations, message: str, revision: str | None, create_pr: bool
) -> CommitInfo | None:
    """Look up a commit whose answer was lost; return None if the repo is as it was before.

    Raises:
        OSError: If that cannot be told.
    """
    kind = "" if repo.kind == "model" else f"{repo.kind}s/"
    page = f"{constants.ENDPOINT}/{kind}{repo.name}"
    try:
        if create_pr:  # it is on no branch
            raise OSError
        head = Repo.at(repo.name, revision, repo.token, kind=repo.kind, newest=True)
        if head.revision == repo.revision:
            return None
        with hub_errors(repo.name, head.revision):
            tree = HfApi(token=repo.token).list_repo_tree(
                repo.name, recursive=True, revision=head.revision, repo_type=repo.kind
            )
            digests = {
                item.path: item.lfs.sha256 if item.lfs else item.blob_id for item in tree if isinstance(item, RepoFile)
            }
        if not all(_is_applied(operation, digests) for operation in operations):
            raise OSError
    except OSError as error:
        place = f"{page}/discussions" if create_pr else f"{page}/commits/{revision or 'main'}"
        raise OSError(
            f"{repo.name}: the Hub's answer was lost, and it cannot be told whether the commit was made: see {place}; "
            "if it is not there, push again"
        ) from error
    return CommitInfo(f"{page}/commit/{head.revision}", message, "", str(head.revision), constants.ENDPOINT)


def _is_applied(operation: CommitOperationAdd | CommitOperationDelete, digests: Mapping[str, str]) -> bool:
    """Tell whether a repo of these files, by SHA-256 or git's id, is as an operation of a commit leaves it."""
    if isinstance(operation, CommitOperationDelete):
        return operation.path_in_repo not in digests
    with operation.as_file() as stream:
        content = stream.read()
    return digests.get(operation.path_in_repo) in (hashlib.sha256(content).hexdigest(), git_sha1(content))
