"""Content of a turn -> its words: strings, and the content blocks of OpenAI, Anthropic, Gemini and ChatGPT's exports.

A block is a dict. It holds text, reasoning, a call of a tool, the result of a call, or media. Upstream formats:
Chat Completions and Responses (platform.openai.com/docs), Messages (docs.anthropic.com), `Content.parts`
(ai.google.dev), and the `conversations.json` of a ChatGPT export.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

TEXT_KEYS = ("content", "output", "response", "result")  # of the result of a call
ARGUMENT_KEYS = ("arguments", "args", "input", "parameters")  # of a call
ID_KEYS = ("id", "call_id", "tool_call_id", "tool_use_id")
CALL_KEYS = ("function", "functionCall", "function_call", "custom")  # blocks that wrap a call
RESULT_KEYS = ("functionResponse", "function_response")
CALL_TYPES = ("tool_use", "server_tool_use", "mcp_tool_use", "tool_call", "function_call", "custom_tool_call")
RESULT_TYPES = ("tool_result", "mcp_tool_result", "tool_response", "function_call_output", "custom_tool_call_output")
REASONING_TYPES = ("thinking", "reasoning", "reasoning_text", "thoughts", "reasoning_recap")
# Keys of a block that hold no words: its kind, ids, signatures, addresses, and media.
NO_WORDS = frozenset(
    "type content_type id call_id tool_call_id tool_use_id signature thought_signature thoughtSignature thought "
    "encrypted_content cache_control citations annotations logprobs index status is_error url image image_url "
    "images input_audio video video_url file file_id file_url file_data fileData inline_data inlineData bytes path "
    "media_type mime_type mimeType asset_pointer size_bytes width height fovea metadata detail".split()
)


@dataclass
class Parts:
    """Hold what the content of one turn says."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Calls in the form that chat templates read, see `call_of`."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """Turns of the role `tool`."""

    @classmethod
    def of(cls, content: Any) -> Parts:
        """Read the content of a turn: a string, a number, a block, or a list of these."""
        parts = cls()
        parts.add(content)
        return parts

    def add(self, content: Any) -> None:
        """Add the words of a content, in reading order.

        Raises:
            ValueError: it holds bytes that are no UTF-8 text, or an object that is not of JSON.
        """
        if content is None:
            return
        if isinstance(content, Mapping):
            self._add_block({key: value for key, value in content.items() if value is not None})
        elif is_list(content):
            for item in content:
                self.add(item)
        else:
            self.texts.append(as_text(content))

    def _add_block(self, block: dict[str, Any]) -> None:
        kind = block.get("type") or block.get("content_type")
        if kind in RESULT_TYPES or any(key in block for key in RESULT_KEYS):
            self.results.append(_result_of(block))
        elif (kind in CALL_TYPES or any(key in block for key in CALL_KEYS)) and (call := call_of(block)):
            self.calls.append(call)
        elif kind in REASONING_TYPES or block.get("thought") is True:
            thoughts = Parts()
            for key, value in block.items():
                thoughts.add_value(key, value)
            self.reasoning += thoughts.words()
        else:
            for key, value in block.items():
                self.add_value(key, value)

    def add_value(self, key: str, value: Any) -> None:
        """Add the words of one key of a block, if it may have any."""
        if key == "source" and isinstance(value, Mapping):  # of a document
            value = value.get("content", value.get("data") if value.get("type") == "text" else None)
        elif key in ("audio", "input_audio") and isinstance(value, Mapping):
            value = value.get("transcript")
        elif key in NO_WORDS or (key == "data" and not isinstance(value, Mapping | list)):
            return
        self.add(value)

    def add_calls(self, calls: Any) -> None:
        """Add a call, a list of calls, or JSON text of either; what is no call counts as text."""
        value = parsed(calls) if isinstance(calls, str) else calls
        for item in value if is_list(value) else [calls if value is None else value]:
            if call := call_of(parsed(item) if isinstance(item, str) else item):
                self.calls.append(call)
            else:
                self.add(item)

    def words(self) -> list[str]:
        """Return all words as plain text: reasoning, text, calls, and results of calls."""
        results = [turn["content"] for turn in self.results]
        return [*self.reasoning, *self.texts, *map(call_text, self.calls), *results]


