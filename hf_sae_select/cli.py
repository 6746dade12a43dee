"""The command line: `hf-sae-select verify REPO`, with exit codes for CI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

OK, DIFFERS, UNKNOWN = 0, 1, 2

EXIT_CODES = "exit codes: 0 if nothing differs from the record, 1 if something does, 2 if it could not be checked"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code: 0 verified, 1 something differs, 2 could not be checked."""
    parser = argparse.ArgumentParser(
        prog="hf-sae-select", description="Verify subsets that hf_sae_select selected and published."
    )
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
    return _verify(parser.parse_args(arguments))


def _verify(options: argparse.Namespace) -> int:
    from .publishing.verification import verify  # loads numba, which takes a second: not for `--help`

    try:
        verification = verify(options.repo_or_folder, options.level, revision=options.revision)
    except Exception as error:  # no error shows that the subset differs
        print(f"cannot verify: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return UNKNOWN
    print(verification)  # noqa: T201
    return OK if verification else DIFFERS
