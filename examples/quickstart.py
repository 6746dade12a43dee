"""Pick the rows that stand for some text, see what was gained and why, and write a report.

Without arguments the text is on every machine: the docstrings of Python's standard library. With `--data` it is yours:

    python examples/quickstart.py --data my_rows.jsonl --budget 1000
    python examples/quickstart.py --data tatsu-lab/alpaca --budget 0.05 --method simscale
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
import time
from pathlib import Path

from datasets import Dataset, load_dataset

import hf_sae_select
from hf_sae_select import FeatureMatrix
from hf_sae_select.concepts.representation import FeatureShare, representation
from hf_sae_select.sae.labels import labels_of
from hf_sae_select.selection.table import Comparison

LOADERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".txt": "text"}
SHOWN = 5


def main() -> None:
    args = arguments()
    ds = docstrings() if args.data is None else load(args.data)
    print(f"{len(ds):,} rows; columns: {', '.join(ds.column_names)}")

    started = time.perf_counter()
    needs_vectors = hf_sae_select.METHODS[args.method].needs_vectors
    coded = ds.sae_encode(text=args.text, keep="state" if needs_vectors else ())
    subset = coded.sae_select(args.budget, args.method)
    method = subset.sae_selection.method
    print(f"{len(subset):,} rows picked by {method!r} in {time.perf_counter() - started:.1f} s\n")
    table = coded.sae_compare(len(subset), [method])
    print(in_short(table, method))
    print(table, end="\n\n")
    show_features(coded, subset)
    for reason in subset.sae_explain(range(min(SHOWN, len(subset))), spans=0):
        print(f"{reason}\n    {snippet(ds[reason.row])}")
    print(write_report(subset, args.report))


def in_short(table: Comparison, method: str) -> str:
    """Say how well the picks represent all rows, and why the longest rows cover so many features."""
    picks, longest, every = table.loc[method], table.loc["longest"], table.loc["(all rows)"]
    text = (
        f"The {picks['rows']:,.0f} picks are as like all {every['rows']:,.0f} rows as {picks['random_rows']:,.0f} "
        f"random rows are; they are {picks['length']:.2f} times as long as these."
    )
    if longest["share"] > picks["share"]:
        text += (
            f"\nThe longest rows cover more features, for they are {longest['length']:.1f} times as long as all rows; "
            f"they are as like them as {longest['random_rows']:,.0f} random rows."
        )
    return text


def show_features(coded: Dataset, subset: Dataset) -> None:
    """Print the features that the picks have most often, and those of all rows that no pick has."""
    record = subset.sae_selection.parameters["encoding"]
    features = FeatureMatrix.from_dataset(coded).above(record["threshold"])
    shares = representation(features, subset.sae_selection.indices, labels=labels_of(record))
    particular = (share for share in shares.features if share.rows and share.pool_share < 0.5)
    frequent = sorted(particular, key=lambda share: -share.rows)[: 4 * SHOWN]
    print(f"the picks have most often: {listed(frequent)}")
    print(f"no pick has {len(shares.missing):,} features, such as: {listed(shares.missing)}\n")


def listed(shares: list[FeatureShare]) -> str:
    """Name the first features; those with names come first."""
    named = sorted(shares, key=lambda share: not share.name)[:SHOWN]
    numbers = "#{0.feature} {0.name} ({0.rows} picks, {0.pool_rows:,} rows)"
    return "; ".join(numbers.format(share).replace("  ", " ") for share in named)


def write_report(subset: Dataset, path: str) -> str:
    """Write the report, and say how to open it."""
    try:
        file = subset.sae_report(path)
    except ImportError as error:
        return f"\nno report: {error}"
    return f"\nThe report has all picks, features and curves. Open it in a browser: {file.resolve().as_uri()}"


def snippet(row: dict[str, object]) -> str:
    """Return the beginning of a row's strings on one line."""
    text = " ".join(" ".join(value for value in row.values() if isinstance(value, str)).split())
    return f"“{text[:90]}…”" if len(text) > 90 else f"“{text}”"


def docstrings(most: int = 4000) -> Dataset:
    """Read the docstrings of Python's standard library: its files are parsed, not imported."""
    library = Path(sysconfig.get_paths()["stdlib"])
    rows: dict[str, str] = {}
    for file in sorted(library.rglob("*.py")):
        path = file.relative_to(library)
        if {"site-packages", "test", "tests", "lib2to3", "idlelib"} & set(path.parts):
            continue
        for name, text in documented(file, ".".join(path.with_suffix("").parts)):
            if len(text.split()) >= 5:
                rows.setdefault(text, name)
    picked = sorted(rows.items(), key=lambda item: item[1])[:: -(-len(rows) // most)]
    return Dataset.from_dict({"name": [name for _, name in picked], "text": [text for text, _ in picked]})


def documented(file: Path, module: str) -> list[tuple[str, str]]:
    """Return (dotted name, docstring) of a file's module, classes and functions."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []  # the library ships a few files that are broken on purpose
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            found.append((module if isinstance(node, ast.Module) else f"{module}.{node.name}", text))
    return found


def load(source: str) -> Dataset:
    """Load a local file by its suffix, or the train split of a Hub dataset."""
    if loader := LOADERS.get(Path(source).suffix):
        return load_dataset(loader, data_files=source, split="train")
    return load_dataset(source, split="train")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a file (.parquet, .json, .jsonl, .csv, .txt) or a Hub dataset id")
    parser.add_argument("--text", help="the text column, where it is not found by itself")
    parser.add_argument("--budget", type=rows_or_share, default=300, help="rows (300), a share (0.05, 5%%), an amount")
    parser.add_argument("--report", default="report.html", help="the file to write the report to (report.html)")
    parser.add_argument("--method", default="herding", choices=sorted(hf_sae_select.METHODS))
    args = parser.parse_args()
    if args.data and Path(args.data).suffix in LOADERS and not Path(args.data).is_file():
        parser.error(f"--data: no such file: {args.data!r}")
    report = Path(args.report)
    if report.is_dir() or not report.absolute().parent.is_dir():
        parser.error(f"--report: {args.report!r} must be a file in a folder that exists")
    return args


def rows_or_share(text: str) -> int | float | str:
    """Return a number as a number; the library reads the rest, such as "5%" or "200k tokens"."""
    if text.isdecimal():
        return int(text)
    return float(text) if text.replace(".", "", 1).isdecimal() else text


if __name__ == "__main__":
    main()
