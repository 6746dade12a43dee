"""Published SAEs, damaged in one place each, and what loading them must do: load right, or say what is wrong where."""

import json
import warnings
from pathlib import PurePosixPath

import torch

from hf_sae_select import load_sae

from .published import X, pt, written

MISSING = object()
VALUES = (MISSING, None, "x", -1, 0, 2.5, 10**30, 1e308, float("nan"), True, [], ["x"], {}, {"x": 1}, "x" * 10_000)
FEW_VALUES = (MISSING, None, "x", 10**30, [], {})
HARMLESS = ("float64", "bfloat16", "float16")  # kinds of damage that may change the values a little, and no more


def tensor_damages(tensor):
    """Yield (kind, damaged tensor); None stands for a missing one."""
    yield "missing", None
    yield "empty", tensor.flatten()[:0]
    yield "one more", torch.cat([tensor, tensor[:1]]) if tensor.dim() else tensor.expand(2).clone()
    yield "scalar", tensor.flatten()[0].clone()
    yield "deeper", tensor[None]
    if tensor.dim() == 2 and tensor.shape[0] != tensor.shape[1]:
        yield "transposed", tensor.T.contiguous()
    for value in (float("nan"), float("inf"), -float("inf")):
        damaged = tensor.clone().float()
        damaged.view(-1)[0] = value
        yield str(value), damaged
    for name in (*HARMLESS, "int64", "bool", "complex64", "float8_e4m3fn"):
        yield name, tensor.to(getattr(torch, name))


def damaged_weights(repo):
    """Yield (kind, name, files) for each tensor of a repo."""
    for name, tensor in repo.tensors.items():
        for kind, damaged in tensor_damages(tensor):
            rest = {other: value for other, value in repo.tensors.items() if other != name}
            if kind in ("bfloat16", "float8_e4m3fn", "complex64") and any(
                path.endswith(".npz") for path in repo.files
            ):
                continue  # NumPy has no such types, or another one
            yield kind, name, repo.with_tensors(rest if damaged is None else rest | {name: damaged})
    yield "extra", "surprise", repo.with_tensors(repo.tensors | {"surprise": torch.zeros(3)})


def damaged_configs(repo, values=VALUES):
    """Yield (key, value, files) for each key of each JSON config, in its sections too."""
    for path in repo.files:
        if not path.endswith(".json"):
            continue
        config = json.loads(repo.files[path])
        sections = [((), config)] + [((key,), value) for key, value in config.items() if isinstance(value, dict)]
        for place, section in sections:
            for key in section:
                for value in values:
                    changed = {k: v for k, v in section.items() if k != key}
                    if value is not MISSING:
                        changed[key] = value
                    whole = config | {place[0]: changed} if place else changed
                    yield key, value, {path: json.dumps(whole).encode()}


def outcome(folder, repo, files, key):
    """Load a damaged repo, and return ("loaded", sae) or ("refused", message); any other end is an error.

    What is loaded must encode to finite numbers; what is refused must name the key, or a file of the repo.
    """
    folder = written(folder / repo.id.rpartition("/")[2], repo.files | files)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sae = load_sae(folder)
    except (ValueError, OSError) as error:
        message = str(error)
        names = {PurePosixPath(path).name for path in repo.files}
        assert f"`{key}" in message or any(name in message for name in names), f"names neither key nor file: {message}"
        assert len(message) < 30_000
        return "refused", message
    assert sae.encode(X[:2, : sae.config.d_in]).isfinite().all()
    return "loaded", sae


def damaged_file(content):
    """Yield (kind, content) of a weights file that is damaged as a whole."""
    yield "empty", b""
    yield "cut", content[: len(content) // 2]
    yield "cut at the end", content[:-1]
    yield "zeros", bytes(len(content))
    yield "text", b"Not Found"
    yield "pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    yield "list", pt([1, 2])
    yield "a page", b"<html>404</html>"
    for position in range(0, len(content), max(1, len(content) // 40)):
        yield f"bit at {position}", content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]
