"""Why a row was picked: the features that it added, and where else they are."""

import numpy as np
from helpers.pools import features_of

from hf_sae_select import Selection
from hf_sae_select.concepts.reasons import reasons


def test_the_reasons_are_those_of_the_example():
    features = features_of([{0, 1}, {1, 2, 3}, {3}])
    features.acts[:] = [0.5, 0.5, 0.5, 0.9, 0.7, 0.8]  # 2 is the strongest of row 1
    receipt = Selection(np.array([1, 0]), np.array([3, 1]), np.array([0]))
    found = [vars(each) | {"examples": each.examples.tolist()} for each in reasons(features, receipt)]
    assert found == [
        {"row": 1, "new": 3, "feature": 2, "holders": 1, "examples": []},
        {"row": 0, "new": 1, "feature": 0, "holders": 1, "examples": []},
    ]


def test_reasons_begin_anew_with_a_round_and_name_the_strongest_examples():
    features = features_of([{0}, {0}, {0}, {0, 5}, set()])
    features.acts[:] = [0.5, 0.9, 0.7, 0.8, 0.6]
    receipt = Selection(np.array([3, 0, 1, 4]), np.array([2, 0, 1, 0]), np.array([0, 2]))
    found = [
        (each.row, each.new, each.feature, each.holders, each.examples.tolist()) for each in reasons(features, receipt)
    ]
    assert found == [(3, 2, 0, 4, [1, 0]), (0, 0, None, 0, []), (1, 1, 0, 4, [3, 0]), (4, 0, None, 0, [])]
    assert len(reasons(features, receipt, picks=2)) == 2
