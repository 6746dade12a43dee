import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from hf_sae_select.encoding.chat_template import ChatTemplate, missing_words
from hf_sae_select.encoding.chats import plain_chat, turns_of
from hf_sae_select.encoding.text import Text
from hf_sae_select.features.columns import RowFlags

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
BLOCKS = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% for c in m.content if c.type == 'text' %}{{ c.text }}{% endfor %}{% endfor %}"
)
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
    ("source", "turns", "text", "flags"),
    [
        (BARE, [USER, BOT], "<user>Hi<assistant>Yes", RowFlags(0)),
        (BARE, [USER, turn("assistant", "")], "<user>Hi<assistant>", RowFlags(0)),
        # Fields that the template does not name are written into the content.
        (BARE, [USER, called({"a": 1})], '<user>Hi<assistant>add {"a": 1}', RowFlags(0)),
        (BARE, [turn("assistant", "b", reasoning_content="a")], "<assistant>a\nb", RowFlags(0)),
        (BARE, [turn("developer", "Be brief."), USER], "<system>Be brief.<user>Hi", RowFlags(0)),
        (BARE + "{{ 'developer' and '' }}", [turn("developer", "Be brief.")], "<developer>Be brief.", RowFlags(0)),
        # A template that writes JSON itself gets objects, even where the dataset holds JSON text.
        (CALLS, [called({"a": 1})], '<assistant>add{"a": 1}', RowFlags(0)),
        (CALLS, [called('{"a": 1}')], '<assistant>add{"a": 1}', RowFlags(0)),
        (CALLS, [called("no json")], '<assistant>add"no json"', RowFlags(0)),
        (CALLS.replace(" | tojson", ""), [called({"a": "ä"})], '<assistant>add{"a": "ä"}', RowFlags(0)),
        # What the template refuses is rendered in another way.
        (STRICT, [USER, BOT], "<user>Hi<assistant>Yes", RowFlags(0)),
        (STRICT, [turn("system", "Be brief."), USER, BOT], "<user>Be brief.\n\nHi<assistant>Yes", RowFlags.REFUSED),
        (STRICT, [turn("system", "Be brief.")], "<user>Be brief.", RowFlags.REFUSED),
        (STRICT, [USER, turn("user", "Ho"), BOT], "<user>Hi\n\nHo<assistant>Yes", RowFlags.REFUSED),
        (STRICT, [BOT, USER], "<user><assistant>Yes<user>Hi", RowFlags.REFUSED),
        (STRICT, [USER, BOT, turn("tool", "3")], "<user>Hi<assistant>Yes<user>3", RowFlags.REFUSED),
        ("{{ messages[7].content.nothing }}", [USER], "user: Hi", RowFlags.REFUSED),
        ("{% for", [USER], "user: Hi", RowFlags.REFUSED),
        # Words that the template leaves out are written in another way, and counted.
        (KNOWN, [USER, turn("tool", "3"), BOT], "<user>Hi<user>3<assistant>Yes", RowFlags.LEFT_OUT),
        (KNOWN, [USER, turn("tool", ""), BOT], "<user>Hi<assistant>Yes", RowFlags(0)),
        (KNOWN, [USER, turn("tool", "Hi"), BOT], "<user>Hi<user>Hi<assistant>Yes", RowFlags.LEFT_OUT),
        (KNOWN, [USER, turn("Anna", "Ho"), BOT], "<user>Hi\n\nHo<assistant>Yes", RowFlags.LEFT_OUT),
        ("{{ messages[-1].content }}", [USER, BOT], "Yes", RowFlags.LEFT_OUT),
        (THINKING, [turn("assistant", "b", reasoning_content="a")], "<assistant>(a)b", RowFlags(0)),
        (
            THINKING,
            [turn("assistant", "b", reasoning_content="Hm"), USER],
            "<assistant>Hm\nb<user>Hi",
            RowFlags.LEFT_OUT,
        ),
        # A template of a vision model reads content in blocks.
        (BLOCKS, [USER, BOT], "<user>Hi<assistant>Yes", RowFlags(0)),
        (
            BLOCKS,
            [turn("system", "s"), USER, called({"a": 1})],
            '<system>s<user>Hi<assistant>add {"a": 1}',
            RowFlags(0),
        ),
        # Words of the template that look like the name of a field.
        (
            BARE + "{{ 'use systematic thinking'[:0] }}",
            [turn("assistant", "b", reasoning_content="a")],
            "<assistant>a\nb",
            RowFlags(0),
        ),
        (CALLS, [turn("tool", 'say "x"\ny')], '<tool>say "x"\ny', RowFlags(0)),
        (CALLS, [called({"a": 'say "x"\ny'})], '<assistant>add{"a": "say \\"x\\"\\ny"}', RowFlags(0)),
    ],
)
def test_what_a_template_writes(source, turns, text, flags):
    assert template(source)(turns) == Text(text, flags)


