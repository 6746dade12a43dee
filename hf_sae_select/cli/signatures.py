"""Signatures and docstrings of the public functions, read from their source: importing them would load torch."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .. import _MODULES

PACKAGE = Path(__file__).parent.parent
OPTIONS = "**"  # the annotation of arguments that a function takes by any name
DEFAULT = re.compile(r"^    (\w+) \(.*defaults to `(.*)`\):$", re.MULTILINE)
INDENTED = re.compile(r" *")


@dataclass(frozen=True)
class Argument:
    """Hold an argument of a function."""

    name: str
    annotation: str
    """The annotation as the source has it, without `| None`; `OPTIONS` for arguments by any name."""
    default: str | None
    """The default as the docstring has it; None if it has none, or if it is None."""
    is_required: bool
    may_be_none: bool = False


@dataclass(frozen=True)
class Signature:
    """Hold what the command line needs to know of a function."""

    arguments: tuple[Argument, ...]
    docstring: str
    """The docstring, each paragraph on one line."""


@cache
def signature_of(function: str) -> Signature:
    """Return the signature of a public function of this package."""
    file = PACKAGE.joinpath(*_MODULES[function].split(".")).with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            docstring = ast.get_docstring(node) or ""
            return Signature(_arguments(node.args, dict(DEFAULT.findall(docstring))), _unwrapped(docstring))
    raise LookupError(f"{file} has no function {function}")


def _arguments(arguments: ast.arguments, defaults: dict[str, str]) -> tuple[Argument, ...]:
    positional = [*arguments.posonlyargs, *arguments.args]
    without_default = len(positional) - len(arguments.defaults)
    required = {argument.arg for argument in positional[:without_default]}
    required |= {
        argument.arg
        for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if value is None
    }
    named = tuple(
        Argument(
            argument.arg,
            _annotation(argument),
            defaults.get(argument.arg),
            argument.arg in required,
            argument.annotation is not None and ast.unparse(argument.annotation).endswith("| None"),
        )
        for argument in [*positional, *arguments.kwonlyargs]
    )
    if arguments.kwarg is None:
        return named
    return (*named, Argument(arguments.kwarg.arg, OPTIONS, None, False))


def _annotation(argument: ast.arg) -> str:
    text = "" if argument.annotation is None else ast.unparse(argument.annotation)
    return " | ".join(part.removeprefix("datasets.") for part in text.split(" | ") if part != "None")


def _unwrapped(docstring: str) -> str:
    """Join the lines of each paragraph, for a terminal to wrap them: those of one indent, but for code."""
    lines: list[str] = []
    is_code = False
    for line in docstring.splitlines():
        is_fence = line.strip().startswith("```")
        joins = bool(lines and lines[-1].strip() and line.strip()) and not (is_code or is_fence or is_item(line))
        indent = _indent(lines[-1]) + 2 * is_item(lines[-1]) if lines else 0
        if joins and indent == _indent(line) and not re.fullmatch(r" {4}\S+ \(.*\):", line):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
        is_code = is_code != is_fence
    return "\n".join(lines)


def is_item(line: str) -> bool:
    """Tell whether a line begins an item of a list."""
    return line.lstrip().startswith("- ")


def _indent(line: str) -> int:
    match = INDENTED.match(line)
    return match.end() if match else 0
