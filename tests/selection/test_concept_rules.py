"""Rows left out or required by the features that they have, and features that count more or less."""

import json
import re
import warnings

import numpy as np
import pytest
from datasets import Dataset
from helpers.pools import coded, features_of, thoroughly, with_all
from helpers.tasks import D_SAE, GREEDY, features_with_acts, naive, tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_sae_select import METHODS, Selection, compare, select, select_indices
from hf_sae_select.sae.labels import Label, Labels
from hf_sae_select.selection.concept_rules import BOOSTED, ConceptArguments, ConceptRules, RuleFeature, described
from hf_sae_select.selection.herding import Herding
from hf_sae_select.selection.targets import SMOOTHING
from hf_sae_select.selection.vocabulary import Vocabulary

ROWS = [{1: 2.0, 2: 0.4}, {1: 0.4, 3: 1.0}, {2: 1.0, 4: 1.0}, {5: 1.0}, {1: 0.2, 5: 3.0, 6: 1.0}, {}]
LABELS = Labels([Label(1, "cooking"), Label(2, "Cooking/recipe"), Label(5, "python"), Label(6, "py…/code")], 16)
EVIL = "<img src=x onerror=alert(1)>|`[a](http://x)"


def of(rows=ROWS):
    return features_with_acts(rows)


def pick(budget=2, method="greedy", **rules):
    return select(coded(ROWS), budget, method, **rules).sae_selection


def having(rows, thresholds):
    """Return the rows in which a feature is above its threshold."""
    return [i for i, row in enumerate(rows) if any(row.get(j, -1.0) > t for j, t in thresholds.items())]


@pytest.mark.filterwarnings("ignore:`target` has:UserWarning", "ignore:.*returning . rows:UserWarning")
@pytest.mark.parametrize("method", METHODS)
@settings(thoroughly, max_examples=30)
@given(
    task=tasks(),
    avoid=st.dictionaries(st.integers(0, D_SAE - 1), st.sampled_from([0.0, 0.5, 1.0, 2.0]), max_size=2),
    require=st.dictionaries(st.integers(0, D_SAE - 1), st.sampled_from([0.0, 0.5, 1.0]), max_size=3),
    require_all=st.lists(st.dictionaries(st.integers(0, D_SAE - 1), st.just(0.0), min_size=1, max_size=4), max_size=2),
)
def test_rules_equal_excluding_the_rows_in_every_method(method, task, avoid, require, require_all):
    rows, _ = task
    demanded = set(require).union(*require_all)
    avoid = {feature: threshold for feature, threshold in avoid.items() if feature not in demanded}
    every, features = set(range(len(rows))), with_all(of(rows))
    out = set(having(rows, avoid)) | (every - set(having(rows, require)) if require else set())
    out = out.union(*(every - set(having(rows, group)) for group in require_all))
    rules = {"avoid": avoid, "require": require or None, "require_all": require_all or None}
    if out == every:
        return
    arguments = {"seed": 0}
    if arguments.get("target") is not None and not features.counts.any():
        return
    budget = 1 + (len(every - out) - 1) // 2
    result = select_indices(features, budget, method, **arguments, **rules)
    expected = select_indices(features, budget, method, **arguments, exclude=sorted(out))
    assert result.indices.tolist() == expected.indices.tolist()
    assert result.gains.tolist() == expected.gains.tolist()
    assert result.pool_coverage == expected.pool_coverage
    assert sum(result.left_out.values()) == len(out)


@pytest.mark.filterwarnings("ignore:.*returning . rows:UserWarning", "ignore:`quota` wants:UserWarning")
@pytest.mark.parametrize("method, options", GREEDY)
@thoroughly
@given(task=tasks(), boost=st.dictionaries(st.integers(0, 9), st.sampled_from([0, 0.5, 2.0, 3.0]), max_size=4))
def test_boosted_features_equal_naive_greedy(method, options, task, boost):
    rows, arguments = task
    arguments = {"budget": len(rows), "seed": None, "per_token": arguments["per_token"], "boost": boost}
    arguments |= {"columns": task[1]["columns"], "exclude": [], "must_include": []}
    picks, gains, starts = naive(method, options, rows, arguments, range(len(rows)), per_cost=False)
    result = select_indices(of(rows), method=method, **options, **arguments)
    assert result.indices.tolist() == picks
    assert result.gains == pytest.approx(gains, rel=1e-9)
    assert result.round_starts.tolist() == starts


