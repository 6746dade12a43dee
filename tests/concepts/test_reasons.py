"""Why a row was picked: true of the method, with names, as data and as sentences."""

import json
import math
import re

import numpy as np
import pytest
from helpers.pools import features_of, thoroughly, with_all
from helpers.tasks import D_SAE, features_with_acts, tasks
from hypothesis import given

from hf_sae_select import METHODS, Label, Labels, Reasons, Selection, reasons, select_indices
from hf_sae_select.concepts.rejection import rejection
from hf_sae_select.selection.target_argument import TargetArgument
from hf_sae_select.selection.trace import Trace

ROWS = [{0, 1}, {1, 2, 3}, {3}, {0, 1}, set()]
LABELS = Labels([Label(2, "cats"), Label(1, "<script>alert(1)</script>")], d_sae=16)


def features():
    matrix = features_of(ROWS)
    matrix.acts[:] = [0.5, 0.5, 0.5, 0.9, 0.7, 0.8, 0.5, 0.5]  # 2 is the strongest of row 1
    return matrix


def test_a_coverage_method_names_the_new_features_the_strongest_first():
    selection = select_indices(features(), 2, "greedy", seed=None)
    first, second = reasons(features(), selection, labels=LABELS)
    assert (first.pick, first.row, first.kind, first.gain, first.n_parts) == (0, 1, "coverage", 3, 3)
    assert [(part.feature, part.name, part.gain, part.rows) for part in first.parts] == [
        (2, "cats", 1, 1),
        (3, "", 1, 2),
        (1, "<script>alert(1)</script>", 1, 3),
    ]
    assert [part.share for part in first.parts] == [1 / 3] * 3 and first.parts[0].activation == np.float32(0.9)
    assert (first.runner_up.row, first.runner_up.gain, first.runner_up.difference) == (0, 2, 1)
    assert (first.n_stands_for, [near.row for near in first.stands_for]) == (1, [2])
    assert [(part.feature, part.gain) for part in second.parts] == [(0, 1)] and second.runner_up.row == 3
    assert second.runner_up.difference == 0 and [near.row for near in second.stands_for] == [3]
    assert str(first).startswith(
        "Pick 0, row 1: it has 3 features that no earlier pick of the round has, among them #2 cats, "
        "#1 <script>alert(1)</script> and #3. The next best row, 0, would have gained 2; its score was lower by 1. "
        "1 row of the pool is more like it than like any other pick (row 2, has a similarity of "
    )
    assert "Row 3 had the same score, and came later in the order of equal rows." in str(second)


def test_parts_are_in_the_state_before_the_pick_and_rounds_begin_anew():
    selection = select_indices(features(), 5, "greedy", seed=None)
    assert selection.round_starts.tolist() == [0, 2]
    why = reasons(features(), selection)
    assert [[part.feature for part in reason.parts] for reason in why] == [[2, 3, 1], [0], [0, 1], [3], []]
    assert [reason.kind for reason in why] == ["coverage"] * 4 + ["filler"]
    assert "Pick 4, row 4: it fills the budget" in str(why[4]) and why[4].runner_up is None


def test_match_takes_its_gain_apart():
    rows = features_of([{0, 1}, {0, 1}, {0, 2}])
    first, second = reasons(rows, select_indices(rows, 2, "match", seed=None))
    # shares {1: 1}, {1: 1}, {2: 1}; the mass of 1 is 2, so the first pick gains sqrt(2)
    assert [(part.feature, part.gain) for part in first.parts] == [(1, pytest.approx(math.sqrt(2)))]
    assert first.kind == "distribution" and first.runner_up.difference == 0
    assert [(part.feature, part.gain, part.share) for part in second.parts] == [(2, pytest.approx(1), 1)]
    assert second.runner_up.gain == pytest.approx(2 - math.sqrt(2)) and second.runner_up.row == 1
    assert (
        "brings the picks' distribution of features nearer to the pool's, with a gain of 1.414; the largest parts are "
        "#1 (100.0%)." in str(first)
    )


def test_a_gain_of_many_parts_is_said_to_be_spread_and_the_largest_come_first():
    rows = features_of([{1, 2, 3, 4, 5, 6}, {7}, set()])
    rows.acts[:6] = [9, 8, 7, 6, 5, 4]
    named = Labels([Label(5, "cats"), Label(6, "dogs")], d_sae=16)
    why = reasons(rows, select_indices(rows, 1, "match", seed=None, exclude=[1]), labels=named)[0]
    assert [part.feature for part in why.parts] == [1, 2, 3, 4, 5, 6]
    assert "spread over 6 features; the largest parts are #1 (" in str(why)
    assert ", and the largest with a name is #5 cats (" in str(why) and "#6" not in str(why)
    one = reasons(rows, select_indices(rows, 1, "match", seed=None, exclude=[1]), labels=Labels([], d_sae=16))[0]
    assert "spread over 6 features; the largest parts are #1 (" in str(one)


