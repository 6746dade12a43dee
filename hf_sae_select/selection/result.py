"""Selection: the result of a selection. Which rows were picked, in which order, and everything that decided it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._files import check_target, whole_file
from ..features.matrix import FeatureMatrix

Int64s = NDArray[np.int64]
FORMAT = 3  # of the saved file; 1 had no `row_digests`, 2 no `target`
LINE_WIDTH, MOST_LETTERS = 100, 40  # of the repr, and of a method's name in it


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """Hold which rows were selected, in the order they were picked, with their gains and all parameters.

    Example, rows with the features {0, 1}, {1, 2, 3}, {3}, selected by `greedy`: row 1 adds three features, row 0 one
    more, and row 2 begins a second round::

        indices [1, 0, 2], gains [3, 1, 1], round_starts [0, 2], covered [3, 4, 4], pool_coverage 4, saturated_at 2
    """

    indices: Int64s
    """[k], int64: the selected rows, in the order they were picked."""
    gains: NDArray[Any]
    """[k]: the marginal gain of each pick in its round, in the method's measure: new features (int64), or their
    weight, similarity or distance (float64). Rows that only fill the budget have 0."""
    round_starts: Int64s
    """The pick positions at which a round began, coverage being reset; [0] for a single round."""
    method: str = ""
    """The method's name."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Everything that decided the picks, as JSON values, defaults included: `budget`, `seed`, and the mappings
    `options` (of the method), `constraints` (those passed), `cuts` (`threshold`, `top`, `max_share`, `embedding`;
    empty after `select_indices`) and `encoding` (how the rows were encoded; empty where they were not)."""
    fingerprint: str = ""
    """The fingerprint of the dataset that the rows were selected from."""
    covered: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    """[k], int64: the number of distinct features of all rows up to this pick."""
    pool_coverage: int = 0
    """The number of distinct features of all rows that could be selected."""
    pool_rows: int = 0
    """The number of rows of the dataset that the rows were selected from; 0 if it is not recorded."""
    row_digests: list[str] = field(default_factory=list)
    """[k]: a digest of the content of each selected row, by which `extend` finds it again; empty if not recorded."""
    digest_columns: list[str] = field(default_factory=list)
    """The columns that `row_digests` are of: those that were encoded, where they are known. After `select_indices`
    empty, and the digests are of the rows' features."""
    target: dict[str, Any] = field(default_factory=dict)
    """What the rows were selected towards, as JSON values; empty without a target. `rule`: method and options;
    `parts`: name, rows, blank rows, share of the budget and `sha256` of each; `overlap`: the rows of the dataset that
    repeat rows of the target, and how many were left out; `distances`: those of the subset, of as many random rows and
    of all rows, in features (`hellinger`) and by the kernel of `herding` (`kernel`), see `target_distances`; `missing`:
    the features of the target that no row of the dataset has, their share of it, and the largest of them."""
    left_out: dict[str, int] = field(default_factory=dict)
    """How many rows arguments such as `avoid` and `require` left out, by the argument; a row that several left out
    counts for the first of them. Empty where it is not recorded."""

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        rows = f"{len(self):,} of {self.pool_rows:,}" if self.pool_rows else f"{len(self):,}"
        method = self.method if len(self.method) <= MOST_LETTERS else f"{self.method[:MOST_LETTERS]}..."
        parts = [f"method={method!r}", f"rows={rows}", f"gain={self.gain:.6g}", f"features={self._features}"]
        parts += [f"left_out={self.left_out}"] if self.left_out else []
        line = f"Selection({', '.join(parts)})"
        return line if len(line) <= LINE_WIDTH else line.replace(", gain=", ",\n          gain=")

    def _repr_html_(self) -> str:
        return table("Selection", facts(self))

    @property
    def gain(self) -> float:
        """The sum of all gains."""
        return float(self.gains.sum())

    @property
    def rounds(self) -> Int64s:
        """[k], int64: the round of each pick, from 0 on."""
        return np.searchsorted(self.round_starts, np.arange(len(self)), side="right") - 1

    @property
    def saturated_at(self) -> int | None:
        """The number of picks after which every feature of the pool was covered; None if some never were."""
        full = np.flatnonzero(self.covered >= max(1, self.pool_coverage))
        return int(full[0]) + 1 if len(full) else None

    def first_rows(self, features: FeatureMatrix) -> Int64s:
        """Return, for each feature, the first selected row that has it.

        Args:
            features (`FeatureMatrix`):
                The features that the rows were selected by, cut by the same threshold.

        Returns:
            `np.ndarray`: Row indices, [d_sae], int64; -1 for features that no selected row has.

        Example, for the rows of the class: ``[0, 1, 1, 1]``.
        """
        rows = np.full(features.d_sae, -1, np.int64)
        for row in self.indices[::-1]:
            rows[features.row(row)] = row
        return rows

    def save(self, path: str | Path) -> None:
        """Save the selection as a JSON file, whole or not at all.

        The file is an object with the fields of this class, arrays as lists, and `format`, the version of the file's
        layout. Gains that are whole numbers stay whole; others are written so that they are read back to the bit.

        Args:
            path (`str` or `Path`):
                The file to write; an existing one is replaced.

        Raises:
            TypeError: If a parameter is no JSON value, such as an object passed as an option of your own method.
            OSError: If the file cannot be written.

        Example:

        ```python
        subset.sae_selection.save("selection.json")
        selection = Selection.load("selection.json")
        ```
        """
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        arrays = {name: value.tolist() for name, value in values.items() if isinstance(value, np.ndarray)}
        try:
            text = json.dumps({"format": FORMAT, **values, **arrays}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"`parameters` or `gains` hold a value that JSON cannot hold: {error}") from error
        with whole_file(check_target("path", path, "selection.json")) as part:
            part.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Selection:
        """Load a selection that `save` wrote.

        Args:
            path (`str` or `Path`):
                The file to read.

        Returns:
            `Selection`: The selection, equal to the saved one in every field.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file does not hold a selection, or one of a newer layout.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if (layout := values.pop("format")) not in range(1, FORMAT + 1):
                raise ValueError(f"its `format` is {layout!r}, this version reads 1 to {FORMAT}")
            if not all(type(gain) in (int, float) for gain in values["gains"]):
                raise ValueError("`gains` are not numbers")
            for name in ("indices", "round_starts", "covered"):
                if not all(type(number) is int and 0 <= number < 2**63 for number in values[name]):
                    raise ValueError(f"`{name}` are not numbers of rows")
            types: dict[str, Any] = {"indices": np.int64, "round_starts": np.int64, "covered": np.int64}
            types["gains"] = np.int64 if all(isinstance(gain, int) for gain in values["gains"]) else np.float64
            selection = cls(**values | {name: np.array(values[name], type) for name, type in types.items()})
            selection._check_types()
            selection._check()
        except FileNotFoundError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"`path={str(path)!r}` does not hold a saved Selection: {error}") from error
        return selection

    def _check(self) -> None:
        """Check the fields of a selection that comes from a file."""
        k = len(self.indices)
        if any(value.ndim != 1 for value in (self.indices, self.gains, self.round_starts, self.covered)):
            raise ValueError("an array has several dimensions")
        if len(self.gains) != k or len(self.covered) not in (0, k) or len(np.unique(self.indices)) != k:
            raise ValueError(f"`indices`, `gains` and `covered` do not belong together: {k} rows")
        starts = self.round_starts
        if len(starts) and (starts[0] != 0 or (np.diff(starts) <= 0).any() or starts[-1] >= max(k, 1)):
            raise ValueError("`round_starts` do not rise from 0, below the number of picks")
        if len(self.row_digests) not in (0, k):
            raise ValueError(f"`row_digests` has {len(self.row_digests)} values, for {k} rows")

    def _check_types(self) -> None:
        """Check the types of the fields that are no arrays."""
        if not isinstance(self.parameters, dict) or not isinstance(self.method, str):
            raise ValueError("`parameters` or `method` has another type")
        for name in ("row_digests", "digest_columns"):
            values = getattr(self, name)
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise ValueError(f"`{name}` is no list of texts")
        if not isinstance(self.target, dict):
            raise ValueError("`target` is no object")
        if not isinstance(self.left_out, dict) or not all(type(count) is int for count in self.left_out.values()):
            raise ValueError("`left_out` are no numbers of rows")

    @property
    def _features(self) -> str:
        return f"{int(self.covered[-1]) if len(self.covered) else 0:,}/{self.pool_coverage:,}"


def facts(selection: Selection) -> dict[str, str]:
    """Return what a selection says of itself, by name, for people."""
    has_share = bool(len(selection.covered) and selection.pool_coverage)
    share = f" ({selection.covered[-1] / selection.pool_coverage:.1%})" if has_share else ""
    rows = f"{len(selection):,} of {selection.pool_rows:,}" if selection.pool_rows else f"{len(selection):,}"
    return {
        "method": selection.method,
        "rows": rows,
        "gain": f"{selection.gain:.6g}",
        "rounds": f"{len(selection.round_starts):,}",
        "features covered": f"{selection._features}{share}",
        **{f"left out by {reason}": f"{count:,} rows" for reason, count in selection.left_out.items()},
    }


def table(caption: str, values: Mapping[str, str]) -> str:
    """Return a table in HTML with a line for each value, all escaped."""
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in values.items())
    return f"<table><caption>{escape(caption)}</caption>{lines}</table>"
