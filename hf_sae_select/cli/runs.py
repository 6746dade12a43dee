"""Run files: the arguments of a command as YAML, beside its result, from which `--config` repeats the run.

Paths in a run file are relative to it, or else to the working directory; absolute ones stay as the user wrote them.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .. import __version__
from .._files import read_text, whole_file
from .._secrets import masked
from .commands import Command
from .signatures import OPTIONS
from .values import MANY, TARGET, form_of, split_target, value_of

HUB_OPTIONS = ("split", "config_name", "revision")
ABOUT = ("command", "version", "pool_sha256")  # keys that are no arguments
NUMBERS = ("Sequence[int]", "int | Sequence[int]")
READABLE = ("Quota", "License", "SourceName", "Methods", "Mapping[str, Any]", *NUMBERS, OPTIONS)
SECRET = "Token"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Load YAML; of two values of a key, YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"it has the key {twice[0]!r} twice")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def annotations_of(command: Command) -> dict[str, str]:
    """Return what a run file may have: names on the command line, with the annotation of each."""
    names = {command.name_of(argument): argument.annotation for argument in command.signature.arguments}
    if command.rows_argument:
        names |= dict.fromkeys(HUB_OPTIONS, "str")
    if command.writes:
        names["out"] = "str"
    return {name: kind for name, kind in names.items() if kind != SECRET and name != "overwrite"}  # of one call


def read_run(file: Path, command: Command) -> dict[str, Any]:
    """Return the arguments of a run file as words of the command line.

    `compare` reads the file of a `select` too: it compares the same method on the same rows.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no run file of this command; the message has the remedy.
    """
    values = _parsed(file)
    written_for = values.get("command", command.name)
    allowed = annotations_of(command)
    if written_for != command.name:
        if (command.name, written_for) != ("compare", "select"):
            raise ValueError(f"`config={str(file)!r}` is of the command {written_for!r}, and this is {command.name!r}")
        values = _as_comparison(values)
    values = {str(key).replace("-", "_"): value for key, value in values.items() if key not in ABOUT}
    for name in values:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, 1)
            remedy = f"did you mean {near[0]!r}?" if near else f"it may have: {', '.join(allowed)}"
            raise ValueError(f"`config={str(file)!r}` has the unknown key {name!r}; {remedy}")
    return {name: _words(value, allowed[name], name, file.parent) for name, value in values.items()}


def note_of(file: Path, name: str) -> Any:
    """Return what a run file says of the run beside its arguments; None where it does not."""
    return _parsed(file).get(name)


def _parsed(file: Path) -> dict[str, Any]:
    try:
        text = read_text(file)
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("aliases are not read")  # a few can stand for gigabytes
        values = yaml.load(text, _Loader)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"`config={str(file)!r}`: there is no such file") from error
    except (ValueError, OSError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"`config={str(file)!r}` cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"`config={str(file)!r}` holds no arguments; write `name: value` lines")
    return values


def check_replaceable(file: Path, command: Command) -> None:
    """Check that a run file is new, or replaces one of the same command: another would be of another result.

    Raises:
        ValueError: If it is something else.
    """
    if file.exists() and not (file.is_file() and f"command: {command.name}" in read_text(file).splitlines()):
        raise ValueError(f"the run file {str(file)!r} would replace another file; pass another name for the result")


def _as_comparison(values: dict[str, Any]) -> dict[str, Any]:
    """Turn the arguments of `select` into those of `compare`."""
    kept = {name: value for name, value in values.items() if name not in ("method", "keep_codes", "out")}
    return kept | ({"methods": [values["method"]]} if "method" in values else {})


def _words(value: Any, annotation: str, name: str, folder: Path) -> Any:
    """Return a value as words, as the command line has them."""
    form = form_of(annotation)
    if form.kind is bool:
        return value
    if annotation == TARGET:
        return [_from_folder(_text(item), folder) for item in (value if isinstance(value, list) else [value])]
    is_many = form.kind is MANY
    if isinstance(value, Mapping):
        return [json.dumps(value, default=str)] if is_many else json.dumps(value, default=str)
    if isinstance(value, list):
        texts = [_text(item) for item in value]
        return texts if is_many else json.dumps(value, default=str)
    text = _text(value)
    if (form.kind is Path or name == "out") and not Path(text).is_absolute():
        beside = folder / text
        text = str(beside) if name == "out" or beside.exists() else text
    return [text] if is_many else text


def _from_folder(word: str, folder: Path) -> str:
    """Return a word of a target whose place is relative to a folder, where something is there."""
    if (folder / word).exists():
        return str(folder / word)
    part = split_target(word)
    beside = folder / part.place
    return str(part._replace(place=str(beside))) if beside.exists() else word


def _text(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def write_run(
    file: Path, command: Command, words: Mapping[str, Any], notes: Mapping[str, str | None] | None = None
) -> None:
    """Write the arguments that were passed, without tokens, and `notes` on the run."""
    annotations = annotations_of(command)
    values: dict[str, Any] = {
        "command": command.name,
        "version": __version__,
    }
    values |= {name: note for name, note in (notes or {}).items() if note is not None}
    for name, kind in annotations.items():
        if name in words:
            values[name] = _recorded(words[name], kind, name, file)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    header = f"# `hf-sae-select {command.name} --config FILE` repeats this run; paths are relative to this file.\n"
    with whole_file(file) as part:
        part.write_text(masked(header + text), encoding="utf-8")


def _recorded(words: Any, annotation: str, name: str, file: Path) -> Any:
    """Return words as YAML holds them best."""
    if annotation in READABLE and not _is_function(words):
        return value_of(name, annotation, words)
    if annotation == TARGET:
        parts = map(split_target, words)
        return [str(part._replace(place=_relative(part.place, file))) for part in parts]
    is_path = form_of(annotation).kind is Path and isinstance(words, str)
    if name == "out":
        return os.path.basename(words)
    return _relative(words, file) if is_path else words


def _relative(path: str, file: Path) -> str:
    """Return a path relative to the folder of a run file, where something is there and both are relative."""
    if not Path(path).exists() or Path(path).is_absolute() or file.is_absolute():
        return path
    return Path(os.path.relpath(path, file.parent)).as_posix()


def _is_function(words: Any) -> bool:
    return any(".py:" in word for word in words) if isinstance(words, list) else ".py:" in words
