"""A Hub on this machine for `publish_and_verify.ipynb`: that of the tests, in a process of its own."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

sys.path.append(str(Path(__file__).parents[2] / "tests"))


def start() -> None:
    """Run a Hub until this process ends, and point the libraries of this process at it, logged in as alice."""
    import pytest
    from hub import connect

    command, pipe = [sys.executable, __file__], subprocess.PIPE
    # A session of its own, so that interrupting a cell does not end it.
    server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
    assert server.stdout is not None and server.stdin is not None
    hub = SimpleNamespace(url=server.stdout.readline().strip(), waits=[])
    atexit.register(server.stdin.close)
    home = TemporaryDirectory()
    atexit.register(home.cleanup)
    connect(hub, Path(home.name), pytest.MonkeyPatch()).__enter__()
    os.environ["HF_TOKEN"] = "hf_alice"


if __name__ == "__main__":
    from hub import serve

    with serve() as hub:
        print(hub.url, flush=True)
        sys.stdin.read()  # until the process that started this one ends, or closes the pipe
