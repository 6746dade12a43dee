"""The file of labels beside an SAE's weights: carried along, and counted for the card. No torch.

What is in it, `concepts` knows; here it is a file with a digest of the SAE that it belongs to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pyarrow.parquet as pq

from .._files import whole_file
from .._hub import Repo, Token
from .._parquet import content_errors, count_rows, read_table
from .._validation import check_int

LABELS_FILE = "labels.parquet"
KEY = b"hf_sae_select"  # of the schema's metadata: the width, the digest of the SAE, and the labels' own metadata
MOST_JSON = 2**20
MOST_FEATURES = 2**24


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


def check_width(d_sae: Any) -> None:
    """Check the number of features of labels.

    Raises:
        ValueError: it is no positive integer, or too large.
    """
    check_int("d_sae", d_sae)
    if d_sae > MOST_FEATURES:
        raise ValueError(f"`d_sae={d_sae}` must be at most {MOST_FEATURES:,}")


def declared(file: Path) -> dict[str, Any]:
    """Return what a file of labels says of itself, in the metadata of its schema; no row is read.

    Raises:
        ValueError, KeyError, pyarrow.ArrowException: it says nothing that can be read, or has more rows than features.
    """
    text = (pq.read_schema(file).metadata or {})[KEY]
    if len(text) > MOST_JSON:
        raise ValueError(f"its metadata have {len(text):,} bytes; at most {MOST_JSON:,} are read")
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("its metadata are no JSON object")
    check_width(values["d_sae"])
    if (rows := count_rows(file)) > values["d_sae"]:
        raise ValueError(f"it has {rows:,} rows, more than d_sae={values['d_sae']:,}, the number of features")
    return values


def belongs(file: Path, d_sae: int, digest: str) -> bool:
    """Tell whether a file of labels belongs to an SAE, as far as it says.

    Raises:
        ValueError: it is no file of labels; the message names the file.
    """
    with _labels_errors(file):
        own = declared(file)
        return own["d_sae"] == d_sae and own["sae_sha256"] in (None, digest)


def count_names(file: Path) -> NameCount:
    """Count the names in a file of labels.

    Raises:
        ValueError: it is no file of labels; the message names the file.
    """
    with _labels_errors(file):
        own = declared(file)
        rows = read_table(file).select(["name", "frequency"]).to_pylist()
        fired = sum(bool(row["name"]) or (row["frequency"] or 0.0) > 0 for row in rows)
        named = sum(bool(row["name"]) for row in rows)
        return NameCount(own["d_sae"], fired, named)


@contextmanager
def _labels_errors(file: Path) -> Iterator[None]:
    """Turn errors that the content of a file of labels causes into a ValueError that names the file."""
    try:
        with content_errors():
            yield
    except ValueError as error:
        raise ValueError(
            f"{file} holds no labels that can be read: {str(error)[:300]}; remove the file, or pass other `labels`"
        ) from error


def copy_labels(file: Path, folder: Path) -> None:
    """Copy a file of labels into a folder, whole or not at all."""
    with whole_file(folder / LABELS_FILE) as part:
        shutil.copyfile(file, part)
