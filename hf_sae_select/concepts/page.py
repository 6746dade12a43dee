"""Page: a report as one HTML file that loads nothing, with a policy under which only its own scripts run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .._cards import TEMPLATES, UNSEEN
from .._secrets import masked

GENERATOR = "hf-sae-select report"
HEAD_BYTES = 1000  # of a file, in which the generator of a report stands
# Signs that could end or begin something in HTML or JavaScript; in JSON they stand for themselves also when escaped.
JSON_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
ENDS_SCRIPT = re.compile(r"<(?=/script|script|!--)", re.IGNORECASE)
# The bundle comes from the library vl-convert; the page's own script calls it by this name.
BUNDLE = "window.reportEmbed = vegaEmbed;"


def shown(text: Any) -> str:
    """Return a text from outside as a page shows it: without tokens, and without signs that are not seen.

    A sign that is not seen, such as one that turns the direction of a text, becomes U+FFFD, one for one.
    """
    return UNSEEN.sub("\ufffd", masked(str(text)))


def quoted(text: str) -> str:
    """Return a sentence with quotes around the names that have backticks, which a page shows as they are."""
    return re.sub("`([^`]*)`", "“\\1”", text)


def page(values: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        values: what the template shows, as texts and tables; it escapes them.
        data: what the page's script reads, as JSON.
    """
    css, script = _source("report.css"), _source("report.js")
    scripts = [bundle(), script] if data["charts"] else [script]
    return str(
        _template().render(
            **values,
            generator=GENERATOR,
            policy=policy(scripts, [css]),
            css=_markup(css),
            scripts=[_markup(code) for code in scripts],
            data=_markup(embedded(data)),
        )
    )


def is_report(file: Path) -> bool:
    """Tell whether a file is a report of ours, by its first bytes."""
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    return f'<meta name="generator" content="{GENERATOR}">'.encode() in head


def embedded(data: Any) -> str:
    """Return data as JSON that can stand in a script element: no sign in it ends the element or begins a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(JSON_ESCAPES)


def policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """Return a Content-Security-Policy under which these scripts and styles run, and nothing is loaded."""
    rules = {"default-src": ["'none'"], "script-src": map(_hash, scripts), "style-src": map(_hash, styles)}
    rules |= {"base-uri": ["'none'"], "form-action": ["'none'"]}
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in rules.items())


@cache  # a second
def bundle() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed."""
    from .._optional import extra

    code = str(extra("vl_convert", "report").javascript_bundle(BUNDLE))
    # In a string `\x3c` is the same sign; in code these three do not occur.
    return "{" + ENDS_SCRIPT.sub(r"\\x3c", code) + "}"  # a block: its names are not global


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _markup(text: str) -> Any:
    """Return a text of ours that the template does not escape."""
    from markupsafe import Markup

    return Markup(text)


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
    )
    return environment.get_template("report.html")
