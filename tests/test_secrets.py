"""No access token is in what leaves the process: errors, their causes and notes, cards and records."""

import html
import logging
import traceback
from dataclasses import replace

import pytest
from helpers.forge import ALICE, RECORD
from helpers.pools import coded

from hf_sae_select import SparseAutoencoder, load_sae, load_selection, publish, push, stage, verify
from hf_sae_select._secrets import masked, masks_tokens

TOKEN = "hf_" + "aB3dE5gH7jK9" * 3
SECRETS = (TOKEN, "hf_oauth_" + "x1" * 12, "hf_jwt_eyJhbGciOi.eyJzdWIiOi.x", "api_org_" + "aB" * 17)
SECRETS += (
    "hf_oauth_eyJhbGciOiJSUzI1NiJ9.abc_defTAIL",
    "hf_jwt_eyJ0_eXA.ey_J-x.abc_def",
    f"{TOKEN}_x",
    f"hf%5F{TOKEN[3:]}",
)


@pytest.mark.parametrize("token", SECRETS)
def test_tokens_are_masked_wherever_they_stand(token):
    for text in (
        "{}",
        "'{}'",
        "https://huggingface.co/{}/x",
        "a {}, b",
        "Bearer {}",
        "token={}&x",
        "({})",
        "%2F{}",
        "\\n{}",
    ):
        assert masked(text.format(token)) == text.format("***")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:secret@huggingface.co/x", "https://***@huggingface.co/x"),
        ("https://secret@host, http://a:b@c/d", "https://***@host, http://***@c/d"),
        ("https://me@x.com:hf_secret@host/x@y", "https://***@host/x@y"),
        (f"x{TOKEN}", "x***"),
        ("hf_sae_select.publishing.pushing, hf_hub_download_something_longer", None),
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
        lambda: load_sae().push_to_hub("alice/x", commit_message=f"by {TOKEN}", **ALICE),
        lambda: load_sae().push_to_hub("alice/x", subfolder=TOKEN, **ALICE),
        lambda: push(staged, "alice/x", commit_message=f"by {TOKEN}", **ALICE),
        lambda: push(staged, "alice/x", commit_message="by bad-secret", token="bad-secret"),
        *[lambda end=end: load_sae("alice/none", token=TOKEN + end) for end in "\n é"],
        *[lambda end=end: load_sae().push_to_hub("alice/x", token=TOKEN + end) for end in "\n é"],
    ]
    for call in calls:
        with pytest.raises((OSError, ValueError, TypeError)) as caught:
            call()
        assert "alice/x" not in str(hub.requests)
        assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_a_token_in_an_argument_does_not_get_into_the_record(tmp_path):
    subset = coded([{0: 0.9}], record=RECORD).sae_select(1)
    source = {"dataset": "alice/rows", "revision": "a" * 40, "config": TOKEN, "split": "train"}
    with pytest.raises(ValueError, match="the record's `source` would hold what looks like an access token"):
        stage(subset, tmp_path / "f", license="mit", source=source)
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("token", ["", " ", "x y", "x\n"])
def test_what_is_no_token_is_refused_by_name(hub, token):
    for call in (load_sae, load_sae().push_to_hub, verify, load_selection):
        with pytest.raises(ValueError, match="`token` is empty or has spaces or other characters that no token has"):
            call("alice/x", token=token)
    assert hub.requests == []


@pytest.mark.parametrize("token", [5, [TOKEN]])
def test_a_token_of_another_type_is_refused_by_name_and_not_shown(hub, token):
    for call in (load_sae, load_sae().push_to_hub, verify, load_selection):
        with pytest.raises(TypeError, match=r"`token` is of type (int|list); pass the token as text, True, False or"):
            call("alice/x", token=token)
    assert hub.requests == []


def test_a_token_in_the_config_of_an_sae_is_not_pushed(hub):
    sae = load_sae()
    sae.config = replace(sae.config, training={"command": f"train --token {TOKEN}"})
    with pytest.raises(ValueError, match="`config` has what looks like an access token in it"):
        sae.push_to_hub("alice/x", **ALICE)
    assert hub.requests == []


def test_warnings_of_the_hub_show_no_password(caplog):
    logging.getLogger("huggingface_hub.utils._http").warning("Retrying %s", f"https://user:{TOKEN}@host/x")
    assert [record.getMessage() for record in caplog.records] == ["Retrying https://***@host/x"]


@pytest.mark.parametrize("words", ["my token is {}", "{}", "x" * 110 + " {}"])
def test_a_token_in_a_row_does_not_get_into_the_card(tmp_path, words):
    pool = coded([{0: 0.9}], record=RECORD).remove_columns("text").add_column("text", [words.format(TOKEN)])
    folder = stage(pool.sae_select(1), tmp_path / "f", license="mit")
    text = (folder / "README.md").read_text()
    shown = html.unescape(text)
    assert TOKEN not in shown and TOKEN[3:7] not in shown and "***" in shown and verify(folder)
