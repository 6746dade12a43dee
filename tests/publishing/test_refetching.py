"""How a record is encoded again: the arguments for the language model that it names."""

import pytest
from datasets import load_dataset

from hf_sae_select import encode, stage, verify
from hf_sae_select.publishing.provenance import public, read
from hf_sae_select.publishing.refetching import NotAsRecorded, _model_kwargs


def test_arguments_for_the_model_are_recorded_and_used_again(whole, tmp_path):
    coded = encode(
        load_dataset("alice/rows", split="train"),
        "alice/sae",
        dtype="bfloat16",
        model_kwargs={"attn_implementation": "eager", "device_map": "cpu"},
    )
    folder = stage(coded.sae_select(4), tmp_path / "f")
    encoding = read(folder / "provenance.json")["encoding"]
    assert encoding["model_kwargs"] == {"attn_implementation": "eager"}  # devices are of this machine alone
    assert encoding["dtype"] == ["bfloat16", "float32"]
    verification = verify(folder, "encode")
    assert verification, str(verification)


def test_devices_alone_leave_no_trace_in_what_is_published():
    encoding = {"model": "a/b", "model_revision": "0" * 40}
    assert public(encoding | {"model_kwargs": {"device_map": "auto", "offload_folder": "/tmp"}}) == encoding
    assert public({**encoding, "model": "folder", "model_kwargs": {"a": 1}})["model_kwargs"] == {"a": 1}


@pytest.mark.parametrize(
    "model_kwargs",
    [
        {"attn_implementation": "mallory/kernels"},
        {"attn_implementation": {"text_config": "mallory/kernels"}},
        {"experts_implementation": "mallory/kernels:f"},
        {"use_kernels": True},
        {"trust_remote_code": True},
        {"weights_only": False},
    ],
)
def test_a_record_cannot_make_transformers_run_foreign_code(model_kwargs):
    with pytest.raises(NotAsRecorded, match=f"`{next(iter(model_kwargs))}=.*`, which verification does not pass on"):
        _model_kwargs({"model_kwargs": model_kwargs})
    assert _model_kwargs({"model_kwargs": {"attn_implementation": "sdpa"}}) == {"attn_implementation": "sdpa"}
    assert _model_kwargs({}) == {}
