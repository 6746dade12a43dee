"""Contrast: the table in plain text, in HTML and as data; names and texts that are not ours stay harmless."""

import json
from dataclasses import replace
from math import inf

import pytest

from hf_sae_select import Contrast
from hf_sae_select.concepts.contrast import ExampleRow, FeatureContrast, Presence

NONE = Presence(0, 0.0, ())
SOME = Presence(3, 0.375, (ExampleRow(4, 2.5), ExampleRow(17, 1.5)))
COOKING = FeatureContrast(7, "cooking", NONE, SOME, inf, 12.5, inf, 0.001, 24.0)
CODE = FeatureContrast(9, "", Presence(500, 0.5, (ExampleRow(1, 9.0),)), NONE, 0.0, 0.0, 0.25, 0.01, 12.0)


def contrast(*features):
    return Contrast(("pool", "reference"), (1000, 8), 0.5, features)


def test_it_prints_as_a_table_of_each_direction():
    assert repr(contrast(COOKING, CODE)).splitlines() == [
        "1 feature more and 1 less frequent in reference (8 rows) than in pool (1,000 rows)",
        "feature     pool  reference  lift  95 % interval      q  rows of reference",
        "#7 cooking  none     37.50%   inf    12.5 to inf  0.001              4, 17",
        "feature    pool  reference  lift  95 % interval     q  rows of pool",
        "#9       50.00%       none     0      0 to 0.25  0.01             1",
    ]


def test_it_says_that_nothing_differs():
    assert repr(contrast()) == "0 features more frequent in reference (8 rows) than in pool (1,000 rows)"
    assert contrast().to_pandas().columns.tolist() == contrast(COOKING).to_pandas().columns.tolist()


def test_a_line_has_at_most_100_characters_and_long_names_are_cut():
    long = replace(COOKING, name="recipe/" * 30)
    with_text = replace(long, other=replace(SOME, examples=(ExampleRow(4, 2.5, "boil " * 100),)))
    lines = repr(contrast(long, with_text)).splitlines()
    assert max(map(len, lines)) == 100 and lines[-1].startswith("    reference 4: boil boil") and "…" in lines[2]


def test_a_long_table_is_cut_and_says_so():
    many = contrast(*[COOKING] * 23)
    assert repr(many).splitlines()[-1] == "and 3 more: `to_pandas()` has them all"
    assert "and 3 more" in many._repr_html_() and len(many.to_pandas()) == 23


def test_small_and_large_numbers_keep_their_digits():
    feature = replace(COOKING, base=Presence(1, 1e-5, ()), lift=37500.0, low=0.0123, high=99.96, q_value=1e-120)
    line = repr(contrast(feature)).splitlines()[2]
    assert line.split() == ["#7", "cooking", "<0.01%", "37.50%", "37,500", "0.012", "to", "100", "0", "4,", "17"]


def test_a_frame_has_the_names_of_the_sets_in_its_columns():
    frame = contrast(COOKING, CODE).to_pandas()
    assert frame["pool_rows"].tolist() == [0, 500] and frame["reference_share"].tolist() == [0.375, 0.0]
    assert frame["reference_examples"].tolist() == [[4, 17], []] and frame["lift"].tolist() == [inf, 0.0]


def test_it_is_a_sequence_of_features():
    both = contrast(COOKING, CODE)
    assert list(both) == [COOKING, CODE] and both[0] is COOKING and both[1:] == (CODE,) and len(both) == 2
    assert both.ids == [7, 9] and both.more == [COOKING] and both.less == [CODE]


def test_json_has_no_infinity():
    data = json.loads(json.dumps(contrast(COOKING).to_dict(), allow_nan=False))
    assert data["names"] == ["pool", "reference"] and data["features"][0]["lift"] is None
    assert data["features"][0]["other"]["examples"][0] == {"row": 4, "activation": 2.5, "text": ""}


HOSTILE = "\x1b[2J<script>alert(1)</script>\nhf_abcdefghijklmnopqrstuvwxyzabcdefgh"


@pytest.mark.parametrize("field", ["name", "text"])
def test_hostile_names_and_texts_are_harmless(field):
    examples = (ExampleRow(4, 2.5, HOSTILE if field == "text" else ""),)
    feature = replace(COOKING, name=HOSTILE if field == "name" else "", other=replace(SOME, examples=examples))
    plain, html = repr(contrast(feature)), contrast(feature)._repr_html_()
    assert "\x1b" not in plain + html and "abcdefghijkl" not in plain + html
    assert len(plain.splitlines()) == (4 if field == "text" else 3)
    assert "<script" not in html and "&lt;script&gt;" in html
