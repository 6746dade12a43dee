"""One selection of the Space, in a process of its own: a request on standard input, files in a folder, a line of JSON.

    echo '{"dataset": "owner/name", "budget": "100", "method": "herding"}' | python worker.py FOLDER

FOLDER gets `subset.parquet` and `report.html`. The line has `status` and `picks`, or `error`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

METHODS = {
    "herding": "like many rows, and unlike each other",
    "match": "features as frequent as in all rows",
    "greedy": "as many features as possible, long rows",
    "simscale": "rows that are not alike, long rows",
    "random": "by chance, to compare with",
}
MOST_ROWS = 2000
MOST_TOKENS = 256  # of a row
MOST_MEMORY = 12 * 2**30
SECONDS = 300
SHOWN, CHARACTERS = 20, 300  # picks, and characters of each
MOST_OF_ERROR = 500
READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}
SECRETS = ("TOKEN", "SECRET", "PASSWORD", "KEY")  # in names of variables that the process does not see
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def run_apart(asked: Mapping[str, Any], out: Path, seconds: float = SECONDS) -> dict[str, Any]:
    """Select in a process of its own, which leaves its files in `out`; return what it says, or an error."""
    environment = {name: value for name, value in os.environ.items() if not any(word in name for word in SECRETS)}
    with TemporaryDirectory() as folder:
        environment |= {"HF_DATASETS_CACHE": folder, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
        environment |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, __file__, str(out)]
        options: dict[str, Any] = {"capture_output": True, "text": True, "cwd": folder, "env": environment}
        try:
            done = subprocess.run(command, input=json.dumps(asked), timeout=seconds, **options)
        except subprocess.TimeoutExpired:
            return {"error": f"This took more than {seconds:.0f} seconds and was stopped; try fewer or shorter rows."}
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):  # it was killed, such as for its memory
        print(done.stderr[-2000:], file=sys.stderr)
        return {"error": "The selection failed and nothing is known of the reason; try fewer or shorter rows."}


def run(asked: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Select what a visitor asks for, write the files, and return what the page shows.

    Raises:
        ValueError, TypeError, OSError: In words for the visitor.
    """
    budget = budget_of(str(asked.get("budget") or ""))
    if asked.get("method") not in METHODS:
        raise ValueError(f"Choose a method: {', '.join(METHODS)}.")
    rows, is_all = read(asked)
    text = str(asked.get("text") or "").strip() or None

    import hf_sae_select

    encoded = hf_sae_select.encode(rows, text=text, max_length=MOST_TOKENS)
    subset = hf_sae_select.select(encoded, budget, asked["method"])
    hf_sae_select.report(subset, out / "report.html", spans=3, title="Selected rows")
    subset.to_parquet(out / "subset.parquet")
    selection = subset.sae_selection
    status = f"{len(subset):,} of {len(rows):,} rows, picked by {selection.method}."
    if not is_all:
        status += f"\nOnly the first {MOST_ROWS:,} rows were read."
    first = zip(selection.indices[:SHOWN], selection.gains, subset, strict=False)
    picks = [[f"{row:,}", f"{gain:.4g}", shortened(content)] for row, gain, content in first]
    return {"status": status, "picks": picks}


def budget_of(text: str) -> int | float | str:
    """Return a number of rows or a share as a number; the library reads the rest, such as "5%" or "20k tokens"."""
    text = text.strip()
    if not text:
        raise ValueError("Say how many rows you want: a number such as 100, a share such as 5%, or 20k tokens.")
    if text.isdecimal():
        return int(text)
    return float(text) if text.replace(".", "", 1).isdecimal() else text


def read(asked: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return the first rows of the file or of the dataset, and whether they are all."""
    from datasets import Dataset

    name, file = str(asked.get("dataset") or "").strip(), asked.get("file")
    if bool(name) == bool(file):
        raise ValueError("Name a dataset of the Hub or upload a file, one of the two.")
    try:
        stream = of_file(Path(file)) if file else of_hub(name, asked.get("config"), asked.get("split"))
    except StopIteration:  # what `datasets` raises for an empty file
        raise ValueError("There are no rows in it.") from None
    stream = stream if stream.features is None else stream.decode(False)  # neither images nor sounds are read
    rows = list(stream.take(MOST_ROWS + 1))
    if not rows:
        raise ValueError("There are no rows in it.")
    return Dataset.from_list(rows[:MOST_ROWS], features=stream.features), len(rows) <= MOST_ROWS


def of_file(file: Path) -> Any:
    """Return the rows of an uploaded file, as a stream."""
    from datasets import load_dataset

    if (reader := READERS.get(file.suffix.lower())) is None:
        raise ValueError(f"Files of the type {file.suffix!r} are not read; upload {', '.join(READERS)}.")
    return load_dataset(reader, data_files=str(file), split="train", streaming=True)


def of_hub(name: str, config: Any, split: Any) -> Any:
    """Return the rows of a public dataset, as a stream of files that lie in its repo."""
    from datasets import load_dataset_builder

    if not HUB_ID.fullmatch(name):
        raise ValueError(f"{name!r} is not the id of a dataset; write owner/name, such as tatsu-lab/alpaca.")
    builder = load_dataset_builder(name, str(config or "").strip() or None, token=False)
    split = str(split or "").strip() or "train"
    files = builder.config.data_files or {}
    # A repo may name files elsewhere: on this machine, or in its network.
    outside = [file for group in files.values() for file in group if not file.startswith(f"hf://datasets/{name}@")]
    if not files or outside:
        raise ValueError(f"{name} has no files of rows of its own.")
    if split not in files:
        raise ValueError(f"{name} has no split {split!r}; choose one of: {', '.join(map(str, files))}.")
    return builder.as_streaming_dataset(split)


def shortened(row: Mapping[str, Any]) -> str:
    """Return the strings of a row on one line."""
    text = " ".join(" ".join(str(value) for value in row.values() if value is not None).split())
    return f"{text[:CHARACTERS]}…" if len(text) > CHARACTERS else text


def main() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    try:
        result = run(json.load(sys.stdin), Path(sys.argv[1]))
    except MemoryError:
        result = {"error": "The rows need too much memory here; try fewer or shorter rows."}
    except (ValueError, TypeError, OSError) as error:
        result = {"error": " ".join(str(error).split())[:MOST_OF_ERROR]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
