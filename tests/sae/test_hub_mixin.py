"""SAEs pushed to a Hub on localhost and pulled back, by the real client."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelHubMixin

from hf_sae_select import SparseAutoencoder, load_sae
from hf_sae_select._commits import check_card
from hf_sae_select._hub import Repo
from hf_sae_select.sae.card import sae_card

ALICE = {"token": "hf_alice"}
FILES = ["README.md", "cfg.json", "config.json", "sae_weights.safetensors"]


@pytest.fixture
def shared(sae):
    """The SAE of conftest on a model that others can have too."""
    facts = {"objective": "batchtopk", "k": 8, "tokens": 4096, "batch": 512, "lr": 0.001, "seed": 0}
    facts |= {"l0": 7.9, "explained_variance": 0.9, "datasets": ["tatsu-lab/alpaca"], "dead": 0.25}
    sae.config = replace(sae.config, model="org/model", model_revision="a" * 40, training=facts)
    return sae


def test_pushed_and_pulled_it_is_the_same(hub, shared):
    assert isinstance(shared, ModelHubMixin)
    commit = shared.push_to_hub("alice/sae", **ALICE)
    again = SparseAutoencoder.from_pretrained("alice/sae")
    assert replace(again.config, source={}) == shared.config
    assert again.config.source == {
        "repo": "alice/sae",
        "revision": commit.oid,
        "path": "sae_weights.safetensors",
        "format": "native",
        "sha256": hashlib.sha256(hub.files("alice/sae")["sae_weights.safetensors"]).hexdigest(),
    }
    for name, parameter in shared.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter)


def test_a_push_is_one_commit_with_the_files_that_it_should_have(hub, shared):
    shared.push_to_hub("alice/sae", commit_message="Our SAE", **ALICE)
    assert sorted(hub.files("alice/sae")) == FILES
    commits = hub.commits("alice/sae")
    assert [commit.title for commit in commits] == ["Our SAE", "initial commit"]


def test_load_sae_reads_a_pushed_sae(hub, shared):
    shared.push_to_hub("alice/sae", subfolder="layer 1/big", **ALICE)
    again = load_sae("alice/sae")
    assert again.config.source["format"] == "native" and again.digest() == shared.digest()


def test_several_saes_in_one_repo(hub, shared):
    shared.push_to_hub("alice/saes", subfolder="one", **ALICE)
    with torch.no_grad():
        shared.b_enc.add_(1)
    shared.push_to_hub("alice/saes", subfolder="two", **ALICE)
    assert SparseAutoencoder.from_pretrained("alice/saes", subfolder="two").digest() == shared.digest()
    assert SparseAutoencoder.from_pretrained("alice/saes", subfolder="one").digest() != shared.digest()
    readme = hub.files("alice/saes")["README.md"].decode()
    assert readme.count("# A sparse autoencoder on org/model: `one`") == 1
    assert readme.count("# A sparse autoencoder on org/model: `two`") == 1


def test_private_revision_and_pull_request(hub, shared):
    shared.push_to_hub("alice/sae", private=True, **ALICE)
    assert hub.repos["model", "alice/sae"].private
    HfApi(**ALICE).create_branch("alice/sae", branch="next")
    shared.b_enc.add_(1)
    shared.push_to_hub("alice/sae", revision="next", **ALICE)
    main, following = (SparseAutoencoder.from_pretrained("alice/sae", revision=r, **ALICE) for r in ("main", "next"))
    assert main.digest() != following.digest() == shared.digest()
    pull = shared.push_to_hub("alice/sae", create_pr=True, **ALICE)
    assert pull.pr_num == 1 and len(hub.commits("alice/sae")) == 2
    with pytest.raises(FileNotFoundError, match=r"'alice/sae' is neither a local folder nor a Hub repo"):
        SparseAutoencoder.from_pretrained("alice/sae", token=False)


def test_a_pinned_revision_stays(hub, shared):
    first = shared.push_to_hub("alice/sae", **ALICE).oid
    digest = shared.digest()
    shared.b_enc.add_(1)
    shared.push_to_hub("alice/sae", **ALICE)
    assert SparseAutoencoder.from_pretrained("alice/sae", revision=first).digest() == digest


def metadata(text):
    return yaml.safe_load(text.split("---")[1])


def test_the_card_says_what_a_person_would_want(hub, shared):
    shared.push_to_hub("alice/sae", license="mit", **ALICE)
    text = hub.files("alice/sae")["README.md"].decode()
    assert metadata(text) == {
        "license": "mit",
        "library_name": "hf-sae-select",
        "base_model": "org/model",
        "datasets": ["tatsu-lab/alpaca"],
        "tags": ["sparse-autoencoder", "hf-sae-select", "saelens", "model_hub_mixin"],
    }
    for fact in (
        "[org/model](https://huggingface.co/org/model) at `aaaa",
        "output of `encoder.layer.1`",
        "16 → 32",
        "jumprelu (batchtopk, k = 8)",
        "| L0 on held-out text | 7.9 |",
        "| explained variance on held-out text | 0.900 |",
        "| dead latents on held-out text | 25.00 % |",
        "4,096 tokens, batches of 512 tokens, Adam at 0.001, seed 0",
        'load_sae("alice/sae")',
        'SAE.from_pretrained("alice/sae", ".")',
        "## Limits",
        "arXiv:2502.14050",
    ):
        assert fact in text
    assert "None" not in text and "\n\n\n" not in text
    check_card(text, "model")  # by the Hub's own rules, as far as the local one has them


def test_the_text_of_a_readme_is_kept(hub, shared):
    mine = "---\nlicense: apache-2.0\ntags:\n- mine\n---\n# My work\n\nRead this.\n"
    hub.push("alice/sae", {"README.md": mine.encode()})
    with pytest.warns(
        UserWarning, match="`license='mit'`, but the README of alice/sae says 'apache-2.0', which stays"
    ):
        shared.push_to_hub("alice/sae", license="mit", **ALICE)
    text = hub.files("alice/sae")["README.md"].decode()
    assert text.index("# My work\n\nRead this.") < text.index("# A sparse autoencoder on org/model")
    assert metadata(text)["license"] == "apache-2.0"  # the README takes precedence
    assert metadata(text)["tags"] == ["mine", "sparse-autoencoder", "hf-sae-select", "saelens", "model_hub_mixin"]
    hub.push("alice/sae", {"README.md": (text + "\nAnd this.\n").encode()})
    shared.config = replace(shared.config, training=shared.config.training | {"l0": 8.25})
    shared.push_to_hub("alice/sae", **ALICE)
    again = hub.files("alice/sae")["README.md"].decode()
    assert again == (text + "\nAnd this.\n").replace("| 7.9 |", "| 8.2 |")  # only our section changes


def test_a_section_that_does_not_end_is_not_renewed(hub, shared):
    shared.push_to_hub("alice/sae", **ALICE)
    text = hub.files("alice/sae")["README.md"].decode()
    cut = text.replace("<!-- end of hf-sae-select: . -->", "# Mine")
    hub.push("alice/sae", {"README.md": cut.encode()})
    with pytest.raises(
        ValueError, match=r"lacks the comment that ends our section; restore it: <!-- end of hf-sae-select: . -->"
    ):
        shared.push_to_hub("alice/sae", **ALICE)
    assert hub.files("alice/sae")["README.md"].decode() == cut


def test_one_subfolder_has_one_section_however_it_is_written(hub, shared):
    for subfolder in ("a/b", "a/b/", "/a//b", "./a/b"):
        shared.push_to_hub("alice/sae", subfolder=subfolder, **ALICE)
    text = hub.files("alice/sae")["README.md"].decode()
    assert text.count("# A sparse autoencoder") == 1 and 'subfolder="a/b"' in text
    assert sorted(hub.files("alice/sae")) == sorted(["README.md", *(f"a/b/{name}" for name in FILES[1:])])


@pytest.mark.parametrize("subfolder", ['a"b', "a-->b", "a\nb"])
def test_a_subfolder_that_would_break_the_card_is_refused(hub, shared, subfolder):
    with pytest.raises(ValueError, match=r"`subfolder=.*` contains characters that would break the card"):
        shared.push_to_hub("alice/sae", subfolder=subfolder, **ALICE)
    assert not hub.requests


def test_text_that_yaml_would_convert_stays_text(hub, shared):
    facts = {"language": "no", "datasets": "org/data", "tokens": "4B", "batch": 10, "l0": "70"}
    shared.config = replace(shared.config, training=facts)
    for _ in range(2):
        shared.push_to_hub("alice/sae", license="mit", **ALICE)
    text = hub.files("alice/sae")["README.md"].decode()
    assert (metadata(text)["license"], metadata(text)["language"]) == ("mit", "no")
    assert metadata(text)["datasets"] == ["org/data"] and "None" not in text
    assert metadata(sae_card(shared.config, license="no"))["license"] == "no"


def test_a_readme_without_metadata_gets_metadata(hub, shared):
    hub.push("alice/sae", {"README.md": b"# Bare\n"})
    shared.push_to_hub("alice/sae", **ALICE)
    text = hub.files("alice/sae")["README.md"].decode()
    assert metadata(text)["base_model"] == "org/model" and "# Bare" in text


def test_a_readme_with_broken_metadata_is_not_touched(hub, shared):
    hub.push("alice/sae", {"README.md": b"---\nlicense: [\n---\n"})
    with pytest.raises(ValueError, match=r"metadata at the top of the repo's README.md"):
        shared.push_to_hub("alice/sae", **ALICE)
    assert sorted(hub.files("alice/sae")) == ["README.md"]


def test_an_sae_of_a_local_model_is_not_pushed(hub, sae):
    with pytest.raises(ValueError, match=r"`config.model=.*` is a local path"):
        sae.push_to_hub("alice/sae", **ALICE)
    assert not hub.requests


def test_a_subfolder_that_leads_out_is_refused_before_a_repo_is_made(hub, shared):
    with pytest.raises(ValueError, match="points outside the repo"):
        shared.push_to_hub("alice/sae", subfolder="../elsewhere", **ALICE)
    assert not hub.requests


@pytest.mark.parametrize(
    ("kind", "needed"), [("dataset", "stage it first, or pass the folder"), ("model", "pass the folder")]
)
def test_a_file_is_no_repo(kind, needed, tmp_path):
    file = tmp_path / "subset.parquet"
    file.touch()
    with pytest.raises(NotADirectoryError, match=f"subset.parquet is a file; {needed}, or the id of a Hub repo"):
        Repo.at(file, kind=kind)


def test_a_file_of_the_name_of_a_repo_does_not_hide_it(hub, shared, tmp_path, monkeypatch):
    shared.push_to_hub("alice/sae", **ALICE)
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice" / "sae").touch()
    monkeypatch.chdir(tmp_path)
    repo = Repo.at("alice/sae", **ALICE)
    assert repo.folder is None and repo.revision


def test_a_token_is_not_shown(hub, shared):
    shared.push_to_hub("alice/sae", private=True, **ALICE)
    assert "hf_alice" not in repr(Repo.at("alice/sae", token="hf_alice"))


def test_no_token_and_no_path_of_this_machine_is_in_what_is_pushed(hub, shared, tmp_path):
    shared.push_to_hub("alice/sae", **ALICE)
    again = load_sae("alice/sae", **ALICE)
    again.push_to_hub("alice/copy", **ALICE)
    for content in hub.files("alice/copy").values():
        assert b"hf_alice" not in content and str(tmp_path).encode() not in content
    assert json.loads(hub.files("alice/copy")["config.json"])["source"]["repo"] == "alice/sae"


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, PermissionError, "the Hub does not accept the token"),
        (403, PermissionError, "the token lacks permission"),
        (409, OSError, "another commit"),
        (412, OSError, "the repo has a newer commit"),
        (429, OSError, "too many requests"),
        (500, OSError, "the Hub has a problem"),
        (503, OSError, "the Hub has a problem"),
    ],
)
def test_a_refused_commit_leaves_the_repo_as_it_was(hub, shared, status, error, message):
    shared.push_to_hub("alice/sae", **ALICE)
    before = hub.commits("alice/sae")[0].oid
    shared.b_enc.add_(1)  # something to commit
    hub.fail("POST", "/commit/", status, times=100)
    with pytest.raises(error, match=message):
        shared.push_to_hub("alice/sae", subfolder="two", **ALICE)
    assert hub.commits("alice/sae")[0].oid == before


def test_the_same_sae_again_makes_no_commit(hub, shared):
    first = shared.push_to_hub("alice/sae", **ALICE)
    assert shared.push_to_hub("alice/sae", **ALICE).oid == first.oid == hub.commits("alice/sae")[0].oid


def test_a_commit_in_between_is_not_overwritten(hub, shared, monkeypatch):
    shared.push_to_hub("alice/sae", **ALICE)
    original = HfApi.create_commit

    def late(api, *arguments, **options):
        hub.push("alice/sae", {"other.txt": b"other"})
        return original(api, *arguments, **options)

    monkeypatch.setattr(HfApi, "create_commit", late)
    shared.b_enc.add_(1)  # something to commit
    with pytest.raises(OSError, match=r"the repo has a newer commit"):
        shared.push_to_hub("alice/sae", subfolder="two", **ALICE)
    assert "other.txt" in hub.files("alice/sae")


def test_another_s_repo_and_a_bad_token(hub, shared):
    with pytest.raises(PermissionError, match="403"):
        shared.push_to_hub("bob/sae", **ALICE)
    with pytest.raises(PermissionError, match="401"):
        shared.push_to_hub("alice/sae", token="bad")


def test_saving_can_push_too(hub, shared, tmp_path):
    shared.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="alice/mine", **ALICE)
    assert sorted(hub.files("alice/mine")) == FILES


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("repo_id", 5, TypeError),
        ("subfolder", 5, TypeError),
        ("private", "yes", TypeError),
        ("revision", 5, TypeError),
        ("revision", "", ValueError),
        ("create_pr", "yes", ValueError),
        ("commit_message", 5, TypeError),
        ("license", 5, TypeError),
        ("license", "Apache License 2.0", ValueError),
        ("license", "", ValueError),
        ("license", "nonsense-9", ValueError),
    ],
)
def test_wrong_arguments_of_a_push_are_refused_by_name_before_a_repo_is_made(hub, shared, name, value, error):
    with pytest.raises(error, match=f"`{name}="):
        shared.push_to_hub(**{"repo_id": "alice/sae", **ALICE} | {name: value})
    assert not hub.requests


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("save_directory", 5, TypeError),
        ("repo_id", 5, TypeError),
        ("push_to_hub", "yes", ValueError),
        ("license", 5, TypeError),
    ],
)
def test_wrong_arguments_of_saving_are_refused_by_name(shared, tmp_path, name, value, error):
    with pytest.raises(error, match=f"`{name}="):
        shared.save_pretrained(**{"save_directory": tmp_path / "x"} | {name: value})
    assert not (tmp_path / "x").exists()


def test_the_card_states_the_license_in_metadata_and_text(shared):
    card = sae_card(shared.config, license="mit")
    assert metadata(card)["license"] == "mit" and "| license | mit |" in card
    assert "states no license" in sae_card(shared.config) and "| license |" not in sae_card(shared.config)


def test_the_card_shows_only_plain_facts_of_the_training_data(shared):
    facts = {"datasets": ["alice/rows", "<b>x</b>"], "columns": ["text", "a|b"], "documents": 1000, "epochs": 2.34}
    shared.config = replace(shared.config, training=shared.config.training | facts | {"context_size": 128})
    card = sae_card(shared.config)
    for item in (
        "- [alice/rows](https://huggingface.co/datasets/alice/rows)\n",
        "- the text of the columns `text`\n",
        "- 1,000 rows, read 2.3 times\n",
        "- windows of 128 tokens\n",
    ):
        assert item in card
    assert "a|b" not in card and "<b>" not in card.split("---")[2]
    bare = replace(shared.config, training={"training_tokens": 10, "train_batch_size_tokens": 5})
    assert "Its config does not name the training data." in sae_card(bare)
