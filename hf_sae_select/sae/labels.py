"""Labels: what each feature of an SAE fires on, as a name, words, a score and examples. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar

from .._cards import UNSEEN
from .._files import check_target, whole_file
from .._parquet import content_errors
from .._validation import check_int, check_text, check_type, is_number
from .label_file import contents, file_at, read, write
from .label_hub import LabelsHub
from .labels_beside import LABELS_FILE, check_width

PACKAGED = Path(__file__).parent / "default" / LABELS_FILE
NAN = math.nan

# What one label holds at most. Files may be anybody's.
MOST_NAME, MOST_WORDS, MOST_WORD, MOST_EXAMPLES, MOST_TEXT = 200, 64, 100, 64, 2**16
MOST_METADATA = 2**19


@dataclass(frozen=True)
class Example:
    """Hold a text that a feature fires on.

    Raises:
        ValueError: If a span is not inside the text, the text is too long, or the activation is infinite.
    """

    text: str
    """The text, as the model read it."""
    spans: tuple[tuple[int, int], ...] = ()
    """The characters of `text`, from start to end, whose tokens fire."""
    activation: float = NAN
    """The largest activation in the text; NaN if it is not known."""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or len(self.text) > MOST_TEXT:
            raise ValueError(f"the text of an example must be a string of at most {MOST_TEXT:,} characters")
        if not (isinstance(self.spans, tuple | list) and all(map(self._is_inside, self.spans))):
            raise ValueError(
                f"`spans={self.spans!r:.200}` of an example must be pairs of a start and an end inside its text of "
                f"{len(self.text):,} characters"
            )
        if not (is_number(self.activation) or (isinstance(self.activation, float) and math.isnan(self.activation))):
            raise ValueError(
                f"`activation={self.activation!r:.200}` of an example must be a finite number, or NaN where it is not "
                "known"
            )

    def _is_inside(self, span: Any) -> bool:
        is_pair = isinstance(span, tuple | list) and len(span) == 2 and all(is_number(end, Integral) for end in span)
        return is_pair and bool(0 <= span[0] < span[1] <= len(self.text))


@dataclass(frozen=True)
class Label:
    """Hold what is known of one feature.

    Raises:
        ValueError: If a value is not allowed; the message names it.

    Example:

    ```python
    Label(4940, "magnetic/has/earth", ("magnetic", "has", "earth"), 0.93, (0.9, 0.96), 0.012)
    ```
    """

    feature: int
    """The number of the feature."""
    name: str = ""
    """The name, on one line; empty if nothing names the feature well enough."""
    words: tuple[str, ...] = ()
    """The words, spans of words and kinds of text that predict the feature, the best first."""
    score: float = NAN
    """How well `words` predict on held-out text whether the feature fires: the balanced accuracy, in which chance has
    0.5. NaN if it was not measured."""
    interval: tuple[float, float] = (NAN, NAN)
    """The 95 % interval of `score`."""
    frequency: float = NAN
    """The share of contexts in which the feature fires; NaN if it was not measured."""
    examples: tuple[Example, ...] = ()
    """Texts that the feature fires on, the strongest first."""

    def __post_init__(self) -> None:
        check_int("feature", self.feature, 0)
        _check_line("name", self.name, MOST_NAME)
        for word in self.words:
            _check_line("words", word, MOST_WORD)
        for name, values, most in (("words", self.words, MOST_WORDS), ("examples", self.examples, MOST_EXAMPLES)):
            if len(values) > most:
                raise ValueError(f"`{name}` of feature {self.feature} has {len(values)} entries; at most {most}")
        if not all(isinstance(example, Example) for example in self.examples):
            raise ValueError(f"`examples` of feature {self.feature} has an entry that is no example")
        for name in ("score", "frequency"):
            _check_share(name, getattr(self, name))
        low, high = self.interval
        for bound in (low, high):
            _check_share("interval", bound)
        if low > high:
            raise ValueError(f"`interval=({low!r}, {high!r})` of feature {self.feature} ends before it begins")

    @property
    def title(self) -> str:
        """The number and the name: `#551 concentration`, or `#551`."""
        return f"#{self.feature} {self.name}".rstrip()


def one_line(text: str, most: int = MOST_NAME) -> str:
    """Return a text on one line of at most `most` characters, without control characters; nothing else is changed."""
    line = " ".join(UNSEEN.sub("\ufffd", " ".join(text[: 8 * most].split())).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def _check_line(name: str, value: Any, most: int) -> None:
    if not isinstance(value, str) or value != one_line(value, most):
        shown = repr(value[:most] if isinstance(value, str) else value)[: 2 * most]
        raise ValueError(f"`{name}={shown}` must be a string on one line, of at most {most} characters")


def _check_share(name: str, value: Any) -> None:
    if not ((is_number(value) and 0 <= value <= 1) or (isinstance(value, float) and math.isnan(value))):
        raise ValueError(f"`{name}={value!r}` must be a number in [0, 1], or NaN where it is not known")


class Labels(LabelsHub):
    """Hold the labels of an SAE, one per feature.

    `labels[551]` is the `Label` of a feature, `len(labels)` the number of features, named or not.

    Args:
        labels (`Iterable[Label]`):
            The labels, in any order. Features without one are unnamed.
        d_sae (`int`):
            The number of features of the SAE.
        sae_sha256 (`str`, *optional*):
            The digest of the SAE, as `SparseAutoencoder.digest` returns it. By default it is not known, and only the
            width is checked.
        metadata (`Mapping[str, Any]`, *optional*):
            How the labels were made, as JSON values.

    Raises:
        ValueError: If a label belongs to no feature, or two to the same, or the metadata are no JSON.
        TypeError: If `sae_sha256` is no string.

    Example:

    ```python
    labels = Labels([Label(1, "cats", ("cat", "cats"))], d_sae=3)
    labels.name(1), labels.title(0), labels.find("cat")  # "cats", "#0", [1]
    ```
    """

    def __init__(
        self,
        labels: Iterable[Label],
        d_sae: int,
        sae_sha256: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        check_width(d_sae)
        check_text("sae_sha256", sae_sha256, optional=True)
        self.d_sae: int = d_sae
        self.sae_sha256: str | None = sae_sha256
        self.metadata: dict[str, Any] = _json_object({} if metadata is None else metadata)
        self._labels: dict[int, Label] = {}
        for label in labels:
            if label.feature >= d_sae:
                raise ValueError(f"a label of feature {label.feature:,}, but the SAE has d_sae={d_sae:,} features")
            if label.feature in self._labels:
                raise ValueError(f"two labels of feature {label.feature:,}")
            self._labels[label.feature] = label

    def __len__(self) -> int:
        return self.d_sae

    def __getitem__(self, feature: int) -> Label:
        if not 0 <= feature < self.d_sae:
            raise IndexError(f"no feature {feature:,}: the SAE has d_sae={self.d_sae:,} features")
        return self._labels.get(int(feature)) or Label(int(feature))

    def __iter__(self) -> Iterator[Label]:
        return (self[feature] for feature in range(self.d_sae))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and contents(*self._rows()) == contents(*other._rows())

    __hash__: ClassVar[None]  # type: ignore[assignment]  # none, beside `__eq__`: it holds a mapping

    def __repr__(self) -> str:
        return f"Labels({len(self.named):,} of {self.d_sae:,} features have names)"

    @cached_property
    def named(self) -> list[int]:
        """The features that have a name, ascending."""
        return sorted(feature for feature, label in self._labels.items() if label.name)

    def name(self, feature: int) -> str:
        """Return the name of a feature.

        Args:
            feature (`int`):
                The number of the feature.

        Returns:
            `str`: The name, or an empty string.

        Raises:
            IndexError: If the SAE has no such feature.
        """
        return self[feature].name

    def title(self, feature: int) -> str:
        """Return the number and the name of a feature.

        Args:
            feature (`int`):
                The number of the feature.

        Returns:
            `str`: Such as `#551 concentration`, or `#551` without a name.

        Raises:
            IndexError: If the SAE has no such feature.
        """
        return self[feature].title

    def find(self, text: str) -> list[int]:
        """Return the features whose name or words contain a text; upper and lower case are the same.

        Args:
            text (`str`):
                What to look for, such as `"cook"`.

        Returns:
            `list[int]`: Features of which it is a whole word or name first, then the others; of each, those with the
            highest score first.

        Raises:
            TypeError: If `text` is no string.
            ValueError: If `text` is empty.

        Example: `"cook"` finds a feature with the word "cook" before one with "cookie".
        """
        check_text("text", text)
        wanted, ranks = text.strip().casefold(), []
        for feature, label in self._labels.items():
            texts = [entry.casefold() for entry in (label.name, *label.words)]
            if any(wanted in entry for entry in texts):
                score = 0.0 if math.isnan(label.score) else label.score
                ranks.append((wanted not in texts, -score, feature))
        return [feature for *_, feature in sorted(ranks)]

    def check(self, record: Mapping[str, Any]) -> None:
        """Check that these are labels of the SAE that made some codes.

        Args:
            record (`Mapping[str, Any]`):
                The encoding record of a dataset, or any mapping with `d_sae` and `sae_sha256`. What it lacks is not
                checked.

        Raises:
            ValueError: If the width differs, or the digest of the SAE.
        """
        if (width := record.get("d_sae", self.d_sae)) != self.d_sae:
            raise ValueError(
                f"`labels` are of an SAE with d_sae={self.d_sae:,}, but the SAE in use has d_sae={width:,}; pass the "
                "labels of that SAE"
            )
        digest = record.get("sae_sha256")
        if None not in (digest, self.sae_sha256) and digest != self.sae_sha256:
            raise ValueError(
                f"`labels` are of another SAE of the same width (SHA-256 {str(self.sae_sha256)[:12]}…, that of the "
                f"SAE in use is {str(digest)[:12]}…); pass the labels of that SAE"
            )

    def save(self, path: str | Path) -> None:
        """Save the labels as a Parquet file, whole or not at all.

        Args:
            path (`str` or `Path`):
                A file, or a folder, in which the file is called `labels.parquet`.

        Raises:
            TypeError: If `path` is no path.
            OSError: If the file cannot be written.
        """
        with whole_file(check_target("path", file_at(path), LABELS_FILE)) as part:
            write(part, *self._rows())

    @classmethod
    def load(cls, path: str | Path) -> Labels:
        """Load the labels that `save` saved.

        Args:
            path (`str` or `Path`):
                The file, or a folder that contains `labels.parquet`.

        Returns:
            `Labels`: The labels.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If it holds no labels, too large ones, or values that are not allowed.
            TypeError: If `path` is no path.
        """
        file = file_at(path)
        if not file.is_file():
            raise FileNotFoundError(f"`path={str(path)!r}`: there is no file {file.name}")
        try:
            with content_errors():
                rows, own = read(file)
                return cls(map(_label, rows), own["d_sae"], own["sae_sha256"], own["metadata"])
        except ValueError as error:
            raise ValueError(f"{file} holds no labels that can be read: {str(error)[:300]}") from error

    def _rows(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the rows of the file, and what its metadata say."""
        rows = [_row(self._labels[feature]) for feature in sorted(self._labels)]
        return rows, {"d_sae": self.d_sae, "sae_sha256": self.sae_sha256, "metadata": self.metadata}


