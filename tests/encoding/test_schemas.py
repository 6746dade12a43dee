import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from hf_sae_select.encoding.text import find_text

TEXTS = ["How do I boil an egg?", "Prove that the root of 2 is irrational.", "Write a haiku about autumn."]
CHATS = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Sure."}] for text in TEXTS]
SHAREGPT = [[{"from": "human", "value": text}, {"from": "gpt", "value": "Sure."}] for text in TEXTS]
LISTS = [{"role": ["user", "assistant"], "content": [text, "Sure."]} for text in TEXTS]
ANSWERS = ["Ten minutes of boiling.", "Assume it is p / q.", "Leaves fall and fall."]
TEXTS_OF_CODE = [f"write a program that prints the number {n} to the screen" for n in ("one", "two", "three")]
IDS = ["c0001", "c0002", "c0003"]
UUIDS = [f"123e4567-e89b-12d3-a456-42661417400{i}" for i in range(3)]
URLS = [f"https://example.com/page-{i}" for i in range(3)]
FILES = ["train/a.py", "train/b c.py", "README.md"]


def columns(**table):
    return find_text(Dataset.from_dict(table)).columns


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"text": TEXTS, "title": ANSWERS, "url": URLS}, ("text",)),  # Wikipedia, C4
        ({"content": TEXTS, "path": FILES, "repo_name": IDS}, ("content",)),  # the Stack
        ({"caption": TEXTS, "id": [1, 2, 3]}, ("caption",)),
        ({"caption": TEXTS, "id": IDS, "url": URLS}, ("caption",)),
        ({"instruction": TEXTS, "input": ["", None, "x"], "output": ANSWERS}, ("instruction", "input", "output")),
        ({"output": ANSWERS, "instruction": TEXTS, "history": [[], [], []]}, ("instruction", "output")),
        (
            {"response": ANSWERS, "category": ["qa"] * 3, "context": TEXTS, "instruction": TEXTS},  # Dolly
            ("instruction", "context", "response"),
        ),
        ({"Instruction": TEXTS, "Response": ANSWERS}, ("Instruction", "Response")),
        ({"instruction": TEXTS, "completion": ANSWERS}, ("instruction", "completion")),
        ({"instruction": TEXTS, "answer": ANSWERS}, ("instruction", "answer")),
        ({"instruction": TEXTS}, ("instruction",)),
        ({"prompt": TEXTS, "completion": ANSWERS}, ("prompt", "completion")),
        ({"prompt": TEXTS, "response": ANSWERS, "id": IDS}, ("prompt", "response")),
        ({"prompt": TEXTS, "chosen": ANSWERS, "rejected": TEXTS}, ("prompt", "chosen")),
        ({"chosen": TEXTS, "rejected": ANSWERS}, ("chosen",)),  # HH-RLHF
        ({"prompt": TEXTS}, ("prompt",)),
        ({"question": TEXTS, "answer": ANSWERS}, ("question", "answer")),  # GSM8K
        (
            {"id": IDS, "system_prompt": TEXTS, "question": TEXTS, "response": ANSWERS},  # OpenOrca
            ("system_prompt", "question", "response"),
        ),
        ({"query": TEXTS, "response": ANSWERS, "type": IDS, "original_question": TEXTS}, ("query", "response")),
        ({"query": TEXTS, "answers": ANSWERS, "tools": ANSWERS, "id": [1, 2, 3]}, ("query", "answers")),  # xLAM
        ({"problem": TEXTS, "solution": ANSWERS, "level": IDS}, ("problem", "solution")),  # MATH
        ({"inputs": TEXTS, "targets": ANSWERS, "task": IDS}, ("inputs", "targets")),  # FLAN
        (
            {"system": TEXTS, "question": TEXTS, "chosen": ANSWERS, "rejected": ANSWERS},  # orca_dpo_pairs
            ("system", "question", "chosen"),
        ),
        ({"input": TEXTS, "chosen": ANSWERS, "rejected": ANSWERS}, ("input", "chosen")),
        (
            {"instruction": TEXTS, "chosen_response": ANSWERS, "rejected_response": IDS},
            ("instruction", "chosen_response"),
        ),
        ({"source": TEXTS, "target": ANSWERS}, ("source", "target")),
        ({"system": TEXTS, "user": TEXTS, "assistant": ANSWERS}, ("system", "user", "assistant")),
        ({"passage": TEXTS, "question": TEXTS, "answer": IDS}, ("passage", "question", "answer")),
        # what would be read twice
        (
            {"instruction": TEXTS, "input": TEXTS, "output": ANSWERS, "prompt": TEXTS},
            ("instruction", "input", "output"),
        ),
        ({"prompt": TEXTS, "response": ANSWERS, "chosen": ANSWERS, "rejected": TEXTS}, ("prompt", "response")),
        ({"review": TEXTS, "notes": [None, "", " "]}, ("review",)),
        ({"question": TEXTS, "reasoning": TEXTS, "answer": ANSWERS}, ("question", "reasoning", "answer")),
        ({"Question": TEXTS, "Complex_CoT": TEXTS, "Response": ANSWERS}, ("Question", "Complex_CoT", "Response")),
        ({"prompt": TEXTS, "solution": ANSWERS}, ("prompt", "solution")),
        ({"problem": TEXTS, "answer": IDS, "solution": ANSWERS}, ("problem", "answer", "solution")),
        ({"context": TEXTS, "question": TEXTS, "answer": ANSWERS}, ("context", "question", "answer")),
        (
            {
                "caption": ["一只猫坐在垫子上看着月亮", "狗在花园里跑来跑去很快乐", "鸟儿飞过红色的月亮和大海"],
                "id": IDS,
            },
            ("caption",),
        ),
    ],
)
def test_text_is_recognised(table, expected):
    assert columns(**table) == expected


