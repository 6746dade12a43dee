import math
from functools import partial

import numpy as np
import pytest
from datasets import Dataset
from helpers.pools import coded

from hf_sae_select import FeatureMatrix, Selection, compare, metrics, select
from hf_sae_select.selection.methods import greedy, instag, longest, random

ROWS = [{0: 0.9, 1: 0.9}, {0: 0.9, 1: 0.9}, {2: 0.9}, {0: 0.9, 2: 0.9, 3: 0.9}, {4: 0.1}, {}]


def test_a_line_for_each_method_the_baselines_and_the_pool():
    table = compare(coded(ROWS), 2, ["greedy"])
    assert table.index.tolist() == ["greedy", "longest", "random", "(all rows)"]
    greedy, everything = table.loc["greedy"], table.loc["(all rows)"]
    # rows 3 and one of 0 and 1 cover 0 1 2 3; feature 4 is below the threshold
    assert (greedy["rows"], greedy["features"], greedy["share"], greedy["saturated_at"]) == (2, 4, 1, 2)
    assert (greedy["redundancy"], greedy["tokens"], greedy["length"]) == (1 / 4, 3.5, 3.5 / 2.5)
    assert (everything["rows"], everything["features"], everything["share"]) == (6, 4, 1)
    assert (everything["tokens"], everything["length"]) == (15 / 6, 1)
    assert math.isnan(everything["seconds"]) and greedy["seconds"] > 0


def test_herding_and_match_are_compared_by_default():
    ds = coded([{0: 0.9, 1: 0.1}, {0: 0.9, 2: 0.1}, {0: 0.9, 2: 0.1}])  # encoded without `keep`
    table = compare(ds, 2)
    assert table.index.tolist() == ["herding", "match", "longest", "random", "(all rows)"]
    # what it goes by is weak, and is not what lines are measured by
    assert (table.loc["match", "rows"], table.loc["match", "features"]) == (2, 1)
    assert compare(ds, 2, threshold=0).loc["match", "features"] == 3


def test_methods_may_have_options_and_labels():
    methods = {"strict": {"method": "simscale", "max_overlap": 0.0, "exhausted": "stop"}}
    table = compare(coded(ROWS), 3, methods, threshold=0.05)
    assert table.index.tolist() == ["strict", "longest", "random", "(all rows)"]
    assert table.loc["strict", "rows"] == 2  # rows 3 and 4 overlap with nothing
    assert table.loc["(all rows)", "features"] == 5


def test_constraints_hold_for_every_method_and_baselines_leave_out_what_they_cannot_obey():
    ds = coded(ROWS).add_column("good", [1, 5, 1, 1, 1, 1])
    table = compare(ds, 2, ["greedy"], quality="good", per_token=0.5, exclude=[3])
    assert table.loc["longest", "features"] == 2  # rows 0 and 1
    assert table.loc["greedy", "features"] == 3


def test_baselines_stand_in_the_way_neither_of_an_embedding_nor_of_no_seed():
    ds = coded(ROWS).add_column("v", [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [-1.0, 0.0]])
    table = compare(ds, 2, ["kcenter", "random"], embedding="v", seed=None)
    assert table["rows"].tolist() == [2, 2, 2, 6]
    seeded = compare(ds, 2, [random], seed=0)
    assert table.drop(columns="seconds").loc["random"].equals(seeded.drop(columns="seconds").loc["random"])


def test_without_the_rows_excluded_all_rows_and_shares_are_of_the_others():
    table = compare(coded(ROWS), 2, ["greedy"], exclude=[3])
    greedy, everything = table.loc["greedy"], table.loc["(all rows)"]
    # rows 0 and 2 cover 0 1 2; feature 3 was in row 3 alone
    assert (greedy["features"], greedy["share"], greedy["saturated_at"]) == (3, 1, 2)
    assert (everything["rows"], everything["features"], everything["share"]) == (5, 3, 1)
    assert (everything["tokens"], everything["saturated_at"]) == (11 / 5, 3)
    # two of the five others have feature 0, but three of all six
    assert compare(coded(ROWS), 2, ["greedy"], exclude=[3], max_share=0.4).loc["(all rows)", "features"] == 3


def test_where_there_is_nothing_to_cover_nothing_saturates():
    assert compare(coded([{0: 0.1}, {}]), 1, ["greedy"])["saturated_at"].isna().all()


def test_rows_that_one_method_excludes_are_out_of_its_line_only():
    table = compare(coded(ROWS), 2, {"without": {"method": "greedy", "exclude": [3]}})
    assert (table.loc["without", "features"], table.loc["without", "share"]) == (3, 1)
    assert (table.loc["(all rows)", "rows"], table.loc["longest", "share"]) == (6, 1)