def naive_shares(rows):
    """Return each row's shares of the roots of its activations: [n, d_sae]."""
    roots = np.sqrt(np.array([[row.get(j, 0.0) for j in range(D_SAE)] for row in rows]))
    return roots / roots.sum(axis=1, keepdims=True)


def naive_above(shares, mean):
    """Return the parts of shares above a mean, scaled to a sum of 1; a row without any keeps its shares."""
    above = np.maximum(shares - mean, 0)
    above = np.where(above.any(axis=1, keepdims=True), above, shares)
    return above / above.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("boost", [{}, {2: 0}, {2: 3.0, 5: 0.5}])
def test_herding_compares_boosted_shares(boost):
    rng = np.random.default_rng(1)

    def row():
        ids, acts = rng.choice(D_SAE, 4, replace=False).tolist(), rng.uniform(0.1, 3, 4).tolist()
        return dict(zip(ids, acts, strict=True))

    rows, target = [row() for _ in range(12)], [row() for _ in range(9)]
    mean = naive_shares(rows).mean(axis=0)
    own, wanted = (naive_above(naive_shares(part), mean) for part in (rows, target))
    mass, wanted_mass = own.mean(axis=0), wanted.mean(axis=0)
    e = SMOOTHING / np.count_nonzero(mass)
    factors = (wanted_mass + e) / (mass + e) * [boost.get(j, 1.0) for j in range(D_SAE)]
    own, wanted = (part * factors / np.linalg.norm(part * factors, axis=1, keepdims=True) for part in (own, wanted))
    least = np.exp(-1 / 0.3)
    kernel, closeness = ((np.exp((own @ other.T - 1) / 0.3) - least) / (1 - least) for other in (own, wanted))
    result = select_indices(of(rows), 6, target=of(target), seed=None, boost=boost)
    picks = []
    for row, gain in zip(result.indices.tolist(), result.gains.tolist(), strict=True):
        gains = closeness.mean(axis=1) + 0.5 * (1 - kernel[:, picks].sum(axis=1) / (len(picks) + 1))
        gains[picks] = -1
        assert gain == pytest.approx(gains[row], abs=2e-3) and gains[row] >= gains.max() - 4e-3
        picks.append(row)


@pytest.mark.parametrize("method", sorted(BOOSTED))
def test_a_boost_of_one_changes_nothing(method):
    features = of()
    arguments = {"target": of(ROWS * 2), "overlap": "keep"} if method == "herding" else {}
    one, none = (select_indices(features, 4, method, **arguments, **rule) for rule in ({"boost": {1: 1, 5: 1.0}}, {}))
    assert (one.indices == none.indices).all() and (one.gains == none.gains).all()


@pytest.mark.parametrize("method", sorted(METHODS.keys() - set(BOOSTED)))
def test_methods_that_weigh_no_features_refuse_a_boost(method):
    with pytest.raises(ValueError, match=f"`boost` makes no sense with `method='{method}'`"):
        select_indices(with_all(of()), 2, method, boost={1: 2.0})


def test_rules_see_features_that_the_cuts_drop():
    selection = pick(1, seed=None, threshold=0.9, top=1, avoid={1: 0.3})
    assert selection.left_out == {"avoid": 2}
    assert selection.indices.tolist() == [2]
    one, other = (pick(1, max_share=0.6, **rule) for rule in ({"require": {2: 0.3}}, {"exclude": [1, 3, 4, 5]}))
    assert one.left_out == {"require": 4} and one.indices.tolist() == other.indices.tolist() == [2]


def test_a_feature_counts_strictly_above_the_threshold():
    assert pick(avoid={1: 0.4}).left_out == {"avoid": 1}  # and not row 1, which has it at 0.4
    assert pick(avoid={1: 0.39}).left_out == {"avoid": 2}
    assert pick(avoid=1).parameters["constraints"]["avoid"] == [[1, 0.3, ""]]  # 0.6 of the calibrated threshold, 0.5
    assert pick(avoid=1).left_out == {"avoid": 2}
    assert select_indices(of(), 1, avoid=1).left_out == {"avoid": 3}  # without a dataset any activation counts


