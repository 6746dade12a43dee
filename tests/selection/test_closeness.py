"""A selection towards a target gone through again: nearness, parts and runners-up equal naive recomputation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.pools import features_of, thoroughly
from helpers.tasks import fits_of, is_possible, scale_of, tasks
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import select_indices
from hf_sae_select.features.shares import Shares
from hf_sae_select.selection import targets as targets_module
from hf_sae_select.selection.closeness import closeness, gains_of, parts_of, parts_of_picks, scores_at
from hf_sae_select.selection.target_argument import TargetArgument
from hf_sae_select.selection.targets import SMOOTHING
from hf_sae_select.selection.trace import Trace

D_SAE = 10
acts = st.dictionaries(st.integers(0, D_SAE - 1), st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=6)
targets = st.lists(acts, min_size=1, max_size=4)


def matrix(rows):
    features = features_of([set(row) for row in rows], d_sae=D_SAE)
    return replace(features, acts=np.array([row[j] for row in rows for j in sorted(row)], np.float32))


def weights_of(shares, parts, budget_shares):
    """How features tell the target from the pool, from the definition in `Target.weights`."""
    pool, target = shares.total / max(shares.total.sum(), 1e-300), np.zeros(D_SAE)
    for part, share in zip(parts, budget_shares, strict=True):
        mass = Shares.above(shares.mean, part).total
        target += share * mass / max(mass.sum(), 1e-300)
    e = SMOOTHING / max((pool > 0).sum(), 1)
    return (target + e) / (pool + e)


def vectors(features, mean, weights):
    """The vectors of rows, in whole numbers: [n, d_sae]."""
    shares, dense = Shares.above(mean, features), np.zeros((len(features), D_SAE))
    for i in range(len(features)):
        ids = features.row(i)
        dense[i, ids] = shares.amounts[features.offsets[i] : features.offsets[i + 1]] * weights[ids]
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    return np.rint(np.divide(dense * 4096, lengths, out=np.zeros_like(dense), where=lengths > 0)).astype(int)


def kernel(one, other, width):
    """The kernel of two vectors."""
    steps = min(int(one @ other) >> 10, 2**14)
    least = math.exp(-1 / width)
    return round((math.exp((steps / 2**14 - 1) / width) - least) / (1 - least) * 2**32)


class Naive:
    """Herding from its definition."""

    def __init__(self, features, pool, parts, budget_shares, width, redundancy):
        shares = Shares.of(features, np.array(pool, np.int64))
        weights = weights_of(shares, parts, budget_shares)
        self.rows = vectors(features, shares.mean, weights)
        self.parts = [vectors(part, shares.mean, weights) for part in parts]
        self.sizes = [int((part.counts > 0).sum()) for part in parts]
        self.width, self.redundancy = width, redundancy

    def near(self, turn, row):
        kernels = [kernel(self.rows[row], other, self.width) for other in self.parts[turn]]
        return sum(kernels) / (self.sizes[turn] * 2**32)

    def gain(self, turn, picks, row):
        near = self.near(turn, row)
        among = sum(kernel(self.rows[row], self.rows[pick], self.width) for pick in picks)
        return near and near + self.redundancy * (1 - among / ((len(picks) + 1) * 2**32))

    def parts_of(self, turn, row):
        """Share out each kernel in proportion to the terms of the product."""
        total = np.zeros(D_SAE)
        for other in self.parts[turn]:
            terms = self.rows[row] * other
            if terms.sum():
                total += kernel(self.rows[row], other, self.width) * terms / terms.sum()
        return total / (self.sizes[turn] * 2**32)


def turn_of(naive, shares, counts, row):
    """The target that is farthest behind, of those that the row is near."""
    behind = [share * (sum(counts) + 1) - count for share, count in zip(shares, counts, strict=True)]
    order = sorted(range(len(shares)), key=lambda turn: -behind[turn])
    return next((turn for turn in order if naive.near(turn, row) > 0), order[0])


@pytest.mark.filterwarnings("ignore::UserWarning")
@thoroughly
@given(task=tasks(), one=targets, other=st.none() | targets, redundancy=st.sampled_from([0.0, 0.5, 2.0]))
def test_nearness_parts_runners_up_and_other_gains_equal_naive_recomputation(task, one, other, redundancy):
    rows, arguments = task
    if not is_possible(arguments, rows):
        return
    features, parts = matrix(rows), [matrix(one)] if other is None else [matrix(one), matrix(other)]
    target = parts[0] if other is None else {"a": (parts[0], 0.75), "b": (parts[1], 0.25)}
    try:
        selection = select_indices(
            features, target=target, redundancy=redundancy, overlap="keep", width=0.4, **arguments
        )
    except ValueError:  # nothing can be bought
        return
    trace = Trace.of(features, selection, arguments["columns"], TargetArgument.parse(target).of_features(D_SAE))
    pool = [i for i in range(len(rows)) if i not in arguments["exclude"]]
    shares = [1.0] if other is None else [0.75, 0.25]
    naive = Naive(features, pool, parts, shares, 0.4, redundancy)
    fits, scale, picks = fits_of(rows, arguments), scale_of(rows, arguments), np.arange(len(selection))
    counts, taken, herded = [0] * len(parts), [[] for _ in parts], []
    near_picks = list(closeness(trace, picks))
    assert [near.pick for near in near_picks] == [pick for pick in picks if trace.kind_of(pick) != "filler"]
    for near in near_picks:
        row = int(selection.indices[near.pick])
        turn = turn_of(naive, shares, counts, row)
        assert near.turn == turn and near.nearness == pytest.approx(naive.near(turn, row), abs=1e-12)
        gain = naive.gain(turn, taken[turn], row)
        assert near.nearness + near.novelty == pytest.approx(gain, abs=1e-12)
        assert gain == pytest.approx(selection.gains[near.pick], abs=1e-12)
        expected = naive.parts_of(turn, row)
        assert near.parts.gains == pytest.approx(expected[near.parts.ids], abs=1e-12)
        assert near.parts.gains.sum() == pytest.approx(near.nearness, abs=1e-12)
        products = naive.parts[turn] @ naive.rows[row]
        assert near.rows.tolist() == [i for i in np.argsort(-products, kind="stable")[:3] if products[i] > 0]
        assert near.cosines == pytest.approx(np.minimum(products[near.rows] / 4096**2, 1))
        before = selection.indices[: near.pick].tolist()
        left = [i for i in trace.engine.order.tolist() if i not in (*before, row) and fits(before, i)]
        scores = {i: naive.gain(turn, taken[turn], i) * scale[i] for i in left}
        largest = max(scores.values(), default=0)
        assert (near.runner_up < 0) == (largest == 0)
        if largest > 0:
            assert scores[near.runner_up] == pytest.approx(largest, rel=1e-12)
            assert near.runner_up_gain == pytest.approx(naive.gain(turn, taken[turn], near.runner_up), rel=1e-12)
        if fits(before, row):
            scores[row] = gain * scale[row]
        everything = scores_at(trace, near.pick)
        assert everything == pytest.approx([scores.get(i, 0) for i in range(len(rows))], abs=1e-12)
        if near.pick == 1 and left:
            others = parts_of(trace, left[0], 1)
            assert others.gains == pytest.approx(naive.parts_of(turn, left[0])[others.ids], abs=1e-12)
        herded.append((turn, list(taken[turn])))
        counts[turn] += 1
        taken[turn].append(row)
    for row in sorted(set(pool) - set(selection.indices.tolist()))[:2]:
        gains = [naive.gain(turn, before, row) for turn, before in herded]
        if len(herded) == len(selection):  # no row filled the budget
            turn = turn_of(naive, shares, counts, row)
            gains.append(naive.gain(turn, taken[turn], row))
        assert gains_of(trace, row)[0][: len(gains)] == pytest.approx(gains, abs=1e-12)
    apart = [not any(naive.near(turn, i) for turn in range(len(parts))) for i in range(len(rows))]
    assert [trace.is_apart(i) for i in range(len(apart))] == apart


@pytest.mark.filterwarnings("ignore::UserWarning")
@thoroughly
@given(task=tasks())
def test_without_a_target_nearness_is_to_all_rows(task):
    rows, arguments = task
    if not is_possible(arguments, rows):
        return
    features, pool = matrix(rows), [i for i in range(len(rows)) if i not in arguments["exclude"]]
    try:
        selection = select_indices(features, method="herding", width=0.4, redundancy=2, **arguments)
    except ValueError:  # nothing can be bought
        return
    trace = Trace.of(features, selection, arguments["columns"])
    own = vectors(features, Shares.of(features, np.array(pool, np.int64)).mean, np.ones(D_SAE))
    for near in closeness(trace, np.arange(len(selection))):
        row = int(selection.indices[near.pick])
        kernels = [kernel(own[row], own[i], 0.4) for i in pool if rows[i]]
        assert near.nearness == pytest.approx(sum(kernels) / max(len(kernels), 1) / 2**32, abs=1e-12)
        assert near.parts.gains.sum() == pytest.approx(near.nearness, abs=1e-12)
        assert near.nearness + near.novelty == pytest.approx(selection.gains[near.pick], abs=1e-12)


def test_parts_of_a_pick_sum_to_its_nearness_where_a_sample_stands_for_the_pool(monkeypatch):
    monkeypatch.setattr(targets_module, "SAMPLE", 10)
    rng = np.random.default_rng(0)
    features = features_of([set(rng.choice(14, 4, replace=False).tolist()) for _ in range(40)])
    selection = select_indices(features, 12, "herding")
    for near in closeness(Trace.of(features, selection), np.arange(12)):
        assert near.nearness + near.novelty == pytest.approx(selection.gains[near.pick], abs=1e-12)
        assert near.parts.gains.sum() == pytest.approx(near.nearness, abs=1e-9)  # which is of whole units


@pytest.mark.filterwarnings("ignore:.*says little:UserWarning")
@pytest.mark.parametrize("method", ["match", "greedy", "weighted"])
def test_parts_towards_a_target_are_those_of_its_gains(method):
    rng = np.random.default_rng(0)
    features = features_of([set(rng.choice(14, 4, replace=False).tolist()) for _ in range(40)])
    target = features_of([{0, 1, 2}, {1, 2, 3}, {15}] * 3)
    selection = select_indices(features, 12, method, target=target)
    trace = Trace.of(features, selection, target=TargetArgument.parse(target).of_features(16))
    parts = list(parts_of_picks(trace, np.arange(12)))
    assert [part.gains.sum() for part in parts] == pytest.approx(selection.gains)
    assert all(part.gains[part.ids > 3].sum() == 0 for part in parts)
    assert [trace.is_apart(i) for i in range(40)] == [
        not set(features.row(i).tolist()) & {0, 1, 2, 3} for i in range(40)
    ]
    for pick in range(12):
        scores = [trace.parts_of(i, pick).gains.sum() for i in range(40)]
        for row in selection.indices[: pick + 1]:
            scores[row] = 0
        row, gain = (values[0] for values in trace.runners_up(np.array([pick])))
        assert gain == pytest.approx(max(scores)) and (row < 0) == (max(scores) == 0)


@pytest.mark.filterwarnings("ignore:.*says? little:UserWarning")
def test_features_of_another_target_are_noticed():
    features, target, other = features_of([{0, 1}, {1, 2}, {3}]), features_of([{0, 1}] * 2), features_of([{1, 2}] * 2)
    selection = select_indices(features, 2, target=target)
    trace = Trace.of(features, selection, target=TargetArgument.parse(other).of_features(16))
    with pytest.raises(ValueError, match="pass the features of the pool as they were, and the same `target`"):
        list(closeness(trace, np.arange(2)))


@pytest.mark.filterwarnings("ignore:.*says? little:UserWarning")
@pytest.mark.parametrize("method", ["herding", "match", "greedy", "weighted"])
def test_without_its_target_a_selection_has_only_its_picks(method):
    features, target = features_of([{0, 1}, {1, 2}, {3}]), features_of([{0, 1}] * 2)
    trace = Trace.of(features, select_indices(features, 2, method, target=target))
    assert trace.lacks_target and list(parts_of_picks(trace, np.arange(2))) == []
    assert trace.runners_up(np.arange(2))[0].tolist() == [-1, -1] and not trace.is_apart(0)
