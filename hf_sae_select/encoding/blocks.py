"""Content of a turn -> its words: strings, and the content blocks of the makers of models.

A block is a dict. It holds text, reasoning, a call of a tool, the result of a call, or media. Known are those of
OpenAI (Chat Completions, Responses), Anthropic (Messages), Gemini (`Content.parts`), Bedrock (Converse), the Vercel AI
SDK and the `conversations.json` of a ChatGPT export. Of these, the keys with words are read, and ids, addresses and
media are not. Any other dict is written as JSON, so that none of its words is lost.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RESULT_KEYS = ("content", "output", "outputs", "response", "result", "results", "text")  # of what a tool answered
ARGUMENT_KEYS = ("arguments", "args", "input", "parameters", "action", "code", "queries")  # of a call
NAME_KEYS = ("name", "toolName", "tool_name", "tool")
ID_KEYS = ("call_id", "tool_call_id", "tool_use_id", "toolCallId", "toolUseId", "id")
# Blocks that hold a call or a result under one key.
CALL_KEYS = ("function", "functionCall", "function_call", "custom", "toolUse")
ANSWER_KEYS = ("functionResponse", "function_response", "toolResult")
CALL_TYPES = ("tool_use", "server_tool_use", "mcp_tool_use", "tool-call")  # and all that end in `_call`
# And all that end in `_tool_result`, `_tool_response` or `_call_output`.
RESULT_TYPES = ("tool_result", "tool_response", "tool-result", "execution_output")
REASONING_TYPES = ("thinking", "reasoning", "reasoning_text", "thoughts", "reasoning_recap", "redacted_thinking")
# Type of a block -> the keys that hold its words.
TEXTS = {
    **dict.fromkeys(("input_text", "output_text", "summary_text", "audio_transcription"), ("text",)),
    "text": ("text", "parts", "content", "value"),
    "code": ("text", "code"),
    **dict.fromkeys(("thinking", "reasoning", "reasoning_text"), ("thinking", "summary", "content", "text", "value")),
    **dict.fromkeys(("thoughts", "reasoning_recap"), ("thoughts", "summary", "content")),
    **dict.fromkeys(("multimodal_text", "message"), ("parts", "content")),
    "refusal": ("refusal",),
    "document": ("title", "context", "source", "document"),
    "search_result": ("title", "content"),
    "tether_quote": ("title", "text"),
    "user_editable_context": ("user_profile", "user_instructions"),
    **dict.fromkeys(("redacted_thinking", "image", "image_url", "input_image", "image_file", "file"), ()),
    **dict.fromkeys(("image_asset_pointer", "audio_asset_pointer", "video", "video_url", "input_video"), ()),
    **dict.fromkeys(("input_file", "container_upload", "resource_link"), ()),
    **dict.fromkeys(("audio", "input_audio", "audio_url"), ("transcript", "audio", "input_audio")),
}
# Blocks without a type: the key that tells what they are -> the keys that hold their words.
UNTYPED = {
    "parts": ("parts",),
    "text": ("text",),
    "summary": ("summary", "content"),
    "executableCode": ("executableCode",),
    "codeExecutionResult": ("codeExecutionResult",),
    "reasoningContent": ("reasoningContent",),
    "reasoningText": ("reasoningText",),
    "json": ("json",),
    "transcript": ("transcript",),
    **dict.fromkeys(("inlineData", "inline_data", "fileData", "file_data", "image", "video", "bytes"), ()),
}
# Keys that media are under: a block of a type of media without any of them is an object like any other.
MEDIA_KEYS = {"image", "image_url", "image_file", "source", "data", "url", "bytes", "path", "asset_pointer", "file_id"}
MEDIA_KEYS |= {"file", "file_data", "file_url", "filename", "video", "video_url", "input_video", "uri", "mimeType"}
# Keys without words that such blocks may have too.
BESIDE_UNTYPED = {"thought", "thoughtSignature", "thought_signature", "annotations", "cache_control", "signature"}
BESIDE_UNTYPED |= {
    "mime_type",
    "mimeType",
    "format",
    "asset_pointer",
    "source_analysis_msg_id",
    "finished",
    "chunks",
}

# A string as Python prints it, which stays, or what numpy prints between two dicts: no comma.
BETWEEN_DICTS = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|\}\s+\{""")


