"""Labels from folders, repos and Neuronpedia's export, and labels that travel with an SAE."""

import gzip
import json
import re
from dataclasses import replace

import pytest
import torch
from helpers.wordy import wordy_sae
from huggingface_hub import hf_hub_download

from hf_sae_select import Label, Labels, SparseAutoencoder, load_labels, load_sae
from hf_sae_select.sae.labels import PACKAGED

ALICE = {"token": "hf_alice"}


@pytest.fixture
def shared(bert):
    sae = wordy_sae(bert)
    sae.config = replace(sae.config, model="openai-community/gpt2", hook="blocks.8.hook_resid_pre")
    return sae


def labels_for(sae, **options):
    labels = [Label(0, "cats", ("cat",), 0.9, (0.8, 1.0), 0.25), Label(1, "", ("dog",), 0.6, (0.5, 0.7), 0.5)]
    return Labels(labels, **{"d_sae": sae.config.d_sae, "sae_sha256": sae.digest()} | options)


def test_by_default_they_are_those_of_the_packaged_sae():
    assert load_labels() == Labels.load(PACKAGED)


# Beside the weights


def test_saved_and_loaded_with_an_sae(shared, tmp_path):
    labels = labels_for(shared)
    shared.save_pretrained(tmp_path / "a", labels=labels)
    card = (tmp_path / "a" / "README.md").read_text()
    assert "| features with a name | 1 of 6 |" in card and "hf_sae_select.load_labels(sae)" in card
    assert "1 fired on\nthe text" in card and "and 4 did not fire" in card and "have no names" not in card
    again = load_sae(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")  # they come along
    assert load_labels(again) == load_labels(tmp_path / "b") == load_labels(load_sae(tmp_path / "b")) == labels


def test_pushed_and_pulled_with_an_sae(hub, shared):
    labels = labels_for(shared)
    shared.push_to_hub("alice/saes", subfolder="one", labels=labels, **ALICE)
    assert "one/labels.parquet" in hub.files("alice/saes")
    assert b"| features with a name | 1 of 6 |" in hub.files("alice/saes")["README.md"]
    sae = load_sae("alice/saes", subfolder="one")
    assert load_labels(sae) == load_labels("alice/saes", subfolder="one", sae=sae) == labels
    sae.push_to_hub("alice/copy", **ALICE)
    assert load_labels("alice/copy") == labels


def test_nothing_is_fetched_before_labels_are_asked_for(hub, shared, monkeypatch):
    shared.push_to_hub("alice/sae", labels=labels_for(shared), **ALICE)
    fetched = []

    def download(name, path, **options):
        fetched.append(path)
        return hf_hub_download(name, path, **options)

    monkeypatch.setattr("hf_sae_select._hub.hf_hub_download", download)
    sae = load_sae("alice/sae")
    assert "labels.parquet" not in fetched and "hf_alice" not in repr(vars(sae.labels_place.repo))
    load_labels(sae)
    assert fetched[-1] == "labels.parquet"


def test_labels_pushed_alone_lie_beside_the_weights(hub, shared):
    shared.push_to_hub("alice/saes", subfolder="one", **ALICE)
    labels_for(shared).push_to_hub("alice/saes", subfolder="one", **ALICE)
    assert load_labels(load_sae("alice/saes", subfolder="one")).name(0) == "cats"
    assert hub.commits("alice/saes")[0].title == "Upload labels of features"


def test_an_sae_of_another_publisher_has_labels_beside_it_too(shared, tmp_path):
    shared.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()  # SAELens' files remain
    labels_for(shared).save(tmp_path)
    sae = load_sae(tmp_path)
    assert sae.config.source["format"] == "saelens" and load_labels(sae).name(0) == "cats"


def test_an_sae_that_has_changed_leaves_its_labels(shared, tmp_path):
    shared.save_pretrained(tmp_path / "a", labels=labels_for(shared))
    sae = load_sae(tmp_path / "a")
    with torch.no_grad():
        sae.W_enc *= 2
    with pytest.warns(UserWarning, match=r"`labels.parquet` is left out: it belongs to the SAE as it was loaded"):
        sae.save_pretrained(tmp_path / "b")
    assert not (tmp_path / "b" / "labels.parquet").exists()
    assert "The features have no names" in (tmp_path / "b" / "README.md").read_text()
    with pytest.raises(ValueError, match="`labels` are of another SAE of the same width"):
        load_labels(sae)


def test_labels_of_another_sae_are_refused_before_anything_is_written(shared, tmp_path):
    for wrong, problem in (
        ({"d_sae": 8}, "d_sae=8, but the SAE in use has d_sae=6"),
        ({"sae_sha256": "ab" * 32}, "another SAE"),
    ):
        with pytest.raises(ValueError, match=problem):
            shared.save_pretrained(tmp_path / "a", labels=labels_for(shared, **wrong))
    with pytest.raises(TypeError, match="`labels` is a dict"):
        shared.push_to_hub("alice/sae", labels={}, **ALICE)
    assert not (tmp_path / "a").exists()
    labels_for(shared, d_sae=8).save(tmp_path / "labels.parquet")
    with pytest.raises(ValueError, match="d_sae=8"):
        load_labels(tmp_path, sae=shared)


def test_without_labels_the_error_says_how_to_make_them(hub, shared, tmp_path):
    shared.push_to_hub("alice/sae", **ALICE)
    for source in ("alice/sae", load_sae("alice/sae"), shared, tmp_path):
        with pytest.raises(FileNotFoundError, match="label_features"):
            load_labels(source)
    with pytest.raises(FileNotFoundError):
        load_labels(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="`source=5`"):
        load_labels(5)


def test_a_damaged_file_beside_the_weights_does_not_hinder_the_sae(shared, tmp_path):
    shared.save_pretrained(tmp_path)
    (tmp_path / "labels.parquet").write_bytes(b"nonsense")
    sae = SparseAutoencoder.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no labels"):
        load_labels(sae)
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path / 'labels.parquet'))} holds no labels.*remove"):
        sae.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()  # nothing is written before labels are checked
    sae.save_pretrained(tmp_path / "new", labels=labels_for(shared))
    assert load_labels(tmp_path / "new").name(0) == "cats"


