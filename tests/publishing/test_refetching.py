"""What people do with datasets and rules before they publish a subset: it is published, and verifies."""

import shutil

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from helpers.forge import ALICE, POOL, RECORD, TEXTS, publish_source, said
from helpers.pools import coded
from hub import go_offline
from huggingface_hub import constants

from hf_sae_select import Selection, SparseAutoencoder, load_sae, publish, stage, verify
from hf_sae_select.encoding.encoder import _Encoder
from hf_sae_select.publishing.provenance import read
from hf_sae_select.publishing.source import Source, find_source

MIT = {"license": "mit"}


@pytest.mark.parametrize("how", ["pulled", "saved"])
def test_an_sae_of_ours_by_from_pretrained(whole, tmp_path, how):
    sae = SparseAutoencoder.from_pretrained("alice/sae")
    if how == "saved":
        sae.save_pretrained(tmp_path / "sae")
        sae = str(tmp_path / "sae")
    folder = stage(load_dataset("alice/rows", split="train").sae_select(4, sae=sae), tmp_path / "f")
    assert read(folder / "provenance.json")["encoding"]["sae"]["repo"] == "alice/sae"
    found = verify(folder, "encode")
    assert found, str(found)


def test_what_was_said_of_an_sae_on_loading_may_name_a_model_in_a_folder(whole, bert, tmp_path):
    sae = load_sae("alice/sae", config={"model": str(bert), "model_revision": None})
    folder = stage(load_dataset("alice/rows", split="train").sae_select(4, sae=sae), tmp_path / "f")
    encoding = read(folder / "provenance.json")["encoding"]
    assert encoding["model"] is None and "config" not in encoding["sae"]
    assert not any(str(bert).encode() in file.read_bytes() for file in folder.rglob("*.*"))
    assert verify(folder, "encode", sae=sae)


def test_codes_under_another_name_are_no_column_to_publish(sae, tmp_path):
    ds = Dataset.from_dict({"text": TEXTS}).sae_encode(sae).rename_column("sae_ids", "kept").remove_columns("sae_acts")
    with pytest.raises(ValueError, match="column `kept` holds renamed SAE codes: remove it"):
        stage(ds.sae_select(3, sae=sae), tmp_path / "f", **MIT)


def test_the_column_that_was_encoded_may_be_gone_or_hold_something_else(sae, tmp_path):
    coded = Dataset.from_dict({"text": TEXTS, "kind": ["a"] * len(TEXTS)}).sae_encode(sae)
    for ds, shown in (
        (coded.remove_columns("text"), "“a”"),
        (coded.map(lambda row: {"text": [row["text"]]}), "“a”"),
        (coded.select_columns(["sae_ids", "sae_acts", "sae_tokens"]).add_column("n", list(range(len(TEXTS)))), "“”"),
    ):
        folder = stage(ds.sae_select(3), tmp_path / "f", **MIT)
        assert shown in (folder / "README.md").read_text() and verify(folder, "select")


def test_vectors_that_encoding_kept_may_be_named_as_the_embedding(sae, tmp_path):
    ds = Dataset.from_dict({"text": TEXTS})
    coded = ds.sae_encode(sae, keep="state")
    folder = stage(coded.sae_select(4, "kcenter", embedding="sae_state"), tmp_path / "f", **MIT)
    found = verify(folder, "encode", source=ds, sae=sae)
    assert found, str(found)


def strongest(features, budget, rng):
    """Pick the rows with the largest sum of activations; gains in the type of activations."""
    sums = np.array([features.acts[i:j].sum() for i, j in zip(features.offsets, features.offsets[1:], strict=False)])
    rows = np.argsort(-sums, kind="stable")[:budget]
    return Selection(rows, sums[rows].astype(np.float32), np.array([0]))


def test_a_rule_of_ones_own_is_given_again_what_it_was_given(sae, tmp_path):
    ds = Dataset.from_dict({"text": TEXTS})
    folder = stage(ds.sae_encode(sae).sae_select(4, strongest), tmp_path / "f", **MIT)
    found = verify(folder, "encode", source=ds, sae=sae, method=strongest)
    assert found, str(found)