def test_all_forms_of_an_argument():
    for avoid in (1, [1], (1,), {1}, np.array([1]), {1: None}, "python", ["PYTHON "], np.int64(1)):
        assert pick(avoid=avoid, labels=LABELS).left_out == {"avoid": 2}


def test_a_name_stands_for_all_features_that_have_it():
    message = "`avoid` has 'cooking', a name of 2 features, and all of them count: #1 cooking, #2 Cooking/recipe"
    with pytest.warns(UserWarning, match=re.escape(message)):
        selection = pick(avoid="cooking", labels=LABELS)
    assert selection.parameters["constraints"] == {"avoid": [[1, 0.3, "cooking"], [2, 0.3, "Cooking/recipe"]]}
    assert selection.left_out == {"avoid": 3} and sorted(selection.indices.tolist()) == [3, 4]
    assert pick(1, require="recipe", labels=LABELS).parameters["constraints"]["require"] == [
        [2, 0.3, "Cooking/recipe"]
    ]
    with pytest.warns(UserWarning, match="a name of 2 features"):  # the number counts before the name
        selection = pick(avoid={"cooking": 0.3, 2: 0.9}, labels=LABELS)
    assert [item[:2] for item in selection.parameters["constraints"]["avoid"]] == [[1, 0.3], [2, 0.9]]
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="two values for feature #2 Cooking/recipe"):
        pick(avoid={"cooking": 0.3, "recipe": 0.9}, labels=LABELS)


@pytest.mark.filterwarnings("ignore:.*a name of 2 features:UserWarning")
def test_of_several_names_a_row_has_one_or_all():
    assert pick(1, require=["cooking", "python"], labels=LABELS).left_out == {"require": 1}
    selection = pick(1, require_all=["cooking", 3], labels=LABELS)  # of a name one feature is enough
    assert selection.indices.tolist() == [1] and selection.left_out == {"require_all": 5}
    groups = [[[1, 0.3, "cooking"], [2, 0.3, "Cooking/recipe"]], [[3, 0.3, ""]]]
    assert selection.parameters["constraints"] == {"require_all": groups}
    assert pick(1, require_all=[[1, 2], 3]).indices.tolist() == [1]
    assert pick(1, require_all={5: 2.0, 6: None}).indices.tolist() == [4]


