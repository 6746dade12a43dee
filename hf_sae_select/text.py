"""Rows -> texts: which columns of a dataset are its text, and how a row is written out. No torch, no model.

What was rendered is part of how a subset came about, so a `Rendering` can say what it does in plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # annotations only
    import datasets

TextSource = str | Sequence[str] | Callable[[dict[str, Any]], str]
Turns = Sequence[Mapping[str, Any]]

CHAT = ("messages", "conversations")
# Known schemas: the columns that must be there, and those that are read with them where present, in reading order.
SCHEMAS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("text",), ("text",)),
    (("instruction",), ("instruction", "input", "context", "output", "response")),
    (("prompt", "completion"), ("prompt", "completion")),
    (("prompt", "response"), ("prompt", "response")),
    (("question", "answer"), ("question", "answer")),
)
# Chats name the speaker and the words in one of two ways: OpenAI's and ShareGPT's.
ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value")


@dataclass(frozen=True)
class Rendering:
    """Write rows out as texts: columns joined by newlines, a chat turn by turn, or whatever a callable returns.

    Example: columns instruction, input, output of ``{"instruction": "Add.", "input": None, "output": "3"}`` give
    ``"Add.\\n3"``; the chat ``[{"role": "user", "content": "Hi"}]`` gives ``"user: Hi"``.
    """

    columns: tuple[str, ...] = ()
    chat: bool = False
    function: Callable[[dict[str, Any]], str] | None = None

    def __call__(self, batch: dict[str, list[Any]], template: Callable[[Turns], str] | None = None) -> list[str]:
        """Return one text per row of `batch`; blank where there is nothing to read.

        `template` renders the turns of a chat, as a tokenizer's chat template does; without it they are written out.
        """
        if self.function is not None:
            rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            return [_string(self.function(row), "the callable given as `text` returned") for row in rows]
        if self.chat:
            return [(template or plain_chat)(turns) if turns else "" for turns in batch[self.columns[0]]]
        cells = zip(*(batch[name] for name in self.columns), strict=True)
        return ["\n".join(cell for cell in row if cell and cell.strip()) for row in cells]

    def record(self) -> dict[str, Any]:
        """Say in JSON what is rendered; a callable is told apart by a hash of its code."""
        if self.function is not None:
            from datasets.fingerprint import Hasher

            name = getattr(self.function, "__qualname__", type(self.function).__name__)
            return {"function": name, "hash": Hasher.hash(self.function)}
        return {"columns": list(self.columns), "chat": self.chat}


def find_text(ds: datasets.Dataset, text: TextSource | None = None) -> Rendering:
    """Return how the rows of `ds` are rendered: as `text` says, or by recognising a common schema.

    Args:
        text: a column, a list of columns joined by newlines, or a callable from a row (a dict) to its text.

    Raises:
        ValueError: no such column, or no schema recognised; the columns there are listed.
        TypeError: a column that holds neither strings nor a chat, or a `text` of another type.
    """
    if callable(text):
        return Rendering(function=text)
    if text is None:
        return _checked(ds, _recognised(ds))
    columns = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, Sequence) else ()
    if not columns or not all(isinstance(name, str) for name in columns):
        raise TypeError(f"`text={text!r}`: pass a column name, a list of them, or a callable from a row to its text")
    for name in columns:
        if name not in ds.column_names:
            raise ValueError(f"no column `{name}` (from `text`) in this dataset; it has: {', '.join(ds.column_names)}")
    return _checked(ds, columns)


def plain_chat(turns: Turns) -> str:
    """Write a chat as `role: words`, a line a turn."""
    lines = []
    for turn in turns:
        role = next((turn[key] for key in ROLE_KEYS if turn.get(key)), None)
        words = next((turn[key] for key in CONTENT_KEYS if turn.get(key)), "")
        if isinstance(words, list):  # multimodal content: a list of parts, of which the text parts are read
            words = "\n".join(part["text"] for part in words if part.get("text"))
        lines.append(f"{role}: {words}" if role else words)
    return "\n".join(lines)


def _recognised(ds: datasets.Dataset) -> tuple[str, ...]:
    names = set(ds.column_names)
    for chat in CHAT:
        if chat in names and _is_chat(ds.features[chat]):
            return (chat,)
    for required, wanted in SCHEMAS:
        if names.issuperset(required):
            return tuple(name for name in wanted if name in names)
    strings = [name for name in ds.column_names if _is_string(ds.features[name])]
    if len(strings) == 1:
        return (strings[0],)
    raise ValueError(
        f"no text column recognised among: {', '.join(ds.column_names)}; "
        "say which with `text='column'`, `text=['column', 'column']` or `text=lambda row: ...`"
    )


def _checked(ds: datasets.Dataset, columns: tuple[str, ...]) -> Rendering:
    if len(columns) == 1 and _is_chat(ds.features[columns[0]]):
        return Rendering(columns, chat=True)
    for name in columns:
        if not _is_string(ds.features[name]):
            raise TypeError(
                f"column `{name}` holds {ds.features[name]}, not text; pass another column or `text=lambda row: ...`"
            )
    return Rendering(columns)


def _is_string(feature: Any) -> bool:
    # A column of nothing but None has the type null: its rows are blank, which is no error.
    return getattr(feature, "dtype", None) in ("string", "large_string", "null")


def _is_chat(feature: Any) -> bool:
    turn = getattr(feature, "feature", feature[0] if isinstance(feature, list) else None)
    return isinstance(turn, Mapping) and any(k in turn for k in ROLE_KEYS) and any(k in turn for k in CONTENT_KEYS)


def _string(value: Any, what: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"{what} {type(value).__name__}, not a string")
