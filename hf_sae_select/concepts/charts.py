"""Charts of a subset beside all rows and the baselines, as figures of Altair (the extra `report`).

Each function returns a figure: a notebook shows it, `save("chart.svg")` writes it, and `to_dict()` is its description.
`png` and `svg` make a picture without a browser. Mappings are by name: "subset", "random", "longest" and "pool" (all
rows) have their colours, other names are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._charts import BLUE, GREEN, GREY, ORANGE, PURPLE, altair, data, label, png, styled, svg

if TYPE_CHECKING:
    from .representation import FeatureShare

__all__ = ["coverage_curve", "feature_shares", "lengths", "likeness_curve", "png", "svg"]

NAMES = {"subset": "this subset", "pool": "all rows"}
BROKEN = [6, 3]
STYLES = {
    "this subset": (BLUE, [1, 0]),
    "random": (GREY, BROKEN),
    "longest": (ORANGE, [2, 2]),
    "all rows": (GREEN, [8, 2, 2, 2]),
}
OTHER_STYLE = (PURPLE, [1, 3])
KINDS = {
    "over": ("more than random picks", ORANGE),
    "under": ("less than random picks", BLUE),
    "": ("as random picks", GREY),
    "missing": ("no pick has it", GREEN),
}
POINTS = 300  # of a curve that are drawn
MOST_FEATURES = 2_000  # that are drawn
BINS = 40
WIDTH, HEIGHT = 560, 260
TAIL = 0.995  # the share of rows, shortest first, that the bins of lengths are made for


def likeness_curve(curves: Mapping[str, ArrayLike]) -> Any:
    """Draw how like all rows the picks are, after each pick.

    Args:
        curves (`Mapping[str, ArrayLike]`):
            Of each set of rows the likeness after each pick, see `metrics.likeness_curve`.

    Returns:
        `altair.LayerChart`: The figure.

    Raises:
        ImportError: If the extra `report` is not installed.

    Example:

    ```python
    likeness_curve({"subset": metrics.likeness_curve(features, selection.indices)})
    ```
    """
    # Only the first picks are far from 1: the axis begins where they end, so that the differences show.
    starts = [float(curve[len(curve) // 20]) for curve in map(np.asarray, curves.values()) if len(curve)]
    least = np.floor(20 * np.nanmin([*starts, 1.0])) / 20
    return _curves(curves, "Likeness to all rows", "likeness (1: as all rows)", [min(least, 0.95), 1], ".4f")


def coverage_curve(curves: Mapping[str, ArrayLike], total: int | None = None) -> Any:
    """Draw how many distinct features the picks cover, after each pick.

    Args:
        curves (`Mapping[str, ArrayLike]`):
            Of each set of rows the number of features after each pick, such as `Selection.covered`.
        total (`int`, *optional*):
            The number of features of all rows, where the axis ends. By default it ends at the largest value.

    Returns:
        `altair.LayerChart`: The figure.

    Raises:
        ImportError: If the extra `report` is not installed.

    Example:

    ```python
    coverage_curve({"subset": selection.covered}, selection.pool_coverage)
    ```
    """
    most = max((int(np.max(curve, initial=0)) for curve in curves.values()), default=0) if total is None else total
    return _curves(curves, "Features covered", "distinct features", [0, most or 1], ",d")


def lengths(tokens: Mapping[str, ArrayLike]) -> Any:
    """Draw how long rows are: the share of rows by their number of tokens.

    Args:
        tokens (`Mapping[str, ArrayLike]`):
            Of each set of rows the number of tokens of each row.

    Returns:
        `altair.Chart`: The figure.

    Raises:
        ImportError: If the extra `report` is not installed.

    Example:

    ```python
    lengths({"pool": features.tokens, "subset": features.tokens[selection.indices]})
    ```
    """
    alt = altair()
    arrays = _named(tokens)
    pooled = np.concatenate([*arrays.values(), np.zeros(1, np.int64)])
    end = max(int(np.quantile(pooled, TAIL, method="higher")), 1)
    width = -(-end // BINS)
    edges = np.arange(0, end + width + 1, width)
    rows = []
    for name, values in arrays.items():
        counts, _ = np.histogram(np.minimum(values, edges[-1] - 1), edges)
        shares = counts / max(len(values), 1)
        rows += [
            {"rows": name, "tokens": int(edge), "share": float(share)}
            for edge, share in zip(edges, [*shares, shares[-1]], strict=True)  # the last step needs its end
        ]
    is_cut = bool(len(pooled)) and int(pooled.max()) >= edges[-1]
    title = f"tokens of a row{f' (the last step: {edges[-2]:,} and more)' if is_cut else ''}"
    chart = alt.Chart(data(rows), title="Length of rows", width=WIDTH, height=HEIGHT)
    return styled(
        chart.mark_line(interpolate="step-after", strokeWidth=2).encode(
            x=alt.X("tokens:Q", title=title),
            y=alt.Y("share:Q", title=f"share of rows (steps of {width:,} tokens)", axis=alt.Axis(format="%")),
            tooltip=["rows:N", alt.Tooltip("tokens:Q", title="tokens, from"), alt.Tooltip("share:Q", format=".1%")],
            **_styles(list(arrays)),
        )
    )


def feature_shares(features: Sequence[FeatureShare]) -> Any:
    """Draw each feature by the share of all rows and of the picks that have it.

    Of many features the 2,000 with the clearest differences are drawn.

    Args:
        features (`Sequence[FeatureShare]`):
            The features, such as `representation(...).features`.

    Returns:
        `altair.LayerChart`: The figure.

    Raises:
        ImportError: If the extra `report` is not installed.

    Example:

    ```python
    feature_shares(representation(features, selection.indices).features)
    ```
    """
    alt = altair()
    drawn = sorted(features, key=lambda feature: (feature.q_value, -feature.pool_share, feature.feature))[
        :MOST_FEATURES
    ]
    rows = [
        {
            "feature": f"#{feature.feature} {feature.name}".rstrip(),
            "pool": feature.pool_share,
            "picks": feature.share,
            "lift": feature.lift,
            "kind": KINDS[feature.kind][0],
        }
        for feature in drawn
    ]
    # Shares span four powers of ten, and that of a missing feature is 0.
    scale = alt.Scale(type="symlog", constant=0.001, domain=[0, 1], nice=False)
    axis = alt.Axis(format=".1~%", values=[0, 0.001, 0.01, 0.1, 1])
    colours = alt.Scale(domain=[name for name, _ in KINDS.values()], range=[colour for _, colour in KINDS.values()])
    points = (
        alt.Chart(data(rows))
        .mark_point(filled=True, size=28, opacity=0.6)
        .encode(
            x=alt.X("pool:Q", title="share of all rows", scale=scale, axis=axis),
            y=alt.Y("picks:Q", title="share of the picks", scale=scale, axis=axis),
            color=alt.Color("kind:N", title=None, scale=colours),
            shape=alt.Shape("kind:N", title=None, scale=alt.Scale(domain=colours.domain)),
            tooltip=[
                "feature:N",
                alt.Tooltip("pool:Q", title="share of all rows", format=".2%"),
                alt.Tooltip("picks:Q", title="share of the picks", format=".2%"),
                alt.Tooltip("lift:Q", format=".2f"),
            ],
        )
    )
    ends = alt.Chart(data([{"pool": 0, "picks": 0}, {"pool": 1, "picks": 1}]))
    diagonal = ends.mark_line(color=GREY, strokeDash=[4, 4]).encode(x="pool:Q", y="picks:Q")
    return styled(
        alt.layer(diagonal, points, title="Features of all rows and of the picks", width=WIDTH, height=WIDTH)
    )


def _curves(curves: Mapping[str, ArrayLike], title: str, unit: str, domain: Sequence[float], form: str) -> Any:
    """Draw a line for each curve; the pointer shows the values of the pick that is next to it."""
    alt = altair()
    arrays = _named(curves)
    rows = [
        {"rows": name, "picks": pick + 1, "value": float(curve[pick])}
        for name, curve in arrays.items()
        for pick in _sampled(len(curve)).tolist()
        if curve[pick] >= domain[0]  # also not nan; `clip` would number its path, and no two pictures were equal
    ]
    base = alt.Chart(data(rows)).encode(
        x=alt.X("picks:Q", title="rows picked", scale=alt.Scale(domainMin=0)),
        y=alt.Y("value:Q", title=unit, scale=alt.Scale(domain=domain)),
    )
    nearest = alt.selection_point(
        name="nearest", on="pointerover", clear="pointerout", nearest=True, fields=["picks"], empty=False
    )
    tooltip = ["rows:N", alt.Tooltip("picks:Q", title="rows picked"), alt.Tooltip("value:Q", title=unit, format=form)]
    styles = _styles(list(arrays))
    lines = base.mark_line(strokeWidth=2).encode(**styles)
    points = base.mark_point(filled=True, size=50).encode(
        color=styles["color"], tooltip=tooltip, opacity=alt.when(nearest).then(alt.value(1)).otherwise(alt.value(0))
    )
    points = points.add_params(nearest).properties(name="points")
    return styled(alt.layer(lines, points, title=title, width=WIDTH, height=HEIGHT))


def _named(values: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """Return arrays by the names that the figure shows."""
    return {label(NAMES.get(name, name)): np.asarray(array) for name, array in values.items()}


def _sampled(n: int) -> NDArray[np.int64]:
    """Return the picks of `n` that are drawn: all, or evenly spaced ones and more of the first."""
    if n <= POINTS:
        return np.arange(n)
    even, early = np.linspace(0, n - 1, POINTS - POINTS // 3), np.geomspace(1, n, POINTS // 3) - 1
    return np.unique(np.concatenate([even, early]).round().astype(np.int64))


def _styles(names: Sequence[str]) -> dict[str, Any]:
    """Return the encoding of the names of lines: by colour, and by dashes for those who see no difference."""
    alt = altair()
    colours, dashes = zip(*(STYLES.get(name, OTHER_STYLE) for name in names), strict=True) if names else ((), ())
    # One legend for both: a stroke in the colour and the dashes of its line.
    shared: dict[str, Any] = {
        "title": None,
        "sort": list(names),
        "legend": alt.Legend(symbolType="stroke", symbolSize=300),
    }
    return {
        "color": alt.Color("rows:N", scale=alt.Scale(domain=list(names), range=colours), **shared),
        "strokeDash": alt.StrokeDash("rows:N", scale=alt.Scale(domain=list(names), range=dashes), **shared),
    }
