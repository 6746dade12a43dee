"""Words of the command line become values of arguments, by the annotation that the function has for them.

Lists are repeated options. Mappings are `name=value`, repeated, or a JSON object. A function is `file.py:name`.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from .._places import Place
from .signatures import OPTIONS

DEFAULT_SAE = "default"
MANY = list[str]  # of an option that is repeated
FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<name>[^\W\d]\w*)")
SHARE = re.compile(r"(?P<place>.+)@(?P<share>\d*\.?\d+)")
SELECTION = ".selection.json"
TARGET = "TargetSource"  # the annotation of an argument whose words have places in them
IS_TRUSTED = ContextVar("IS_TRUSTED", default=True)  # whether the words that are read now are the user's own


def value_of(name: str, annotation: str, words: Any, is_trusted: bool = True) -> Any:
    """Return the value of an argument.

    Args:
        words: the text of the command line, a list of texts where an option is repeated, or a value that cyclopts
            has converted already.
        is_trusted: whether a function that they name may run; not where the words come from a receipt.

    Raises:
        ValueError: If the words have another form, or name a function and are not trusted; the message names the
            argument.
        OSError: If what they name cannot be read.
    """
    if words is None:
        return None
    before = IS_TRUSTED.set(is_trusted)
    try:
        return form_of(annotation).read(name, words)
    finally:
        IS_TRUSTED.reset(before)


def form_of(annotation: str) -> Form:
    """Return how arguments of an annotation are written."""
    return FORMS.get(annotation, Form())


def _labels(name: str, text: str) -> Any:
    from ..sae.label_sources import load_labels

    return load_labels(text)


def _engine(name: str, text: str) -> Any:
    """Return the name of an engine, or the `Ray` that a JSON object has the arguments of."""
    if not text.startswith("{"):
        return text
    from ..engines.engine import Ray

    return Ray(**_mapping(name, [text]))


def receipt_of(out: Path, suffix: str) -> Path:
    """Return the path of a file beside a result: `subset.parquet` has `subset.yaml` and `subset.selection.json`."""
    return out.with_name(f"{out.stem}{suffix}")


def _unchanged(name: str, words: Any) -> Any:
    return words


def _amount(name: str, text: str) -> Any:
    """Return a budget: a number where there is no word, which a number as text would need."""
    if re.fullmatch(r"\d[\d_]*", text):
        return int(text)
    return float(text) if re.fullmatch(r"\d*\.\d+", text) else text


def _rows(name: str, text: Any) -> Any:
    return Place.parse(name, text).load(name) if isinstance(text, str) else text  # loaded with its options


def _sae(name: str, text: str) -> Any:
    """Return what `load_sae` takes; a JSON object holds its arguments."""
    if text.startswith("{"):
        from ..sae.loading import load_sae

        return load_sae(**_mapping(name, [text]))
    return None if text == DEFAULT_SAE else text


def _loaded_sae(name: str, text: str) -> Any:
    from ..sae.loading import load_sae

    return load_sae(_sae(name, text))


def _function_or_text(name: str, text: str) -> Any:
    """Return the text, or the function that `file.py:name` names."""
    match = FUNCTION.fullmatch(text)
    if match is None:
        return text
    if not IS_TRUSTED.get():
        raise ValueError(f"the `{name}` of the receipt is a function, {text}, which is not run from there")
    if not Path(match["file"]).is_file():
        raise FileNotFoundError(f"`{name}={text!r}`: there is no file {match['file']!r}")
    functions = runpy.run_path(match["file"])
    if not callable(functions.get(match["name"])):
        raise ValueError(f"`{name}={text!r}`: {match['file']} has no function {match['name']}")
    return functions[match["name"]]


def _columns(name: str, texts: list[str]) -> Any:
    return _function_or_text(name, texts[0]) if len(texts) == 1 else texts


def _names(name: str, texts: list[str]) -> list[str]:
    return [part for text in texts for part in text.split(",")]


def _numbers_and_names(name: str, texts: list[str]) -> list[int | str]:
    return [int(part) if re.fullmatch(r"-?\d+", part) else part for part in _names(name, texts)]


def _numbers(name: str, texts: list[str]) -> list[int]:
    try:
        return [int(part) for part in _names(name, texts)]
    except ValueError as error:
        raise ValueError(f"`{name}={','.join(texts)!r}` must be numbers of rows, such as 7,3") from error


def _number_or_numbers(name: str, texts: list[str]) -> int | list[int]:
    numbers = _numbers(name, texts)
    return numbers[0] if len(numbers) == 1 else numbers


def _concepts(name: str, texts: list[str]) -> Any:
    """Return features by number or name: `551`, `recipe`, `551=2.0`, or JSON."""
    if texts[0].startswith(("{", "[")):
        value = _json_or_text(name, texts[0])
        return {_concept(key): number for key, number in value.items()} if isinstance(value, dict) else value
    pairs = list(map(_threshold, texts))
    if all(value is None for _, value in pairs):
        return [concept for concept, _ in pairs]
    return dict(pairs)


def _concept(text: str) -> int | str:
    return int(text) if re.fullmatch(r"\d+", text) else text


def _threshold(text: str) -> tuple[int | str, float | None]:
    """Split `recipe=2.0`; a name may have signs of equality too."""
    name, sign, number = text.rpartition("=")
    try:
        return (_concept(name.strip()), float(number)) if sign else (_concept(text.strip()), None)
    except ValueError:
        return _concept(text.strip()), None


def _methods(name: str, texts: list[str]) -> Any:
    if texts[0].startswith("{"):
        return _mapping(name, texts)
    return [_function_or_text(name, part) for part in _names(name, texts)]


def _json_or_text(name: str, text: str) -> Any:
    """Return a JSON object or list, or the text itself."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"`{name}={text!r}` is not JSON: {error}") from error


