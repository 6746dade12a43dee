"""Rows -> texts: how a row of a dataset becomes a text. No torch, no model.

The encoding record says how rows were rendered, so a `Rendering` describes itself in JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import datasets

from ..features.columns import RowFlags
from .blocks import joined
from .cells import value_at
from .chats import SIDES, Turn, plain_chat, turn_text, turns_of
from .schemas import EXTRAS, Path, columns_of, feature_at, holds_chats, is_text, type_name

TextSource = str | Sequence[str] | Callable[[dict[str, Any]], str]


class Text(NamedTuple):
    """The text of a row."""

    text: str
    flags: RowFlags = RowFlags(0)


class Template(Protocol):
    """Render the turns of a chat."""

    def __call__(self, turns: Sequence[Turn], tools: Any = None, chat_template_kwargs: Any = None) -> Text: ...


@dataclass(frozen=True)
class Rendering:
    """How rows become texts: columns joined by newlines, a chat turn by turn, or what a function returns.

    Example: columns instruction, input, output of ``{"instruction": "Add.", "input": None, "output": "3"}`` give
    ``"Add.\\n3"``; the chat ``[{"role": "user", "content": "Hi"}]`` gives ``"user: Hi"``.
    """

    paths: tuple[Path, ...] = ()
    """Columns, or fields of structs, that are read, in this order."""
    chat: bool = False
    """Whether all that is read makes one chat."""
    extras: tuple[str, ...] = ()
    """Those of `EXTRAS` that the dataset has: columns that a chat template gets beside the turns."""
    function: Callable[[dict[str, Any]], str] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the dataset that are read."""
        return tuple(dict.fromkeys([*(path[0] for path in self.paths), *self.extras]))

    def __call__(
        self, batch: dict[str, list[Any]], template: Template | None = None, rows: Sequence[int] | None = None
    ) -> list[Text]:
        """Return one text per row of `batch`; a row without text gives a blank one.

        `template` renders the turns of a chat, as a tokenizer's chat template does; the default is `plain_chat`.
        `rows` are the numbers of the rows, for errors; by default they count from 0.

        Raises:
            ValueError: a cell holds what is no text; the message names its row and column.
            TypeError: the function returns no string.
        """
        if self.function is not None:
            values = zip(*batch.values(), strict=True)
            return [Text(checked_string(self.function(dict(zip(batch, row, strict=True))))) for row in values]
        cells = [[value_at(cell, path[1:]) for cell in batch[path[0]]] for path in self.paths]
        if not self.chat:
            return [Text(joined(cell or "" for cell in row)) for row in zip(*cells, strict=True)]
        numbers = range(len(cells[0])) if rows is None else rows
        extras = [{name: batch[name][i] for name in self.extras} for i in range(len(numbers))]
        return [
            self._chat_text(number, row, extra, template)
            for number, row, extra in zip(numbers, zip(*cells, strict=True), extras, strict=True)
        ]

    def _chat_text(self, row: int, cells: Sequence[Any], extras: dict[str, Any], template: Template | None) -> Text:
        """Return the text of a chat; errors name the row."""
        turns = self._chat(row, cells)
        if template is None or not turns:
            return Text(plain_chat(turns))
        try:
            return template(turns, **extras)
        except ValueError as error:
            raise ValueError(f"row {row:,}: {error}") from error

    def _chat(self, row: int, cells: Sequence[Any]) -> list[Turn]:
        """Return the turns of a row; turns that the next column begins with are written once."""
        chat: list[Turn] = []
        for path, cell in zip(self.paths, cells, strict=True):
            role = SIDES.get(path[-1].lower(), "user")
            is_system = role == "system" and not isinstance(cell, str) and cell is not None
            try:
                turns = turns_of([{"role": role, "content": cell}] if is_system else cell)
            except (ValueError, RecursionError) as error:
                reason = error if isinstance(error, ValueError) else "a chat that is nested too deep"
                raise ValueError(f"row {row:,}, column `{'.'.join(path)}`: cannot read {reason}") from error
            if isinstance(cell, str) and turns and turns[0]["content"] == cell:  # text, which has no role of its own
                turns[0]["role"] = role
            chat = _continued(chat, turns)
        return chat

    def record(self) -> dict[str, Any]:
        """Describe the rendering in JSON; a function by its name and a hash of its code."""
        if self.function is not None:
            return _record_of_function(self.function)
        record: dict[str, Any] = {"columns": [".".join(path) for path in self.paths], "chat": self.chat}
        return record | {"extras": list(self.extras)} if self.extras else record


