"""Select rows, and tune a language model on them with TRL's SFTTrainer.

    pip install hf-sae-select trl
    python examples/recipes/trl_sft.py trl-lib/Capybara:train 1000 --model HuggingFaceTB/SmolLM2-135M

The rows are of a form that SFTTrainer reads: a column `messages`, `prompt` and `completion`, or `text`. A subset is a
plain Dataset, so it goes to the trainer as it is. Tried with TRL 1.16, on a tiny model and a few rows.
"""

from __future__ import annotations

import argparse

import torch
from trl import SFTConfig, SFTTrainer

import hf_sae_select


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a file, a folder, or a Hub dataset such as owner/name:train")
    parser.add_argument("budget", type=int, help="the number of rows")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M")
    parser.add_argument("--out", default="tuned", help="the folder of the tuned model (tuned)")
    parser.add_argument("--epochs", type=float, default=1)
    args = parser.parse_args()

    subset = hf_sae_select.select(args.data, args.budget)
    precision = {"bf16": torch.cuda.is_available()}  # the default of TRL, which needs a GPU
    config = SFTConfig(output_dir=args.out, num_train_epochs=args.epochs, seed=0, report_to="none", **precision)
    trainer = SFTTrainer(args.model, args=config, train_dataset=subset)
    trainer.train()
    trainer.save_model()
    print(f"{len(subset)} rows, training loss {trainer.state.log_history[-1]['train_loss']:.3f}")


if __name__ == "__main__":
    main()
