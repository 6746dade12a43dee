"""`--target` and `--overlap`: places of one target or of several, what is printed, and run files."""

import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

from hf_sae_select import Selection
from hf_sae_select.cli.values import TARGET, split_target, value_of

TEXTS = ["a cat sat", "the cat and the dog", "a dog sat", "the small dog", "a big cat", "one dog", "my cat", "a mat"]


@pytest.fixture
def places(rows):
    """Rows of targets beside `pool.jsonl`."""
    for name, texts in (("cats", TEXTS), ("moons", [f"the moon {i}" for i in range(8)])):
        (rows / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    Dataset.from_dict({"text": TEXTS}).save_to_disk("cats")
    return rows


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("cats.jsonl", ("", "cats.jsonl", "")),
        ("owner/name:train", ("", "owner/name:train", "")),
        ("maths=cats.jsonl", ("maths", "cats.jsonl", "")),
        ("maths=owner/name:test@0.7", ("maths", "owner/name:test", "0.7")),
        ("maths=a=b.jsonl@.5", ("maths", "a=b.jsonl", ".5")),
        ("cats.jsonl@0.7", ("", "cats.jsonl@0.7", "")),
        ("maths=name@user", ("maths", "name@user", "")),
    ],
)
def test_a_word_has_a_name_a_place_and_a_share(word, parts):
    assert split_target(word) == parts and str(split_target(word)) == word


def test_a_path_that_exists_is_a_place_whatever_it_is_called(rows):
    for name in ("a=b.jsonl", "c@0.5"):
        (rows / name).write_text("{}\n")
    assert split_target("a=b.jsonl") == ("", "a=b.jsonl", "")
    assert split_target("x=c@0.5") == ("x", "c@0.5", "")


def test_places_become_rows(places):
    assert value_of("target", TARGET, ["cats"])["text"][:] == TEXTS
    several = value_of("target", TARGET, ["maths=cats.jsonl@0.75", "code=moons.jsonl@.25"])
    assert [(name, len(rows), share) for name, (rows, share) in several.items()] == [
        ("maths", 8, 0.75),
        ("code", 8, 0.25),
    ]
    assert list(value_of("target", TARGET, ["maths=cats.jsonl", "code=moons.jsonl"])) == ["maths", "code"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cats.jsonl", "moons.jsonl"], "`target='cats.jsonl'` has no name; of several targets each has one"),
        (["a=cats.jsonl", "a=moons.jsonl"], "`target` has the name 'a' twice"),
        (["a=no-such.jsonl"], r"`target\['a'\]='no-such.jsonl'`: there is no such file"),
        (["no-such.jsonl"], "`target='no-such.jsonl'`: there is no such file"),
    ],
)
def test_words_that_are_no_targets_are_named(words, message, places):
    with pytest.raises((ValueError, OSError), match=message):
        value_of("target", TARGET, words)


def test_a_selection_says_how_near_its_target_it_is(places, saved_sae, call):
    done = call("select", "pool.jsonl", 3, "--sae", "sae", "--target", "cats.jsonl", "--out", "subset.jsonl")
    assert done.code == 0, done.err
    selection = Selection.load("subset.selection.json")
    assert selection.method == "herding" and selection.target["parts"][0]["rows"] == 8
    assert "towards the target by herding(width=0.3, redundancy=0.5):" in done.out
    assert f"  8 rows, 100% of the budget, {selection.target['parts'][0]['sha256'][:12]}" in done.out
    assert "distance of this subset: " in done.out and "of the target" in done.out
    as_json = json.loads(call("select", "pool.jsonl", 3, "--sae", "sae", "--target", "cats.jsonl", "--json").out)
    assert as_json["target"] == selection.target


def test_a_run_towards_several_targets_is_repeated_from_elsewhere(places, saved_sae, call, tmp_path, monkeypatch):
    words = ["--target", "a=cats.jsonl@0.75", "--target", "b=moons.jsonl@0.25", "--overlap", "only_report"]
    done = call("select", "pool.jsonl", 4, "--sae", "sae", *words, "--out", "subset.jsonl")
    assert done.code == 0, done.err
    run = yaml.safe_load(Path("subset.yaml").read_text())
    assert run["target"] == ["a=cats.jsonl@0.75", "b=moons.jsonl@0.25"] and run["overlap"] == "only_report"
    first = Path("subset.jsonl").read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    done = call("select", "--config", places / "subset.yaml", "--overwrite")
    assert done.code == 0, done.err
    assert (places / "subset.jsonl").read_bytes() == first
    monkeypatch.chdir(places)
    compared = call("compare", "--config", "subset.yaml", "--json")
    lines = json.loads(compared.out)["methods"]
    assert all(0 <= line["distance"] <= 1 for line in lines)


def test_a_target_is_not_replaced_by_the_result(places, saved_sae, call):
    done = call("select", "pool.jsonl", 3, "--sae", "sae", "--target", "a=cats.jsonl", "--out", "cats.jsonl")
    assert done.code == 2 and "'cats.jsonl' is read by this call, and would be replaced" in done.err


def test_a_comparison_has_the_distance_to_a_target(places, saved_sae, call):
    done = call("compare", "pool.jsonl", 3, "--sae", "sae", "--target", "cats", "--overlap", "keep")
    assert done.code == 0, done.err
    header, *lines = [line for line in done.out.splitlines() if line.strip()]
    assert "distance" in header.split()
    assert [line.split()[0] for line in lines[:4]] == ["herding", "match", "longest", "random"]


@pytest.mark.filterwarnings("always:what subset.jsonl was selected towards")
def test_a_subset_in_a_file_finds_its_target_again(places, saved_sae, call):
    call("select", "pool.jsonl", 3, "--sae", "sae", "--target", "a=cats.jsonl", "--out", "subset.jsonl")
    done = call("explain", "subset.jsonl", "--picks", "0")
    assert done.code == 0 and "near the target" in done.out, done.err
    (places / "cats.jsonl").write_text('{"text": "the cat and the dog"}\n')
    done = call("explain", "subset.jsonl", "--picks", "0")
    assert "what subset.jsonl was selected towards is gone: `target['a']` is not what the rows" in done.err
    assert "which is not at hand" in done.out


def test_a_target_that_verify_cannot_read_is_no_difference(places, saved_sae, call):
    call("select", "pool.jsonl", 3, "--sae", "sae", "--target", "cats.jsonl", "--out", "subset.jsonl")
    done = call("stage", "subset.jsonl", "staged", "--license", "mit")
    assert done.code == 0 and "warning" not in done.err, done.err
    (places / "blank.jsonl").write_text('{"text": " "}\n')
    done = call("verify", "staged", "--level", "select", "--target", "blank.jsonl", "--sae", "sae")
    assert done.code == 2 and "`target`: all of its 1 rows are blank" in done.err
    done = call("verify", "staged", "--level", "select", "--target", "moons.jsonl", "--sae", "sae")
    assert done.code == 2 and "`target` is not encoded, and the record names no language model" in done.err
    done = call("verify", "staged", "--target", "cats.jsonl")
    assert done.code == 2 and "`target` is compared at the levels 'select' and 'encode'" in done.err


@pytest.mark.filterwarnings("always:what ")
def test_a_subset_is_staged_without_its_target_with_a_warning(places, saved_sae, call):
    call("select", "pool.jsonl", 3, "--sae", "sae", "--target", "cats.jsonl", "--out", "subset.jsonl")
    (places / "cats.jsonl").unlink()
    done = call("stage", "subset.jsonl", "staged", "--license", "mit")
    assert done.code == 0, done.err
    assert done.err.count("will not have what repeats the selection: pass `target=`") == 1
