"""The table of `compare`: printed, sliced, pickled and drawn."""

import pickle

import pandas as pd
import pytest
from helpers.pools import coded

from hf_sae_select import _charts, compare
from hf_sae_select.selection.table import FORMATS, LINE_WIDTH, Comparison

HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def table():
    return compare(coded([{0: 0.9, 1: 0.9}, {1: 0.9}, {}, {2: 0.9}]), 2, ["match"])


def of_labels(*labels):
    numbers = dict.fromkeys(FORMATS, 52_002.0) | {"share": 1 / 3, "likeness": 0.98765, "distance": 0.12341}
    numbers |= {"saturated_at": float("nan")}
    return Comparison([numbers] * len(labels), index=labels)


def test_a_printed_table_shows_all_columns_and_rounded_numbers():
    header, line, notes = repr(of_labels("a")).splitlines()
    assert header.split() == list(FORMATS)
    assert line.split() == [
        *("a", "52,002", "0.1234", "0.9877", "52,002", "52,002.0", "52,002.00"),
        *("52002.000", "52,002", "0.333", "-", "52,002.00"),
    ]
    assert notes.startswith("distance: to the target; likeness: to all rows")


def test_likeness_comes_before_coverage(table):
    columns = table.columns.tolist()
    assert columns[:6] == ["rows", "likeness", "random_rows", "tokens", "length", "redundancy"]
    assert columns.index("share") > columns.index("redundancy")


def test_a_likeness_below_1_is_not_printed_as_1(table):
    assert "0.9999" in repr(table.assign(likeness=0.99998)) and "1.0000" not in repr(table.assign(likeness=0.99998))


@pytest.mark.parametrize("label", ["facility_location", "my own rule with max_overlap=0.5 and quality", "x" * 300])
def test_a_printed_line_fits_a_terminal(table, label):
    lines = repr(table.rename(index={"match": label})).splitlines()
    assert len(lines) == 6 and max(map(len, lines)) <= LINE_WIDTH
    assert label[:9] in lines[1] and "..." not in lines[0]


def test_a_label_neither_breaks_a_line_nor_moves_the_cursor():
    assert len(repr(of_labels("a\nb", "c\x1b[2Jd")).splitlines()) == 4
    assert "\x1b" not in repr(of_labels("c\x1b[2Jd"))


def test_the_numbers_stay_as_measured(table):
    assert table.loc["random", "share"] == 2 / 3
    assert table["rows"].tolist() == [2, 2, 2, 4]


def test_a_part_of_a_table_is_a_table_and_anything_else_a_frame(table):
    assert repr(table[["share"]].tail(1)).split() == ["share", "(all", "rows)", "1.000"]
    assert isinstance(table.sort_values("likeness"), Comparison)
    for frame in (table.T, table.assign(mine="text"), table.assign(share="text"), table[["share"] * 2]):
        plain = pd.DataFrame(frame)
        assert repr(frame) == repr(plain)
        assert frame._repr_html_() == plain._repr_html_()


def test_a_table_survives_pickling(table):
    again = pickle.loads(pickle.dumps(table))
    assert isinstance(again, Comparison) and again.equals(table)


def test_a_notebook_shows_labels_as_text():
    html = of_labels(HOSTILE)._repr_html_()
    assert "&lt;img" in html and "<img" not in html and "0.9877" in html
    assert html.endswith("length: all rows have 1</p>")


def test_a_figure_of_every_line(table):
    datasets = table.plot().to_dict()["datasets"].values()
    for column in ("likeness", "tokens", "redundancy", "share"):
        assert [{"method": label, "value": value} for label, value in table[column].items()] in datasets


def test_the_panel_of_likeness_is_first_and_where_there_is_a_target_its_distance(table):
    def first(figure):
        return figure.to_dict()["hconcat"][0]["layer"][0]["encoding"]["x"]["title"]

    assert first(table.plot()) == "likeness to all rows"
    assert first(of_labels("a").plot()) == "distance to the target"


def test_equal_tables_give_equal_pictures(table):
    assert _charts.svg(table.plot()) == _charts.svg(table.copy().plot())
    assert _charts.png(table.plot()) == _charts.png(table.plot())


def test_labels_are_no_markup_in_a_picture():
    picture = _charts.svg(of_labels(HOSTILE).plot())
    assert "<img" not in picture and "&lt;img" in picture


def test_what_is_nan_is_not_drawn(table):
    unknown = table.assign(likeness=float("nan"))
    rows = [row for rows in unknown.plot().to_dict()["datasets"].values() for row in rows]
    assert {"method": "match", "value": None} in rows
    assert _charts.svg(unknown.plot()).startswith("<svg")


def test_a_table_without_what_is_drawn_is_refused(table):
    with pytest.raises(ValueError, match="no column `likeness`, which is drawn"):
        table.drop(columns="likeness").plot()


def test_without_altair_the_line_that_installs_it_is_named(table, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "altair", None)
    with pytest.raises(ImportError, match=r'charts and reports need `altair`: pip install "hf-sae-select\[report\]"'):
        table.plot()
