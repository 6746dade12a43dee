"""ChatTemplate: turns -> text by the template of a model's tokenizer, and otherwise where it refuses them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .blocks import as_text, call_text, is_list, joined, parsed, without_nulls
from .chats import REASONING_KEYS, Turn, plain_chat
from .pretrained import load
from .text import Outcome, Text

# Some templates write the date of today. A row's text must not depend on the day, so it is always this one: the day
# that Llama's templates fall back to.
DATE = {"d": "26", "m": "07", "Y": "2024", "y": "24", "b": "Jul", "B": "July", "a": "Fri", "A": "Friday", "H": "12"}
STRFTIME = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('%{code}', '{value}')" for code, value in DATE.items())
    + " }}{%- endmacro -%}"
)


@dataclass(frozen=True)
class ChatTemplate:
    """Render the turns of a chat with the template of a model's tokenizer.

    Fields that the template does not name, such as `tool_calls`, are written into the content, as `plain_chat` does.

    Example: ``template([{"role": "user", "content": "Hi"}])`` gives ``Text("<|im_start|>user\\nHi<|im_end|>\\n")``.
    """

    tokenizer: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the template, such as `enable_thinking`."""

    @classmethod
    def of(cls, name: str, revision: str | None, options: Mapping[str, Any] | None = None) -> ChatTemplate | None:
        """Return the chat template of a model; None for a model without one."""
        tokenizer = load("AutoTokenizer", name, revision)
        return cls(tokenizer, dict(options or {})) if tokenizer.chat_template else None

    @cached_property
    def source(self) -> str:
        """The template's text; of several templates, the one that is used with tools and then the others."""
        templates = self.tokenizer.chat_template
        return "\n".join(map(str, templates.values())) if isinstance(templates, Mapping) else str(templates)

    @property
    def digest(self) -> str:
        """SHA-256 of the template's text."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def __call__(self, turns: Sequence[Turn], tools: Any = None, chat_template_kwargs: Any = None) -> Text:
        """Render a chat; `tools` and `chat_template_kwargs` are what these columns hold in its row.

        A chat that the template refuses is rendered with its system turns joined to the first turn of the user and
        with turns of one role in succession joined. If the template refuses this too, `plain_chat` renders the chat.
        """
        fitted = [self._fit(turn) for turn in turns]
        options: dict[str, Any] = {"tools": _tools(tools), **self.options}
        own = parsed(chat_template_kwargs) if isinstance(chat_template_kwargs, str) else chat_template_kwargs
        options |= without_nulls(own) if isinstance(own, Mapping) else {}
        for outcome, attempt in ((Outcome.WRITTEN, fitted), (Outcome.REFUSED, _simplified(fitted))):
            try:
                source = self.tokenizer.get_chat_template(tools=options["tools"])
                source = STRFTIME + source if "strftime_now" in source else source
                text = str(
                    self.tokenizer.apply_chat_template(attempt, chat_template=source, tokenize=False, **options)
                )
            except Exception:  # a template may raise anything
                continue
            return Text(text, outcome if has_all_words(text, turns) else outcome | Outcome.LEFT_OUT)
        return Text(plain_chat(turns), Outcome.REFUSED)

    def _names(self, word: str) -> bool:
        return re.search(rf"\b{word}\b", self.source) is not None

    @cached_property
    def _fields(self) -> tuple[str | None, bool, bool, bool]:
        """What the template names: a field for reasoning, calls, the role developer; and whether it writes JSON."""
        reasoning = next((key for key in REASONING_KEYS if self._names(key)), None)
        return reasoning, self._names("tool_calls"), self._names("developer"), "tojson" in self.source

    def _fit(self, turn: Turn) -> Turn:
        """Return a turn with the fields that the template names, and the words of all others in its content."""
        reasoning_key, has_calls, has_developer, writes_json = self._fields
        fitted = {key: value for key, value in turn.items() if key not in ("reasoning_content", "tool_calls")}
        reasoning, calls, before, after = turn.get("reasoning_content", ""), turn.get("tool_calls", []), "", []
        if reasoning_key and reasoning:
            fitted[reasoning_key] = reasoning
        else:
            before = reasoning
        if has_calls and calls:
            fitted["tool_calls"] = [_with_arguments(call, as_dict=writes_json) for call in calls]
        else:
            after = [call_text(call) for call in calls]
        if before or after:
            fitted["content"] = joined([before, turn["content"], *after])
        if turn["role"] == "developer" and not has_developer:
            fitted["role"] = "system"
        return fitted


def _with_arguments(call: Mapping[str, Any], as_dict: bool) -> dict[str, Any]:
    """Return a call whose arguments are a dict, for a template that writes JSON itself, or else JSON text."""
    function = call["function"]
    arguments = function["arguments"]
    if as_dict and isinstance(arguments, str):
        values = parsed(arguments)
        arguments = values if isinstance(values, dict) else arguments
    elif not as_dict:
        arguments = call_text({"function": {"name": "", "arguments": arguments}})
    return {**call, "function": {**function, "arguments": arguments}}


def _simplified(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with the system's words in the user's first turn, and successive turns of one role joined."""
    system = [turn["content"] for turn in turns if turn["role"] in ("system", "developer")]
    rest = [turn for turn in turns if turn["role"] not in ("system", "developer")]
    first = next((i for i, turn in enumerate(rest) if turn["role"] == "user"), 0)
    rest.insert(first, {"role": "user", "content": _paragraphs(system)})
    chat: list[Turn] = []
    for turn in rest:
        if chat and chat[-1]["role"] == turn["role"] in ("user", "assistant") and "tool_calls" not in chat[-1]:
            chat[-1] = {**turn, "content": _paragraphs([chat[-1]["content"], turn["content"]])}
        elif turn is not rest[first] or turn["content"]:
            chat.append(turn)
    return chat


def _paragraphs(texts: Sequence[str]) -> str:
    return "\n\n".join(text for text in texts if text.strip())


def _tools(tools: Any) -> list[Any] | None:
    """Return the tools of a row as a template reads them; the column may hold JSON text of all tools or of each."""
    values = parsed(tools) if isinstance(tools, str) else tools
    if isinstance(values, Mapping):
        values = [values]
    if not is_list(values) or not len(values):
        return None
    return [without_nulls(parsed(tool) if isinstance(tool, str) else tool) for tool in values]


def has_all_words(text: str, turns: Sequence[Turn]) -> bool:
    """Tell whether a rendered text has the words of all turns.

    What two turns say must be in the text twice, in any order. A template may change the white space.
    """
    rest = text
    for said in sorted(_sayings(turns), key=len, reverse=True):
        if (place := rest.find(said)) >= 0:
            rest = f"{rest[:place]}\0{rest[place + len(said) :]}"
        elif not all(word in rest for word in said.split()):
            return False
    return True


def _sayings(turns: Sequence[Turn]) -> Iterator[str]:
    """Yield the stretches of words of all turns; of a call, its name and the strings of its arguments."""
    for turn in turns:
        yield from filter(None, (turn["content"].strip(), turn.get("reasoning_content", "").strip()))
        for call in turn.get("tool_calls", ()):
            yield from _words_of(call["function"])


def _words_of(value: Any) -> Iterator[str]:
    if isinstance(value, str) and (values := parsed(value)) is not None:
        value = values
    if isinstance(value, Mapping):
        value = list(value.values())
    if is_list(value):
        for item in value:
            yield from _words_of(item)
    elif value is not None:
        yield from as_text(value).replace("\\", " ").replace('"', " ").split()  # both may be escaped in JSON
