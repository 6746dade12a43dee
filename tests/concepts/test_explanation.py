"""The reasons of a subset, from its pool: names, texts, spans, and what is said where the pool is gone."""

import pickle

import pytest
from datasets import Dataset
from helpers.pools import coded

import hf_sae_select
from hf_sae_select import Label, Labels, Reason, Reasons, explain
from hf_sae_select.features.columns import encoding_record

ROWS = [{0: 0.9, 1: 0.9}, {1: 0.9, 2: 0.95, 3: 0.9}, {3: 0.9}, {0: 0.9, 1: 0.2}]
TEXTS = ["the cat", "a dog ran", "the moon", "a big red bird flew over the moon"]


def test_one_pick_has_a_reason_and_several_have_reasons():
    subset = coded(ROWS).sae_select(3, "greedy", seed=None)
    one = subset.sae_explain(1)
    assert isinstance(one, Reason) and (one.pick, one.row) == (1, 0)
    every = subset.sae_explain()
    assert isinstance(every, Reasons) and len(every) == 3 and every[1] == one
    assert list(subset.sae_explain([2, 0])) == [every[2], every[0]]
    assert explain(subset, 1) == one


def test_the_cuts_of_the_selection_are_applied():
    ds = coded(ROWS)
    strong = ds.sae_select(2, "greedy", seed=None, threshold=0.5).sae_explain(0)
    assert [part.feature for part in strong.parts] == [2, 1, 3]
    one = ds.sae_select(2, "greedy", seed=None, threshold=0.92).sae_explain(0)
    assert [part.feature for part in one.parts] == [2] and one.parts[0].rows == 1
    cut = ds.sae_select(2, "greedy", seed=None, top=1, max_share=0.6).sae_explain()
    assert all(reason.n_parts == 1 for reason in cut)


@pytest.mark.parametrize("arguments", [{"quality": "good"}, {"cost": "price"}, {"quota": "kind"}, {"cost": "tokens"}])
@pytest.mark.parametrize("keep_codes", [False, True])
def test_columns_of_constraints_come_from_the_pool(arguments, keep_codes):
    ds = coded(ROWS).add_column("good", [1.0, 2, 0, 3]).add_column("price", [3, 1, 2, 1])
    ds = ds.add_column("kind", list("abab"))
    budget = 5 if "cost" in arguments else 2
    subset = ds.sae_select(budget, keep_codes=keep_codes, **arguments)
    assert [reason.row for reason in subset.sae_explain()] == subset.sae_selection.indices.tolist()


def test_names_come_from_labels_and_those_of_another_sae_are_refused():
    subset = coded(ROWS).sae_select(2, "greedy", seed=None)
    named = Labels([Label(2, "cats")], d_sae=16, sae_sha256="abc")
    assert subset.sae_explain(0, labels=named).parts[0].name == "cats"
    with pytest.raises(ValueError, match="`labels` are of another SAE of the same width"):
        subset.sae_explain(0, labels=Labels([], d_sae=16, sae_sha256="def"))
    with pytest.raises(TypeError, match="`labels='cats'` must be Labels"):
        subset.sae_explain(0, labels="cats")


def test_vectors_come_from_the_pool(sae):
    ds = Dataset.from_dict({"text": TEXTS, "v": [[1.0, 0], [0, 1.0], [1, 0.1], [0.1, 1]]})
    by_column = ds.sae_select(2, "kcenter", embedding="v").sae_explain()
    assert by_column[1].nearest.row == by_column[0].row and by_column[0].n_stands_for == 1
    states = ds.sae_select(2, "facility_location", sae=sae).sae_explain(spans=0)
    assert all(reason.n_nearer > 0 for reason in states)


def test_rows_are_read_again_and_each_feature_has_its_characters(sae):
    subset = Dataset.from_dict({"text": TEXTS}).sae_select(3, sae=sae)
    why = subset.sae_explain(sae=sae, spans=2)
    assert [reason.text for reason in why] == [*subset["text"][:2], ""]
    for reason in why[:2]:
        assert all(part.spans for part in reason.parts)
        assert all(reason.text[start:end].strip() for part in reason.parts for start, end in part.spans)
        assert "<mark>" in reason._repr_html_()
    assert all(part.spans == () for part in why[2].parts)


def test_a_text_that_a_function_wrote_is_read_by_it(sae):
    ds = Dataset.from_dict({"words": TEXTS, "n": [1, 2, 3, 4]})

    def text(row):
        return f"{row['words']} and {row['words']}"

    subset = ds.sae_select(2, sae=sae, text=text)
    assert subset.sae_explain(0, sae=sae, text=text).text == text(subset[0])
    with pytest.raises(ValueError, match="a function wrote the text of the rows; pass it as `text`"):
        subset.sae_explain(0, sae=sae)


def test_what_cannot_be_read_again_is_said_and_the_rest_is_returned(sae):
    subset = Dataset.from_dict({"text": TEXTS}).sae_select(2, sae=sae)
    with pytest.warns(UserWarning, match=r"the rows were not read again, so no text is shown: .*pass `sae`"):
        why = subset.sae_explain(0)
    assert why.text == "" and why.parts
    assert subset.sae_explain(0, spans=0) == why


