"""Selection over shards of rows: the receipt is the one of one process, byte for byte."""

import math
import pickle
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from datasets import Dataset
from helpers.pools import RECORD, coded, features_of, pools, thoroughly, with_all
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_sae_select.features import kernels
from hf_sae_select.features.matrix import FeatureMatrix
from hf_sae_select.features.sums import exact_sum, mean_of_sum
from hf_sae_select.selection import api, compared, coverage, frontier, run, targets, unit_vectors
from hf_sae_select.selection.constraints import Constraints
from hf_sae_select.selection.coverage_kernels import begin_round
from hf_sae_select.selection.coverage_state import PICKED
from hf_sae_select.selection.request import SelectionRequest
from hf_sae_select.selection.sharded import codes, driver, messages, pool, similarity
from hf_sae_select.selection.sharded import shards as shards_module
from hf_sae_select.selection.sharded.compact import Gaps, narrowed
from hf_sae_select.selection.sharded.constraints import Picked
from hf_sae_select.selection.sharded.features import ShardedFeatures
from hf_sae_select.selection.sharded.messages import Offer, Rows
from hf_sae_select.selection.sharded.offered import Offered
from hf_sae_select.selection.sharded.shard import Shard
from hf_sae_select.selection.sharded.shards import LocalShards

METHODS = {
    "greedy": ("greedy", {}),
    "idf": ("greedy", {"idf": True}),
    "stop": ("greedy", {"exhausted": "stop"}),
    "weighted": ("weighted", {}),
    "concave": ("concave", {}),
    "mass": ("concave", {"by": "mass", "curve": "log"}),
    "match": ("match", {}),
    "herding": ("herding", {"candidates": 6}),
    "all rows": ("herding", {"candidates": None}),
    "herding towards": ("herding", {}),
    "simscale": ("simscale", {"max_overlap": 0.5}),
    "nearest": ("simscale", {"against": "nearest", "max_overlap": 0.5}),
    "shuffled": ("simscale", {"order": "shuffled"}),
    "instag": ("instag", {}),
    "longest": ("longest", {}),
    "random": ("random", {}),
    "kcenter": ("kcenter", {}),
    "kcenter as given": ("kcenter", {"center": False}),
    "filter": ("repr_filter", {"max_similarity": 0.2}),
    "filter once": ("repr_filter", {"max_similarity": 0.5, "center": True, "exhausted": "stop"}),
}
CONSTRAINTS = {
    "none": {},
    "initial": {"must_include": [3, 1]},
    "exclude": {"exclude": [0, 2]},
    "quota": {"quota": "kind"},
    "quality": {"quality": "quality"},
    "cost": {"cost": "price"},
    "per_token": {"per_token": 0.5},
}
NOT_OF = {"quality": ("longest",), "per_token": ("longest", "random")}
CASES = [(m, c) for m in METHODS for c in CONSTRAINTS if METHODS[m][0] not in NOT_OF.get(c, ())]


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch):
    monkeypatch.setattr(driver, "OFFERED", 6)  # so that small pools take several trips
    monkeypatch.setattr(driver, "SCANNED", 2)
    monkeypatch.setattr(driver, "FILLED", 3)
    monkeypatch.setattr(similarity, "FARTHEST", 2)
    monkeypatch.setattr(similarity, "PASSING", 2)
    monkeypatch.setattr(unit_vectors, "QUANTIZE_ROWS", 4)  # so that no shard begins with a block of the sum
    monkeypatch.setattr(codes, "BLOCK_ROWS", 2)
    monkeypatch.setattr(frontier, "FEWEST", 2)
    monkeypatch.setattr(compared, "FIRST", 2)
    monkeypatch.setattr(compared, "STEP", 3)
    monkeypatch.setattr(targets, "SAMPLE", 16)  # so that a sample stands for the pool


def aim_of(d_sae):
    """Make a target of two parts."""
    few, fewer = features_of([{0, 1}, {4}, {2, 7}], d_sae=d_sae), features_of([{5, 9}, {1}], d_sae=d_sae)
    return targets.Target((targets.TargetPart(few, "", 0.75, "a"), targets.TargetPart(fewer, "", 0.25, "b")))


def receipts(method, constraint, features, columns, budget, shards):
    """Select in one process and in each number of shards; return the results as text."""
    name, options = METHODS[method]
    aim = aim_of(features.d_sae) if method.endswith("towards") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        request = SelectionRequest.parse(
            len(features), columns, budget, name, options, has_target=aim is not None, **CONSTRAINTS[constraint]
        )
        rows = [features, *(pool.of_matrix(features, number) for number in shards)]
        return [repr(vars(run.run(request, features, target=aim))) for features in rows]


