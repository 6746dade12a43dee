"""ChatTemplate: turns -> text by the template of a model's tokenizer, and otherwise where it loses or refuses them."""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from ..features.columns import RowFlags
from .blocks import as_text, call_text, is_list, joined, parsed, without_nulls
from .chats import REASONING_KEYS, Turn, plain_chat, turn_text
from .pretrained import load
from .text import Text

# Some templates write the date of today. A row's text must not depend on the day, so it is always this one: the day
# that Llama's templates fall back to.
DATE = {"d": "26", "-d": "26", "m": "07", "-m": "7", "Y": "2024", "y": "24", "b": "Jul", "B": "July", "a": "Fri"}
DATE |= {"A": "Friday", "H": "12", "I": "12", "M": "00", "S": "00", "p": "PM", "j": "208", "Z": "", "z": ""}
STRFTIME = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('%{code}', '{value}')" for code, value in DATE.items())
    + " }}{%- endmacro -%}"
)
RESERVED_VARIABLES = {
    **dict.fromkeys(("messages", "conversation"), "the turns come from the dataset"),
    "tools": "put the tools of each row into a column `tools`",
    "chat_template": "the template is that of the model's tokenizer",
    **dict.fromkeys(
        ("tokenize", "return_dict", "return_tensors", "return_assistant_tokens_mask", "continue_final_message"),
        "the library reads the template's whole text",
    ),
    **dict.fromkeys(("truncation", "max_length"), "pass `max_length`"),
    "padding": "rows are never padded",
}
PROBE = "nebulosa"  # a word that no template has


@dataclass(frozen=True)
class Fields:
    """What a template reads of a turn."""

    reasoning: str | None
    """Name of the field that it reads for the reasoning."""
    calls: bool
    developer: bool
    json: bool
    """Whether it writes JSON itself, so that arguments must be objects."""

    @classmethod
    @lru_cache
    def of(cls, source: str) -> Fields:
        """Read a template's text."""

        def names(word: str) -> bool:
            return re.search(rf"\.{word}\b|['\"]{word}['\"]", source) is not None

        reasoning = next((key for key in REASONING_KEYS if names(key)), None)
        return cls(reasoning, names("tool_calls"), names("developer"), "tojson" in source)


class ChatTemplate:
    """Render the turns of a chat with the template of a model's tokenizer.

    Fields that the template does not read, such as `tool_calls`, are written into the content, as `plain_chat` does.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            A tokenizer with a chat template.
        options (`dict`, *optional*):
            Variables of the template, such as `enable_thinking`.

    Example: ``template([{"role": "user", "content": "Hi"}])`` gives ``Text("<|im_start|>user\\nHi<|im_end|>\\n")``.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any] | None = None) -> None:
        self.tokenizer, self.options = tokenizer, dict(options or {})
        self.refusal: str | None = None
        """What the template said when it first refused a chat."""
        probe = [{"role": "user", "content": PROBE}]
        self._reads_blocks = False
        self._reads_blocks = PROBE not in (self._render(probe, {}) or PROBE)
        self.refusal = None

    @classmethod
    def of(cls, name: str, revision: str | None, options: Mapping[str, Any] | None = None) -> ChatTemplate | None:
        """Return the chat template of a model; None for a model without one."""
        tokenizer = load("AutoTokenizer", name, revision)
        return cls(tokenizer, options) if tokenizer.chat_template else None

    @property
    def source(self) -> str:
        """The template's text; of several templates, all of them."""
        templates = self.tokenizer.chat_template
        return "\n".join(map(str, templates.values())) if isinstance(templates, Mapping) else str(templates)

    @property
    def digest(self) -> str:
        """SHA-256 of the template's text."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def __call__(self, turns: Sequence[Turn], tools: Any = None, chat_template_kwargs: Any = None) -> Text:
        """Render a chat; `tools` and `chat_template_kwargs` are what these columns hold in its row.

        Where the template refuses the turns or leaves out words of them, it gets simpler ones: all words of a turn in
        its content, results of tools as turns of the user; then also the system's words in the user's first turn, and
        users and assistants in alternation. A template that refuses these too is not used: `plain_chat` is.

        Raises:
            ValueError: `chat_template_kwargs` has a name that is reserved.
        """
        options = {"tools": _tools(tools), **self.options, **_variables(chat_template_kwargs)}
        flags, incomplete = RowFlags(0), list[tuple[int, str]]()
        for simplify in (list, _folded, _alternating):
            text = self._render(simplify(turns), options)
            missing = 0 if text is None else missing_words(text, turns)
            if text is not None and not missing:
                return Text(text, flags)
            if simplify is list:
                flags = RowFlags.REFUSED if text is None else RowFlags.LEFT_OUT
                options = options if text is not None else options | {"tools": None}  # they may be what it refuses
            incomplete += [] if text is None else [(missing, text)]
        return Text(min(incomplete, key=itemgetter(0))[1] if incomplete else plain_chat(turns), flags)

    def _render(self, turns: Sequence[Turn], options: Mapping[str, Any]) -> str | None:
        """Return what the template writes; None where it refuses the turns."""
        try:
            source = self.tokenizer.get_chat_template(tools=options.get("tools"))
            fields = Fields.of(source)
            fitted = [_fitted(turn, fields) for turn in turns]
            if self._reads_blocks:
                fitted = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in fitted]
            source = STRFTIME + source if "strftime_now" in source else source
            return str(self.tokenizer.apply_chat_template(fitted, chat_template=source, tokenize=False, **options))
        except Exception as error:  # a template may raise anything
            self.refusal = self.refusal or f"{type(error).__name__}: {error}".partition("\n")[0]
            return None


def _fitted(turn: Turn, fields: Fields) -> Turn:
    """Return a turn with the fields that the template reads, and the words of all others in its content."""
    fitted = {key: value for key, value in turn.items() if key not in ("reasoning_content", "tool_calls")}
    reasoning, calls = turn.get("reasoning_content", ""), turn.get("tool_calls", [])
    if reasoning and fields.reasoning:
        fitted[fields.reasoning], reasoning = reasoning, ""
    if calls and fields.calls:
        fitted["tool_calls"], calls = [_with_arguments(call, as_dict=fields.json) for call in calls], []
    if reasoning or calls:
        fitted["content"] = joined([reasoning, turn["content"], *map(call_text, calls)])
    if turn["role"] == "developer" and not fields.developer:
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


def _folded(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with all words in their contents, and the results of tools as turns of the user."""
    roles = {"tool": "user", "developer": "system"}
    return [{"role": roles.get(turn["role"], turn["role"]), "content": turn_text(turn)} for turn in turns]


