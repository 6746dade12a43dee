"""Print the section of a version in CHANGELOG.md: the notes of its release.

    python tools/release_notes.py 0.1.0

The heading of a section is `## 0.1.0 (2027-01-31)`. A version that is not there, or that is marked as unreleased, is
an error.
"""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
SECTION = re.compile(r"^## (?P<version>\S+) \((?P<date>[^)]*)\)\n(?P<notes>.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)


def notes_of(version: str, changelog: str) -> str:
    """Return the section of a version, without its heading.

    Raises:
        ValueError: If there is none, if it has no date, or if it is empty.
    """
    sections = {section["version"]: section for section in SECTION.finditer(changelog)}
    if version not in sections:
        raise ValueError(f"CHANGELOG.md has no section '## {version} (date)'; it has {', '.join(sections) or 'none'}")
    section = sections[version]
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", section["date"]):
        raise ValueError(f"CHANGELOG.md says '## {version} ({section['date']})'; write the date of the release")
    if not (notes := section["notes"].strip()):
        raise ValueError(f"the section {version} of CHANGELOG.md is empty")
    return notes + "\n"


if __name__ == "__main__":
    try:
        sys.stdout.write(notes_of(sys.argv[1].removeprefix("v"), CHANGELOG.read_text(encoding="utf-8")))
    except ValueError as error:
        raise SystemExit(str(error)) from None
