"""Rows -> texts: which columns of a dataset are its text, and how a row becomes a text. No torch, no model.

The encoding record says how rows were rendered, so a `Rendering` describes itself in JSON.
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
# Known schemas: the columns that a dataset must have, and the columns that are read if present, in reading order.
SCHEMAS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("text",), ("text",)),
    (("instruction",), ("instruction", "input", "context", "output", "response")),
    (("prompt", "completion"), ("prompt", "completion")),
    (("prompt", "response"), ("prompt", "response")),
    (("question", "answer"), ("question", "answer")),
)
# The keys of a turn in a chat: OpenAI's and ShareGPT's.
ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value")
ROLES = {"human": "user", "gpt": "assistant"}  # ShareGPT's roles -> those of chat templates


@dataclass(frozen=True)
class Rendering:
    """How rows become texts: columns joined by newlines, a chat turn by turn, or what a function returns.

    Example: columns instruction, input, output of ``{"instruction": "Add.", "input": None, "output": "3"}`` give
    ``"Add.\\n3"``; the chat ``[{"role": "user", "content": "Hi"}]`` gives ``"user: Hi"``.
    """

    columns: tuple[str, ...] = ()
    chat: bool = False
    function: Callable[[dict[str, Any]], str] | None = None

    def __call__(self, batch: dict[str, list[Any]], template: Callable[[Turns], str] | None = None) -> list[str]:
        """Return one text per row of `batch`; a row without text gives a blank one.

        `template` renders the turns of a chat, as a tokenizer's chat template does; the default is `plain_chat`.
        """
        if self.function is not None:
            rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            return [_string(self.function(row)) for row in rows]
        if self.chat:
            chats = [messages(turns or ()) for turns in batch[self.columns[0]]]
            return [(template or plain_chat)(chat) if chat else "" for chat in chats]
        cells = zip(*(batch[name] for name in self.columns), strict=True)
        return ["\n".join(cell for cell in row if cell and cell.strip()) for row in cells]

    def record(self) -> dict[str, Any]:
        """Describe the rendering in JSON; a function by its name and a hash of its code."""
        if self.function is not None:
            from datasets.fingerprint import Hasher, generate_random_fingerprint

            name = getattr(self.function, "__qualname__", type(self.function).__name__)
            try:
                # The hash of a function from a module covers its name alone, so add its code, which may change.
                code = getattr(self.function, "__code__", getattr(type(self.function).__call__, "__code__", None))
                digest = Hasher.hash((self.function, code))
            except Exception:  # pickling may raise anything; datasets handles such functions the same way
                warnings.warn(
                    f"`text={name}` cannot be hashed: the next call will not find its codes in the cache",
                    stacklevel=2,
                )
                digest = generate_random_fingerprint()
            return {"function": name, "hash": digest}
        return {"columns": list(self.columns), "chat": self.chat}


def find_text(dataset: datasets.Dataset, text: TextSource | None = None) -> Rendering:
    """Return how to render the rows of a dataset: as `text` says, or by a common schema.

    `text` is a column, a list of columns to join by newlines, or a function from a row (a dict) to its text.

    Raises:
        ValueError: the dataset has no such column, or no schema that is known; its columns are listed.
        TypeError: a column holds neither strings nor a chat, or `text` has another type.
    """
    if callable(text):
        return Rendering(function=text)
    if text is None:
        return _rendering_of(dataset, _known_columns(dataset))
    columns = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, Sequence) else ()
    if not columns or not all(isinstance(name, str) for name in columns):
        raise TypeError(f"`text={text!r}` must be a column, a list of columns, or a function from a row to its text")
    for name in columns:
        if name not in dataset.column_names:
            raise ValueError(
                f"no column `{name}` (from `text`) in this dataset; it has: {', '.join(dataset.column_names)}"
            )
    return _rendering_of(dataset, columns)


def messages(turns: Turns) -> list[dict[str, str]]:
    """Return the turns of a chat in OpenAI's form, `{"role": ..., "content": ...}`, without empty turns."""
    chat = []
    for turn in filter(None, turns):
        role = next((turn[key] for key in ROLE_KEYS if turn.get(key)), "")
        content = _content_text(next((turn[key] for key in CONTENT_KEYS if turn.get(key)), ""))
        if content.strip():
            chat.append({"role": ROLES.get(role, role), "content": content})
    return chat


def _content_text(content: Any) -> str:
    """Return the text of a turn; multimodal content is a list of parts, of which the text parts are joined."""
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
        return "\n".join(str(part) for part in parts if part)
    return str(content)


def plain_chat(chat: Turns) -> str:
    """Render a chat as one line `role: content` for each turn."""
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in chat)


def _known_columns(dataset: datasets.Dataset) -> tuple[str, ...]:
    """Return the columns of a chat, of a known schema, or the only column of strings."""
    names = set(dataset.column_names)
    for chat in CHAT:
        if chat in names and _is_chat(dataset.features[chat]):
            return (chat,)
    for required, columns in SCHEMAS:
        if names.issuperset(required):
            return tuple(name for name in columns if name in names)
    strings = [name for name in dataset.column_names if _is_string(dataset.features[name])]
    if len(strings) == 1:
        return (strings[0],)
    raise ValueError(
        f"cannot tell which column is the text, among: {', '.join(dataset.column_names)}; "
        "pass `text='column'`, `text=['column', 'column']` or `text=lambda row: ...`"
    )


def _rendering_of(dataset: datasets.Dataset, columns: tuple[str, ...]) -> Rendering:
    """Return how to render these columns, and check that they hold strings or a chat."""
    if len(columns) == 1 and _is_chat(dataset.features[columns[0]]):
        return Rendering(columns, chat=True)
    for name in columns:
        if not _is_string(feature := dataset.features[name]):
            raise TypeError(
                f"column `{name}` holds {feature}, not text; pass another column or `text=lambda row: ...`"
            )
    return Rendering(columns)


def _is_string(feature: Any) -> bool:
    # A column that holds only None has the type null: its rows are blank.
    return getattr(feature, "dtype", None) in ("string", "large_string", "null")


def _is_chat(feature: Any) -> bool:
    turn = getattr(feature, "feature", feature[0] if isinstance(feature, list) else None)
    if type(turn).__name__ == "Json":  # what load_dataset("json") makes of turns whose keys differ
        return True
    return isinstance(turn, Mapping) and any(k in turn for k in ROLE_KEYS) and any(k in turn for k in CONTENT_KEYS)


def _string(value: Any) -> str:
    """Check what a function returned as the text of a row; None is a blank text."""
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"the function `text` returned a value of type {type(value).__name__}; it must return a string")
