"""Select rows for a task by a few of its examples, and train on them with TRL.

    pip install hf-sae-select trl
    python examples/select_for_a_task.py                        # Alpaca towards 24 questions of GSM8K
    python examples/select_for_a_task.py --pool FILE --target FILE --budget 1000 --train

POOL and TARGET are datasets on the Hub (`owner/name:split`) or files. Without `--train` nothing is trained.
"""

from __future__ import annotations

import argparse
from typing import Any

from datasets import Dataset

import hf_sae_select  # adds sae_select and other methods to Dataset
from hf_sae_select._places import Place

ROWS = 24  # of the target


def main() -> None:
    args = arguments()
    pool = Place.parse("pool", args.pool).load("pool").sae_encode()
    examples = Place.parse("target", args.target).load("target").select(range(ROWS))
    subset = pool.sae_select(args.budget, target=examples)
    print(subset.sae_selection)
    for row in subset.select(range(3)):
        print("-", next(iter(row.values())))
    print(hf_sae_select.target_distances(subset))
    print(pool.sae_missing(examples))
    if args.train:
        train(subset, args.model)


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
    parser.add_argument("--pool", default="tatsu-lab/alpaca:train")
    parser.add_argument("--target", default="openai/gsm8k:train")
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M")
    return parser.parse_args()


if __name__ == "__main__":
    main()
