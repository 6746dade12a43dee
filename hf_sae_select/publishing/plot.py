"""Plot on a card: what a selection reaches pick by pick, beside the baselines."""

from __future__ import annotations

from ..concepts.charts import coverage_curve, likeness_curve, png
from ..concepts.measurement import Measured


def curve_png(measured: Measured, measure: str) -> bytes:
    """Return a PNG of the values of a measure after each pick; the same numbers give the same bytes."""
    curves = measured.curves[measure]
    if measure == "likeness":
        return png(likeness_curve(curves))
    return png(coverage_curve(curves, measured.figures["pool"]["features"]))
