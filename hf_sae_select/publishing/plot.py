"""Plot of the features that a subset covers, pick by pick, beside the baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._optional import extra
from .replay import Measured

LABELS = {"subset": "this subset"}
COLOURS = {"subset": "#1f77b4", "random": "#888888", "longest": "#d08770"}


def draw_coverage(file: Path, measured: Measured) -> None:
    """Write a PNG of the distinct features covered after each pick; the same numbers give the same bytes."""
    figure = extra("matplotlib.figure").Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, curve in measured.curves.items():
        picks = np.arange(len(curve) + 1)
        axes.plot(picks, np.concatenate([[0], curve]), label=LABELS.get(name, name), color=COLOURS[name], linewidth=2)
    total = measured.figures["pool"]["features"]
    axes.axhline(total, color="black", linewidth=1, linestyle=":", label="all rows")
    axes.set_xlabel("rows picked")
    axes.set_ylabel("distinct features covered")
    axes.set_ylim(0, 1.05 * total or 1)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(file, format="png", metadata={"Software": None})
