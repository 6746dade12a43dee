"""Plots of what a selection reaches pick by pick, beside the baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._optional import extra
from .measurement import Measured

LABELS = {"subset": "this subset"}
COLOURS = {"subset": "#1f77b4", "random": "#888888", "longest": "#d08770"}
AXES = {"likeness": "likeness to all rows", "coverage": "distinct features covered"}


def draw_curves(file: Path, measured: Measured, measure: str) -> None:
    """Write a PNG of the values of a measure after each pick; the same numbers give the same bytes."""
    figure = extra("matplotlib.figure").Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, curve in measured.curves[measure].items():
        picks = np.arange(len(curve) + 1)
        axes.plot(picks, np.concatenate([[0], curve]), label=LABELS.get(name, name), color=COLOURS[name], linewidth=2)
    most = measured.figures["pool"]["features"] if measure == "coverage" else 1
    axes.axhline(most, color="black", linewidth=1, linestyle=":", label="all rows")
    axes.set_xlabel("rows picked")
    axes.set_ylabel(AXES[measure])
    axes.set_ylim(0, 1.05 * most or 1)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(file, format="png", metadata={"Software": None})
