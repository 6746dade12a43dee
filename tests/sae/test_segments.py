"""Sums of segments: exact in float32, and the same to the last bit whatever surrounds a segment."""

import torch
from torch import tensor

from hf_sae_select.sae.segments import FEW_ROWS, chunk_sizes, column_tiles, pieces, segment_sums, stable_product


def test_segment_sums():
    x = tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]])
    assert segment_sums(x, [3, 1]).tolist() == [[6.0, 60.0], [4.0, 40.0]]


def test_segment_sums_of_half_precision_are_float32():
    assert segment_sums(torch.ones(4099, 1).half(), [4099]).tolist() == [[4099.0]]  # half counts no further than 2048


def test_neither_the_columns_nor_the_threads_change_a_bit_of_a_sum():
    x = torch.randn(37, 1000, generator=torch.Generator().manual_seed(0))
    sums = segment_sums(x, [37])
    assert torch.equal(segment_sums(x[:, 500:].contiguous(), [37]), sums[:, 500:])
    torch.set_num_threads(3)
    try:
        assert torch.equal(segment_sums(x, [37]), sums)
    finally:
        torch.set_num_threads(1)


def test_chunks_are_full_and_the_last_takes_what_would_be_too_few():
    assert chunk_sizes(1500, 500) == [500, 500, 500]
    assert chunk_sizes(1256, 500) == [500, 500, 256]
    assert chunk_sizes(1255, 500) == [500, 755]
    assert chunk_sizes(600, 1) == [FEW_ROWS, 344]
    assert chunk_sizes(7, 500) == [7] and chunk_sizes(0, 500) == []


def test_tiles_are_of_about_the_same_size():
    assert column_tiles(8, 8) == [slice(0, 8)]
    assert column_tiles(9, 4) == [slice(0, 3), slice(3, 6), slice(6, 9)]
    assert column_tiles(17, 8) == [slice(0, 5), slice(5, 11), slice(11, 17)]


def test_segments_are_cut_where_chunks_end():
    assert list(pieces([2, 5, 1], [3, 4, 1])) == [
        [(0, 2, True), (1, 1, True)],
        [(1, 4, False)],
        [(2, 1, True)],
    ]


def test_neither_the_number_nor_the_order_of_rows_changes_a_bit_of_a_product():
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(300, 64, generator=generator), torch.randn(64, 500, generator=generator)
    multiply = lambda rows, columns: rows @ weights[:, columns]  # noqa: E731
    whole = stable_product(x, multiply)
    for rows in (1, 2, 7, 255, 256, 299):
        assert torch.equal(stable_product(x[-rows:], multiply), whole[-rows:])


def test_a_range_of_columns_has_the_bits_of_the_whole_product():
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(300, 384, generator=generator), torch.randn(384, 20_001, generator=generator)
    whole = x @ weights
    for columns in column_tiles(20_001, 8192):
        assert torch.equal(x @ weights[:, columns], whole[:, columns])
