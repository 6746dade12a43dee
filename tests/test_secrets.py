"""No access token is in what leaves the process: errors, their causes and notes, cards and records."""

import traceback

import pytest
from helpers.forge import ALICE, RECORD
from helpers.pools import coded

from hf_sae_select import SparseAutoencoder, load_sae, load_selection, publish, push, stage, verify
from hf_sae_select._secrets import masked, masks_tokens

TOKEN = "hf_" + "aB3dE5gH7jK9" * 3
SECRETS = (TOKEN, "hf_oauth_" + "x1" * 12, "hf_jwt_eyJhbGciOi.eyJzdWIiOi.x", "api_org_" + "aB" * 17)


@pytest.mark.parametrize("token", SECRETS)
def test_tokens_are_masked_wherever_they_stand(token):
    for text in ("{}", "'{}'", "https://huggingface.co/{}/x", "a {}, b", "Bearer {}", "token={}&x", "({})"):
        assert masked(text.format(token)) == text.format("***")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:secret@huggingface.co/x", "https://***@huggingface.co/x"),
        ("https://secret@host, http://a:b@c/d", "https://***@host, http://***@c/d"),
        ("https://huggingface.co/alice/three", "https://huggingface.co/alice/three"),
        ("me@host.org, hf_sae_select, hf_hub_download and org/hf_transformers", None),
    ],
)
def test_what_is_masked_and_what_is_not(text, shown):
    assert masked(text) == (shown or text)


def test_a_token_that_was_passed_is_masked_whatever_its_form():
    secret = "bad-secret"

    @masks_tokens
    def call(*, token=None):
        try:
            raise ValueError(f"cannot use {token}")
        except ValueError as error:
            error.add_note(f"with {token}")
            raise OSError(f"refused: {token}") from error

    with pytest.raises(OSError) as caught:
        call(token=secret)
    assert str(caught.value) == "refused: ***"
    assert secret not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("place", [TOKEN, f"{TOKEN}/x", f"alice/{TOKEN}", f"https://user:{TOKEN}@huggingface.co/a/b"])
def test_a_token_in_the_place_of_a_repo_is_not_in_the_error(hub, tmp_path, place):
    staged = stage(coded([{0: 0.9}], record=RECORD).sae_select(1), tmp_path / "staged", license="mit")
    calls = [
        lambda: verify(place),
        lambda: verify("alice/none", revision=TOKEN),
        lambda: load_selection(place),
        lambda: push(staged, place, token="hf_other"),
        lambda: push(staged, "alice/none", revision=TOKEN, **ALICE),
        lambda: publish(coded([{0: 0.9}], record=RECORD).sae_select(1), place, license="mit", token="hf_other"),
        lambda: stage(coded([{0: 0.9}], record=RECORD).sae_select(1), tmp_path / "f", license="mit", source=place),
        lambda: load_sae(place),
        lambda: load_sae("alice/none", revision=TOKEN),
        lambda: SparseAutoencoder.from_pretrained(place),
        lambda: coded([{0: 0.9}], record=RECORD).sae_encode(place),
        lambda: load_sae().push_to_hub(place, token="hf_other"),
    ]
    for call in calls:
        with pytest.raises((OSError, ValueError, TypeError)) as caught:
            call()
        assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_a_token_in_an_argument_does_not_get_into_the_record(tmp_path):
    subset = coded([{0: 0.9}], record=RECORD).sae_select(1)
    source = {"dataset": "alice/rows", "revision": "a" * 40, "config": TOKEN, "split": "train"}
    with pytest.raises(ValueError, match="the record's `source` would hold what looks like an access token"):
        stage(subset, tmp_path / "f", license="mit", source=source)
    assert not (tmp_path / "f").exists()


def test_a_token_in_a_row_does_not_get_into_the_card(tmp_path):
    pool = coded([{0: 0.9}], record=RECORD).remove_columns("text").add_column("text", [f"my token is {TOKEN}"])
    folder = stage(pool.sae_select(1), tmp_path / "f", license="mit")
    text = (folder / "README.md").read_text()
    assert TOKEN not in text and "my token is" in text and verify(folder)
