"""Repetition: the code that makes a selection again, and in sentences what code cannot hold."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterator, Mapping
from typing import Any

from ..selection.methods import METHODS
from ..selection.result import Selection

MOST_CHARACTERS = 120  # of a value in the code


class Repetition:
    """Hold the code that repeats a selection, and notes on the values that have no place in it.

    Example, a selection of 5 rows by the default method: `code` is "subset = dataset.sae_select(5, 'herding', ...)".
    """

    def __init__(self, selection: Selection) -> None:
        self.notes: list[str] = []
        """Sentences on the names that stand in the code for values."""
        parts = ["import hf_sae_select"]
        if encoding := list(self._encoding(selection.parameters.get("encoding", {}))):
            parts.append(_call("dataset = dataset.sae_encode", encoding))
        parts.append(_call("subset = dataset.sae_select", list(self._selection(selection))))
        self.code = "\n\n".join(parts)
        """Valid Python; the rows are called `dataset`."""

    def _encoding(self, record: Mapping[str, Any]) -> Iterator[str]:
        """Yield the arguments of `encode` that a record has."""
        if "sae_sha256" not in record:
            return
        place = record.get("sae", {})
        if "package" not in place:
            yield "sae=sae"
            where = (
                f"{place['repo']} at {place.get('revision')}, {place.get('path')}" if "repo" in place else "its place"
            )
            known = "" if "repo" in place else " is not recorded"
            digest = str(record["sae_sha256"])[:12]
            self.notes.append(f"“sae” is the autoencoder that encoded the rows: {where}{known} (SHA-256 {digest}…).")
        text = record.get("text", {})
        if columns := text.get("columns"):
            yield self._argument("text", columns[0] if len(columns) == 1 else columns)
        elif text:
            yield "text=text"
            self.notes.append(
                f"“text” is the author's function “{text.get('function')}”, which wrote the rows' texts."
            )
        for name in ("max_length", "chat_template_kwargs", "model_kwargs"):
            if record.get(name):
                yield self._argument(name, record[name])

    def _selection(self, selection: Selection) -> Iterator[str]:
        """Yield the arguments of `select`."""
        parameters = selection.parameters
        constraints = dict(parameters.get("constraints", {}))
        budget, unit = parameters.get("budget", len(selection)), constraints.pop("cost", None)
        yield repr(f"{budget} {unit}") if unit else repr(budget)
        yield self._method(selection.method)
        for name, value in {**parameters.get("options", {}), **parameters.get("cuts", {})}.items():
            if value is not None:
                yield self._argument(name, value)
        yield from self._other_rows(selection, constraints.pop("left_out", {}))
        for name, value in constraints.items():
            if name == "extend":
                yield "extend=earlier"
                picks = "the first pick" if value == 1 else f"the first {value:,} picks"
                self.notes.append(f"“earlier” is the earlier selection, which brought {picks}.")
            elif name == "quota" and isinstance(value, Mapping):  # recorded as pairs
                yield self._argument(name, {column: dict(pairs) for column, pairs in value.items()})
            elif name == "require_all":
                yield self._argument(name, [{item[0]: item[1] for item in group} for group in value])
            elif name in ("avoid", "require", "boost"):
                yield self._argument(name, {item[0]: item[1] for item in value})
            else:
                yield self._argument(name, value)
        yield f"seed={parameters.get('seed')!r}"

    def _other_rows(self, selection: Selection, left_out: Mapping[str, Any]) -> Iterator[str]:
        """Yield the arguments that name rows beside the dataset, which the reader must supply."""
        if "exclude_near" in left_out:
            yield "exclude_near=near"
            self.notes.append("“near” are the rows whose near-duplicates were left out: pass these rows.")
        parts = selection.parameters.get("target")
        if not parts:
            return
        yield "target=target"
        rows = [f"{part['rows']:,} rows (SHA-256 of their features {str(part['sha256'])[:12]}…)" for part in parts]
        if len(parts) == 1 and not parts[0]["name"]:
            self.notes.append(f"“target” is what the rows were selected towards, {rows[0]}: pass these rows.")
        else:
            named = [f"“{part['name']}”: {text}" for part, text in zip(parts, rows, strict=True)]
            shares = ", ".join(f"{part['share']:g}" for part in parts)
            self.notes.append(
                f"“target” has by name what the rows were selected towards, with shares of the budget ({shares}): "
                f"{', '.join(named)}; pass {{name: (rows, share)}}."
            )
        overlap = selection.target.get("overlap", {}).get("mode", "exclude")
        if overlap != "exclude":
            yield f"overlap={overlap!r}"

    def _method(self, method: str) -> str:
        if method in METHODS:
            return repr(method)
        name = method if method.isidentifier() and not keyword.iskeyword(method) else "method"
        self.notes.append(f"“{name}” is the author's own function" + (f", “{method}”." if name != method else "."))
        return name

    def _argument(self, name: str, value: Any) -> str:
        """Return an argument; a value that is long or no literal stands in a note."""
        text = repr(value)
        if len(text) > MOST_CHARACTERS:
            size = f"{len(value):,} values" if isinstance(value, list | dict) else f"{len(text):,} characters"
            self.notes.append(f"“{name}” is too long to be shown: {size}, which the saved selection has.")
            return f"{name}={name}"
        try:
            ast.literal_eval(text)
        except (SyntaxError, ValueError):
            self.notes.append(f"“{name}” is an object of the author: {text}.")
            return f"{name}={name}"
        return f"{name}={text}"


def _call(function: str, arguments: list[str]) -> str:
    return "\n".join([f"{function}(", *(f"    {argument}," for argument in arguments), ")"])
