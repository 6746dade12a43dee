"""Whatever the Hub does at any request, what comes out is true: a result that is right, or an error of ours.

This is the short run: each kind of fault at a few requests, each request with a few kinds. The long one, each kind at
each request, is `tests/soak/hub_faults.py`.
"""

import shutil
from dataclasses import replace

import pytest
from helpers import faults
from helpers.forge import ALICE

from hf_sae_select import load_sae, push

ID = "alice/three"


def filled(folder, change=None):
    """Return a function that fills a Hub with a published subset, in which `change` may alter files."""
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    files |= change or {}
    return lambda hub: hub.push(ID, files, kind="dataset")


def short(n_requests, seed):
    """Yield kinds, numbers of requests and how often they fail: each kind, and each request, at least twice."""
    for i in range(max(len(faults.KINDS), 2 * n_requests)):
        kind = faults.KINDS[(i + seed) % len(faults.KINDS)]
        yield kind, (i * 3 + seed) % n_requests, 1
        yield kind, (i + seed) % n_requests, faults.FOREVER


def failures(tmp_path, name, fill, call, judge, seed=0):
    n_requests = faults.requests_of(tmp_path / "count", fill, call)
    cases = [
        faults.run(tmp_path / str(i), name, fill, call, judge, *case) for i, case in enumerate(short(n_requests, seed))
    ]
    return [case for case in cases if not case.survived]


@pytest.mark.slow
def test_a_subset_that_is_as_recorded_never_differs(staged_once, tmp_path, capsys):
    def judge(hub, code, error):
        return error is None and code in (0, 2)  # 0 where the client tried again

    assert failures(tmp_path, "verify", filled(staged_once), lambda hub: faults.exit_code(ID), judge) == []


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"coverage.png": b"other"}, {"data/more.parquet": b"x"}])
def test_a_subset_that_was_changed_is_never_verified(staged_once, tmp_path, capsys, change):
    def judge(hub, code, error):
        return error is None and code in (1, 2)

    fill = filled(staged_once, change)
    assert failures(tmp_path, "verify", fill, lambda hub: faults.exit_code(ID, "--level", "select"), judge, 7) == []


@pytest.mark.slow
def test_a_push_makes_the_commit_or_says_that_it_did_not(staged_once, tmp_path):
    def judge(hub, commit, error):
        made = hub.files(ID, "dataset") if ("dataset", ID) in hub.repos else {}
        is_whole = {"provenance.json", "README.md", "pool.parquet", "selection.parquet", "coverage.png"} <= made.keys()
        if error is None:
            return is_whole and commit.oid == hub.commits(ID, "dataset")[0].oid
        if "cannot be told" in str(error):
            return faults.is_ours(error)
        return faults.is_ours(error) and made.keys() <= {"notes.md"}

    def call(hub):
        return push(shutil.copytree(staged_once, hub.folder), ID, **ALICE)

    def fill(hub):
        hub.folder = tmp_path / f"staged-{id(hub)}"
        shutil.rmtree(hub.folder, ignore_errors=True)
        hub.push(ID, {"notes.md": "mine"}, kind="dataset")

    assert failures(tmp_path, "push", fill, call, judge) == []


@pytest.mark.slow
def test_an_sae_is_loaded_right_or_not_at_all(sae, tmp_path):
    sae.config = replace(sae.config, model="alice/model")  # a repo on the Hub cannot name a folder
    sae.save_pretrained(tmp_path / "sae")
    files = {file.name: file.read_bytes() for file in (tmp_path / "sae").iterdir()}
    digest = sae.digest()

    def judge(hub, loaded, error):
        return faults.is_ours(error) if error is not None else loaded.digest() == digest

    assert (
        failures(tmp_path, "load", lambda hub: hub.push("alice/sae", files), lambda hub: load_sae("alice/sae"), judge)
        == []
    )
