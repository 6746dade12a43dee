"""Rows -> texts: which columns of a dataset are its text, and how a row is written out. No torch, no model.

What was rendered is part of how a subset came about, so a `Rendering` can say what it does in plain JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
ROLES = {"human": "user", "gpt": "assistant"}  # ShareGPT's words, in those that chat templates know


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
            chats = [messages(turns or ()) for turns in batch[self.columns[0]]]
            return [(template or plain_chat)(chat) if chat else "" for chat in chats]
        cells = zip(*(batch[name] for name in self.columns), strict=True)
        return ["\n".join(cell for cell in row if cell and cell.strip()) for row in cells]

    def record(self) -> dict[str, Any]:
        """Say in JSON what is rendered; a callable is told apart by a hash of its code."""
        if self.function is not None:
            from datasets.fingerprint import Hasher, generate_random_fingerprint

            name = getattr(self.function, "__qualname__", type(self.function).__name__)
            try:
                # A function of an imported module is hashed by its name alone: add its code, which may be edited.
                code = getattr(self.function, "__code__", getattr(type(self.function).__call__, "__code__", None))
                digest = Hasher.hash((self.function, code))
            except Exception:  # whatever pickling raises; datasets does the same for a function it cannot hash
                warnings.warn(
                    f"`text={name}` cannot be hashed: its codes will not be found in the cache", stacklevel=2
                )
                digest = generate_random_fingerprint()
            return {"function": name, "hash": digest}
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


def messages(turns: Turns) -> list[dict[str, str]]:
    """Bring the turns of a chat into one form, `{"role": ..., "content": ...}`; turns without words are left out."""
    found = []
    for turn in filter(None, turns):
        role = next((turn[key] for key in ROLE_KEYS if turn.get(key)), "")
        words = _words(next((turn[key] for key in CONTENT_KEYS if turn.get(key)), ""))
        if words.strip():
            found.append({"role": ROLES.get(role, role), "content": words})
    return found


def _words(content: Any) -> str:
    """Return the text of a turn; of multimodal content, a list of parts, that of the text parts."""
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
        return "\n".join(str(part) for part in parts if part)
    return str(content)


def plain_chat(chat: Turns) -> str:
    """Write a chat as `role: words`, a line a turn."""
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in chat)


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
    if type(turn).__name__ == "Json":  # what load_dataset("json") makes of turns whose keys differ
        return True
    return isinstance(turn, Mapping) and any(k in turn for k in ROLE_KEYS) and any(k in turn for k in CONTENT_KEYS)


def _string(value: Any, what: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"{what} {type(value).__name__}, not a string")
