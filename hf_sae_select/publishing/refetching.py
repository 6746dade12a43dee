"""Refetching: the source and the SAE that a record, which may be anybody's, names; the rows encoded again."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, load_dataset
from datasets.fingerprint import update_fingerprint
from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionNotFoundError

from .._datasets import fingerprint_of, set_fingerprint
from .._hub import Token, hub_errors
from ..features.columns import without_codes
from .provenance import Record
from .source import Source, origins

if TYPE_CHECKING:  # annotations only
    from ..encoding.text import TextSource
    from ..sae.model import SparseAutoencoder


# The arguments of `from_pretrained` that a record, which may be anybody's, is trusted with.
MODEL_KWARGS = ("attn_implementation", "experts_implementation", "quantization_config")


class NotAsRecorded(ValueError):
    """Something that a record names cannot be had as it says."""


def refetch_source(record: Record, token: Token) -> Dataset:
    """Return the source as `load_dataset` gives it at its commit.

    Raises:
        NotAsRecorded: it has no such commit, config or split.
        FileNotFoundError, OSError: the Hub does not show it, or is out of reach.
    """
    source = Source(**{each.name: record["source"][each.name] for each in fields(Source)})
    reached = _check_commit(str(source.dataset), str(source.revision), "dataset", token)
    try:
        rows = load_dataset(**source.arguments, token=token)
    except ValueError as error:  # no such config or split
        if not reached:
            raise OSError(f"the Hub is out of reach, and the cache does not have {source.dataset}: {error}") from error
        raise NotAsRecorded(f"{source.dataset} cannot be loaded as recorded: {error}") from error
    if {each.revision for each in origins(rows)} - {
        source.revision
    }:  # without the Hub, `load_dataset` takes what the cache has
        raise OSError(f"the cache has {source.dataset} at another commit than {source.revision}, and the Hub is away")
    return without_codes(rows)


def refetch_sae(told: dict[str, Any], token: Token) -> SparseAutoencoder:
    """Return the SAE of a record's `encoding`, set as it was when the rows were encoded.

    Raises:
        NotAsRecorded: its repo has no such commit, or no such SAE at it.
        FileNotFoundError, OSError: the Hub does not show it, or is out of reach.
    """
    import torch

    from ..encoding.language_model import READING_DEFAULTS
    from ..sae.loading import load_sae

    _check_no_folder(told["model"])
    where = told["sae"]
    how: dict[str, Any] = {"encoder_only": True, "dtype": getattr(torch, told["dtype"][1])}
    if "repo" in where:
        _check_commit(where["repo"], where["revision"], "model", token)
        how |= {"source": where["repo"], "revision": where["revision"], "filename": where["path"], "token": token}
        how |= {"format": where.get("format", "auto"), "config": where.get("config")}
    as_it_was: dict[str, Any] = {name: told.get(name, usual) for name, usual in READING_DEFAULTS.items()}
    as_it_was |= {"model": told["model"], "model_revision": told["model_revision"], "hook": told["hook"]}
    as_it_was |= {"context_size": told["window"], "feature_threshold": told["threshold"]}
    try:
        sae = load_sae(**how)
        sae.config = replace(sae.config, **as_it_was)
    except (FileNotFoundError, ValueError) as error:
        raise NotAsRecorded(f"it cannot be loaded as recorded: {error}") from error
    return sae


def encode_again(
    record: Record, rows: Dataset, sae: SparseAutoencoder, text: TextSource | None, batch_size: int, keep: list[str]
) -> Dataset:
    """Encode the rows of the source as the record says, with `keep` beside the codes.

    Raises:
        NotAsRecorded: they cannot be encoded as the record says.
    """
    from ..encoding.pipeline import encode  # needs torch

    told = record["encoding"]
    rows = rows.with_format(None)
    # A separate cache key, so that verification never reads the cache that it verifies, and can still be resumed.
    key = {"record": record["sha256"]}
    set_fingerprint(rows, update_fingerprint(fingerprint_of(rows), "hf_sae_select.verify", key))
    text = told["text"]["columns"] if text is None else text
    try:
        return encode(
            rows,
            sae,
            text=text,
            max_length=told["max_length"],
            batch_size=batch_size,
            keep=keep,
            dtype=None if told["dtype"][0] == "auto" else told["dtype"][0],
            model_kwargs=_model_kwargs(told),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise NotAsRecorded(f"the rows cannot be encoded as recorded: {error}") from error


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
    """Refuse a repo that does not have the recorded commit; return False where the Hub cannot be asked."""
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
    except OSError:  # what the cache has of that commit will do
        return False


def _check_no_folder(name: str) -> None:
    """Refuse to read here what a record names there."""
    if Path(name).is_dir():
        raise ValueError(f"a folder `{name}` lies here, and would be read in place of the repo: verify elsewhere")