def _mapping(name: str, texts: list[str]) -> dict[str, Any]:
    """Return a mapping of JSON objects, and of `name=value`, whose value is JSON or else a text."""
    mapping: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if text.startswith("{"):
            mapping |= _json_or_text(name, text)
        elif sign and key:
            mapping[key.strip()] = _json_value(value)
        else:
            raise ValueError(f"`{name}={text!r}` must be name=value, or a JSON object")
    return mapping


def _json_value(text: str) -> Any:
    if text == "None":  # as the options' docstrings write it
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _rows_or_texts(name: str, words: list[str]) -> Any:
    """Return numbers of rows, the rows of a file, or else texts."""
    if all(re.fullmatch(r"\d+(,\d+)*", word) for word in words):
        return _numbers(name, words)
    return _rows(name, words[0]) if len(words) == 1 and Path(words[0]).expanduser().exists() else words


def _training_config(name: str, texts: list[str]) -> Any:
    """Return a preset, or one with other values: `topk`, `d_sae=1024`."""
    from ..training.config import TRAINING_PRESETS, SaeTrainingConfig

    presets = [text for text in texts if "=" not in text and not text.startswith("{")]
    values = _mapping(name, [text for text in texts if text not in presets])
    if len(presets) > 1 or not values:
        return ",".join(presets)  # a single preset, or an error of the function
    if unknown := values.keys() - SaeTrainingConfig.__dataclass_fields__.keys():
        fields = ", ".join(SaeTrainingConfig.__dataclass_fields__)
        raise ValueError(f"`{name}` has no field {min(unknown)!r}; it has: {fields}")
    if presets and presets[0] not in TRAINING_PRESETS:
        return presets[0]
    return replace(TRAINING_PRESETS[presets[0]] if presets else SaeTrainingConfig(), **values)


def _torch_type(name: str, text: str) -> Any:
    import torch

    kind = getattr(torch, text.removeprefix("torch."), None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"`{name}={text!r}` must be a type of torch, such as float32 or bfloat16")
    return kind


def _target(name: str, texts: list[str]) -> Any:
    """Return the rows of a target: `PLACE`, or `maths=PLACE` for each of several, with shares `maths=PLACE@0.7`."""
    parts = [split_target(text) for text in texts]
    if len(parts) == 1 and not parts[0].name:
        return _rows(name, parts[0].place)
    target: dict[str, Any] = {}
    for text, part in zip(texts, parts, strict=True):
        if not part.name:
            raise ValueError(f"`{name}={text!r}` has no name; of several targets each has one, such as maths={text}")
        if part.name in target:
            raise ValueError(f"`{name}` has the name {part.name!r} twice")
        rows = _rows(f"{name}[{part.name!r}]", part.place)
        target[part.name] = (rows, float(part.share)) if part.share else rows
    return target


