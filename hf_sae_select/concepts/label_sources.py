"""`load_labels`: the labels of an SAE from wherever they are. No torch."""

from __future__ import annotations

from pathlib import Path

from .labels import PACKAGED, Labels


def load_labels(source: str | Path | None = None) -> Labels:
    """Load the labels of an SAE.

    Args:
        source (`str` or `Path`, *optional*):
            A file of labels, or a folder that contains `labels.parquet`. By default the labels of the packaged SAE.

    Returns:
        `Labels`: The labels.

    Raises:
        FileNotFoundError: If there are no labels.
        ValueError: If the file holds no labels.
        TypeError: If `source` is no path.
    """
    return Labels.load(PACKAGED if source is None else source)
