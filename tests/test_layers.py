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
    "config": set(),
    "hub": set(),
    "hooks": set(),
    "weights": set(),
    "cards": {"config"},
    "native": {"config"},
    "sae": {"cards", "config", "hub", "native"},
    "formats/layout": {"config"},
    "formats/saelens": {"config", "formats/layout"},
    "formats/sparsify": {"config", "formats/layout"},
    "formats/gemma_scope": {"config", "formats/layout", "formats/saelens"},
    "formats/openmoss": {"config", "formats/layout"},
    "formats/dictionary_learning": {"config", "formats/layout"},
    "formats/vendors": {"config", "formats/layout", "formats/saelens"},
    "formats/__init__": {"config", "native"}
    | {f"formats/{each}" for each in ("dictionary_learning", "gemma_scope", "layout", "openmoss", "saelens")}
    | {f"formats/{each}" for each in ("sparsify", "vendors")},
    "loading": {"config", "formats", "hub", "native", "sae", "weights"},
    "activations": {"config", "hooks"},
    "predictor": {"activations", "hooks"},
    "counting": set(),
    "coverage": {"counting"},
    "features": {"counting"},  # only to count, when first asked
    "selection": {"features"},
    "pool": set(),
    "metrics": {"features"},
    "vectors": {"counting", "coverage"},
    "constraints": {"counting", "coverage", "selection"},
    "task": {"constraints", "counting", "coverage", "features", "selection", "vectors"},
    "rules": {"constraints", "counting", "coverage", "features", "selection", "task"},
    "processes": set(),
    "encoding": {"activations", "features", "hooks", "loading", "processes", "sae", "text"},
    # encoding only for rows not yet encoded; loading and text only for annotations
    "selecting": {"constraints", "counting", "features", "metrics", "pool", "rules", "selection"}
    | {"encoding", "loading", "text"},
    "comparing": {"counting", "features", "metrics", "rules", "selecting", "selection"}
    | {"encoding", "loading", "text"},
    # publishing and verifying
    "extras": set(),
    "digests": set(),
    "explain": {"features", "selection"},
    "repeating": {"comparing", "constraints", "counting", "digests", "features", "metrics", "rules", "selecting"}
    | {"selection"},
    "picture": {"extras", "repeating"},
    "source": {"cards", "digests", "features", "hub"},
    "record": {"cards", "digests", "extras", "source"},
    "evidence": {"digests", "features", "pool", "record", "rules", "selection"},
    "subset_card": {"cards", "comparing", "explain", "record", "repeating", "rules", "selection", "text"},
    # activations only for the text of a chat template
    "staging": {"digests", "evidence", "extras", "features", "hub", "picture", "pool", "record", "repeating", "rules"}
    | {"activations", "selection", "source", "subset_card"},
    "checks": {"cards", "digests", "features", "hub", "record", "selection", "staging", "subset_card"},
    # what needs torch only when it is asked to encode again
    "refetching": {"activations", "encoding", "evidence", "features", "hub", "loading", "record", "sae", "selection"}
    | {"source", "text"},
    "verifying": {"checks", "digests", "evidence", "features", "hub", "record", "refetching", "repeating", "rules"}
    | {"loading", "sae", "selection", "text"},
    "publishing": {"cards", "evidence", "hub", "record", "source", "staging", "subset_card", "verifying"},
    "quality": {"activations", "config", "predictor", "sae"},
    "recipe": set(),
    "objectives": {"recipe"},
    "trainer": {"config", "objectives", "recipe", "sae"},
    "stream": {"activations", "text"},
    "training": {"activations", "config", "objectives", "processes", "recipe", "sae", "stream", "text", "trainer"},
    # the doors
    "plugin": {"comparing", "encoding", "loading", "publishing", "rules", "selecting", "text"},
    "cli": {"verifying"},
    "__init__": {"plugin", "comparing", "config", "constraints", "encoding", "features", "loading", "rules", "sae"}
    | {"publishing", "quality", "recipe", "selecting", "selection", "staging", "training", "verifying"},
}


def name_of(file):
    return file.relative_to(PACKAGE).with_suffix("").as_posix()


def imports_of(file):
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom) and node.level]
    found = set()
    for node in nodes:
        folder = "" if node.level > 1 or file.parent == PACKAGE else f"{file.parent.name}/"
        # `from .file import name` or `from . import file`
        found |= {folder + name for name in ([node.module] if node.module else [each.name for each in node.names])}
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_imports_run_one_way(file):
    assert imports_of(file) <= MAY_IMPORT[name_of(file)]


def loaded_by(code):
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_costs_import_datasets_and_nothing_more():
    assert loaded_by("import hf_sae_select") - loaded_by("import datasets") == {"hf_sae_select"}


def test_importing_datasets_and_us_loads_no_torch():
    assert not loaded_by("import hf_sae_select") & {"torch", "transformers", "accelerate", "numba"}


WITHOUT_TORCH = [
    "features",
    "text",
    "coverage",
    "metrics",
    "rules",
    "selecting",
    "comparing",
    "config",
    "hub",
    "cards",
    "staging",
    "verifying",
    "publishing",
]


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_choosing_and_measuring_load_neither_torch_nor_transformers(name):
    assert not loaded_by(f"import hf_sae_select.{name}") & {"torch", "transformers", "accelerate"}


def test_selecting_from_an_encoded_dataset_loads_no_torch():
    code = """
from datasets import Dataset
from hf_sae_select.features import column_types
import hf_sae_select
codes = {"sae_ids": [[0], [1, 2]], "sae_acts": [[1.0], [1.0, 1.0]], "sae_tokens": [1, 2]}
ds = Dataset.from_dict(codes, features=column_types({"d_sae": 4, "threshold": 0.0}))
assert ds.sae_select(1, "greedy").sae_selection.indices.tolist() == [1]
assert len(ds.sae_select(1)) == 1
"""
    assert not loaded_by(code) & {"torch", "transformers", "accelerate"}
