"""Wording: errors of functions, which speak of Python, say how the command line writes it."""

from __future__ import annotations

import re

from .commands import COMMANDS, Command

REMEDY = re.compile(r"\b(pass|omit|as|with|or pass) `(\w+)(=(?:True|'[^'`]*'|[\w.]+))?`")
CALL = re.compile(r"\b(?:hf_sae_select|ds)\.(\w+)\(([^()]*)\)")
OPTION = re.compile(r"(\w+)=(.+)")
FORMS = {  # of `text`, in Python and in a shell
    "`text=['column', 'column']`": "`--text column --text column`",
    "`text='struct.field'`": "`--text struct.field`",
    "`text=lambda row: ...`": "`--text my_file.py:function`",
}


def reworded(text: str, command: Command) -> str:
    """Return an error with the remedies of the command line.

    Example: "pass `overwrite=True`" becomes "pass `--overwrite`", and "encode with `keep='state'`" becomes "encode
    with `--keep state`".
    """
    names = {argument.name: command.name_of(argument) for argument in command.signature.arguments}

    def option(match: re.Match[str]) -> str:
        verb, name, value = match.groups()
        if value is None and name not in names:  # the name of something else, such as a method
            return match[0]
        return f"{verb} `{_option(names.get(name, name), value or '')}`"

    for form, words in FORMS.items():
        text = text.replace(form, words)
    return CALL.sub(_call, REMEDY.sub(option, text))


def _call(match: re.Match[str]) -> str:
    """Return a call of a function as a call of its command."""
    function = match[1].removeprefix("sae_")
    command = next((command.name for command in COMMANDS.values() if command.function == function), None)
    if command is None:
        return match[0]
    words = []
    for word in filter(None, map(str.strip, match[2].split(","))):
        passed = OPTION.fullmatch(word)
        words.append(_option(passed[1], f"={passed[2]}") if passed else word.strip("'\""))
    return " ".join(["hf-sae-select", command, *words])


def _option(name: str, value: str) -> str:
    words = value.lstrip("=").strip("'\"")
    return f"--{name.replace('_', '-')}" + (f" {words}" if words not in ("", "True") else "")
