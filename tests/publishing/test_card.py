"""The card of a published subset: its licence, its metadata, its words; and the reasons that it gives."""

import json
from decimal import Decimal

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets, load_dataset
from helpers.pools import coded, features_of
from hub.metadata import problems
from huggingface_hub import DatasetCard
from huggingface_hub.repocard_data import CardData

from hf_sae_select import METHODS, Selection, stage
from hf_sae_select.publishing.card import check_metadata, code, quoted, size_category
from hf_sae_select.publishing.licence import subset_licence
from hf_sae_select.selection.reasons import reasons

RECORD = {"version": 1, "sae_sha256": "ab" * 32, "d_sae": 16, "threshold": 0.5, "model": "org/model"}
RECORD |= {"model_revision": "a" * 40, "hook": "layers.3", "dtype": ["float32", "float32"], "window": 16}
RECORD |= {"max_length": None, "text": {"columns": ["text"], "chat": False}, "chat_template_sha256": None}
ROWS = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}]  # above 0.5: {0} {2 3} {0 1 2} {}
REFUSED = ", and so has its subset; omit it"
SOURCE, PUBLISHER = {"stated_by": "source"}, {"stated_by": "publisher"}


def card_of(subset, tmp_path, license="mit", **options):
    """Stage, and return the card's text and metadata once both are sound."""
    text = (stage(subset, tmp_path / "f", license=license, **options) / "README.md").read_text()
    data = DatasetCard(text).data.to_dict()
    assert problems("dataset", data) == ([], [])
    for word in ("None", "Undefined", "{{", "{%", " nan ", "\n\n\n\n"):
        assert word not in text
    return text, data


def picked(tmp_path, **options):
    return card_of(coded(ROWS, record=RECORD).sae_select(3, "greedy", seed=None), tmp_path, **options)


def from_hub(hub, metadata, sae, id="alice/OpenOrca"):
    rows = "".join(json.dumps({"text": text}) + "\n" for text in ("the cat", "a dog ran", "", "the moon"))
    hub.push(id, {"train.jsonl": rows, "README.md": f"---\n{metadata}---\n# Hi\n"}, kind="dataset")
    return load_dataset(id, split="train").sae_select(2, sae=sae)


def terms(given, *sources):
    """The licence of rows from sources of such cards."""
    return subset_licence([CardData(**source) for source in sources], given)


@pytest.mark.parametrize("stated", ["mit", ["mit", "apache-2.0"], "cc-by-nc-4.0"])
def test_the_licence_of_the_source_is_carried_over(stated):
    for given in (None, stated):
        assert terms(given, {"license": stated}) == {"license": stated} | SOURCE
    assert terms(None, {"license": stated}, {"license": stated}, {}) == {"license": stated} | SOURCE


def test_a_licence_of_a_name_of_its_own_is_carried_over_with_name_and_link():
    stated = {"license": "other", "license_name": "llama-x", "license_link": "https://x.org/LICENSE"}
    assert terms(None, stated | {"language": "en"}) == terms("other", stated) == stated | SOURCE
    with pytest.raises(ValueError, match="`license='mit'`, but the source has the licence other" + REFUSED):
        terms("mit", stated)


NOT_STATED = [{}, {"license": None}, {"license": []}, {"license": ""}, {"license_name": "x"}, {"license": "unknown"}]


@pytest.mark.parametrize("source", [*NOT_STATED, {"license": ["unknown"]}], ids=str)
def test_a_licence_that_the_source_does_not_state_is_asked_for(source):
    with pytest.raises(ValueError, match=r"the source states no licence: pass `license`, such as 'cc-by-4.0'"):
        terms(None, source)
    assert terms("odbl", source) == {"license": "odbl"} | PUBLISHER
    assert terms("unknown", source) == {"license": "unknown"} | PUBLISHER
    assert terms(("mit", "odbl"), source, source) == {"license": ["mit", "odbl"]} | PUBLISHER