def test_scores_are_said_in_words():
    rows, columns = features_of([{0, 1}, {2, 3, 4}, {5}], tokens=[2, 8, 2]), {"good": [2, 1, 1], "price": [1, 4, 1]}
    arguments = {"columns": columns, "quality": "good", "seed": None}
    first = reasons(rows, select_indices(rows, 2, "greedy", per_token=1, **arguments), columns=columns)[0]
    assert first.score == "gain times quality per token"
    assert "its score, gain times quality per token, was lower by" in str(first)
    half = reasons(rows, select_indices(rows, 2, "greedy", per_token=0.5), columns=columns)[0]
    assert half.score == "gain divided by tokens to the power of 0.5"
    priced = reasons(rows, select_indices(rows, 2, "greedy", cost="price", columns=columns), columns=columns)[0]
    assert priced.score == "gain per cost"


def test_only_methods_that_count_new_features_say_how_many_a_row_adds():
    rows = features_of([{0, 1}, {0, 1}, {0, 2}, {3}])
    for method in ("match", "concave", "greedy"):
        earlier = reasons(rows, select_indices(rows, 3, method, must_include=[0, 1]), [0, 1])
        assert ("it adds" in str(earlier[0])) == (method == "greedy") and "it adds" not in str(earlier[1])
        assert [reason.kind for reason in earlier] == ["earlier", "earlier"]
    grown = select_indices(rows, 3, "greedy", extend=select_indices(rows, 2, "greedy", seed=None), seed=None)
    assert "it adds 2 features that no earlier pick of the round has" in str(reasons(rows, grown, 0)[0])


def random_features(n=80):
    rng = np.random.default_rng(0)
    return with_all(features_of([set(rng.choice(14, rng.integers(0, 6), replace=False).tolist()) for _ in range(n)]))


CONSTRAINTS = [
    {},
    {"must_include": [3], "exclude": [4], "quota": {"kind": {"a": 6}}},
    {"quality": "good"},
    {"cost": "price"},
    {"per_token": 0.5},
]
COLUMNS = {
    "kind": ["a" if i % 3 else "b" for i in range(80)],
    "good": [i % 4 for i in range(80)],
    "price": [1 + i % 3 for i in range(80)],
}
CASES = [*((method, False) for method in sorted(METHODS)), ("herding", True)]  # and whether it has a target


@pytest.mark.parametrize("constraints", CONSTRAINTS, ids=lambda constraints: "-".join(constraints) or "none")
@pytest.mark.parametrize("case", CASES)
def test_every_method_explains_every_pick_under_every_constraint(case, constraints):
    method, has_target = case
    if set(constraints) & METHODS[method].refuses:
        return
    matrix = random_features()
    target = {"target": features_of([{0, 1, 2}, {3, 4}] * 4)} if has_target else {}
    selection = select_indices(matrix, 25, method, columns=COLUMNS, **constraints, **target)
    why = reasons(matrix, selection, columns=COLUMNS, most=100, **target)
    assert [(reason.pick, reason.row) for reason in why] == list(enumerate(selection.indices.tolist()))
    assert all(
        reason.method == method and reason.gain == gain for reason, gain in zip(why, selection.gains, strict=True)
    )
    for reason in why:
        if METHODS[method].kind != "similarity" or method == "repr_filter":
            total = reason.gain if reason.aim is None else reason.aim.nearness
            assert sum(part.gain for part in reason.parts) == pytest.approx(total, rel=1e-9)
            assert sum(part.share for part in reason.parts) == pytest.approx(int(total > 0), rel=1e-9)
        assert reason.n_parts == len(reason.parts) and all(part.gain > 0 for part in reason.parts)
        earlier = reason.row in constraints.get("must_include", [])
        assert reason.kind in (("earlier",) if earlier else (METHODS[method].kind, "filler"))
        assert reason.source == ("must_include" if earlier else "")
        if reason.runner_up is not None:
            assert (
                reason.runner_up.row not in selection.indices[: reason.pick + 1] and reason.runner_up.difference >= 0
            )
            assert reason.runner_up.row not in constraints.get("exclude", [])
        assert (reason.rank is not None) == (reason.kind == "length")
        assert (reason.n_nearer is not None) == (METHODS[method].kind == "similarity")
        assert str(reason).startswith(f"Pick {reason.pick}, row {reason.row}: ") and "\n" not in str(reason)
    json.dumps(why.to_dict(), allow_nan=False)
    pool = 80 - len(constraints.get("exclude", []))
    assert sum(reason.n_stands_for for reason in why) + len(why) <= pool
    assert reasons(matrix, selection, 7, columns=COLUMNS, most=100, **target)[0] == why[7]
    assert list(reasons(matrix, selection, [9, 2], columns=COLUMNS, most=100, **target)) == [why[9], why[2]]


