"""Source and SAE are fetched as a record names them, and the rows are encoded again."""

import pytest
from datasets import Dataset, load_dataset
from helpers.forge import TEXTS, publish_source
from hub import go_offline

from hf_sae_select import SparseAutoencoder, encode, load_sae, stage, verify
from hf_sae_select.encoding.encoder import Encoder
from hf_sae_select.publishing.provenance import public, read
from hf_sae_select.publishing.refetching import NotAsRecorded, _model_kwargs

MIT = {"license": "mit"}


@pytest.mark.parametrize("how", ["pulled", "saved"])
def test_an_sae_of_ours_by_from_pretrained(whole, tmp_path, how):
    sae = SparseAutoencoder.from_pretrained("alice/sae")
    if how == "saved":
        sae.save_pretrained(tmp_path / "sae")
        sae = str(tmp_path / "sae")
    folder = stage(load_dataset("alice/rows", split="train").sae_select(4, sae=sae), tmp_path / "f")
    assert read(folder / "provenance.json")["encoding"]["sae"]["repo"] == "alice/sae"
    verification = verify(folder, "encode")
    assert verification, str(verification)


def test_what_was_said_of_an_sae_on_loading_may_name_a_model_in_a_folder(whole, bert, tmp_path):
    sae = load_sae("alice/sae", config={"model": str(bert), "model_revision": None})
    folder = stage(load_dataset("alice/rows", split="train").sae_select(4, sae=sae), tmp_path / "f")
    encoding = read(folder / "provenance.json")["encoding"]
    assert encoding["model"] is None and "config" not in encoding["sae"]
    assert not any(str(bert).encode() in file.read_bytes() for file in folder.rglob("*.*"))
    assert verify(folder, "encode", sae=sae)


def test_vectors_that_encoding_kept_may_be_named_as_the_embedding(sae, tmp_path):
    ds = Dataset.from_dict({"text": TEXTS})
    coded = ds.sae_encode(sae, keep="state")
    folder = stage(coded.sae_select(4, "kcenter", embedding="sae_state"), tmp_path / "f", **MIT)
    verification = verify(folder, "encode", source=ds, sae=sae)
    assert verification, str(verification)


def test_a_function_is_known_again_by_what_it_writes(sae, tmp_path):
    ds = Dataset.from_dict({"text": TEXTS})
    folder = stage(ds.sae_select(4, sae=sae, text=lambda row: row["text"] + " cat"), tmp_path / "f", **MIT)
    assert verify(folder, "encode", source=ds, sae=sae, text=lambda record: f"{record['text']} cat")


def test_what_a_model_was_held_in_on_another_device_is_no_difference(whole, monkeypatch):
    here = Encoder.record
    monkeypatch.setattr(Encoder, "record", lambda self: here(self) | {"dtype": ["auto", "float32"]})
    verification = verify(whole, "encode")
    assert verification, str(verification)


def test_without_the_hub_another_commit_in_the_cache_is_no_difference(whole, hub, tmp_path, monkeypatch):
    publish_source(hub, tmp_path, TEXTS[:5])
    load_dataset("alice/rows", split="train")
    go_offline(monkeypatch)
    with pytest.raises(OSError, match="the cache has alice/rows at another commit than"):
        verify(whole, "encode")


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
