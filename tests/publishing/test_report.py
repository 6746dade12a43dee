"""The report of a subset beside its card: written, linked, pushed along, and verified by its digest."""

import json
import sys

import numpy as np
import pytest
from datasets import Dataset
from helpers import tiny
from helpers.forge import ALICE, POOL, RECORD, differences
from helpers.pools import coded

from hf_sae_select import Selection, push, stage, verify
from hf_sae_select.sae.labels import Label, Labels
from hf_sae_select.selection.attachment import selection_of

# Nobody can fetch the SAEs of these pools.
pytestmark = pytest.mark.filterwarnings("ignore:the rows were not read again")

LINK = "[report](report.html)"
LABELS = Labels([Label(n, f"name {n}") for n in range(16)], 16)


def picked(method="match", **options):
    return coded(POOL, record=RECORD).sae_select(3, method, seed=None, **options)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A staged subset with a report."""
    return stage(picked(), tmp_path_factory.mktemp("reported") / "f", license="mit", report=True, labels=LABELS)


def test_the_report_is_written_linked_and_in_the_record(reported):
    page = (reported / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "name 2" in page
    assert LINK in (reported / "README.md").read_text()
    assert "report.html" in json.loads((reported / "provenance.json").read_text())["files"]
    assert verify(reported, "select")


def test_without_it_the_card_has_no_link(tmp_path):
    folder = stage(picked(), tmp_path / "f", license="mit")
    assert not (folder / "report.html").exists() and LINK not in (folder / "README.md").read_text()


def test_a_report_that_was_changed_is_noticed(tmp_path):
    folder = stage(picked(), tmp_path / "f", license="mit", report=True)
    page = folder / "report.html"
    page.write_text(page.read_text().replace("3 of 6 rows", "9 of 6 rows"))
    assert differences(folder)["digests: files"].startswith("report.html was changed: its SHA-256 is ")
    page.unlink()
    assert differences(folder) == {"digests: files": "report.html is missing"}
    assert (stage(picked(), folder, license="mit") / "README.md").exists()  # it may be replaced


def test_published_twice_it_is_one_commit(hub, tmp_path, reported):
    first = push(reported, "alice/subset", **ALICE)
    again = stage(picked(), tmp_path / "again", license="mit", report=True, labels=LABELS)
    assert push(again, "alice/subset", **ALICE).oid == first.oid
    assert "report.html" in hub.files("alice/subset", "dataset")
    push(stage(picked(), tmp_path / "bare", license="mit"), "alice/subset", **ALICE)
    assert "report.html" not in hub.files("alice/subset", "dataset")


def test_the_report_of_a_selection_without_its_pool_is_short(tmp_path):
    subset = picked()
    loaded = subset.map(lambda row: row)
    folder = stage(loaded, tmp_path / "f", license="mit", selection=subset.sae_selection, report=True)
    assert "this report is short" in (folder / "report.html").read_text()
    assert verify(folder)


def test_the_subset_keeps_its_own_attachment(tmp_path):
    subset = picked()
    before = selection_of(subset)
    stage(subset, tmp_path / "f", license="mit", report=True)
    assert selection_of(subset) is before


@pytest.mark.parametrize("method", ["greedy", "kcenter", "random"])
def test_the_report_of_other_methods(tmp_path, sae, method):
    ds = Dataset.from_dict({"text": [" ".join(tiny.WORDS[i : i + 1 + i % 4]) for i in range(9)]})
    folder = stage(ds.sae_select(3, method, sae=sae), tmp_path / "f", license="mit", report=True)
    assert verify(folder, "select") and (folder / "report.html").exists()


def test_the_report_names_no_folder_of_this_machine(tmp_path, sae):
    def mine(features, budget, rng, *, place=""):
        return Selection(np.arange(budget), np.zeros(budget), np.array([0]))

    ds = Dataset.from_dict({"text": [" ".join(tiny.WORDS[i : i + 1 + i % 4]) for i in range(9)]})
    subset = ds.sae_select(3, mine, sae=sae, place=str(tmp_path))  # the model lies in a folder too
    page = (stage(subset, tmp_path / "f", license="mit", report=True) / "report.html").read_text()
    assert str(tmp_path) not in page and sae.config.model not in page


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_without_the_extra_the_line_that_installs_it_comes_first(tmp_path, monkeypatch, missing):
    subset = picked()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf'need `{missing}`: pip install "hf-sae-select\[publish\]"'):
        stage(subset, tmp_path / "f", license="mit", report=True)
    assert list(tmp_path.iterdir()) == [] or not (tmp_path / "f").exists()


def test_report_is_a_flag(tmp_path):
    with pytest.raises(ValueError, match="`report='yes'`"):
        stage(picked(), tmp_path / "f", license="mit", report="yes")


def test_the_card_says_what_the_report_shows(tmp_path, reported):
    assert "shows the picks with their reasons: download it" in (reported / "README.md").read_text()
    subset = Dataset.from_dict({"text": ["a", "b", "c"], "v": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]})
    folder = stage(subset.sae_select(2, "kcenter", embedding="v"), tmp_path / "f", license="mit", report=True)
    assert "lists the picks and sums up the selection: download it" in (folder / "README.md").read_text()
    assert "this report is short" in (folder / "report.html").read_text()
