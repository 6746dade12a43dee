"""The request: arguments are parsed once, before any slow work, and recorded as they ran."""

from dataclasses import FrozenInstanceError, replace
from functools import partial

import numpy as np
import pytest
from datasets import Dataset
from helpers.pools import coded, features_of

from hf_sae_select import METHODS, Selection, select, select_indices
from hf_sae_select.selection.budget import Budget
from hf_sae_select.selection.cuts import Cuts
from hf_sae_select.selection.request import SelectionRequest, arguments_of

ROWS = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}]
COLUMNS = {"kind": ["a", "b", "b", "a"], "price": [1.0, 2.0, 3.0, 4.0], "good": [1, 2, 3, 0]}


def parse(budget=2, method="greedy", options=None, columns=COLUMNS, **arguments):
    return SelectionRequest.parse(4, columns, budget, method, options or {}, **arguments)


def test_a_request_is_frozen_and_complete():
    request = parse(seed=np.int64(7))
    assert (request.name, request.options, request.seed) == ("greedy", {"idf": False, "exhausted": "restart"}, 7)
    assert request.budget == Budget(2, None, is_fraction=False)
    with pytest.raises(FrozenInstanceError):
        request.seed = 8


def test_binding_adds_what_depends_on_tokens_and_nothing_else():
    tokens = np.array([3, 3, 4, 0])
    rows, constraints = parse("7 tokens").bind(tokens)
    assert (rows, constraints.max_cost, constraints.cost.tolist()) == (4, 7.0, [3, 3, 4, 1])
    rows, constraints = parse(2, per_token=1.0, quality="good").bind(tokens)
    assert (rows, constraints.scale.tolist()) == (2, [1 / 3, 2 / 3, 3 / 4, 0])
    request = parse(0.5, exclude=[0], quota="kind")
    assert request.bind(tokens)[1].max_per_group.tolist() == request.constraints.max_per_group.tolist() == [1, 1]


def test_a_budget_in_tokens_is_checked_when_they_are_known():
    with pytest.raises(ValueError, match="`budget=100` but all rows together have 11 tokens"):
        parse("100 tokens").bind(np.array([3, 3, 4, 0]))
    with pytest.raises(ValueError, match="`must_include` and `extend` cost 4 tokens, but `budget=3`"):
        parse("3 tokens", must_include=[2]).bind(np.array([3, 3, 4, 0]))


def test_a_request_that_needs_no_tokens_is_checked_at_once():
    with pytest.raises(ValueError, match="`budget=100` but all rows together have 10 price"):
        parse("100 price")
    assert not parse("5 price").needs_tokens
    assert parse("5 tokens").needs_tokens and parse(per_token=0.5).needs_tokens


def test_no_method_runs_before_the_rows_are_encoded(monkeypatch):
    def own(features, budget, rng, *, constraints):
        pytest.fail("the method ran")

    with pytest.raises(FileNotFoundError):
        select(Dataset.from_dict({"text": ["a", "b"]}), 1, own, sae="/no/such/folder")


# The receipt of a method of one's own is true, whatever its options are called.


def own(features, budget, rng, *, top=7, threshold=0.3, seed=5, budget_=1, encoding="x"):
    own.ran = {"top": top, "threshold": threshold, "seed": seed, "budget_": budget_, "encoding": encoding}
    return Selection(np.arange(budget), np.zeros(budget, np.int64), np.zeros(1, np.int64))


def test_options_called_as_arguments_of_select_are_recorded_as_they_ran():
    parameters = select(coded(ROWS), 2, own).sae_selection.parameters
    assert parameters["options"] == own.ran == {"top": 7, "threshold": 0.3, "seed": 5, "budget_": 1, "encoding": "x"}
    assert (parameters["seed"], parameters["budget"]) == (0, 2)
    assert parameters["cuts"] == {"threshold": 0.5, "top": None, "max_share": None, "embedding": None}
    bound = select(coded(ROWS), 2, partial(own, top=1, seed=9), top=3, seed=4).sae_selection.parameters
    assert bound["options"] == own.ran and own.ran["top"] == 1 and own.ran["seed"] == 9
    assert (bound["cuts"]["top"], bound["seed"]) == (3, 4)


def test_an_option_that_changes_later_is_recorded_as_it_was_passed():
    def own(features, budget, rng, *, rows=()):
        rows["seen"].append(7)
        return Selection(np.arange(budget), np.zeros(budget, np.int64), np.zeros(1, np.int64))

    rows = {"seen": [np.int64(3), (1, 2)]}
    selection = select_indices(features_of([{0}, {1}]), 2, own, rows=rows)
    rows["seen"].append(8)
    assert selection.parameters["options"] == {"rows": {"seen": [3, [1, 2]]}}


