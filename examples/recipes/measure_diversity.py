"""Measure how diverse texts are, and what they cover of a reference, with Evaluate.

    pip install "hf-sae-select[evaluate]"
    python examples/recipes/measure_diversity.py subset.jsonl --reference pool.jsonl

Both are files of JSON lines with a column `text`. The measurement is the folder hub_cards/sae_diversity; once it is
pushed to a Space, `evaluate.load("me/sae_diversity", module_type="measurement")` loads it from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import evaluate
from datasets import load_dataset

MEASUREMENT = Path(__file__).parents[2] / "hub_cards" / "sae_diversity"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="JSON lines with a column `text`")
    parser.add_argument("--reference", help="the same, to compare with")
    parser.add_argument("--measurement", default=str(MEASUREMENT), help="a folder, or the id of a Space")
    args = parser.parse_args()

    diversity = evaluate.load(args.measurement, module_type="measurement")
    reference = texts(args.reference) if args.reference else None
    for name, value in diversity.compute(data=texts(args.data), reference=reference).items():
        print(f"{name:20} {value:.3f}".removesuffix(".000"))


def texts(file: str) -> list[str]:
    return list(load_dataset("json", data_files=file, split="train")["text"])


if __name__ == "__main__":
    main()
