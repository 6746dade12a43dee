import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from hf_sae_select.encoding.chat_template import ChatTemplate, has_all_words
from hf_sae_select.encoding.chats import plain_chat, turns_of
from hf_sae_select.encoding.text import Outcome, Text

BARE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
CALLS = (
    "{% if tools %}[{% for t in tools %}{{ t.function.name }}{% endfor %}]{% endif %}{% for m in messages %}"
    "<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}"
)
# Refuses a system, and roles that do not alternate, as the templates of Gemma and Mistral do.
STRICT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
)
KNOWN = "{% for m in messages if m.role in ('user', 'assistant') %}<{{ m.role }}>{{ m.content }}{% endfor %}"
THINKING = (
    "{% for m in messages %}<{{ m.role }}>{% if loop.last and m.reasoning_content %}({{ m.reasoning_content }})"
    "{% endif %}{{ m.content }}{% endfor %}"
)


def template(source, **options):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    tokenizer.chat_template = source
    return ChatTemplate(tokenizer, options)


def turn(role, content, **fields):
    return {"role": role, "content": content, **fields}


def called(arguments):
    return turn(
        "assistant", "", tool_calls=[{"type": "function", "function": {"name": "add", "arguments": arguments}}]
    )


USER, BOT = turn("user", "Hi"), turn("assistant", "Yes")


@pytest.mark.parametrize(
    ("source", "turns", "text", "outcome"),
    [
        (BARE, [USER, BOT], "<user>Hi<assistant>Yes", Outcome.WRITTEN),
        (BARE, [USER, turn("assistant", "")], "<user>Hi<assistant>", Outcome.WRITTEN),
        # Fields that the template does not name are written into the content.
        (BARE, [USER, called({"a": 1})], '<user>Hi<assistant>add {"a": 1}', Outcome.WRITTEN),
        (BARE, [turn("assistant", "b", reasoning_content="a")], "<assistant>a\nb", Outcome.WRITTEN),
        (BARE, [turn("developer", "Be brief."), USER], "<system>Be brief.<user>Hi", Outcome.WRITTEN),
        (BARE + "{# developer #}", [turn("developer", "Be brief.")], "<developer>Be brief.", Outcome.WRITTEN),
        # A template that writes JSON itself gets objects, even where the dataset holds JSON text.
        (CALLS, [called({"a": 1})], '<assistant>add{"a": 1}', Outcome.WRITTEN),
        (CALLS, [called('{"a": 1}')], '<assistant>add{"a": 1}', Outcome.WRITTEN),
        (CALLS, [called("no json")], '<assistant>add"no json"', Outcome.WRITTEN),
        (CALLS.replace(" | tojson", ""), [called({"a": "ä"})], '<assistant>add{"a": "ä"}', Outcome.WRITTEN),
        # What the template refuses is rendered in another way.
        (STRICT, [USER, BOT], "<user>Hi<assistant>Yes", Outcome.WRITTEN),
        (STRICT, [turn("system", "Be brief."), USER, BOT], "<user>Be brief.\n\nHi<assistant>Yes", Outcome.REFUSED),
        (STRICT, [turn("system", "Be brief.")], "<user>Be brief.", Outcome.REFUSED),
        (STRICT, [USER, turn("user", "Ho"), BOT], "<user>Hi\n\nHo<assistant>Yes", Outcome.REFUSED),
        (STRICT, [BOT, USER], "assistant: Yes\nuser: Hi", Outcome.REFUSED),
        (STRICT, [USER, BOT, turn("tool", "3")], "user: Hi\nassistant: Yes\ntool: 3", Outcome.REFUSED),
        ("{{ messages[7].content.nothing }}", [USER], "user: Hi", Outcome.REFUSED),
        ("{% for", [USER], "user: Hi", Outcome.REFUSED),
        # Words that the template leaves out are counted.
        (KNOWN, [USER, turn("tool", "3"), BOT], "<user>Hi<assistant>Yes", Outcome.LEFT_OUT),
        (KNOWN, [USER, turn("tool", ""), BOT], "<user>Hi<assistant>Yes", Outcome.WRITTEN),
        (KNOWN, [USER, turn("tool", "Hi"), BOT], "<user>Hi<assistant>Yes", Outcome.LEFT_OUT),
        (THINKING, [turn("assistant", "b", reasoning_content="a")], "<assistant>(a)b", Outcome.WRITTEN),
        (THINKING, [turn("assistant", "b", reasoning_content="Hm"), USER], "<assistant>b<user>Hi", Outcome.LEFT_OUT),
    ],
)
def test_what_a_template_writes(source, turns, text, outcome):
    assert template(source)(turns) == Text(text, outcome)


TOOL = {"function": {"name": "add"}}


@pytest.mark.parametrize(
    "tools", [[TOOL | {"strict": None}], TOOL, json.dumps([TOOL]), json.dumps(TOOL), [json.dumps(TOOL)]]
)
def test_a_template_gets_the_tools_of_a_row(tools):
    assert template(CALLS)([USER], tools=tools) == Text("[add]<user>Hi")


@pytest.mark.parametrize("tools", [None, [], "", "[]"])
def test_no_tools_are_none(tools):
    assert template("{{ tools is none }}{{ messages[0].content }}")([USER], tools=tools).text == "TrueHi"


def test_a_template_gets_its_variables_and_those_of_the_row():
    source = "{{ style }}{{ messages[0].content }}"
    assert template(source, style="x")([USER]).text == "xHi"
    assert template(source, style="x")([USER], chat_template_kwargs={"style": "y", "other": None}).text == "yHi"
    assert template(source)([USER], chat_template_kwargs='{"style": "y"}').text == "yHi"


def test_the_text_does_not_depend_on_the_day():
    source = (
        "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y, %Y-%m-%d') }}{% endif %} {{ messages[0].content }}"
    )
    assert template(source)([USER]).text == "26 Jul 2024, 2024-07-26 Hi"


@pytest.mark.parametrize(
    ("text", "contents", "expected"),
    [
        ("a b", ["a", "b"], True),
        ("b a", ["a", "b"], True),
        ("a", ["a", "a"], False),
        ("ab", ["ab", "a"], False),
        ("x  y", ["x y"], True),  # white space may change
        ("x", ["x y"], False),
        ("", [""], True),
    ],
)
def test_words_that_are_missing_are_noticed(text, contents, expected):
    assert has_all_words(text, [turn("user", content) for content in contents]) is expected


CHATS = st.lists(
    st.builds(turn, st.sampled_from(["user", "assistant", "system", "tool"]), st.text("ab c\n", max_size=4)),
    max_size=5,
)


@given(CHATS, st.sampled_from([BARE, CALLS, STRICT, KNOWN]))
def test_all_words_are_written_or_counted(chat, source):
    turns = turns_of(chat)
    text, outcome = template(source)(turns) if turns else Text("")
    assert outcome is not Outcome.WRITTEN or has_all_words(text, turns)
    assert has_all_words(plain_chat(turns), turns)