@pytest.mark.filterwarnings("ignore:.*knows less than half of their tokens:UserWarning")
def test_a_row_of_injections_runs_nowhere(sae):
    odd = ["<script>alert(1)</script> the cat", "<img src=x onerror=alert(1)> the moon", "a dog \x1b[31m"]
    subset = Dataset.from_dict({"text": odd}).sae_select(3, sae=sae)
    why = subset.sae_explain(sae=sae)
    page = why._repr_html_() + "".join(reason._repr_html_() for reason in why)
    assert "<script" not in page and "<img" not in page and "\x1b" not in page + str(why)
    assert "&lt;script" in page.replace("<mark>", "").replace("</mark>", "")


# The pool is gone


def test_a_subset_that_lost_its_pool_is_explained_with_it():
    ds = coded(ROWS)
    subset = ds.sae_select(2, "greedy", seed=None)
    why, selection = subset.sae_explain(), subset.sae_selection
    rows = Dataset.from_dict(subset.to_dict())
    assert rows.sae_explain(selection=selection, pool=ds) == why
    assert pickle.loads(pickle.dumps(subset)).sae_explain() == why
    with pytest.raises(ValueError, match=r"no `sae_selection`.*pass it here as `selection`, with the `pool`"):
        rows.sae_explain()
    with pytest.raises(ValueError, match=r"the pool of 4 rows .* is not attached.*pass the encoded dataset as `pool`"):
        rows.sae_explain(selection=selection)
    with pytest.raises(ValueError, match=r"`pool` has 2 rows, but the rows were selected from 4"):
        rows.sae_explain(selection=selection, pool=ds.select([0, 1]))
    with pytest.raises(ValueError, match="`pool` does not have the codes"):
        rows.sae_explain(selection=selection, pool=ds.select_columns("text"))
    with pytest.raises(ValueError, match=r"`selection` has 2 picks, but `subset` has 1 rows"):
        rows.select([0]).sae_explain(selection=selection, pool=ds)
    with pytest.raises(ValueError, match="filter first, then select"):
        subset.filter(lambda row: row["text"] == "row 1").sae_explain()


def test_codes_of_other_rows_are_noticed():
    ds = coded(ROWS)
    subset = ds.sae_select(2, "greedy", seed=None)
    rows = Dataset.from_dict(subset.to_dict())
    other = coded([{9: 0.9}, {8: 0.9}, {7: 0.9}, {6: 0.9}])
    assert encoding_record(other) == encoding_record(ds)
    with pytest.raises(ValueError, match="`features` are not those that the rows were selected by"):
        rows.sae_explain(selection=subset.sae_selection, pool=other)


def test_other_rows_or_another_order_are_refused(sae):
    pool = Dataset.from_dict({"text": TEXTS}).sae_encode(sae)
    subset = pool.sae_select(2, "greedy", seed=None)
    selection = subset.sae_selection
    (first, _), left = selection.indices.tolist(), sorted(set(range(4)) - set(selection.indices.tolist()))
    assert subset.select([0, 1]).sae_explain(selection=selection, pool=pool, spans=0) == subset.sae_explain(spans=0)
    with pytest.raises(ValueError, match=r"`subset` has other rows .*: 2 of 2 differ, row 0 is the first"):
        subset.select([1, 0]).sae_explain(selection=selection, pool=pool)
    with pytest.raises(ValueError, match=r"`subset` has other rows"):
        subset.sae_explain(selection=pool.sae_select(2, "longest").sae_selection)
    with pytest.raises(ValueError, match=rf"`pool` is not .* picks differ, row {first} is the first"):
        subset.sae_why_not(0, pool=pool.select([3, 2, 1, 0]))
    changed = [f"{row} changed" if i == left[0] else row for i, row in enumerate(TEXTS)]
    old_codes = pool.remove_columns("text").add_column("text", changed)
    with pytest.raises(ValueError, match=r"`pool` is not .* 1 of 4 rows were changed after they were encoded"):
        subset.sae_explain(pool=old_codes)
    with pytest.raises(ValueError, match=r"`pool` is not .* no column `text`, by which the selected rows are known"):
        subset.sae_explain(pool=pool.remove_columns("text"))
    assert subset.remove_columns("text").sae_explain(0, spans=0)


def test_another_text_function_is_refused(sae):
    ds = Dataset.from_dict({"words": TEXTS})
    subset = ds.sae_select(2, sae=sae, text=lambda row: row["words"])
    with pytest.raises(ValueError, match=r"`text` does not read what was encoded: row . is the first of 2"):
        subset.sae_explain(sae=sae, text=lambda row: row["words"].upper())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"picks": 2}, r"`picks` has 2; it must be a position from 0 to 1"),
        ({"picks": -1}, r"`picks` has -1"),
        ({"picks": True}, r"`picks=True` must be"),
        ({"spans": -1}, r"`spans=-1` must be"),
        ({"spans": True}, r"`spans=True` must be"),
        ({"most": 0}, r"`most=0` must be"),
        ({"runners_up": None}, r"`runners_up=None` must be"),
        ({"selection": "greedy"}, r"`selection='greedy'` must be a Selection"),
        ({"pool": ["a"]}, r"`pool` is a list"),
    ],
)
def test_arguments_are_checked(arguments, error):
    subset = coded(ROWS).sae_select(2)
    with pytest.raises((TypeError, ValueError), match=error):
        subset.sae_explain(**arguments)


def test_no_torch_is_loaded_where_no_row_is_read(monkeypatch):
    monkeypatch.setattr("hf_sae_select.encoding.spans.row_spans", lambda *a, **b: pytest.fail("rows were read"))
    assert coded(ROWS).sae_select(2).sae_explain(spans=0)
    assert {"explain", "reasons", "why_not"} <= set(dir(hf_sae_select))
