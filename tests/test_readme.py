"""What the README says is what the code does."""

import inspect
import re
from pathlib import Path

import pytest

from hf_sae_select import SELECTORS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_readme_s_code_runs():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(block, names)
    assert len(names["subset"]) == 4 and "" not in names["subset"]["text"]
    assert len(names["half"]) == 4 and names["baseline"].sae_selection.method == "random"
    assert {"indices", "gains", "round_starts", "method", "parameters", "fingerprint"} <= set(dir(names["receipt"]))


def test_the_methods_table_is_the_table_of_methods():
    section = README.partition("## Methods")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*?\|(.*?)\|", section, re.M))
    assert rows.keys() == SELECTORS.keys()
    for method, rule in SELECTORS.items():
        options = [p.name for p in inspect.signature(rule).parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert re.findall(r"`(\w+)`", rows[method]) == options


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http|#)[^)]+)\)", README))
def test_links_lead_to_files(path):
    assert (Path(__file__).parent.parent / path).is_file()
