"""Hidden states of the decoder, computed once and kept in files, for all trainers to read.

    python benchmarks/decoder/states.py --data FOLDER --out FOLDER [--tokens 800000] [--device cuda]

An interrupted run continues where it stopped. The first token of a text takes up attention that no other token needs,
and its vector is a hundred times longer than the others; an SAE has nothing to learn from it, so it is left out.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from folder import results_folder
from model import decoder
from numpy.typing import NDArray
from texts import documents

from hf_sae_select.encoding.language_model import LanguageModel

HOOK = "layers.14"  # the output of layer 15 of 30
WINDOW = 256  # tokens of a text that are read
MAX_NORM_RATIO = 10.0  # longest vector that is kept, in medians of its window
HELD_OUT_TOKENS = 40_000
DOCUMENTS = 128  # to a file; an interruption loses at most the work on so many


def reader(model: Path, device: str) -> LanguageModel:
    """Load the decoder up to the hook, in bfloat16, which is twice as fast as float32 on a CPU."""
    return LanguageModel.from_pretrained(
        str(model), HOOK, dtype=torch.bfloat16, device=device, window=WINDOW, max_norm_ratio=MAX_NORM_RATIO
    )


def states_folder(out: Path, data: Path, device: str) -> Path:
    """Return the folder of states, OUT/states."""
    settings = {"hook": HOOK, "window": WINDOW, "max_norm_ratio": MAX_NORM_RATIO, "device": device, "data": data.name}
    here = Path(__file__).parent
    sources = [Path(__file__), here / "texts.py", here / "model.py", here.parent / "labelled.py"]
    return results_folder(out / "states", settings, sources)


def compute(folder: Path, lm: LanguageModel, texts: Sequence[str], tokens: int) -> None:
    """Write files of states, [tokens, d_in] in float16, and of the tokens of each text, until there are `tokens`.

    Raises:
        SystemExit: the texts have fewer tokens.
    """
    folder.mkdir(exist_ok=True)
    count, started, computed = 0, time.perf_counter(), 0
    for start in range(0, len(texts), DOCUMENTS):
        if count >= tokens:
            return
        file = folder / f"{start:07d}.npz"
        if not file.exists():
            windows = lm.windows(texts[start : start + DOCUMENTS], max_length=WINDOW)
            groups = list(lm.states(windows))
            states = torch.cat([states.half().cpu() for _, states in groups])
            lengths = [sum(window.is_text) for group, _ in groups for window in group]
            if not states.isfinite().all():
                raise RuntimeError(f"{file}: a hidden state is beyond float16")
            part = file.with_suffix(".part")
            with open(part, "wb") as opened:
                np.savez(opened, states=states.numpy(), lengths=np.array(lengths))
            os.replace(part, file)
            computed += len(states)
        count += tokens_of(file)
        if computed:
            speed = computed / (time.perf_counter() - started)
            print(f"{folder.name}: {count:,} of {tokens:,} tokens, {speed:,.0f} a second", flush=True)
    if count < tokens:
        raise SystemExit(f"`--tokens {tokens}`: the texts have only {count:,} tokens; pass fewer")


def tokens_of(file: Path) -> int:
    with np.load(file) as arrays:
        return int(arrays["lengths"].sum())


def read(folder: Path, tokens: int) -> tuple[NDArray[np.float16], list[int]]:
    """Return about the first `tokens` states, [tokens, d_in], of whole texts, and the tokens of each text.

    Raises:
        SystemExit: fewer were computed.
    """
    states: list[NDArray[np.float16]] = []
    lengths: list[int] = []
    for file in sorted(folder.glob("*.npz")):
        if sum(lengths) >= tokens:
            break
        with np.load(file) as arrays:
            states.append(arrays["states"])
            lengths += arrays["lengths"].tolist()
    if sum(lengths) < tokens:
        raise SystemExit(
            f"{folder} has {sum(lengths):,} of {tokens:,} tokens; run states.py with `--tokens {tokens}` or more"
        )
    return np.concatenate(states), lengths


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    lm = reader(decoder(args.out), args.device)
    folder = states_folder(args.out, args.data, args.device)
    training, held_out = documents(args.data)
    compute(folder / "held_out", lm, held_out, HELD_OUT_TOKENS)
    compute(folder / "training", lm, training, args.tokens)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files of texts.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bench")
    parser.add_argument("--tokens", type=int, default=800_000, help="tokens to train on (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
