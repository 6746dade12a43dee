from dataclasses import replace

import pytest
from helpers.pools import coded

from hf_sae_select import select
from hf_sae_select.publishing.replay import repeat


def test_an_option_that_version_0_1_0_recorded_is_read_at_its_default():
    ds = coded([{0: 1.0, 1: 2.0}, {1: 1.0}, {2: 3.0}])
    receipt = select(ds, 2, "weighted").sae_selection
    earlier = replace(receipt, parameters=receipt.parameters | {"mass": "max"})
    assert repeat(ds, earlier).indices.tolist() == receipt.indices.tolist()
    with pytest.raises(ValueError, match="`mass` is no option of `method='weighted'`"):
        repeat(ds, replace(receipt, parameters=receipt.parameters | {"mass": "mean"}))
