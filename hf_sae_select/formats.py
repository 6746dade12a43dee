"""Where an SAE comes from: the one inside the package, a folder, or an SAE in hand."""

from __future__ import annotations

from pathlib import Path

from .sae import SparseAutoencoder

DEFAULT_SAE = Path(__file__).parent / "default"

SaeSource = str | Path | SparseAutoencoder


def load_sae(source: SaeSource | None = None) -> SparseAutoencoder:
    """Return the SAE at `source`: a folder in the native layout, an SAE as it is, or by default the packaged one.

    Raises:
        FileNotFoundError: no such folder, or it lacks `cfg.json` or `sae_weights.safetensors`.
        ValueError: the folder holds an SAE that cannot be computed or whose tensors do not fit its config.
    """
    if isinstance(source, SparseAutoencoder):
        return source
    folder = DEFAULT_SAE if source is None else Path(source)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no SAE folder at `sae={str(source)!r}`; it must hold cfg.json and sae_weights.safetensors"
        )
    return SparseAutoencoder.from_pretrained(folder)
