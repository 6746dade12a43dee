"""Names say what they hold: filler words are no names in the package."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hf_sae_select"
FILES = sorted(PACKAGE.rglob("*.py"))
FILLERS = {"found", "each", "told", "there", "given", "ours", "theirs", "stated"}


def names_of(node):
    """Return the names that a node of the syntax tree introduces."""
    match node:
        case ast.Name(ctx=ast.Store()):
            return [node.id]
        case ast.Attribute(ctx=ast.Store()):
            return [node.attr]
        case ast.arg() | ast.keyword():
            return [node.arg]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.ExceptHandler():
            return [node.name]
        case ast.MatchAs() | ast.MatchStar():
            return [node.name]
        case ast.alias():
            return [node.asname or node.name]
        case ast.Dict():
            return [key.value for key in node.keys if isinstance(key, ast.Constant)]
    return []


def fillers_in(code):
    """Return each use of a filler word as a name, with its line."""
    nodes = ast.walk(ast.parse(code))
    uses = [(node.lineno, name) for node in nodes if hasattr(node, "lineno") for name in names_of(node)]
    return sorted((line, name) for line, name in uses if isinstance(name, str) and name.strip("_") in FILLERS)


@pytest.mark.parametrize("file", FILES, ids=[file.relative_to(PACKAGE).as_posix() for file in FILES])
def test_no_name_is_a_filler(file):
    assert fillers_in(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        "found = 1",
        "found: int = 1",
        "self.found = 1",
        "[0 for found in x]",
        "for _, found in x: pass",
        "with x as found: pass",
        "(found := 1)",
        "def found(): pass",
        "def f(found): pass",
        "def f(*, _found=1): pass",
        "lambda *found: 0",
        "class found: pass",
        "{'a': 1, 'found': 2}",
        "dict(found=2)",
        "import a as found",
        "from a import found",
        "match x:\n    case {'a': found}: pass",
        "try: pass\nexcept E as found: pass",
    ],
)
def test_a_filler_is_seen_wherever_a_name_is_introduced(code):
    assert len(fillers_in(code)) == 1


def test_other_names_and_texts_pass():
    assert fillers_in("matches = {'a': 'found'}  # found\nfounder, x['found'], x.each") == []
