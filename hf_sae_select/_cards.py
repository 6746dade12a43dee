"""Cards of the Hub repos that the package writes, rendered from `templates/`. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, RepoCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import CardData

from ._secrets import masked

MOST_METADATA = 2**20  # characters of a README's metadata
MOST_NESTED = 100  # levels of metadata
TEMPLATES = Path(__file__).parent / "templates"
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")

# The comments around our section of a README. `name` tells the sections of one repo apart: the subfolder of an SAE, or
# `subset`. READMEs on the Hub contain these lines: a new wording would no longer find their sections.
SECTION_BEGIN = "<!-- hf-sae-select: {name}, written anew at each push -->"
SECTION_END = "<!-- end of hf-sae-select: {name} -->"


PLACEHOLDER = "OWNER/NAME"  # the repo's id in a card until it is pushed

# Renderers make links of addresses, also where their signs are escaped. With a word joiner inside, they are none.
ADDRESS = re.compile(r"(?i)www(?=\.)|[a-z][a-z0-9+.-]*(?=:\S)|@(?=\w)")
WORD_JOINER = "\u2060"
PLAIN = " ,.?!';\u2026" + WORD_JOINER  # characters that mean nothing to Markdown within a line
PLAIN_IN_NAMES = PLAIN + '"{}():-/'
# Control characters, what turns the direction of a text, and what XML cannot hold.
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ud800-\udfff\ufffe\uffff]"
)


def render(template: str, **values: Any) -> str:
    """Fill in a template of `templates/`. In it, `escaped` and `code` are for what comes from outside.

    Raises:
        jinja2.UndefinedError: If the template uses a value that is not in `values`.
    """
    return masked(str(_environment().get_template(template).render(**values)))


def escaped(text: Any, plain: str = PLAIN_IN_NAMES) -> str:
    """Return a text from outside as Markdown of one line that shows it as it is, in a heading, a table or a link.

    No part of it becomes markup, HTML, a link, a mention or a comment around our section.

    Args:
        plain: the characters that are not escaped, beside letters and digits.
    """
    line = " ".join(UNSEEN.sub("\ufffd", masked(str(text))).split())  # masked while a token still looks like one
    line = ADDRESS.sub(lambda match: match[0] + WORD_JOINER, line)
    # A plus at the start would begin a list.
    signs = [c if c.isalnum() or c in plain or (c == "+" and i) else f"&#{ord(c)};" for i, c in enumerate(line)]
    # A point before a letter: linkifiers take "evil.com" for an address.
    ends = [i for i, c in enumerate(line[:-1]) if c == "." and line[i + 1].isalpha()]
    for i in ends:
        signs[i] = "&#46;"
    return "".join(signs)


def code(name: Any) -> str:
    """Return a name from outside as inline code, or escaped if it has characters that code cannot show."""
    text = str(name)
    is_shown = text == " ".join(text.split()) and text.isprintable() and not set(text) & set("`|<>")
    return f"`{text}`" if text and is_shown else escaped(json.dumps(text, ensure_ascii=False))


@cache  # it compiles each template once
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"SECTION_BEGIN": SECTION_BEGIN, "SECTION_END": SECTION_END}
    environment.filters |= {"escaped": escaped, "code": code, "block": block}
    return environment


def block(text: Any) -> str:
    """Return a text of several lines from outside as a block of code."""
    lines = UNSEEN.sub("\ufffd", str(text)).replace("<!--", f"<{WORD_JOINER}!--")
    fence = "`" * max([3, *(1 + len(run) for run in re.findall("`+", lines))])
    return f"{fence}\n{lines}\n{fence}"


def parsed(readme: str, name: str = "the repo's README.md") -> ModelCard:
    """Parse a README; `name` is what an error calls it.

    Raises:
        ValueError: If its metadata cannot be parsed.
    """
    try:
        if metadata := REGEX_YAML_BLOCK.search(readme):
            _check_expanded(metadata[2])
        return ModelCard(readme)
    except (ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"cannot parse the metadata at the top of {name} ({str(error)[:300]}); fix it") from error


def _check_expanded(metadata: str) -> None:
    """Check the size of metadata with each alias written out: a few of them can stand for gigabytes.

    Raises:
        ValueError: If it is too large, or an alias stands for what it is in.
    """
    sizes: dict[str | None, int] = {}  # of what each anchor names
    open_collections: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(metadata, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_collections.append((event.anchor, 1))
            if len(open_collections) > MOST_NESTED:  # the time to parse it grows with the square
                raise ValueError(f"it is nested more than {MOST_NESTED} deep")
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands for nothing, or for what it is in")
            size = sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size = sizes[event.anchor] = 1 + len(event.value)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_collections.pop()
            sizes[anchor] = size
        else:
            continue
        anchor, total = open_collections.pop()
        open_collections.append((anchor, total + size))
        if total + size > MOST_METADATA:
            raise ValueError(f"it has more than {MOST_METADATA:,} characters, with its aliases written out")


def section_of(card: str) -> str:
    """Return our section of a card, with `PLACEHOLDER` for the id of the repo that it says to load.

    Raises:
        ValueError: If the card does not have the comments around our section once each.
    """
    begin, end = _markers(card)
    section = card.partition(begin)[2].partition(end)[0]
    call = re.search(r'^subsets? = load_dataset\(("[\w.-]+/[\w.-]+")', section, re.MULTILINE)
    return section if call is None else section.replace(f"({call[1]}", f'("{PLACEHOLDER}"')


def named(card: str, repo_id: str) -> str:
    """Return a card with the id of its repo in the calls that have `PLACEHOLDER`."""
    return card.replace(f'("{PLACEHOLDER}"', f'("{repo_id}"')


def merged(card: str, readme: str | None, renewed: Collection[str] = ()) -> str:
    """Merge `card` into the README of a repo: keep the README's own text, and insert or replace our section.

    The README's metadata take precedence, and lists are joined; the keys in `renewed` come from the card alone.

    Raises:
        ValueError: As `parsed`, or if the card or the README lacks one of the comments around our section.
    """
    new = parsed(card, "the new card")
    if readme is None:
        return card
    readme = readme.removeprefix("\ufeff")
    old = parsed(readme)
    before, after = (RepoCard(text).data.to_dict() for text in (readme, card))  # in their own order
    # A key keeps its place, and metadata without a change keep their text: the same push again changes no byte.
    joined = {key: value for key, value in before.items() if key not in renewed or key in after}
    for key, value in after.items():
        current = joined.get(key)
        if isinstance(current, list) and isinstance(value, list) and key not in renewed:
            joined[key] = _joined(current, value)
        elif current is None or key in renewed:
            joined[key] = value
    text = _with_section(old.text, new.text.strip())
    if joined == before and readme.endswith(old.text):
        return readme.removesuffix(old.text) + text
    return f"---\n{CardData(**joined)}\n---\n{text}"


def _with_section(text: str, card: str) -> str:
    """Replace our section in the text of a README by the card's section of the same name, or append the card.

    Words outside the section, from a user who edited the card before pushing it, are inserted once.
    """
    begin, end = _markers(card)
    before, marker, rest = text.partition(begin)
    if begin in rest:
        raise ValueError(f"the repo's README.md has our section twice; remove one, from its comment on: {begin}")
    if not marker:
        return f"{text.rstrip()}\n\n{card}\n"
    if end not in rest:
        raise ValueError(f"the repo's README.md lacks the comment that ends our section; restore it: {end}")
    introduction, _, section = card.partition(begin)
    section, _, remarks = section.partition(end)
    is_new = not (introduction.strip() in text and remarks.strip() in text)
    return f"{before}{card if is_new else begin + section + end}{rest.partition(end)[2]}"


def _markers(card: str) -> tuple[str, str]:
    """Return the comments that begin and end the section of a card."""
    begins = list(re.finditer(re.escape(SECTION_BEGIN).replace(re.escape("{name}"), "(.+?)"), card))
    if not begins:
        raise ValueError(f"the card lacks the comment that begins our section; restore it: {SECTION_BEGIN}")
    if len(begins) > 1:
        raise ValueError(f"the card has {len(begins)} sections of ours; remove all but one, from {begins[1][0]} on")
    begin = begins[0]
    end = SECTION_END.format(name=begin[1])
    if end not in card[begin.end() :]:
        raise ValueError(f"the card lacks the comment that ends our section; restore it: {end}")
    return begin[0], end


def _joined(old: list[Any], new: list[Any]) -> list[Any]:
    """Join two lists of metadata. Of a dataset's configs, the new one replaces the old one of the same name."""
    replaced = {item["config_name"] for item in new if isinstance(item, Mapping)}
    kept = [item for item in old if not (isinstance(item, Mapping) and item.get("config_name") in replaced)]
    return kept + [item for item in new if item not in kept]