# Neuronpedia


def explanation(index, description, **more):
    values = {"id": f"x{index}", "modelId": "gpt2-small", "layer": "8-res-jb", "index": str(index)}
    values |= {"description": description, "typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini"}
    return json.dumps(values | {"embedding": "[0.5, 1.0]"} | more)


def export(folder, batches, source="v1/gpt2-small/8-res-jb"):
    (folder / source / "explanations").mkdir(parents=True)
    for i, lines in enumerate(batches):
        (folder / source / "explanations" / f"batch-{i}.jsonl.gz").write_bytes(
            gzip.compress("\n".join(lines).encode())
        )
    return folder


def test_an_export_of_neuronpedia_is_read(shared, tmp_path):
    first = [explanation(2, " references to\ndogs "), explanation(0, "<b>cats</b>"), ""]
    export(tmp_path, [first, [explanation(2, "later"), explanation(5, "x" * 300)]])
    labels = load_labels("neuronpedia", sae=shared, export=tmp_path)
    assert [labels.name(i) for i in range(6)] == ["<b>cats</b>", "", "references to dogs", "", "", "x" * 199 + "…"]
    assert labels.sae_sha256 == shared.digest() and labels[2].score != labels[2].score
    assert labels.metadata == {
        "method": "neuronpedia",
        "model": "gpt2-small",
        "source": "8-res-jb",
        "explainers": {"gpt-4o-mini": 3},
        "named": 3,
        "later_explanations": 1,
        "unreadable_lines": 0,
    }


def test_an_export_on_the_hub_is_read(hub, shared, tmp_path):
    file = export(tmp_path, [[explanation(1, "dogs")]]) / "v1/gpt2-small/8-res-jb/explanations/batch-0.jsonl.gz"
    hub.push("bob/export", {"v1/gpt2-small/8-res-jb/explanations/batch-0.jsonl.gz": file.read_bytes()}, kind="dataset")
    assert load_labels("neuronpedia", sae=shared, export="bob/export").name(1) == "dogs"


