"""The tables of a card: they follow from the record, and a changed figure is noticed, in one of them or in both."""

import json

import numpy as np
import pytest
from helpers.forge import RECORD, differences, reseal, reseal_figures
from helpers.pools import coded

from hf_sae_select import stage, verify
from hf_sae_select._cards import section_of
from hf_sae_select.features.shares import likeness_text
from hf_sae_select.publishing.figures import tables
from hf_sae_select.publishing.hashing import digest_of
from hf_sae_select.publishing.layout import SECTION

POOL = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}, {4: 0.9, 5: 0.5}, {6: 0.7}]


@pytest.fixture
def balanced(tmp_path):
    """A subset by the default method, with a quota of a column."""
    ds = coded(POOL, record=RECORD).add_column("lang", ["en", "de", "en", "en", "de", None])
    return stage(ds.sae_select(3, quota={"lang": {"en": 1}}, seed=None), tmp_path / "f", license="mit")


def record_of(folder):
    return json.loads((folder / "provenance.json").read_text())


def test_each_value_of_a_quota_has_its_rows_and_shares_before_and_after(balanced):
    assert record_of(balanced)["quotas"] == [
        {
            "column": "lang",
            "values": [
                {"value": "en", "pool": 3, "subset": 1},
                {"value": "de", "pool": 2, "subset": 1},
                {"value": None, "pool": 1, "subset": 1},
            ],
            "others": None,
        }
    ]
    assert tables(record_of(balanced))["quotas"] == (
        "| `lang` | all rows | share | this subset | share |\n"
        "| --- | --- | --- | --- | --- |\n"
        '| "en" | 3 | 50.0% | 1 | 33.3% |\n'
        '| "de" | 2 | 33.3% | 1 | 33.3% |\n'
        "| null | 1 | 16.7% | 1 | 33.3% |\n"
    )


def test_the_values_that_are_not_listed_are_summed_up(balanced):
    record = record_of(balanced)
    record["quotas"][0] |= {"values": [{"value": "x" * 200, "pool": 8, "subset": 2}]}
    record["quotas"][0] |= {"others": {"values": 1_000, "pool": 2, "subset": 0}}
    lines = tables(record)["quotas"].splitlines()
    assert lines[2] == f'| "{"x" * 99} … (in full in provenance.json) | 8 | 80.0% | 2 | 100.0% |'
    assert lines[3] == "| 1,000 other values | 2 | 20.0% | 0 | 0.0% |"


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("match", ["likeness", "lengths"]),
        ("greedy", ["coverage", "lengths"]),
        ("simscale", ["coverage", "lengths"]),
        ("random", ["likeness", "coverage", "lengths"]),
    ],
)
def test_the_tables_show_what_the_method_does(tmp_path, method, names):
    folder = stage(coded(POOL, record=RECORD).sae_select(3, method), tmp_path / "f", license="mit")
    assert list(tables(record_of(folder))) == names
    card = (folder / "README.md").read_text()
    pictures = sorted(file.name for file in folder.glob("*.png"))
    assert pictures == sorted(f"{name}.png" for name in names if name != "lengths")
    assert all(f"]({name})" in card for name in pictures) and card.count(".png)") == len(pictures)


def test_vectors_are_no_features(tmp_path):
    ds = coded(POOL, record=RECORD).add_column("v", np.eye(6)[:, :4].tolist())
    folder = stage(ds.sae_select(3, "kcenter", embedding="v"), tmp_path / "f", license="mit")
    assert list(tables(record_of(folder))) == ["lengths"] and not list(folder.glob("*.png"))
    assert "The rows were compared by vectors." in (folder / "README.md").read_text()
    assert verify(folder, "select")


def test_the_likeness_of_the_default_is_beside_the_baselines(balanced):
    likeness = record_of(balanced)["likeness"]
    assert tables(record_of(balanced))["likeness"] == (
        "|  | rows | likeness to all rows |\n| --- | --- | --- |\n"
        f"| this subset | 3 | {likeness['subset']:.4f} |\n"
        f"| random | 3 | {likeness['random']:.4f} |\n"
        f"| longest | 3 | {likeness['longest']:.4f} |\n"
    )
    assert likeness["subset"] > likeness["longest"]


def double(record):
    record["quotas"][0]["values"][0]["subset"] = 3


CHANGES = {
    "likeness": lambda record: record["likeness"].update(subset=0.999),
    "quotas": double,
    "coverage": lambda record: record["coverage"]["subset"].update(tokens=1.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_figure_that_was_changed_everywhere_is_measured_again(balanced, name):
    reseal_figures(balanced, CHANGES[name])
    assert verify(balanced)
    assert list(differences(balanced, "select")) == [f"select: {name}"]


@pytest.mark.parametrize("name", CHANGES)
def test_a_figure_of_the_record_alone_is_not_in_the_card(balanced, name):
    reseal(balanced, CHANGES[name])
    table = "lengths" if name == "coverage" else name
    assert differences(balanced) == {
        "digests: card": f"README.md does not have the table of {table} that follows from provenance.json"
    }


@pytest.mark.parametrize("name", ["likeness", "lengths", "quotas"])
def test_a_figure_of_the_card_alone_is_not_in_the_record(balanced, name):
    card, table = (balanced / "README.md").read_text(), tables(record_of(balanced))[name]
    card = card.replace(table, table.replace("| this subset | 3 |", "| this subset | 4 |").replace("50.0%", "60.0%"))
    (balanced / "README.md").write_text(card.replace("| this subset | 3 ", "| this subset | 4 "))
    assert "another section" in differences(balanced)["digests: card"]
    digest = digest_of(section_of((balanced / "README.md").read_text()))
    reseal(balanced, lambda record: record.update({SECTION: digest}))  # also by one who writes its digest too
    assert "does not have the table of" in differences(balanced)["digests: card"]


@pytest.mark.parametrize("name", ["likeness", "quotas"])
def test_evidence_that_was_removed_is_missed(balanced, name):
    reseal(balanced, lambda record: record.update({name: None}))
    assert f"select: {name}" in differences(balanced, "select")


def test_likeness_that_was_added_is_noticed(tmp_path):
    folder = stage(coded(POOL, record=RECORD).sae_select(3, "greedy"), tmp_path / "f", license="mit")
    likeness = {"subset": 1.0, "random": 0.1, "longest": 0.1}
    reseal(folder, lambda record: record.update(likeness=likeness))
    assert list(differences(folder, "select")) == ["select: likeness"]


def test_without_the_pool_nothing_is_measured(tmp_path):
    ds = coded(POOL, record=RECORD).add_column("lang", list("aabbcc"))
    subset = ds.sae_select(3, quota="lang")
    subset.sae_selection.save(tmp_path / "selection.json")
    loaded = subset.map(lambda row: row)
    folder = stage(loaded, tmp_path / "f", license="mit", selection=subset.sae_selection)
    record = record_of(folder)
    assert (record["coverage"], record["likeness"], record["quotas"]) == (None, None, None) and tables(record) == {}
    card = (folder / "README.md").read_text()
    assert "so nothing is measured." in card and ".png" not in card
    assert verify(folder) and verify(folder, "select", features=ds)


def test_a_likeness_below_1_is_never_1():
    assert [likeness_text(value) for value in (0.99997, 0.99853, 1.0, 1 - 1e-12)] == [
        "0.9999",
        "0.9985",
        "1.0000",
        "1.0000",
    ]