def test_an_option_called_seed_is_not_the_seed_of_select_indices():
    selection = select_indices(features_of([{0}, {1}]), 2, own, seed=0, threshold=0.9)
    assert selection.parameters["seed"] == 0
    assert selection.parameters["options"] == own.ran and own.ran["seed"] == 5 and own.ran["threshold"] == 0.9


def test_a_method_of_ones_own_with_a_known_name_is_not_taken_for_it():
    def greedy(features, budget, rng):
        return Selection(np.arange(budget), np.zeros(budget, np.int64), np.zeros(1, np.int64))

    assert select(coded(ROWS), 2, greedy).sae_selection.method == "own_greedy"
    assert select(coded(ROWS), 2, METHODS["greedy"].function).sae_selection.method == "greedy"


def no_rng(features, budget):
    return None


def with_positional_option(features, budget, rng, top):
    return None


async def asynchronous(features, budget, rng):
    return None


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (no_rng, "no_rng"),
        (with_positional_option, "with_positional_option"),
        (lambda: None, "<lambda>"),
        (asynchronous, "asynchronous"),
        (partial(own, 3), "own"),
        (partial(METHODS["greedy"].function, 3), "greedy"),
        (int, "int"),
    ],
)
def test_a_method_of_the_wrong_form_is_refused_before_anything_is_encoded(method, name):
    with pytest.raises(TypeError, match=rf"`method='{name}'` .*a method takes `\(features, budget, rng\)`"):
        select(Dataset.from_dict({"text": ["a", "b"]}), 1, method, sae="/no/such/folder")


def test_a_partial_of_a_method_of_the_library_keeps_its_cuts_and_checks():
    match, simscale = METHODS["match"].function, METHODS["simscale"].function
    selection = select(coded(ROWS), 2, partial(match)).sae_selection
    assert selection.method == "match" and selection.parameters["cuts"]["top"] == 256
    selection = select(coded(ROWS), 2, partial(simscale, max_overlap=0.5), order="given").sae_selection
    assert selection.parameters["options"] == {
        "max_overlap": 0.5,
        "against": "union",
        "order": "given",
        "exhausted": "restart",
    }
    assert (
        select(coded(ROWS), 2, partial(simscale, max_overlap=0.5), max_overlap=0.1).sae_selection.parameters[
            "options"
        ]["max_overlap"]
        == 0.1
    )
    with pytest.raises(ValueError, match="`max_overlap=7` must be"):
        select(coded(ROWS), 2, partial(simscale, max_overlap=7))
    with pytest.raises(TypeError, match="unknown option `idf` for `method='simscale'`"):
        select(coded(ROWS), 2, partial(simscale, idf=True))


def test_a_partial_of_ones_own_method_has_its_name():
    assert select(coded(ROWS), 2, partial(own, top=1)).sae_selection.method == "own"


# A selection can be repeated from its parameters.


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"seed": None, "threshold": 0.1, "top": 2, "max_share": 0.9},
        {"method": "simscale", "max_overlap": 0.3, "order": "shuffled", "seed": 3},
        {"budget": "4 tokens", "per_token": 0.5},
        {"budget": 0.4, "cost": "price"},
        {"budget": 3, "quota": {"kind": {"a": 1}}, "must_include": [2], "exclude": [3], "quality": "good"},
        {"method": "random", "budget": 3, "quota": "kind"},
    ],
)
def test_the_recorded_parameters_give_the_same_request_again(arguments):
    ds = coded(ROWS)
    for name, values in COLUMNS.items():
        ds = ds.add_column(name, values)
    arguments = {"budget": 2, "method": "greedy", **arguments}
    selection = select(ds, **arguments).sae_selection
    request = SelectionRequest.parse(4, ds, method=selection.method, **arguments_of(selection))
    again = select(
        ds,
        request.budget,
        selection.method,
        seed=request.seed,
        **{name: value for name, value in arguments.items() if name not in ("budget", "method", "seed", "cost")},
    ).sae_selection
    assert again.indices.tolist() == selection.indices.tolist()
    assert again.parameters == selection.parameters


def test_cuts_are_checked_and_resolved():
    for cuts in (Cuts(threshold=-1), Cuts(top=0), Cuts(max_share=1.0)):
        with pytest.raises(ValueError, match="must be"):
            cuts.check()
    assert Cuts().resolve(METHODS["match"], 0.7) == Cuts(0.0, 256)
    assert Cuts(top=np.int64(3)).resolve(METHODS["greedy"], 0.7) == Cuts(0.7, 3)


def test_a_record_of_herding_that_names_no_candidates_is_repeated_by_comparing_all_rows():
    selection = select_indices(features_of([{0, 1}, {1, 2}, {3}]), 2, "herding", width=0.4)
    parameters = dict(selection.parameters)
    assert arguments_of(selection)["options"]["candidates"] == 2048
    parameters["options"] = {"width": 0.4, "redundancy": 1.25}
    options = arguments_of(replace(selection, parameters=parameters))["options"]
    assert options == {"width": 0.4, "redundancy": 1.25, "candidates": None}