def test_one_of_several_sources_is_chosen(shared, tmp_path):
    export(
        export(tmp_path, [[explanation(1, "dogs")]]), [[explanation(1, "mats", layer="9-res-jb")]], "v1/gpt2/9-res-jb"
    )
    with pytest.raises(ValueError, match=r"several SAEs.*`subfolder`: v1/gpt2-small/8-res-jb, v1/gpt2/9-res-jb"):
        load_labels("neuronpedia", sae=shared, export=tmp_path)
    labels = load_labels("neuronpedia", sae=shared, export=tmp_path, subfolder="v1/gpt2-small/8-res-jb")
    assert labels.name(1) == "dogs"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([explanation(6, "beyond")], "feature 6, but `sae` has d_sae=6"),
        ([explanation(1, "a", modelId="gemma-2-2b")], "on gemma-2-2b, but `sae` reads openai-community/gpt2"),
        ([explanation(1, "a", layer="9-res-jb")], "in layer 9, but `sae` reads blocks.8.hook_resid_pre"),
        ([explanation(1, "a"), explanation(2, "b", layer="8-att-kk")], "several SAEs"),
    ],
    ids=["width", "model", "layer", "mixed"],
)
def test_an_export_of_another_sae_is_refused(shared, tmp_path, lines, problem):
    with pytest.raises(ValueError, match=problem):
        load_labels("neuronpedia", sae=shared, export=export(tmp_path, [lines]))


BROKEN = ["no JSON", "[]", "5", "{}", explanation("-1", "a"), explanation("1e3", "a"), explanation(1, None)]
BROKEN += [explanation(1, " \n"), json.dumps({"index": True, "description": "a"}), "[" * 5000]


def test_lines_that_are_no_explanations_are_counted(shared, tmp_path):
    export(tmp_path, [[*BROKEN, explanation(1, "dogs")]])
    with pytest.warns(UserWarning, match=f"{len(BROKEN)} lines of the export are no explanations"):
        labels = load_labels("neuronpedia", sae=shared, export=tmp_path)
    assert labels.named == [1] and labels.metadata["unreadable_lines"] == len(BROKEN)


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"x" * 2**16)[:-20], gzip.compress(b" " * 2**27), gzip.compress(b"\n" * 2**17), b""],
    ids=["no gzip", "cut", "one endless line", "many lines", "empty"],
)
def test_a_damaged_or_endless_file_is_refused(shared, tmp_path, content):
    export(tmp_path, [[]])
    (tmp_path / "v1/gpt2-small/8-res-jb/explanations/batch-0.jsonl.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*batch-0\.jsonl\.gz"):
        load_labels("neuronpedia", sae=shared, export=tmp_path)


def test_an_endless_file_of_short_lines_is_refused(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_sae_select.sae.neuronpedia.LEAST_BYTES", 2**12)
    export(tmp_path, [["{}" * 100] * 1000])
    with pytest.raises(ValueError, match=r"cannot read .*larger than [0-9,]+ bytes"):
        load_labels("neuronpedia", sae=shared, export=tmp_path)


def test_an_export_that_explains_nothing_is_refused(shared, tmp_path):
    with pytest.raises(ValueError, match=r"no line of the export in .* explains a feature \(10 are something else\)"):
        load_labels("neuronpedia", sae=shared, export=export(tmp_path, [BROKEN]))


def test_what_neuronpedia_needs_is_asked_for(shared, tmp_path):
    for arguments in ({}, {"sae": shared}, {"export": tmp_path}):
        with pytest.raises(ValueError, match="needs `sae`"):
            load_labels("neuronpedia", **arguments)
    with pytest.raises(FileNotFoundError, match="no explanations"):
        load_labels("neuronpedia", sae=shared, export=tmp_path)
    with pytest.raises(ValueError, match="`export="):
        load_labels(export=tmp_path)
