"""Products in bfloat16: the parts add up to float32, and three of them are as exact."""

import pytest
import torch

from hf_sae_select.sae.products import PARTS, ReusedProduct, SplitProduct, split


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + shape[0]))


def test_three_parts_add_up_to_the_number_exactly():
    x = drawn(10**6) * 10.0 ** torch.arange(-20, 20).repeat_interleave(25_000)
    first, second, third = split(x, 3)
    assert first.dtype == torch.bfloat16
    assert torch.equal(first.double() + second.double() + third.double(), x.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_three_parts_are_as_exact_as_float32(dtype):
    x, weights = drawn(300, 384).to(dtype), drawn(384, 64)
    exact = x.double() @ weights.double()
    plain = (x.float() @ weights - exact).abs()
    parts = (SplitProduct(weights, "bfloat16x3")(x) - exact).abs()
    assert parts.max() < 2 * plain.max() and parts.mean() < 2 * plain.mean()
    one = SplitProduct(weights, "bfloat16")(x)
    assert one.dtype == torch.float32 and 0.001 < (one - exact).abs().mean() < 0.1


@pytest.mark.parametrize("precision", PARTS)
def test_infinity_and_nan_show(precision):
    x = drawn(3, 8)
    x[1, 2], x[2, 3] = torch.inf, torch.nan
    assert SplitProduct(drawn(8, 4), precision)(x).isfinite().all(dim=1).tolist() == [True, False, False]


def test_products_in_memory_that_is_used_again_have_the_same_bits():
    weights = drawn(8, 40)
    product = ReusedProduct(weights)
    for rows, columns in ((5, slice(None)), (9, slice(10, 30)), (3, slice(None))):
        x = drawn(rows, 8)
        assert torch.equal(product(x, columns), x @ weights[:, columns])
    first = product(x)
    assert product(-x).data_ptr() == first.data_ptr()
