"""Which files of a repo are SAEs, as far as file names tell, and which SAE the caller means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from .formats import UNSUPPORTED
from .formats.format import Format
from .formats.other import OTHER

LISTED = 20  # names listed in an error


@dataclass(frozen=True)
class Candidate:
    """A weights file that may be an SAE, and the formats that have such a file."""

    path: str
    name: str
    """Name of the SAE, empty at the root of the repo."""
    formats: Sequence[tuple[Format, list[str]]]
    """Each format with the paths of its config files."""

    @property
    def is_bare(self) -> bool:
        """Whether no format has a config file or a distinctive name for this file."""
        return all(format.bare for format, _ in self.formats)


def find_candidates(files: Sequence[str], formats: Sequence[Format], repo: str) -> list[Candidate]:
    """Return the SAEs among the files of a repo.

    Raises:
        FileNotFoundError: If there is none; the message lists the files, and config files that may be missing.
        ValueError: If there are only SAEs of unsupported formats.
    """
    existing = frozenset(files)
    candidates: list[Candidate] = []
    missing: dict[str, list[str]] = {}  # weights file -> config files without which it is no SAE
    for path in files:
        candidate, absent = _candidate(path, existing, formats)
        if candidate.formats:
            candidates.append(candidate)
        if absent:
            missing[path] = absent
    # A format that fits any tensor file does not hide what is missing or unsupported, unless the caller asks for it.
    only_other = all(format is OTHER for candidate in candidates for format, _ in candidate.formats)
    if not candidates or (only_other and list(formats) != [OTHER]):
        if reason := _unsupported(files, repo):
            raise reason
        if missing or not candidates:
            raise _no_candidate(files, missing, repo)
    return candidates


def _candidate(path: str, existing: frozenset[str], formats: Sequence[Format]) -> tuple[Candidate, list[str]]:
    """Return a file with the formats that it may have, and the config files that other formats lack."""
    matches: list[tuple[Format, list[str]]] = []
    missing: list[str] = []
    name = path
    for format in formats:
        sae_name = format.sae_name(path)
        # Beside the config of a publisher's SAE, a lacking tensor is a fault and no other format.
        if sae_name is None or (format is OTHER and any(not match.bare and files for match, files in matches)):
            continue
        configs = format.config_paths(path)
        absent = [config for config, file in configs.items() if config not in existing and not file.optional]
        if absent:
            missing += absent
            continue
        if not matches:
            name = sae_name
        matches.append((format, [config for config in configs if config in existing]))
    return Candidate(path, name, matches), missing


def _unsupported(files: Sequence[str], repo: str) -> ValueError | None:
    for pattern, content in UNSUPPORTED:
        if any(re.search(pattern, path) for path in files):
            return ValueError(f"{repo} contains {content}; only feed-forward encoders of one hook are supported")
    return None


def _no_candidate(files: Sequence[str], missing: Mapping[str, list[str]], repo: str) -> FileNotFoundError:
    message = f"no SAE of a known format in {repo}, which contains: {', '.join(files[:LISTED]) or 'nothing'}"
    for path, configs in list(missing.items())[:LISTED]:
        message += f"; `{path}` lacks {' or '.join(f'`{config}`' for config in dict.fromkeys(configs))}"
    return FileNotFoundError(message)


def choose(candidates: Sequence[Candidate], subfolder: str | None, filename: str | None, repo: str) -> Candidate:
    """Return the SAE that the caller means.

    With `filename`, it is that file. Otherwise it is the SAE named `subfolder` (by default, the one at the root), or
    else the only one below it. Bare files count only if the repo contains nothing else: a `.pt` may be anything, such
    as the state of an optimizer.

    Raises:
        ValueError: If several SAEs remain; the message lists them.
        FileNotFoundError: If none remains; the message lists the nearest names.
    """
    folder = PurePosixPath((subfolder or "").strip("/")).as_posix()
    folder = "" if folder == "." else folder
    path = "/".join(part for part in (folder, filename) if part)
    if filename:
        remaining = [candidate for candidate in candidates if candidate.path == path]
    else:
        candidates = [candidate for candidate in candidates if not candidate.is_bare] or candidates
        remaining = [candidate for candidate in candidates if candidate.name == folder]
        if len(remaining) != 1:
            remaining = [candidate for candidate in candidates if _is_below(candidate.name, folder)]
    if len(remaining) == 1:
        return remaining[0]
    names = _distinct_names(remaining or candidates, by_path=bool(filename))
    near = difflib.get_close_matches(path, names, n=LISTED, cutoff=0.0) if path else names[:LISTED]
    listing = ", ".join(near) + (f" and {len(names) - len(near)} more" if len(names) > len(near) else "")
    if remaining:
        kind = "files that may be SAEs" if all(candidate.is_bare for candidate in remaining) else "SAEs"
        raise ValueError(
            f"{repo} contains {len(remaining)} {kind}; choose one with `subfolder` or `filename`: {listing}"
        )
    raise FileNotFoundError(f"no SAE at {path!r} in {repo}; nearest names: {listing}")


def _is_below(name: str, folder: str) -> bool:
    return not folder or name == folder or name.startswith(f"{folder}/")


def _distinct_names(candidates: Sequence[Candidate], by_path: bool) -> list[str]:
    """Return the names of SAEs, or the paths of their files if two files have the same name."""
    names = [candidate.name or candidate.path for candidate in candidates]
    if by_path or len(set(names)) < len(names):
        return [candidate.path for candidate in candidates]
    return names