def test_a_row_of_several_rules_counts_for_the_first():
    selection = pick(1, exclude=[0], avoid=1, require=[5])
    assert selection.left_out == {"avoid": 1, "require": 2} and selection.indices.tolist() in ([3], [4])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"avoid": 16}, "`avoid` has 16; a feature is a number from 0 to 15"),
        ({"avoid": -1}, "`avoid` has -1; "),
        ({"avoid": [True]}, "`avoid` has True; "),
        ({"require": {1.0: 2}}, "`require` has 1.0; "),
        ({"require_all": [[99]]}, "`require_all` has 99; "),
        ({"boost": {99: 2}}, "`boost` has 99; "),
        ({"avoid": {1: -0.5}}, "`avoid[1]=-0.5` must be a finite number in [0, inf)"),
        ({"avoid": {1: float("nan")}}, "`avoid[1]=nan` must be"),
        ({"require": {1: float("inf")}}, "`require[1]=inf` must be"),
        ({"boost": {1: -1}}, "`boost[1]=-1` must be a finite number in [0, 1e6]"),
        ({"boost": {1: None}}, "`boost[1]=None` must be"),
        ({"boost": [1]}, "`boost=[1]` must be a mapping"),
        ({"avoid": 1.5}, "`avoid=1.5` must be a number or a name of a feature, or a list of them"),
        ({"require": []}, "`require=[]` names no feature"),
        ({"require_all": {}}, "`require_all={}` names no feature"),
        ({"avoid": 1, "require": [1, 2]}, "feature #1 cooking is in `avoid` and in `require`, which contradict"),
        ({"avoid": {5}, "require_all": ["python"]}, "feature #5 python is in `avoid` and in `require_all`"),
        ({"avoid": "zebra"}, "`avoid` has 'zebra', which is the name of no feature; see `labels.find`"),
        ({"avoid": "pythn"}, "`avoid` has 'pythn', which is the name of no feature; near it: #5 python"),
        ({"avoid": "reci"}, "near it: #2 Cooking/recipe"),
        ({"avoid": ""}, "`avoid=''` is empty"),
        ({"labels": {}}, "`labels={}` must be Labels"),
        ({"avoid": 1, "must_include": [3, 0]}, "`must_include` picks row 0 first, but it has feature #1 cooking at 2"),
        ({"require": 9}, "0 of 6 rows are left, but `budget=2`: `require` alone leaves 0; change the rules"),
        (
            {"avoid": 5, "require": 2, "budget": 4},
            "2 of 6 rows are left, but `budget=4`: `avoid` alone leaves 4, `require` alone leaves 2; lower the budget",
        ),
        (
            {"avoids": 1},
            "unknown option `avoids` for `method='greedy'`; it takes: exhausted, idf; did you mean `avoid`",
        ),
    ],
)
def test_wrong_rules_are_named(rules, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        pick(**{"labels": LABELS, **rules})


def test_rows_of_an_earlier_selection_that_break_a_rule_are_named():
    earlier = pick(2, must_include=[1, 2])
    with pytest.raises(ValueError, match="`extend` picks row 1 first, but it has feature #1 at"):
        pick(3, avoid=1, extend=earlier)


def test_a_name_needs_labels():
    with pytest.raises(ValueError, match="`avoid` has the name 'cooking', but the SAE has no labels: pass numbers"):
        pick(avoid="cooking")
    with pytest.raises(ValueError, match="d_sae=3"):
        pick(avoid="cooking", labels=Labels([Label(1, "cooking")], 3))


def test_rows_without_codes_have_no_features_to_name():
    rows = Dataset.from_dict({"text": ["a", "b"], "v": [[1.0, 0.0], [0.0, 1.0]]})
    with pytest.raises(ValueError, match="without SAE codes nobody knows the rows' features, which `avoid`"):
        rows.sae_select(1, "kcenter", embedding="v", avoid=1)


def test_rules_are_checked_before_a_language_model_is_loaded(sae, monkeypatch):
    monkeypatch.setattr("hf_sae_select.encoding.pipeline.codes", lambda *_, **__: pytest.fail("a model was loaded"))
    rows = Dataset.from_dict({"text": ["the cat", "a dog"]})
    for rules, message in (({"avoid": 10**6}, "`avoid` has 1000000"), ({"avoid": "cat"}, "the SAE has no labels")):
        with pytest.raises(ValueError, match=message):
            rows.sae_select(1, sae=sae, **rules)


def test_raw_rows_are_encoded_and_then_ruled(sae):
    rows = Dataset.from_dict({"text": ["the cat", "a dog", "the moon"]})
    coded_rows = rows.sae_encode(sae)
    feature = coded_rows["sae_ids"][0][0]
    rules = {"avoid": {feature: 0.0}, "seed": None}
    try:
        expected = coded_rows.sae_select(1, **rules).sae_selection
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            rows.sae_select(1, sae=sae, **rules)
        return
    assert rows.sae_select(1, sae=sae, **rules).sae_selection.indices.tolist() == expected.indices.tolist()


def test_a_selection_is_saved_and_repeated_without_labels(tmp_path):
    with pytest.warns(UserWarning, match="a name of 2 features"):
        selection = pick(2, avoid="cooking", boost={"python": 2}, require_all=[[5, 6]], labels=LABELS)
    selection.save(tmp_path / "s.json")
    again = Selection.load(tmp_path / "s.json")
    assert again.parameters == selection.parameters and again.left_out == {"avoid": 3, "require_all": 1}
    rules = ConceptRules.of_record(again.parameters["constraints"])
    assert rules.boost == (RuleFeature(5, 2.0, "python"),) and rules.record()["avoid"][0] == [1, 0.3, "cooking"]
    json.dumps(rules.record())
    values = json.loads((tmp_path / "s.json").read_text())
    (tmp_path / "s.json").write_text(json.dumps(values | {"left_out": {"avoid": "many"}}))
    with pytest.raises(ValueError, match="`left_out`"):
        Selection.load(tmp_path / "s.json")


@pytest.mark.parametrize(
    "record",
    [
        {"avoid": 1},
        {"avoid": [1]},
        {"avoid": [[1, 2]]},
        {"avoid": [[1, 0.5, 7]]},
        {"require": [[-1, 0.5, ""]]},
        {"require": [[1, None, ""]]},
        {"require_all": {}},
        {"require_all": [[1, 0.5, ""]]},
        {"boost": [[1, -1, ""]]},
    ],
)
def test_a_record_that_holds_no_rules_is_refused(record):
    with pytest.raises((TypeError, ValueError)):
        ConceptRules.of_record(record)


def test_a_record_of_another_sae_is_refused():
    rules = ConceptRules.of_record({"avoid": [[500, 0.5, ""]]})
    with pytest.raises(ValueError, match="a rule names feature #500, but the SAE has 10 features"):
        rules.left_out(of())


def test_the_table_of_methods_obeys_the_rules():
    table = compare(coded(ROWS), 2, ["greedy", "match"], avoid=1, boost={5: 2.0})
    assert table.loc["(all rows)", "rows"] == 4
    own = compare(coded(ROWS), 1, {"a": {"method": "greedy", "require": [4]}, "b": {"method": "greedy"}})
    assert own.loc["a", "features"] == 2 and own.loc["(all rows)", "rows"] == 6
    with pytest.raises(ValueError, match="`avoid` has 99"):
        compare(coded(ROWS), 1, {"a": {"method": "greedy", "avoid": 99}})


def test_why_a_row_was_left_out():
    with pytest.warns(UserWarning, match="a name of 2 features"):
        subset = select(coded(ROWS), 1, "greedy", avoid="cooking", require_all=[[3, 5], 6], labels=LABELS)
    expected = "Row 0 was not picked by `greedy`: it has feature #1 cooking at 2, which `avoid` leaves out."
    assert str(subset.sae_why_not(0)).startswith(expected) and subset.sae_why_not(0).cause == "avoid"


@pytest.mark.parametrize(
    ("rules", "row", "sentence"),
    [
        ({"require": {5: 0.5, 6: 0.5}}, 0, "it has none of the features that `require` names: #5, #6."),
        ({"require_all": [[5, 6], 6]}, 0, "it has none of #5, #6, of which `require_all` needs one."),
        ({"require_all": [5, 6]}, 3, "it does not have feature #6, which `require_all` names."),
        ({"exclude": [0], "avoid": 1}, 0, "it is in `exclude`."),
        ({"avoid": {1: 0.1, 5: 0.5}}, 4, "it has feature #5 at 3, which `avoid` leaves out."),
    ],
)
def test_sentences_on_rows_that_are_left_out(rules, row, sentence):
    why = str(select(coded(ROWS), 1, "greedy", **rules).sae_why_not(row))
    assert f"Row {row} was not picked by `greedy`: {sentence}" in why


def test_reasons_of_a_selection_by_rules():
    subset = select(coded(ROWS), 2, "match", avoid=2, boost={5: 3.0}, seed=None)
    for reason in subset.sae_explain(spans=0):
        assert sum(part.gain for part in reason.parts) == pytest.approx(reason.gain)


def test_rules_in_words():
    assert described("avoid", [[1, 0.3, "cooking"], [2, 0.5, ""]]) == "#1 cooking above 0.3, #2 above 0.5"
    assert described("require_all", [[[1, 0.3, "a"]], [[2, 0.5, "b"], [3, 1.0, ""]]]) == (
        "#1 a above 0.3; #2 b above 0.5, #3 above 1"
    )
    assert described("boost", [[1, 2.0, ""]]) == "#1 times 2" and described("quota", []) is None


def test_repr_and_facts_say_how_many_rows_were_left_out():
    selection = pick(1, avoid=1)
    assert "left_out={'avoid': 2}" in repr(selection) and "left out by avoid" in selection._repr_html_()


def test_names_are_masked_and_looked_up_once():
    labels = Labels([Label(1, "hf_abcdefghijklmnopqrstuvwxyzabcdefgh"), Label(2, EVIL)], 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rules = ConceptArguments(avoid=[1, 2]).rules(Vocabulary(16, labels))
    assert "hf_abc" not in rules.avoid[0].name and rules.avoid[1].name == EVIL


def test_weights_of_herding():
    from hf_sae_select.features.shares import Shares

    features = features_of([{0, 1}, {0, 2}])
    weights = np.ones(16)
    weights[0] = 0
    herding = Herding(features, Shares.of(features, np.arange(2)).mean, 0.3, weights)
    others = herding.vectors_of(features_of([{0}]))
    assert herding.closeness(others.index, herding.vectors(np.arange(2))).tolist() == [0, 0]
