"""What is said of a target, in words and figures, on the card and in the report; and the code that repeats."""

import ast
from dataclasses import replace

import pytest
from helpers.forge import RECORD
from helpers.pools import coded

from hf_sae_select import Label, Labels, report
from hf_sae_select.concepts.repetition import Repetition
from hf_sae_select.concepts.target_facts import (
    distance_text,
    distances_of,
    lines_of,
    missing_sentence,
    overlap_sentence,
    summary_of,
)

ROWS = [{i % 7: 0.9, (i * 3) % 7: 0.8} for i in range(20)]
HOSTILE = "<script>alert(1)</script>|\x1b[31m" + "x" * 200
MEASURED = {
    "overlap": {"mode": "exclude", "rows": 3, "equal": 1, "left_out": 3},
    "distances": {
        "subset": {"hellinger": 0.25, "kernel": 0.1},
        "random": {"hellinger": 0.5, "kernel": None},
        "pool": {"hellinger": 0.75, "kernel": float("nan")},
    },
    "missing": {"features": 12, "share": 0.034, "largest": [[3, 0.01], [7, 0.005]]},
}


def test_distances_are_lines_of_a_table():
    assert distances_of(MEASURED) == [
        ["this subset", "0.250", "0.100"],
        ["random rows", "0.500", "-"],
        ["all rows", "0.750", "-"],
    ]
    assert distances_of({}) == [] and distance_text(None) == "-"


def test_overlap_is_said_in_a_sentence():
    how = "as a whole, by half of its 8-grams of words, or as a line"
    said = f"3 rows repeat a row of the target, {how}, and were left out."
    assert overlap_sentence(MEASURED) == said
    one = {"overlap": {"mode": "exclude", "rows": 1}}
    assert overlap_sentence(one).startswith("1 row repeats a row of the target")
    assert overlap_sentence(one).endswith("and was left out.")
    assert "and could be picked." in overlap_sentence({"overlap": {"mode": "only_report", "rows": 2}})
    assert overlap_sentence({"overlap": {"mode": "exclude", "rows": 0}}).startswith("No row that could be selected")
    assert "Nobody looked" in overlap_sentence({"overlap": {"mode": "keep"}}) and overlap_sentence({}) == ""


def test_missing_features_are_named():
    labels = Labels([Label(3, "magnets")], d_sae=16)
    assert missing_sentence(MEASURED, labels) == (
        "12 features of the target, 3.4% of its distribution, are in no row that could be selected: "
        "#3 magnets (1.0%), #7 (0.5%) and 10 more."
    )
    one = {"missing": {"features": 1, "share": 0.01, "largest": [[3, 0.01]]}}
    assert missing_sentence(one, None).startswith("1 feature of the target, 1.0% of its distribution, is in no row")
    assert "All features of the target are" in missing_sentence({"missing": {"features": 0}}, None)
    assert missing_sentence({}, labels) == ""


def test_names_are_cut_and_have_no_control_characters():
    (line,) = lines_of([{"name": HOSTILE, "rows": 1234, "share": 0.25, "sha256": "ab" * 32}])
    assert "\x1b" not in line[0] and len(line[0]) == 60 and line[1:] == ["1,234", "25%", "ab" * 32]


def test_a_method_says_what_it_selects_towards_a_target():
    assert summary_of("match", True) == "selects rows that together have the feature distribution of a target"
    assert summary_of("greedy", True).endswith("; only features of a target count")
    assert summary_of("match", False).endswith("of the dataset")
    assert summary_of("herding", True).startswith("selects rows near those of the target")
    assert summary_of("herding", False).startswith("selects rows near all rows")


def selected(method="herding", target=None, measured=None):
    ds = coded(ROWS, record=RECORD | {"text": {"columns": ["text"], "chat": False}})
    target = coded(ROWS[:9], record=RECORD) if target is None else target
    subset = ds.sae_select(4, method, target=target, overlap="keep", seed=None)
    selection = subset.sae_selection
    return ds, subset, selection if measured is None else replace(selection, target=measured)


@pytest.mark.filterwarnings("ignore:the rows were not read again:UserWarning")
def test_the_report_says_what_the_rows_were_selected_towards(tmp_path):
    target = {HOSTILE: coded(ROWS[:9], record=RECORD), "code": coded(ROWS[9:18], record=RECORD)}
    ds, subset, selection = selected(target=target, measured=MEASURED)
    pages = [
        report(selection, tmp_path / "full.html", pool=ds, target=target),
        report(selection, tmp_path / "without.html", pool=ds),
        report(selection, tmp_path / "short.html"),
    ]
    for page in pages:
        text = page.read_text()
        assert '<section id="target"' in text and selection.parameters["target"][0]["sha256"] in text
        assert "are in no row that could be selected: #3 (1.0%)" in text.replace("&#35;", "#")
        assert "test set of a benchmark" in text and "3 rows repeat a row of the target" in text
        assert "<script>alert" not in text and "\x1b" not in text
    assert "unlike earlier picks" in pages[0].read_text()
    assert "towards a target, which is not at hand" in pages[1].read_text()
    assert "unlike earlier picks" in report(subset, tmp_path / "own.html").read_text()
    with pytest.raises(ValueError, match="`target` tells nothing without the rows that were selected from"):
        report(selection, tmp_path / "short.html", target=target)
    plain = ds.sae_select(3).sae_selection
    assert '<section id="target"' not in report(plain, tmp_path / "plain.html").read_text()


def test_the_code_that_repeats_asks_for_the_target():
    _, _, selection = selected(measured={"overlap": {"mode": "keep"}})
    repeat = Repetition(selection)
    ast.parse(repeat.code)
    assert "    target=target,\n" in repeat.code and "    overlap='keep',\n" in repeat.code
    assert any("“target” is what the rows were selected towards, 9 rows (SHA-256" in note for note in repeat.notes)
    several = {"maths": (coded(ROWS[:9], record=RECORD), 0.75), HOSTILE: (coded(ROWS[9:18], record=RECORD), 0.25)}
    _, _, selection = selected(target=several, measured=MEASURED)
    repeat = Repetition(selection)
    ast.parse(repeat.code)
    assert "overlap=" not in repeat.code and any("shares of the budget (0.75, 0.25)" in note for note in repeat.notes)
    constraints = selection.parameters["constraints"] | {"left_out": {"exclude_near": [1], "overlap": [2]}}
    repeat = Repetition(replace(selection, parameters=selection.parameters | {"constraints": constraints}))
    ast.parse(repeat.code)
    assert "exclude_near=near" in repeat.code and "left_out" not in repeat.code
