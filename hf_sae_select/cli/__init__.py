"""The command line, `hf-sae-select`. In: words and files. Out: files, a result on stdout, and an exit code for CI.

A command is a twin of a public function. A line in `commands.py` makes one of a function.
"""

from .app import main

__all__ = ["main"]
