from __future__ import annotations


def _curve(curves, title):
    import altair as alt
    import numpy as np

    values = []
    for name, curve in curves.items():
        for i in np.unique(np.linspace(0, len(curve) - 1, 200).astype(int)):
            values.append({"rows": name, "picks": int(i) + 1, "value": float(curve[i])})
    return (
        alt.Chart(alt.InlineData(values=values))
        .mark_line()
        .encode(
            x=alt.X("picks:Q"),
            y=alt.Y("value:Q", title=title),
            color="rows:N",
            tooltip=["rows:N", "picks:Q", "value:Q"],
        )
    )


def likeness_curve(curves):
    return _curve(curves, "likeness")


def coverage_curve(curves):
    return _curve(curves, "features")


def lengths(tokens):
    import altair as alt
    import numpy as np

    edges = np.histogram_bin_edges(np.concatenate(list(tokens.values())), 30)
    values = []
    for name, part in tokens.items():
        h, _ = np.histogram(part, edges)
        values += [{"rows": name, "tokens": float(e), "share": float(c / max(1, len(part)))} for e, c in zip(edges, h)]
    return (
        alt.Chart(alt.InlineData(values=values))
        .mark_line(interpolate="step-after")
        .encode(x="tokens:Q", y="share:Q", color="rows:N")
    )