@pytest.mark.parametrize(
    ("gains", "starts", "message"),
    [
        ([1.0, np.nan], [0], "returned `gains` that are not numbers"),
        (["a", "b"], [0], "returned `gains` that are not numbers"),
        ([1.0, 1.0], [1], "returned `round_starts="),
        ([1.0, 1.0], [0, 0], "returned `round_starts="),
        ([1.0, 1.0], [0, 2], "returned `round_starts="),
    ],
)
def test_what_a_rule_of_ones_own_cannot_say_is_refused_when_it_selects(gains, starts, message):
    with pytest.raises(ValueError, match=message):
        coded(POOL).sae_select(2, lambda f, budget, rng: Selection(np.arange(2), np.array(gains), np.array(starts)))


def test_a_function_is_known_again_by_what_it_writes(sae, tmp_path):
    ds = Dataset.from_dict({"text": TEXTS})
    folder = stage(ds.sae_select(4, sae=sae, text=lambda row: row["text"] + " cat"), tmp_path / "f", **MIT)
    assert verify(folder, "encode", source=ds, sae=sae, text=lambda record: f"{record['text']} cat")


def test_what_a_model_was_held_in_on_another_device_is_no_difference(whole, monkeypatch):
    here = _Encoder.record
    monkeypatch.setattr(_Encoder, "record", lambda self: here(self) | {"dtype": ["auto", "float32"]})
    found = verify(whole, "encode")
    assert found, str(found)


def test_arguments_of_load_dataset_that_make_a_config_are_not_taken_for_one(hub):
    revision = hub.push("alice/csv", {"train.csv": "text;n\nthe cat;1\na dog;2\n"}, kind="dataset")
    ds = load_dataset("alice/csv", sep=";", split="train")
    assert find_source(ds) == Source("alice/csv", None, "train", revision, False)


def test_a_name_alone_adds_to_what_the_cache_tells(hub, tmp_path):
    revision = publish_source(hub, tmp_path, TEXTS)
    ds = load_dataset("alice/rows", split="train")
    hub.push("alice/rows", {"more.txt": "x"}, kind="dataset")  # today's head is another
    shutil.rmtree(constants.HF_HUB_CACHE)
    assert find_source(ds, "alice/rows") == Source("alice/rows", "default", "train", revision, True)
    assert find_source(ds.select([2, 1]), "alice/rows").as_published is False
    with pytest.raises(
        ValueError, match="`source='alice/other'`, but in the cache the rows are those of `alice___rows`"
    ):
        find_source(ds, "alice/other")


def test_without_the_hub_another_commit_in_the_cache_is_no_difference(whole, hub, tmp_path, monkeypatch):
    publish_source(hub, tmp_path, TEXTS[:5])
    load_dataset("alice/rows", split="train")
    go_offline(monkeypatch)
    with pytest.raises(OSError, match="the cache has alice/rows at another commit than"):
        verify(whole, "encode")


def test_a_note_says_how_to_go_on_in_private(hub, tmp_path):
    hub.fail("POST", "/repos/create", 429, times=10)
    with pytest.raises(OSError) as error:
        publish(coded(POOL, record=RECORD).sae_select(2), "alice/secret", private=True, **MIT, **ALICE)
    assert "to continue: hf_sae_select.push(" in error.value.__notes__[0]
    assert "'alice/secret', private=True)" in error.value.__notes__[0]


def test_a_branch_that_is_not_there_leaves_no_repo(hub):
    with pytest.raises(FileNotFoundError, match="alice/new has no branch 'next': create it first"):
        publish(coded(POOL, record=RECORD).sae_select(2), "alice/new", revision="next", **MIT, **ALICE)
    assert ("dataset", "alice/new") not in hub.repos


@pytest.mark.parametrize("budget", [0.3, 3e-5, 7e-13])
def test_costs_may_be_tiny(tmp_path, budget):
    ds = coded(POOL, record=RECORD).add_column("usd", [budget / 3] * len(POOL))
    folder = stage(ds.sae_select(f"{budget:.20f} usd"), tmp_path / "f", **MIT)
    assert said(folder, "select") == {}


def test_a_licence_beside_the_source_is_linked_where_it_lies(hub, tmp_path):
    card = "---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n"
    revision = hub.push(
        "alice/rows", {"train.jsonl": '{"text": "the cat"}\n{"text": "a dog"}\n', "README.md": card}, "dataset"
    )
    subset = load_dataset("alice/rows", split="train").sae_select(1)
    link = f"https://huggingface.co/datasets/alice/rows/blob/{revision}/LICENSE"
    assert f"[mine]({link}), as alice/rows states it." in (stage(subset, tmp_path / "f") / "README.md").read_text()
