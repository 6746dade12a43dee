"""Fetching the source and the SAE that a record names, which may be anybody's, and encoding the rows again."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, load_dataset
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RevisionNotFoundError

from .._hub import NoSuchFile, Repo, Token, hub_errors
from ..features.columns import without_codes
from .provenance import Record
from .source import Source, origins

if TYPE_CHECKING:  # annotations only
    from ..encoding.text import TextSource
    from ..sae.model import SparseAutoencoder


SMALL_FILES = (".json", ".txt", ".model", ".jinja", ".tiktoken")  # of a model's config and tokenizer
# What `load_dataset` says of a config or a split that a dataset does not have.
NO_CONFIG_OR_SPLIT = re.compile("BuilderConfig .* not found|Unknown split")
# The arguments of `from_pretrained` that verification takes from a record, which may be anybody's.
MODEL_KWARGS = ("attn_implementation", "experts_implementation", "quantization_config")


class NotAsRecorded(ValueError):
    """Something that a record names does not exist as recorded."""


def refetch_source(record: Record, token: Token) -> Dataset:
    """Return the source as `load_dataset` loads it at its commit.

    Raises:
        NotAsRecorded: If it has no such commit, config or split.
        FileNotFoundError, OSError: If the dataset is private or the Hub is out of reach.
    """
    source = Source(**{field.name: record["source"][field.name] for field in fields(Source)})
    is_online = _check_commit(str(source.dataset), str(source.revision), "dataset", token)
    try:
        with hub_errors(str(source.dataset), source.revision):
            rows = load_dataset(**source.arguments, token=token)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # `load_dataset` raises anything, of the repo's files or of the Hub's answers
        if is_online and isinstance(error, ValueError) and NO_CONFIG_OR_SPLIT.match(str(error)):
            raise NotAsRecorded(f"{source.dataset} cannot be loaded as recorded: {error}") from error
        raise OSError(f"{source.dataset} at {source.revision} cannot be loaded now: {error}") from error
    # Without the Hub, `load_dataset` takes any commit that the cache has.
    if any(origin.revision != source.revision for origin in origins(rows)):
        raise OSError(
            f"the cache has {source.dataset} at another commit than {source.revision}, and the Hub is out of reach"
        )
    return without_codes(rows)


def refetch_sae(encoding: dict[str, Any], token: Token) -> SparseAutoencoder:
    """Return the SAE of a record's `encoding`, configured as it was when the rows were encoded.

    Raises:
        NotAsRecorded: If its repo has no such commit, or no such SAE at that commit.
        FileNotFoundError, OSError: If the repo is private or the Hub is out of reach.
    """
    import torch

    from ..encoding.recorded import configured
    from ..sae.loading import load_sae

    _check_no_folder(encoding["model"])
    place, is_listed = encoding["sae"], False
    arguments: dict[str, Any] = {"encoder_only": True, "dtype": getattr(torch, encoding["dtype"][1])}
    if "repo" in place:
        if _check_commit(place["repo"], place["revision"], "model", token):
            is_listed = place["path"] in Repo(place["repo"], None, place["revision"], token).all_files()
            if not is_listed:
                raise NotAsRecorded(
                    f"the SAE cannot be loaded as recorded: no SAE at {place['path']!r} in {place['repo']}"
                )
        arguments |= {"source": place["repo"], "revision": place["revision"], "filename": place["path"]}
        arguments |= {"format": place.get("format", "auto"), "config": place.get("config"), "token": token}
    try:
        return configured(load_sae(**arguments), encoding)
    except FileNotFoundError as error:
        if is_listed or not isinstance(error, NoSuchFile):  # it is there, but cannot be fetched
            raise OSError(f"the SAE cannot be loaded now: {error}") from error
        raise NotAsRecorded(f"the SAE cannot be loaded as recorded: {error}") from error
    except ValueError as error:
        raise NotAsRecorded(f"the SAE cannot be loaded as recorded: {error}") from error


def encode_again(
    record: Record, rows: Dataset, sae: SparseAutoencoder, text: TextSource | None, batch_size: int, keep: list[str]
) -> Dataset:
    """Return the rows of the source encoded, with `keep` in addition to the codes.

    Raises:
        NotAsRecorded: If they cannot be encoded as the record says.
    """
    text = record["encoding"]["text"]["columns"] if text is None else text
    return _encoded(record, rows, sae, text, batch_size, keep)


def encode_target(record: Record, name: str, rows: Dataset, sae: SparseAutoencoder, batch_size: int) -> Dataset:
    """Return rows of a target, encoded as the record says; their texts as a selection reads those of a target.

    Raises:
        ValueError: If they cannot be encoded as the record says, as the source was; the message has their `name`.
    """
    from ..encoding.text import columns_as_recorded

    try:
        return _encoded(record, rows, sae, columns_as_recorded(rows, record["encoding"]), batch_size, [])
    except NotAsRecorded as error:
        raise ValueError(f"`{name}`: {error}") from error


def _encoded(
    record: Record, rows: Dataset, sae: SparseAutoencoder, text: TextSource | None, batch_size: int, keep: list[str]
) -> Dataset:
    from ..encoding.pipeline import encode_apart  # needs torch
    from ..encoding.recorded import keep_of

    encoding = record["encoding"]
    _prefetch_model(encoding["model"], encoding["model_revision"])
    try:
        return encode_apart(
            rows,
            sae,
            # Verification must not read the cached codes that it verifies. With the record's digest in the name of the
            # store, a verification that was interrupted still continues from its own codes.
            purpose=f"verify {record['sha256']}",
            text=text,
            max_length=encoding["max_length"],
            batch_size=batch_size,
            keep=(*keep_of(encoding), *keep),
            dtype=None if encoding["dtype"][0] == "auto" else encoding["dtype"][0],
            precision=encoding.get("precision"),
            model_kwargs=_model_kwargs(encoding),
            chat_template_kwargs=encoding.get("chat_template_kwargs"),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise NotAsRecorded(f"the rows cannot be encoded as recorded: {error}") from error


def _prefetch_model(name: str | None, revision: str | None) -> None:
    """Download the small files of a model: transformers goes on without one that it cannot fetch, with other codes."""
    from ..encoding.pretrained import locate

    if name is None or constants.HF_HUB_OFFLINE or locate(name, revision)[0] != name:
        return
    try:
        repo = Repo(name, None, revision).listed()
        for path in repo.all_files():
            if "/" not in path and Path(path).suffix in SMALL_FILES:
                repo.fetch(path)
    except OSError as error:
        raise OSError(f"cannot load the base model {name}: {error}") from error


def _model_kwargs(encoding: dict[str, Any]) -> dict[str, Any]:
    """Return the recorded arguments of `from_pretrained`, after a check that none can make it run foreign code."""
    model_kwargs: dict[str, Any] = encoding.get("model_kwargs", {})
    for name, value in model_kwargs.items():
        # "owner/name" as an implementation downloads a kernel from that repo and runs it.
        if name not in MODEL_KWARGS or (name.endswith("_implementation") and "/" in str(value)):
            raise NotAsRecorded(
                f"the model was loaded with `{name}={value!r}`, which verification does not pass on to transformers; "
                f"it passes on: {', '.join(MODEL_KWARGS)}, without kernels from the Hub"
            )
    return model_kwargs


def _check_commit(name: str, revision: str, kind: str, token: Token) -> bool:
    """Check that a repo has the recorded commit; return False if the Hub is out of reach."""
    _check_no_folder(name)
    try:
        with hub_errors(name, revision):
            HfApi(token=token).repo_info(name, repo_type=kind, revision=revision)
            return True
    except FileNotFoundError as error:
        if isinstance(error.__cause__, RevisionNotFoundError):
            raise NotAsRecorded(str(error)) from error
        raise
    except PermissionError:
        raise
    except OSError:  # the cache may have that commit
        return False


def _check_no_folder(name: str) -> None:
    """Check that no local folder has the name of a recorded repo."""
    if Path(name).is_dir():
        raise ValueError(
            f"the folder `{name}` has the name of a repo in the record, and would be read instead of it: verify in "
            "another working directory"
        )