@pytest.mark.parametrize(("method", "constraint"), CASES)
@pytest.mark.parametrize(("shards", "threads"), [((1, 2), 2), ((7, 32), 1)], ids=["threads", "many shards"])
def test_the_receipt_is_that_of_one_process(method, constraint, shards, threads, monkeypatch):
    monkeypatch.setattr(shards_module, "FEW_ROWS", 0)
    monkeypatch.setattr(kernels, "MOST_THREADS", threads)  # to start threads takes longer than such small searches
    rng = np.random.default_rng(0)
    acts = rng.random((40, 24), np.float32) * (rng.random((40, 24)) < 0.25)
    acts[[5, 30]] = 0
    acts[11] = acts[12]
    vectors = rng.integers(-1, 2, (40, 3)).astype(np.float32)  # many are equal, some are zeros
    columns = {
        "kind": ["abc"[i % 3] for i in range(40)],
        "quality": [i % 5 / 4 for i in range(40)],
        "price": [1 + i % 7 for i in range(40)],
    }
    one, *sharded = receipts(method, constraint, FeatureMatrix.from_dense(acts, vectors=vectors), columns, 25, shards)
    assert sharded == [one] * len(shards)


class WatchedShards(LocalShards):
    """Note which rows are offered in each round."""

    rounds: list[list[int]]

    def call_each(self, method, arguments):
        answers = super().call_each(method, arguments)
        if method == "offer":
            self.rounds += [[]] if arguments[0][0].begins_round else []
            self.rounds[-1] += [number for offer in answers for number in offer.numbers.tolist()]
        return answers


def test_a_row_is_sent_once_a_round():
    acts = np.random.default_rng(0).random((40, 24), np.float32)
    features = FeatureMatrix.from_dense(acts * (acts < 0.25))
    shards = WatchedShards([partial(Shard, features.take(np.arange(start, start + 10))) for start in range(0, 40, 10)])
    shards.rounds = []
    request = SelectionRequest.parse(40, {}, 25, "greedy", {})
    selection = run.run(request, ShardedFeatures(shards, [10] * 4, 24))
    assert len(shards.rounds) == len(selection.round_starts) == 5
    assert all(len(set(numbers)) == len(numbers) for numbers in shards.rounds)


def offered_rows(rows, places):
    """Return the search of a pool of rows, and these rows as they are offered."""
    features = features_of(rows)
    state = Constraints.none(len(rows)).state(np.argsort(places))
    nothing = np.empty(0, np.int64)
    csr = coverage.Csr(nothing, nothing, np.empty(0, np.uint16), np.empty(0, np.float32))
    objective = coverage.count_objective(np.ones(features.d_sae), [1, 0])
    search = coverage.new_search(csr, objective, features.frequency.copy(), state, len(rows))
    begin_round(search)
    offered = Offered(search)
    counts = np.diff(features.offsets)
    entries = Rows(counts, features.ids, np.empty(0, np.float32))
    offered.add(Offer(np.arange(len(rows)), np.array(places), counts.astype(float), entries, 0.0, -1))
    return search, offered


@pytest.mark.parametrize(
    ("rest", "picks"),
    [
        ((0.0, -1), [1, 0]),  # no other row adds anything; then row 2 does not either
        ((1.0, -1), [1]),  # any other row may add as much as row 0 does after row 1
        ((1.0, 3), [1, 0]),  # row 0 comes before it
        ((1.0, 2), [1]),
        ((3.0, 2), [1]),  # row 1 comes before another row that adds as much
        ((3.0, 0), []),
    ],
)
def test_rows_are_picked_while_they_come_before_all_that_were_not_offered(rest, picks):
    search, offered = offered_rows([{0, 4}, {1, 2, 4}, {1, 2}], places=[2, 1, 5])
    entries = offered.pick(*rest)
    assert search.indices[: search.counters[PICKED]].tolist() == picks
    assert entries.ids.tolist() == [feature for row in picks for feature in [[0, 4], [1, 2, 4]][row]]
    assert search.constraints.available.tolist() == [row not in picks for row in range(3)]
    if rest == (1.0, -1):  # the other row falls back to what it still adds
        assert not offered.is_empty() and offered.pick(0.0, -1).ids.tolist() == [0, 4]
        assert offered.is_empty() and search.gains[:2].tolist() == [3, 1]


def arrived(message):
    return pickle.loads(pickle.dumps(message))


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=6), max_size=4), st.sampled_from([np.uint16, np.uint32]))
@example([[65_535, 0, 65_535], [], [7, 7, 7]], np.uint16)  # not sorted, nothing, the same again
def test_rows_are_whole_after_a_trip(rows, dtype):
    counts, ids = [len(row) for row in rows], [number % 2 ** (8 * dtype().itemsize) for row in rows for number in row]
    sent = Rows(np.array(counts, np.int64), np.array(ids, dtype), np.ones(2, np.float32))
    there = arrived(sent)
    assert (there.ids.tolist(), there.ids.dtype, there.counts.dtype) == (ids, dtype, np.int64)
    assert (there.counts.tolist(), there.amounts.tolist()) == (counts, [1, 1])


