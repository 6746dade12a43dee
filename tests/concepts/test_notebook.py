"""The short form in a notebook: of subsets alone, with numbers that are true, and without markup from outside."""

import pytest
from datasets import Dataset
from helpers.pools import coded

from hf_sae_select import plugin, select_indices
from hf_sae_select.concepts import notebook
from hf_sae_select.sae.labels import Label, Labels

HOSTILE = '</td><script>alert("1")</script><img src=x onerror=alert(1)>'
ROWS = [{0: 0.9, 1: 0.9}, {0: 0.9, 2: 0.9}, {0: 0.9, 3: 0.9}, {}]
RECORD = {"d_sae": 16, "threshold": 0.5, "sae_sha256": "abc", "text": {"columns": ["text"]}}


def shown(obj, formats=("_repr_html_",)):
    """Return what IPython's formatters make of an object: a format whose method returns None is left out."""
    data = {name: getattr(type(obj), name)(obj) for name in formats if hasattr(type(obj), name)}
    return {name: value for name, value in data.items() if value is not None} | {"text": repr(obj)}


def test_a_subset_is_shown_as_a_table_and_any_other_dataset_as_text():
    dataset = coded(ROWS, record=RECORD)
    assert shown(dataset) == {"text": repr(dataset)}
    html = shown(dataset.sae_select(2))["_repr_html_"]
    assert "<th>method</th><td>herding</td>" in html and "<th>rows</th><td>2 of 4</td>" in html
    for other in (dataset.sae_select(2).select([0]), dataset.sae_select(2).filter(lambda row: False)):
        assert shown(other) == {"text": repr(other)}


def test_the_first_picks_have_their_rows_gains_features_and_texts():
    html = coded(ROWS, record=RECORD).sae_select(2, seed=None)._repr_html_()
    assert "<th>likeness</th><td>0.8165; as many random rows 0." in html  # the square root of 2 / 3
    assert "<td>0</td><td>0</td><td>1.583</td><td>#1</td><td>row 0</td>" in html
    assert "<td>1</td><td>1</td><td>1.583</td><td>#2</td><td>row 1</td>" in html


def test_columns_of_codes_may_be_constraints():
    html = coded(ROWS, record=RECORD).sae_select(2, seed=None, quality="sae_tokens")._repr_html_()
    assert "<td>#1</td>" in html


def test_features_have_their_names(monkeypatch):
    labels = Labels([Label(1, "cats")], d_sae=16, sae_sha256="abc")
    monkeypatch.setattr(notebook, "labels_of", lambda record: labels if record["sae_sha256"] == "abc" else None)
    assert "<td>#1 cats</td>" in coded(ROWS, record=RECORD).sae_select(1, seed=None)._repr_html_()


@pytest.mark.parametrize("method", ["greedy", "longest", "random"])
def test_every_method_has_a_short_form(method):
    html = coded(ROWS, record=RECORD).sae_select(2, method)._repr_html_()
    assert f"<td>{method}</td>" in html and html.count("<td>row ") == 2


def test_what_takes_long_is_left_out(monkeypatch):
    monkeypatch.setattr(notebook, "MOST_BYTES", 3)
    html = coded(ROWS, record=RECORD).sae_select(2)._repr_html_()
    assert "likeness" not in html and "#" not in html and "row 0" in html


def test_nothing_from_outside_is_markup(monkeypatch):
    def own(features, budget, rng):
        return select_indices(features, budget, seed=None)

    own.__name__ = HOSTILE
    labels = Labels([Label(1, "<b>bold</b>")], d_sae=16)
    monkeypatch.setattr(notebook, "labels_of", lambda record: labels)
    dataset = coded(ROWS, record=RECORD).remove_columns("text").add_column("text", [HOSTILE] * 4)
    for subset in (dataset.sae_select(2, own), dataset.sae_select(2)):
        html = subset._repr_html_()
        assert not [tag for tag in ("<script", "<img", "<b>") if tag in html]
        assert "&lt;script&gt;" in html


def test_a_changed_or_unreadable_pool_is_no_reason_to_fail():
    for record in ({**RECORD, "text": {"columns": ["gone"]}}, {**RECORD, "text": {}}):
        html = coded(ROWS, record=record).sae_select(2)._repr_html_()
        assert "<td>herding</td>" in html and "row 0" not in html
    assert "<td>2 of 4</td>" in coded(ROWS, record=RECORD).sae_select(2).sae_selection._repr_html_()


def test_an_attribute_of_datasets_own_would_stay(monkeypatch):
    monkeypatch.setattr(Dataset, "_repr_html_", lambda self: "own")
    plugin.attach()
    assert coded(ROWS)._repr_html_() == "own"
