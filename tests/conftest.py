"""What every test shares: no network, no progress bars, one thread, a cache of its own, and tiny random models.

The tests may share their work among processes (`pytest -n 2`): no test uses a fixed port or a folder of another.
"""

import copy
import importlib
import itertools
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and numpy when they are imported, here and in the tests' processes

import datasets
import pytest
import torch
from helpers import forge, tiny
from hub import connect, serve

from hf_sae_select.features import kernels
from hf_sae_select.publishing import part

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

if "COVERAGE_RUN" not in os.environ:  # coverage does not see compiled loops; under it small ones are interpreted
    kernels.MOST_INTERPRETED = -1  # loops are compiled in tests; `tests/features/test_kernels.py` interprets them too
torch.set_num_threads(1)
datasets.disable_progress_bars()


def pytest_collection_modifyitems(items):
    """Let slow tests begin first, so that no process waits at the end for another one's long test."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def caches(tmp_path_factory):
    """Paths of caches, one for each test; most tests make no such folder."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def cache(caches, monkeypatch):
    folder = next(caches)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.fingerprint, "_CACHING_ENABLED", True)  # a test that disables caching ends with it
    return folder


@pytest.fixture(autouse=True, scope="session")
def pictures():
    """Draw equal curves once in a session, since pictures take two thirds of the time of `stage`.

    `tests/concepts/test_charts.py` sees that equal curves give equal pictures.
    """
    drawn, draw = {}, part.curve_png

    def curve_png(measured, measure):
        curves = {name: curve.tolist() for name, curve in measured.curves[measure].items()}
        key = f"{measure} {curves} {measured.figures['pool']['features']}"
        if key not in drawn:
            drawn[key] = draw(measured, measure)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part, "curve_png", curve_png)
        yield


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """A folder with a random BERT of width 16 and three layers, windows of 16 tokens at most."""
    return tiny.save("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture
def sae(bert):
    """A random jumprelu SAE with 32 latents on the second layer of `bert`."""
    return tiny.sae_on(bert)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on localhost that the libraries of this process talk to."""
    with serve() as hub, connect(hub, tmp_path / "home", monkeypatch):
        yield hub


@pytest.fixture(scope="session")
def staged_once(tmp_path_factory):
    """The folder that `folder` copies, since staging one takes far longer than a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        return forge.choose_and_stage(tmp_path_factory.mktemp("subset") / "staged")


@pytest.fixture
def folder(staged_once, tmp_path):
    """A staged subset of `forge.POOL`: the picks are rows 2, 1 and 4, with features {0 1 2}, {2 3} and {4}."""
    return shutil.copytree(staged_once, tmp_path / "staged")


@pytest.fixture(scope="session")
def whole_once(bert, tmp_path_factory):
    """What `whole` copies: repos and objects of a Hub, the config of the SAE, the folders of a test and its cache."""
    home, cache, sae = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("cache"), tiny.sae_on(bert)
    with pytest.MonkeyPatch.context() as patch, serve() as hub, connect(hub, home / "home", patch):
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
        forge.stage_whole(hub, sae, bert, home)
        return hub.repos, hub.objects, sae.config, home, cache


@pytest.fixture
def whole(hub, sae, whole_once, cache, tmp_path):
    """A staged subset whose model, SAE and source are all on the local Hub."""
    repos, objects, sae.config, home, filled = whole_once
    hub.repos |= copy.deepcopy(repos)
    hub.objects |= objects
    shutil.copytree(home, tmp_path, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(filled, cache)
    return tmp_path / "staged"


@pytest.fixture
def script(monkeypatch):
    """Import a file of `benchmarks` or `benchmarks/decoder` by its name, as its neighbours do."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS / "decoder"), str(BENCHMARKS), *sys.path])
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and BENCHMARKS in Path(file).parents:
            del sys.modules[name]
