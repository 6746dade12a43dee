"""Read an SAE of any format: its config, and its tensors folded into ours."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from .._hub import Repo, Token, check_token
from .._validation import check_choice, check_flag, check_text, check_type, is_hub_id
from .candidates import LISTED, Candidate, choose, find_candidates
from .config import SaeConfig
from .formats import FORMATS
from .formats.format import Format
from .formats.layout import Layout
from .formats.published import OVERRIDABLE, Published
from .labels_beside import LabelsPlace
from .serialization import FLOATS, check_config_size, check_numbers, read_json
from .tensor_files import TensorFile

AUTO = "auto"
MOST_YAML, MOST_BRACKETS, MOST_INDENT = 2**16, 1000, 200
MOST_ECHOED = 500  # characters of an error's beginning, and of its end


def read_sae(
    source: str | Path,
    *,
    subfolder: str | None,
    filename: str | None,
    revision: str | None,
    format: str,
    overrides: Mapping[str, Any] | None,
    dtype: torch.dtype,
    token: Token,
    cache_dir: str | Path | None,
    local_files_only: bool,
    encoder_only: bool,
) -> tuple[SaeConfig, dict[str, Tensor], LabelsPlace | None]:
    """Read the SAE at `source`, and where its labels are, if it has any.

    The arguments are those of `from_pretrained`, which calls `overrides` `config`.
    """
    check_arguments(
        source=source,
        subfolder=subfolder,
        filename=filename,
        revision=revision,
        format=format,
        overrides=overrides,
        dtype=dtype,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        encoder_only=encoder_only,
    )
    overrides = dict(overrides or {})
    if Path(source).is_file():
        repo, filename = Repo(str(Path(source).parent), Path(source).parent), Path(source).name
        files = [file.name for file in Path(source).parent.iterdir() if file.is_file()]
    else:
        repo = Repo.at(source, revision, token, cache_dir, local_files_only)
        files = repo.files()
    formats = [known for known in FORMATS if format in (AUTO, known.name)]
    candidates = find_candidates(files, formats, repo.name)
    candidate = choose(candidates, subfolder, filename, repo.name)
    layout, weights, format_name = _recognise(repo, candidate, overrides)
    if repo.revision is not None:
        _check_remote_model(layout.config.model, overrides, repo.name)
    if not (layout.has_decoder or encoder_only):
        raise ValueError(
            f"`{candidate.path}` is the encoder of one layer of a cross-layer transcoder, whose decoder writes to "
            "several layers; load the encoder alone with `encoder_only=True`"
        )
    _check_shapes(weights, layout, candidate.path)

    # Fold in float32, or in the wider type that the caller asks for.
    precision = torch.promote_types(torch.float32, dtype)
    needed = {
        name: _read_tensor(weights, layout, name, candidate.path).to(precision) for name in layout.needed(encoder_only)
    }
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in layout.fold(needed, encoder_only).items()}
    for name, tensor in tensors.items():
        check_numbers(name, tensor, f"{candidate.path}, folded and converted to {dtype},")
    origin = repo.source(candidate.path)
    config = replace(layout.config, source=_source(origin, format_name, overrides, layout.config))
    return config, tensors, LabelsPlace.beside(repo, candidate.path, files)


def check_arguments(
    *,
    source: Any,
    subfolder: Any,
    filename: Any,
    revision: Any,
    format: Any,
    overrides: Any,
    dtype: Any,
    token: Any,
    cache_dir: Any,
    local_files_only: Any,
    encoder_only: Any,
) -> None:
    """Check the arguments of `from_pretrained`, before any file is read."""
    if not isinstance(source, str | Path):
        raise TypeError(f"`sae` is a {type(source).__name__}; pass a folder, a file or the id of a Hub repo")
    if source == "":
        raise ValueError("`sae=''` is empty; pass a folder, a file or the id of a Hub repo")
    for name, value in (("subfolder", subfolder), ("filename", filename)):
        check_type(name, value, str, "a string", optional=True)
    check_text("revision", revision, optional=True)
    check_choice("format", format, [AUTO, *(known.name for known in FORMATS)])
    if overrides is not None and not isinstance(overrides, Mapping):
        raise TypeError(f"`config={overrides!r}` must be a mapping of names to values, such as {{'k': 50}}")
    check_type("dtype", dtype, torch.dtype, "a floating-point torch.dtype, such as torch.float32")
    check_choice("dtype", dtype, FLOATS)
    check_token(token)
    check_type("cache_dir", cache_dir, str | Path, "a folder", optional=True)
    check_flag("local_files_only", local_files_only)
    check_flag("encoder_only", encoder_only)
    if "\0" in str(source):
        raise ValueError(f"`sae={str(source)!r}` contains a null character; pass a folder, a file or a Hub id")
    if not Path(source).exists() and (isinstance(source, Path) or not is_hub_id(source)):
        raise FileNotFoundError(
            f"`sae`: {str(source)!r} is neither a local folder nor a valid Hub repo id (owner/name), nor a file"
        )


def parse_device(device: Any) -> torch.device:
    """Return the device to load to; one without memory, `meta`, is allowed.

    Raises:
        TypeError: If it is neither a string nor a device.
        ValueError: If it is not available here.
    """
    check_type("device", device, str | torch.device, "a string such as 'cpu' or 'cuda:0', or a torch.device")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"`device={str(device)!r}` is not available here: {reason}; pass 'cpu', for example"
        ) from error


def _check_remote_model(model: str, overrides: Mapping[str, Any], repo: str) -> None:
    """Check that a model that a Hub repo names is a Hub id, and that transformers would not read a folder instead.

    A caller's own `config` may name a folder.
    """
    if model in map(str, overrides.values()):
        return
    remedy = "pass the right one with `config={'model': ...}`"
    if not is_hub_id(model):
        raise ValueError(f"the SAE in {repo} names the model {model!r}, which is no Hub id; {remedy}")
    if Path(model).exists():
        raise ValueError(
            f"the SAE in {repo} names the model {model!r}, and transformers would read the folder {model!r} here "
            f"instead of the Hub's model; rename the folder, work in another one, or {remedy}"
        )


def _recognise(repo: Repo, candidate: Candidate, overrides: Mapping[str, Any]) -> tuple[Layout, TensorFile, str]:
    """Open the weights, and read the config by the first format whose values and tensors match."""
    weights: TensorFile | None = None
    for format, paths in candidate.formats:
        config: dict[str, Any] = {}
        for path in reversed(paths):  # earlier files take precedence
            config |= _read_config(repo.fetch(path))
        if not format.required_values.items() <= config.items():
            continue
        weights = weights or TensorFile.open(repo.fetch(candidate.path))
        if format.required_tensors <= weights.shapes.keys():
            _check_overrides(overrides, config, format)
            # Formats also search the names of the folders above a local folder, which may be the publisher's names.
            name = repo.name if repo.revision else Path(repo.name).resolve().as_posix()
            published = Published(
                name,
                candidate.path,
                {**config, **overrides},
                weights.shapes,
                weights.scalars,
                weights.values,
                overrides,
            )
            return _layout(format, published), weights, format.name
    tensors = f"; its tensors: {', '.join(sorted(weights.shapes)[:LISTED])}" if weights else ""
    tried = ", ".join(format.name for format, _ in candidate.formats)
    raise ValueError(f"`{candidate.path}` in {repo.name} is not an SAE of a known format (tried: {tried}){tensors}")


def _layout(format: Format, published: Published) -> Layout:
    try:
        return format.read(published)
    except ValueError as error:
        message = str(error)
        if published.path not in message:
            message = f"`{published.path}`: {message}"
        if len(message) > 2 * MOST_ECHOED:  # it repeats a value of the file
            message = f"{message[:MOST_ECHOED]} … {message[-MOST_ECHOED:]}"
        raise ValueError(message) from error
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        reason = repr(error)[:MOST_ECHOED]
        raise ValueError(
            f"the config of `{published.path}` does not follow the format {format.name} ({reason}); fix it, or pass "
            "the value with `config={...}`"
        ) from error


def _check_overrides(overrides: Mapping[str, Any], config: Mapping[str, Any], format: Format) -> None:
    """Check that every override has a name that the format reads: a misspelt one would have no effect."""
    sections = [value for value in config.values() if isinstance(value, Mapping)]
    known = OVERRIDABLE | format.options | set(config).union(*sections)
    if unknown := [name for name in overrides if name not in known]:
        near = difflib.get_close_matches(str(unknown[0]), sorted(map(str, known)), n=LISTED, cutoff=0.4)
        raise ValueError(
            f"unknown `config` key {unknown[0]!r}; nearest names: {', '.join(near) or 'none'}; widths, activation and "
            "source follow from the files and cannot be overridden"
        )


def _check_nesting(text: str) -> None:
    """Check the size and the nesting of YAML: its reader takes time that grows with the square of both."""
    if len(text) > MOST_YAML:
        raise ValueError(f"it has {len(text):,} characters; a config has at most {MOST_YAML:,}")
    indents = max((len(line) - len(line.lstrip(" -?:")) for line in text.splitlines()), default=0)
    if text.count("[") + text.count("{") > MOST_BRACKETS or indents > MOST_INDENT:
        raise ValueError("it is nested too deeply; the config of an SAE has a few levels")


def _read_config(file: Path) -> dict[str, Any]:
    if file.suffix == ".json":
        return read_json(file)
    check_config_size(file)
    try:
        text = file.read_text(encoding="utf-8")
        _check_nesting(text)
        # One value that repeats itself through aliases would fill the memory as it is printed.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it contains aliases; write each value out")
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {file.name}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file.name} contains a {type(values).__name__}; it must be a mapping of names to values")
    return values


def _check_shapes(weights: TensorFile, layout: Layout, path: str) -> None:
    """Check that the file contains exactly the layout's tensors, in the shapes that the config implies."""
    for name, expected in layout.shapes().items():
        stored = layout.tensors[name]
        if stored.name not in weights.shapes:
            names = ", ".join(sorted(weights.shapes)[:LISTED])
            raise ValueError(f"tensor `{stored.name}` is missing from {path}, which contains: {names}")
        shape = weights.shapes[stored.name]
        if stored.transpose:
            expected = expected[::-1]
        if shape != expected and not (name == "threshold" and shape in ((), (1,))):
            raise ValueError(f"tensor `{stored.name}` in {path} has shape {list(shape)}; expected {list(expected)}")
    known = {stored.name for stored in layout.tensors.values()} | layout.ignored
    if unexpected := sorted(weights.shapes.keys() - known):
        raise ValueError(f"tensor `{unexpected[0]}` in {path} is unexpected; expected: {', '.join(sorted(known))}")


def _read_tensor(weights: TensorFile, layout: Layout, name: str, path: str) -> Tensor:
    stored = layout.tensors[name]
    try:
        tensor = weights.read(stored.name)
    except Exception as error:  # a truncated file fails only here
        raise ValueError(f"cannot read tensor `{stored.name}` of {path}: {error}") from error
    check_numbers(stored.name, tensor, path, logarithm=layout.log_threshold and name == "threshold")
    return tensor.T if stored.transpose else tensor


def _source(origin: dict[str, Any], format_name: str, overrides: dict[str, Any], config: SaeConfig) -> dict[str, Any]:
    """Return where the SAE comes from. A native SAE in a local folder remembers where it came from before."""
    if format_name == "native" and not origin:
        return config.source
    source = origin | {"format": format_name}
    return source | {"config": overrides} if origin and overrides else source
