"""A job: one call of a command, from the words that were passed to the files and the exit code that it leaves."""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from .. import _public as public
from .._places import Place
from .._secrets import masked
from ..features.columns import is_encoded
from . import outputs
from .commands import DIFFERS, INTERRUPTED, UNKNOWN, Command
from .receipts import (
    POOL,
    RUN,
    DiffersFromReceipt,
    PoolIsGone,
    has_receipt,
    pool_digest,
    pools_of,
    reopened,
    reopened_pool,
    sae_of,
)
from .runs import HUB_OPTIONS, check_replaceable, write_run
from .signatures import OPTIONS, Argument
from .terminal import as_json, is_printed
from .values import SELECTION, TARGET, form_of, receipt_of, split_target, value_of
from .wording import reworded

AMOUNT = re.compile(r"[\d.]+ *(%|[a-z]+)?$")


@dataclass
class Origin:
    """Hold where the words of a call come from that are not the user's own."""

    subset: str | None = None
    """The subset whose receipt fills in arguments."""
    names: Collection[str] = ()
    """The options that the receipt may fill in."""


class Job:
    """Hold the words of one call."""

    def __init__(self, command: Command, words: Mapping[str, Any], settings: Collection[str], origin: Origin) -> None:
        self.command = command
        self.words = dict(words)
        self.origin = origin
        self.as_json, self.debug, self.overwrite = (name in settings for name in ("json", "debug", "overwrite"))
        out = self.words.get(command.out)
        is_remote = command.takes_place and out is not None and "://" in out  # no run file goes there
        self.out = None if out is None or is_remote else Path(out).expanduser()

    def run(self) -> int:
        """Run the command and print its result; return the exit code."""
        try:
            with redirect_stdout(sys.stderr):  # of libraries: stdout is for the result
                self.check_order()
                self.check()
                result = self.call()
                self.write(result)
                kind = self.command.result
                data, text = kind.data(result), kind.text(result)
        except KeyboardInterrupt as error:
            return self.stop(error)
        except Exception as error:  # no error shows that something differs
            return self.fail(error)
        if self.command.writes:
            data = data | {"out": None if self.out is None else str(self.out)}
            if self.out is not None:
                text += f"\nwritten: {', '.join(map(str, [self.out, *self.receipts]))}"
            elif kind.has_rows:
                text += "\nno file is written; to keep the rows, pass `--out`, such as `--out rows.parquet`"
        if not is_printed(as_json(data) if self.as_json else text, sys.stdout):
            is_printed("the result cannot be printed: stdout is closed or full", sys.stderr)
            return UNKNOWN
        return kind.code(result)

    @property
    def receipts(self) -> list[Path]:
        """The files beside the result, the run file first."""
        if self.out is None:
            return []
        if not self.command.writes:  # `report.html` may stand beside a `report.parquet`
            return [self.out.with_name(f"{self.out.name}{RUN}")]
        suffixes = [RUN, SELECTION] if self.command.function == "select" else [RUN]
        return [receipt_of(self.out, suffix) for suffix in suffixes]

    @property
    def inputs(self) -> list[str]:
        """The words that may name files or folders to read."""
        names = {
            self.command.name_of(argument)
            for argument in self.command.signature.arguments
            if form_of(argument.annotation).kind is Path and argument.name != self.command.out
        }
        words = [str(self.words[name]) for name in names & self.words.keys()]
        for argument in self.command.signature.arguments:
            if argument.annotation == TARGET:
                words += [split_target(word).place for word in self.words.get(self.command.name_of(argument), [])]
        subset = self.words.get(self.command.subset)
        return words + (pools_of(subset) if subset is not None and has_receipt(subset) else [])

    def check(self) -> None:
        """Check where the result goes, before slow work."""
        if self.out is None:
            if self.command.needs_out:
                raise ValueError("the result would be lost: pass `--out`, where to write it")
            return
        paths = {word: os.path.expanduser(word) for word in self.inputs}
        files = {word: [path] if os.path.exists(path) else glob(path, recursive=True) for word, path in paths.items()}
        inputs = {Path(path).resolve(): word for word in files for path in files[word]}
        for file in (self.out, *self.receipts):
            places = [file.resolve(), *(file.resolve().parents if file.exists() else ())]
            if (word := next((inputs[place] for place in places if place in inputs), None)) is not None:
                raise ValueError(f"{word!r} is read by this call, and would be replaced; pass another `--out`")
        if self.command.writes:
            outputs.check_out(self.out, self.command.result.suffixes, self.receipts, self.overwrite)
        check_replaceable(self.receipts[0], self.command)

    def check_order(self) -> None:
        """Check that the arguments without names are not the wrong way round."""
        rows, budget = (str(self.words.get(name or "", "")) for name in (self.command.rows_argument, "budget"))
        if AMOUNT.match(rows) and not os.path.exists(rows) and os.path.exists(budget):
            raise ValueError(f"the rows come first, then the budget: {budget} {rows}")

    def call(self) -> Any:
        """Read the arguments, and call the function."""
        arguments: dict[str, Any] = {}
        for argument in self.command.signature.arguments:
            name = self.command.name_of(argument)
            if argument.annotation == OPTIONS:
                arguments |= value_of(name, OPTIONS, self.words.get(name)) or {}
            elif name in self.words:
                arguments[argument.name] = self._value(argument, self.words[name])
            elif argument.name == "sae" and self.command.subset in self.words:
                arguments["sae"] = value_of("sae", argument.annotation, sae_of(self.words[self.command.subset]))
        if self.out is not None and self.command.result.has_rows:
            rows = arguments["dataset"]
            keeps_codes = self.command.function == "encode" or bool(arguments.get("keep_codes"))
            keeps_codes |= self.command.function == "dedup" and is_encoded(rows)
            outputs.check_rows(self.out, rows, keeps_codes)
        return public(self.command.function)(**arguments)

    def _value(self, argument: Argument, words: Any) -> Any:
        """Return the value of an argument."""
        name, annotation = argument.name, argument.annotation
        if name == self.command.subset and (
            has_receipt(words) or (name == "subset" and "selection" not in self.words)
        ):
            if not words.endswith(SELECTION):
                return reopened(name, words)
            if "Selection" not in annotation:
                raise ValueError(f"`{name}={words!r}` is a selection alone; pass the file of rows that it is beside")
            return value_of(name, "Selection", words)
        if name == self.command.rows_argument:
            if self.origin.subset is not None:
                return reopened_pool(name, self.origin.subset)
            if self.command.function == "compare" and has_receipt(words):
                warnings.warn(
                    f"with a budget, methods select among the rows of {words}; leave it out to compare on the rows "
                    "that they were selected from",
                    stacklevel=2,
                )
            hub = {option: self.words.get(option) for option in HUB_OPTIONS}
            place = Place.parse(name, words, **hub).resolved(name)
            if place.revision is not None:  # the run file names the commit
                self.words["revision"] = place.revision
            return place if self.command.takes_place else place.load(name)
        if argument.may_be_none and annotation != "str" and words in ("none", ["none"]):
            return None
        option = "--" + self.command.name_of(argument).replace("_", "-")
        return value_of(name, annotation, words, is_trusted=option not in self.origin.names)

    def write(self, result: Any) -> None:
        """Write the result, unless the function has done so, and beside it what repeats the run."""

        def beside() -> None:
            notes = {POOL: _pool_digest(result)} if self.command.function == "select" else {}
            write_run(self.receipts[0], self.command, self.words, notes)
            for file in self.receipts[1:]:
                result.sae_selection.save(file)

        if self.out is None:
            return
        if self.command.result.write is None:
            beside()
        else:
            self.command.result.write(result, self.out, beside)

    def fail(self, error: Exception) -> int:
        """Print an error as one line, and return the exit code."""
        kind = "" if isinstance(error, DiffersFromReceipt | PoolIsGone) else f"{type(error).__name__}: "
        lines = [f"{kind}{error}", *getattr(error, "__notes__", [])]
        problem = masked(reworded("; ".join(" ".join(line.split()) for line in lines), self.command))
        if self.debug:
            is_printed(masked("".join(traceback.format_exception(error))).rstrip(), sys.stderr)
        if self.as_json:
            is_printed(as_json({**self.command.error_data, "error": problem}), sys.stdout)
        is_printed(f"cannot {self.command.aim or self.command.name}: {problem}", sys.stderr)
        return DIFFERS if isinstance(error, DiffersFromReceipt) else UNKNOWN

    def stop(self, error: KeyboardInterrupt) -> int:
        """Say what an interrupted command keeps, and return the exit code."""
        checkpoint = self.words.get("output_dir")
        parts = [
            f"{self.out} is not written" if self.out is not None else "",
            str(error),  # of `encode`
            f"the same call continues from {checkpoint}" if checkpoint and any(Path(checkpoint).glob("*")) else "",
        ]
        problem = "; ".join(["interrupted", *filter(None, parts)])
        if self.as_json:
            is_printed(as_json({**self.command.error_data, "error": problem}), sys.stdout)
        is_printed(problem, sys.stderr)
        return INTERRUPTED


def _pool_digest(subset: Any) -> str | None:
    """Return the digest of the rows that a subset was selected from."""
    from ..selection.attachment import pool_of

    pool = pool_of(subset)
    return None if pool is None else pool_digest(pool.source, subset.sae_selection)
