"""Charts: what all figures share. Altair draws them, and vl-convert makes pictures of them without a browser.

Text from outside is a value in a chart's data, never part of an expression or of a field's name. Charts name their
own selections, so that the same numbers give the same description, and this the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._optional import extra

# Okabe and Ito's colours, which people tell apart whatever colours they see; all stand out on white and on black.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
TEXT = "#7A7A7A"  # a grey that is read on white and on black
SCALE = 2  # pixels of a picture for each of a figure's


def altair() -> Any:
    """Import altair, or say what to install."""
    return extra("altair", "report")


def data(rows: Sequence[dict[str, Any]]) -> Any:
    """Return rows as the data of a chart."""
    return altair().InlineData(values=list(rows))


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