@pytest.mark.filterwarnings("ignore:.*returning . rows:UserWarning", "ignore:`quota` wants:UserWarning")
@pytest.mark.filterwarnings("ignore:.*picks by features, and no row has one:UserWarning")
@pytest.mark.filterwarnings("ignore:`target` has:UserWarning")
@pytest.mark.parametrize("case", CASES)
@thoroughly
@given(task=tasks())
def test_what_is_said_of_a_pick_is_true(case, task):
    (method, has_target), (rows, arguments) = case, task
    arguments = {name: value for name, value in arguments.items() if name not in METHODS[method].refuses}
    matrix, columns = with_all(features_with_acts(rows)), arguments["columns"]
    target = {"target": features_of([{0, 1, 2}, {3}], d_sae=D_SAE)} if has_target else {}
    try:
        selection = select_indices(matrix, method=method, **arguments, **target)
    except ValueError:  # nothing can be bought, or nothing drawn without a seed
        return
    why = reasons(matrix, selection, columns=columns, most=100, **target)
    for reason in why:
        if reason.method not in ("facility_location", "kcenter"):
            total = reason.gain if reason.aim is None else reason.aim.nearness
            assert sum(part.gain for part in reason.parts) == pytest.approx(total, rel=1e-9)
        if target:
            near = {i for i, row in enumerate(rows) if set(row) & {0, 1, 2, 3}}
            assert reason.row in near or reason.is_apart  # the mean may leave nothing of a shared feature
            assert reason.kind != "filler" or reason.is_apart or "quality" in arguments
        said = re.search(r"(\d+) features? that no earlier pick( of the round)? has", str(reason))
        if said:
            start = selection.round_starts[selection.rounds[reason.pick]] if said[2] else 0
            earlier = set().union(*(rows[i] for i in selection.indices[start : reason.pick]))
            assert int(said[1]) == len(set(rows[reason.row]) - earlier)
    aim = TargetArgument.parse(target.get("target"))
    trace = Trace.of(matrix, selection, columns, None if aim is None else aim.of_features(D_SAE))
    for row in set(range(len(rows))) - set(selection.indices.tolist()):
        answer = rejection(trace, row)
        assert (answer.cause == "excluded") == (row in arguments["exclude"])
        assert answer.closest is None or selection.indices[answer.closest.pick] == answer.closest.row


POOL = [{0, 1}, {0, 2}, {3, 4}, {5}, {0, 1, 6}]
MATHS, CODE = [{0, 1}, {0, 2}, {0}] * 3, [{3, 4}, {3}] * 4


def test_a_pick_near_a_target_says_how_near_and_by_what():
    rows, target = features_of(POOL), features_of(MATHS)
    labels = Labels([Label(1, "sums <b>")], d_sae=16)
    selection = select_indices(rows, 4, target=target, seed=None, overlap="keep")
    why = reasons(rows, selection, target=target, labels=labels)
    first = why[0]
    assert (first.kind, first.has_target, first.lacks_target, first.aim.name) == ("nearness", True, False, "")
    assert first.aim.nearness + first.aim.novelty == pytest.approx(first.gain)
    assert first.row in (0, 1, 4) and {part.feature for part in first.parts} <= {0, 1, 2, 6}
    assert "it is near the target: of its gain of " in str(first)
    assert f"; row {first.aim.rows[0].row} of the target is nearest, with a cosine of " in str(first)
    apart = why[3]
    assert (apart.kind, apart.is_apart, apart.aim, apart.parts) == ("filler", True, None, ())
    assert "it fills the budget: it shares no feature that counts with the target." in str(apart)
    json.dumps(why.to_dict(), allow_nan=False)
    bare = reasons(rows, selection)
    assert [(reason.aim, reason.parts, reason.runner_up, reason.lacks_target) for reason in bare] == [
        (None, (), None, True)
    ] * 4
    assert "picked towards a target, which is not at hand, with a gain of " in str(bare[0])
    assert "What it was chosen over is not known: the target is not at hand; pass it as `target`." in str(bare[0])


