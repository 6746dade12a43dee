"""The house's rules: imports run one way, and choosing costs neither torch nor transformers."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hf_sae_select"
# file -> files of ours that it may import, wherever in the file the import stands
MAY_IMPORT = {
    "text": set(),
    "sae": set(),
    "activations": set(),
    "counting": set(),
    "coverage": {"counting"},
    "features": {"counting"},  # only to count, when first asked
    "selection": {"features"},
    "metrics": {"features"},
    "vectors": {"counting", "coverage"},
    "constraints": {"counting", "coverage", "selection"},
    "task": {"constraints", "counting", "coverage", "features", "selection", "vectors"},
    "rules": {"constraints", "counting", "coverage", "features", "selection", "task"},
    "formats": {"sae"},
    "encoding": {"activations", "features", "formats", "sae", "text"},
    # encoding only for rows not yet encoded; formats and text only for annotations
    "selecting": {"constraints", "counting", "features", "metrics", "rules", "selection"}
    | {"encoding", "formats", "text"},
    "comparing": {"counting", "features", "metrics", "rules", "selecting", "selection"}
    | {"encoding", "formats", "text"},
    "training": {"sae"},
    # the doors
    "plugin": {"comparing", "encoding", "formats", "rules", "selecting", "text"},
    "__init__": {"plugin", "comparing", "constraints", "encoding", "features", "formats", "rules", "sae", "selecting"}
    | {"selection", "training"},
}


def imports_of(file):
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom) and node.level]
    # `from .file import name` or `from . import file`
    return {name for node in nodes for name in ([node.module] if node.module else [each.name for each in node.names])}


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("*.py")), ids=lambda file: file.stem)
def test_imports_run_one_way(file):
    assert imports_of(file) <= MAY_IMPORT[file.stem]


def loaded_by(code):
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_costs_import_datasets_and_nothing_more():
    assert loaded_by("import hf_sae_select") - loaded_by("import datasets") == {"hf_sae_select"}


def test_importing_datasets_and_us_loads_no_torch():
    assert not loaded_by("import hf_sae_select") & {"torch", "transformers", "accelerate", "numba"}


@pytest.mark.parametrize("name", ["features", "text", "coverage", "metrics", "rules", "selecting", "comparing"])
def test_choosing_and_measuring_load_neither_torch_nor_transformers(name):
    assert not loaded_by(f"import hf_sae_select.{name}") & {"torch", "transformers", "accelerate"}


def test_selecting_from_an_encoded_dataset_loads_no_torch():
    code = """
from datasets import Dataset
from hf_sae_select.features import column_types
import hf_sae_select
codes = {"sae_ids": [[0], [1, 2]], "sae_acts": [[1.0], [1.0, 1.0]], "sae_tokens": [1, 2]}
ds = Dataset.from_dict(codes, features=column_types({"d_sae": 4, "threshold": 0.0}))
assert ds.sae_select(1).sae_selection.indices.tolist() == [1]
"""
    assert not loaded_by(code) & {"torch", "transformers", "accelerate"}
