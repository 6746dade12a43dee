"""What the README says is what the code does."""

import dataclasses
import re
from pathlib import Path

import pytest

from hf_sae_select import METHODS
from hf_sae_select.selection.constraints import Asked

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_readme_s_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(block, names)
    assert len(names["subset"]) == 4 and "" not in names["subset"]["text"]
    assert len(names["half"]) == 4 and names["baseline"].sae_selection.method == "random"
    assert names["table"].index.tolist() == ["match", "greedy", "longest", "random", "(all rows)"]
    assert sorted(names["fair"]["kind"]) == ["egg", "maths", "poem", "quiz"]
    assert names["short"].sae_selection.parameters["cost"] == "tokens"
    assert names["grown"]["text"][:4] == names["subset"]["text"][:]
    assert capsys.readouterr().out.endswith("verified to the level `select`\n")
    assert {"indices", "gains", "round_starts", "method", "parameters", "fingerprint"} <= set(dir(names["receipt"]))


def methods_table():
    lines = ["| method | picks | options | from | cost | for |", "|---|---|---|---|---|---|"]
    for name, method in METHODS.items():
        options = ", ".join(f"`{option}`" for option in method.options)
        lines.append(f"| `{name}` | {method.picks} | {options} | {method.paper} | {method.cost} | {method.use} |")
    return "\n".join(lines)


def test_the_methods_table_is_the_table_of_methods():
    section = README.partition("## Methods")[2].partition("\n## ")[0]
    assert methods_table() in section


def test_every_constraint_is_in_the_readme():
    section = README.partition("## Constraints")[2].partition("\n## ")[0]
    arguments = set(re.findall(r"^\| `(\w+)=", section, re.M)) - {"budget"} | {"cost"}
    assert arguments == {each.name for each in dataclasses.fields(Asked)}


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http|#)[^)]+)\)", README))
def test_links_lead_to_files(path):
    assert (Path(__file__).parent.parent / path).is_file()
