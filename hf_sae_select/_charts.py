"""Charts: what all figures share. Altair draws them, and vl-convert makes pictures of them without a browser.

Text from outside is a value in a chart's data, never part of an expression or of a field's name. Charts name their
own selections, so that the same numbers give the same description, and this the same picture. A picture is XML, which
has no control characters, and vl-convert ends the process at one: `label` replaces them in all text from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._cards import UNSEEN
from ._optional import extra
from ._secrets import masked

# Okabe and Ito's colours, which people tell apart whatever colours they see; all stand out on white and on black.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A"
TEXT = "#757575"  # a grey with a contrast of 4.5 and more on white and on black
SCALE = 2  # pixels of a picture for each of a figure's


def altair() -> Any:
    """Import altair, or say what to install."""
    return extra("altair", "report")


def label(text: str) -> str:
    """Return a text from outside as a figure shows it: on one line, without tokens and signs that are not seen."""
    return " ".join(UNSEEN.sub("\ufffd", masked(text)).split())


def data(rows: Sequence[dict[str, Any]]) -> Any:
    """Return rows as the data of a chart, with their texts as `label` has them."""
    shown = [{name: label(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows]
    return altair().InlineData(values=shown)


def styled(chart: Any) -> Any:
    """Give a chart the look of all figures: no background, and greys that light and dark pages both show."""
    axis = {"labelColor": TEXT, "titleColor": TEXT, "domainColor": TEXT, "tickColor": TEXT}
    return (
        chart.configure(background="transparent", font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(**axis, titleFontWeight="normal", gridColor=TEXT, gridOpacity=0.25)
        .configure_legend(labelColor=TEXT, titleColor=TEXT)
        .configure_header(labelColor=TEXT, titleColor=TEXT)
        .configure_title(color=TEXT, subtitleColor=TEXT, anchor="start", fontSize=14)
    )


def svg(chart: Any) -> str:
    """Return a chart as an SVG; the same chart gives the same text."""
    return str(extra("vl_convert", "report").vegalite_to_svg(chart.to_dict(), allowed_base_urls=[]))


def png(chart: Any, background: str = "white") -> bytes:
    """Return a chart as a PNG; the same chart gives the same bytes."""
    description = chart.to_dict()
    description["config"]["background"] = background
    return bytes(extra("vl_convert", "report").vegalite_to_png(description, scale=SCALE, allowed_base_urls=[]))
