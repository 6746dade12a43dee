"""The house's rules: imports run one way, and selecting costs neither torch nor transformers."""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hf_sae_select"
# wing -> wings that it may import; all may import the private files beside the wings, which import no wing
MAY_IMPORT = {
    "private": set(),
    "features": set(),
    "sae": set(),
    "engines": set(),
    "encoding": {"features", "sae", "engines"},
    "selection": {"features", "sae", "encoding", "engines"},
    "concepts": {"features", "sae", "encoding", "selection"},
    "publishing": {"features", "sae", "encoding", "selection", "concepts"},
    "training": {"encoding", "engines", "sae"},
}
DOORS = {"__init__", "__main__", "plugin", "cli"}  # import anything; nothing imports them
MOST_LINES = 400


def name_of(file):
    return file.relative_to(PACKAGE).with_suffix("").as_posix()


def wing_of(name):
    first, _, rest = name.partition("/")
    return "door" if first in DOORS else first if rest else "private"


def imports_of(file):
    """Return the files of the package that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not (isinstance(node, ast.ImportFrom) and node.level):
            continue
        folder = file.parents[node.level - 1]
        path = folder.joinpath(*node.module.split(".")) if node.module else folder
        if path.with_suffix(".py").is_file():
            found.add(name_of(path.with_suffix(".py")))
            continue
        for name in node.names:  # `from . import file`, or a name of a folder's own
            inner = (path / name.name).with_suffix(".py")
            found.add(name_of(inner if inner.is_file() else path / "__init__.py"))
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_wing_imports_only_the_wings_below_it(file):
    wing = wing_of(name_of(file))
    if wing == "door":
        return
    others = {wing_of(name) for name in imports_of(file)} - {wing, "private"}
    assert others <= MAY_IMPORT[wing]


def test_no_file_imports_itself_by_way_of_others():
    graph = {name_of(file): imports_of(file) for file in FILES}
    below: dict[str, set[str]] = {}

    def reach(name, path):
        assert name not in path, " -> ".join([*path, name])
        if name not in below:
            below[name] = graph[name].union(*(reach(each, [*path, name]) for each in graph[name]))
        return below[name]

    for name in graph:
        reach(name, [])


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_is_no_longer_than_one_can_read(file):
    assert len(file.read_text().splitlines()) <= MOST_LINES or name_of(file) in LONGER


LONGER: set[str] = set()


@cache
def loaded_by(code):
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_costs_import_datasets_and_nothing_more():
    assert loaded_by("import hf_sae_select") - loaded_by("import datasets") == {"hf_sae_select"}


def test_naming_an_engine_loads_no_ray_and_no_torch():
    assert not loaded_by("from hf_sae_select import Ray; Ray(workers=2)") & {"ray", "torch"}


def test_importing_datasets_and_us_loads_no_torch():
    assert not loaded_by("import hf_sae_select") & {"torch", "transformers", "accelerate", "numba"}


def test_selecting_and_proving_load_neither_torch_nor_transformers():
    """All files but those of `sae`, `encoding` and `training` in one process."""
    wings = ["private", "features", "selection", "concepts", "publishing"]
    names = [name_of(file).replace("/", ".") for file in FILES if wing_of(name_of(file)) in wings]
    code = "\n".join(f"import hf_sae_select.{name.removesuffix('.__init__')}" for name in names)
    assert all(any(name.startswith(f"{wing}.") for name in names) for wing in wings[1:]) and "_hub" in names
    assert not loaded_by(code) & {"torch", "transformers", "accelerate"}


def libraries_of(file):
    """Return the libraries that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def users_of(library):
    return {wing_of(name_of(file)) for file in FILES if library in libraries_of(file)}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_of_the_package_are_relative_and_plain(file):
    """Otherwise the tests above would not see them."""
    assert "hf_sae_select" not in libraries_of(file)
    uses_importlib = any(
        isinstance(node, ast.Name) and node.id == "importlib" for node in ast.walk(ast.parse(file.read_text()))
    )
    assert not uses_importlib or name_of(file) in {"__init__", "_optional", "engines/processes"}


def test_a_wing_s_init_imports_nothing():
    assert not [
        name_of(file)
        for file in FILES
        if file.name == "__init__.py"
        and file.parent.parent == PACKAGE
        and wing_of(name_of(file)) != "door"
        and name_of(file) != "sae/formats/__init__"
        and imports_of(file)
    ]


def test_torch_is_for_the_wings_that_compute_with_it():
    users = {name_of(file) for file in FILES if "torch" in libraries_of(file)}
    others = {name for name in users if wing_of(name) not in ("sae", "encoding", "training")}
    # for an annotation; where the model runs again; to find a dtype by its name; to see its devices; for its processes
    engines = {"engines/processes", "engines/process_shards"}
    assert others <= {"plugin/__init__", "publishing/refetching", "cli/values", "_environment"} | engines


def test_sae_knows_no_datasets():
    assert "sae" in users_of("torch") and "sae" not in users_of("datasets")


def test_encoding_alone_knows_transformers():
    assert users_of("transformers") == {"encoding"}


def test_selecting_from_an_encoded_dataset_loads_no_torch():
    code = """
from datasets import Dataset
from hf_sae_select.features.columns import column_types
import hf_sae_select
codes = {"sae_ids": [[0], [1, 2]], "sae_acts": [[1.0], [1.0, 1.0]], "sae_tokens": [1, 2]}
ds = Dataset.from_dict(codes, features=column_types({"d_sae": 4, "threshold": 0.0}))
assert ds.sae_select(1, "greedy").sae_selection.indices.tolist() == [1]
assert len(ds.sae_select(1)) == 1
"""
    assert not loaded_by(code) & {"torch", "transformers", "accelerate"}


def test_no_file_of_the_package_is_ignored():
    """The build leaves files out of the wheel that `.gitignore` names, tracked or not."""
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard", "hf_sae_select"]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is no checkout of git")
    assert done.stdout == ""