def call_of(block: Any) -> dict[str, Any] | None:
    """Return the call of a tool as chat templates read it; None if the block names no tool and has no arguments.

    Example: ``{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}``. Arguments that are a string
    stay one.
    """
    if not isinstance(block, Mapping):
        return None
    inner = next((block[key] for key in CALL_KEYS if isinstance(block.get(key), Mapping)), block)
    name = inner.get("name") or block.get("name")
    arguments = next((inner[key] for key in ARGUMENT_KEYS if inner.get(key) is not None), None)
    if name is None and arguments is None:
        return None
    call: dict[str, Any] = {"type": "function"}
    if identifier := _first(block, ID_KEYS):
        call["id"] = as_text(identifier)
    function = {"name": as_text(name or ""), "arguments": {} if arguments is None else without_nulls(arguments)}
    return call | {"function": function}


def _result_of(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a call as a turn of the role `tool`."""
    inner = next((block[key] for key in RESULT_KEYS if isinstance(block.get(key), Mapping)), block)
    turn: dict[str, Any] = {"role": "tool", "content": result_text(_first(inner, TEXT_KEYS))}
    if identifier := _first(inner, ("tool_use_id", "call_id", "tool_call_id", "id")):
        turn["tool_call_id"] = as_text(identifier)
    if name := inner.get("name"):
        turn["name"] = as_text(name)
    return turn


def parsed(text: str) -> Any:
    """Return the list or dict that a text is the JSON of; None for any other text."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def result_text(content: Any) -> str:
    """Return the words of what a tool answered: its blocks' text, or JSON for any other object."""
    if isinstance(content, Mapping) and "type" not in content:
        return to_json(content)
    if is_list(content) and any(isinstance(item, Mapping) and "type" not in item for item in content):
        return to_json(list(content))
    return joined(Parts.of(content).words())


def call_text(call: Mapping[str, Any]) -> str:
    """Write a call as its name and its arguments, such as ``add {"a": 1}``."""
    function = call["function"]
    arguments = function["arguments"]
    written = arguments if isinstance(arguments, str) else to_json(arguments) if arguments else ""
    return f"{function['name']} {written}".strip()


def joined(texts: Iterable[str]) -> str:
    """Join the texts that have words by newlines."""
    return "\n".join(text for text in texts if text.strip())


def to_json(value: Any) -> str:
    """Write a value as JSON, its text unescaped where JSON allows it, without keys whose value is null."""
    return json.dumps(without_nulls(value), ensure_ascii=False, default=as_text)


def without_nulls(value: Any) -> Any:
    """Drop the keys whose value is null: Arrow gives all dicts of a column the keys of all others."""
    if isinstance(value, Mapping):
        return {str(key): without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if is_list(value) else value


def as_text(value: Any) -> str:
    """Write a scalar: a string as it is, a number or a date in its usual form, bytes as UTF-8.

    Raises:
        ValueError: bytes are no UTF-8 text, or the value is no scalar.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{len(value)} bytes that are no UTF-8 text") from None
    # numpy's scalars, Decimal, dates and times write themselves; an object with the default repr does not.
    if repr(value) == object.__repr__(value):
        raise ValueError(f"an object of type {type(value).__name__}, which is no text")
    return str(value)


def is_list(value: Any) -> bool:
    """Tell whether a value is a list, as Python, Arrow or numpy have them."""
    return isinstance(value, list | tuple) or type(value).__name__ == "ndarray"


def _first(block: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """Return the first value that is not null."""
    return next((block[key] for key in keys if block.get(key) is not None), None)