def test_many_ids_go_as_they_are(monkeypatch):
    monkeypatch.setattr(messages, "MOST_CODED", 2)
    monkeypatch.setattr(Gaps, "of", lambda ids, counts: pytest.fail("coded"))
    there = arrived(Rows(np.array([1, 2]), np.array([5, 1, 3], np.uint16), np.empty(0, np.float32)))
    assert (there.counts.tolist(), there.ids.tolist()) == ([1, 2], [5, 1, 3])


def test_sorted_ids_take_few_bits():
    ids = np.arange(0, 64_000, 64, np.uint16)
    gaps = Gaps.of(ids, np.array([1000]))
    assert gaps.low_bits == 5  # of a gap of 64; two zeros and a one are the rest
    assert (len(gaps.low), len(gaps.high)) == (5 * 1000 // 8, 3 * 1000 // 8)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.floats(allow_nan=False)))
@example([2**53 + 1], [])  # which a float rounds
def test_offers_and_picks_are_exact_after_a_trip(numbers, amounts):
    numbers, amounts = np.array(numbers, np.int64), np.array(amounts, np.float64)
    no_rows = Rows(np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.float32))
    for sent in (Offer(numbers, numbers, amounts, no_rows, 0.5, 3), Picked(numbers, numbers, amounts)):
        there = arrived(sent)
        assert type(there) is type(sent)
        for before, after in zip(sent[:3], there[:3], strict=True):
            assert after.dtype == before.dtype and after.tolist() == before.tolist()
    assert arrived(Offer(numbers, numbers, amounts, no_rows, 0.5, 3))[4:] == (0.5, 3)


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [
        ([], "uint8"),
        ([0, 255], "uint8"),
        ([256], "uint16"),
        ([70_000], "uint32"),
        ([-1], "float32"),
        ([0.5, np.inf], "float32"),
        ([2**40 + 1], "float64"),
        ([0.1], "float64"),
    ],
)
def test_numbers_take_the_smallest_type_that_has_them(numbers, dtype):
    assert narrowed(np.array(numbers, np.float64)).dtype == dtype


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@given(pools.filter(lambda rows: any(rows)), st.integers(1, 9), st.integers(1, 5))
@settings(thoroughly, max_examples=40)  # of each method; `test_exactness.py` draws more for the search itself
def test_small_pools_with_many_ties_and_blank_rows_too(method, rows, budget, shards):
    one, sharded = receipts(method, "none", with_all(features_of(rows)), {}, min(budget, len(rows)), [shards])
    assert sharded == one


@pytest.mark.parametrize("method", METHODS)
def test_shards_may_have_no_rows_where_loops_are_interpreted(method, monkeypatch):
    monkeypatch.setattr(kernels, "MOST_INTERPRETED", math.inf)
    one, *sharded = receipts(method, "none", with_all(features_of([{0}])), {}, 1, [2, 3])
    assert sharded == [one, one]


ROWS = [
    {0: 0.9, 1: 0.7},
    {0: 0.9, 2: 2.0, 5: 0.2},
    {3: 1.0, 4: 0.6},
    {1: 0.8, 2: 0.6, 7: 1.5},
    {},
    {0: 0.7, 3: 0.9, 7: 0.6},
    {6: 0.8},
    {5: 1.0, 6: 0.9},
]
ARGUMENTS = {
    "cuts": {"threshold": 0.6, "top": 2, "max_share": 0.4},
    "rows": {"exclude": [1, 7], "must_include": [4, 3], "quality": "share"},
    "rules": {"avoid": [6], "boost": {7: 2.0}},
    "target": {"target": coded([{0: 0.9, 1: 0.7}, {2: 1.0, 7: 0.9}])},
    "target and rules": {"target": coded([{0: 0.9, 1: 0.7}, {2: 1.0, 7: 0.9}]), "avoid": [6]},
    "two targets": {"target": {"a": coded([{1: 0.7}]), "b": coded([{3: 1.0, 7: 0.9}])}, "overlap": "only_report"},
    "target and cuts": {"target": coded([{2: 1.0, 7: 0.9}]), "max_share": 0.4, "threshold": 0.5},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("method", ["greedy", "weighted", "match", "herding"])
def test_the_features_of_a_large_dataset_are_never_in_one_matrix(method, arguments, monkeypatch):
    """The receipt of `select`, with cuts, rules and targets, is that of one process."""
    ds = coded(ROWS).add_column("share", [1.0, 0.5, 1.0, 0.25, 1.0, 0.0, 1.0, 0.5])
    check_large(monkeypatch, ds, 4, method, arguments)


VECTORS = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 0.0], [-1.0, 0.5], [0.0, 0.9], [0.5, 0.5], [1.0, -1.0]]
STATES = {
    "state of codes": (coded(ROWS).add_column("sae_state", VECTORS), {}),
    "column beside codes": (coded(ROWS).add_column("v", VECTORS), {"embedding": "v", "avoid": [6]}),
    "column alone": (Dataset.from_dict({"v": VECTORS}), {"embedding": "v", "exclude": [0]}),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("ds", "arguments"), STATES.values(), ids=STATES)
