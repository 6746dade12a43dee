# /// script
# requires-python = ">=3.11"
# dependencies = ["hf-sae-select[publish,ray]==0.1.0"]
# ///
"""Select from a dataset, as one job: the header above says what it needs, so nothing has to be installed.

    uv run examples/hf_job.py tatsu-lab/alpaca 3000 --out subset.parquet
    hf jobs uv run --flavor a10g-large --secrets HF_TOKEN examples/hf_job.py tatsu-lab/alpaca 3000 --repo me/alpaca-3k

On a machine with several GPUs, `--engine ray --gpus 1` encodes on all of them.

How far it was tried: with the package installed, on rows of a file, with and without Ray. Neither `uv run` nor a job
of the Hub was tried, since the package is on no index yet.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_sae_select import Ray, select


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", help="a file, a pattern, a folder, owner/name or hf://...")
    parser.add_argument("budget", help='such as 3000, "10%%" or "2M tokens"')
    parser.add_argument("--method", default="herding")
    parser.add_argument("--engine", choices=["ray"], help="encode and select on all CPUs or GPUs of the machine")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each worker of Ray")
    parser.add_argument("--out", type=Path, help="Parquet file to write the rows to")
    parser.add_argument("--repo", help="Hub repo to publish the rows and their receipt to")
    args = parser.parse_args(words)
    if args.out is None and args.repo is None:
        parser.error("the subset would be lost: pass --out or --repo")
    return args


def main() -> None:
    args = arguments()
    budget = int(args.budget) if args.budget.isdigit() else args.budget
    engine = Ray(gpus=args.gpus) if args.engine else None
    subset = select(args.pool, budget, args.method, engine=engine)
    print(subset.sae_selection)
    if args.out is not None:
        subset.to_parquet(args.out)
    if args.repo is not None:
        print(subset.sae_publish(args.repo))


if __name__ == "__main__":
    main()
