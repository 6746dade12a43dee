"""The command line: `hf-sae-select verify REPO`, with exit codes for CI."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from . import __version__

OK, DIFFERS, UNKNOWN = 0, 1, 2

EXIT_CODES = (
    "exit codes: 0 if nothing differs from the record, 1 if something that was read differs, 2 if that cannot be "
    "told: the Hub failed, an argument is wrong, something is not installed, or the result cannot be printed"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code: 0 verified, 1 something differs, 2 could not be checked."""
    parser = argparse.ArgumentParser(
        prog="hf-sae-select", description="Verify subsets that hf_sae_select selected and published."
    )
    parser.add_argument("--version", action="version", version=f"hf-sae-select {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("verify", help="check a published subset against its record", epilog=EXIT_CODES)
    command.add_argument("repo_or_folder", help="a dataset repo on the Hub (owner/name), or a folder")
    command.add_argument(
        "--level",
        default="digests",
        help="what to check: digests (content of files and rows, the default), select (also select again; no model) "
        "or encode (also encode the source again with the language model)",
    )
    command.add_argument("--revision", help="branch, tag or commit of the repo")
    command.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return _verify(parser.parse_args(arguments))


def _verify(options: argparse.Namespace) -> int:
    if sys.stderr is None:  # closed: libraries write there, and what opens next must not take its place
        sys.stderr = open(os.devnull, "w")
    try:
        from .publishing.verification import verify  # loads numba, which takes a second: not for `--help`

        verification = verify(options.repo_or_folder, options.level, revision=options.revision)
    except (Exception, KeyboardInterrupt) as error:  # no error shows that the subset differs
        problem = f"{type(error).__name__}: {error}"
        if options.json:
            _is_printed(json.dumps({"verified": None, "error": problem}), sys.stdout)
        _is_printed(f"cannot verify: {problem}", sys.stderr)
        return UNKNOWN
    if not _is_printed(json.dumps(verification.to_dict()) if options.json else str(verification), sys.stdout):
        return UNKNOWN
    return OK if verification else DIFFERS


def _is_printed(text: str, stream: TextIO | None) -> bool:
    """Print a text, whatever the encoding of the terminal, and tell whether it could be written.

    A reader that stops early, such as `head`, has what it wants.
    """
    if stream is None:  # closed
        return False
    encoding = stream.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or the rest of its buffer fails at exit again
        return isinstance(error, BrokenPipeError)
    return True
