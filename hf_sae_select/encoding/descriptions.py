"""Descriptions: columns of ids, labels, file names, dates and addresses, told from columns of text. No torch."""

from __future__ import annotations

import re

import datasets

from .cells import peek

# Names of columns that describe a row and are not its text.
DESCRIPTION = re.compile(
    r"(.*[_\- ])?(ids?|uid|idx|index|keys?|uuid|guid|urls?|uri|links?|href|path|files?|filename|filepath|hash|md5|"
    r"sha1|sha256|labels?|lang|language|locale|dataset|subset|split|photos?|images?|pictures?|emails?|phone|address|city|"
    r"domain|repo|license|licence|date|time|timestamp|at|created|updated|version|status|scores?|rating|country|genres?|"
    r"authors?|keywords?|tags?|names?|kwargs|meta|metadata|moderation|rejected|(extra_)?info|reward_model)(_list)?"
)
# Names that mostly describe a row; with long values the column may be the text.
MAYBE_DESCRIPTION = re.compile(
    r"(.*[_\- ])?(class|category|topic|source|task|type|kind|models?|user|username|title|label)(_list)?"
)
WORDS_OF_DATES = re.compile(
    r"(mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*|[ap]\.?m\.?|[\d\W_]+|utc|gmt",
    re.IGNORECASE,
)
FEW_WORDS, MANY_WORDS = 3, 8  # ids, names, labels and titles have fewer words than texts
NO_TEXT = re.compile(  # addresses, hashes, and names of files, which may have spaces
    r"[a-z][a-z0-9+.-]*://\S+|www\.\S+|[0-9a-f]{2,4}|[0-9a-f-]{8,}|([a-z]:)?[/\\]\S*", re.IGNORECASE
)
FILE_NAME = re.compile(r"[^\n]{1,100}\.(?!\d)\w{2,4}", re.IGNORECASE)


def names_description(name: str) -> bool:
    """Tell whether a column describes rows by its name, surely or maybe."""
    return _is_description(name) or MAYBE_DESCRIPTION.fullmatch(_snake(name)) is not None


def describes_rows(dataset: datasets.Dataset, name: str) -> bool:
    """Tell whether a column of strings holds ids, labels, file names and the like, judged by its name and values."""
    if _is_description(name):
        return True
    values = [value for value in peek(dataset, (name,)) if value and value.strip()]
    few = MANY_WORDS if MAYBE_DESCRIPTION.fullmatch(_snake(name)) else FEW_WORDS
    texts = [value for value in values if _reads_like_text(value, few)]
    # Labels are few, and come again and again.
    return 2 * len(texts) <= len(values) or (len(values) > FEW_WORDS and 4 * len(set(values)) <= len(values))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()  # `docId` is `doc_id`


def _is_description(name: str) -> bool:
    return DESCRIPTION.fullmatch(_snake(name)) is not None


def _reads_like_text(value: str, few: int) -> bool:
    """Tell whether a value has several words that are no parts of a date; a script without spaces has long ones."""
    if FILE_NAME.fullmatch(value) and not value.rstrip().endswith("."):
        return False
    words = [word for word in value.split() if not WORDS_OF_DATES.fullmatch(word) and not NO_TEXT.fullmatch(word)]
    letters = sum(character.isalpha() and not character.isascii() for character in value)
    return len(words) >= few or (letters >= 2 * few and 2 * letters >= len(value) and len(words) > 0)
