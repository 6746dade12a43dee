"""`load_sae`: an SAE from the package, a Hub repo, a folder or a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .._hub import Token
from .._secrets import masks_tokens
from .model import SparseAutoencoder

DEFAULT_SAE = Path(__file__).parent / "default"
PACKAGED = {"package": "hf-sae-select", "format": "native"}  # `config.source` of the packaged SAE

SaeSource = str | Path | SparseAutoencoder


@masks_tokens
def load_sae(
    source: SaeSource | None = None,
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
) -> SparseAutoencoder:
    """Load an SAE of any known format, or the packaged one.

    This is `SparseAutoencoder.from_pretrained` with a default. An SAE is returned as it is.

    Args:
        source (`str`, `Path` or `SparseAutoencoder`, *optional*):
            Id of a Hub repo, a folder, a weights file, or an SAE. By default the SAE in the package.
        subfolder (`str`, *optional*):
            Which SAE of a repo that contains several. If one is necessary, the error lists them.
        filename (`str`, *optional*):
            Weights file, for repos with several in one folder, such as `layer12.sae.pt`.
        revision (`str`, *optional*):
            Branch, tag or commit of a Hub repo. It is resolved to a commit once; `config.source` contains the commit.
        format (`str`, *optional*, defaults to `"auto"`):
            Name of the format, such as `saelens` or `gemma_scope_2`. By default it is recognised.
        config (`Mapping[str, Any]`, *optional*):
            Values that the repo lacks or has wrong: fields of `SaeConfig`, such as `model`, `hook` or `k`, or keys of
            the publisher's config file, such as `sparsity_include_decoder_norm`.
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
        ValueError: If the format is unknown or unsupported, a file is damaged, or the tensors contradict the config.
        TypeError: If an argument has a wrong type.

    Example:

    ```python
    sae = load_sae("google/gemma-scope-2b-pt-res", subfolder="layer_12/width_16k/average_l0_82")
    ```
    """
    if isinstance(source, SparseAutoencoder):
        return source
    if source is not None and not isinstance(source, str | Path):
        raise TypeError(
            f"`sae` is a {type(source).__name__}; pass a folder, a file, the id of a Hub repo or a SparseAutoencoder"
        )
    sae = SparseAutoencoder.from_pretrained(
        DEFAULT_SAE if source is None else source,
        subfolder=subfolder,
        filename=filename,
        revision=revision,
        format=format,
        config=config,
        device=device,
        dtype=dtype,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        encoder_only=encoder_only,
    )
    if source is None:
        sae.config = replace(sae.config, source=PACKAGED | ({"config": dict(config)} if config else {}))
    return sae
