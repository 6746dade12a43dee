"""The licence of a subset: that of its source, or the publisher's where the source states none."""

import json
import re

import pytest
from datasets import concatenate_datasets, load_dataset
from helpers.forge import RECORD, card_of, from_hub
from helpers.pools import coded
from hub.metadata import LICENSES
from huggingface_hub.repocard_data import CardData

from hf_sae_select import stage, verify
from hf_sae_select._licences import LICENCE_IDS
from hf_sae_select.publishing.licence import subset_licence

SOURCE, PUBLISHER = {"stated_by": "source"}, {"stated_by": "publisher"}


ROWS = [{0: 0.9}, {1: 0.9}, {2: 0.9}]
OTHER = {"license": "other", "license_name": "My licence", "license_link": "https://example.org/licence"}
REFUSED = ", and so has its subset; omit it"


def terms(passed, *sources):
    """The licence of rows from sources of such cards."""
    return subset_licence([CardData(**source) for source in sources], passed)


@pytest.mark.parametrize("licence", ["mit", ["mit", "apache-2.0"], "cc-by-nc-4.0"])
def test_the_licence_of_the_source_is_carried_over(licence):
    for passed in (None, licence):
        assert terms(passed, {"license": licence}) == {"license": licence} | SOURCE
    assert terms(None, {"license": licence}, {"license": licence}, {}) == {"license": licence} | SOURCE


def test_a_licence_of_a_name_of_its_own_is_carried_over_with_name_and_link():
    licence = {"license": "other", "license_name": "llama-x", "license_link": "https://x.org/LICENSE"}
    assert terms(None, licence | {"language": "en"}) == terms("other", licence) == licence | SOURCE
    with pytest.raises(ValueError, match="`license='mit'`, but the source has the licence other" + REFUSED):
        terms("mit", licence)


NOT_STATED = [{}, {"license": None}, {"license": []}, {"license": ""}, {"license_name": "x"}, {"license": "unknown"}]


@pytest.mark.parametrize("source", [*NOT_STATED, {"license": ["unknown"]}], ids=str)
def test_a_licence_that_the_source_does_not_state_is_asked_for(source):
    with pytest.raises(ValueError, match=r"the source states no licence: pass `license`, such as 'cc-by-4.0'"):
        terms(None, source)
    assert terms("odbl", source) == {"license": "odbl"} | PUBLISHER
    assert terms("unknown", source) == {"license": "unknown"} | PUBLISHER
    assert terms(("mit", "odbl"), source, source) == {"license": ["mit", "odbl"]} | PUBLISHER


