"""What a report says of a selection first: how like all rows it is, or how near the target; then what it covers."""

import pytest
from helpers.forge import RECORD
from helpers.pools import coded

from hf_sae_select.concepts import summary
from hf_sae_select.concepts.measurement import measure

ROWS = [{0: 0.9, 1: 0.9}, {0: 0.9, 2: 0.9}, {0: 0.9, 3: 0.9}, {0: 0.9, 1: 0.9}] * 5


def measured(method, target=None):
    ds = coded(ROWS, record=RECORD)
    options = {} if target is None else {"target": ds.select(target), "overlap": "keep"}
    selection = ds.sae_select(4, method, **options).sae_selection
    return selection, measure(ds, selection, ("likeness", "coverage"))


@pytest.mark.parametrize("method", ["match", "herding", "greedy"])
def test_likeness_stands_first_with_random_rows_beside_it(method):
    selection, figures = measured(method)
    likeness = f"{figures.likeness['subset']:.4f}"
    sentence = summary.sentences(selection, figures)[1]
    start = f"The picks are as like all rows as {figures.random_rows['subset']:,.0f} random rows: their likeness is "
    assert sentence.startswith(f"{start}{likeness} (4 random rows have {figures.likeness['random']:.4f}, ")
    assert summary.facts(selection, figures)[1]["name"] == "likeness to all rows"
    assert summary.facts(selection, figures)[1]["beside"][-1].startswith("as like as ")


def test_where_there_is_a_target_the_distance_to_it_stands_first():
    selection, figures = measured("herding", target=[0, 3] * 5)
    assert summary.sentences(selection, figures)[1].startswith("The distance of the picks to the target is 0.")
    fact = summary.facts(selection, figures)[1]
    assert fact["name"] == "distance to the target" and fact["beside"][0].startswith("random rows 0.")


def test_the_table_has_likeness_lengths_and_redundancy_before_coverage():
    table = summary.figures_table(measured("match")[1])
    assert table.columns[1:7] == ["rows", "likeness", "as random rows", "tokens a row", "redundancy", "features"]
    assert table.rows[-1][:5] == ["all rows", "20", "1.0000", "20", "3.0"]


def test_without_likeness_there_are_no_random_rows_in_the_table():
    ds = coded(ROWS, record=RECORD)
    selection = ds.sae_select(4, "greedy").sae_selection
    assert [row[2:4] for row in summary.figures_table(measure(ds, selection)).rows] == [["-", "-"]] * 4
