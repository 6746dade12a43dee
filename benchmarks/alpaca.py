"""Select 3,000 of Alpaca's 52,002 rows with every method, and set the cost beside the least that it could be.

    python benchmarks/alpaca.py --data FOLDER/alpaca_52k.parquet

The floor is the bare truncated forward pass plus one encoder product, over the same tokens in the same batches: no
text, no tokenizer, no pooling, no files. It is measured on slices of the rows before and after the encoding.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import datasets
import torch
from datasets import Dataset

from hf_sae_select import METHODS, FeatureMatrix, load_sae
from hf_sae_select.encoding.batches import Window
from hf_sae_select.encoding.language_model import PAD_TO, LanguageModel
from hf_sae_select.encoding.text import find_text
from hf_sae_select.features.metrics import coverage, length_correlation

SLICES = 8  # of at most 1,000 rows, spread over the dataset


def main() -> None:
    args = arguments()
    ds = Dataset.from_parquet(str(args.data))
    ds = ds.select(range(args.rows or len(ds)))
    rows = min(1000, len(ds) // SLICES)
    slices = [ds.select(range(start, start + rows)) for start in range(0, len(ds) - rows + 1, len(ds) // SLICES)]
    before = [floor(part) for part in slices[::2]]
    with tempfile.TemporaryDirectory() as cache:
        datasets.config.HF_DATASETS_CACHE = Path(cache)  # nothing from an earlier run
        started = time.perf_counter()
        coded = ds.sae_encode()
        seconds = time.perf_counter() - started
        after = [floor(part) for part in slices[1::2]]
        tokens = int(FeatureMatrix.from_dataset(coded).tokens.sum())
        least = tokens * statistics.median(before + after)
        print(f"{len(ds):,} rows, {tokens:,} tokens, {torch.get_num_threads()} threads")
        print(
            f"encode {seconds:,.0f} s, {tokens / seconds:,.0f} tokens/s; floor {least:,.0f} s; {seconds / least:.2f}x"
        )
        table(coded, args.budget)


def floor(rows: Dataset) -> float:
    """Return seconds per text token of the bare forward pass and encoder product over `rows`."""
    sae = load_sae()
    config = sae.config
    model = LanguageModel.from_pretrained(
        config.model, config.hook, revision=config.model_revision, window=config.context_size
    )
    windows = model.windows([row.text for row in find_text(rows)(rows[:])])
    batches = [(batch, *tensors(batch, model)) for batch in same_batches(windows)]
    product = torch.empty(max(int(text.sum()) for *_, text in batches), config.d_sae)
    tokens = sum(int(text.sum()) for *_, text in batches)
    started = time.perf_counter()
    with torch.no_grad():
        for _, ids, mask, text in batches:
            states = model._run(ids, mask)[text]
            torch.mm(states, sae.W_enc, out=product[: len(states)])
    return (time.perf_counter() - started) / tokens


def same_batches(windows: list[Window], batch_size: int = 32) -> list[list[Window]]:
    """Group windows as encoding does: equal padded length, longest first."""
    shapes: dict[int, list[Window]] = {}
    for window in windows:
        shapes.setdefault(-(-len(window.ids) // PAD_TO), []).append(window)
    ordered = [shapes[length] for length in sorted(shapes, reverse=True)]
    return [same[i : i + batch_size] for same in ordered for i in range(0, len(same), batch_size)]


def tensors(batch: list[Window], model: LanguageModel) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (ids, mask, is_text), padded to the batch's longest window and no further."""
    length = max(len(window.ids) for window in batch)
    pad = [length - len(window.ids) for window in batch]
    ids = torch.tensor([w.ids + [model.tokenizer.pad_token_id] * n for w, n in zip(batch, pad, strict=True)])
    mask = torch.tensor([[1] * len(w.ids) + [0] * n for w, n in zip(batch, pad, strict=True)])
    text = torch.tensor([w.is_text + [False] * n for w, n in zip(batch, pad, strict=True)])
    return ids, mask, text


def table(coded: Dataset, budget: int) -> None:
    """Print what each method costs and covers, under the SAE's own threshold."""
    calls: dict[str, tuple[str, int | None]] = {
        name: (name, None) for name, method in METHODS.items() if not method.needs_vectors
    }
    calls["greedy, top=10"] = ("greedy", 10)
    timed = {name: [timed_select(coded, budget, *call) for _ in range(3)] for name, call in calls.items()}
    threshold = timed["greedy"][0][1].sae_selection.parameters["cuts"]["threshold"]
    everything = FeatureMatrix.from_dataset(coded)
    features = everything.above(threshold)
    pool = coverage(features)
    print(f"\n{'method':<16}{'select s':>10}{'rounds':>8}{'features covered':>20}{'mean tokens':>14}")
    for name, runs in timed.items():
        receipt = runs[0][1].sae_selection
        covered = coverage(features, receipt.indices)
        seconds = statistics.median(run[0] for run in runs)
        mean = features.tokens[receipt.indices].mean()
        share = f"{covered:,} ({covered / pool:.1%})"
        print(f"{name:<16}{seconds:>10.2f}{len(receipt.round_starts):>8}{share:>20}{mean:>14.0f}")
    print(f"{'(all rows)':<16}{'':>18}{f'{pool:,}':>20}{features.tokens.mean():>14.0f}")
    print(f"\nPearson r of length and number of features: {length_correlation(features):.2f} above the threshold")
    print(
        f"  ({features.counts.mean():.0f} features a row), {length_correlation(everything):.2f} with every activation"
    )
    print(f"  ({everything.counts.mean():.0f} a row); the paper reports 0.92")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


def timed_select(coded: Dataset, budget: int, method: str, top: int | None) -> tuple[float, Dataset]:
    started = time.perf_counter()
    subset = coded.sae_select(budget, method, top=top)
    return time.perf_counter() - started, subset


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="alpaca_52k.parquet")
    parser.add_argument("--budget", type=int, default=3000)
    parser.add_argument("--rows", type=int, help="only the first ROWS rows, for a quick look")
    return parser.parse_args()


if __name__ == "__main__":
    main()