@dataclass
class Parts:
    """Hold what the content of one turn says."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Calls in the form that chat templates read, see `call_of`."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """Turns of the role `tool` that come before the turn."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """Turns of the role `tool` that come after it: blocks of calls may hold what the tool answered."""

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
        kind = str(block.get("type") or block.get("content_type") or "")
        if is_result(block, kind):
            self.results.append(_result_of(block))
        elif is_call(block, kind) and (call := call_of(block)):
            self.calls.append(call)
            answer = {key: block[key] for key in ("output", "outputs", "result", "results") if key in block}
            self.answers += [_result_of(answer | {"name": call["function"]["name"]})] if answer else []
        elif (keys := word_keys(block, kind)) is None:
            self.texts += [to_json(block)] if block else []
        elif kind in REASONING_TYPES or block.get("thought") is True or keys[:1] == ("reasoningContent",):
            thoughts = Parts.of([_words_at(block, key) for key in keys])
            self.reasoning += thoughts.words()
        else:
            for key in keys:
                self.add(_words_at(block, key))

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
        results, answers = ([turn["content"] for turn in turns] for turns in (self.results, self.answers))
        return [*results, *self.reasoning, *self.texts, *map(call_text, self.calls), *answers]


def is_call(block: Mapping[str, Any], kind: str) -> bool:
    """Tell whether a block is a call of a tool."""
    wraps_call = any(isinstance(block.get(key), Mapping) for key in CALL_KEYS)
    return kind in CALL_TYPES or kind.endswith("_call") or wraps_call


def is_result(block: Mapping[str, Any], kind: str) -> bool:
    """Tell whether a block is what a tool answered."""
    ends = kind.endswith(("_tool_result", "_call_output", "_tool_response"))
    return kind in RESULT_TYPES or ends or any(isinstance(block.get(key), Mapping) for key in ANSWER_KEYS)


def word_keys(block: Mapping[str, Any], kind: str) -> tuple[str, ...] | None:
    """Return the keys of a known block that hold its words; None for another dict."""
    if kind:
        keys = TEXTS.get(kind)
        known = MEDIA_KEYS if keys == () else keys or ()
        return keys if set(block) <= {"type", "content_type"} or set(known).intersection(block) else None
    key = next((key for key in UNTYPED if key in block), None)
    if key is None or not BESIDE_UNTYPED.issuperset({*block} - {key, *UNTYPED[key]}):
        return None
    return None if UNTYPED[key] == () and isinstance(block[key], str) else UNTYPED[key]


def _words_at(block: Mapping[str, Any], key: str) -> Any:
    """Return what a key of a known block holds, as content."""
    value = block.get(key)
    if not isinstance(value, Mapping):
        return value
    if key in ("source", "document"):  # `{"type": "base64", "data": ...}` has no words
        return value.get("content", value.get("data") if value.get("type", "text") == "text" else None)
    if key in ("audio", "input_audio"):
        return value.get("transcript")
    if key in ("executableCode", "codeExecutionResult"):
        return value.get("code", value.get("output"))
    if key == "text":  # of OpenAI's Assistants
        return value.get("value", value)
    return to_json(value) if key == "json" else value


def call_of(block: Any) -> dict[str, Any] | None:
    """Return the call of a tool as chat templates read it; None if the block names no tool and has no arguments.

    Example: ``{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}``. Arguments that are a string
    stay one.
    """
    if not isinstance(block, Mapping):
        return None
    inner = next((block[key] for key in CALL_KEYS if isinstance(block.get(key), Mapping)), block)
    kind = str(block.get("type") or "")
    name = _first(inner, NAME_KEYS) or _first(block, NAME_KEYS)
    if name is None and isinstance(block.get("function"), str):
        name = block["function"]
    arguments = _first(inner, ARGUMENT_KEYS)
    if name is None and arguments is None:
        return None
    if name is None and kind.endswith("_call"):
        name = kind.removesuffix("_call")
    call: dict[str, Any] = {"type": "function"}
    if identifier := _first(block, ID_KEYS):
        call["id"] = as_text(identifier)
    function = {"name": as_text(name or ""), "arguments": {} if arguments is None else without_nulls(arguments)}
    return call | {"function": function}


def _result_of(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a call as a turn of the role `tool`."""
    inner = next((block[key] for key in ANSWER_KEYS if isinstance(block.get(key), Mapping)), block)
    content = _first(inner, RESULT_KEYS)
    if content is None:
        known = (*ID_KEYS, *NAME_KEYS, "type", "content_type", "status", "is_error", "isError")
        content = {key: value for key, value in inner.items() if key not in known} or None
    turn: dict[str, Any] = {"role": "tool", "content": result_text(content)}
    if identifier := _first(inner, ID_KEYS):
        turn["tool_call_id"] = as_text(identifier)
    if name := _first(inner, NAME_KEYS):
        turn["name"] = as_text(name)
    return turn


def result_text(content: Any) -> str:
    """Return the words of what a tool answered: its blocks' text, or JSON for any other object."""
    if is_list(content) and not all(_is_block(item) for item in content):
        return to_json(list(content))
    return to_json(content) if isinstance(content, Mapping) and not _is_block(content) else _plain(content)


def _plain(content: Any) -> str:
    return joined(Parts.of(content).words())


def _is_block(item: Any) -> bool:
    """Tell whether an item of a list is text, or a block that is known."""
    if not isinstance(item, Mapping):
        return not is_list(item)
    kind = str(item.get("type") or item.get("content_type") or "")
    return is_call(item, kind) or is_result(item, kind) or word_keys(item, kind) is not None


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


def parsed(text: str) -> Any:
    """Return the list or dict that a text is the JSON of, or as Python prints it; None for any other text.

    A chat in a CSV file is as Python prints it: `[{'role': 'user', ...}]`.
    """
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if not re.match(r"\s*\[?\s*\{\s*'", text):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            value = ast.literal_eval(BETWEEN_DICTS.sub(lambda match: match[1] or "}, {", text.strip()))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, list | dict) else None


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
