"""The command line: `hf-sae-select verify REPO`, with exit codes for CI."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from . import __version__

OK, DIFFERS, UNKNOWN = 0, 1, 2

EXIT_CODES = (
    "exit codes: 0 if nothing differs from the record, 1 if something that was read differs, 2 if that cannot be "
    "told: the Hub failed, an argument is wrong, or something is not installed"
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
    try:
        from .publishing.verification import verify  # loads numba, which takes a second: not for `--help`

        verification = verify(options.repo_or_folder, options.level, revision=options.revision)
    except (Exception, KeyboardInterrupt) as error:  # no error shows that the subset differs
        problem = f"{type(error).__name__}: {error}"
        if options.json:
            _print(json.dumps({"verified": None, "error": problem}))
        print(f"cannot verify: {problem}", file=sys.stderr)  # noqa: T201
        return UNKNOWN
    _print(json.dumps(verification.to_dict()) if options.json else str(verification))
    return OK if verification else DIFFERS


def _print(text: str) -> None:
    """Print a text; neither a reader that stops early nor the terminal's encoding changes the exit code."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)  # noqa: T201
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
