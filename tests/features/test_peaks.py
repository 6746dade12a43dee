"""Peaks: the strongest rows of features, against sorting."""

import numpy as np
import pytest
from helpers.pools import thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import FeatureMatrix
from hf_sae_select.features.peaks import Peaks

MATRIX = FeatureMatrix.from_dense(np.array([[0.9, 0.0], [0.4, 0.1], [0.9, 0.0], [0.5, 0.0]]))


def peaks_of(matrix, features, rows, most):
    peaks = Peaks.of(matrix, np.array(features, np.int64), np.array(rows, np.int64), most)
    return peaks.rows.tolist(), peaks.activations


def test_the_strongest_rows_come_first_and_of_equal_ones_the_first():
    rows, activations = peaks_of(MATRIX, [1, 0], range(4), 3)
    assert rows == [[1, -1, -1], [0, 2, 3]]
    assert activations.tolist() == [[pytest.approx(0.1), -1, -1], pytest.approx([0.9, 0.9, 0.5])]


def test_only_the_rows_that_are_named_count():
    assert peaks_of(MATRIX, [0], [1, 3], 1)[0] == [[3]]
    assert peaks_of(MATRIX, [0], [], 1)[0] == [[-1]]
    assert peaks_of(MATRIX, [0], range(4), 0)[0] == [[]]


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), max_size=8), st.integers(1, 4))
@thoroughly
def test_peaks_are_the_first_of_the_sorted_rows(dense, most):
    matrix = FeatureMatrix.from_dense(np.array(dense, float).reshape(-1, 3))
    expected = []
    for feature in range(3):
        holders = sorted((row for row in range(len(dense)) if dense[row][feature]), key=lambda r: -dense[r][feature])
        expected.append((holders + [-1] * most)[:most])
    assert peaks_of(matrix, range(3), range(len(dense)), most)[0] == expected