def test_a_rule_of_ones_own_is_compared_under_its_name():
    class Mine:
        def __call__(self, features, budget, rng):
            return greedy(features, budget, rng)

    rules = [instag, partial(greedy, idf=True), Mine()]
    assert compare(coded(ROWS), 2, rules).index.tolist()[:3] == ["instag", "greedy", "Mine"]


@pytest.mark.parametrize("methods", [["longest", "random"], [longest, random], {"random": {"method": "random"}}])
def test_a_baseline_may_be_named(methods):
    assert sorted(compare(coded(ROWS), 2, methods).index) == ["(all rows)", "longest", "random"]


@pytest.mark.parametrize(
    "methods, says",
    [
        ([lambda f, b, r: greedy(f, b, r), lambda f, b, r: instag(f, b, r)], "'<lambda>' twice; choose another label"),
        (["greedy", partial(greedy, idf=True)], "'greedy' twice; choose another label"),
        ({"random": {"method": "greedy"}}, "called 'random', which is a line of every table; choose another label"),
        ([partial(longest)], "called 'longest', which is a line of every table"),
        ({"(all rows)": {"method": "greedy"}}, r"called '\(all rows\)', which is a line of every table"),
    ],
)
def test_lines_that_would_hide_each_other_are_refused(methods, says):
    with pytest.raises(ValueError, match=f"`methods` has .*{says}"):
        compare(coded(ROWS), 2, methods)


@pytest.mark.parametrize(
    "methods, says",
    [
        ([5], "has 5; it must hold names and functions"),
        ([("greedy", {"idf": True})], r"has \('greedy', .*; it must hold names and functions"),
        ({"a": "greedy"}, "has 'greedy' for 'a'; it must be {'method': ...}"),
        ({"a": {"idf": True}}, "has {'idf': True} for 'a'; it must be {'method': ...}"),
    ],
)
def test_what_is_no_method_is_refused(methods, says):
    with pytest.raises(TypeError, match=f"`methods` {says}"):
        compare(coded(ROWS), 2, methods)


def test_what_no_line_can_be_made_of_is_refused():
    with pytest.raises(TypeError, match=r"`methods='greedy'` must be a list of methods, or"):
        compare(coded(ROWS), 2, "greedy")
    with pytest.raises(ValueError, match=r"unknown `method='gready'`"):
        compare(coded(ROWS), 2, ["gready"])
    with pytest.raises(TypeError, match="`dataset` is a list"):
        compare([1], 2)
    with pytest.raises(TypeError, match="`method='match'` is for `select`; pass `methods`, a list of them"):
        compare(coded(ROWS), 2, method="match")


@pytest.mark.parametrize("how", [{"text": "text"}, {"max_length": 5}])
def test_an_encoded_dataset_is_not_read_again_without_an_sae(how):
    with pytest.raises(ValueError, match="encoded already; to encode it again by `text` or `max_length`, pass `sae`"):
        compare(coded(ROWS), 2, **how)


@pytest.mark.parametrize(
    "call, says",
    [
        (
            {"method": "kcenter"},
            "no column `sae_state`, which 'b' needs: encode with `keep='state'`, or pass `embedding=",
        ),
    ],
)
def test_a_column_that_a_method_lacks_is_missed_before_any_other_runs(call, says):
    def never(features, budget, rng):
        pytest.fail("a method ran")

    with pytest.raises(ValueError, match=says):
        compare(coded(ROWS), 2, {"a": {"method": never}, "b": call})


def test_an_unencoded_dataset_is_encoded_once_with_what_the_methods_need(sae, monkeypatch):
    from hf_sae_select.encoding.language_model import LanguageModel

    loads, load = [], LanguageModel.from_pretrained
    monkeypatch.setattr(LanguageModel, "from_pretrained", lambda *a, **k: loads.append(1) or load(*a, **k))
    ds = Dataset.from_dict({"text": ["the cat sat", "a dog ran under the log", "the red moon", "a bird flew"]})
    table = compare(ds, 2, ["match", "kcenter", "greedy"], sae=sae)
    assert table["rows"].tolist() == [2, 2, 2, 2, 2, 4]
    assert len(loads) == 1


def test_before_anything_is_encoded_every_method_is_checked(monkeypatch):
    monkeypatch.setattr("hf_sae_select.encoding.pipeline.load_sae", lambda source: pytest.fail("an SAE was loaded"))
    ds = Dataset.from_dict({"text": ["a", "b"]})
    with pytest.raises(TypeError, match="unknown option `idf` for `method='longest'`"):
        compare(ds, 1, {"greedy": {"method": "greedy"}, "l": {"method": "longest", "idf": True}})