@pytest.mark.parametrize("method", ["kcenter", "repr_filter"])
def test_the_vectors_of_a_large_dataset_are_read_where_the_shards_are(method, ds, arguments, monkeypatch):
    check_large(monkeypatch, ds, 5, method, arguments)


def check_large(monkeypatch, ds, budget, method, arguments):
    """Select as from many rows, in three shards, and compare with one process."""
    one = api.select(ds, budget, method, **arguments).sae_selection
    monkeypatch.setattr(run, "MANY_ROWS", 0)
    monkeypatch.setattr(pool, "cores", lambda: 3)
    monkeypatch.setattr(run, "_with_vectors", None)  # what reads the features and vectors of all rows in one matrix
    sharded = api.select(ds, budget, method, **arguments).sae_selection
    assert repr(vars(sharded)) == repr(vars(one))


def test_facility_location_says_why_it_takes_no_shards():
    features = with_all(features_of([{1}, {2}, {3}]))
    request = SelectionRequest.parse(3, {}, 2, "facility_location", {})
    with pytest.raises(ValueError, match="`method='facility_location'` cannot select from shards: what a row gains"):
        run.run(request, pool.of_matrix(features, 2))


def test_vectors_that_are_missing_or_of_several_lengths_are_named():
    request, features = SelectionRequest.parse(3, {}, 2, "kcenter", {}), features_of([{1}, {2}, {3}])
    with pytest.raises(ValueError, match="this method compares vectors; pass `embedding='column'`"):
        run.run(request, pool.of_matrix(features, 2))
    parts = [replace(features, vectors=np.ones((3, width), np.float32)) for width in (2, 3)]
    shards = LocalShards([partial(Shard, part) for part in parts])
    request = SelectionRequest.parse(6, {}, 2, "kcenter", {})
    with pytest.raises(ValueError, match="vectors have 2 to 3 numbers; give all one length"):
        run.run(request, ShardedFeatures(shards, [3, 3], 16))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", ["greedy", "match", "herding"])
def test_a_selection_grows_as_in_one_process(method, monkeypatch):
    ds = coded(ROWS)
    one, few = api.select(ds, 6, method, extend=api.select(ds, 3, method)), api.select(ds, 3, method)
    monkeypatch.setattr(run, "MANY_ROWS", 0)
    monkeypatch.setattr(pool, "cores", lambda: 3)
    sharded = api.select(ds, 6, method, extend=few)
    assert repr(vars(sharded.sae_selection)) == repr(vars(one.sae_selection))
    assert api.select(ds, 3, method).sae_selection.indices.tolist() == sharded.sae_selection.indices[:3].tolist()


def own(features, budget, rng):
    return run.Selection(np.arange(budget), np.zeros(budget), np.zeros(1, np.int64))


def test_a_method_of_the_users_gets_all_features_at_once(monkeypatch):
    one = api.select(coded(ROWS), 4, own).sae_selection
    monkeypatch.setattr(run, "MANY_ROWS", 0)
    assert repr(vars(api.select(coded(ROWS), 4, own).sae_selection)) == repr(vars(one))


def test_a_cut_that_needs_more_than_was_kept_names_the_row_of_the_pool(monkeypatch):
    record = RECORD | {"keep": {"strongest": 2, "above": 0.9, "type": "float32"}}
    ds = coded([*[{0: 0.95}] * 5, {0: 1.0, 1: 0.8}], record=record)
    messages = []
    for most in (2**22, 0):
        monkeypatch.setattr(run, "MANY_ROWS", most)
        with pytest.raises(ValueError, match="of row 5 only the 2 strongest features") as error:
            api.select(ds, 1, "greedy", threshold=0.5)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_mean_of_exact_sums_does_not_depend_on_the_parts():
    numbers = np.array([2.0**-149, 1e-30, 0.1, 0, 3e38, 0.3], np.float32)  # the first one is subnormal
    parts = exact_sum(numbers[:2]) + exact_sum(numbers[2:])
    assert parts == exact_sum(numbers[::-1]) and mean_of_sum(parts, 6) == pytest.approx(5e37)
    assert mean_of_sum(exact_sum(np.array([0.5, 0.25], np.float32)), 2) == 0.375
    assert mean_of_sum(exact_sum(numbers[:0]), 0) == 1
