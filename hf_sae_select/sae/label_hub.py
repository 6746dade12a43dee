"""Pushing labels to a Hub repo. No torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

from huggingface_hub import CommitInfo

from .._commits import check_push, prepare, push
from .._hub import Token, subfolder_prefix
from .._secrets import masks_tokens
from .labels_beside import LABELS_FILE


class LabelsHub:
    """Push the labels of an SAE."""

    def save(self, path: str | Path) -> None:
        """Save the labels as a Parquet file."""
        raise NotImplementedError

    @masks_tokens
    def push_to_hub(
        self,
        repo_id: str,
        *,
        subfolder: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str = "Upload labels of features",
        token: Token = None,
    ) -> CommitInfo:
        """Push the labels to a Hub repo, beside the weights of their SAE, in one commit.

        The commit has the file `labels.parquet` alone. `SparseAutoencoder.push_to_hub(labels=...)` pushes them with
        the SAE, and its card then counts the names.

        Args:
            repo_id (`str`):
                Hub repo, created if necessary.
            subfolder (`str`, *optional*):
                Folder of the SAE in the repo. By default the root.
            private (`bool`, *optional*):
                Whether a new repo is private. By default the Hub's default for the owner.
            revision (`str`, *optional*):
                Branch to write to. By default main.
            create_pr (`bool`, *optional*, defaults to `False`):
                Whether to open a pull request instead.
            commit_message (`str`, *optional*, defaults to `"Upload labels of features"`):
                Message of the commit.
            token (`str` or `bool`, *optional*):
                Token for the Hub. By default the one that `hf auth login` saved.

        Returns:
            `CommitInfo`: The commit.

        Raises:
            FileNotFoundError: If the repo, or the branch `revision`, does not exist and cannot be created.
            PermissionError: If the Hub does not accept the token, or it lacks permission.
            OSError: If the Hub is out of reach or refuses the commit; the repo is unchanged.
            TypeError: If an argument has a wrong type.
            ValueError: If an argument has a value that is not allowed.

        Example:

        ```python
        labels.push_to_hub("me/my-saes", subfolder="layer_12")
        ```
        """
        check_push(
            repo_id,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
            token=token,
            subfolder=subfolder,
        )
        path = subfolder_prefix(subfolder) + LABELS_FILE
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder) / LABELS_FILE)
            content = (Path(folder) / LABELS_FILE).read_bytes()
        repo, _ = prepare(repo_id, private=private, revision=revision, token=token)
        return push(repo, {path: content}, message=commit_message, revision=revision, create_pr=create_pr)
