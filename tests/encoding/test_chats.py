import datetime
import decimal
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select.encoding.chats import plain_chat, turns_of


def call(name, arguments, **fields):
    return {"type": "function", **fields, "function": {"name": name, "arguments": arguments}}


def user(content):
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("chat", "expected"),
    [
        ([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}], "user: Hi\nassistant: Yes"),
        ({"from": ["human", "gpt"], "value": ["Hi", "Yes"]}, "user: Hi\nassistant: Yes"),
        ({"role": ["user", "assistant"], "content": ["Hi", None]}, "user: Hi\nassistant:"),
        (json.dumps([user("Hi")]), "user: Hi"),
        (json.dumps({"messages": [user("Hi")]}), "user: Hi"),
        ([json.dumps(user("Hi"))], "user: Hi"),
        (["Hi", "Yes", "Bye"], "user: Hi\nassistant: Yes\nuser: Bye"),
        (["Hi", None, "Bye"], "user: Hi\nuser: Bye"),
        (repr([user("Hi")]), "user: Hi"),
        (json.dumps({"system": "Be brief.", "messages": [user("Hi")]}), "system: Be brief.\nuser: Hi"),
        (f"[{user('Hi')}\n {user('Ho')}]", "user: Hi\nuser: Ho"),  # as numpy prints it
        (f"[{user('if (a) {} {} else')}\n {user('b')}]", "user: if (a) {} {} else\nuser: b"),
        ('{"mapping": {"a": "b"}}', 'user: {"mapping": {"a": "b"}}'),
        (
            '{"role": "engineer", "content": "builds", "pay": 3}',
            'user: {"role": "engineer", "content": "builds", "pay": 3}',
        ),
        ('[{"from": "LHR", "value": "JFK", "price": 3}]', 'user: [{"from": "LHR", "value": "JFK", "price": 3}]'),
        ('{"turns": [1, 2]}', 'user: {"turns": [1, 2]}'),
        ('[{"type": "function", "function": {"name": "f", "arguments": "{}"}}]', "assistant: f {}"),
        ('[{"type": "PERSON", "value": "Ann"}]', 'user: [{"type": "PERSON", "value": "Ann"}]'),
        ([["Hi", "Yes"], ["Bye", "Bye"]], "user: Hi\nassistant: Yes\nuser: Bye\nassistant: Bye"),
        (
            [{"user": "Hi", "assistant": "Yes"}, {"user": "Bye", "assistant": None}],
            "user: Hi\nassistant: Yes\nuser: Bye",
        ),
        ({"role": "user", "content": "Hi"}, "user: Hi"),
        ([{"speaker": "Bob", "utterance": "Hi"}], "Bob: Hi"),
        # turns without words stay, chats without words are blank
        ([user("Hi"), None, {"role": "assistant", "content": None}], "user: Hi\nassistant:"),
        ([{"role": "user", "content": None}, {"role": "assistant", "content": " "}], ""),
        ([], ""),
        (None, ""),
        # content of other types
        ([user(0)], "user: 0"),
        ([user(False)], "user: false"),
        ([user(decimal.Decimal("1.50"))], "user: 1.50"),
        ([user(datetime.date(2024, 5, 1))], "user: 2024-05-01"),
        ([user("grüße".encode())], "user: grüße"),
        ([user(["a", "b"])], "user: a\nb"),
        ([user({"question": "a?", "hint": None, "id": "x7"})], 'user: {"question": "a?", "id": "x7"}'),
        ([{"role": "tool", "content": {"degrees": 21, "sky": None}}], 'tool: {"degrees": 21}'),
        ([{"role": "tool", "content": [{"degrees": 21}]}], 'tool: [{"degrees": 21}]'),
    ],
)
def test_chats_in_all_forms(chat, expected):
    assert plain_chat(turns_of(chat)) == expected


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        *[(role, "user") for role in ("user", "USER", "human", "Human", "prompter", " user ")],
        *[(role, "assistant") for role in ("assistant", "Assistant", "gpt", "bot", "model", "chatgpt", "bing", "AI")],
        *[(role, "system") for role in ("system", "SYSTEM", "sys")],
        *[
            (role, "tool")
            for role in ("tool", "function", "observation", "ipython", "tool_response", "function_response")
        ],
        ("developer", "developer"),
        ("Alice", "Alice"),
        (None, "user"),
    ],
)
def test_roles_under_all_their_names(role, expected):
    assert turns_of([{"role": role, "content": "x"}])[0]["role"] == expected


