"""Why a row was not picked: true of the method, beside naive recomputation."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.pools import coded, features_of, thoroughly, with_all
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import METHODS, Label, Labels, select_indices, why_not
from hf_sae_select.concepts.rejection import CAUSES, rejection
from hf_sae_select.selection.target_argument import TargetArgument
from hf_sae_select.selection.trace import Trace

ROWS = [{0, 1}, {1, 2, 3}, {3}, {0, 1}, set(), {0, 1, 2, 9}]


def answer(rows, row, budget=2, method="greedy", columns=None, **arguments):
    features = rows if not isinstance(rows, list) else features_of(rows)
    selection = select_indices(features, budget, method, seed=None, columns=columns, **arguments)
    return rejection(Trace.of(features, selection, columns), row)


def test_a_row_that_was_picked_is_said_to_be():
    why = answer(ROWS, 5)
    assert (why.cause, why.pick, why.nearest[0].pick) == ("picked", 0, 1)
    assert str(why).startswith("Row 5 was picked: it is pick 0.")


def test_a_row_that_lost_has_its_best_attempt():
    why = answer(ROWS, 0)  # picks 5 (4 features) and 1 (feature 3)
    assert (why.cause, why.closest.pick, why.closest.row) == ("score", 1, 1)
    assert (why.closest.gain, why.closest.difference, why.closest.rank, why.gain_at_end) == (0, 1, 3, 0)
    assert [near.row for near in why.nearest] == [1] and not why.is_near_duplicate
    assert "a larger score. It came nearest at pick 1, row 1: it would have gained 0, rank 3 of the rows" in str(why)
    assert why.parts == ()
    equal = answer([{0, 1}, {2, 3}, {4}, {5}], 3, 3)
    assert (equal.cause, equal.closest.pick, equal.closest.difference) == ("score", 2, 0)
    assert "a larger score, or the same one and came first. It came" in str(equal)
    assert "its score was the same, but came later in order. After the last pick it would add 1." in str(equal)
    quota = {"columns": {"kind": list("aab")}, "quota": {"kind": {"a": 1}}}
    first = answer([{0, 1, 2}, {3}, {4}], 1, **quota)
    assert (first.cause, first.closest.pick, first.closest.difference, first.obstacle) == ("quota", 1, 0, "quota")
    assert "At pick 1 its score was the same as, and came before, that of row 2." in str(first)
    assert "would add 1, but its quota had no room" in str(answer([{0, 1, 2}, {3}, {4, 5}], 1, **quota))


def test_what_a_row_would_have_gained_is_taken_apart():
    features = features_of([{0, 1, 2}, {2, 3}, {4}])
    trace = Trace.of(features, select_indices(features, 1, "greedy", seed=None))
    why = rejection(trace, 1, Labels([Label(3, "cats")], d_sae=16))
    assert [(part.feature, part.gain, part.share) for part in why.parts] == [(2, 1, 0.5), (3, 1, 0.5)]
    assert "it would have gained 2 (the largest parts: #3 cats (50.0%) and #2 (50.0%)), rank 2" in str(why)


def test_initial_rows_that_spend_the_budget_are_what_decided():
    for method in ("greedy", "simscale", "longest"):
        why = answer(ROWS, 0, method=method, must_include=[3, 1])
        assert (why.cause, why.closest) == ("budget", None) and "spent the budget, so nothing else" in str(why)
    selection = select_indices(features_of(ROWS), 1, "random", must_include=[3])
    assert rejection(Trace.of(features_of(ROWS), selection), 0).cause == "budget"


def test_a_first_pick_of_kcenter_is_nothing_to_compare_with():
    features = with_all(features_of([{0}, {1}, {2}, {0, 1}], tokens=[9, 2, 2, 3]))
    why = answer(features, 3, 2, "kcenter", center=False)
    assert (why.cause, why.closest.pick) == ("score", 1)
    assert answer(features, 3, "4 tokens", "kcenter", center=False).cause == "cost"
    for method in ("kcenter", "facility_location"):
        dear = answer(features, 0, "5 tokens", method, center=False)
        assert (dear.cause, dear.obstacle) == ("cost", "cost")


def test_a_row_that_herding_did_not_compare():
    rows = [{0, 1, 2}, {0, 1, 3}, {0, 1, 4}, {0, 2, 5}, {0, 3, 6}]
    whys = [answer(rows, row, 2, "herding", candidates=1) for row in range(5)]
    assert sorted(why.cause for why in whys) == ["candidates"] * 3 + ["picked"] * 2
    lost = next(why for why in whys if why.cause == "candidates")
    assert "not picked by `herding`: the method compares some rows at each pick, see its option `candidates`" in str(
        lost
    )
    assert lost.closest is None and lost.gain_at_end > 0
    assert {answer(rows, row, 2, "herding").cause for row in range(5)} == {"picked", "score"}


def test_rows_that_could_not_be_picked():
    columns = {"kind": list("aaabbb"), "price": [9, 1, 1, 9, 1, 2], "good": [0, 1, 1, 1, 1, 1]}
    assert answer(ROWS, 0, exclude=[0]).cause == "excluded"
    assert answer(ROWS, 4).cause == "blank"
    assert answer(ROWS, 0, columns=columns, quality="good").cause == "quality"
    assert answer(ROWS, 0, 3, columns=columns, cost="price").cause == "cost"
    full = answer(ROWS, 1, 2, columns=columns, quota={"kind": {"a": 0}})
    assert full.cause == "quota" and "its quota had no room" in str(full)
    later = answer([{0, 1, 2}, {3, 4}, {5}], 1, columns={"kind": list("aab")}, quota={"kind": {"a": 1}})
    assert (later.cause, later.closest.pick, later.closest.difference) == ("quota", 1, -1)
    assert "At pick 1 its score was larger than that of row 2." in str(later)


def test_a_near_duplicate_is_called_so():
    why = answer([{0, 1}, {2, 3}, {0, 1}], 2, method="match")
    assert (why.nearest[0].row, why.is_near_duplicate) == (0, True)
    assert "Row 0, pick 0, is nearly the same, with a similarity of 1.00." in str(why)


@pytest.mark.filterwarnings("ignore:.*returning . rows:UserWarning")
@pytest.mark.parametrize("against", ["union", "nearest"])
def test_a_scan_says_the_overlap_at_the_rows_turn(against):
    rows = [{0, 1, 2, 3}, {0, 1, 7}, {4, 5}, {6}]
    why = answer(rows, 1, 2, "simscale", max_overlap=0.5, against=against)
    assert (why.cause, why.overlap, why.limit) == ("overlap", pytest.approx(2 / 3), 0.5)
    assert "earlier picks had too many of its features at its turn, 67% where 50% is allowed" in str(why)
    assert answer(rows, 3, 2, "simscale", max_overlap=0.5, against=against).cause == "turn"
    stopped = answer(rows, 1, 4, "simscale", max_overlap=0.5, against=against, exhausted="stop")
    assert stopped.cause == "overlap"


def test_a_scan_of_several_rounds_has_the_smallest_overlap():
    rows = [{0, 1}, {0, 1}, {0, 1}, {0, 5, 6, 7, 8}]
    why = answer(rows, 2, 3, "simscale", max_overlap=0.4)
    assert (why.cause, why.overlap) == ("overlap", 0.5)


def test_instag_refuses_rows_that_add_nothing():
    why = answer(ROWS, 3, 3, "instag")
    assert why.cause == "overlap" and "earlier picks had all of its features at its turn, so it added none" in str(why)


def test_a_scan_says_what_forbade_a_row_that_picks_left_open():
    rows, columns = [{0, 1, 2}, {0, 1}, {3}, {3}, {3}], {"kind": list("aabbb")}
    why = answer(rows, 1, 4, "simscale", columns=columns, quota={"kind": {"a": 1}}, order="given")
    assert (why.cause, why.overlap) == ("quota", 0)  # in the second round; in the first one row 0 had all of it
    dear = answer(features_of(rows, tokens=[3, 9, 1, 1, 1]), 1, "6 tokens", "simscale", order="given")
    assert (dear.cause, dear.overlap) == ("cost", None)


@pytest.mark.filterwarnings("ignore:.*returning . rows:UserWarning")
@pytest.mark.parametrize("method, options", [("random", {}), ("longest", {}), ("simscale", {"order": "shuffled"})])
@thoroughly
@given(data=st.data(), seed=st.integers(0, 5))
def test_what_forbade_a_row_is_true(method, options, data, seed):
    rows = data.draw(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=3, max_size=9))
    tokens = data.draw(st.lists(st.integers(1, 9), min_size=len(rows), max_size=len(rows)))
    kinds = data.draw(st.lists(st.sampled_from("ab"), min_size=len(rows), max_size=len(rows)))
    features, columns = (
        features_of(rows, tokens=tokens),
        {"kind": kinds, "good": [1 + i % 3 for i in range(len(rows))]},
    )
    arguments = {"quota": {"kind": {"a": 1}}} if data.draw(st.booleans()) and "a" in kinds else {}
    arguments |= {"quality": "good"} if method == "random" and data.draw(st.booleans()) else {}
    budget = data.draw(st.sampled_from([2, f"{max(tokens)} tokens"]))
    try:
        selection = select_indices(features, budget, method, seed=seed, columns=columns, **arguments, **options)
    except ValueError:  # the quota allows less
        return
    trace, picks = Trace.of(features, selection, columns), selection.indices.tolist()
    left = max(tokens) - sum(tokens[i] for i in picks) if budget != 2 else None
    for row in set(range(len(rows))) - set(picks):
        why = rejection(trace, row)
        is_full = (
            bool(arguments) and "quota" in arguments and kinds[row] == "a" and any(kinds[i] == "a" for i in picks)
        )
        is_dear = left is not None and tokens[row] > left
        assert (is_full or why.cause != "quota") and (is_dear or why.cause != "cost")
        assert (why.obstacle == "quota") == is_full
        if budget != 2 and method != "simscale":
            assert why.cause in ("quota", "cost")
        if why.cause in ("chance", "length", "turn"):  # the budget was spent before
            assert len(picks) == 2 and (method == "simscale" or trace.place[row] > trace.place[picks].max())
        if why.cause == "length":
            assert tokens[row] <= min(tokens[i] for i in picks)


def test_the_filter_says_the_cosine():
    features = with_all(features_of([{0, 1}, {0, 1}, {2}]))
    why = answer(features, 1, 2, "repr_filter", max_similarity=0.5)
    assert (why.cause, why.limit) == ("similarity", 0.5) and why.overlap == pytest.approx(1, abs=1e-3)
    assert "too similar to an earlier pick at its turn, a cosine of 1.00 where 0.50 is allowed" in str(why)


def test_baselines():
    rows = features_of([{0}, {1}, {2}], tokens=[5, 9, 7])
    assert answer(rows, 0, method="longest").cause == "length"
    quota = {"columns": {"kind": list("aab")}, "quota": {"kind": {"a": 1}}}
    assert answer(features_of([{0}, {1}, {2}], tokens=[8, 9, 7]), 0, method="longest", **quota).cause == "quota"
    selection = select_indices(rows, 2, "random")
    (left,) = set(range(3)) - set(selection.indices.tolist())
    assert rejection(Trace.of(rows, selection), left).cause == "chance"


def test_a_method_of_ones_own_is_not_guessed():
    def mine(features, budget, rng):
        return select_indices(features, budget, seed=None)

    assert answer(ROWS, 3, method=mine).cause == "own"


COLUMNS = {"kind": ["a" if i % 3 else "b" for i in range(80)], "good": [i % 4 for i in range(80)]}
COLUMNS["price"] = [1 + i % 3 for i in range(80)]


@pytest.mark.parametrize("arguments", [{}, {"quota": {"kind": {"a": 5}}}, {"quality": "good"}, {"cost": "price"}])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_answers_for_every_row(method, arguments):
    if set(arguments) & METHODS[method].refuses:
        return
    rng = np.random.default_rng(0)
    rows = [set(rng.choice(14, rng.integers(0, 6), replace=False).tolist()) for _ in range(80)]
    features = with_all(features_of(rows))
    selection = select_indices(features, 15, method, columns=COLUMNS, **arguments)
    trace = Trace.of(features, selection, COLUMNS)
    for row in range(0, 80, 3):
        why = rejection(trace, row)
        assert (why.cause == "picked") == (row in selection.indices)
        assert why.cause == "picked" or why.cause in CAUSES
        if why.closest is not None:
            total = sum(part.gain for part in why.parts)
            if METHODS[method].kind != "nearness":
                gain = why.closest.gain * (METHODS[method].kind != "similarity")
                assert len(why.parts) == 10 or total == pytest.approx(gain, rel=1e-6)
            else:  # the parts are of the nearness alone
                assert 0 <= total <= why.closest.gain
            assert why.closest.difference >= 0 if why.cause == "score" else why.closest.difference <= 0
            assert why.closest.row == selection.indices[why.closest.pick]
        assert row not in [near.row for near in why.nearest]
        json.dumps(why.to_dict(), allow_nan=False)
        assert str(row) in str(why) and why._repr_html_().startswith("<p>Row")


def test_rows_apart_from_the_target_and_rows_that_repeat_it():
    rows = features_of([{0, 1}, {0, 2}, {3, 4}, {0, 1, 2}, set()])
    target = features_of([{0, 1}, {0, 2}, {0, 1}] * 3)
    request = {"target": target, "overlap": "keep", "seed": None}
    selection = select_indices(rows, 1, **request)
    trace = Trace.of(rows, selection, target=TargetArgument.parse(target).of_features(16))
    causes = [rejection(trace, row).cause for row in range(5)]
    assert causes.count("picked") == 1 and causes[2:3] + causes[4:] == ["apart", "blank"]
    assert "it shares no feature that counts with the target" in str(rejection(trace, 2))
    lost = rejection(trace, causes.index("score"))
    assert lost.closest.pick == 0 and lost.closest.rank == 2 and lost.gain_at_end > 0 and lost.parts
    left_out = {"constraints": {"left_out": {"overlap": [0], "near": [2]}}}
    selection = replace(selection, indices=np.array([1]), parameters=selection.parameters | left_out)
    trace = Trace.of(rows, selection, target=TargetArgument.parse(target).of_features(16))
    assert [rejection(trace, row).cause for row in (0, 2)] == ["in_target", "near"]
    assert "not picked by `herding`: it repeats a row of the target." in str(rejection(trace, 0))
    assert "`near` leaves it out." in str(rejection(trace, 2))


def test_a_subset_answers_for_rows_of_its_pool():
    ds = coded([dict.fromkeys(row, 0.9) for row in ROWS])
    subset = ds.sae_select(2, "greedy", seed=None)
    assert subset.sae_why_not(0) == why_not(subset, 0) and subset.sae_why_not(0).cause == "score"
    for row in (-1, 6, True, 1.0, "1", None):
        with pytest.raises(ValueError, match=r"`row=.*from 0 to 5"):
            subset.sae_why_not(row)
    with pytest.raises(ValueError, match="is not attached"):
        subset.with_format(None).map(lambda row: row).sae_why_not(0, selection=subset.sae_selection)
