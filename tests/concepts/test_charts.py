"""Charts: what is drawn, that equal numbers give equal pictures, and that text from outside stays text."""

import math
import sys

import numpy as np
import pytest

from hf_sae_select.concepts import charts
from hf_sae_select.concepts.representation import FeatureShare
from hf_sae_select.selection.table import PANELS, Comparison

HOSTILE = '</script><img src=x onerror="alert(1)">'
CURVES = {"subset": [0.5, 0.9, 1.0], "random": [0.4, 0.6, 0.7], "longest": [0.1, 0.2, 0.96]}
SHARES = [
    FeatureShare(3, HOSTILE, 4, 3, 0.4, 0.9, 2.25, 0.01, "over"),
    FeatureShare(5, "", 4, 0, 0.4, 0.0, 0.0, 0.2, "missing"),
]


def values(figure):
    """Return the data of a figure."""
    return [row for rows in figure.to_dict()["datasets"].values() for row in rows]


FIGURES = {
    "likeness": lambda: charts.likeness_curve(CURVES),
    "coverage": lambda: charts.coverage_curve({"subset": [3, 5, 6], HOSTILE: [1, 2, 3]}, 8),
    "lengths": lambda: charts.lengths({"pool": [5, 9, 900], "subset": [9]}),
    "features": lambda: charts.feature_shares(SHARES),
}


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_equal_numbers_give_equal_pictures(name):
    draw = FIGURES[name]
    assert draw().to_dict() == draw().to_dict()
    assert charts.svg(draw()) == charts.svg(draw())
    picture = charts.png(draw())
    assert picture == charts.png(draw()) and picture[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["coverage", "features"])
def test_text_from_outside_is_a_value(name):
    figure = FIGURES[name]()
    assert "<img" not in charts.svg(figure)
    description = figure.to_dict()
    assert HOSTILE in str(description.pop("datasets"))
    # Beside the data, names are in lists of values alone: no expression, field or title holds one.
    for layer in description["layer"]:
        for channel in layer["encoding"].values():
            for key, value in channel.items() if isinstance(channel, dict) else ():
                assert key in ("scale", "sort") or HOSTILE not in str(value)


def test_curves_have_a_point_for_each_pick_in_the_range_that_is_shown():
    rows = values(FIGURES["likeness"]())
    assert rows[0] == {"rows": "this subset", "picks": 1, "value": 0.5}
    assert {row["rows"] for row in rows} == {"this subset", "random", "longest"}
    assert min(row["value"] for row in rows) >= 0.1
    assert FIGURES["coverage"]().to_dict()["layer"][0]["encoding"]["y"]["scale"]["domain"] == [0, 8]


def test_long_curves_are_drawn_by_some_hundred_points_the_first_and_last_among_them():
    rows = values(charts.coverage_curve({"subset": np.arange(1, 50_001)}))
    assert 200 < len(rows) <= charts.POINTS
    assert [rows[0]["value"], rows[1]["value"], rows[-1]["value"]] == [1, 2, 50_000]


def test_what_is_nan_or_missing_is_not_drawn():
    assert charts.likeness_curve({"subset": [math.nan, 0.99]}).to_dict()
    for figure in (charts.likeness_curve({"subset": []}), charts.coverage_curve({}), charts.feature_shares([])):
        assert charts.svg(figure).startswith("<svg")
    assert charts.svg(charts.lengths({"pool": np.array([], np.int64)})).startswith("<svg")


def test_lengths_are_shares_of_rows_and_the_last_step_says_what_it_holds():
    figure = charts.lengths({"pool": [1] * 399 + [9_000], "subset": [1]})
    rows = values(figure)
    assert sum(row["share"] for row in rows[:2]) == 1  # the last step, drawn to its end, is in the data twice
    assert "1 and more" in figure.to_dict()["encoding"]["x"]["title"]
    assert "more" not in charts.lengths({"pool": [1, 2, 40]}).to_dict()["encoding"]["x"]["title"]


def test_features_are_points_by_their_shares():
    rows = values(FIGURES["features"]())
    over = {"feature": f"#3 {HOSTILE}", "pool": 0.4, "picks": 0.9, "lift": 2.25, "kind": "more than random picks"}
    assert over in rows
    assert any(row.get("kind") == "no pick has it" and row["feature"] == "#5" for row in rows)


def test_without_altair_the_line_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ImportError, match=r'pip install "hf-sae-select\[report\]"'):
        charts.lengths({"pool": [1]})


UNDRAWABLE = "a\x00b\x07c\x0bd\x1be\ufffef\uffffg\ud800h\u061ci"


def test_signs_that_no_picture_can_hold_are_replaced():
    shown = "a\ufffdb\ufffdc d\ufffde\ufffdf\ufffdg\ufffdh\ufffdi"
    figures = [
        charts.lengths({UNDRAWABLE: [3, 4]}),
        charts.coverage_curve({UNDRAWABLE: [3, 4]}),
        charts.feature_shares([FeatureShare(3, UNDRAWABLE, 4, 3, 0.4, 0.9, 2.25, 0.01, "over")]),
        Comparison({name: [0.5] for name in PANELS}, index=[UNDRAWABLE.replace("\ud800", "\x7f")]).plot(),
    ]
    for figure in figures:
        assert shown in str(figure.to_dict())
        assert charts.png(figure)[:4] == b"\x89PNG" and "<svg" in charts.svg(figure)


def test_each_kind_of_rows_has_its_own_look():
    assert len({str(style) for style in charts.STYLES.values()}) == len(charts.STYLES)