class TargetWord(NamedTuple):
    """Hold the parts of `maths=PLACE@0.7`, of which the name and the share may be empty."""

    name: str
    place: str
    share: str

    def __str__(self) -> str:
        return f"{self.name}{'=' if self.name else ''}{self.place}{'@' if self.share else ''}{self.share}"


def split_target(text: str) -> TargetWord:
    """Split a word of the argument `target`; a path that exists is one, whatever it is called."""
    if Path(text).expanduser().exists() or "=" not in text:
        return TargetWord("", text, "")
    name, _, place = text.partition("=")
    match = SHARE.fullmatch(place)
    if match is None or Path(place).expanduser().exists():
        return TargetWord(name, place, "")
    return TargetWord(name, match["place"], match["share"])


def _selection(name: str, text: str) -> Any:
    """Return the selection that `Selection.save` wrote, that stands beside rows, or of a published subset."""
    from ..publishing.published import load_selection
    from ..selection.result import Selection

    for file in (Path(text), receipt_of(Path(text), SELECTION)):
        if file.name.endswith(SELECTION) and file.is_file():
            return Selection.load(file)
    if text.endswith(".json"):
        return Selection.load(text)
    return load_selection(text)


def _earlier(name: str, text: str) -> Any:
    """Return an earlier selection, or else the rows of a file."""
    is_rows = Path(text).is_file() and not text.endswith(".json")
    if (is_rows and not receipt_of(Path(text), SELECTION).is_file()) or ":" in text:
        return _rows(name, text)
    return _selection(name, text)


@dataclass(frozen=True)
class Form:
    """Say how an argument is written, and how its words are read."""

    read: Callable[[str, Any], Any] = _unchanged
    kind: Any = str
    """The type that cyclopts converts to; `Path` for a word that may name a file, and stays a word."""


FORMS: Mapping[str, Form] = {
    "int": Form(kind=int),
    "float": Form(kind=float),
    "bool": Form(kind=bool),
    "float | str": Form(_amount),
    "str | Path": Form(kind=Path),
    "Dataset": Form(_rows, Path),
    "Dataset | DatasetDict": Form(kind=Path),  # a subset, see receipts.py
    "Dataset | Mapping[str, Dataset]": Form(_rows, Path),
    "Dataset | str | Path": Form(_rows, Path),
    "Dataset | Sequence[str]": Form(_rows, Path),
    "References": Form(_rows, Path),
    TARGET: Form(_target, MANY),
    "References | Sequence[int]": Form(_rows_or_texts, MANY),
    "SaeSource": Form(_sae, Path),
    "SparseAutoencoder": Form(_loaded_sae, Path),
    "Selection": Form(_selection, Path),
    "Selection | Mapping[str, Selection]": Form(_selection, Path),
    "Selection | Dataset": Form(_earlier, Path),
    "Dataset | Selection": Form(kind=Path),  # a subset, see receipts.py
    "Labels": Form(_labels, Path),
    "str | Ray": Form(_engine),
    "Labeller": Form(_function_or_text),
    "str | Path | SparseAutoencoder": Form(_sae, Path),
    "TextSource": Form(_columns, MANY),
    "int | str | Collection[int | str]": Form(_numbers_and_names, kind=MANY),
    "Sequence[int]": Form(_numbers, MANY),
    "int | Sequence[int]": Form(_number_or_numbers, MANY),
    "Concepts": Form(_concepts, MANY),
    "Boost": Form(_concepts, MANY),
    "Methods": Form(_methods, MANY),
    "str | MethodFunction": Form(_function_or_text),
    "MethodFunction": Form(_function_or_text),
    "Quota": Form(_json_or_text),
    "License": Form(_json_or_text),
    "SourceName": Form(_json_or_text),
    "Mapping[str, Any]": Form(_mapping, MANY),
    OPTIONS: Form(_mapping, MANY),
    "str | SaeTrainingConfig": Form(_training_config, MANY),
    "torch.dtype": Form(_torch_type),
}
"""How arguments are written, by the annotation that the function has for them; all others are one text."""
