"""The command line: `hf-sae-select verify REPO`, whose exit code serves CI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

OK, DIFFERS, UNKNOWN = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all is as recorded, 1 if something differs, 2 if that cannot be told."""
    parser = argparse.ArgumentParser(prog="hf-sae-select", description="Choose training data by what it means.")
    commands = parser.add_subparsers(dest="command", required=True)
    verifier = commands.add_parser("verify", help="check a published subset against its record")
    verifier.add_argument("repo_or_folder", help="a dataset repo on the Hub (owner/name), or a folder")
    verifier.add_argument(
        "--level", default="digests", help="digests (seconds), select (no model) or encode (runs the model)"
    )
    verifier.add_argument("--revision", help="branch, tag or commit of the repo")
    return _verify(parser.parse_args(arguments))


def _verify(given: argparse.Namespace) -> int:
    from .publishing.verification import verify  # needs numba, which costs a second: not for `--help`

    try:
        found = verify(given.repo_or_folder, given.level, revision=given.revision)
    except Exception as error:  # whatever it is, it is no difference
        print(f"cannot be verified: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return UNKNOWN
    print(found)  # noqa: T201
    return OK if found else DIFFERS
