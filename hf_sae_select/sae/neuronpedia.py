"""Explanations of features in Neuronpedia's export files, read as labels. No torch.

An export has the files `v1/<model>/<source>/explanations/batch-<n>.jsonl.gz`. Each line is a JSON object of one
explanation: `modelId`, `layer` (the source, such as `8-res-jb`), `index` (the feature, as a string), `description`,
`explanationModelName`, `typeName`, and others that are not read.
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .._hub import Repo, subfolder_prefix
from .labels import Label, Labels, one_line

if TYPE_CHECKING:  # an annotation only: that file loads torch
    from .model import SparseAutoencoder

BATCH = re.compile(r".*\.jsonl(\.gz)?")
LISTED = 20  # sources in an error
LONGEST_LINE = 2**20  # bytes; an explanation with its embedding has a few thousand
# What a file of n bytes may hold: JSON of embeddings packs to a third, a file made to do harm to a thousandth.
LEAST_BYTES, EXPANSION = 2**26, 100
LINES_PER_FEATURE, LEAST_LINES = 64, 2**16  # of an export, empty ones too; a feature has one explanation, or a few


def read_explanations(repo: Repo, sae: SparseAutoencoder, subfolder: str | None) -> Labels:
    """Return the labels in an export: the first explanation of each feature.

    Raises:
        FileNotFoundError: there is no export.
        ValueError: there are several, a file is damaged or explains nothing, or the explanations are of another SAE.
    """
    config = sae.config
    most_lines = max(LEAST_LINES, LINES_PER_FEATURE * config.d_sae)
    names: dict[int, str] = {}
    explainers: Counter[str] = Counter()
    origins: set[tuple[str, str]] = set()
    unreadable = later = 0
    for path in _batches(repo, subfolder):
        for line in _lines(repo.fetch(path), path, most_lines):
            explanation = _explanation(line)
            if explanation is None:
                unreadable += 1
                continue
            feature, name, origin, explainer = explanation
            origins.add(origin)
            if feature >= config.d_sae:
                raise ValueError(
                    f"{path} explains feature {feature:,}, but `sae` has d_sae={config.d_sae:,}: it is of another SAE"
                )
            if feature in names:
                later += 1
            else:
                names[feature] = name
                explainers[explainer] += 1
    if not names:
        raise ValueError(
            f"no line of the export in {repo.name} explains a feature ({unreadable:,} are something else); pass "
            "Neuronpedia's files of explanations as `export`"
        )
    _check_origins(origins, config.model, config.hook)
    if unreadable:
        warnings.warn(f"{unreadable:,} lines of the export are no explanations, and were left out", stacklevel=3)
    model, source = next(iter(origins), ("", ""))
    metadata = {
        "method": "neuronpedia",
        "model": model,
        "source": source,
        "explainers": dict(sorted(explainers.items())),
        "named": len(names),
        "later_explanations": later,
        "unreadable_lines": unreadable,
    }
    labels = [Label(feature, name) for feature, name in names.items()]
    return Labels(labels, config.d_sae, sae.digest(), metadata)


def _batches(repo: Repo, subfolder: str | None) -> list[str]:
    """Return the files of one source, in the order of their numbers."""
    prefix = subfolder_prefix(subfolder)
    paths = [path for path in repo.files() if path.startswith(prefix) and BATCH.fullmatch(path)]
    paths = [path for path in paths if "/explanations/" in f"/{path}"] or [p for p in paths if "/" not in p]
    folders = sorted({PurePosixPath(path).parent.as_posix() for path in paths})
    if not folders:
        raise FileNotFoundError(
            f"no explanations/*.jsonl.gz in {repo.name}{f' under {prefix}' * bool(prefix)}; pass a folder or a Hub "
            "dataset with files of Neuronpedia's export as `export`"
        )
    if len(folders) > 1:
        sources = ", ".join(folder.removesuffix("/explanations") for folder in folders[:LISTED])
        raise ValueError(f"{repo.name} has explanations of several SAEs; pass one as `subfolder`: {sources}")
    return sorted(paths, key=lambda path: ([int(number) for number in re.findall(r"\d+", Path(path).name)], path))


def _lines(file: Path, path: str, most: int) -> Iterator[bytes]:
    """Yield the lines of a file that may be anybody's; empty ones are left out.

    Raises:
        ValueError: it is damaged or empty, far larger than an export, or has more than `most` lines.
    """
    bound, read, number = max(LEAST_BYTES, EXPANSION * file.stat().st_size), 0, 0
    opened: Any = gzip.open(file) if path.endswith(".gz") else file.open("rb")
    with opened as stream:
        try:
            while line := stream.readline(LONGEST_LINE):
                read, number = read + len(line), number + 1
                if read > bound or len(line) == LONGEST_LINE:
                    raise ValueError(f"it is larger than {bound:,} bytes, or a line than {LONGEST_LINE:,}")
                if number > most:
                    raise ValueError(f"it has more than {most:,} lines, too many for the features of `sae`")
                if line.strip():
                    yield line
            if not read:
                raise ValueError("it is empty; download it again")
        except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"cannot read {path}: {error}") from error


def _explanation(line: bytes) -> tuple[int, str, tuple[str, str], str] | None:
    """Return the feature, the name, model and source, and the explainer of a line; None if it is no explanation."""
    try:
        values = json.loads(line)
        index, description = values["index"], values["description"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    is_index = isinstance(index, int) and not isinstance(index, bool) and index >= 0
    is_text = isinstance(index, str) and re.fullmatch(r"[0-9]{1,9}", index)
    if not (is_index or is_text) or not isinstance(description, str) or not (name := one_line(description)):
        return None
    model, source, explainer = (
        one_line(value) if isinstance(value := values.get(key), str) else ""
        for key in ("modelId", "layer", "explanationModelName")
    )
    return int(index), name, (model, source), explainer


def _check_origins(origins: set[tuple[str, str]], model: str, hook: str) -> None:
    """Check that explanations are of one SAE, and of the model and the layer that ours reads, where they say it.

    Raises:
        ValueError: they are not.
    """
    if len(origins) > 1:
        first, second = sorted(origins)[:2]
        raise ValueError(f"the export has explanations of several SAEs: {'/'.join(first)} and {'/'.join(second)}")
    for name, source in origins:
        own, other = (re.sub("[^a-z0-9]", "", text.lower()) for text in (model.rpartition("/")[2], name))
        if name and not (other in own or own in other):
            raise ValueError(
                f"the export is of an SAE on {name}, but `sae` reads {model}; pass the export of its own source"
            )
        layers = [re.search(r"\d+", text) for text in (source, hook)]
        if layers[0] and layers[1] and source[0].isdigit() and layers[0][0] != layers[1][0]:
            raise ValueError(
                f"the export is of {source}, in layer {layers[0][0]}, but `sae` reads {hook}; pass the export of its "
                "own source"
            )
