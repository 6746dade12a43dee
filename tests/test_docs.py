"""What README.md and docs/ show is what the package does.

Every block of Python code of a page runs, in order and in one namespace, offline, in an empty folder. A block that
needs more than the package ships is only compiled; this comment, which GitHub does not show, stands above it:

    <!-- needs a network -->
    ```python
    dataset = load_dataset("tatsu-lab/alpaca", split="train")
    ```
"""

import importlib.util
import inspect
import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import hf_sae_select
from hf_sae_select.cli.app import make_app
from hf_sae_select.features import kernels

ROOT = Path(__file__).parent.parent
RUN = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
PAGES = [*RUN, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md", *sorted(ROOT.glob("hub_cards/*/README.md"))]
MOST_LINES_OF_README = 150
OUTPUT = re.compile(r"\n+^```\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)  # a plain block right below
BLOCK = re.compile(r"(?P<network><!-- needs a network -->\n+)?^```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def text_of(page):
    return page.read_text(encoding="utf-8")


def run_blocks(text):
    """Run the blocks of a page, and return how many ran and how many were only compiled.

    A plain block right below a block of code is what the code prints.
    """
    namespace = {"__name__": "__main__"}
    ran = compiled = 0
    for block in BLOCK.finditer(text):
        line = text[: block.start("code")].count("\n")
        code = compile("\n" * line + block["code"], "page", "exec")  # errors name the line of the page
        if block["network"]:
            compiled += 1
        else:
            with redirect_stdout(StringIO()) as printed:
                exec(code, namespace)
            ran += 1
            if shown := OUTPUT.match(text, block.end()):
                assert printed.getvalue().strip() == shown["text"].strip()
    return ran, compiled


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kernels, "MOST_INTERPRETED", 2**18)  # as for users: a few rows compile nothing
    run_blocks(text_of(page))


def test_the_readme_shows_code():
    assert len(BLOCK.findall(text_of(ROOT / "README.md"))) >= 2


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= MOST_LINES_OF_README


COMMAND = re.compile(r"^hf-sae-select (?!COMMAND)(.*)$", re.MULTILINE)  # tests/cli tries those of docs/cli.md


def test_the_commands_of_pages_are_calls():
    lines = [line for page in RUN if page.name != "cli.md" for line in COMMAND.findall(text_of(page))]
    for line in lines:
        make_app().parse_args(shlex.split(line), exit_on_error=False, print_error=False)
    assert len(lines) > 2


# Links


def anchors_of(page):
    """Return the anchors that GitHub gives the headings of a page, and the site the names of the API reference."""
    headings = re.findall(r"^#+ +(.*)", text_of(page), re.MULTILINE)
    names = re.findall(r"^::: (.*)", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} | set(names)


def dead_links(page):
    """Return the links of a page that lead to no file of the repository, or to no heading of a page."""
    for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", text_of(page)):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
    assert list(dead_links(page)) == []


# Names


def names_in(text):
    """Return the dotted names of the package that a page uses or imports."""
    names = set(re.findall(r"\bhf_sae_select\.(\w+(?:\.\w+)*)(?!\w*/)", text))
    for module, lines, line in re.findall(r"from hf_sae_select([.\w]*) import (?:\(([^)]*)\)|(.+))", text):
        imported = re.sub("#.*", "", lines or line).split(",")
        names |= {f"{module}.{name.split()[0]}".removeprefix(".") for name in imported if name.strip()}
    return names


def is_exported(name):
    """Whether a dotted name is or begins with one of `__all__`, or leads through public files to a public name."""
    value = hf_sae_select
    for part in name.split("."):
        if part.startswith("_"):
            return name == "__version__"
        if hasattr(value, "__path__") and importlib.util.find_spec(f"{value.__name__}.{part}"):
            value = importlib.import_module(f"{value.__name__}.{part}")
        elif value is hf_sae_select and part not in hf_sae_select.__all__:
            return False
        elif part in getattr(value, "__dataclass_fields__", {}):
            return True
        elif not hasattr(value, part):
            return False
        else:
            value = getattr(value, part)
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_only_what_the_package_exports(page):
    assert [name for name in sorted(names_in(text_of(page))) if not is_exported(name)] == []


def in_backticks(pages):
    """Return the words inside backticks, those of code blocks left out."""
    text = "\n".join(re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE) for page in pages)
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", text))))


def test_every_method_and_each_of_its_options_is_in_the_docs():
    words = set(hf_sae_select.METHODS)
    words |= {option for method in hf_sae_select.METHODS.values() for option in method.options}
    assert words - in_backticks(RUN) == set()


def test_every_argument_of_select_is_in_the_docs():
    arguments = set(list(inspect.signature(hf_sae_select.select).parameters)[1:]) - {"options"}
    assert arguments - in_backticks(RUN) == set()


# The tests themselves

PAGE = """
```python
a = 1
```

<!-- needs a network -->

```python
a = undefined
```

```
a = undefined
```

```python
assert a == 1
```
"""


def test_blocks_run_in_one_namespace_but_for_those_that_need_a_network():
    assert run_blocks(PAGE) == (2, 1)


def test_code_that_fails_or_does_not_compile_is_seen():
    with pytest.raises(NameError, match="undefined"):
        run_blocks(PAGE.replace("<!-- needs a network -->", ""))
    with pytest.raises(AssertionError):
        run_blocks(PAGE.replace("a = 1", "a = 2"))
    with pytest.raises(SyntaxError):
        run_blocks(PAGE.replace("a = undefined", "a ="))


def test_output_that_differs_from_the_page_is_seen():
    page = "```python\nprint(1 + 1)\n```\n\n```\n2\n```\n"
    assert run_blocks(page) == (1, 0)
    with pytest.raises(AssertionError):
        run_blocks(page.replace("2\n", "3\n"))


def test_dead_links_are_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n[1](page.md) [2](#a-b-c) [3](page.md#a-b-c) [4](https://x.y) [5](x.md) [6](#b)\n")
    assert list(dead_links(page)) == ["x.md", "#b"]


def test_names_that_are_not_exported_are_seen():
    text = """See hf_sae_select.select, `hf_sae_select.SaeConfig.d_in` and hf_sae_select/sae/formats/__init__.py.
from hf_sae_select import encode, wrong
from hf_sae_select.features.metrics import coverage
from hf_sae_select import (
    verify,
    choose,
)
import hf_sae_select  # sets sae_select
hf_sae_select._hub.Repo, hf_sae_select.nothing.at_all, hf_sae_select.select.nothing
"""
    names = names_in(text)
    assert {"select", "SaeConfig.d_in", "encode", "features.metrics.coverage", "verify"} <= names
    wrong = ["_hub.Repo", "choose", "nothing.at_all", "select.nothing", "wrong"]
    assert sorted(name for name in names if not is_exported(name)) == wrong
