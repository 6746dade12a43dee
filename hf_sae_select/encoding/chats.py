"""Chats -> turns in one form, and turns -> plain text. No torch, no tokenizer.

A turn has the form that chat templates of transformers read: `role` and `content`, both strings, and where it has them
`reasoning_content`, `tool_calls`, `name` and `tool_call_id`. All further fields of a turn stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .blocks import (
    REASONING_TYPES,
    Parts,
    as_text,
    call_text,
    is_call,
    is_list,
    is_result,
    joined,
    parsed,
    result_text,
    without_nulls,
)

Turn = dict[str, Any]

ROLE_KEYS = ("role", "from", "author", "speaker", "sender")
CONTENT_KEYS = ("content", "value", "text", "parts", "message", "utterance", "body", "system_prompt")
REASONING_KEYS = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "thoughts",
    "thought",
    "tool_plan",
    "reasoning_details",
)
CALLS_KEYS = ("tool_calls", "function_call", "toolCalls")
OUTPUT_KEYS = ("output", "result", "observation", "response")  # of a turn without content
WORD_KEYS = (*CONTENT_KEYS, *REASONING_KEYS, *CALLS_KEYS, "refusal", "audio")
# Names of columns that hold chats. A dict that wraps a chat has one of these keys too.
CHAT_NAMES = (
    *("messages", "conversations", "conversation", "dialog", "dialogue", "dialogs", "chat", "turns"),
    *("chat_messages", "trajectory", "contents"),
)
CALL_ROLES = ("function_call", "tool_call", "tool_calls", "function-call", "tool-call")
ROLES = {
    name: role
    for role, names in {
        "user": "user human prompter usr humanmessage humanmessagechunk",
        "assistant": "assistant gpt bot model chatbot chatgpt ai llm aimessage aimessagechunk bing bard claude gemini "
        "gpt4 gpt-4",
        "system": "system sys system_prompt system_message systemmessage system_instruction systeminstruction",
        "developer": "developer",
        "tool": "tool function observation ipython tool_response tool_result tool_output function_response "
        "function_result function_output toolmessage functionmessage environment function-response tool-response",
    }.items()
    for name in names.split()
}
"""Names of roles, in lower case -> the usual names."""
BACKGROUND = ("context", "passage", "article", "document", "story", "schema")
ASKING = ("instruction", "prompt", "question", "problem", "query", "input", "inputs", *BACKGROUND)
ANSWERING = (
    "output outputs response responses completion completions answer answers chosen chosen_response target targets "
    "solution ground_truth"
).split()
SIDES = {name: role for name, role in ROLES.items() if role in ("user", "assistant", "system")}
SIDES |= dict.fromkeys(ASKING, "user") | dict.fromkeys(ANSWERING, "assistant")
"""Lower-case names of columns, and of the keys of a pair such as `{"question": ..., "answer": ...}` -> their role."""


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


def names_turn(keys: Any) -> bool:
    """Tell whether a dict with these keys is a turn, or a pair of turns by their roles."""
    return names_speaker(keys) or _is_pair(keys)


def names_speaker(keys: Any) -> bool:
    """Tell whether a dict with these keys says who speaks, and has words."""
    has_words = any(key in keys for key in WORD_KEYS)
    if {"type", "data"} <= set(keys) or {"id", "kwargs"} <= set(keys):  # LangChain's
        return True
    return (has_words and any(key in keys for key in ROLE_KEYS)) or _is_pair(set(ROLES).intersection(map(str, keys)))


def _is_pair(keys: Any) -> bool:
    roles = [SIDES.get(str(key).lower()) for key in keys]
    return "user" in roles and "assistant" in roles


def is_chat(value: Any) -> bool:
    """Tell whether a value is a chat for sure: all its items are turns with known roles, or items of a log.

    A list of entities, `[{"type": "PERSON", "value": "Ann"}]`, is none.
    """
    if isinstance(value, Mapping):
        if isinstance(tree := value.get("mapping"), Mapping):
            return any(isinstance(node, Mapping) and "message" in node for node in tree.values())
        wrapped = _wrapped(value)
        return is_chat(wrapped) if wrapped is not None else _is_dict_of_lists(value) or _is_sure_turn(value)
    turns = [turn for turn in value if turn is not None] if is_list(value) else []
    items = [parsed(turn) if isinstance(turn, str) else turn for turn in turns]
    return bool(items) and all(isinstance(turn, Mapping) and _is_sure_turn(turn) for turn in items)


def _is_sure_turn(turn: Mapping[str, Any]) -> bool:
    kind = str(turn.get("type") or "")
    role = next((turn[key] for key in ROLE_KEYS if turn.get(key) is not None), kind)
    role = role.get("role") if isinstance(role, Mapping) else role
    if isinstance(turn.get("message"), Mapping):
        return _is_sure_turn(turn["message"])
    is_item = is_call(turn, kind) or is_result(turn, kind) or kind in REASONING_TYPES
    if is_item or set(turn) in ({"role", "content"}, {"from", "value"}):
        return True
    if isinstance(role, str) and role.lower() in (*ROLES, *CALL_ROLES):
        return any(key in turn for key in (*WORD_KEYS, "data", "kwargs"))
    return _is_pair(set(ROLES).intersection(turn)) or ("lc" in turn and "kwargs" in turn)


def _turns(chat: Any) -> Iterator[Turn]:
    if chat is None:
        return
    if isinstance(chat, str):
        inner = parsed(chat)
        if inner is not None and (not inner or is_chat(inner)):
            yield from _turns(inner)
        else:
            yield {"role": "user", "content": chat}
    elif isinstance(chat, Mapping):
        yield from _turns_of_dict(chat)
    elif is_list(chat):
        for i, turn in enumerate(chat):
            if isinstance(turn, str) and not is_chat([turn]):  # of strings, the speakers alternate
                yield {"role": ("user", "assistant")[i % 2], "content": turn}
            else:
                yield from _turns(turn)
    else:
        raise ValueError(f"a chat is a list of turns, and this is {as_text(chat)[:60]!r}")


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
        if "system" in values:
            yield from _turn({"role": "system", "content": values["system"]})
        yield from _turns(wrapped)
    elif _is_dict_of_lists(values):
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
            if role := SIDES.get(key.lower()):
                yield from _turn({"role": role, "content": content})
        return
    others = [value for key, value in values.items() if key not in (*ROLE_KEYS, "name")]
    if not any(key in keys for key in (*WORD_KEYS, "type")) and any(isinstance(v, str | list | dict) for v in others):
        raise ValueError(
            f"a turn with the keys {', '.join(keys)}: its words must be in one of {', '.join(CONTENT_KEYS)}"
        )
    yield from _turn(values)


def _is_dict_of_lists(chat: Mapping[str, Any]) -> bool:
    roles = [chat[key] for key in ROLE_KEYS if chat.get(key) is not None]
    if roles:
        return all(map(is_list, roles))
    values = [value for value in chat.values() if value is not None]
    has_words = _is_pair(chat) or any(key in chat for key in CONTENT_KEYS)
    return bool(values) and all(map(is_list, values)) and has_words


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
    kind = str(raw.get("type") or "")
    is_item = kind.lower() not in ROLES or is_call(raw, kind) or is_result(raw, kind)
    if "type" in raw and is_item and not any(key in raw for key in ROLE_KEYS):
        raw = {"role": "assistant", "content": [raw]}  # an item of OpenAI's Responses
    role, name = _role_and_name(raw)
    if isinstance(more := raw.get("additional_kwargs"), Mapping):  # LangChain's
        raw = {**more, **raw}
    content = next((raw[key] for key in (*CONTENT_KEYS, *OUTPUT_KEYS) if raw.get(key) not in (None, "")), None)
    parts = Parts.of(content)
    if role == "tool" and not parts.results:
        parts = Parts(texts=[result_text(content)])
    parts.add([{"type": key, key: raw.get(key)} for key in ("refusal", "audio")])
    for key in REASONING_KEYS:
        parts.reasoning += Parts.of(raw.get(key)).words()
    for key in CALLS_KEYS:
        parts.add_calls(raw.get(key))
    if role in CALL_ROLES:
        role, texts, parts.texts = "assistant", parts.texts, []
        parts.add_calls(joined(texts))
    turn: Turn = {"role": role, "content": joined(parts.texts)}
    turn |= {"reasoning_content": text} if (text := joined(dict.fromkeys(parts.reasoning))) else {}
    turn |= {"tool_calls": parts.calls} if parts.calls else {}
    turn |= {"name": name} if name else {}
    yield from parts.results
    used = (*ROLE_KEYS, "name", *WORD_KEYS, *OUTPUT_KEYS, "additional_kwargs")
    if has_words(turn) or not parts.results:
        yield turn | {key: without_nulls(value) for key, value in raw.items() if key not in used}
    yield from parts.answers


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
