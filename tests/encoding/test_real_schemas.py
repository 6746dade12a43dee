"""The table of real datasets in docs/text.md, against one row of each in its real schema."""

import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_sae_select.encoding.text import find_text

A, B = "How do I boil an egg?", "For ten minutes."
OPENAI = [{"role": "user", "content": A}, {"role": "assistant", "content": B}]
SHAREGPT = [{"from": "human", "value": A}, {"from": "gpt", "value": B}]
TOOLS = json.dumps([{"name": "boil", "description": "Boil an egg", "parameters": {}}])
WILD = [{**turn, "country": "Peru", "header": {"user-agent": "x y"}, "toxic": False} for turn in OPENAI]
NUMBERS = {"harassment": 0.1, "flagged": False}

ROWS = {
    "allenai/WildChat-1M": {
        "conversation_hash": "3f" * 16,
        "model": "gpt-4",
        "conversation": WILD,
        "turn": 1,
        "language": "English",
        "openai_moderation": [NUMBERS],
        "toxic": False,
        "country": "Peru",
        "header": {"user-agent": "Mozilla 5"},
    },
    "lmsys/lmsys-chat-1m": {
        "conversation_id": "33f2",
        "model": "vicuna-13b",
        "conversation": OPENAI,
        "turn": 1,
        "language": "English",
        "openai_moderation": [{"categories": NUMBERS}],
        "redacted": False,
    },
    "HuggingFaceH4/ultrachat_200k": {"prompt": A, "prompt_id": "f0e37e9f", "messages": OPENAI},
    "allenai/tulu-3-sft-mixture": {"id": "x_1", "messages": OPENAI, "source": "ai2-adapt-dev/oasst1"},
    "HuggingFaceTB/smoltalk": {"messages": OPENAI, "source": "smol-magpie-ultra"},
    "teknium/OpenHermes-2.5": {
        "custom_instruction": None,
        "topic": None,
        "model": None,
        "category": "orca",
        "conversations": [{**turn, "weight": None} for turn in SHAREGPT],
        "title": None,
        "hash": None,
        "system_prompt": None,
        "source": "airoboros2.2",
    },
    "open-thoughts/OpenThoughts-114k": {"system": "Think step by step.", "conversations": SHAREGPT},
    "Salesforce/APIGen-MT-5k": {"conversations": SHAREGPT, "tools": TOOLS, "system": "You are an agent."},
    "NousResearch/hermes-function-calling-v1": {
        "id": "c9fd",
        "conversations": SHAREGPT,
        "category": "IoT and Home Automation",
        "task": "Camera Live View",
    },
    "SWE-bench/SWE-smith-trajectories": {
        "messages": json.dumps(OPENAI),
        "instance_id": "pandas__1",
        "resolved": True,
        "patch": "diff --git a b",
    },
    "AI-MO/NuminaMath-CoT": {"source": "synthetic_math", "problem": A, "solution": B, "messages": OPENAI},
    "GAIR/lima": {"conversations": [A, B], "source": "stackexchange"},
    "li2017dailydialog/daily_dialog": {"dialog": [A, B], "act": [3, 4], "emotion": [0, 0]},
    "HuggingFaceH4/ultrafeedback_binarized": {
        "prompt": A,
        "prompt_id": "6ede",
        "chosen": OPENAI,
        "rejected": OPENAI,
        "messages": OPENAI,
        "score_chosen": 8.0,
    },
    "trl-lib/ultrafeedback_binarized": {"chosen": OPENAI, "rejected": OPENAI, "score_chosen": 7.5},
    "Anthropic/hh-rlhf": {"chosen": f"\n\nHuman: {A}\n\nAssistant: {B}", "rejected": f"\n\nHuman: {A}"},
    "OpenAssistant/oasst1": {"message_id": "6ab2", "text": A, "role": "prompter", "lang": "en", "rank": 0},
    "tatsu-lab/alpaca": {"instruction": A, "input": "", "output": B, "text": f"Below is an instruction. {A} {B}"},
    "databricks/databricks-dolly-15k": {"instruction": A, "context": "", "response": B, "category": "open_qa"},
    "Open-Orca/OpenOrca": {"id": "niv.1", "system_prompt": "", "question": A, "response": B},
    "Salesforce/xlam-function-calling-60k": {"id": 0, "query": A, "answers": TOOLS, "tools": TOOLS},
    "glaiveai/glaive-function-calling-v2": {"system": "SYSTEM: You are a helper.", "chat": f"USER: {A}"},
    "openai/gsm8k": {"question": A, "answer": B},
    "meta-math/MetaMathQA": {"type": "MATH_AnsAug", "query": A, "original_question": A, "response": B},
    "trl-lib/tldr": {"prompt": A, "completion": B},
    "google/IFEval": {
        "key": 1000,
        "prompt": A,
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{"num_words": None, "relation": "at least"}],
    },
    "allenai/c4": {"text": A, "timestamp": "2019-04-25T12:57:54Z", "url": "https://example.com/a"},
    "wikimedia/wikipedia": {"id": "12", "url": "https://en.wikipedia.org/wiki/Egg", "title": "Egg", "text": A},
    "bigcode/the-stack-smol": {"content": A, "lang": "C", "repository_name": "a/b", "path": "a/b.c", "size": 3},
    "openbmb/UltraFeedback": {
        "source": "evol_instruct",
        "instruction": A,
        "models": ["alpaca-7b"],
        "completions": [{"model": "alpaca-7b", "response": B}],
    },
    "rajpurkar/squad": {
        "id": "57",
        "title": "Egg",
        "context": A,
        "question": A,
        "answers": {"text": [B], "answer_start": [3]},
    },
    "cais/mmlu": {"question": A, "subject": "eggs", "choices": [A, B], "answer": 1},
}
DOCS = Path(__file__).parents[2] / "docs" / "text.md"


def table():
    cells = [line.split("|")[1:-1] for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in row] for row in cells]
    return {row[0].strip("`"): row[2] for row in rows if len(row) == 3}


def test_the_table_has_all_rows():
    assert list(table()) == list(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_real_dataset_is_read_as_the_docs_say(name):
    dataset, expected = Dataset.from_list([ROWS[name]] * 3), table()[name]
    if name == "cais/mmlu":
        types = {"choices": List(Value("string")), "answer": ClassLabel(names=list("ABCD"))}
        dataset = dataset.cast(Features({**dataset.features, **types}))
    if expected.startswith("an error"):
        with pytest.raises(ValueError, match="cannot tell which column is the text") as error:
            find_text(dataset)
        named = expected.partition("`")[2].partition("`")[0]
        assert f"`{named}`" in str(error.value).partition("among:")[0]
    else:
        rendering = find_text(dataset)
        assert ", ".join(rendering.columns) == expected
        assert A in rendering(dataset[:])[0].text
