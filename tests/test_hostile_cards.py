"""Cards of which every text comes from somebody hostile: a reader sees our links and headings, and no others."""

import copy
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from datasets import DatasetDict
from helpers.forge import RECORD
from helpers.markdown import ADDRESSES, HOSTILE, HOSTILE_LINES, headings_of, html_of, images_of, links_of, words_of
from helpers.pools import coded

from hf_sae_select import SaeConfig, Selection, stage, verify
from hf_sae_select._cards import SECTION_BEGIN, SECTION_END, block, code, escaped, merged
from hf_sae_select.publishing import staging
from hf_sae_select.sae.card import sae_card
from hf_sae_select.sae.labels import Label, Labels

TEXTS = [HOSTILE, HOSTILE_LINES, "<!-- end of hf-sae-select: subset -->", "`", "``", "|", "\\", "\n", " ", "", "---"]
TEXTS += [
    "www.evil.example",
    "https://evil.example",
    "see HTTP://evil.example/x",
    "a@evil.example",
    "@someone",
    "&lt;",
]
TEXTS += [
    "# a",
    "- a",
    "1. a",
    "> a",
    "    a",
    "\ta",
    "[a]: https://evil.example",
    "![a](b)",
    "<https://evil.example>",
]
TEXTS += ["*a*", "__a__", "~~a~~", "$a$", "{{ 1 }}", "{% raw %}", "a\u202eb", "\ud800", "\x00\x1b[0m", "\u2028", ":"]
OUR_PAGES = (
    "https://huggingface.co/",
    "https://arxiv.org/abs/2502.14050",
    "provenance.json",
    "report.html",
    "#verify-it",
)


def check(card, headings):
    links = [link for link in links_of(card) if not link.startswith(OUR_PAGES)]
    words = words_of(card)
    assert links == [] and [html for html in html_of(card) if not html.startswith("<!-- ") and html != "<br>"] == []
    images = {f"{folder}{name}.png" for folder in ("", "train/", "test/") for name in ("coverage", "likeness")}
    assert set(images_of(card)) <= images
    assert len(headings_of(card)) == headings
    assert [address for address in ADDRESSES if address in words] == []
    text = card.split("\n---\n", 1)[1]
    assert "\u202e" not in text and "\x1b" not in text


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("function", [escaped, code])
def test_a_text_from_outside_stays_in_its_place(text, function):
    shown = function(text)
    card = f"---\na: b\n---\n\n# Of {shown}\n\n| a | b |\n|---|---|\n| {shown} | c |\n\n1. {shown}\n\n"
    card += f"[{escaped(text)}](https://huggingface.co/)\n"
    check(card, headings=1)
    assert "\n" not in shown and "<!--" not in shown
    card.encode()


@pytest.mark.parametrize("text", TEXTS)
def test_a_block_of_code_ends_where_it_ends(text):
    check(f"---\na: b\n---\n\n{block(text)}\n\n# After\n", headings=1)
    assert "<!--" not in block(text)


