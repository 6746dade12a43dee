"""The notes of a release are the section of its version in the change log."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHANGELOG = """# Changelog

## 0.3.0 (unreleased)

- not yet

## 0.2.0 (2027-02-28)

Targets:

- one
- two

## 0.1.1 (2027-02-01)

## 0.1.0 (2027-01-31)

- the first
"""


@pytest.fixture
def notes(tmp_path):
    """Run the script beside a change log, as `make notes` does."""
    (tmp_path / "tools").mkdir()
    script = tmp_path / "tools" / "release_notes.py"
    script.write_text((ROOT / "tools" / "release_notes.py").read_text())
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)

    def notes(version):
        return subprocess.run([sys.executable, str(script), version], capture_output=True, text=True)

    return notes


@pytest.mark.parametrize(
    ("version", "text"),
    [("0.2.0", "Targets:\n\n- one\n- two\n"), ("v0.1.0", "- the first\n"), ("0.1.0", "- the first\n")],
)
def test_the_section_of_a_version_is_printed(version, text, notes):
    done = notes(version)
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("0.3.0", "write the date of the release"),
        ("0.1", "no section '## 0.1 (date)'; it has 0.3.0, 0.2.0, 0.1.1, 0.1.0"),
        ("0.1.1", "the section 0.1.1 of CHANGELOG.md is empty"),
    ],
)
def test_a_section_that_is_no_release_is_refused(version, problem, notes):
    done = notes(version)
    assert done.returncode == 1 and done.stdout == "" and problem in done.stderr


def test_the_change_log_of_this_version_has_the_form():
    from hf_sae_select import __version__

    assert (ROOT / "CHANGELOG.md").read_text().count(f"\n## {__version__} (") == 1