TOOL = {"function": {"name": "add"}}


@pytest.mark.parametrize(
    "tools", [[TOOL | {"strict": None}], TOOL, json.dumps([TOOL]), json.dumps(TOOL), [json.dumps(TOOL)]]
)
def test_a_template_gets_the_tools_of_a_row(tools):
    assert template(CALLS)([USER], tools=tools) == Text("[add]<user>Hi")


def test_tools_that_the_template_refuses_do_not_cost_its_markup():
    assert template(CALLS)([USER], tools=["search"]) == Text("<user>Hi", RowFlags.REFUSED)


@pytest.mark.parametrize("tools", [None, [], "", "[]"])
def test_no_tools_are_none(tools):
    assert template("{{ tools is none }}{{ messages[0].content }}")([USER], tools=tools).text == "TrueHi"


def test_a_template_gets_its_variables_and_those_of_the_row():
    source = "{{ style }}{{ messages[0].content }}"
    assert template(source, style="x")([USER]).text == "xHi"
    assert template(source, style="x")([USER], chat_template_kwargs={"style": "y", "other": None}).text == "yHi"
    assert template(source)([USER], chat_template_kwargs='{"style": "y"}').text == "yHi"


def test_a_template_per_use_reads_what_it_names():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    tokenizer.chat_template = {"default": BARE, "tool_use": CALLS}
    both = ChatTemplate(tokenizer)
    assert both([called({"a": 1})]).text == '<assistant>add {"a": 1}'
    assert both([called({"a": 1})], tools=[TOOL]).text == '[add]<assistant>add{"a": 1}'


@pytest.mark.parametrize("name", ["tokenize", "chat_template", "tools", "continue_final_message"])
def test_reserved_variables_of_a_row_are_refused(name):
    with pytest.raises(ValueError, match=rf"`{name}` in the column `chat_template_kwargs`: "):
        template(BARE)([USER], chat_template_kwargs={name: True})


def test_the_first_refusal_is_kept():
    strict = template(STRICT)
    assert strict.refusal is None
    strict([turn("system", "Be brief."), USER])
    assert strict.refusal == "TemplateError: System role not supported"


def test_the_check_of_words_is_linear():
    words = " ".join(f"w{i}" for i in range(300_000))
    assert not missing_words(words.replace(" ", "\n"), [turn("user", words)])  # minutes where it is quadratic


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
        ("<|user|>x", ["x", "users"], False),
        ('["a \\"b\\" c"]', ['a "b" c'], True),
        ("a &lt; b &amp; c", ["a < b & c"], True),
        ("caf\\u00e9", ["café"], True),
    ],
)
def test_words_that_are_missing_are_noticed(text, contents, expected):
    assert (missing_words(text, [turn("user", content) for content in contents]) == 0) is expected


CHATS = st.lists(
    st.builds(turn, st.sampled_from(["user", "assistant", "system", "tool"]), st.text("ab c\n", max_size=4)),
    max_size=5,
)


@given(CHATS, st.sampled_from([BARE, CALLS, STRICT, KNOWN]))
def test_all_words_are_written_or_counted(chat, source):
    turns = turns_of(chat)
    text, flags = template(source)(turns) if turns else Text("")
    assert flags is not RowFlags(0) or not missing_words(text, turns)
    assert not missing_words(plain_chat(turns), turns)
