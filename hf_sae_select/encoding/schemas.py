"""Which columns of a dataset are its text: by their names and types, and where names say little by a look at values.

A column that holds ids, file names, labels, dates or addresses is never taken for the text. Where the text may be in a
column that cannot be read, the search ends in an error that lists all columns with their types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from .blocks import is_list, parsed
from .chats import CHAT_NAMES, names_speakers, names_turn, turns_of

Path = tuple[str, ...]
"""A column, or the way to a field of a struct: ``("data", "messages")``."""

OUTPUTS = ("output", "outputs", "response", "completion", "answer", "answers", "target", "targets", "solution")
# Known schemas: names that a dataset must have, then names that are read too, in reading order. Case does not count.
SCHEMAS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("text",), ()),
    (("instruction",), ("system", "system_prompt", "instruction", "input", "inputs", "context", *OUTPUTS)),
    (("prompt", "completion"), ("system", "system_prompt", "prompt", "completion")),
    (("prompt", "response"), ("system", "system_prompt", "prompt", "response")),
    (("prompt", "chosen"), ("system", "system_prompt", "prompt", "chosen")),
    (("prompt", "answer"), ("prompt", "answer")),
    (("chosen",), ()),
    (("question", "answer"), ("system_prompt", "context", "question", "answer")),
    (("question", "answers"), ("context", "question", "answers")),
    (("question", "response"), ("system_prompt", "question", "response")),
    (("question", "solution"), ("question", "solution")),
    (("problem", "solution"), ("problem", "solution")),
    (("problem", "answer"), ("problem", "answer")),
    (("query", "response"), ("query", "response")),
    (("query", "answer"), ("query", "answer")),
    (("query", "answers"), ("query", "answers")),
    (("inputs", "targets"), ("inputs", "targets")),
    (("input", "output"), ("system", "system_prompt", "input", "output")),
    (("system", "chat"), ()),
    (("content",), ()),
    (("prompt",), ()),
)
# Columns beside a chat that belong to it: the first turn, and what a chat template gets beside the turns.
SYSTEM, EXTRAS = ("system", "system_prompt"), ("tools", "chat_template_kwargs")
PEEK_ROWS = 200  # rows that are looked at where names and types do not tell

# Names of columns that describe a row and are not its text.
DESCRIPTION = re.compile(
    r"(.*[_\- ])?(id|ids|idx|index|key|uuid|guid|url|urls|uri|link|href|path|file|filename|filepath|hash|md5|sha1|"
    r"sha256|label|labels|class|category|tag|tags|topic|lang|language|locale|source|dataset|subset|split|task|type|kind|model|"
    r"author|user|username|domain|repo|license|licence|date|time|timestamp|created|updated|version|status|score|rating|kwargs|meta|metadata|"
    r"moderation)(_list)?",
    re.IGNORECASE,
)
# Values that name something: addresses, uuids, hashes, file names, numbers, dates.
REFERENCE = re.compile(
    r"\s*([a-z][a-z0-9+.-]*://\S+|www\.\S+|\S+@\S+\.\w+"
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,}"
    r"|([a-z]:)?[\w.~@-]*([/\\][\w.~@ -]+)+|[\w.-]+\.[a-z][a-z0-9]{1,4}|[\w-]*\d[\w-]*"
    r"|[\d\s.,:;/+\-TZ()]*)\s*",
    re.IGNORECASE,
)


def columns_of(dataset: datasets.Dataset) -> tuple[tuple[Path, ...], bool]:
    """Return the columns that are the text of a dataset, and whether they make a chat.

    Raises:
        ValueError: no column is the text for sure; all are listed with their types.
    """
    features = dataset.features
    by_name = {name.lower(): name for name in reversed(dataset.column_names)}
    chats = [by_name[name] for name in CHAT_NAMES if name in by_name and is_chat(dataset, (by_name[name],))]
    by_type = [] if is_text(features.get(by_name.get("text", ""))) else _chats_by_type(dataset)
    for required, optional in () if chats else SCHEMAS:
        names = [by_name[name] for name in optional or required if name in by_name]
        if all(name in by_name for name in required) and (not by_type or by_type[0] in names):
            return _schema(dataset, names)
    if chats := chats or by_type:
        system = [by_name[name] for name in SYSTEM if name in by_name and is_text(features[by_name[name]])]
        return tuple((name,) for name in (*system[:1], chats[0])), True
    return ((_only_text(dataset),),), False


def _schema(dataset: datasets.Dataset, names: Sequence[str]) -> tuple[tuple[Path, ...], bool]:
    """Return the columns of a known schema, if all can be read and no other column has a part of the text."""
    chats = [name for name in names if is_chat(dataset, (name,))]
    unreadable = [name for name in names if name not in chats and not is_text(dataset.features[name])]
    if names == ["instruction"] or names == ["prompt"]:
        unreadable += _unreadable(dataset, names)
    if unreadable:
        raise ambiguous(dataset, unreadable)
    return tuple((name,) for name in names), bool(chats)


def _chats_by_type(dataset: datasets.Dataset) -> list[str]:
    """Return the only column whose type is that of turns, whatever its name."""
    names = [name for name in dataset.column_names if _is_turns(dataset.features[name], speakers=True)]
    return names if len(names) == 1 else []


def _only_text(dataset: datasets.Dataset) -> str:
    """Return the only column that can be the text.

    Raises:
        ValueError: several can be, or none, or the text may be in a column that cannot be read.
    """
    strings: list[str] = [name for name in dataset.column_names if is_text(dataset.features[name])]
    texts = [name for name in strings if not describes_rows(dataset, name)]
    unreadable = _unreadable(dataset, ())
    if len(texts) != 1 or unreadable:
        raise ambiguous(dataset, unreadable if len(texts) < 2 else ())
    return texts[0]


def _unreadable(dataset: datasets.Dataset, read: Sequence[str]) -> list[str]:
    """Return the columns that may hold text in a form that is not read: lists, structs and JSON."""
    return [
        name
        for name in dataset.column_names
        if name not in read and not DESCRIPTION.fullmatch(name) and not name.startswith("sae_")
        if not is_text(dataset.features[name]) and _may_hold_text(dataset.features[name])
    ]


def _may_hold_text(feature: Any) -> bool:
    if isinstance(feature, Mapping):
        return any(map(_may_hold_text, feature.values()))
    if (item := _item(feature)) is not None:
        return _may_hold_text(item)
    binary = getattr(feature, "dtype", None) in ("binary", "large_binary")
    return is_text(feature) or binary or type(feature).__name__ == "Json"


def describes_rows(dataset: datasets.Dataset, name: str) -> bool:
    """Tell whether a column of strings holds ids, labels, file names and the like, judged by its name and values."""
    if DESCRIPTION.fullmatch(name):
        return True
    values = [value for value in peek(dataset, (name,), PEEK_ROWS) if value and value.strip()]
    if not values or sum(REFERENCE.fullmatch(value) is not None for value in values) > len(values) / 2:
        return bool(values)
    # A label: few values, without spaces, beside other columns.
    words = [value for value in values if len(value.split()) == 1 and value.isascii()]
    return len(dataset.column_names) > 1 and len(words) == len(values) > 2 * len(set(values))


def peek(dataset: datasets.Dataset, path: Path, rows: int) -> list[Any]:
    """Return the values of a column, or of a field of a struct, in the first rows."""
    head = dataset.with_format(None).select_columns([path[0]]).select(range(min(rows, len(dataset))))
    return [value_at(cell, path[1:]) for cell in head[path[0]]]


def value_at(cell: Any, fields: Sequence[str]) -> Any:
    """Return a field of a struct, of a field of a struct, ...; None where a struct is null."""
    for name in fields:
        cell = cell.get(name) if isinstance(cell, Mapping) else None
    return cell


def is_text(feature: Any) -> bool:
    """Tell whether a column holds strings; one of nothing but None has the type null, and its rows are blank."""
    return getattr(feature, "dtype", None) in ("string", "large_string", "string_view", "null")


def is_chat(dataset: datasets.Dataset, path: Path) -> bool:
    """Tell whether a column, or a field of a struct, holds chats: by its type, or as JSON."""
    feature = feature_at(dataset.features, path)
    name = path[-1].lower()
    if _is_turns(feature):
        return True
    item = _item(feature)
    if item is not None and is_text(item) and name in CHAT_NAMES:  # what two speakers say in turn, or JSON of turns
        return True
    return _holds_chats(dataset, path) if _may_be_json(feature) else False


def _may_be_json(feature: Any) -> bool:
    return is_text(feature) or "Json" in (type(feature).__name__, type(_item(feature)).__name__)


def _holds_chats(dataset: datasets.Dataset, path: Path) -> bool:
    """Tell whether the first value that is not blank is a chat, or JSON text of one."""
    for rows in (PEEK_ROWS, len(dataset)):
        for value in peek(dataset, path, rows):
            chat = parsed(value) if isinstance(value, str) else value
            if is_list(chat) or isinstance(chat, Mapping):
                return _looks_like_chat(chat)
            if isinstance(value, str) and value.strip():
                return False
    return type(_item(feature_at(dataset.features, path))).__name__ == "Json" and path[-1].lower() in CHAT_NAMES


def _looks_like_chat(chat: Any) -> bool:
    if is_list(chat):
        return any(isinstance(turn, Mapping) and names_turn(turn) for turn in chat)
    return names_turn(chat) or (len(turns_of(chat)) > 0 and any(name in chat for name in ("mapping", *CHAT_NAMES)))


def feature_at(features: Mapping[str, Any], path: Path) -> Any:
    """Return the type of a column, or of a field of a struct; None if it does not exist."""
    feature: Any = features
    for name in path:
        feature = feature.get(name) if isinstance(feature, Mapping) else None
    return feature


def _is_turns(feature: Any, speakers: bool = False) -> bool:
    """Tell whether a type is that of a list of turns, or of a struct of the turns' lists.

    With `speakers`, the type must say who speaks: `{input, output}` may be a pair of turns, or anything else.
    """
    if isinstance(feature, Mapping):
        turn = feature if all(_item(value) is not None for value in feature.values()) else None
    else:
        turn = _item(feature)
    return isinstance(turn, Mapping) and (names_speakers(turn) if speakers else names_turn(turn))


def _item(feature: Any) -> Any:
    """Return the type of a list's items; None for another type."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return getattr(feature, "feature", None)


def ambiguous(dataset: datasets.Dataset, unreadable: Sequence[str]) -> ValueError:
    """Return the error that lists the columns with their types, and what to do."""
    columns = "; ".join(f"{name}: {type_name(feature)}" for name, feature in dataset.features.items())
    reason = f" (it may be in {', '.join(f'`{name}`' for name in unreadable)})" if unreadable else ""
    return ValueError(
        f"cannot tell which column is the text{reason}, among: {columns}; "
        "pass `text='column'`, `text=['column', 'column']`, `text='struct.field'` or `text=lambda row: ...`"
    )


def type_name(feature: Any) -> str:
    """Write the type of a column in few words, such as ``list of {role: string, content: string}``."""
    if isinstance(feature, Mapping):
        return "{" + ", ".join(f"{name}: {type_name(value)}" for name, value in feature.items()) + "}"
    if (item := _item(feature)) is not None:
        return f"list of {type_name(item)}"
    name = type(feature).__name__
    return str(feature.dtype) if name == "Value" else name
