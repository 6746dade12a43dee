"""The notebooks in `examples/notebooks` run top to bottom, and put out what their files show."""

import platform
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    import run

    return run


@pytest.fixture
def codes(tmp_path_factory):
    """A folder that all tests of a session share, so that rows that several notebooks read are encoded once."""
    return tmp_path_factory.getbasetemp().parent / "codes_of_notebooks"


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_puts_out_what_it_shows(path, runner, codes, tmp_path):
    kept, notebook = read(path), runner.run(path, tmp_path, HF_DATASETS_CACHE=str(codes))
    made_with = kept.metadata.language_info.version, kept.metadata.cpu
    if made_with != (platform.python_version(), notebook.metadata.cpu):
        pytest.skip(f"it ran; its outputs are those of Python {made_with[0]} on a CPU with {made_with[1]}")
    assert runner.outputs(notebook) == runner.outputs(kept)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_run_in_order_and_is_small(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(len(cell.outputs) for cell in cells) >= 3
    assert path.stat().st_size < 100_000 and "/home/" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_badges_and_a_page_lead_to_a_notebook(path):
    first = read(path).cells[0].source
    repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    page = f"{repository}/blob/main/examples/notebooks/{path.name}"
    assert f"({page})" in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    address = page.removeprefix("https://github.com/")
    assert f"(https://colab.research.google.com/github/{address})" in first
    assert f"(https://kaggle.com/kernels/welcome?src=https://github.com/{address})" in first


def test_what_differs_from_run_to_run_is_masked(runner):
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", text=f"1 at {'ab' * 20}")])
    assert runner.outputs(nbformat.v4.new_notebook(cells=[cell])) == [{"text/plain": "1 at …"}]


def test_a_cell_that_fails_is_seen(runner, tmp_path):
    from nbclient.exceptions import CellExecutionError

    path = tmp_path / "wrong.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), path)
    with pytest.raises(CellExecutionError, match="division by zero"):
        runner.run(path, tmp_path)
