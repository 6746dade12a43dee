"""The cards of the Hub repos that we write, from the templates in `templates/`. No torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from yaml import YAMLError

TEMPLATES = Path(__file__).parent / "templates"
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def render(template: str, **values: Any) -> str:
    """Fill in a template of `templates/`.

    Raises:
        jinja2.UndefinedError: the template asks for a value that was not given.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def parsed(readme: str, what: str = "the repo's README.md") -> ModelCard:
    """Read the README of a repo, `what` in errors.

    Raises:
        ValueError: its metadata cannot be read.
    """
    try:
        return ModelCard(readme)
    except (ValueError, TypeError, AttributeError, RecursionError, YAMLError) as error:
        raise ValueError(f"the metadata at the top of {what} cannot be read ({error}); mend it") from error


def merged(card: str, readme: str | None, renewed: Collection[str] = ()) -> str:
    """Return the README of a repo that gets `card`: what is written there stays, our section is put in or renewed.

    Of the metadata, what is there wins, and lists are joined; `renewed` names what is ours alone to say. Our section
    lies between two comments that name the subfolder, so that a repo with many SAEs has a section for each.

    Raises:
        ValueError: as `parsed`, or where our section ends is not marked any more.
    """
    ours = parsed(card, "our card")
    if readme is None:
        return card
    theirs = parsed(readme.removeprefix("\ufeff"))
    for key in renewed:
        theirs.data.pop(key, None)
    for key, value in ours.data.to_dict().items():
        old = theirs.data.get(key)
        if isinstance(old, list) and isinstance(value, list):
            theirs.data[key] = _joined(old, value)
        elif old is None:
            theirs.data[key] = value
    section = ours.text.strip()
    begin, end = section.splitlines()[0], section.splitlines()[-1]
    before, found, rest = theirs.text.partition(begin)
    if found and end not in rest:
        raise ValueError(f"the comment that ends our section is gone from the repo's README.md; put it back: {end}")
    after = rest.partition(end)[2] if found else "\n"
    return f"---\n{theirs.data}\n---\n{before if found else before.rstrip() + chr(10) * 2}{section}{after}"


def _joined(old: list[Any], new: list[Any]) -> list[Any]:
    """Join two lists of a card; of a dataset's configs, those of the same name are one."""
    names = {each["config_name"] for each in new if isinstance(each, Mapping)}
    kept = [each for each in old if not (isinstance(each, Mapping) and each.get("config_name") in names)]
    return kept + [each for each in new if each not in kept]