def test_likeness_is_measured_on_the_strongest_features_whatever_the_cut():
    ds = coded([{0: 0.9, 1: 0.1}, {0: 0.9, 1: 0.1}, {0: 0.9, 2: 0.1}])
    expected = metrics.likeness(FeatureMatrix.from_dataset(ds), [0, 1])
    for cuts in ({}, {"threshold": 0.5}, {"top": 1}, {"max_share": 0.5}):
        table = compare(ds, 2, {"first": {"method": "longest", "seed": None}}, **cuts)
        assert table.loc["first", "likeness"] == pytest.approx(expected) == pytest.approx(math.sqrt(2 / 3))
        assert table.loc["(all rows)", "likeness"] == 1


def test_random_rows_say_how_many_are_as_like():
    # one row of each kind is as like all rows as can be, and few random rows have equally many of both
    table = compare(coded([{0: 0.9}, {1: 0.9}] * 50), 2, ["match"])
    assert table.loc["match", "likeness"] == 1 and table.loc["match", "random_rows"] > 50
    # of equal rows, one is as like as all
    table = compare(coded([{0: 0.9}] * 9), 3, ["match"])
    assert table["likeness"].tolist() == [1, 1, 1, 1] and table["random_rows"].tolist() == [1, 1, 1, 9]


def test_picks_without_features_are_like_no_row():
    def second(features, budget, rng):
        return Selection(np.array([1]), np.zeros(1), np.zeros(1, np.int64))

    line = compare(coded([{0: 0.9}, {}]), 1, [second]).loc["second"]
    assert (line["likeness"], line["random_rows"]) == (0, 0)


def test_the_length_is_beside_that_of_the_rows_that_a_line_could_pick():
    # the rows have 2, 2, 1 and 4 tokens, as many as features and one more
    table = compare(coded([{0: 0.9}, {0: 0.9}, {}, {0: 0.9, 1: 0.9, 2: 0.9}]), 1, {"a": {"method": "longest"}})
    lengths = table["tokens"] / table.loc["(all rows)", "tokens"]
    assert table["length"].tolist() == pytest.approx(lengths.tolist())
    without = compare(coded([{0: 0.9}, {0: 0.9}, {0: 0.9, 1: 0.9}]), 1, {"a": {"method": "longest", "exclude": [2]}})
    assert without.loc["a", "length"] == 1 and without.loc["longest", "length"] > 1


def test_towards_a_target_the_distance_stands_where_random_rows_would():
    ds = coded(ROWS)
    table = compare(ds, 2, target=ds.select([0] * 8), overlap="keep")
    assert table.columns.tolist()[:3] == ["rows", "distance", "likeness"] and "random_rows" not in table
    assert "distance" not in compare(ds, 2)


def test_likeness_is_to_the_rows_that_a_line_could_pick():
    ds = coded([{0: 0.9}, {1: 0.9}, {2: 0.9}])
    table = compare(ds, 2, {"without": {"method": "greedy", "exclude": [2]}})
    assert table.loc["without", "likeness"] == 1
    assert table.loc["longest", "likeness"] < 1


# ---- towards a target


def test_methods_that_take_a_target_use_it_and_all_lines_leave_the_same_rows_out():
    rows = [{i % 5: 0.9, 5 + i % 7: 0.7} for i in range(20)]
    pool, wanted = coded(rows), FeatureMatrix.from_dataset(coded(rows[:8]))
    table = compare(pool, 4, target=wanted)
    assert table.index.tolist() == ["herding", "match", "longest", "random", "(all rows)"]
    assert table.loc["(all rows)", "rows"] == 12
    assert table["distance"].between(0, 1).all()
    for method in ("herding", "match"):
        selection = select(pool, 4, method, target=wanted).sae_selection
        assert table.loc[method, "distance"] == selection.target["distances"]["subset"]["hellinger"]
    kept = compare(pool, 4, ["simscale", "greedy"], target=wanted, overlap="keep")
    assert kept.loc["(all rows)", "rows"] == 20
    assert "distance" not in compare(pool, 4).columns
    assert kept.loc["simscale", "features"] == compare(pool, 4, ["simscale"]).loc["simscale", "features"]


def test_a_target_is_drawn_beside_the_other_columns():
    rows = [{i % 5: 0.9, 5 + i % 7: 0.7} for i in range(20)]
    table = compare(coded(rows), 4, target=FeatureMatrix.from_dataset(coded(rows[:8])))
    assert "distance to the target" in table.plot().to_json()
    assert "distance to the target" not in compare(coded(rows), 4).plot().to_json()


def test_what_is_no_target_is_refused():
    with pytest.raises(ValueError, match="`overlap='keep'` is of the rows of a `target`"):
        compare(coded([{0: 0.9}] * 3), 1, overlap="keep")
