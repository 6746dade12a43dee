"""The card of a published subset: its licence, its metadata, its words; and the reasons that it gives."""

from decimal import Decimal

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from helpers.forge import RECORD, TEXTS, card_of, from_hub
from helpers.pools import coded

from hf_sae_select import METHODS, Selection, stage, verify
from hf_sae_select._cards import code
from hf_sae_select.publishing.card import check_metadata, quoted, size_category

ROWS = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}]  # above 0.5: {0} {2 3} {0 1 2} {}


def picked(tmp_path, **options):
    return card_of(coded(ROWS, record=RECORD).sae_select(3, "greedy", seed=None), tmp_path, **options)


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (9999, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
        (10**6, "1M<n<10M"),
        (10**9 - 1, "100M<n<1B"),
        (10**9, "1B<n<10B"),
    ],
)
def test_the_words_for_how_many_rows(rows, word):
    assert size_category(rows) == word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, isn't it? Ja!", "“plain, isn't it? Ja!”"),
        ("[a](http://b)", "“&#91;a&#93;&#40;http\u2060&#58;&#47;&#47;b&#41;”"),
        ("<b>&amp;", "“&#60;b&#62;&#38;amp;”"),
        ("a | b", "“a &#124; b”"),
        ("`x` *y* _z_ \\", "“&#96;x&#96; &#42;y&#42; &#95;z&#95; &#92;”"),
        ("two\n\n# lines\t1.", "“two &#35; lines 1.”"),
        ("ää 日本", "“ää 日本”"),
        ("", "“”"),
        ("x" * 120, "“" + "x" * 120 + "”"),
        ("x" * 119 + " yz", "“" + "x" * 119 + "…”"),
    ],
)
def test_what_is_quoted_is_no_markup(text, expected):
    assert quoted(text) == expected


def test_more_metadata_is_added_and_what_is_ours_to_say_is_refused(tmp_path):
    more = {"language": "en", "pretty_name": "Three rows", "tags": ["mine", "diversity"], "task_categories": ["other"]}
    data = picked(tmp_path, metadata=more)[1]
    tags = ["hf-sae-select", "data-selection", "sparse-autoencoder", "diversity", "mine"]
    assert {name: data[name] for name in more} == more | {"tags": tags}
    assert check_metadata(None) == {}
    derived = (
        "license",
        "license_name",
        "license_link",
        "configs",
        "source_datasets",
        "size_categories",
        "dataset_info",
    )
    for name in derived:
        with pytest.raises(ValueError, match=f"`metadata` has `{name}`, which follows from the source and the rows"):
            check_metadata({name: "x"})


@pytest.mark.parametrize("value", [object(), Decimal(1), {"a": [np.int64(1)]}], ids=lambda value: type(value).__name__)
def test_metadata_that_yaml_cannot_hold_are_refused(value):
    with pytest.raises(TypeError, match=r"`metadata` holds what YAML cannot: .*; pass texts, numbers and lists of"):
        check_metadata({"pretty_name": value})


def test_a_tuple_in_metadata_is_a_list(tmp_path):
    assert picked(tmp_path, metadata={"language": ("en", "de")})[1]["language"] == ["en", "de"]


