"""Results: a folder of what a bench measures, a line of JSON each, so that a run that was interrupted goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

Line = dict[str, Any]
PACKAGES = ("hf-sae-select", "datasets", "numpy", "torch", "transformers")


def settings_of(sources: Iterable[Path], **settings: Any) -> dict[str, Any]:
    """Return what decides the figures of a bench: its source files, versions of packages, and other settings."""
    code = sha256(b"\0".join(file.read_bytes() for file in sorted(sources))).hexdigest()
    return {"code": code, **{name: version(name) for name in PACKAGES}, **settings}


def open_results(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make a folder with its `settings.json`; exit where one is there that was made with other settings."""
    file = folder / "settings.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists() and not list(folder.glob("*.jsonl")):
        file.write_text(json.dumps(settings, indent=1) + "\n")
    earlier = json.loads(file.read_text()) if file.exists() else {}
    if other := [name for name in settings if earlier.get(name) != settings[name]]:
        raise SystemExit(
            f"`--out {folder}` holds figures that were measured with another {', '.join(other)}: pass a new folder, "
            "or delete its *.jsonl and settings.json to measure anew"
        )


def read(file: Path) -> list[Line]:
    """Read what was measured; a line that was cut off is taken out, to be measured again."""
    text = file.read_text() if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def append(file: Path, line: Line) -> None:
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")
