"""Chats -> turns in one form, and turns -> plain text. No torch, no tokenizer.

A turn has the form that chat templates of transformers read: `role` and `content`, both strings, and where it has them
`reasoning_content`, `tool_calls`, `name` and `tool_call_id`. All further fields of a turn stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .blocks import (
    CALL_TYPES,
    REASONING_TYPES,
    RESULT_TYPES,
    Parts,
    as_text,
    call_text,
    is_list,
    joined,
    parsed,
    result_text,
    without_nulls,
)

Turn = dict[str, Any]

ROLE_KEYS = ("role", "from", "author", "speaker", "sender")
CONTENT_KEYS = ("content", "value", "text", "parts", "message", "utterance", "body")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thoughts")
# Names of columns that hold chats. A dict that wraps a chat has one of these keys too.
CHAT_NAMES = (
    *("messages", "conversations", "conversation", "dialog", "dialogue", "dialogs", "chat", "turns"),
    *("chat_messages", "trajectory"),
)
SPEAKERS = ("user", "human", "assistant", "gpt", "bot", "model", "chatgpt", "ai")
WORD_KEYS = (*CONTENT_KEYS, *REASONING_KEYS, "tool_calls", "function_call", "refusal", "audio")
CALL_ROLES = ("function_call", "tool_call", "tool_calls", "function-call", "tool-call")
ROLES = {
    name: role
    for role, names in {
        "user": "user human prompter usr humanmessage humanmessagechunk question instruction prompt query problem "
        "input inputs context",
        "assistant": "assistant gpt bot model chatbot chatgpt ai assistant_message aimessage aimessagechunk bing bard "
        "claude gemini gpt4 gpt-4 llm answer response completion chosen output outputs target targets solution",
        "system": "system sys system_prompt system_message systemmessage",
        "developer": "developer",
        "tool": "tool function observation ipython tool_response tool_result tool_output function_response "
        "function_result function_output toolmessage functionmessage environment function-response tool-response",
    }.items()
    for name in names.split()
}
"""Lower-case names of a role, of a key of a pair such as `{"user": ..., "assistant": ...}`, or of a column."""


def turns_of(chat: Any) -> list[Turn]:
    """Return the turns of a chat; a chat without a word has none.

    A chat is a list of turns, a dict of lists (`{"role": [...], "content": [...]}`), a list of strings whose speakers
    alternate, a tree of a ChatGPT export, or JSON text of any of these. Other text is one turn of the user.

    Raises:
        ValueError: a turn holds what is no text.

    Example: ``turns_of([{"from": "human", "value": "Hi"}])`` gives ``[{"role": "user", "content": "Hi"}]``.
    """
    turns = list(_turns(chat))
    return turns if any(map(has_words, turns)) else []


def has_words(turn: Turn) -> bool:
    """Tell whether a turn says anything: by its content, its reasoning or its calls."""
    return bool(turn["content"].strip() or turn.get("reasoning_content", "").strip() or turn.get("tool_calls"))


def plain_chat(turns: Sequence[Turn]) -> str:
    """Write a chat as one `role: words` for each turn.

    The words are the reasoning, the content, and each call as `name {"argument": value}`, on lines of their own. A
    turn's name follows the role in brackets.
    """
    return "\n".join(f"{_heading(turn)}: {turn_text(turn)}".rstrip() for turn in turns)


def turn_text(turn: Turn) -> str:
    """Return the words of a turn, as `plain_chat` writes them."""
    calls = map(call_text, turn.get("tool_calls", ()))
    return joined([turn.get("reasoning_content", ""), turn["content"], *calls])


def _heading(turn: Turn) -> str:
    role = "system" if turn["role"] == "developer" else turn["role"]
    return f"{role} ({turn['name']})" if turn.get("name") else str(role)


def is_turn(value: Any) -> bool:
    """Tell whether a value is a turn, a pair of turns, or JSON text of one."""
    if isinstance(value, str):
        value = parsed(value)
    return isinstance(value, Mapping) and names_turn(value)


def names_turn(keys: Any) -> bool:
    """Tell whether a dict with these keys is a turn, or a pair of turns by their roles."""
    has_role = any(key in keys for key in (*ROLE_KEYS, "type"))
    has_words = any(key in keys for key in (*CONTENT_KEYS, "tool_calls", "function_call", "data", "kwargs"))
    return (has_role and has_words) or _is_pair(keys)


def names_speakers(keys: Any) -> bool:
    """Tell whether a dict with these keys says who speaks."""
    return names_turn(keys) and (any(k in keys for k in ROLE_KEYS) or _is_pair(set(SPEAKERS).intersection(keys)))


def _is_pair(keys: Any) -> bool:
    roles = [ROLES.get(str(key).lower()) for key in keys]
    return "user" in roles and "assistant" in roles


def _turns(chat: Any) -> Iterator[Turn]:
    if chat is None:
        return
    if isinstance(chat, str):
        inner = parsed(chat)
        yield from _turns(inner) if _is_chat(inner) else [{"role": "user", "content": chat}]
    elif isinstance(chat, Mapping):
        yield from _turns_of_dict(chat)
    elif is_list(chat):
        spoken = -1  # of strings, the speakers alternate
        for turn in chat:
            if isinstance(turn, str) and not is_turn(turn):
                spoken += 1
                yield {"role": ("user", "assistant")[spoken % 2], "content": turn}
            else:
                yield from _turns(turn)
    else:
        raise ValueError(f"a chat is a list of turns, and this is {as_text(chat)[:60]!r}")


def _is_chat(chat: Any) -> bool:
    """Tell whether a value read from JSON is a chat, and not a text that happens to be JSON."""
    if isinstance(chat, list):
        return not chat or any(is_turn(turn) for turn in chat)
    return isinstance(chat, dict) and (names_turn(chat) or "mapping" in chat or _wrapped(chat) is not None)


def _wrapped(chat: Mapping[str, Any]) -> Any:
    """Return the chat in a dict such as `{"messages": [...]}`."""
    return next((chat[name] for name in CHAT_NAMES if is_list(chat.get(name))), None)


def _turns_of_dict(chat: Mapping[str, Any]) -> Iterator[Turn]:
    """Read a dict that holds a chat, or one turn."""
    values = {key: value for key, value in chat.items() if value is not None}
    roles = {key: values[key] for key in ROLE_KEYS if key in values}
    if isinstance(tree := values.get("mapping"), Mapping):
        yield from _turns([node["message"] for node in _path(tree, values.get("current_node")) if node.get("message")])
    elif not roles and (wrapped := _wrapped(values)) is not None:
        yield from _turns(wrapped)
    elif _is_dict_of_lists(values, roles):
        lists = {key: value for key, value in values.items() if is_list(value)}
        for i in range(max(map(len, lists.values()))):
            yield from _turns_of_dict({key: items[i] for key, items in lists.items() if i < len(items)})
    elif isinstance(message := values.get("message"), Mapping):  # of a ChatGPT export, or a log of an agent
        yield from _turns_of_dict({**roles, **message})
    elif isinstance(inner := values.get("kwargs", values.get("data")), Mapping) and "content" in inner:  # LangChain's
        kind = values["id"][-1] if is_list(values.get("id")) else values.get("type", "")
        yield from _turns_of_dict({**inner, "role": kind})
    elif values:
        yield from _turn_or_pair(values, list(chat))


def _turn_or_pair(values: Mapping[str, Any], keys: Sequence[str]) -> Iterator[Turn]:
    """Read one turn, or a pair such as `{"user": ..., "assistant": ...}`; `keys` has those of nulls too."""
    if not any(key in keys for key in (*ROLE_KEYS, *CONTENT_KEYS)) and _is_pair(keys):
        for key, content in values.items():
            if role := ROLES.get(key.lower()):
                yield from _turn({"role": role, "content": content})
        return
    others = [value for key, value in values.items() if key not in (*ROLE_KEYS, "name")]
    if not any(key in keys for key in (*WORD_KEYS, "type")) and any(isinstance(v, str | list | dict) for v in others):
        raise ValueError(
            f"a turn with the keys {', '.join(keys)}: its words must be in one of {', '.join(CONTENT_KEYS)}"
        )
    yield from _turn(values)


def _is_dict_of_lists(chat: Mapping[str, Any], roles: Mapping[str, Any]) -> bool:
    if roles:
        return all(map(is_list, roles.values()))
    return bool(chat) and all(map(is_list, chat.values())) and (_is_pair(chat) or any(k in chat for k in CONTENT_KEYS))


def _path(tree: Mapping[str, Any], node: Any) -> list[Mapping[str, Any]]:
    """Return the nodes of a ChatGPT export that lead to `node`, or by default to the last answers."""
    nodes: dict[Any, Mapping[str, Any]] = {name: v for name, v in tree.items() if isinstance(v, Mapping)}
    if node not in nodes:
        node = next((name for name, value in nodes.items() if value.get("parent") not in nodes), None)
        seen = {node}
        while children := [n for n in nodes.get(node, {}).get("children") or () if n in nodes and n not in seen]:
            node = children[-1]
            seen.add(node)
    path: list[Mapping[str, Any]] = []
    while node in nodes and len(path) < len(nodes):
        path.append(nodes[node])
        node = path[-1].get("parent")
    return path[::-1]


def _turn(raw: Mapping[str, Any]) -> Iterator[Turn]:
    """Read one turn; results of tools among its blocks become turns of the role `tool` before it."""
    kind = raw.get("type")
    if not any(key in raw for key in ROLE_KEYS) and kind in (*CALL_TYPES, *RESULT_TYPES, *REASONING_TYPES):
        raw = {"role": "assistant", "content": [raw]}  # an item of OpenAI's Responses
    role, name = _role_and_name(raw)
    content = next((raw[key] for key in CONTENT_KEYS if raw.get(key) not in (None, "")), None)
    parts = Parts.of(content)
    if role == "tool" and not parts.results:
        parts = Parts(texts=[result_text(content)])
    for key in ("refusal", "audio"):
        parts.add_value(key, raw.get(key))
    for key in REASONING_KEYS:
        parts.reasoning += Parts.of(raw.get(key)).words()
    for key in ("tool_calls", "function_call"):
        parts.add_calls(raw.get(key))
    if role in CALL_ROLES:
        role, texts, parts.texts = "assistant", parts.texts, []
        parts.add_calls(joined(texts))
    turn: Turn = {"role": role, "content": joined(parts.texts)}
    turn |= {"reasoning_content": text} if (text := joined(dict.fromkeys(parts.reasoning))) else {}
    turn |= {"tool_calls": parts.calls} if parts.calls else {}
    turn |= {"name": name} if name else {}
    yield from parts.results
    used = (*ROLE_KEYS, "name", *WORD_KEYS)
    if has_words(turn) or not parts.results:
        yield turn | {key: without_nulls(value) for key, value in raw.items() if key not in used}


def _role_and_name(raw: Mapping[str, Any]) -> tuple[str, str]:
    """Return a turn's role under its usual name, and the name of who speaks."""
    role = next((raw[key] for key in ROLE_KEYS if raw.get(key) not in (None, "")), None)
    name = raw.get("name")
    if isinstance(author := role, Mapping):  # of a ChatGPT export
        role, name = author.get("role"), author.get("name") or name
    if role is None:
        role = raw["type"] if str(raw.get("type")).lower() in ROLES else "user"
    text = as_text(role).strip()
    return ROLES.get(text.lower(), text.lower() if text.lower() in CALL_ROLES else text), as_text(name or "")