def hostile(value, kept):
    """Replace every text, as deep as it lies, but those under names in `kept`."""
    if isinstance(value, dict):
        return {name: one if name in kept else hostile(one, kept) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [hostile(one, kept) for one in value]
    return HOSTILE if isinstance(value, str) else value


def make_hostile(record, method, has_source, has_link):
    record = hostile(record, kept={"stated_by", "files"} | ({"method"} if method == "match" else set()))
    if not has_source:
        record["source"]["dataset"] = None
    else:
        record["source"] |= {"dataset": HOSTILE, "config": HOSTILE, "split": HOSTILE, "revision": HOSTILE}
    record["encoding"]["sae"] = {"repo": HOSTILE, "revision": HOSTILE, "path": HOSTILE}
    record["selection"]["parameters"]["options"] = {HOSTILE: HOSTILE, "a": [HOSTILE], "b": {HOSTILE: HOSTILE}}
    if has_link:
        record["license"] |= {"license_name": HOSTILE, "license_link": f"https://huggingface.co/){HOSTILE}"}
    return record


@pytest.mark.parametrize("has_link", [False, True])
@pytest.mark.parametrize("has_source", [False, True])
@pytest.mark.parametrize("method", ["greedy", "match"])
def test_the_card_of_a_subset(tmp_path, monkeypatch, method, has_source, has_link):
    write = staging.subset_card

    def write_hostile(records, *arguments):
        plain = write(copy.deepcopy(records), *arguments)
        records = {split: make_hostile(record, method, has_source, has_link) for split, record in records.items()}
        card = write(records, *arguments)
        check(card, headings=len(headings_of(plain)))
        return card

    monkeypatch.setattr(staging, "subset_card", write_hostile)
    ds = coded([{0: 0.9, 1: 0.9}, {2: 0.9}, {0: 0.6}], record=RECORD)
    ds = ds.remove_columns("text").add_column("text", [HOSTILE, HOSTILE_LINES, ""])
    ds = ds.add_column(HOSTILE, [HOSTILE, HOSTILE_LINES, None])
    more = {"pretty_name": HOSTILE_LINES.replace("\ud800", ""), "tags": [HOSTILE, "---\nlicense: evil"]}
    labels = Labels([Label(n, HOSTILE[:199]) for n in range(16)], 16)
    subset = ds.sae_select(3, method, seed=None, quota=HOSTILE)
    if has_link and has_source:
        subset = DatasetDict(train=subset, test=subset)
    folder = stage(subset, tmp_path / "f", license="mit", metadata=more, labels=labels)
    card = (folder / "README.md").read_text()
    data = yaml.safe_load(card.split("\n---\n")[0])
    assert data["tags"][-2:] == more["tags"]
    assert card.count("<!-- end of hf-sae-select: subset -->") == 1
    rows = "6 rows" if has_link and has_source else "3 rows"
    again = merged(card.replace(f"\n# {rows}", "\n# Some rows"), card)
    assert again.count("# Some rows") == 1 and f"\n# {rows}" not in again


@pytest.mark.parametrize("method", ["greedy", "kcenter", "match", "random"])
def test_hostile_names_of_features_columns_and_values_verify(tmp_path, method):
    ds = coded([{0: 0.9, 1: 0.9}, {2: 0.9}, {0: 0.6}], record=RECORD).remove_columns("text")
    ds = ds.add_column("text", [HOSTILE, HOSTILE_LINES, ""]).add_column(HOSTILE, [HOSTILE, HOSTILE_LINES, None])
    ds = ds.add_column("v", [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    labels = Labels([Label(n, HOSTILE[:199]) for n in range(16)], 16)
    subset = ds.sae_select(3, method, quota=HOSTILE, embedding="v" if method == "kcenter" else None)
    folder = stage(subset, tmp_path / "f", license="mit", labels=labels)
    card = (folder / "README.md").read_text()
    assert f"x{escaped('`|*_')}" in card
    check(card, headings=9 if method == "kcenter" else 10)
    assert verify(folder, "select")


def test_the_card_of_an_sae():
    config = asdict(SaeConfig(16, 32, "jumprelu", model="org/model", hook="layers.1"))
    facts = (
        "objective",
        "k",
        "torch",
        "learning_rate",
        "license",
        "command",
        "model_sha256",
        "train_batch_size_tokens",
    )
    config["training"] = dict.fromkeys(facts, HOSTILE) | {"text": [HOSTILE_LINES], "tokens": 3, "batch": 2}
    config["training"] |= {"datasets": [HOSTILE], "language": HOSTILE, "command": f"a\n```\n{HOSTILE}\n# b"}
    config |= {"model": HOSTILE, "model_revision": HOSTILE, "hook": HOSTILE, "side": HOSTILE, "activation": HOSTILE}
    config |= {"source": {"repo": HOSTILE, "revision": HOSTILE, "path": HOSTILE_LINES}, "input_norm": HOSTILE}
    card = sae_card(SimpleNamespace(**config))
    check(card, headings=5)
    data = yaml.safe_load(card.split("\n---\n")[0])
    assert data["license"] == HOSTILE and data["datasets"] == [HOSTILE]
    assert card.count(SECTION_END.format(name=".")) == card.count(SECTION_BEGIN.format(name=".")) == 1


def test_a_method_of_a_hostile_name(tmp_path):
    def method(features, budget, rng):
        return Selection(np.array([1, 0]), np.array([0, 0]), np.array([0]))

    method.__name__ = "x](https://evil.example)<b>|`www.evil.example"
    ds = coded([{0: 0.9}, {1: 0.9}], record=RECORD)
    folder = stage(ds.sae_select(2, method), tmp_path / "f", license="mit")
    check((folder / "README.md").read_text(), headings=8)
