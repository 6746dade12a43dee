"""The bench of encoding beside others: who computes activations computes those of `encode`."""

import pytest
import torch

from hf_sae_select import load_sae
from hf_sae_select.encoding.pretrained import locate

TEXTS = [
    "A ship sails at dawn.",
    "Add 2 and 2.",
    "The old town by the sea sings of ships, of salt and of long winters.",
]


@pytest.mark.slow
def test_a_plain_loop_gives_the_activations_of_encode_in_either_order(script, tmp_path):
    worker, sae = script("encoding_peers_worker"), load_sae()
    sae.save_pretrained(tmp_path)
    model, _ = locate(sae.config.model, sae.config.model_revision)
    task = {"model": model, "hook": sae.config.hook, "window": sae.config.context_size}
    expected = worker.all_activations(TEXTS)
    assert expected.shape == (3, 8192) and (expected > 0).any(dim=1).all()
    for by_length in (False, True):
        torch.testing.assert_close(
            worker.loop(task, tmp_path, by_length=by_length)(TEXTS), expected, rtol=0, atol=1e-4
        )


def test_files_of_activations_have_plain_names(script, tmp_path):
    name = script("encoding_peers_worker").activations_file(tmp_path, "the same, SAELens' SAE").name
    assert name == "the-same--SAELens--SAE.npy"
