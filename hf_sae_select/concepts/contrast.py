"""Contrast: the features that one of two sets of rows has more often than the other, as data and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, overload

from .evidence import plain
from .markup import clean

if TYPE_CHECKING:  # annotations only
    import pandas as pd

LINES = 20  # that are printed of each direction
LINE_WIDTH, SHORTEST_TITLE = 100, 10
SHOWN_CHARACTERS = 200  # of a text in HTML


@dataclass(frozen=True)
class ExampleRow:
    """Hold a row in which a feature is strong."""

    row: int
    """The number of the row in its dataset."""
    activation: float
    """The activation of the feature in it."""
    text: str = ""
    """The row as it was encoded; empty unless texts were asked for."""


@dataclass(frozen=True)
class Presence:
    """Hold how many rows of one set have a feature."""

    rows: int
    """The number of rows that have it."""
    share: float
    """Their share of all rows of the set."""
    examples: tuple[ExampleRow, ...]
    """The rows in which it is strongest, the strongest first."""


@dataclass(frozen=True)
class FeatureContrast:
    """Hold how often each of two sets of rows has a feature."""

    feature: int
    """The number of the feature."""
    name: str
    """Its name, "" without labels."""
    base: Presence
    """The set that is compared with: `pool`, `a`, or the rest of the rows."""
    other: Presence
    """The other set: `reference`, `b`, or the rows that were pointed at."""
    lift: float
    """The share of the other set divided by that of the base: infinite where no row of the base has the feature."""
    low: float
    """The lower end of the 95 % interval of the lift."""
    high: float
    """The upper end of it: infinite where no row of the base has the feature."""
    q_value: float
    """The share of chance among the differences that are as clear as this one, or clearer."""
    log_likelihood_ratio: float
    """How clear the difference is, by which features are sorted: it grows with the lift and with the share."""

    @property
    def title(self) -> str:
        """The number and the name, such as `#551 concentration`."""
        return f"#{self.feature} {self.name}".rstrip()


@dataclass(frozen=True, eq=False)
class Contrast(Sequence[FeatureContrast]):
    """Hold the features that one of two sets of rows has more often than the other, the clearest difference first.

    It prints as a table, `contrast[0]` is the clearest feature, and `to_pandas` returns all.

    Example:

    ```python
    contrast = missing_features(pool, reference)
    contrast[0].title, contrast[0].lift, contrast.ids[:10]
    ```
    """

    names: tuple[str, str]
    """What the base and the other set are called, such as `("pool", "reference")`."""
    rows: tuple[int, int]
    """The number of rows of both."""
    threshold: float
    """The activation above which a row has a feature."""
    features: tuple[FeatureContrast, ...]
    """The features, the clearest difference first."""

    def __len__(self) -> int:
        return len(self.features)

    @overload
    def __getitem__(self, key: int) -> FeatureContrast: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[FeatureContrast, ...]: ...
    def __getitem__(self, key: int | slice) -> FeatureContrast | tuple[FeatureContrast, ...]:
        return self.features[key]

    def __iter__(self) -> Iterator[FeatureContrast]:
        return iter(self.features)

    @cached_property
    def ids(self) -> list[int]:
        """The numbers of the features, the clearest difference first."""
        return [feature.feature for feature in self.features]

    @cached_property
    def more(self) -> list[FeatureContrast]:
        """The features that the other set has more often than the base."""
        return [feature for feature in self.features if feature.lift > 1]

    @cached_property
    def less(self) -> list[FeatureContrast]:
        """The features that the other set has less often than the base."""
        return [feature for feature in self.features if feature.lift < 1]

    def to_pandas(self) -> pd.DataFrame:
        """Return the features as a table.

        Returns:
            `pandas.DataFrame`: A line a feature, the clearest first. The columns of each set begin with its name,
                such as `pool_rows`, `pool_share` and `pool_examples`; the last holds numbers of rows.
        """
        import pandas as pd  # datasets needs it too, and loads it late

        return pd.DataFrame([self._line(feature) for feature in self.features], columns=list(self._columns))

    def to_dict(self) -> dict[str, Any]:
        """Return the features as JSON values.

        Returns:
            `dict`: The fields of this class; an infinite lift is None.
        """
        values: dict[str, Any] = plain(asdict(self))
        return values

    def __repr__(self) -> str:
        parts = [_sentence(self)]
        for features in filter(None, (self.more, self.less)):
            parts += _printed(features[:LINES], self.names)
            if len(features) > LINES:
                parts.append(f"and {len(features) - LINES:,} more: `to_pandas()` has them all")
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(clean(_sentence(self)))}</p>"]
        for features in filter(None, (self.more, self.less)):
            parts.append(_html(features, self.names))
        return "".join(parts)

    @property
    def _columns(self) -> tuple[str, ...]:
        base, other = self.names
        sides = [f"{name}_{what}" for what in ("rows", "share") for name in (base, other)]
        numbers = ["lift", "low", "high", "q_value", "log_likelihood_ratio"]
        return ("feature", "name", *sides, *numbers, f"{base}_examples", f"{other}_examples")

    def _line(self, feature: FeatureContrast) -> tuple[Any, ...]:
        """Return the values of `_columns`."""
        sides = (feature.base, feature.other)
        numbers = feature.lift, feature.low, feature.high, feature.q_value, feature.log_likelihood_ratio
        examples = ([example.row for example in side.examples] for side in sides)
        shares = (side.share for side in sides)
        return (feature.feature, feature.name, *(side.rows for side in sides), *shares, *numbers, *examples)


def _sentence(contrast: Contrast) -> str:
    """Say how many features differ, and in which direction."""
    (base, other), (base_rows, other_rows) = contrast.names, contrast.rows
    less = f" and {len(contrast.less):,} less" if contrast.less else ""
    count = len(contrast.more)
    return (
        f"{count:,} feature{'s' * (count != 1)} more{less} frequent in {other} ({_rows(other_rows)}) than in {base} "
        f"({_rows(base_rows)})"
    )


def _rows(n: int) -> str:
    return f"{n:,} row{'s' * (n != 1)}"


def _cells(feature: FeatureContrast, names: tuple[str, str]) -> dict[str, str]:
    """Return the cells of a line as they are shown, by the heads of their columns."""
    side = 0 if feature.lift < 1 else 1
    examples = (feature.base, feature.other)[side].examples
    return {
        "feature": clean(feature.title),
        names[0]: _share(feature.base),
        names[1]: _share(feature.other),
        "lift": _number(feature.lift),
        "95 % interval": f"{_number(feature.low)} to {_number(feature.high)}",
        "q": f"{feature.q_value:.2g}" if feature.q_value > 1e-99 else "0",
        f"rows of {names[side]}": ", ".join(str(example.row) for example in examples),
    }


def _number(value: float) -> str:
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.995 else f"{value:.2g}"


def _share(side: Presence) -> str:
    if not side.rows:
        return "none"
    return f"{side.share:.2%}" if side.share >= 0.0001 else "<0.01%"


def _printed(features: Sequence[FeatureContrast], names: tuple[str, str]) -> list[str]:
    """Return the lines of a table in plain text, with the texts of rows below theirs."""
    cells = [_cells(feature, names) for feature in features]
    heads = list(cells[0])
    widths = {head: max(len(head), *(len(line[head]) for line in cells)) for head in heads}
    spare = LINE_WIDTH - sum(widths.values()) - 2 * (len(heads) - 1)
    widths["feature"] = min(widths["feature"], max(widths["feature"] + spare, SHORTEST_TITLE))

    def line(values: dict[str, str]) -> str:
        first = _cut(values["feature"], widths["feature"]).ljust(widths["feature"])
        return "  ".join([first, *(values[head].rjust(widths[head]) for head in heads[1:])]).rstrip()

    lines = [line(dict(zip(heads, heads, strict=True)))]
    for feature, values in zip(features, cells, strict=True):
        lines.append(line(values))
        for name, example in _with_texts(feature, names):
            lines.append(_cut(f"    {name} {example.row}: {clean(example.text)}", LINE_WIDTH))
    return lines


def _with_texts(feature: FeatureContrast, names: tuple[str, str]) -> list[tuple[str, ExampleRow]]:
    """Return the examples of both sets whose texts are known, with the name of their set."""
    sides = zip(names, (feature.base, feature.other), strict=True)
    return [(name, example) for name, side in sides for example in side.examples if example.text]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _html(features: Sequence[FeatureContrast], names: tuple[str, str]) -> str:
    """Return a table in HTML, with the texts of rows below theirs; a long one is cut, and says so."""
    shown = features[:LINES]
    heads = list(_cells(features[0], names))
    lines = ["".join(f"<th>{escape(clean(head))}</th>" for head in heads)]
    for feature in shown:
        lines.append("".join(f"<td>{escape(value)}</td>" for value in _cells(feature, names).values()))
        for name, example in _with_texts(feature, names):
            text = escape(_cut(clean(example.text), SHOWN_CHARACTERS))
            lines.append(f'<td></td><td colspan="{len(heads) - 1}">{escape(clean(name))} {example.row}: {text}</td>')
    if len(features) > LINES:
        lines.append(f'<td colspan="{len(heads)}">and {len(features) - LINES:,} more</td>')
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
