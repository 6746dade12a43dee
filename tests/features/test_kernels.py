import threading

import numpy as np
from helpers.pools import features_of

from hf_sae_select.features import kernels

ROWS = [{0, 1}, {1, 2}, set(), {5}, {1}, {0, 5}]


def test_frequency_is_the_same_in_threads(monkeypatch):
    features = features_of(ROWS, d_sae=6)
    alone = kernels.frequency(features.offsets, features.ids, 6)
    monkeypatch.setattr(kernels, "FEW_IDS", 0)
    monkeypatch.setattr(kernels, "cores", lambda: 3)
    assert len(kernels.blocks(features.offsets)) == 3
    assert kernels.frequency(features.offsets, features.ids, 6).tolist() == alone.tolist() == [2, 3, 1, 0, 0, 2]


def test_blocks_cover_all_rows_once(monkeypatch):
    offsets = features_of(ROWS).offsets
    assert kernels.blocks(offsets) == [(0, 6)]
    monkeypatch.setattr(kernels, "FEW_IDS", 0)
    monkeypatch.setattr(kernels, "cores", lambda: 99)
    ranges = kernels.blocks(offsets)
    assert [i for first, last in ranges for i in range(first, last)] == list(range(6)) and len(ranges) == 8


def test_holders_count_the_named_rows_alone():
    features = features_of(ROWS, d_sae=6)
    assert kernels.holders(features.offsets, features.ids, np.array([0, 4, 2]), 6).tolist() == [1, 2, 0, 0, 0, 0]


def test_the_radix_select_keeps_the_largest_of_each_row_and_of_equals_the_first():
    values = np.array([1.0, 3.0, 2.0, 3.0, 0.5, 0.5, 0.5], np.float32)
    offsets = np.array([0, 4, 4, 7])
    assert kernels.largest_of_rows(offsets, values.view(np.uint32), 2).tolist() == [1, 3, 4, 5]
    assert kernels.largest_of_rows(offsets, values.view(np.uint32), 3).tolist() == [1, 2, 3, 4, 5, 6]
    assert kernels.largest_of_rows(offsets, values.view(np.uint32), 9).tolist() == list(range(7))


def test_a_thread_of_several_starts_no_more_of_them(monkeypatch):
    monkeypatch.setattr(kernels, "cores", lambda: 2)

    def names(*_):
        return threading.current_thread().name

    outer = kernels.in_threads(lambda n: {names(), *kernels.in_threads(names, [(n,)] * 2)}, [(0,), (1,)])
    assert all(len(own) == 1 for own in outer)
    assert threading.current_thread().name not in set.union(*outer, set(kernels.in_threads(names, [(0,), (1,)])))
