"""The command line, `hf-sae-select`. In: words and files. Out: files, a result on stdout, and an exit code for CI.

A command is a twin of a public function. A line in `commands.py` makes one of a function.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code: 0 all is well, 1 something differs, 2 it could not be told."""
    try:
        from .app import run  # it takes a moment, in which Ctrl-C ends as quietly as later

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("interrupted\n")
        return 130
