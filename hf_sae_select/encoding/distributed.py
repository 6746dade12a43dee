"""The processes of a job, as `torchrun` and `accelerate launch` start them, share a folder of claims."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from accelerate.utils import broadcast_object_list, gather_object

from .._arrow import writing
from ..engines.processes import processes
from .claims import POLL_SECONDS, Claims, remove_old, working

SEEN_SECONDS = 30  # a network folder may show a new folder late


@contextmanager
def shared_claims(root: Path) -> Iterator[Claims]:
    """Yield the claims of a job that all processes begin together, in a folder within `root`.

    Raises:
        OSError: The folder cannot be written to, or not all processes see it.
    """
    state = processes()
    if state.num_processes == 1:
        yield Claims()
        return
    folder = root / "jobs" / uuid4().hex
    error = None
    if state.is_main_process:
        try:
            remove_old(folder.parent)
            with writing(folder):
                folder.mkdir(parents=True)
        except OSError as raised:
            error = raised  # the others wait for a message
    (name,) = broadcast_object_list([folder.name])
    folder = folder.with_name(name)
    are_shared = gather_object([_appears(folder)])
    if error is not None or not all(are_shared):
        raise error or OSError(
            f"only {sum(are_shared)} of {state.num_processes} processes see the folder {root}, through which they "
            "share their work: set the environment variable HF_DATASETS_CACHE to a folder that all machines share, or "
            "encode a part of the dataset on each machine, and concatenate"
        )
    claims = Claims(folder)
    try:
        with working(claims):
            yield claims
    finally:
        claims.leave(state.process_index, state.num_processes)


def _appears(folder: Path) -> bool:
    """Tell whether this process comes to see a folder; network folders may show it late."""
    deadline = time.monotonic() + SEEN_SECONDS
    while not folder.is_dir():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
