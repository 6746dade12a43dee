"""An extension of griffe that reads the types of docstrings, written as Hugging Face writes them, for the site.

`seed (`int` or `None`, *optional*, defaults to `0`):` becomes `seed (int | None):`, since a page shows the default
beside it. Names of pages, such as `docs/methods.md`, become links.
"""

import re
from typing import Any

import griffe

TYPE = re.compile(r"^(?P<before> +\**\w+ )\((?P<type>`.*)\):$", re.MULTILINE)
RESULT = re.compile(r"^(?P<before>Returns:\n +)(?P<type>`[^:]*`[^:]*):", re.MULTILINE)
OPTIONAL = re.compile(r", \*optional\*(, defaults to .*)?$")
PAGE = re.compile(r"`docs/(?P<name>[\w-]+)\.md`")


def plain(kind: str) -> str:
    """Return "`int`, `float` or `str`, *optional*" as `int | float | str`."""
    return " | ".join(re.findall("`([^`]*)`", OPTIONAL.sub("", kind)))


class Docstrings(griffe.Extension):
    """Changes docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring is None:
            return
        text = TYPE.sub(lambda match: f"{match['before']}({plain(match['type'])}):", obj.docstring.value)
        text = RESULT.sub(lambda match: f"{match['before']}{plain(match['type'])}:", text)
        obj.docstring.value = PAGE.sub(r"[\g<name>](../\g<name>.md)", text)
