"""The workflows call the targets of make that `.ci/run` calls, with pinned actions and few permissions."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(file for file in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if file.stem != "config")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*")
MAY_WRITE = {("release.yml", "publish"): {"id-token"}, ("release.yml", "announce"): {"contents"}}
MAY_WRITE |= {("site.yml", "deploy"): {"pages", "id-token"}}


def read(file):
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def commands_of(workflow):
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def made(text):
    """Return the targets that a script or a Makefile calls make for."""
    calls = re.findall(r"^\s*(?:\$\(MAKE\)|make)((?: .+)?)$", text, re.MULTILINE)
    words = [re.sub(r"-C \S+", "", call.partition(">")[0]).split() for call in calls]
    return {word for line in words for word in line if "=" not in word and not word.startswith("-")}


TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_calls_targets_that_exist(file):
    targets = set().union(*map(made, commands_of(read(file))))
    assert targets and targets <= TARGETS


def test_what_ci_runs_is_checked_in_public():
    assert made((ROOT / ".ci" / "run").read_text()) >= {"wheel", "check", "docs", "test"}
    checks = set().union(*map(made, commands_of(read(ROOT / ".github/workflows/checks.yml"))))
    assert checks == made((ROOT / ".ci" / "run").read_text()) | {"extras", "minima", "space"}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_by_commit(file):
    lines = [line.strip().removeprefix("- ") for line in file.read_text().splitlines() if "uses:" in line]
    assert lines and [line for line in lines if not PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_job_may_write_only_what_it_has_to(file):
    workflow = read(file)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for name, job in workflow["jobs"].items():
        permissions = job.get("permissions", {})
        written = {scope for scope, access in permissions.items() if access != "read"}
        assert written == MAY_WRITE.get((file.name, name), set())
        assert job["timeout-minutes"] <= 90


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_text_from_outside_becomes_part_of_a_script(file):
    assert [command for command in commands_of(read(file)) if "${{" in command] == []
    checkouts = [
        step
        for job in read(file)["jobs"].values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_python_of_the_classifiers_is_tested():
    matrix = read(ROOT / ".github/workflows/checks.yml")["jobs"]["tests"]["strategy"]["matrix"]
    versions = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert versions <= set(matrix["python"]) and matrix["may-fail"] == [False]


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.name)
def test_a_form_has_what_github_asks_for(file):
    form = read(file)
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(field["type"] in ("textarea", "input") and field["attributes"]["label"] for field in form["body"])


def test_reports_of_faults_ask_for_the_versions():
    asking = {file.stem for file in FORMS if "`hf-sae-select env`" in file.read_text()}
    assert asking == {"bug", "format"}


# The tests themselves


def test_targets_are_found_in_scripts():
    assert made('make -C "$clone" check docs test\necho make it\nmake --silent notes VERSION="$X" > notes.md') == {
        "check",
        "docs",
        "test",
        "notes",
    }