def _continued(chat: list[Turn], turns: list[Turn]) -> list[Turn]:
    """Return a chat with the turns of the next column; what these begin with is not written twice."""
    said, next_said = ([_said(turn) for turn in part if turn["role"] != "system"] for part in (chat, turns))
    if next_said[: len(said)] != said:
        return chat + turns
    new = [_said(turn) for turn in turns]
    return [*(turn for turn in chat if turn["role"] == "system" and _said(turn) not in new), *turns]


def _said(turn: Turn) -> tuple[str, str]:
    return turn["role"], turn_text(turn).strip()


def find_text(dataset: datasets.Dataset, text: TextSource | None = None) -> Rendering:
    """Return how to render the rows of a dataset: as `text` says, or by a common schema.

    `text` is a column, the path of a field in a struct such as `data.messages`, a list of these to join by newlines,
    or a function from a row (a dict) to its text.

    Raises:
        ValueError: the dataset has no such column, or no schema that is known; its columns are listed.
        TypeError: a column holds neither strings nor a chat, or `text` has another type.
    """
    if callable(text):
        return Rendering(function=text)
    if text is None:
        paths, chat = columns_of(dataset)
    else:
        names = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, Sequence) else ()
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError(
                f"`text={text!r}` must be a column, a list of columns, or a function from a row to its text"
            )
        paths = tuple(_path(dataset, name) for name in names)
        are_chats = [_check_readable(dataset, path) for path in paths]
        chat = any(are_chats)
    return Rendering(paths, chat, tuple(name for name in EXTRAS if chat and name in dataset.column_names))


def has_column(dataset: datasets.Dataset, name: str) -> bool:
    """Tell whether a dataset has a column, or the field of a struct, of this name."""
    try:
        _path(dataset, name)
    except ValueError:
        return False
    return True


def columns_as_recorded(dataset: datasets.Dataset, record: Mapping[str, Any]) -> list[str] | None:
    """Return the columns that a record names as text; None where the dataset lacks one of them."""
    columns = record.get("text", {}).get("columns", [])
    return list(columns) if columns and all(has_column(dataset, name) for name in columns) else None


def _path(dataset: datasets.Dataset, name: str) -> Path:
    """Return the path of a column or a field.

    Raises:
        ValueError: the dataset has neither.
    """
    path = (name,) if name in dataset.column_names else tuple(name.split("."))
    for i in range(len(path)):
        parent = feature_at(dataset.features, path[:i])
        if not isinstance(parent, Mapping) or path[i] not in parent:
            where = f"`{'.'.join(path[:i])}`" if i else "this dataset"
            has = f"it has: {', '.join(parent)}" if isinstance(parent, Mapping) else f"it holds {type_name(parent)}"
            raise ValueError(f"no column `{name}` (from `text`) in {where}; {has}")
    return path


def _check_readable(dataset: datasets.Dataset, path: Path) -> bool:
    """Tell whether a column or field holds chats.

    Raises:
        TypeError: it holds neither chats nor strings.
    """
    if holds_chats(dataset, path, is_named=True):
        return True
    feature = feature_at(dataset.features, path)
    if not is_text(feature):
        raise TypeError(
            f"column `{'.'.join(path)}` holds {type_name(feature)}, not text and no chat; pass another column or "
            "`text=lambda row: ...`"
        )
    return False


def _record_of_function(function: Callable[..., Any]) -> dict[str, Any]:
    from datasets.fingerprint import Hasher, generate_random_fingerprint

    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        # The hash of a function from a module covers its name alone, so add its code, which may change.
        code = getattr(function, "__code__", getattr(type(function).__call__, "__code__", None))
        digest = Hasher.hash((function, code))
    except Exception:  # pickling may raise anything; datasets handles such functions the same way
        warnings.warn(
            f"`text={name}` cannot be hashed: the next call will not find its codes in the cache", stacklevel=2
        )
        digest = generate_random_fingerprint()
    return {"function": name, "hash": digest}


def checked_string(value: Any) -> str:
    """Check what a function returned as the text of a row; None is a blank text."""
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"the function `text` returned a value of type {type(value).__name__}; it must return a string")
