"""Help: every command shows every argument of its function, with the texts of the docstring, and loads no torch."""

import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import hf_sae_select
from hf_sae_select.cli.app import SITE, make_app
from hf_sae_select.cli.commands import COMMANDS
from hf_sae_select.cli.signatures import OPTIONS, signature_of
from hf_sae_select.cli.values import FORMS

NAMES = sorted(COMMANDS)
TEXT = {"str", "str | torch.device", "str | torch.dtype", "str | GeneralTracker", "Token"}  # one word, as it is


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.parametrize("name", NAMES)
def test_the_signature_is_that_of_the_function(name):
    function = getattr(hf_sae_select, COMMANDS[name].function)
    parameters = inspect.signature(function).parameters.values()
    variadic = inspect.Parameter.VAR_KEYWORD
    expected = [(item.name, item.default is item.empty and item.kind is not variadic) for item in parameters]
    arguments = signature_of(COMMANDS[name].function).arguments
    assert [(argument.name, argument.is_required) for argument in arguments] == expected
    assert {argument.annotation for argument in arguments} <= FORMS.keys() | TEXT | {OPTIONS}


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_every_argument(name, call):
    done = call(name, "--help")
    command = COMMANDS[name]
    assert (done.code, done.err) == (0, "")
    parameters = inspect.signature(getattr(hf_sae_select, command.function)).parameters
    for name, parameter in parameters.items():
        is_any = parameter.kind is inspect.Parameter.VAR_KEYWORD
        shown = "option" if is_any else command.renamed.get(name, name)
        assert f"--{shown.replace('_', '-')} " in done.out, name
    assert {"--json", "--debug", "--config"} <= set(re.findall(r"--[\w-]+", done.out))
    assert "exit codes: 0 if" in done.out and f"{SITE}cli.html" in done.out


def test_lists_of_a_docstring_stay_lists(call):
    lines = call("verify", "--help").out.splitlines()
    assert [line[:10] for line in lines if line.startswith("- ")] == ['- "digests', '- "select"', '- "encode"']
    printed = call("compare", "--help").out
    assert printed.startswith("Usage: hf-sae-select compare DATASET [BUDGET]") and "leave the budget out" in printed


def test_help_has_the_texts_of_the_docstring(call):
    printed = " ".join(call("encode", "--help").out.split())
    assert "Number of windows per forward pass. It changes memory and speed, never the codes. [default: 32]" in printed
    assert "Add the SAE features of each row to a dataset" in printed and "*optional*" not in printed


SCRIPT = """
import json, sys
from hf_sae_select.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as stopped:
        assert stopped.code == 0, words
print(json.dumps(sorted({"torch", "numba", "transformers"} & set(sys.modules))))
"""


@pytest.mark.slow
def test_no_help_loads_torch():
    words = json.dumps([["--help"], ["--version"], *([name, "--help"] for name in NAMES)])
    done = subprocess.run([sys.executable, "-c", SCRIPT, words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]" and "Usage: hf-sae-select verify" in done.stdout


def test_all_commands_are_listed(call):
    done = call("--help")
    assert all(f" {name} " in done.out for name in NAMES)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_completion_script_has_the_commands(shell, call, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "script"
    assert call("--install-completion", "--shell", shell, "--output", file).code == 0
    script = file.read_text()
    assert all(name in script for name in NAMES) and "--max-length" in script
    assert "--json" not in re.search("options_with_values='(.*)'", script + "options_with_values=''")[1]


EXAMPLE = re.compile(r"^hf-sae-select (?!COMMAND)(.*)$", re.MULTILINE)


def test_the_examples_of_the_page_are_calls():
    page = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text()
    examples = [shlex.split(line) for line in EXAMPLE.findall(page)]
    assert {words[0] for words in examples} - {"--install-completion"} == set(COMMANDS)
    assert all(f"| `{name}` |" in page and f"| `{command.function}` |" in page for name, command in COMMANDS.items())
    for words in examples:
        if (
            "--config" not in words
            and "--install-completion" not in words
            and words[:2] != ["compare", "subset.parquet"]
        ):
            make_app().parse_args(words, exit_on_error=False, print_error=False)
