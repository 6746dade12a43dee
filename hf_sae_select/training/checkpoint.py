"""Checkpoint: the state of an unfinished training in a folder, and the identity of that training."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from .._files import whole_file

FILE = "checkpoint.pt"


class Checkpoint:
    """Save and load the state of a training in the folder `output_dir`.

    `identity` holds everything that decides the trained SAE, as JSON values. A checkpoint of another identity is never
    loaded.
    """

    def __init__(self, output_dir: str | Path, identity: dict[str, Any]) -> None:
        self.folder = Path(output_dir)
        self.file = self.folder / FILE
        # As JSON returns it, so that it equals the identity of a loaded checkpoint; NumPy's integers become int.
        self.identity: dict[str, Any] = json.loads(json.dumps(identity, default=int))

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None if there is no checkpoint yet. Create the folder where it is missing.

        Raises:
            OSError: If the folder is not writable, or the checkpoint is damaged.
            ValueError: If the checkpoint belongs to another training.
        """
        self._check_folder()
        if not self.file.exists():
            return None
        try:
            saved: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
            identity, state = dict(saved["identity"]), dict(saved["state"])
        except Exception as error:  # torch.load raises many types
            raise OSError(f"the checkpoint {self.file} is damaged; delete it to start again") from error
        for name, value in self.identity.items():
            if identity.get(name) != value:
                raise ValueError(
                    f"`output_dir={str(self.folder)!r}` holds a checkpoint of another training; its `{name}` differs: "
                    f"{_difference(identity.get(name), value)}; pass another folder, or delete this one to start again"
                )
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write the state to the file, whole or not at all."""
        with whole_file(self.file) as part:
            torch.save({"identity": self.identity, "state": state}, part)

    def _check_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise OSError(f"`output_dir={str(self.folder)!r}` is not a writable folder: {error}") from error


def _difference(before: Any, now: Any) -> str:
    """Describe how two values differ, entry by entry if both are mappings."""
    if isinstance(before, dict) and isinstance(now, dict):
        new = [f"{name} was not recorded, is {now[name]!r}" for name in now.keys() - before.keys()]
        changed = [name for name in now if name in before and before[name] != now[name]]
        return ", ".join([*(f"{name} was {before[name]!r}, is {now[name]!r}" for name in changed), *sorted(new)])
    return f"it was {before!r}, is {now!r}"
