"""Select rows for a task by a few of its examples, and train on them with TRL.

    pip install hf-sae-select trl
    python examples/select_for_a_task.py                        # Alpaca towards 24 questions of GSM8K
    python examples/select_for_a_task.py --pool FILE --target FILE --budget 1000 --train

FILE is `.parquet`, `.json`, `.jsonl` or `.csv`; by default both are read from the Hub. `--train` needs columns
`instruction`, `input` and `output` in the pool.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

import hf_sae_select  # adds sae_select and other methods to Dataset

ROWS = 24  # of the target
LOADERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}


def main() -> None:
    args = arguments()
    pool = read(args.pool) if args.pool else load_dataset("tatsu-lab/alpaca", split="train")
    examples = read(args.target) if args.target else load_dataset("openai/gsm8k", "main", split="train")
    pool, examples = pool.sae_encode(), examples.select(range(min(ROWS, len(examples))))
    subset = pool.sae_select(args.budget, target=examples)
    print(subset.sae_selection)
    for row in subset.select(range(3)):
        print("-", next(iter(row.values())))
    print(hf_sae_select.target_distances(subset))
    print(pool.sae_missing(examples))
    if args.train:
        train(subset, args.model)


def read(file: Path) -> Dataset:
    return load_dataset(LOADERS[file.suffix], data_files=str(file), split="train")


def train(subset: Dataset, model: str) -> None:
    """Tune a language model on the rows of the subset."""
    from trl import SFTConfig, SFTTrainer

    def to_messages(row: dict[str, Any]) -> dict[str, Any]:
        question = "\n".join(part for part in (row["instruction"], row["input"]) if part)
        return {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": row["output"]}],
        }

    rows = subset.map(to_messages, remove_columns=subset.column_names)
    SFTTrainer(model, args=SFTConfig(output_dir="tuned", seed=0), train_dataset=rows).train()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, help="a file (Alpaca)")
    parser.add_argument("--target", type=Path, help="a file (GSM8K)")
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M")
    return parser.parse_args()


if __name__ == "__main__":
    main()
