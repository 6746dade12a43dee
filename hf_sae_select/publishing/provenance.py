"""Record: what decided a published subset, and what it is, in JSON that a schema describes. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from .._cards import HUB_ID
from .._optional import extra
from .hashing import digest_of
from .source import COMMIT

RECORD_FILE = "provenance.json"
SCHEMA_FILE = Path(__file__).parent / "provenance.schema.json"
RECORD_VERSION = 1
PACKAGES = ["hf-sae-select", "datasets", "huggingface-hub", "numba", "numpy", "pyarrow", "tokenizers", "torch"]
PACKAGES += ["transformers"]

# Arguments of `from_pretrained` that say on which devices of this machine a model is.
PLACEMENT = {"device_map", "max_memory", "offload_folder", "offload_buffers"}

Record = dict[str, Any]


def sealed(record: Record) -> Record:
    """Return a record with its version and, last, the digest of all it says, once it is valid."""
    record = json.loads(json.dumps({"version": RECORD_VERSION, **record}))
    record["sha256"] = digest_of(record)
    if problem := invalid(record):
        raise AssertionError(f"the record does not keep to its own schema: {problem}")
    return record


def written(record: Record) -> str:
    """Return the text of the file."""
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read(file: Path) -> Record:
    """Read a record.

    Raises:
        ValueError: it is no record, or does not keep to the schema; the first offence is named.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{RECORD_FILE} is no JSON: {error}") from error
    if problem := invalid(record):
        raise ValueError(problem)
    return dict(record)


def invalid(record: Any) -> str | None:
    """Say what in a record breaks the schema; None if nothing does."""
    if isinstance(record, Mapping) and isinstance(record.get("version"), int) and record["version"] > RECORD_VERSION:
        return (
            f"{RECORD_FILE} has version {record['version']}, this library reads {RECORD_VERSION}: install a newer one"
        )
    error = extra("jsonschema").exceptions.best_match(_validator().iter_errors(record))
    if error is None:
        lacks = (record["encoding"] is None) != (record["coverage"] is None)
        return f"{RECORD_FILE}: `encoding` and `coverage` go together" if lacks else None
    place = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in error.absolute_path)
    return f"{RECORD_FILE}{' at ' + place[1:] if place else ''}: {error.message[:300]}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that an object has twice: readers would differ on which one counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return found


def is_edited(record: Record) -> bool:
    """Tell whether a record says something else than when it was sealed."""
    return bool(digest_of({name: value for name, value in record.items() if name != "sha256"}) != record["sha256"])


def versions() -> dict[str, str | None]:
    """Return the versions of what took part; None for what is not installed."""
    found: dict[str, str | None] = {"python": python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def public(encoding: Mapping[str, Any]) -> dict[str, Any]:
    """Return an encoding record without what is of this machine alone: the folder of a model, and its devices."""
    encoding = dict(encoding)
    if model_kwargs := encoding.pop("model_kwargs", {}):
        model_kwargs = {name: value for name, value in model_kwargs.items() if name not in PLACEMENT}
        encoding |= {"model_kwargs": model_kwargs} if model_kwargs else {}
    if not encoding or (COMMIT.fullmatch(str(encoding["model_revision"])) and HUB_ID.fullmatch(encoding["model"])):
        return encoding
    sae = {name: value for name, value in encoding.get("sae", {}).items() if name != "config"}  # it may name it too
    return encoding | {"model": None, "model_revision": None} | ({"sae": sae} if sae else {})


@cache
def _validator() -> Any:
    return extra("jsonschema").Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