def test_of_several_targets_a_reason_says_whose_turn_it_was():
    rows = features_of(POOL)
    target = {"maths": features_of(MATHS), "<b>[31m|code": features_of(CODE)}
    why = reasons(rows, select_indices(rows, 3, target=target, seed=None, overlap="keep"), target=target)
    assert [reason.aim.name for reason in why] == ["maths", "<b>[31m|code", "maths"]
    assert "near the target “maths”, whose turn it was" in str(why[0])
    assert "" not in str(why[1]) and "<b>" not in why[1]._repr_html_() and "<b>" not in why._repr_html_()


@pytest.mark.parametrize("method", ["match", "greedy", "weighted"])
def test_features_of_the_target_alone_count(method):
    rows, target = features_of(POOL), features_of(MATHS)
    selection = select_indices(rows, 2, method, target=target, seed=None, overlap="keep")
    first = reasons(rows, selection, 0, target=target)[0]
    assert {part.feature for part in first.parts} <= {0, 1, 2}
    assert ("nearer to the target's" if method == "match" else "features of the target that no earlier") in str(first)
    assert "picked towards a target, which is not at hand" in str(reasons(rows, selection, 0)[0])


def test_another_target_is_refused():
    rows, target = features_of(POOL), features_of(MATHS)
    selection = select_indices(rows, 2, target=target, overlap="keep")
    with pytest.raises(ValueError, match="`target` is not what the rows were selected towards: its features have"):
        reasons(rows, selection, target=features_of(CODE))
    with pytest.raises(ValueError, match=r"`target` has targets named .a., but the rows were sel.* towards one"):
        reasons(rows, selection, target={"a": target})
    with pytest.raises(ValueError, match="`target` is for a selection towards a target, and this one is not"):
        reasons(rows, select_indices(rows, 2), target=target)
    with pytest.raises(TypeError, match=r"`target\[0\]` is a set"):
        reasons(rows, selection, target=[{0}])


def test_rows_of_an_earlier_selection_are_known():
    matrix = features()
    earlier = select_indices(matrix, 1, "greedy", seed=None)
    grown = select_indices(matrix, 3, "greedy", seed=None, extend=earlier, must_include=[4])
    why = reasons(matrix, grown)
    assert [(reason.kind, reason.source) for reason in why[:2]] == [("earlier", "extend"), ("earlier", "must_include")]
    assert why[2].kind == "coverage" and "as a row of `extend`" in str(why[0])


def test_a_scan_says_how_much_was_covered():
    rows = features_of([{0, 1, 2, 3}, {0, 4, 5}, {0, 1}])
    first, second = reasons(rows, select_indices(rows, 2, "simscale", seed=None))
    assert (first.covered, second.covered, second.nearest) == (0, pytest.approx(1 / 3), None)
    assert "earlier picks have 33% of its features" in str(second) and "earlier picks have" not in str(first)
    near = reasons(rows, select_indices(rows, 2, "simscale", seed=None, against="nearest"), 1)[0]
    assert (near.nearest.row, near.nearest.pick, near.covered) == (0, 0, pytest.approx(1 / 3))


def test_baselines_say_length_and_luck():
    rows = features_of([{0}, {1}, {2}], tokens=[5, 9, 7])
    why = reasons(rows, select_indices(rows, 2, "longest"))
    assert [(reason.tokens, reason.rank) for reason in why] == [(9, 1), (7, 2)]
    assert "picked for its 9 tokens, rank 1 of the pool by length; it adds 1 feature" in str(why[0])
    assert "drawn at random" in str(reasons(rows, select_indices(rows, 2, "random"), 0)[0])


def test_vectors_say_what_is_near():
    matrix = features_of([{0}, {1}, {0}, {1}])
    matrix.__dict__["vectors"] = np.array([[1, 0], [0, 1], [1, 0.2], [0.2, 1]], np.float32)
    why = reasons(matrix, select_indices(matrix, 2, "kcenter", seed=None, center=False))
    assert why[0].nearest is None and (
        "no row that could be picked comes before it in the order of equal rows: nothing was picked before it"
        in str(why[0])
    )
    assert (why[1].row, why[1].nearest.row, why[1].nearest.similarity) == (1, 0, pytest.approx(0, abs=1e-3))
    assert (
        "no row that could be picked was farther from all earlier picks: the nearest earlier pick is row 0, with a "
        "cosine of 0.00" in str(why[1])
    )
    columns = {"good": [1, 0.1, 1, 0.1], "price": [1, 1, 1, 1]}
    best = select_indices(matrix, 2, "kcenter", seed=None, center=False, columns=columns, quality="good")
    assert "the largest score, distance times quality: the" in str(reasons(matrix, best, columns=columns)[1])
    priced = select_indices(matrix, 2, "facility_location", cost="price", columns=columns)
    assert "What it was chosen over is not known: rows have costs" in str(reasons(matrix, priced, columns=columns)[0])
    matrix.__dict__["vectors"] = None
    without = reasons(
        matrix,
        Selection(**{**vars(select_indices(features_of([{0}, {1}, {0}, {1}]), 2, "match")), "method": "kcenter"}),
    )
    assert "picked by the similarity of vectors, which are not at hand" in str(without[0])


