"""`load_labels`: the labels of an SAE from wherever they are. No torch before an SAE is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._hub import NoSuchFile, Repo, Token, check_token, subfolder_prefix
from .._secrets import masks_tokens
from .._validation import check_text, check_type
from .labels import PACKAGED, Labels
from .labels_beside import LABELS_FILE
from .neuronpedia import read_explanations

if TYPE_CHECKING:  # annotations only: that file loads torch
    from .model import SparseAutoencoder

NEURONPEDIA = "neuronpedia"


@masks_tokens
def load_labels(
    source: str | Path | SparseAutoencoder | None = None,
    *,
    subfolder: str | None = None,
    sae: str | Path | SparseAutoencoder | None = None,
    export: str | Path | None = None,
    revision: str | None = None,
    token: Token = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Labels:
    """Load the labels of an SAE.

    Args:
        source (`str`, `Path` or `SparseAutoencoder`, *optional*):
            An SAE that was loaded with labels beside its weights, a folder or a Hub repo with a `labels.parquet`, such
            a file, or `"neuronpedia"`. By default the labels of the packaged SAE.
        subfolder (`str`, *optional*):
            Which SAE of a folder or a repo that has several; for Neuronpedia the source, such as
            `v1/gpt2-small/8-res-jb`.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The SAE that the labels must belong to: its width, and its digest where the labels have one. Neuronpedia's
            need it.
        export (`str` or `Path`, *optional*):
            For `"neuronpedia"`: a folder, or a Hub dataset, with files of its export
            (`v1/<model>/<source>/explanations/*.jsonl.gz`).
        revision (`str`, *optional*):
            Branch, tag or commit of a Hub repo.
        token (`str` or `bool`, *optional*):
            Token for the Hub. By default the one that `hf auth login` saved.
        cache_dir (`str` or `Path`, *optional*):
            Folder of the Hub's cache.
        local_files_only (`bool`, *optional*, defaults to `False`):
            Whether to use only files in the cache.

    Returns:
        `Labels`: The labels.

    Raises:
        FileNotFoundError: If there are no labels.
        ValueError: If a file holds no labels, or labels of another SAE.
        TypeError: If an argument has the wrong type.
        OSError: If the Hub is out of reach and the cache lacks a file.

    Example:

    ```python
    load_labels().title(551)  # "#551 concentration", of the packaged SAE
    load_labels("owner/saes", subfolder="layer_12")
    sae = load_sae("jbloom/GPT2-Small-SAEs-Reformatted", subfolder="blocks.8.hook_resid_pre")
    load_labels("neuronpedia", sae=sae, export="FOLDER", subfolder="v1/gpt2-small/8-res-jb")
    ```
    """
    check_type("subfolder", subfolder, str, "a string", optional=True)
    check_text("export", export, (str, Path), optional=True)
    check_token(token)
    hub: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    hub["revision"] = revision
    if source == NEURONPEDIA:
        if sae is None or export is None:
            raise ValueError("`load_labels('neuronpedia')` needs `sae`, the SAE that is explained, and `export`")
        return read_explanations(Repo.at(export, kind="dataset", **hub), _loaded(sae, token), subfolder)
    if export is not None:
        raise ValueError(f"`export={export!r}` is for `load_labels('neuronpedia')` only")
    if source is None:
        labels = Labels.load(PACKAGED)
    elif isinstance(source, str | Path):
        check_text("source", source, (str, Path))
        labels = _at(source, subfolder, hub)
    else:
        labels = _beside(source, token)
    if sae is not None:
        _check(labels, _loaded(sae, token))
    return labels


def _loaded(sae: Any, token: Token) -> SparseAutoencoder:
    from .loading import load_sae

    return load_sae(sae, encoder_only=True, token=token)


def _check(labels: Labels, sae: SparseAutoencoder) -> None:
    labels.check({"d_sae": sae.config.d_sae, "sae_sha256": sae.digest()})


def _at(source: str | Path, subfolder: str | None, hub: dict[str, Any]) -> Labels:
    """Return the labels of a file, a folder or a repo."""
    if Path(source).is_file():
        return Labels.load(source)
    try:
        return Labels.load(Repo.at(source, **hub).fetch(subfolder_prefix(subfolder) + LABELS_FILE))
    except NoSuchFile as error:
        raise FileNotFoundError(f"{error}: the SAE has no labels; make them with `label_features`") from error


def _beside(sae: Any, token: Token) -> Labels:
    """Return the labels that lay beside an SAE's weights when it was loaded."""
    from .model import SparseAutoencoder

    check_type("source", sae, SparseAutoencoder, "a folder, a file, a Hub repo or a SparseAutoencoder")
    if sae.labels_place is None:
        raise FileNotFoundError(
            f"no {LABELS_FILE} lay beside the weights of this SAE; make labels with `label_features`, or pass where "
            "they are"
        )
    labels = Labels.load(sae.labels_place.fetch(token))
    _check(labels, sae)
    return labels
