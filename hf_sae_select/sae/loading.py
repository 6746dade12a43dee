"""Where an SAE comes from: the package itself, a folder or a Hub repo in any of the known layouts, or one in hand."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from .._hub import Repo, Token
from .formats import FORMATS, REFUSED, SAYABLE, Format, Layout, Published
from .model import SparseAutoencoder
from .serialization import check_tensors, read_json, shapes
from .tensor_files import Weights

DEFAULT_SAE = Path(__file__).parent / "default"
PACKAGED = {"package": "hf-sae-select"}  # the `source` of that one
SHOWN = 20  # names listed in an error

SaeSource = str | Path | SparseAutoencoder


@dataclass(frozen=True)
class Found:
    """Name an SAE in a repo: its weights file, what it is called, and the formats that have such a file."""

    path: str
    name: str
    formats: Sequence[tuple[Format, list[str]]]
    """Each with the config files that it reads."""


def load_sae(
    source: SaeSource | None = None,
    *,
    subfolder: str | None = None,
    filename: str | None = None,
    revision: str | None = None,
    format: str = "auto",
    config: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    token: Token = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    encoder_only: bool = False,
) -> SparseAutoencoder:
    """Return the SAE at `source`, whatever its layout.

    Args:
        source: a folder, a file of weights, a Hub repo, or an SAE, which is returned as it is; by default the packaged
            one.
        subfolder: which SAE of a repo that holds many; without it, the error of such a repo lists them.
        filename: the weights file, for SAEs that are one file, such as `layer12.sae.pt`.
        revision: branch, tag or commit of a Hub repo; resolved to a commit once and kept in `config.source`.
        format: the layout, by its name in `formats.FORMATS`; by default it is recognised.
        config: what the repo does not say or says wrongly: fields of `SaeConfig`, such as `model`, `hook` or `k`, or
            keys of the publisher's own config file, such as `sparsity_include_decoder_norm`.
        encoder_only: leave out what only `decode` needs; the decoder is not read unless the encoder depends on it.

    Raises:
        FileNotFoundError: no such folder, repo, revision or SAE in it.
        PermissionError: the repo is gated or private.
        OSError: the Hub is out of reach.
        ValueError: a layout that is not known, no feed-forward encoder, tensors that do not fit the config.

    Example: ``load_sae("google/gemma-scope-2b-pt-res", subfolder="layer_12/width_16k/average_l0_82")``.
    """
    if isinstance(source, SparseAutoencoder):
        return source
    known = ["auto", *(each.name for each in FORMATS)]
    if format not in known:
        raise ValueError(f"unknown `format={format!r}`; known: {', '.join(known)}")
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"`config={config!r}`: pass a mapping of names to values, such as {{'k': 50}}")
    packaged, source = source is None, DEFAULT_SAE if source is None else source
    if not isinstance(source, str | Path):
        raise TypeError(f"`sae` is {source!r}; pass a folder, the id of a Hub repo or a SparseAutoencoder")
    if Path(source).is_file():
        repo, filename = Repo(str(Path(source).parent), Path(source).parent), Path(source).name
        files = [file.name for file in Path(source).parent.iterdir() if file.is_file()]
    else:
        repo = Repo.at(source, revision, token, cache_dir, local_files_only)
        files = repo.files()
    formats = [each for each in FORMATS if format in ("auto", each.name)]
    found = _choose(_find(files, formats, filename), files, repo, subfolder, filename)
    layout, weights, name = _recognised(repo, found, config or {})
    _check(weights, layout, found.path)
    where = PACKAGED if packaged else repo.source(found.path)
    kept = layout.config.source if name == "native" and not where else where | {"format": name}
    if where and config:
        kept |= {"config": dict(config)}
    read = {each: _read(weights, layout, each) for each in layout.wanted(encoder_only)}
    tensors = {each: tensor.to(dtype).contiguous() for each, tensor in layout.folded(read, encoder_only).items()}
    check_tensors(tensors, f"{found.path}, as folded and in {dtype},")
    return SparseAutoencoder.of(replace(layout.config, source=kept), tensors).to(device)


def _find(files: Sequence[str], formats: Sequence[Format], filename: str | None) -> list[Found]:
    """Return the SAEs among the files of a repo, as far as file names tell."""
    found, there = [], frozenset(files)
    for path in files:
        fitting, name = [], path
        for each in formats:
            match = re.fullmatch(each.weights, path)
            if match and (configs := _config_files(each, match, there)) is not None:
                fitting.append((each, configs))
                name = match.groupdict().get("name", path) or ""
        if fitting:
            found.append(Found(path, name, fitting))
    # A bare `.pt` may be anything, such as the state of an optimizer: it is an SAE only where nothing else is.
    sure = [each for each in found if not all(format.bare for format, _ in each.formats)]
    return found if filename else sure or found


def _config_files(format: Format, match: re.Match[str], files: Collection[str]) -> list[str] | None:
    """Return the config files of the SAE that `match` found, or None if one that must be there is not."""
    folder = match.groupdict().get("name", match[0].rpartition("/")[0])
    paths = []
    for config in format.configs:
        name = config.removesuffix("?").replace("{stem}", Path(match[0]).stem)
        path = name[1:] if name.startswith("/") else f"{folder}/{name}" if folder else name
        if path in files:
            paths.append(path)
        elif not config.endswith("?"):
            return None
    return paths


def _choose(
    found: list[Found], files: Sequence[str], repo: Repo, subfolder: str | None, filename: str | None
) -> Found:
    """Return the one SAE that is meant, or say which there are."""
    if not found:
        for pattern, reason in REFUSED:
            if any(re.search(pattern, path) for path in files):
                raise ValueError(f"{repo.name} holds {reason}: no feed-forward encoder, so it is not read")
        shown = ", ".join(files[:SHOWN]) or "nothing"
        raise ValueError(f"no SAE in {repo.name} in a layout that is known; there is: {shown}")
    folder = (subfolder or "").strip("/")
    asked = "/".join(part for part in (folder, filename) if part)
    if filename:
        left = [each for each in found if each.path == asked]
    else:
        left = [each for each in found if each.name == folder] if subfolder else []
        left = left or [each for each in found if not folder or each.name.startswith(f"{folder}/")]
    if len(left) == 1:
        return left[0]
    listing = left or found
    names = [each.name or each.path for each in listing]
    if filename or len(set(names)) < len(names):  # two files of one SAE
        names = [each.path for each in listing]
    near = difflib.get_close_matches(asked, names, n=SHOWN, cutoff=0.0) if asked else names[:SHOWN]
    more = f" and {len(names) - len(near)} more" if len(names) > len(near) else ""
    listed = f"{', '.join(near)}{more}"
    if left:
        raise ValueError(f"{repo.name} holds {len(left)} SAEs; choose one with `subfolder` or `filename`: {listed}")
    raise FileNotFoundError(f"no SAE at {asked!r} in {repo.name}; nearest first: {listed}")


def _recognised(repo: Repo, found: Found, given: Mapping[str, Any]) -> tuple[Layout, Weights, str]:
    """Open the weights, and read the config by the first format that the config and the tensors are of."""
    weights: Weights | None = None
    for each, paths in found.formats:
        config: dict[str, Any] = {}
        for path in reversed(paths):  # what lies beside the weights outdoes what lies at the top
            config |= _read_config(repo.fetch(path))
        if not each.marks.items() <= config.items():
            continue
        weights = weights or Weights.open(repo.fetch(found.path))
        if each.tensors <= weights.shapes.keys():
            _check_given(given, config, each)
            # Of a local folder the whole path is asked: the folders above it may have the publisher's names.
            name = repo.name if repo.revision else Path(repo.name).resolve().as_posix()
            published = Published(name, found.path, {**config, **given}, weights.shapes, weights.scalars, given)
            return _layout(each, published), weights, each.name
    shown = ", ".join(sorted(weights.shapes)[:SHOWN]) if weights else "nothing that was opened"
    raise ValueError(f"`{found.path}` in {repo.name} is an SAE of no layout that is known; its tensors: {shown}")


def _layout(format: Format, published: Published) -> Layout:
    try:
        return format.read(published)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"the config beside `{published.path}` is not as {format.name} writes it ({error}); mend it, or say the "
            "value with `config={...}`"
        ) from error


def _check_given(given: Mapping[str, Any], config: Mapping[str, Any], format: Format) -> None:
    """Refuse what the caller says where nothing asks for it: a misspelt name would be passed over in silence."""
    sections = [value for value in config.values() if isinstance(value, Mapping)]
    known = SAYABLE | format.options | set(config).union(*sections)
    if unknown := [name for name in given if name not in known]:
        near = difflib.get_close_matches(str(unknown[0]), sorted(known), n=SHOWN, cutoff=0.4)
        raise ValueError(
            f"unknown `config` key {unknown[0]!r}; nearest: {', '.join(near) or 'none'}; widths, activation and where "
            "it comes from are read and cannot be said"
        )


def _read_config(file: Path) -> dict[str, Any]:
    if file.suffix == ".json":
        return read_json(file)
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"cannot read {file.name}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file.name} is no mapping of names to values")
    return values


def _check(weights: Weights, layout: Layout, path: str) -> None:
    """Refuse tensors that are missing, unexpected, or of another shape than the encoder's width says."""
    sizes = shapes(layout.config)
    gates = dict.fromkeys(("b_gate", "b_mag", "r_mag", "scaling"), sizes["b_enc"])
    for ours, name in layout.names.items():
        theirs = layout.theirs(ours)
        if theirs not in weights.shapes:
            there = ", ".join(sorted(weights.shapes)[:SHOWN])
            raise ValueError(f"tensor `{theirs}` is missing from {path}; there is: {there}")
        shape, expected = weights.shapes[theirs], (sizes | gates)[ours]
        if name.endswith(".T"):
            expected = expected[::-1]
        if shape != expected and not (ours == "threshold" and shape in ((), (1,))):
            raise ValueError(f"tensor `{theirs}` in {path} is {list(shape)}; it should be {list(expected)}")
    known = {layout.theirs(ours) for ours in layout.names} | layout.ignored
    if unexpected := sorted(weights.shapes.keys() - known):
        raise ValueError(f"tensor `{unexpected[0]}` in {path} is unexpected; expected: {', '.join(sorted(known))}")


def _read(weights: Weights, layout: Layout, ours: str) -> Tensor:
    theirs = layout.theirs(ours)
    try:
        tensor = weights.read(theirs)
    except Exception as error:  # a file cut short inside a tensor shows only now
        raise ValueError(f"cannot read tensor `{theirs}`: {error}") from error
    if not (layout.logarithm and ours == "threshold"):  # the logarithm of 0 is no finite number
        check_tensors({theirs: tensor}, "the weights")
    return (tensor.T if layout.names[ours].endswith(".T") else tensor).float()