def test_the_developer_is_the_system_in_plain_text():
    assert plain_chat(turns_of([{"role": "developer", "content": "x"}])) == "system: x"


# One agent's trace (a thought, a call, its result, an answer) as the makers of models write it.
OPENAI = [
    {"role": "user", "content": "Weather?", "tool_calls": None},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Ask.",
        "tool_calls": [call("weather", '{"city": "Paris"}', id="c1")],
    },
    {"role": "tool", "content": "21", "tool_call_id": "c1", "name": "weather"},
    {"role": "assistant", "content": "Warm."},
]
ANTHROPIC = [
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Ask.", "signature": "EuYBCkQYAiJA"},
            {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris", "days": None}},
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "21"}]}],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "Warm."}]},
]
GEMINI = [
    {"role": "user", "parts": [{"text": "Weather?"}]},
    {
        "role": "model",
        "parts": [
            {"text": "Ask.", "thought": True},
            {"functionCall": {"name": "weather", "args": {"city": "Paris"}}, "thoughtSignature": "Ck"},
        ],
    },
    {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"output": 21}}}]},
    {"role": "model", "parts": [{"text": "Warm."}]},
]
RESPONSES = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Ask."}]},
    {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Paris"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "21"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Warm.", "annotations": []}]},
]
SHAREGPT = [
    {"from": "human", "value": "Weather?"},
    {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Paris"}}'},
    {"from": "observation", "value": "21"},
    {"from": "gpt", "value": "Warm."},
]
CHATGPT = {
    "title": "t",
    "current_node": "4",
    "mapping": {
        "1": {"id": "1", "message": None, "parent": None, "children": ["2"]},
        "2": {
            "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Weather?"]}},
            "parent": "1",
            "children": ["x", "3"],
        },
        "x": {
            "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["Other."]}},
            "parent": "2",
            "children": [],
        },
        "3": {
            "message": {
                "author": {"role": "assistant"},
                "content": {"content_type": "thoughts", "thoughts": [{"summary": "Ask.", "content": ""}]},
            },
            "parent": "2",
            "children": ["4"],
        },
        "4": {
            "message": {
                "author": {"role": "assistant"},
                "content": {
                    "content_type": "multimodal_text",
                    "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}, "Warm."],
                },
            },
            "parent": "3",
            "children": [],
        },
    },
}


@pytest.mark.parametrize(
    ("chat", "middle"),
    [
        (OPENAI, 'assistant: Ask.\nweather {"city": "Paris"}\ntool (weather): 21'),
        (ANTHROPIC, 'assistant: Ask.\nweather {"city": "Paris"}\ntool: 21'),
        (GEMINI, 'assistant: Ask.\nweather {"city": "Paris"}\ntool (weather): {"output": 21}'),
        (RESPONSES, 'assistant: Ask.\nassistant: weather {"city": "Paris"}\ntool: 21'),
        (SHAREGPT, 'assistant: weather {"city": "Paris"}\ntool: 21'),
        (CHATGPT, "assistant: Ask."),
    ],
    ids=["openai", "anthropic", "gemini", "responses", "sharegpt", "chatgpt"],
)
def test_traces_of_all_makers(chat, middle):
    assert plain_chat(turns_of(chat)) == f"user: Weather?\n{middle}\nassistant: Warm."
    assert turns_of(json.dumps(chat)) == turns_of(chat)