STATED = [{"license": id} for id in ("mit", "ncsa", "cc-by-4.0", "openrail", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")]


STATED += [{"license": id} for id in ("CC-BY-NC-2.0", "fair-noncommercial-research-license", ["mit", "cc-by-nc-4.0"])]


STATED += [{"license": "other", "license_name": "x-noncommercial"}, {"license": "cc", "license_name": "cc-by-nc"}]


@pytest.mark.parametrize("source", STATED, ids=str)
def test_a_source_that_states_a_licence_is_never_relabelled(source):
    assert terms(None, source) == source | SOURCE
    for passed in ("cc-by-sa-4.0", ["mit", "apache-2.0"], ["apache-2.0"], "unknown"):
        with pytest.raises(ValueError) as error:
            terms(passed, source, {})
        assert f"`license={passed!r}`, but the source has the licence {source['license']}{REFUSED}" in str(error.value)


NONCOMMERCIAL = [{"license": id} for id in ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-3.0", "h-research")]


NONCOMMERCIAL += [{"license": id} for id in ("fair-noncommercial-research-license", "intel-research", "apple-amlr")]


NONCOMMERCIAL += [{"license": "other", "license_name": name} for name in ("x-noncommercial", "X Non-Commercial v1")]


NONCOMMERCIAL += [{"license": "other", "license_name": name} for name in ("non commercial", "non_commercial")]


NONCOMMERCIAL += [{"license": "other", "license_link": "https://creativecommons.org/licenses/by-nc/4.0/"}]


NONCOMMERCIAL += [{"license": "cc", "license_name": "cc-by-nc"}]


@pytest.mark.parametrize("source", NONCOMMERCIAL, ids=str)
def test_among_several_licences_a_noncommercial_one_is_not_given_away(source):
    cards = [{"license": "mit"}, source, {"license": "apache-2.0"}]
    with pytest.raises(ValueError) as error:
        terms(None, *cards)
    names = f"the rows are from sources of several licences, mit, {source['license']}, apache-2.0: pass the one"
    assert names in str(error.value) and str(error.value).endswith(f"that holds for all rows, {source['license']!r}")
    assert terms(source["license"], *cards) == source | SOURCE
    for passed in ("mit", "apache-2.0", "odbl", ["mit", source["license"]]):
        with pytest.raises(ValueError, match=f"but the rows are from .*, mit, {source['license']}, apache-2.0: pass"):
            terms(passed, *cards)


@pytest.mark.parametrize("id", ["ncsa", "cc-by-4.0", "openrail", "cc-by-nd-4.0", "incl"])
def test_other_licences_are_not_taken_for_noncommercial_ones(id):
    assert terms("mit", {"license": "mit"}, {"license": id}) == {"license": "mit"} | SOURCE
    assert terms(id, {"license": "mit"}, {"license": id}) == {"license": id} | SOURCE


@pytest.mark.parametrize("passed", [3, "", " ", [], [3], {"mit": 1}, ["mit", None], "my own licence", "MIT", "a\n"])
def test_what_is_no_licence_is_refused(passed):
    with pytest.raises(TypeError, match=r"must be the id of a licence, such as 'mit' or 'cc-by-4.0', or a list"):
        terms(passed, {})


def test_another_licence_than_the_source_s_is_refused_and_its_own_is_named(hub, tmp_path, sae):
    subset = from_hub(hub, "license: apache-2.0\n", sae)
    with pytest.raises(ValueError, match="`license='cc-by-4.0'`, but the source has the licence apache-2.0" + REFUSED):
        stage(subset, tmp_path / "f", license="cc-by-4.0")
    text, data = card_of(subset, tmp_path, license="apache-2.0")
    assert data["license"] == "apache-2.0"
    assert "## Licence\n\napache-2.0, as alice/OpenOrca states it.\n\n" in text


def test_rows_of_two_sources_have_the_licence_that_holds_for_both(hub, tmp_path, sae):
    for id, terms_, n in (("alice/one", "mit", 2), ("alice/two", "cc-by-nc-4.0", 3)):
        rows = "".join(json.dumps({"text": f"the cat {i}"}) + "\n" for i in range(n))
        hub.push(id, {"train.jsonl": rows, "README.md": f"---\nlicense: {terms_}\n---\n"}, kind="dataset")
    both = concatenate_datasets([load_dataset(id, split="train") for id in ("alice/one", "alice/two")])
    subset = both.sae_select(2, sae=sae)
    for passed, message in (
        (None, "several licences, mit, cc-by-nc-4.0: pass the one that holds for all rows, 'cc-by-nc-4.0'"),
        ("mit", "pass the one that holds for all rows, 'cc-by-nc-4.0'"),
    ):
        with pytest.raises(ValueError, match=message):
            stage(subset, tmp_path / "f", license=passed)
    text, data = card_of(subset, tmp_path, license="cc-by-nc-4.0")
    assert data["license"] == "cc-by-nc-4.0" and "source_datasets" not in data
    assert "## Licence\n\ncc-by-nc-4.0, as the source states it.\n" in text
    recorded = json.loads((tmp_path / "f" / "provenance.json").read_text())
    assert recorded["license"] == {"license": "cc-by-nc-4.0", "stated_by": "source"}


def test_a_licence_with_a_link_is_linked_as_the_source_states_it(hub, tmp_path, sae):
    licence = {"license": "other", "license_name": "x-noncommercial", "license_link": "https://x.org/LICENSE"}
    subset = from_hub(hub, "".join(f"{name}: {value}\n" for name, value in licence.items()), sae)
    text, data = card_of(subset, tmp_path, license=None)
    assert {name: data[name] for name in licence} == licence
    assert "## Licence\n\n[x-noncommercial](https://x.org/LICENSE), as alice/OpenOrca states it.\n" in text
    with pytest.raises(ValueError, match="`license='mit'`, but the source has the licence other" + REFUSED):
        stage(subset, tmp_path / "g", license="mit")


def test_a_licence_beside_the_source_is_linked_where_it_lies(hub, tmp_path):
    card = "---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n"
    revision = hub.push(
        "alice/rows", {"train.jsonl": '{"text": "the cat"}\n{"text": "a dog"}\n', "README.md": card}, "dataset"
    )
    subset = load_dataset("alice/rows", split="train").sae_select(1)
    link = f"https://huggingface.co/datasets/alice/rows/blob/{revision}/LICENSE"
    assert f"[mine]({link}), as alice/rows states it." in (stage(subset, tmp_path / "f") / "README.md").read_text()


@pytest.mark.parametrize(
    ("passed", "message"),
    [
        ("nonsense-9", "'nonsense-9' must be one of the Hub's ids, such as "),
        ("cc-by-4", "'cc-by-4' must be one of the Hub's ids, such as cc-by-4.0"),
        ("apache2", "such as apache-2.0"),
        (["mit", "gpl3"], "'gpl3' must be one of the Hub's ids, such as gpl"),
        ({"license": "other"}, "must be the Hub's id of a licence, or {'license': 'other', 'license_name': name"),
        ({"license": "other", "license_name": "x", "license_link": ""}, "must be the Hub's id of a licence, or "),
        (
            {"license": "mit", "license_name": "x", "license_link": "https://x.org"},
            "must be the Hub's id of a licence",
        ),
        (OTHER | {"license_link": "javascript:alert(1)"}, "`license_link='javascript:alert(1)'` must be an address"),
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_refused(passed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        terms(passed)


def test_another_licence_has_a_name_and_a_link(tmp_path):
    subset = coded(ROWS, record=RECORD).sae_select(2, seed=None)
    text, data = card_of(subset, tmp_path, license=OTHER)
    assert {name: data[name] for name in OTHER} == OTHER
    assert "[My licence](https://example.org/licence), as the publisher of this subset states it" in text
    assert verify(tmp_path / "f")


def test_the_ids_are_those_of_the_hub():
    assert list(LICENCE_IDS) == LICENSES