STATED = [{"license": id} for id in ("mit", "ncsa", "cc-by-4.0", "openrail", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")]
STATED += [{"license": id} for id in ("CC-BY-NC-2.0", "fair-noncommercial-research-license", ["mit", "cc-by-nc-4.0"])]
STATED += [{"license": "other", "license_name": "x-noncommercial"}, {"license": "cc", "license_name": "cc-by-nc"}]


@pytest.mark.parametrize("source", STATED, ids=str)
def test_a_source_that_states_a_licence_is_never_relabelled(source):
    assert terms(None, source) == source | SOURCE
    for given in ("cc-by-sa-4.0", ["mit", "apache-2.0"], ["apache-2.0"], "unknown"):
        with pytest.raises(ValueError) as error:
            terms(given, source, {})
        assert f"`license={given!r}`, but the source has the licence {source['license']}{REFUSED}" in str(error.value)


NONCOMMERCIAL = [{"license": id} for id in ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-3.0", "h-research")]
NONCOMMERCIAL += [{"license": id} for id in ("fair-noncommercial-research-license", "intel-research", "apple-amlr")]
NONCOMMERCIAL += [{"license": "other", "license_name": name} for name in ("x-noncommercial", "X Non-Commercial v1")]
NONCOMMERCIAL += [{"license": "other", "license_name": name} for name in ("non commercial", "non_commercial")]
NONCOMMERCIAL += [{"license": "other", "license_link": "https://creativecommons.org/licenses/by-nc/4.0/"}]
NONCOMMERCIAL += [{"license": "cc", "license_name": "cc-by-nc"}]


@pytest.mark.parametrize("source", NONCOMMERCIAL, ids=str)
def test_among_several_licences_a_noncommercial_one_is_not_given_away(source):
    cards = [{"license": "mit"}, source, {"license": "apache-2.0"}]
    with pytest.raises(ValueError) as error:
        terms(None, *cards)
    names = f"the rows are from sources of several licences, mit, {source['license']}, apache-2.0: pass the one"
    assert names in str(error.value) and str(error.value).endswith(f"that holds for all rows, {source['license']!r}")
    assert terms(source["license"], *cards) == source | SOURCE
    for given in ("mit", "apache-2.0", "odbl", ["mit", source["license"]]):
        with pytest.raises(ValueError, match=f"but the rows are from .*, mit, {source['license']}, apache-2.0: pass"):
            terms(given, *cards)


@pytest.mark.parametrize("id", ["ncsa", "cc-by-4.0", "openrail", "cc-by-nd-4.0", "incl"])
def test_other_licences_are_not_taken_for_noncommercial_ones(id):
    assert terms("mit", {"license": "mit"}, {"license": id}) == {"license": "mit"} | SOURCE
    assert terms(id, {"license": "mit"}, {"license": id}) == {"license": id} | SOURCE


@pytest.mark.parametrize("given", [3, "", " ", [], [3], {"mit": 1}, ["mit", None], "my own licence", "MIT", "a\n"])
def test_what_is_no_licence_is_refused(given):
    with pytest.raises(TypeError, match=r"must be the id of a licence, such as 'cc-by-4.0', or a list of ids"):
        terms(given, {})


def test_another_licence_than_the_source_s_is_refused_and_its_own_is_named(hub, tmp_path, sae):
    subset = from_hub(hub, "license: apache-2.0\n", sae)
    with pytest.raises(ValueError, match="`license='cc-by-4.0'`, but the source has the licence apache-2.0" + REFUSED):
        stage(subset, tmp_path / "f", license="cc-by-4.0")
    text, data = card_of(subset, tmp_path, license="apache-2.0")
    assert data["license"] == "apache-2.0"
    assert "## Licence\n\napache-2.0, as alice/OpenOrca states it.\n\n" in text


def test_rows_of_two_sources_have_the_licence_that_holds_for_both(hub, tmp_path, sae):
    for id, terms_, n in (("alice/one", "mit", 2), ("alice/two", "cc-by-nc-4.0", 3)):
        rows = "".join(json.dumps({"text": f"the cat {i}"}) + "\n" for i in range(n))
        hub.push(id, {"train.jsonl": rows, "README.md": f"---\nlicense: {terms_}\n---\n"}, kind="dataset")
    both = concatenate_datasets([load_dataset(id, split="train") for id in ("alice/one", "alice/two")])
    subset = both.sae_select(2, sae=sae)
    for given, message in (
        (None, "several licences, mit, cc-by-nc-4.0: pass the one that holds for all rows, 'cc-by-nc-4.0'"),
        ("mit", "pass the one that holds for all rows, 'cc-by-nc-4.0'"),
    ):
        with pytest.raises(ValueError, match=message):
            stage(subset, tmp_path / "f", license=given)
    text, data = card_of(subset, tmp_path, license="cc-by-nc-4.0")
    assert data["license"] == "cc-by-nc-4.0" and "source_datasets" not in data
    assert "## Licence\n\ncc-by-nc-4.0, as the source states it.\n" in text
    told = json.loads((tmp_path / "f" / "provenance.json").read_text())
    assert told["license"] == {"license": "cc-by-nc-4.0", "stated_by": "source"}


def test_a_licence_with_a_link_is_linked_as_the_source_states_it(hub, tmp_path, sae):
    stated = {"license": "other", "license_name": "x-noncommercial", "license_link": "https://x.org/LICENSE"}
    subset = from_hub(hub, "".join(f"{name}: {value}\n" for name, value in stated.items()), sae)
    text, data = card_of(subset, tmp_path, license=None)
    assert {name: data[name] for name in stated} == stated
    assert "## Licence\n\n[x-noncommercial](https://x.org/LICENSE), as alice/OpenOrca states it.\n" in text
    with pytest.raises(ValueError, match="`license='mit'`, but the source has the licence other" + REFUSED):
        stage(subset, tmp_path / "g", license="mit")


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
        ("[a](http://b)", "“&#91;a&#93;&#40;http&#58;&#47;&#47;b&#41;”"),
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
    tags = ["sae-select", "data-selection", "sparse-autoencoder", "diversity", "mine"]
    assert {name: data[name] for name in more} == more | {"tags": tags}
    assert check_metadata(None) == {}
    ours = ("license", "license_name", "license_link", "configs", "source_datasets", "size_categories", "dataset_info")
    for name in ours:
        with pytest.raises(ValueError, match=f"`metadata` has `{name}`, which follows from the source and the rows"):
            check_metadata({name: "x"})


@pytest.mark.parametrize("value", [object(), Decimal(1), {"a": [np.int64(1)]}], ids=lambda value: type(value).__name__)
def test_metadata_that_yaml_cannot_hold_are_refused(value):
    with pytest.raises(TypeError, match=r"`metadata` holds what YAML cannot: .*; pass texts, numbers and lists of"):
        check_metadata({"pretty_name": value})


def test_a_tuple_in_metadata_is_a_list(tmp_path):
    assert picked(tmp_path, metadata={"language": ("en", "de")})[1]["language"] == ["en", "de"]


def test_the_metadata_of_the_source_that_hold_for_its_rows_are_carried_over(hub, tmp_path, sae):
    stated = "license: mit\nlanguage: [en, 'no']\ntask_categories: [question-answering]\npretty_name: Theirs\n"
    data = card_of(from_hub(hub, stated + "tags: [theirs]\n", sae), tmp_path, license=None)[1]
    assert data == {
        "license": "mit",
        "language": ["en", "no"],
        "task_categories": ["question-answering"],
        "size_categories": ["n<1K"],
        "source_datasets": ["alice/OpenOrca"],
        "tags": ["sae-select", "data-selection", "sparse-autoencoder", "diversity"],
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
        "| all rows | 4 | 4 | 100.0% | 1.5 | 2.8 |  |",
        "| this subset | 3 | 4 | 100.0% | 2.0 | 3.3 | 2 rows |",
        "| random | 3 |",
        "| longest | 3 | 4 | 100.0% | 2.0 | 3.3 | 3 rows |",
        "](coverage.png)",
        "1. Row 2 of the source, 3 new features: “row 2”<br>The new feature with the highest activation, #0, occurs "
        "in 2 of all rows. Other picked rows with it: “row 0”.\n",
        "2. Row 1 of the source, 1 new feature: “row 1”<br>The new feature with the highest activation, #3, occurs in "
        "1 of all rows.\n",
        "| tokens per row | least | 10 % | median | 90 % | most |\n|---|---|---|---|---|---|\n"
        "| all rows | 1 | 1 | 3 | 4 | 4 |\n| this subset | 3 | 3 | 3 | 4 | 4 |\n",
        "(r = 0.92 over all rows)",
        'subset = load_dataset("OWNER/NAME", split="train")',
        'hf_sae_select.verify("OWNER/NAME", "encode", source=source, sae=sae)',
        "mit, as the publisher of this subset states it: the source states none.",
        "@article{yang2025diversity,",
    ):
        assert fact in text
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        f"## {name}" for name in ("What it covers", "Known limits", "Use it", "Verify it", "Licence")
    ] + ["## Citation"]


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
    assert "new features: “user&#58; the " in text


def words_of(row):
    return row["said"]


def test_the_card_of_a_text_that_a_function_wrote(tmp_path, sae):
    ds = Dataset.from_dict({"n": [1, 2, 3], "said": ["the cat", "a dog ran", "the moon"], "more": [None, "*x*", ""]})
    text, _ = card_of(ds.sae_select(2, sae=sae, text=words_of), tmp_path)
    assert "| text of a row | the result of the author's function" in text and "whose code is not recorded |" in text
    assert 'verify("OWNER/NAME", "encode", source=source, sae=sae, text=text)' in text


def test_the_card_of_a_rule_of_ones_own(tmp_path):
    def mine(features, budget, rng, *, pipe="a|b"):
        return Selection(np.array([3, 0]), np.array([0, 1]), np.array([0]))

    text, _ = card_of(coded(ROWS, record=RECORD).sae_select(2, mine), tmp_path)
    assert "| method | `mine`: the author's own method, whose code is not recorded |" in text
    assert '| `pipe` | {"sha256": "' in text and "a|b" not in text
    assert "1. Row 3 of the source, 0 new features: “row 3”\n" in text


def test_the_card_of_rows_that_were_compared_by_vectors_alone(tmp_path):
    ds = Dataset.from_dict({"text": list("abc"), "v": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]})
    text, _ = card_of(ds.sae_select(2, "kcenter", embedding="v"), tmp_path)
    assert "The method `kcenter` " in text
    assert "- **Similarity is not quality.**" in text
    for word in ("coverage.png", "## What it covers", "sparse autoencoder |", "language model |", '"encode"'):
        assert word not in text
    assert not (tmp_path / "f" / "coverage.png").exists()


def test_the_reasons_are_those_of_the_example():
    features = features_of([{0, 1}, {1, 2, 3}, {3}])
    features.acts[:] = [0.5, 0.5, 0.5, 0.9, 0.7, 0.8]  # 2 is the strongest of row 1
    receipt = Selection(np.array([1, 0]), np.array([3, 1]), np.array([0]))
    found = [vars(each) | {"examples": each.examples.tolist()} for each in reasons(features, receipt)]
    assert found == [
        {"row": 1, "new": 3, "feature": 2, "holders": 1, "examples": []},
        {"row": 0, "new": 1, "feature": 0, "holders": 1, "examples": []},
    ]


def test_reasons_begin_anew_with_a_round_and_name_the_strongest_examples():
    features = features_of([{0}, {0}, {0}, {0, 5}, set()])
    features.acts[:] = [0.5, 0.9, 0.7, 0.8, 0.6]
    receipt = Selection(np.array([3, 0, 1, 4]), np.array([2, 0, 1, 0]), np.array([0, 2]))
    found = [
        (each.row, each.new, each.feature, each.holders, each.examples.tolist()) for each in reasons(features, receipt)
    ]
    assert found == [(3, 2, 0, 4, [1, 0]), (0, 0, None, 0, []), (1, 1, 0, 4, [3, 0]), (4, 0, None, 0, [])]
    assert len(reasons(features, receipt, picks=2)) == 2