def test_turns_have_the_form_that_templates_read():
    thought, result = turns_of(ANTHROPIC)[1:3]
    assert thought == {
        "role": "assistant",
        "content": "",
        "reasoning_content": "Ask.",
        "tool_calls": [
            {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
        ],
    }
    assert result == {"role": "tool", "content": "21", "tool_call_id": "c1"}
    assert turns_of(OPENAI)[2] == {"role": "tool", "content": "21", "name": "weather", "tool_call_id": "c1"}


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({"content": None, "refusal": "I cannot."}, "I cannot."),
        ({"content": None, "audio": {"id": "a", "data": "UklG", "transcript": "Spoken."}}, "Spoken."),
        ({"content": "x", "function_call": {"name": "f", "arguments": '{"a": 1}'}}, 'x\nf {"a": 1}'),
        ({"content": "", "tool_calls": '[{"name": "f", "arguments": {"a": 1}}]'}, 'f {"a": 1}'),
        (
            {"content": "", "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "x", "type": "tool_call"}]},
            'f {"a": 1}',
        ),
        ({"content": "", "tool_calls": ["f(1)"]}, "f(1)"),
        ({"content": "x", "thinking": "y"}, "y\nx"),
        ({"content": "x", "reasoning": "y", "reasoning_content": "y"}, "y\nx"),
        ({"content": [{"type": "image"}, {"type": "text", "text": "x"}]}, "x"),
        ({"content": [{"type": "image_url", "image_url": {"url": "http://y"}}, {"type": "text", "text": "x"}]}, "x"),
        ({"content": [{"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}, "x"]}, "x"),
        ({"content": [{"type": "document", "title": "t", "source": {"type": "text", "data": "d"}}]}, "t\nd"),
        ({"content": [{"type": "document", "source": {"type": "base64", "data": "UklG"}}, "x"]}, "x"),
        ({"content": [{"type": "document", "source": {"type": "content", "content": [{"text": "d"}]}}]}, "d"),
        ({"content": [{"type": "something_new", "words": ["x"]}]}, '{"type": "something_new", "words": ["x"]}'),
        ({"content": [{"type": "order", "id": 7, "url": "u"}]}, '{"type": "order", "id": 7, "url": "u"}'),
        ({"content": {"status": "approved", "path": "a.py"}}, '{"status": "approved", "path": "a.py"}'),
        ({"content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}}]}, 'f {"a": 1}'),
        (
            {"content": [{"reasoningContent": {"reasoningText": {"text": "y", "signature": "s"}}}, {"text": "x"}]},
            "y\nx",
        ),
        ({"content": [{"type": "tool-call", "toolCallId": "c", "toolName": "f", "args": {"a": 1}}]}, 'f {"a": 1}'),
        ({"content": None, "tool_plan": "I will look."}, "I will look."),
        ({"content": None, "output": "words"}, "words"),
        ({"content": "", "additional_kwargs": {"function_call": {"name": "f", "arguments": "{}"}}}, "f {}"),
        ({"content": [{"type": "text", "content": "x"}]}, "x"),
        ({"content": [{"type": "file", "name": "README.md"}]}, '{"type": "file", "name": "README.md"}'),
        (
            {"content": {"type": "message", "user": "U1", "text": "x"}},
            '{"type": "message", "user": "U1", "text": "x"}',
        ),
        ({"content": {"url": "http://x"}}, '{"url": "http://x"}'),
        ({"content": None, "thought": "secret words"}, "secret words"),
        ({"content": "", "tool_calls": [{"function": "bash", "arguments": {"a": 1}}]}, 'bash {"a": 1}'),
        ({"content": {"type": "text", "text": {"value": "x", "annotations": [{"text": "no"}]}}}, "x"),
        ({"content": [{"type": "redacted_thinking", "data": "EmwKAhgB"}, {"type": "text", "text": "x"}]}, "x"),
        ({"parts": [{"executableCode": {"code": "print(1)"}}]}, "print(1)"),
        ({"parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBO"}}, {"text": "x"}]}, "x"),
        ({"value": "x", "text": "x rendered", "weight": 1.0}, "x"),
        ({"content": "x", "country": "Peru", "header": {"agent": "no"}, "hashed_ip": "no"}, "x"),
    ],
)
def test_all_words_of_a_turn_and_nothing_else(turn, words):
    assert plain_chat(turns_of([{"role": "assistant", **turn}])) == f"assistant: {words}"


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (
            {"type": "local_shell_call", "call_id": "c", "action": {"command": ["ls"]}},
            'local_shell {"command": ["ls"]}',
        ),
        ({"type": "local_shell_call_output", "call_id": "c", "output": "a.py"}, "tool: a.py"),
        ({"type": "code_interpreter_call", "code": "1 + 1", "container_id": "c"}, "code_interpreter 1 + 1"),
        ({"type": "mcp_call", "name": "f", "arguments": "{}", "output": "x"}, "f {}\ntool (f): x"),
        ({"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "21"}]}}]}, "tool: 21"),
        (
            {
                "role": "tool",
                "content": [{"type": "tool-result", "toolCallId": "c", "toolName": "f", "result": {"a": 1}}],
            },
            'tool (f): {"a": 1}',
        ),
        ({"role": "tool", "content": {"type": "order", "id": 7}}, 'tool: {"type": "order", "id": 7}'),
        ({"role": "tool", "content": [{"a": 1, "type": "x"}]}, 'tool: [{"a": 1, "type": "x"}]'),
        ({"author": {"role": "tool"}, "content": {"content_type": "execution_output", "text": "1"}}, "tool: 1"),
    ],
)
def test_items_of_logs(item, text):
    assert plain_chat(turns_of([item])).removeprefix("assistant: ") == text


def test_fields_that_only_a_template_knows_stay():
    turn = {"role": "user", "content": "x", "name": "Anna", "weight": 0, "extra": {"a": None, "b": 1}}
    assert turns_of([turn]) == [{**turn, "extra": {"b": 1}}]


def test_a_log_of_an_agent_and_langchain_are_read():
    log = [{"type": "user", "uuid": "u", "message": {"role": "user", "content": [{"type": "text", "text": "a"}]}}]
    chain = [
        {"type": "human", "data": {"content": "a"}},
        {"lc": 1, "id": ["x", "AIMessage"], "kwargs": {"content": "b"}},
    ]
    assert plain_chat(turns_of(log)) == "user: a"
    assert plain_chat(turns_of(chain)) == "user: a\nassistant: b"


def test_a_turn_whose_words_are_under_an_unknown_key_is_refused():
    with pytest.raises(
        ValueError, match=r"a turn with the keys role, say: its words must be in one of content, value"
    ):
        turns_of([{"role": "user", "say": "x"}])


@pytest.mark.parametrize("content", [b"\xff\xfe", object(), [object()], {"type": "text", "text": object()}])
def test_what_is_no_text_is_refused(content):
    with pytest.raises(ValueError, match=r"2 bytes that are no UTF-8 text|an object of type object"):
        turns_of([user(content)])


WORDS = st.uuids().map(lambda word: f"w{word.hex}")
ARGUMENTS = st.dictionaries(st.sampled_from("abc"), st.one_of(WORDS, st.lists(WORDS, max_size=2)), max_size=3)
LEAVES = st.one_of(
    WORDS,
    WORDS.map(lambda word: {"type": "text", "text": word}),
    WORDS.map(lambda word: {"text": word, "thought": True}),
    WORDS.map(lambda word: {"type": "thinking", "thinking": word, "signature": "s"}),
    WORDS.map(lambda word: {"type": "output_text", "text": word, "annotations": []}),
    st.tuples(WORDS, ARGUMENTS).map(lambda pair: {"type": "tool_use", "id": "1", "name": pair[0], "input": pair[1]}),
    st.tuples(WORDS, ARGUMENTS).map(lambda pair: {"functionCall": {"name": pair[0], "args": pair[1]}}),
    ARGUMENTS.map(lambda response: {"functionResponse": {"response": response}}),
    st.just({"type": "image", "source": {"type": "base64", "data": "x"}}),
)
BLOCKS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(
            lambda content: {"type": "tool_result", "tool_use_id": "1", "content": content}
        ),
        inner.map(lambda content: {"type": "unheard_of", "inner": {"deeper": content}}),
    ),
    max_leaves=8,
)
TURNS = st.one_of(
    st.tuples(st.sampled_from(["user", "model", "tool", "x"]), BLOCKS).map(lambda t: {"role": t[0], "content": t[1]}),
    st.tuples(st.sampled_from(["human", "gpt"]), WORDS).map(lambda t: {"from": t[0], "value": t[1]}),
    st.tuples(WORDS, WORDS).map(lambda t: {"role": "assistant", "content": None, "reasoning": t[0], "refusal": t[1]}),
    st.tuples(WORDS, ARGUMENTS).map(
        lambda t: {"role": "assistant", "tool_calls": [call(t[0], json.dumps(t[1]))], "content": None}
    ),
)


def words_in(value):
    if isinstance(value, str):
        value = json.loads(value) if value.startswith("{") else value
    if isinstance(value, dict):
        return [word for item in value.values() for word in words_in(item)]
    if isinstance(value, list):
        return [word for item in value for word in words_in(item)]
    return [value] if isinstance(value, str) and len(value) == 33 else []


@given(st.lists(TURNS, max_size=4))
def test_any_nesting_of_turns_and_blocks_writes_every_word_once(chat):
    text = plain_chat(turns_of(chat))
    assert sorted(word for word in words_in(chat)) == sorted(word for word in words_in(chat) if text.count(word) == 1)
    assert plain_chat(turns_of(json.dumps(chat))) == text
