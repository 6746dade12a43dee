"""Verdict: the checks of a verification, and what they say together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

LEVELS = ("digests", "select", "encode")
CONCLUSIONS = {
    "digests": "files and rows are those of the record; whether the method picks them, the level `select` shows",
    "select": "the method picks these rows by their features; whether the source has these features, `encode` shows",
    "encode": "the source was encoded again, and the method picks these rows",
}


@dataclass(frozen=True)
class Check:
    """Hold the result of one check of a verification."""

    level: str
    """The level that the check belongs to."""
    name: str
    """What was compared, such as "rows"."""
    difference: str | None
    """The first difference from the record, shortened if it quotes much; None if nothing differs."""

    def __post_init__(self) -> None:
        if self.difference is not None and len(self.difference) > 600:
            object.__setattr__(self, "difference", f"{self.difference[:400]} … {self.difference[-200:]}")


@dataclass(frozen=True)
class Verification:
    """Hold the result of `verify`: it is true if nothing differs, and prints what was verified and a line per check.

    Example:

    ```python
    verification = verify("me/alpaca-3k", "select")
    print(verification)
    assert verification, verification.difference
    ```
    """

    level: str
    """The level that was verified."""
    checks: list[Check]
    """The checks, in the order they were made."""
    repo: str = ""
    """The repo's id, or the folder."""
    revision: str | None = None
    """The commit; None for a folder."""
    date: datetime | None = None
    """When the commit was made; None where the Hub was not asked."""
    source: dict[str, Any] | None = None
    """The record's `source`: dataset, config, split, revision and rows; None if the record cannot be read."""
    rows: int | None = None
    """The number of picked rows; None if the record cannot be read."""
    splits: dict[str, Verification] = field(default_factory=dict)
    """Of a published DatasetDict the result of each split; `checks` has what all splits share."""

    @property
    def difference(self) -> str | None:
        """The first difference with the name of its check; None if nothing differs."""
        own = (f"{check.name}: {check.difference}" for check in self.checks if check.difference)
        of_splits = (f"split {name}: {one.difference}" for name, one in self.splits.items() if not one)
        return next(chain(own, of_splits), None)

    def __bool__(self) -> bool:
        return self.difference is None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, as `hf-sae-select verify --json` prints it.

        Returns:
            `dict`: "verified", "level", "repo", "revision", "date", "source", "rows" and "checks"; of a DatasetDict
            "splits" too, the same of each split.
        """
        splits = {"splits": {name: one.to_dict() for name, one in self.splits.items()}} if self.splits else {}
        return {
            "verified": bool(self),
            "level": self.level,
            "repo": self.repo,
            "revision": self.revision,
            "date": self.date.isoformat() if self.date else None,
            "source": self.source,
            "rows": self.rows,
            "checks": [asdict(check) for check in self.checks],
        } | splits

    def __str__(self) -> str:
        lines = [_heading("subset", self.repo, self.revision, self.date), *self._lines()]
        for name, one in self.splits.items():
            lines += [f"split   {name}", *(f"  {line}" for line in one._lines())]
        lines.append(f"{'verified' if self else 'not verified'} to the level `{self.level}`: {self._conclusion()}")
        return "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)

    def _lines(self) -> list[str]:
        """Return a line for the source, the rows and each check."""
        lines = []
        if self.source is not None:
            lines.append(_heading("source", self.source["dataset"] or "not published", self.source["revision"]))
        if self.rows is not None:
            total = f" of {self.source['rows']:,}" if self.source and self.source["rows"] else ""
            lines.append(f"rows    {self.rows:,}{total}")
        return lines + [
            f"DIFFERS  {check.level}: {check.name}: {check.difference}"
            if check.difference
            else f"ok  {check.level}: {check.name}"
            for check in self.checks
        ]

    def _conclusion(self) -> str:
        if not self:
            return "what is marked DIFFERS is not what the record says; do not rely on this subset"
        return CONCLUSIONS[self.level]


def _heading(name: str, place: str, revision: str | None, date: datetime | None = None) -> str:
    commit = f" at {revision}" if revision else ""
    return f"{name}  {place}{commit}{f' of {date:%Y-%m-%d}' if date else ''}"
