"""Loading, saving and pushing an SAE: the `ModelHubMixin` of `SparseAutoencoder`."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import CommitInfo, ModelHubMixin
from torch import Tensor

from .._cards import merged, parsed
from .._commits import check_push, prepare, push
from .._files import whole_file
from .._hub import Token, subfolder_prefix
from .._secrets import check_no_token, masks_tokens
from .._validation import check_flag, check_type
from .card import CARD_FILE, check_license, is_local, sae_card
from .config import SaeConfig
from .labels_beside import LABELS_FILE, LabelsPlace, NameCount, SaeLabels, belongs, copy_labels, count_names
from .reader import parse_device, read_sae
from .serialization import write_sae


class HubMixin(ModelHubMixin):
    """Load, save and push an SAE, which consists of a config and tensors."""

    config: SaeConfig
    labels_place: LabelsPlace | None = None
    """Where the labels are that lay beside the weights when the SAE was loaded."""

    @classmethod
    def from_tensors(cls, config: SaeConfig, tensors: Mapping[str, Tensor]) -> Self:
        """Build an SAE from its config and tensors."""
        raise NotImplementedError

    def _tensors(self) -> dict[str, Tensor]:
        """Return all tensors on the CPU, or raise a ValueError if the SAE has no decoder."""
        raise NotImplementedError

    @classmethod
    @masks_tokens
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        subfolder: str | None = None,
        filename: str | None = None,
        revision: str | None = None,
        format: str = "auto",
        config: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        token: Token = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        encoder_only: bool = False,
    ) -> Self:
        """Load an SAE of any known format from a Hub repo at one commit, a folder or a file.

        Args:
            pretrained_model_name_or_path (`str` or `Path`):
                Id of a Hub repo, a folder or a weights file.
            subfolder (`str`, *optional*):
                Which SAE of a repo that contains several. By default the one at the root, or else the only one. If
                there are several, the error lists them.
            filename (`str`, *optional*):
                Weights file, for repos with several in one folder, such as `layer12.sae.pt`.
            revision (`str`, *optional*):
                Branch, tag or commit of a Hub repo. It is resolved to a commit once; `config.source` contains the
                commit.
            format (`str`, *optional*, defaults to `"auto"`):
                Name of the format, such as `native`, `saelens` or `gemma_scope_2`. By default it is recognised.
            config (`Mapping[str, Any]`, *optional*):
                Values that the repo lacks or has wrong: fields of `SaeConfig`, such as `model`, `hook` or `k`, or keys
                of the publisher's config file, such as `sparsity_include_decoder_norm`.
            device (`str` or `torch.device`, *optional*, defaults to `"cpu"`):
                Device of the parameters.
            dtype (`torch.dtype`, *optional*, defaults to `torch.float32`):
                Type of the parameters.
            token (`str` or `bool`, *optional*):
                Token for the Hub. By default the one that `hf auth login` saved.
            cache_dir (`str` or `Path`, *optional*):
                Folder of the Hub's cache.
            local_files_only (`bool`, *optional*, defaults to `False`):
                Whether to use only files in the cache.
            encoder_only (`bool`, *optional*, defaults to `False`):
                Whether to load only what `encode` needs. The decoder stays on disk unless the encoder depends on it.

        Returns:
            `SparseAutoencoder`: The SAE, without gradients.

        Raises:
            FileNotFoundError: If the folder, repo, revision or SAE does not exist.
            PermissionError: If the repo is gated, or the Hub does not accept the token.
            OSError: If the Hub is out of reach and the cache lacks a file.
            ValueError: If the format is unknown or unsupported, a file is damaged, or the tensors contradict the
                config.
            TypeError: If an argument has a wrong type.

        Example:

        ```python
        sae = SparseAutoencoder.from_pretrained("EleutherAI/sae-llama-3-8b-32x", subfolder="layers.24")
        ```
        """
        device = parse_device(device)
        sae_config, tensors, labels_place = read_sae(
            pretrained_model_name_or_path,
            subfolder=subfolder,
            filename=filename,
            revision=revision,
            format=format,
            overrides=config,
            dtype=dtype,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            encoder_only=encoder_only,
        )
        sae = cls.from_tensors(sae_config, {name: tensor.to(device) for name, tensor in tensors.items()})
        sae.labels_place = labels_place
        return sae

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        license: str | None = None,
        labels: SaeLabels | None = None,
        **options: Any,
    ) -> CommitInfo | None:
        """Write the SAE into a folder: weights in their present type, configs, labels, and a card unless there is one.

        The files are `sae_weights.safetensors`, `config.json`, `README.md`, and `cfg.json`, which SAELens 6 reads.
        With labels, `labels.parquet` is one more.

        Args:
            save_directory (`str` or `Path`):
                Folder, created if necessary.
            repo_id (`str`, *optional*):
                Hub repo to push to. By default, one with the name of the folder.
            push_to_hub (`bool`, *optional*, defaults to `False`):
                Whether to push the SAE too.
            license (`str`, *optional*):
                License of the weights, for the card, such as `apache-2.0`.
            labels (`Labels`, *optional*):
                Labels of this SAE. By default those that lay beside the weights when it was loaded.
            **options (`Any`):
                Arguments of `push_to_hub`.

        Returns:
            `CommitInfo` or `None`: The commit, if the SAE was pushed.

        Raises:
            ValueError: If the SAE was loaded with `encoder_only`, or `labels` belong to another SAE.
            TypeError: If an argument has a wrong type, or there are `options`, but `push_to_hub` is False.
        """
        check_type("save_directory", save_directory, str | Path, "a folder")
        check_type("repo_id", repo_id, str, "a string", optional=True)
        check_flag("push_to_hub", push_to_hub)
        check_license(license)
        if options and not push_to_hub:
            raise TypeError(
                f"`{next(iter(options))}` is an option of pushing; pass `push_to_hub=True` too, or omit it"
            )
        self._check_labels(labels)
        folder = Path(save_directory)
        sae_card(self.config, license=license)  # an error here must come before anything is written
        beside = self._labels_beside(labels)
        self._save_pretrained(folder)
        names = self._save_labels(folder, labels, beside)
        if not (folder / CARD_FILE).exists():
            with whole_file(folder / CARD_FILE) as part:
                part.write_text(sae_card(self.config, license=license, names=names), encoding="utf-8")
        if not push_to_hub:
            return None
        return self.push_to_hub(repo_id or folder.name, license=license, labels=labels, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write weights and configs."""
        write_sae(save_directory, self.config, self._tensors())

    def digest(self) -> str:
        """Return the digest of all that `encode` depends on."""
        raise NotImplementedError

    def _check_labels(self, labels: Any) -> None:
        """Check the argument `labels`.

        Raises:
            TypeError: they are no labels.
            ValueError: they belong to another SAE.
        """
        if labels is None:
            return
        if not (hasattr(labels, "check") and hasattr(labels, "save")):
            raise TypeError(f"`labels` is a {type(labels).__name__}; pass `Labels`, such as `load_labels` returns")
        labels.check({"d_sae": self.config.d_sae, "sae_sha256": self.digest()})

    def _labels_beside(self, labels: SaeLabels | None, token: Token = None) -> Path | None:
        """Return the file of labels that the SAE was loaded with, checked, if it is to be copied.

        Raises:
            ValueError: it holds no labels.
        """
        if labels is not None or self.labels_place is None:
            return None
        file = self.labels_place.fetch(token)
        if not belongs(file, self.config.d_sae, self.digest()):
            warnings.warn(
                f"`{LABELS_FILE}` is left out: it belongs to the SAE as it was loaded, whose encoder has changed "
                "since; label it again with `label_features`",
                stacklevel=4,
            )
            return None
        count_names(file)
        return file

    def _save_labels(self, folder: Path, labels: SaeLabels | None, beside: Path | None) -> NameCount | None:
        """Write labels into a folder, or copy a file of them, and count the names."""
        if labels is not None:
            labels.save(folder / LABELS_FILE)
        elif beside is not None:
            copy_labels(beside, folder)
        else:
            return None
        return count_names(folder / LABELS_FILE)

    @masks_tokens
    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        subfolder: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str = "Upload sparse autoencoder",
        token: Token = None,
        license: str | None = None,
        labels: SaeLabels | None = None,
    ) -> CommitInfo:
        """Push the SAE to a Hub repo in one commit: weights, configs, labels and card.

        The text of an existing README is kept; only our own section of it is replaced. Its metadata take precedence,
        and missing ones are added.

        Args:
            repo_id (`str`):
                Hub repo, created if necessary.
            subfolder (`str`, *optional*):
                Folder in the repo, for several SAEs in one repo. By default the root.
            private (`bool`, *optional*):
                Whether a new repo is private. By default the Hub's default for the owner.
            revision (`str`, *optional*):
                Branch to write to. By default main.
            create_pr (`bool`, *optional*, defaults to `False`):
                Whether to open a pull request instead.
            commit_message (`str`, *optional*, defaults to `"Upload sparse autoencoder"`):
                Message of the commit.
            token (`str` or `bool`, *optional*):
                Token for the Hub. By default the one that `hf auth login` saved.
            license (`str`, *optional*):
                License of the weights, for the card's metadata, such as `apache-2.0`.
            labels (`Labels`, *optional*):
                Labels of this SAE. By default those that lay beside the weights when it was loaded.

        Returns:
            `CommitInfo`: The commit.

        Raises:
            ValueError: If the SAE has no decoder, `config.model` is a local path, or `labels` belong to another SAE.
            FileNotFoundError: If the repo, or the branch `revision`, does not exist and cannot be created.
            PermissionError: If the Hub does not accept the token, or it lacks permission.
            OSError: If the Hub is out of reach or refuses the commit; the repo is unchanged.
            TypeError: If an argument has a wrong type.

        Example:

        ```python
        sae.push_to_hub("me/my-saes", subfolder="layer_12", license="apache-2.0")
        ```
        """
        check_type("repo_id", repo_id, str, "the id of a Hub repo")
        check_push(
            repo_id,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
            token=token,
            subfolder=subfolder,
        )
        check_license(license)
        self._check_labels(labels)
        if is_local(self.config.model):
            raise ValueError(
                f"`config.model={self.config.model!r}` is a local path, which other users of the repo lack; set "
                "`sae.config = dataclasses.replace(sae.config, model='owner/name')` first"
            )
        check_no_token("config", json.dumps(asdict(self.config), default=str), token)
        prefix = subfolder_prefix(subfolder)
        sae_card(self.config)  # an error here must come before the repo is created
        beside = self._labels_beside(labels, token)
        with tempfile.TemporaryDirectory() as folder:
            self._save_pretrained(Path(folder))
            names = self._save_labels(Path(folder), labels, beside)
            files: dict[str, Path | bytes] = {prefix + file.name: file for file in Path(folder).iterdir()}
            repo, readme = prepare(repo_id, private=private, revision=revision, token=token)
            kept = readme and parsed(readme).data.get("license")
            if license and kept and kept not in (license, [license]):
                warnings.warn(
                    f"`license={license!r}`, but the README of {repo.name} says {str(kept)[:100]!r}, which stays: "
                    "change it there if it is wrong",
                    stacklevel=3,
                )
            card = sae_card(self.config, repo.name, prefix.rstrip("/") or None, kept or license, names)
            files[CARD_FILE] = merged(card, readme).encode()
            return push(repo, files, message=commit_message, revision=revision, create_pr=create_pr)
