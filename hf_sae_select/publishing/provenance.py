"""Provenance record: how a published subset was selected and what it contains, as JSON with a schema. No torch.

Records of earlier versions can be read too: `upgraded` converts them to the current one. The record of several splits
has the records of all of them as its parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from .._cards import HUB_ID
from .._files import read_text
from .._optional import extra
from ..selection.methods import METHODS
from .hashing import digest_of
from .layout import COMMIT, RECORD_FILE, TARGET_FILE, folder_of, pool_files_in, problem_of_splits

RECORD_VERSION, SPLITS_VERSION = 4, 5
SCHEMA_FILES = {
    1: Path(__file__).parent / "provenance.v1.schema.json",
    2: Path(__file__).parent / "provenance.v2.schema.json",
    3: Path(__file__).parent / "provenance.v3.schema.json",
    4: Path(__file__).parent / "provenance.schema.json",
    5: Path(__file__).parent / "provenance.splits.schema.json",
}
PACKAGES = ["hf-sae-select", "datasets", "huggingface-hub", "numba", "numpy", "pyarrow", "tokenizers", "torch"]
PACKAGES += ["transformers"]

# Arguments of `from_pretrained` that say on which devices of this machine a model is.
PLACEMENT = {"device_map", "max_memory", "offload_folder", "offload_buffers"}

Record = dict[str, Any]


# The parameters of version 1 were one flat mapping. These are the names of those that are in `cuts` and `constraints`
# since; the rest are the method's options.
CUTS_1 = ("threshold", "top", "max_share", "embedding")
CONSTRAINTS_1 = ("must_include", "exclude", "quota", "quality", "cost", "per_token", "extend")
DIGEST_1 = "sha256:"  # prefix of an option that version 1 recorded by its digest


class NewerRecord(ValueError):
    """A later version of this library wrote the record."""


def sealed(record: Record) -> Record:
    """Return a record with its version first and the digest of its content last.

    Raises:
        AssertionError: If the record violates its own schema.
    """
    number = SPLITS_VERSION if "splits" in record else RECORD_VERSION
    record = json.loads(json.dumps({"version": number, **record}))
    record["sha256"] = digest_of(record)
    if problem := problem_of(record):
        raise AssertionError(f"the record violates its own schema: {problem}")
    return record


def dumps(record: Record) -> str:
    """Return the text of the record's file."""
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read(file: Path) -> Record:
    """Read a record of any version, as it was written.

    Raises:
        NewerRecord: If a later version of this library wrote it.
        ValueError: If the file is not JSON or violates the schema of its version; the message names the first problem.
    """
    try:
        record = json.loads(read_text(file), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{RECORD_FILE} is not valid JSON: {error}") from error
    if problem := problem_of(record):
        raise NewerRecord(problem) if _is_newer(record) else ValueError(problem)
    return dict(record)


def parts_of(record: Record) -> dict[str, Record]:
    """Return the records of all splits; that of a subset without splits is named ""."""
    return record["splits"] if "splits" in record else {"": record}


def files_of(record: Record) -> list[str]:
    """Return the paths in the repo of the files that a record lists."""
    return [f"{folder_of(split)}{name}" for split, part in parts_of(record).items() for name in part["files"]]


def upgraded(record: Record) -> Record:
    """Convert a record to the current version; its `sha256` stays that of the file."""
    if record["version"] == RECORD_VERSION:
        return record
    selection = record["selection"]
    if record["version"] == 1:
        selection = selection | {"parameters": nested(selection["parameters"], selection["method"])}
    measured = {"likeness": None, "quotas": None} if record["version"] < 3 else {}
    return record | {"version": RECORD_VERSION, "selection": selection, "target": None} | measured


def nested(flat: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Convert the flat parameters of version 1 to nested ones."""
    rest = dict(flat)
    parameters: dict[str, Any] = {"budget": rest.pop("budget"), "seed": rest.pop("seed")}
    encoding = {"encoding": rest.pop("encoding")} if "encoding" in rest else {}
    cuts = {name: rest.pop(name, None) for name in CUTS_1}
    constraints = {name: rest.pop(name) for name in CONSTRAINTS_1 if name in rest}
    if method == "weighted" and rest.get("mass") == "max":  # an option of 0.1.0, now the only way
        del rest["mass"]
    options = rest if method in METHODS else {name: _tagged(value) for name, value in rest.items()}
    return parameters | {"options": options, "constraints": constraints, "cuts": cuts} | encoding


def _tagged(value: Any) -> Any:
    """Convert an option that version 1 recorded by its digest."""
    if isinstance(value, str) and value.startswith(DIGEST_1):
        return {"sha256": value.removeprefix(DIGEST_1)}
    return value


def problem_of(record: Any) -> str | None:
    """Return the first problem of a record with its schema, in words; None for a valid record."""
    number = record.get("version") if isinstance(record, Mapping) else None
    if _is_newer(record):
        return (
            f"{RECORD_FILE} has version {number}, but this library reads up to {SPLITS_VERSION}: upgrade hf-sae-select"
        )
    validator = _validator(number if number in SCHEMA_FILES and not isinstance(number, bool) else RECORD_VERSION)
    error = extra("jsonschema").exceptions.best_match(validator.iter_errors(record))
    if error is not None:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        return f"{RECORD_FILE}{' at ' + place[1:] if place else ''}: {error.message[:300]}"
    if "splits" in record:
        if problem := problem_of_splits(record["splits"]):
            return f"{RECORD_FILE}: {problem}"
        problems = ((split, problem_of(part)) for split, part in record["splits"].items())
        return next((f"{problem} (in the split {split!r})" for split, problem in problems if problem), None)
    if record["encoding"] is None and record["coverage"] is not None:
        return f"{RECORD_FILE}: `coverage` needs `encoding`"
    if record["version"] == 1 and (record["encoding"] is None) != (record["coverage"] is None):
        return f"{RECORD_FILE}: `encoding` and `coverage` go together"
    if record["version"] >= 4 and (record["target"] is None) != ("target" not in record["selection"]["parameters"]):
        return f"{RECORD_FILE}: `target` and the parameter `target` go together"
    if record["coverage"] is None and record.get("likeness") is not None:
        return f"{RECORD_FILE}: `likeness` needs `coverage`"
    return None


def _is_newer(record: Any) -> bool:
    number = record.get("version") if isinstance(record, Mapping) else None
    return isinstance(number, int) and number > SPLITS_VERSION


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a duplicate name: parsers differ on which of its values counts."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("an object has the same name twice")
    return values


def is_edited(record: Record) -> bool:
    """Tell whether a record's content does not have the recorded digest."""
    return bool(digest_of({name: value for name, value in record.items() if name != "sha256"}) != record["sha256"])


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that took part; None for a package that is not installed."""
    numbers: dict[str, str | None] = {"python": python_version()}
    for name in PACKAGES:
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:
            numbers[name] = None
    return numbers


def public(encoding: Mapping[str, Any]) -> dict[str, Any]:
    """Return an encoding record without what is private to this machine: a model's folder, and its devices."""
    encoding = dict(encoding)
    if model_kwargs := encoding.pop("model_kwargs", {}):
        model_kwargs = {name: value for name, value in model_kwargs.items() if name not in PLACEMENT}
        encoding |= {"model_kwargs": model_kwargs} if model_kwargs else {}
    if not encoding or (COMMIT.fullmatch(str(encoding["model_revision"])) and HUB_ID.fullmatch(encoding["model"])):
        return encoding
    sae = {name: value for name, value in encoding.get("sae", {}).items() if name != "config"}  # may have the path too
    return encoding | {"model": None, "model_revision": None} | ({"sae": sae} if sae else {})


def required_arguments(record: Record, level: str) -> dict[str, str]:
    """Return the arguments that `verify` requires for a level, because others cannot fetch them: name -> meaning."""
    encoding, required = record["encoding"] or {}, {}
    if level != "digests" and not record["selection"]["builtin"]:
        required["method"] = "the function of the author's own method"
    if level == "select" and not pool_files_in(record["files"]):
        codes = "encoded by `sae_encode`" if encoding else "with its column of vectors"
        required["features"] = f"the source, {codes}, which is not published with the subset"
    if level != "digests" and record["target"] is not None and not has_target(record):
        required["target"] = "the rows that the subset was selected towards, of which nothing is published"
    if level == "encode":
        if not record["source"]["as_published"]:
            required["source"] = "the dataset that the rows were selected from, which is not published"
        if encoding.get("model") is None or not {"repo", "package"} & encoding.get("sae", {}).keys():
            required["sae"] = "the SAE with its language model, which others cannot fetch"
        if "function" in encoding.get("text", {}):
            required["text"] = "the function that wrote the text of a row, whose code is not recorded"
    return required


def has_target(record: Record) -> bool:
    """Tell whether what a method of the library read of its target is published with the subset."""
    files = record["files"]
    is_readable = record["encoding"] is not None and record["selection"]["builtin"]
    return is_readable and TARGET_FILE in files and (bool(pool_files_in(files)) or not reads_kernel(record))


def reads_kernel(record: Record) -> bool:
    """Tell whether the method goes by a kernel of rows and a target."""
    method = METHODS.get(record["selection"]["method"])
    return method is not None and method.kind == "nearness"


@cache
def _validator(number: int) -> Any:
    return extra("jsonschema").Draft202012Validator(json.loads(SCHEMA_FILES[number].read_text(encoding="utf-8")))