def _row(label: Label) -> dict[str, Any]:
    """Return a label as a row of the table."""
    low, high = label.interval
    examples = [
        {
            "text": example.text,
            "spans": [{"start": start, "end": end} for start, end in example.spans],
            "activation": example.activation,
        }
        for example in label.examples
    ]
    return {
        "feature": label.feature,
        "name": label.name,
        "words": list(label.words),
        "score": label.score,
        "low": low,
        "high": high,
        "frequency": label.frequency,
        "examples": examples,
    }


def _label(row: Mapping[str, Any]) -> Label:
    """Return a row of a table as a label; names and words that another program wrote become one line."""
    score, low, high, frequency = (
        NAN if row[name] is None else row[name] for name in ("score", "low", "high", "frequency")
    )
    words: Any = tuple(word if word is None else one_line(word, MOST_WORD) for word in row["words"] or [])
    examples = tuple(map(_example, row["examples"] or []))
    return Label(row["feature"], one_line(row["name"] or ""), words, score, (low, high), frequency, examples)


def _example(values: Mapping[str, Any] | None) -> Any:
    """Return an entry of a table as an example; None, which a label refuses, remains."""
    if values is None:
        return None
    spans = values["spans"] and tuple(span and (span["start"], span["end"]) for span in values["spans"])
    return Example(values["text"], spans, NAN if values["activation"] is None else values["activation"])


def _json_object(metadata: Any) -> dict[str, Any]:
    """Return metadata as JSON values.

    Raises:
        ValueError: they are no object of JSON values, or far too large.
    """
    check_type("metadata", metadata, Mapping, "a mapping of JSON values")
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"`metadata` must be a mapping of JSON values: {error}") from error
    if len(text) > MOST_METADATA:
        raise ValueError(f"`metadata` has {len(text):,} characters as JSON; at most {MOST_METADATA:,}")
    values: dict[str, Any] = json.loads(text)
    return values


def labels_of(record: Mapping[str, Any]) -> Labels | None:
    """Return the labels that ship with the SAE of an encoding record; None for an SAE that is not the packaged one."""
    labels = _packaged()
    return labels if labels is not None and record.get("sae_sha256") == labels.sae_sha256 else None


@cache
def _packaged() -> Labels | None:
    return Labels.load(PACKAGED) if PACKAGED.is_file() else None
