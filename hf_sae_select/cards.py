"""The cards of the Hub repos that we write, from the templates in `hub_cards/`. No torch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from yaml import YAMLError

from .config import SaeConfig

# In a wheel the templates lie inside the package, in a clone beside it.
PLACES = (Path(__file__).parent / "hub_cards", Path(__file__).parent.parent / "hub_cards")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def is_local(model: str) -> bool:
    """Say whether a model is named by a path rather than by a Hub id."""
    return HUB_ID.fullmatch(model) is None or Path(model).is_dir()


def sae_card(
    config: SaeConfig, repo_id: str | None = None, subfolder: str | None = None, license: str | None = None
) -> str:
    """Return the model card of an SAE, with what its config knows and nothing else."""
    facts = defaultdict(lambda: None, config.training)  # the template asks for what may not be known
    for name in ("datasets", "text"):
        if isinstance(facts[name], str):
            facts[name] = [facts[name]]
    return render(
        "sae/README.md",
        config=config,
        facts=facts,
        source=defaultdict(lambda: None, config.source),
        base_model=None if is_local(config.model) else config.model,
        repo_id=repo_id,
        subfolder=subfolder,
        license=license or facts["license"],
    )


def render(template: str, **values: Any) -> str:
    """Fill in a template of `hub_cards/`.

    Raises:
        jinja2.UndefinedError: the template asks for a value that was not given.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([place for place in PLACES if place.is_dir()])
    environment = Environment(
        loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
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