def test_a_method_of_ones_own_says_only_what_is_known():
    def mine(features, budget, rng):
        return Selection(np.array([2, 0]), np.array([0.5, 0.25]), np.array([0]))

    why = reasons(features(), select_indices(features(), 2, mine))
    assert [(reason.kind, reason.gain, reason.parts, reason.runner_up) for reason in why] == [
        ("own", 0.5, (), None),
        ("own", 0.25, (), None),
    ]
    assert str(why[0]).startswith("Pick 0, row 2: picked by `mine`, a method of your own, with a gain of 0.5.")
    bare = Selection(np.array([2, 0]), np.array([3, 1]), np.array([0]))
    assert [reason.kind for reason in reasons(features(), bare)] == ["own", "own"]


def test_the_filter_fills_with_rows_that_nobody_measured():
    matrix = with_all(features_of([{0}, {1}, {2}]))
    columns = {"good": [1, 0, 0]}
    why = reasons(matrix, select_indices(matrix, 3, "repr_filter", columns=columns, quality="good"), columns=columns)
    assert [(reason.kind, reason.gain, reason.parts) for reason in why[1:]] == [("filler", 0, ())] * 2


def test_reasons_are_data():
    selection = select_indices(features(), 2, "greedy", seed=None)
    why = reasons(features(), selection, labels=LABELS)
    assert isinstance(why, Reasons) and len(why) == 2 and why[:1] == Reasons([why[0]]) and why != why[:1]
    table = why.to_pandas()
    assert table["row"].tolist() == [1, 0] and table["runner_up"].tolist() == [0, 3]
    assert table["features"][0] == "#2 cats; #3; #1 <script>alert(1)</script>"
    assert why.to_dict()[0]["parts"][0]["name"] == "cats" and why.to_dict()[0]["sentence"] == str(why[0])
    assert str(why) == f"{why[0]}\n{why[1]}" and repr(why) == "Reasons(2 picks)"


def test_nothing_of_a_name_runs_in_a_notebook_or_a_terminal():
    def odd(features, budget, rng):
        return Selection(np.array([2]), np.array([1]), np.array([0]))

    odd.__name__ = "<b>\x1b[31m\u202e"
    selection = select_indices(features(), 2, "greedy", seed=None)
    for why in (
        reasons(features(), selection, labels=LABELS),
        reasons(features(), select_indices(features(), 1, odd)),
    ):
        for page in (why._repr_html_(), why[0]._repr_html_()):
            assert "<script" not in page and "<b>" not in page and "\x1b" not in page
        assert "\x1b" not in str(why) and "\u202e" not in str(why)


@pytest.mark.parametrize("picks", [True, -1, 2, 1.0, "1", [0, 2], [0, True], [[0]], {"a": 1}, object()])
def test_picks_that_do_not_exist_are_refused(picks):
    selection = select_indices(features(), 2, "greedy")
    with pytest.raises((TypeError, ValueError), match="`picks"):
        reasons(features(), selection, picks)


def test_other_arguments_are_checked():
    selection = select_indices(features(), 2, "greedy")
    with pytest.raises(ValueError, match="`most=0`"):
        reasons(features(), selection, most=0)
    with pytest.raises(ValueError, match="`runners_up=1`"):
        reasons(features(), selection, runners_up=1)
    with pytest.raises(ValueError, match="`labels` are of an SAE with d_sae=4"):
        reasons(features(), selection, labels=Labels([], d_sae=4))
    assert reasons(features(), selection, [], runners_up=False).to_dict() == []
    assert reasons(features(), selection, runners_up=False)[0].runner_up is None


def test_without_a_target_herding_says_how_near_a_pick_is_to_all_rows():
    features = features_of([{0, 1}, {0, 2}, {3, 4}])
    reason = reasons(features, select_indices(features, 2, "herding", seed=None), [0])[0]
    assert reason.kind == "nearness" and reason.aim.rows == () and not reason.has_target
    assert ": of its gain of " in str(reason)
    assert "is for being near all rows (its mean kernel with them)" in str(reason) and "target" not in str(reason)