def test_the_metadata_of_the_source_that_hold_for_its_rows_are_carried_over(hub, tmp_path, sae):
    metadata = "license: mit\nlanguage: [en, 'no']\ntask_categories: [question-answering]\npretty_name: Theirs\n"
    data = card_of(from_hub(hub, metadata + "tags: [theirs]\n", sae), tmp_path, license=None)[1]
    assert data == {
        "license": "mit",
        "language": ["en", "no"],
        "task_categories": ["question-answering"],
        "size_categories": ["n<1K"],
        "source_datasets": ["alice/OpenOrca"],
        "tags": ["hf-sae-select", "data-selection", "sparse-autoencoder", "diversity"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/*.parquet"}],
                "default": True,
            },
            {"config_name": "selection", "data_files": [{"split": "train", "path": "selection.parquet"}]},
        ],
    }


def test_a_single_task_of_the_source_becomes_a_list_as_the_hub_wants_it(hub, tmp_path, sae):
    subset = from_hub(hub, "license: mit\ntask_categories: question-answering\n", sae)
    assert card_of(subset, tmp_path, license=None)[1]["task_categories"] == ["question-answering"]


def test_the_card_says_what_was_picked_from_what_and_how(tmp_path):
    text, _ = picked(tmp_path)
    for fact in (
        "# 3 rows of a dataset, selected by their SAE features\n",
        "3 of the 4 rows of a dataset that is not published, in the order they were picked.",
        f"The method `greedy` {METHODS['greedy'].summary}. [`provenance.json`](provenance.json) records",
        "**The source is not published**: the rows were selected from 4 rows in a file or in memory, which others can",
        "| method | `greedy` (arXiv:2502.14050) |",
        "| `budget` | 3 |",
        "| `threshold` | 0.5 |",
        "| sparse autoencoder | not published, 16 features |",
        f"| [org/model](https://huggingface.co/org/model) at `{'a' * 40}`, read at `layers.3` |",
        "| text of a row | column `text`; read in windows of 16 tokens |",
        "| made with | python 3.",
        "| all rows | 4 | 4 | 100.0% | 1.5 |  |",
        "| this subset | 3 | 4 | 100.0% | 2.0 | 2 rows |",
        "| random | 3 |",
        "| longest | 3 | 4 | 100.0% | 2.0 | 3 rows |",
        "](coverage.png)",
        "1. “row 2”<br>Pick 0, row 2: it has 3 features that no earlier pick of the round has, the strongest ",
        "2. “row 1”<br>Pick 1, row 1: it has 1 feature that no earlier pick of the round has, the strongest &#35;3.",
        "| all rows | 1 | 1 | 3 | 4 | 4 | 2.8 |\n| this subset | 3 | 3 | 3 | 4 | 4 | 3.3 |\n",
        "Long rows have more features (r = 0.92 over all rows), so a method that counts features prefers long rows. "
        "A row of this subset has 3.3 tokens on average, a row of the source 2.8.",
        'subset = load_dataset("OWNER/NAME", split="train")',
        'hf_sae_select.verify("OWNER/NAME", "encode", source=source, sae=sae)',
        "mit, as the publisher of this subset states it: the source states none.",
        "@article{yang2025diversity,",
    ):
        assert fact in text
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        f"## {name}"
        for name in (
            "What it covers",
            "Length of the rows",
            "Why the first rows were picked",
            "Known limits",
            "Use it",
        )
    ] + ["## Verify it", "## Licence", "## Citation"]


@pytest.mark.parametrize("method", ["match", "herding"])
def test_the_card_shows_likeness_and_beside_it_coverage_redundancy_and_lengths(tmp_path, method):
    text = card_of(coded(ROWS, record=RECORD).sae_select(2, method, seed=None), tmp_path)[0]
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles[:2] == ["## How like the source it is", "## Length of the rows"]
    for fact in (
        "| this subset | 2 | 0.",
        "](likeness.png)",
        "of each row count the features that the method read (the 256 strongest)",
        "so compare with `random`, which is one draw of as large a budget",
        "By the features that the method read, this subset covers ",
        "Redundancy, the share of their features that two rows have in common, is 0.",
        "Each row weighs the same in the likeness, whatever its length.",
    ):
        assert fact in text
    assert "match" not in text.split("## How like")[1] or method == "match"


def test_the_card_of_what_counts_features_has_redundancy_and_no_likeness(tmp_path):
    text = picked(tmp_path)[0]
    assert "Redundancy, the share of their features that two rows have in common" in text and "Likeness" not in text


def test_a_published_source_is_named_with_its_commit(hub, tmp_path, sae):
    text, _ = card_of(from_hub(hub, "license: mit\n", sae), tmp_path, license=None)
    commit = hub.commits("alice/OpenOrca", "dataset")[0].oid
    link = "[alice/OpenOrca](https://huggingface.co/datasets/alice/OpenOrca)"
    assert f"2 of the 4 rows of {link}, in the order" in text and "Please cite alice/OpenOrca too" in text
    assert f"| source | {link}, config `default`, split `train`, commit `{commit}` |" in text
    assert "source is not published" not in text and "by steps that are not recorded" not in text
    assert "| language model | not published, read at `encoder.layer.1` |" in text


def test_rows_made_from_a_published_source_are_said_to_be(hub, tmp_path, sae):
    from_hub(hub, "license: mit\n", sae)
    subset = load_dataset("alice/OpenOrca", split="train").shuffle(seed=0).sae_select(2, sae=sae)
    text, _ = card_of(subset, tmp_path, license=None)
    assert "**The rows were made from alice/OpenOrca** by steps that are not recorded" in text
    assert 'verify("OWNER/NAME", "encode", source=source, sae=sae)' in text


def test_the_names_of_columns_stand_in_the_card_as_they_are(tmp_path):
    ds = coded(ROWS, record=RECORD | {"text": {"columns": ["long_answer", "my_text"], "chat": False}})
    ds = ds.add_column("long_answer", list("abcd")).rename_column("text", "my_text")
    text, _ = card_of(ds.sae_select(2, seed=None), tmp_path)
    assert "| text of a row | columns `long_answer`, `my_text`, joined by newlines; read" in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a_b*c&d", "`a_b*c&d`"), ("a|b", '"a&#124;b"'), ("`x`", '"&#96;x&#96;"'), ("<b>", '"&#60;b&#62;"')],
)
def test_names_are_code_where_their_signs_allow_that(name, shown):
    assert code(name) == shown


SNIPPETS = {  # what is staged -> the lines that check it to the levels `select` and `encode`
    "codes": ({}, "", ", source=source, sae=sae"),
    "no pool": ({"include_features": False}, ", features=features", ", source=source, sae=sae"),
    "own rule": ({"method": True}, ", method=method", ", method=method, source=source, sae=sae"),
    "both": (
        {"method": True, "include_features": False},
        ", method=method, features=features",
        ", method=method, source=",
    ),
}


@pytest.mark.parametrize("what", SNIPPETS)
def test_the_card_shows_the_arguments_that_checking_needs(tmp_path, what):
    options, select, encode = SNIPPETS[what]

    def longest(features, budget, rng):
        return Selection(np.array([3]), np.array([0]), np.array([0]))

    method = longest if options.get("method") else "greedy"
    subset = coded(ROWS, record=RECORD).sae_select(1, method, seed=None)
    text, _ = card_of(subset, tmp_path, include_features=options.get("include_features", True))
    assert f'verify("OWNER/NAME", "select"{select})  # the method' in text
    assert f'verify("OWNER/NAME", "encode"{encode}' in text
    assert "| `threshold` | 0.5 |" in text and ("own_longest" in text) == (method is longest)


TITLES = dict.fromkeys(("greedy", "match"), "by their SAE features")
TITLES |= {"kcenter": "by `kcenter`", "random": "by `random`"}


@pytest.mark.parametrize("method", TITLES)
def test_only_methods_that_count_features_select_by_features(tmp_path, sae, method):
    ds = Dataset.from_dict({"text": ["the cat", "a dog ran", "the moon"]})
    text, _ = card_of(ds.sae_select(2, method, sae=sae), tmp_path)
    assert f"# 2 rows of a dataset, selected {TITLES[method]}\n" in text


def test_the_card_of_a_chat(tmp_path, sae):
    chats = [[{"role": "user", "content": f"the {word}"}] for word in ("cat", "dog", "moon")]
    text, _ = card_of(Dataset.from_dict({"messages": chats}).sae_select(2, sae=sae), tmp_path)
    assert "| text of a row | the chat in `messages`, written as one line `role: words` per turn |" in text
    assert "1. “user&#58; the " in text


def words_of(row):
    return row["words"]


def test_the_card_of_a_text_that_a_function_wrote(tmp_path, sae):
    ds = Dataset.from_dict({"n": [1, 2, 3], "words": ["the cat", "a dog ran", "the moon"], "more": [None, "*x*", ""]})
    text, _ = card_of(ds.sae_select(2, sae=sae, text=words_of), tmp_path)
    assert "| text of a row | the result of the author's function" in text and "whose code is not recorded |" in text
    assert 'verify("OWNER/NAME", "encode", source=source, sae=sae, text=text)' in text


def test_the_card_of_a_rule_of_ones_own(tmp_path):
    def mine(features, budget, rng, *, pipe="a|b"):
        return Selection(np.array([3, 0]), np.array([0, 1]), np.array([0]))

    text, _ = card_of(coded(ROWS, record=RECORD).sae_select(2, mine), tmp_path)
    assert "| method | `mine`: the author's own method, whose code is not recorded |" in text
    assert '| `pipe` | {"sha256": "' in text and "a|b" not in text
    assert "## What it covers" in text and "](coverage.png)" in text
    assert "Why the first rows" not in text and "prefers long rows" not in text  # nobody knows what it prefers


def test_the_card_of_rows_that_were_compared_by_vectors_alone(tmp_path):
    ds = Dataset.from_dict({"text": list("abc"), "v": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]})
    text, _ = card_of(ds.sae_select(2, "kcenter", embedding="v"), tmp_path)
    assert "The method `kcenter` " in text
    assert "- **Similarity is not quality.**" in text
    for word in ("coverage.png", "## What it covers", "sparse autoencoder |", "language model |", '"encode"'):
        assert word not in text
    assert not (tmp_path / "f" / "coverage.png").exists()
    assert "<br>Pick 0, row " in text and "no row that could be picked was farther from all earlier picks" in text


def test_the_reasons_begin_with_what_the_method_picked(tmp_path):
    ds = coded([*ROWS, {5: 0.9}, {6: 0.8}], record=RECORD)
    earlier = ds.sae_select(2, "greedy", seed=None)
    grown = ds.sae_select(5, "greedy", seed=None, extend=earlier, must_include=[2, 5])
    assert grown.sae_selection.indices.tolist()[:3] == [2, 1, 5]
    text, _ = card_of(grown, tmp_path)
    assert "- **Earlier selection.** The first 2 rows come from" in text
    assert "## Why the next rows were picked" in text and "<br>Pick 3, row 4: it has 1 feature that no" in text
    assert "Pick 2, " not in text
    text, _ = card_of(ds.sae_select(2, "greedy", must_include=[2, 5]), tmp_path)
    assert "## Why the first rows were picked" in text
    assert "<br>Pick 0, row 2: picked before the method began, as a row of &#96;must&#95;include&#96;" in text


def test_the_column_that_was_encoded_may_be_gone_or_hold_something_else(sae, tmp_path):
    coded = Dataset.from_dict({"text": TEXTS, "kind": ["a"] * len(TEXTS)}).sae_encode(sae)
    for ds, shown in (
        (coded.remove_columns("text"), "“a”"),
        (coded.map(lambda row: {"text": [row["text"]]}), "“a”"),
        (coded.select_columns(["sae_ids", "sae_acts", "sae_tokens"]).add_column("n", list(range(len(TEXTS)))), "“”"),
    ):
        folder = stage(ds.sae_select(3), tmp_path / "f", license="mit")
        assert shown in (folder / "README.md").read_text() and verify(folder, "select")
