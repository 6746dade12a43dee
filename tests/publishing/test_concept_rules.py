"""Rules by concepts are published with a subset, and verified: another feature or threshold differs."""

import json

import pytest
from helpers.forge import DIGESTS, RECORD, choose_and_stage, differences, set_parameter, stage_whole
from helpers.markdown import HOSTILE, images_of, links_of
from helpers.pools import coded
from helpers.reports import HOSTILE as HOSTILE_NAMES

from hf_sae_select import Selection, load_selection, stage, verify
from hf_sae_select.concepts.repetition import Repetition
from hf_sae_select.features.matrix import FeatureMatrix
from hf_sae_select.publishing.published import PublishedSubset, open_published, read_record
from hf_sae_select.sae.labels import Label, Labels, one_line

POOL = [{0: 2.0, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}, {4: 0.9, 5: 0.5}, {6: 0.7, 0: 0.35}]
RULES = {"avoid": {0: 0.5}, "boost": {4: 2.0}}
LEFT = [1, 3, 4, 5]


@pytest.fixture
def folder(tmp_path):
    return choose_and_stage(tmp_path / "f", 2, rows=POOL, **RULES)


@pytest.mark.parametrize("method", ["greedy", "match", "concave"])
def test_a_subset_by_rules_is_verified(method, tmp_path):
    folder = choose_and_stage(tmp_path / "f", 2, method, rows=POOL, **RULES)
    verification = verify(folder, "select")
    assert verification, str(verification)
    constraints = json.loads((folder / "provenance.json").read_text())["selection"]["parameters"]["constraints"]
    assert constraints == {"avoid": [[0, 0.5, ""]], "boost": [[4, 2.0, ""]]}  # no list of rows


def test_baselines_obey_the_rules_too(folder):
    record = json.loads((folder / "provenance.json").read_text())
    assert record["coverage"]["pool"]["rows"] == len(LEFT)
    assert {record["coverage"][rows]["rows"] for rows in ("random", "longest", "subset")} == {2}


@pytest.mark.parametrize("method", ["random", "longest"])
def test_a_baseline_by_rules_is_verified(method, tmp_path):
    subset = coded(POOL, record=RECORD).sae_select(2, method, seed=0, require=[2, 4])
    assert verify(stage(subset, tmp_path / "f", license="mit"), "select")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("avoid", [[0, 2.5, ""]]),
        ("avoid", [[0, 0.3, ""]]),
        ("avoid", [[2, 0.5, ""]]),
        ("avoid", []),
        ("require", [[4, 0.5, ""]]),
        ("require", [[99, 0.5, ""]]),
        ("require_all", [[[4, 0.5, ""], [0, 0.5, ""]]]),
        ("require_all", "all"),
        ("boost", [[2, 9.0, ""]]),
        ("boost", [[4, -1, ""]]),
        ("boost", [[400, 1, ""]]),
        ("boost", []),
        ("avoid", [[0, 1e400, ""]]),
    ],
)
def test_an_altered_rule_differs(folder, name, value):
    if value == [[0, 1e400, ""]]:
        value = [[0, "much", ""]]
    set_parameter(folder, name, value)
    differ = differences(folder, "select")
    assert differ and all(check.startswith("select: ") for check in differ), differ


def test_a_threshold_below_the_cut_is_verified(tmp_path):
    subset = coded(POOL, record=RECORD).sae_select(2, "greedy", avoid={1: 0.1}, threshold=0.55, top=1, max_share=0.9)
    folder = stage(subset, tmp_path / "f", license="mit")
    assert subset.sae_selection.left_out == {"avoid": 2}
    assert verify(folder, "select")
    repo = open_published(folder, None, None, None, False)
    pool, _ = PublishedSubset.read(repo, "", read_record(repo)).read_pool()
    assert FeatureMatrix.from_dataset(pool).row(0).tolist() == [0, 1]  # the cut would drop feature 1


def test_from_the_source_again(hub, sae, bert, tmp_path):
    folder = stage_whole(hub, sae, bert, tmp_path, avoid={0: 0.0})
    verification = verify(folder, "encode")
    assert verification, str(verification)


def test_a_published_selection_is_extended_under_its_rules(folder):
    selection = load_selection(folder)
    assert isinstance(selection, Selection) and selection.left_out == {}  # counts are not published
    again = coded(POOL, record=RECORD).sae_select(3, "greedy", seed=None, extend=selection, **RULES)
    assert again.sae_selection.indices[:2].tolist() == selection.indices.tolist()


@pytest.fixture(scope="module")
def plain_card(tmp_path_factory):
    """The card of a subset whose rules have no names."""
    plain = coded(POOL, record=RECORD).sae_select(2, "greedy", seed=None, avoid=[0], require_all=[[2, 4]])
    return (stage(plain, tmp_path_factory.mktemp("plain") / "g", license="mit") / "README.md").read_text()


@pytest.mark.parametrize("name", [one_line(HOSTILE), *map(one_line, HOSTILE_NAMES)])
def test_names_are_escaped_wherever_they_are_shown(name, plain_card, tmp_path):
    labels = Labels([Label(0, name)], RECORD["d_sae"])
    subset = coded(POOL, record=RECORD).sae_select(
        2, "greedy", seed=None, avoid=[0], require_all=[[2, 4]], labels=labels
    )
    folder = stage(subset, tmp_path / "f", license="mit")
    card = (folder / "README.md").read_text()
    assert "above 0.3" in card and verify(folder, "digests")
    assert (links_of(card), images_of(card)) == (links_of(plain_card), images_of(plain_card))
    report = subset.sae_report(tmp_path / "report.html", spans=0).read_text("utf-8")
    assert "<img src=x" not in report and "window.pwned = 1</script>" not in report.replace("<\\/", "")
    assert "\x1b" not in str(subset.sae_why_not(0))


def test_the_code_that_repeats_a_selection_needs_no_labels():
    dataset = coded(POOL, record=RECORD)
    labels = Labels([Label(0, "cats"), Label(2, "dogs"), Label(4, "dogs/cats")], RECORD["d_sae"])
    with pytest.warns(UserWarning, match="a name of 2 features"):
        subset = dataset.sae_select(
            1, "greedy", seed=None, avoid=6, require_all=["dogs"], boost={4: 3.0}, labels=labels
        )
    code = Repetition(subset.sae_selection).code.split("subset = ")[1]
    assert "require_all=[{2: 0.3, 4: 0.3}]" in code and "avoid={6: 0.3}" in code and "boost={4: 3.0}" in code
    again = eval(code, {"dataset": dataset})
    assert again.sae_selection.indices.tolist() == subset.sae_selection.indices.tolist()
    assert again.sae_selection.left_out == subset.sae_selection.left_out


def test_a_report_says_how_many_rows_were_left_out(tmp_path):
    subset = coded(POOL, record=RECORD).sae_select(2, "greedy", seed=None, **RULES)
    page = subset.sae_report(tmp_path / "report.html", spans=0).read_text("utf-8")
    assert "2 of all rows: left out by `avoid`." in page and "#0 above 0.5" in page
    assert "#4 times 2" in page


def test_the_checks_of_digests_still_have_their_names(folder):
    assert [item.name for item in verify(folder).checks] == DIGESTS