@pytest.mark.parametrize("name", ["messages", "conversations", "conversation", "dialog", "dialogue", "trace_of_agent"])
@pytest.mark.parametrize("chats", [CHATS, SHAREGPT, LISTS], ids=["openai", "sharegpt", "lists"])
def test_a_chat_is_recognised_beside_ids_and_labels(name, chats):
    table = {
        "id": IDS,
        "uuid": UUIDS,
        name: chats,
        "source": ["web"] * 3,
        "model": ["gpt-4"] * 3,
        "toxic": [False] * 3,
    }
    assert columns(**table) == (name,)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # WildChat and LMSYS: structs beside the chat
        (
            {"conversation_id": IDS, "conversation": CHATS, "openai_moderation": [[{"flagged": False}]] * 3},
            ("conversation",),
        ),
        ({"prompt": TEXTS, "prompt_id": IDS, "messages": CHATS, "chosen": CHATS, "rejected": CHATS}, ("messages",)),
        ({"prompt": TEXTS, "chosen": CHATS, "rejected": CHATS}, ("prompt", "chosen")),
        ({"chosen": CHATS, "rejected": CHATS}, ("chosen",)),
        (
            {"prompt": [chat[:1] for chat in CHATS], "completion": [chat[1:] for chat in CHATS]},
            ("prompt", "completion"),
        ),
        ({"text": TEXTS, "log": CHATS}, ("text",)),
        ({"text": TEXTS, "messages": CHATS}, ("messages",)),
        ({"system": TEXTS, "conversations": SHAREGPT, "tools": ANSWERS}, ("system", "conversations", "tools")),
        ({"messages": [chat[:1] for chat in CHATS], "completion": ANSWERS}, ("messages", "completion")),
        ({"messages": CHATS, "answer": ANSWERS}, ("messages",)),
        ({"dialog": [[TEXTS[0], ANSWERS[0]]] * 3, "act": [[1, 2]] * 3}, ("dialog",)),  # DailyDialog
    ],
)
def test_a_chat_is_told_from_its_neighbours(table, expected):
    assert columns(**table) == expected


@pytest.mark.parametrize("name", ["caption", "value", "docId"])
@pytest.mark.parametrize(
    "values",
    [
        IDS,
        UUIDS,
        URLS,
        FILES,
        ["a.png", "b.png", "c.png"],
        ["2024-01-01", "2024-01-02T10:00:00Z", "3"],
        ["f" * 40] * 3,
    ],
    ids=["ids", "uuids", "urls", "paths", "files", "dates", "hashes"],
)
def test_a_reference_is_never_the_text(name, values):
    with pytest.raises(ValueError, match=rf"cannot tell which column is the text.*, among: {name}: string; n: int64"):
        columns(**{name: values, "n": [1, 2, 3]})


@pytest.mark.parametrize(
    ("table", "types"),
    [
        ({"a": TEXTS, "b": ANSWERS}, "a: string; b: string"),
        ({"id": IDS, "tokens": [["How", "do"]] * 3}, "id: string; tokens: list of string"),
        ({"task": ["chat about eggs"] * 3, "log": [[{"say": "a"}]] * 3}, "task: string; log: list of {say: string}"),
        ({"caption": TEXTS, "story": [["a b"]] * 3}, "caption: string; story: list of string"),
        ({"instruction": TEXTS, "completions": [[{"say": "a"}]] * 3}, "instruction: string; completions: list of {"),
        ({"question": TEXTS, "answers": [{"text": ["a"]}] * 3}, "question: string; answers: {text: list of string}"),
        ({"n": [1, 2, 3]}, "n: int64"),
        ({"task": TEXTS_OF_CODE, "code": TEXTS_OF_CODE}, "task: string; code: string"),
        (
            {"question": TEXTS, "options": [["a b", "c d"]] * 3, "answer": IDS},
            "question: string; options: list of string",
        ),
        ({"contents": [["a b", "c d"]] * 3, "n": [1, 2, 3]}, "contents: list of string; n: int64"),
        ({"prompt": TEXTS, "response_0": ANSWERS, "response_1": ANSWERS}, "prompt: string; response_0: string"),
        (
            {"context": CHATS, "response1": ANSWERS, "response2": ANSWERS},
            "context: list of {role: string, content: string}",
        ),
        ({"file_name": ["a red car on a road", "a b c d", "e f g h"], "n": [1, 2, 3]}, "file_name: string; n: int64"),
    ],
)
def test_an_unknown_schema_lists_the_columns_with_their_types(table, types):
    with pytest.raises(ValueError, match=r"cannot tell which column is the text") as error:
        columns(**table)
    assert f"among: {types}" in str(error.value)
    assert "pass `text='column'`" in str(error.value)


def test_labels_are_never_the_text():
    words = ["positive", "negative"] * 10
    with pytest.raises(ValueError, match="cannot tell which column is the text"):
        columns(verdict=words, n=list(range(20)))
    features = Features(review=Value("string"), verdict=ClassLabel(names=["no", "yes"]), image=Image())
    ds = Dataset.from_dict({"review": TEXTS, "verdict": [0, 1, 0], "image": [None] * 3}, features=features)
    assert find_text(ds).columns == ("review",)


def test_numbers_in_lists_hold_no_text():
    features = Features(quote=Value("string"), ids=List(Value("int32")), vector=List(Value("float32"), length=2))
    ds = Dataset.from_dict({"quote": TEXTS, "ids": [[1]] * 3, "vector": [[0.0, 1.0]] * 3}, features=features)
    assert find_text(ds).columns == ("quote",)
