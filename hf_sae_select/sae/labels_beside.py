"""The file of labels beside an SAE's weights: carried along, and counted for the card. No torch.

What is in it, `concepts` knows; here it is a file with a digest of the SAE that it belongs to.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pyarrow.parquet as pq

from .._files import whole_file
from .._hub import Repo, Token
from .._parquet import content_errors, read_table

LABELS_FILE = "labels.parquet"
KEY = b"hf_sae_select"  # of the schema's metadata: the width, the digest of the SAE, and the labels' own metadata
MOST_JSON = 2**20


class SaeLabels(Protocol):
    """What saving an SAE needs of `Labels`."""

    def check(self, record: dict[str, Any]) -> None: ...

    def save(self, path: str | Path) -> None: ...


@dataclass(frozen=True)
class LabelsPlace:
    """Where the labels of an SAE that was loaded are; nothing is fetched before they are asked for."""

    repo: Repo
    """Without the token: an SAE may be pickled."""
    path: str

    @classmethod
    def beside(cls, repo: Repo, weights: str, files: list[str]) -> LabelsPlace | None:
        """Return the place of the labels beside a weights file, or None without them."""
        path = PurePosixPath(weights).with_name(LABELS_FILE).as_posix()
        return cls(replace(repo, token=None), path) if path in files else None

    def fetch(self, token: Token = None) -> Path:
        """Return the file, downloaded if necessary."""
        return replace(self.repo, token=token).fetch(self.path)


@dataclass(frozen=True)
class NameCount:
    """How many features of an SAE have names."""

    features: int
    fired: int
    """Those that fired on the text that the labels were made from, or have a name."""
    named: int


def own_metadata(metadata: Any) -> dict[str, Any]:
    """Return what a file of labels says of itself, in the metadata of its schema.

    Raises:
        ValueError, KeyError: it says nothing that can be read.
    """
    text = (metadata or {})[KEY]
    if len(text) > MOST_JSON:
        raise ValueError(f"its metadata have {len(text):,} bytes; at most {MOST_JSON:,} are read")
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("its metadata are no JSON object")
    return values


def belongs(file: Path, d_sae: int, digest: str) -> bool:
    """Tell whether a file of labels belongs to an SAE, as far as it says.

    Raises:
        ValueError: it is no file of labels.
    """
    with content_errors():
        own = own_metadata(pq.read_schema(file).metadata)
        return own["d_sae"] == d_sae and own["sae_sha256"] in (None, digest)


def count_names(file: Path) -> NameCount:
    """Count the names in a file of labels.

    Raises:
        ValueError: it is no file of labels.
    """
    with content_errors():
        table = read_table(file)
        rows = table.select(["name", "frequency"]).to_pylist()
        fired = sum(bool(row["name"]) or (row["frequency"] or 0.0) > 0 for row in rows)
        named = sum(bool(row["name"]) for row in rows)
        return NameCount(int(own_metadata(table.schema.metadata)["d_sae"]), fired, named)


def copy_labels(file: Path, folder: Path) -> None:
    """Copy a file of labels into a folder, whole or not at all."""
    with whole_file(folder / LABELS_FILE) as part:
        shutil.copyfile(file, part)
