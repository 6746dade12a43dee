"""Which columns of a dataset are its text: by their names and types, and where names say little by a look at values.

A column that holds ids, file names, labels, dates or addresses is never taken for the text. Where the text may be in a
column that is not read, the search ends in an error that lists all columns with their types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from .blocks import parsed
from .cells import peek
from .chats import ANSWERING, ASKING, BACKGROUND, CHAT_NAMES, is_chat, names_speaker, names_turn, turns_of
from .descriptions import describes_rows, names_description

Path = tuple[str, ...]
"""A column, or the way to a field of a struct: ``("data", "messages")``."""

# Names of columns in reading order, in lower case. Columns of asking and of answering together are the text.
SYSTEM = ("system", "system_prompt", "system_message", "systeminstruction", "system_instruction")
HISTORY = ("history",)  # earlier turns
THINKING = (
    "reasoning",
    "rationale",
    "chain_of_thought",
    "cot",
    "complex_cot",
    "thinking",
    "reasoning_content",
    "thought",
)
# Of two columns that say the same, the first is read.
INSTEAD = (("instruction", "prompt"), ("response", "chosen"), ("output", "solution"))
PAIRS = (
    *(("source", "target"), ("system", "chat"), ("article", "highlights"), ("document", "summary")),
    *(("dialogue", "summary"), ("title", "body"), ("user", "assistant"), ("human", "assistant"), ("user", "bot")),
)
ALONE = ("content", "chosen", "prompt", "instruction", "question")
# Names of columns where a list of strings is what two speakers say in turn.
NAMES_OF_DIALOGUES = ("dialog", "dialogue", "dialogs", "conversation", "conversations", "chat", "messages")
EXTRAS = ("tools", "chat_template_kwargs")  # what a chat template gets beside the turns


def columns_of(dataset: datasets.Dataset) -> tuple[tuple[Path, ...], bool]:
    """Return the columns that are the text of a dataset, and whether they make a chat.

    Raises:
        ValueError: no column is the text for sure; all are listed with their types.
    """
    by_name = {name.lower().replace(" ", "_"): name for name in reversed(dataset.column_names)}
    texts = {key for key, name in by_name.items() if is_text(dataset.features[name])}
    chats = {key for key, name in by_name.items() if holds_chats(dataset, (name,))}
    keys = _chat(dataset, by_name, chats) or _known(dataset, by_name, texts, chats)
    if not keys and (
        others := [key for key in chats if names_speaker(_turn_of(dataset.features[by_name[key]]) or ())]
    ):
        keys = others if len(others) == 1 and not _unread_texts(dataset, by_name, texts, others) else ()
    if not keys:
        return ((_only_text(dataset),),), False
    return tuple((by_name[key],) for key in keys), bool(chats.intersection(keys))


def _chat(dataset: datasets.Dataset, by_name: Mapping[str, str], chats: set[str]) -> Sequence[str]:
    """Return the columns of a chat: the system prompt, a column with a usual name of chats, and an answer apart.

    Empty if no column has such a name.

    Raises:
        ValueError: the answer is in a column that cannot be read.
    """
    named = next((name for name in CHAT_NAMES if name in chats), None)
    if named is None:
        return ()
    system = [name for name in SYSTEM if name in by_name and name not in chats][:1]
    # The answer may be apart: the last turn of a preference pair as a struct, or a text after a chat of questions.
    answers = [name for name in ANSWERING if name in by_name]
    features = {name: dataset.features[by_name[name]] for name in answers}
    apart = [name for name, type in features.items() if isinstance(type, Mapping) and names_turn(type)]
    if not apart and answers and _ends_with_user(dataset, by_name[named]):
        apart = answers
        if unread := [by_name[name] for name in answers if name not in chats and not is_text(features[name])]:
            raise ambiguous(dataset, unread)
    return (*system, named, *apart[:1])


def _ends_with_user(dataset: datasets.Dataset, name: str) -> bool:
    """Tell whether most chats of a column end with a question."""
    chats = [turns for chat in peek(dataset, (name,)) if (turns := turns_of(chat))]
    return bool(2 * sum(turns[-1]["role"] == "user" for turns in chats) > len(chats))


def _known(dataset: datasets.Dataset, by_name: Mapping[str, str], texts: set[str], chats: set[str]) -> Sequence[str]:
    """Return the columns of a known schema; empty if the columns fit none.

    Raises:
        ValueError: a part of it cannot be read, or another column may have the rest of the text.
    """
    readable = texts | chats
    if "text" in readable:
        return ("text",)
    if "text" in by_name and not chats:
        raise ambiguous(dataset, [by_name["text"]])
    twice = {later for first, later in INSTEAD if first in readable}
    asking = [name for name in ASKING if name in by_name and name not in twice]
    answering = [name for name in ANSWERING if name in by_name and name not in twice]
    if not set(asking) - set(BACKGROUND) or not answering:
        pair = next((pair for pair in PAIRS if set(pair) <= readable), ())
        system = [name for name in SYSTEM if name in readable and name not in pair] if "assistant" in pair else []
        return (*system, *pair) or _alone(dataset, by_name, readable)
    history = [name for name in HISTORY if name in chats]
    system = [name for name in SYSTEM if name in by_name]
    thinking = [name for name in THINKING if name in readable]
    if asking[0] != "instruction":  # of a question, the background comes first
        asking.sort(key=lambda name: name not in BACKGROUND)
    keys = [*system, *history, *asking, *thinking, *answering]
    unread = [by_name[key] for key in keys if key not in readable]
    # Choices to answer with are a part of the question.
    unread += [
        name for name in _unreadable(dataset, [by_name[key] for key in keys]) if _is_list_of_text(dataset, name)
    ]
    if unread:
        raise ambiguous(dataset, unread)
    return keys


def _is_list_of_text(dataset: datasets.Dataset, name: str) -> bool:
    item = _item(dataset.features[name])
    return item is not None and is_text(item) and getattr(item, "dtype", None) != "null"


def _alone(dataset: datasets.Dataset, by_name: Mapping[str, str], readable: set[str]) -> Sequence[str]:
    """Return a column that is the text on its own, if no other column may have a part of the text."""
    key = next((name for name in ALONE if name in readable), None)
    if key is None:
        return ()
    others = _unreadable(dataset, [by_name[key]]) + _unread_texts(dataset, by_name, readable, [key])
    if others:
        raise ambiguous(dataset, others)
    return (key,)


def _unread_texts(
    dataset: datasets.Dataset, by_name: Mapping[str, str], texts: set[str], read: Sequence[str]
) -> list[str]:
    """Return the columns of strings that may be text too."""
    return [
        name
        for key, name in by_name.items()
        if key in texts and key not in read and is_text(dataset.features[name]) and not describes_rows(dataset, name)
    ]


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
        if name not in read and not name.startswith("sae_")
        if not names_description(name)
        if not is_text(dataset.features[name]) and _may_hold_text(dataset.features[name])
    ]


def _may_hold_text(feature: Any) -> bool:
    if isinstance(feature, Mapping):
        return any(map(_may_hold_text, feature.values()))
    if (item := _item(feature)) is not None:
        return _may_hold_text(item)
    binary = getattr(feature, "dtype", None) in ("binary", "large_binary")
    return is_text(feature) or binary or type(feature).__name__ == "Json"


def is_text(feature: Any) -> bool:
    """Tell whether a column holds strings; one of nothing but None has the type null, and its rows are blank."""
    return getattr(feature, "dtype", None) in ("string", "large_string", "string_view", "null")


def holds_chats(dataset: datasets.Dataset, path: Path, is_named: bool = False) -> bool:
    """Tell whether a column, or a field of a struct, holds chats: by its type, or for JSON by a look at values.

    Text that is the JSON of a chat counts where the column has a usual name of chats, or where the user names it.
    """
    feature, name = feature_at(dataset.features, path), path[-1].lower()
    item = _item(feature)
    if (turn := _turn_of(feature)) is not None:
        return names_turn(turn)
    if name in (*NAMES_OF_DIALOGUES, *HISTORY) and (strings := _item(item) if name in HISTORY else item) is not None:
        return is_text(strings) or type(strings).__name__ == "Json"
    is_json = "Json" in (type(feature).__name__, type(item).__name__)
    if is_json or (is_text(feature) and (is_named or name in CHAT_NAMES)):
        values = [value for value in peek(dataset, path) if value]
        chats = sum(is_chat(parsed(value) if isinstance(value, str) else value) for value in values)
        return chats > 0 and 2 * chats >= len(values)
    return False


def feature_at(features: Mapping[str, Any], path: Path) -> Any:
    """Return the type of a column, or of a field of a struct; None if it does not exist."""
    feature: Any = features
    for name in path:
        feature = feature.get(name) if isinstance(feature, Mapping) else None
    return feature


def _turn_of(feature: Any) -> Mapping[str, Any] | None:
    """Return the type of the turns in a list of structs, or in a struct of lists; None for another type."""
    if isinstance(feature, Mapping):
        return feature if feature and all(_item(value) is not None for value in feature.values()) else None
    item = _item(feature)
    return item if isinstance(item, Mapping) else None


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
