"""A folder of results that knows what made it: settings, versions of libraries, and a digest of the bench's code."""

from __future__ import annotations

import ast
import json
import os
import platform
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("hf-sae-select", "torch", "transformers", "tokenizers")
SETTINGS = "settings.json"


def results_folder(folder: Path, settings: Mapping[str, Any], sources: Sequence[str | Path]) -> Path:
    """Make a folder, or return the one that the same code made with the same settings.

    Args:
        folder: Folder of one step of the bench, such as `OUT/model`. Each step has its own, so that a change of one
            step leaves the results of the others in place.
        settings: What decides the results, as JSON values.
        sources: The files of code that decide them.

    Raises:
        SystemExit: other settings, libraries or code made what the folder holds, or nobody knows what did.
    """
    origin = json.loads(json.dumps({**settings, **versions(), "code": digest(sources)}))
    file = folder / SETTINGS
    if not file.exists():
        if folder.exists() and any(folder.iterdir()):
            raise SystemExit(f"{folder} holds files that no `{SETTINGS}` explains; pass another folder or delete it")
        folder.mkdir(parents=True, exist_ok=True)
        write(file, json.dumps(origin, indent=2))
        return folder
    before = json.loads(file.read_text())
    for name in {**origin, **before}:
        if before.get(name) != origin.get(name):
            change = f"`{name}` was {before.get(name)!r} and is {origin.get(name)!r}"
            raise SystemExit(f"{folder} holds other results: {change}; pass another folder or delete it")
    return folder


def versions() -> dict[str, str]:
    """Return the versions that may change the last digit of a result."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def digest(sources: Sequence[str | Path]) -> str:
    """Return a digest of code; comments, line breaks and what docstrings say do not count."""
    trees = [ast.parse(Path(source).read_text(encoding="utf-8")) for source in sources]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
    return sha256("\n".join(map(ast.dump, trees)).encode()).hexdigest()[:16]


def write(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)
