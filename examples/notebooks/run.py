"""Run notebooks top to bottom, each in a kernel of its own, and keep their outputs in their files.

    python examples/notebooks/run.py                       # all of them, with what `pip install -e ".[dev]"` brings
    python examples/notebooks/run.py first_subset.ipynb

`tests/test_notebooks.py` runs them too, and compares the outputs with those that are kept. Progress bars and log
messages are not kept.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient
from torch.backends.cpu import get_cpu_capability

HERE = Path(__file__).parent
QUIET = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
SECONDS = 300  # of a cell, on a machine that has other work too
# What differs from run to run: commits, and the port of the Hub on this machine.
VARYING = re.compile(r"\b[0-9a-f]{40}\b|127\.0\.0\.1:\d+")


def main(names: list[str]) -> None:
    for path in [HERE / name for name in names] or sorted(HERE.glob("*.ipynb")):
        with TemporaryDirectory() as folder:
            nbformat.write(run(path, Path(folder)), path)
        print(path.name)


def run(path: Path, folder: Path, **environment: str) -> Any:
    """Return a notebook as it is after a run in `folder`.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    settings = {"IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_CONFIG_DIR": str(folder / ".jupyter")}
    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.record_timing = False
    client.execute(env=os.environ | QUIET | settings | {"PYTHONPATH": paths} | environment)
    notebook.metadata["cpu"] = get_cpu_capability()  # the last digits of floats hang on it
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined(output for output in cell.outputs if output.get("name") != "stderr")
    return notebook


def _joined(outputs: Iterable[Any]) -> list[Any]:
    """Join what was printed in a row: how often the kernel sends it depends on time."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def outputs(notebook: Any) -> list[dict[str, str]]:
    """Return what the cells of code put out, by type; what differs from run to run is masked."""
    result = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts = output.get("data") or {"text/plain": output.text}
            result.append({kind: VARYING.sub("…", text) for kind, text in texts.items()})
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
