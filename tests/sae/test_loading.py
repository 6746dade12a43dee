"""What `load_sae` adds to `from_pretrained`."""

import pytest
from helpers.published import GEMMA, SAELENS

from hf_sae_select import SparseAutoencoder, load_sae


def test_an_sae_is_returned_as_it_is(tmp_path):
    sae = load_sae(GEMMA.at(tmp_path))
    assert load_sae(sae) is sae


def test_the_packaged_sae_is_the_default():
    assert load_sae().config.source == {"package": "hf-sae-select", "format": "native"}
    assert load_sae(config={"l0": 5.0}).config.source["config"] == {"l0": 5.0}


@pytest.mark.parametrize("source", [5, ["a"], {}, b"a"], ids=repr)
def test_other_types_are_refused(source):
    with pytest.raises(TypeError, match=rf"`sae` is a {type(source).__name__}; pass .* a SparseAutoencoder"):
        load_sae(source)


def test_an_empty_name_is_not_the_packaged_sae():
    with pytest.raises(ValueError, match=r"`sae=''`"):
        load_sae("")


def test_from_pretrained_reads_every_format_too(tmp_path):
    folder = SAELENS.at(tmp_path)
    sae = SparseAutoencoder.from_pretrained(folder, config={"l0": 5.0})
    assert sae.config == load_sae(folder, config={"l0": 5.0}).config and sae.digest() == load_sae(folder).digest()


def test_from_pretrained_has_no_default():
    with pytest.raises(TypeError, match="`sae` is a NoneType"):
        SparseAutoencoder.from_pretrained(None)


def test_a_subclass_loads_as_itself(tmp_path):
    class Own(SparseAutoencoder):
        pass

    assert type(Own.from_pretrained(SAELENS.at(tmp_path))) is Own