def _alternating(turns: Sequence[Turn]) -> list[Turn]:
    """Return the words of users, which begin, and of assistants in turn; those of the system are a user's."""
    chat: list[Turn] = [{"role": "user", "content": ""}]
    for turn in _folded(turns):
        role = "assistant" if turn["role"] == "assistant" else "user"
        if role == chat[-1]["role"]:
            texts = (text for text in (chat[-1]["content"], turn["content"]) if text.strip())
            chat[-1] = {"role": role, "content": "\n\n".join(texts)}
        else:
            chat.append({"role": role, "content": turn["content"]})
    return chat


def _tools(tools: Any) -> Any:
    """Return the tools of a row as a template reads them; the column may hold JSON text of all tools or of each."""
    values = parsed(tools) if isinstance(tools, str) else tools
    if isinstance(values, Mapping):
        values = [values]
    if not is_list(values):
        return None
    return [
        without_nulls((parsed(tool) or tool) if isinstance(tool, str) else tool) for tool in values if tool
    ] or None


def check_variables(turns: Sequence[Turn], tools: Any = None, chat_template_kwargs: Any = None) -> Text:
    """Check what the columns beside a chat hold, as a template that writes nothing.

    Raises:
        ValueError: `chat_template_kwargs` has a name that is reserved.
    """
    _variables(chat_template_kwargs)
    return Text("")


def _variables(values: Any) -> dict[str, Any]:
    """Return the variables that the column `chat_template_kwargs` holds in a row.

    Raises:
        ValueError: A name is reserved.
    """
    values = parsed(values) if isinstance(values, str) else values
    variables: dict[str, Any] = without_nulls(values) if isinstance(values, Mapping) else {}
    for name in variables:
        if name in RESERVED_VARIABLES:
            raise ValueError(f"`{name}` in the column `chat_template_kwargs`: {RESERVED_VARIABLES[name]}")
    return variables


def missing_words(text: str, turns: Sequence[Turn]) -> int:
    """Count the words of turns that a rendered text lacks.

    A word that is said twice must be in the text twice. White space, the order and the escapes of JSON and HTML do not
    count.
    """
    place = 0
    for said in (said for turn in turns for said in _said(turn)):
        place = text.find(said, place)
        if place < 0:
            break
        place += len(said)
    else:
        return 0  # the usual case: all is written as it is, in order
    needed = Counter(word for turn in turns for said in _said(turn) for word in _words(said))
    return (needed - Counter(_words(text))).total()


def _words(text: str) -> list[str]:
    """Return the words of a text, with the escapes of JSON and HTML undone."""
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    for escaped in ("\\n", "\\t", "\\r", '\\"', "\\/"):
        text = text.replace(escaped, " ")
    return re.findall(r"\w+", html.unescape(text))


def _said(turn: Turn) -> Iterator[str]:
    """Yield the words of a turn: reasoning, content, and of a call its name and the strings of its arguments."""
    yield from filter(None, (turn.get("reasoning_content", "").strip(), turn["content"].strip()))
    for call in turn.get("tool_calls", ()):
        yield from _strings(call["function"])


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str) and (values := parsed(value)) is not None:
        value = values
    if isinstance(value, Mapping):
        value = list(value.values())
    if is_list(value):
        for item in value:
            yield from _strings(item)
    elif value is not None and (text := as_text(value)):
        yield text
