"""Repeat the experiment of arXiv:2502.14050: select rows, fine-tune a model on them, and run two benchmarks.

    python examples/paper_experiment.py --out tiny --tiny

takes a minute on a laptop. It runs every step on a random model of two layers and a few rows, for one epoch. **Its
numbers mean nothing. We have never run the full experiment**, which needs several large GPUs. The paper's SAE (TopK,
k 128, 131,072 latents, last layer of Llama 3.1 8B Instruct, threshold 10) is not public: `--sae` takes another one,
`--train-sae-on` trains one with the same hyperparameters. Steps can be launched separately, with the other arguments
unchanged; for tuning, `accelerate config` writes a file that sets FSDP, bf16 and activation checkpointing:

    ARGS="--out wizard --train-sae-on texts.parquet --threshold 10"
    accelerate launch --multi_gpu examples/paper_experiment.py --steps select $ARGS
    accelerate launch --config_file fsdp.yaml examples/paper_experiment.py --steps tune $ARGS
    accelerate launch --multi_gpu examples/paper_experiment.py --steps answer $ARGS

`--data tatsu-lab/alpaca` is the paper's other dataset. The paper does not publish its fine-tuning hyperparameters; we
use those of "Long Is More for Alignment" (arXiv:2402.04833), without NEFTune. An interrupted experiment resumes after
the last complete step of each method and budget. A model of 13 B parameters takes 52 GB on disk; delete it when its
answers are saved.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object, parse_flag_from_env
from datasets import Dataset, load_dataset
from quickstart import LOADERS
from tiny_experiment import TINY, TINY_SAE, from_library, save_tiny_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    GenerationConfig,
    Trainer,
    TrainingArguments,
)

from hf_sae_select import METHODS, TRAINING_PRESETS, SparseAutoencoder, load_sae, select, train_sae
from hf_sae_select.engines.processes import processes
from hf_sae_select.publishing.hashing import row_digests
from hf_sae_select.selection.cuts import Cuts
from hf_sae_select.selection.request import SelectionRequest

WIZARDLM = "WizardLMTeam/WizardLM_evol_instruct_70k"
ALPACA_EVAL = "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json"  # `datasets` 4 does not run the repo's script
DEFAULT = inspect.signature(select).parameters["method"].default
COMPARED = list(dict.fromkeys(("random", "longest", "greedy", "simscale", DEFAULT)))
STEPS = ("select", "tune", "answer")
SAE_MODEL, SAE_HOOK = "meta-llama/Llama-3.1-8B-Instruct", "layers.31"
BATCH, WINDOW, GENERATION_BATCH = 128, 2048, 16
HYPERPARAMETERS = {"learning_rate": 1e-5, "lr_scheduler_type": "linear", "weight_decay": 0.1}
HYPERPARAMETERS |= {"adam_beta1": 0.9, "adam_beta2": 0.95}
# Alpaca's prompt
PROMPT = """Below is an instruction that describes a task{context}. Write a response that appropriately completes the \
request.

### Instruction:
{instruction}

{input}### Response:"""
SELECTION, MODEL, ANSWERS = "selection.json", "model", ("responses.jsonl", "model_outputs.json", "losses.json")
SCORING = """
# IFEval, in a checkout of github.com/google-research/google-research:
for run in {runs}; do
    mkdir -p {out}/$run/ifeval
    python -m instruction_following_eval.evaluation_main \\
        --input_data=instruction_following_eval/data/input_data.jsonl \\
        --input_response_data={out}/$run/responses.jsonl --output_dir={out}/$run/ifeval
done
# AlpacaEval 2.0, with a paid judge (OPENAI_API_KEY); install alpaca-eval with datasets<4:
for run in {runs}; do
    alpaca_eval --annotators_config weighted_alpaca_eval_gpt4_turbo \\
        --model_outputs {out}/$run/model_outputs.json --output_path {out}/$run/alpaca_eval
done
"""
TINY_NOTE = "--tiny: a random model and a few rows. These numbers mean nothing; we have never run the full experiment."


class Run(NamedTuple):
    """A method, a budget, and the folder of their results."""

    method: str
    budget: int
    folder: Path

    def has(self, *names: str) -> bool:
        return all((self.folder / name).exists() for name in names)


def main() -> None:
    args = arguments()
    rows, ifeval, alpaca_eval = inputs(args)
    order = np.random.default_rng(args.seed).permutation(len(rows))
    held_out = sorted(order[: args.held_out].tolist())
    runs = [Run(method, budget, args.out / f"{method}-{budget}") for budget in args.budgets for method in args.methods]
    check_runs(args, rows, held_out, runs)
    prepare(args, rows)
    if "select" in args.steps:
        select_rows(args, rows, held_out, [run for run in runs if not run.has(SELECTION)])
    for run in runs:
        if "tune" in args.steps and not (run.has(MODEL) or run.has(*ANSWERS)):
            tune(args, rows, run)
            gc.collect()  # a Trainer refers to itself, and keeps its model in memory until it is collected
        if "answer" in args.steps and not run.has(*ANSWERS):
            answer(args, run, ifeval, alpaca_eval, rows.select(held_out))
    if processes().is_main_process:
        report(args, runs)


def inputs(args: argparse.Namespace) -> tuple[Dataset, Dataset, Dataset]:
    """Return the instructions to select from, and the prompts of IFEval and AlpacaEval."""
    rows = from_library("statistics", "random", "shutil", "textwrap") if args.data is None else read(args.data)
    few = from_library("heapq", "bisect").select(range(4))["instruction"]
    ifeval = Dataset.from_dict({"prompt": few}) if args.ifeval is None else read(args.ifeval)
    columns = {"instruction": few, "dataset": ["standard library"] * len(few)}
    alpaca_eval = Dataset.from_dict(columns) if args.alpaca_eval is None else read(args.alpaca_eval)
    for name, dataset, required in (
        ("data", rows, {"instruction", "output"}),
        ("ifeval", ifeval, {"prompt"}),
        ("alpaca-eval", alpaca_eval, {"instruction", "dataset"}),
    ):
        if missing := sorted(required - set(dataset.column_names)):
            columns_text = ", ".join(dataset.column_names)
            raise ValueError(
                f"`--{name}` has no column `{missing[0]}`, only {columns_text}; rename one or pass other data"
            )
    return rows, ifeval, alpaca_eval


def read(source: str) -> Dataset:
    """Load a file by its suffix, or the train split of a Hub dataset."""
    loader = LOADERS.get(Path(source).suffix)
    return load_dataset(loader, data_files=source, split="train") if loader else load_dataset(source, split="train")


def check_runs(args: argparse.Namespace, rows: Dataset, held_out: list[int], runs: Sequence[Run]) -> None:
    """Check, before any slow work, that all steps can run."""
    Cuts(args.threshold).check()
    if not 1 <= args.held_out < len(rows):
        raise ValueError(f"`--held-out {args.held_out}` must be from 1 to {len(rows) - 1}; there are {len(rows)} rows")
    parallel = args.per_device * processes().num_processes
    if BATCH % parallel:
        raise ValueError(f"`--per-device {args.per_device}` makes {parallel} rows in all; it must divide {BATCH}")
    if parse_flag_from_env("ACCELERATE_USE_FSDP") and args.steps != ["tune"]:
        raise ValueError("`--steps`: FSDP is for `--steps tune` only; launch the other steps without it")
    for run in runs:
        SelectionRequest.parse(len(rows), rows, run.budget, run.method, {}, seed=args.seed, exclude=held_out)
        if "select" not in args.steps and not run.has(SELECTION):
            raise FileNotFoundError(f"`--steps`: {run.folder / SELECTION} is missing; run `--steps select` first")
        if args.steps == ["answer"] and not (run.has(MODEL) or run.has(*ANSWERS)):
            raise FileNotFoundError(f"`--steps`: {run.folder / MODEL} is missing; run `--steps tune` first")


def prepare(args: argparse.Namespace, rows: Dataset) -> None:
    """Write the settings that decide the results, refuse a folder with other settings, and make the tiny model."""
    without_effect = ("out", "methods", "budgets", "steps", "per_device")
    settings = {name: value for name, value in vars(args).items() if name not in without_effect}
    digest = sha256(row_digests(rows).tobytes()).hexdigest()  # the rows of a dataset may change under the same name
    settings["data"] = f"{args.data}, SHA-256 {digest}"
    file = args.out / "settings.json"
    before = json.loads(file.read_text()) if file.exists() else settings
    for name, value in settings.items():
        if before.get(name) != value:
            option = f"`--{name.replace('_', '-')}` was {before.get(name)!r}"
            raise ValueError(f"`--out {args.out}` holds results of other settings: {option}; pass another folder")
    write(file, json.dumps(settings, indent=2))
    if args.base is None:
        base = args.out / "base"
        if processes().is_main_process and not base.exists():
            save_tiny_model(part(base), rows["output"])
        finish(base)
        args.base = str(base)


def select_rows(args: argparse.Namespace, rows: Dataset, held_out: list[int], runs: Sequence[Run]) -> None:
    """Encode the rows once, and write the selection of each run; held-out rows are never selected."""
    if not runs:
        return
    keep = "state" if any(METHODS[method].needs_vectors for method in args.methods) else ()
    encoded = rows.sae_encode(the_sae(args), keep=keep)
    for run in runs:
        subset = encoded.sae_select(run.budget, run.method, threshold=args.threshold, seed=args.seed, exclude=held_out)
        tokens = encoded["sae_tokens"][:]
        mean_tokens = float(np.mean([tokens[row] for row in subset.sae_selection.indices]))
        selection = asdict(subset.sae_selection) | {"mean_tokens": mean_tokens}
        write(run.folder / SELECTION, json.dumps(selection, default=np.ndarray.tolist))


def the_sae(args: argparse.Namespace) -> SparseAutoencoder:
    """Load the SAE, after training it if `--train-sae-on` asks for that."""
    if args.train_sae_on is None:
        return load_sae(args.sae, subfolder=args.sae_subfolder, encoder_only=True)
    folder = args.out / "sae"
    if not folder.exists():
        model, hook, config = SAE_MODEL, SAE_HOOK, TRAINING_PRESETS["paper"]
        if args.tiny:
            model, hook, config = args.base, "layers.1", TINY_SAE
        dataset, checkpoints = read(args.train_sae_on), args.out / "sae-checkpoints"
        sae = train_sae(dataset, model=model, hook=hook, config=config, context_size=WINDOW, output_dir=checkpoints)
        if processes().is_main_process:
            sae.save_pretrained(part(folder))
        finish(folder)
    return load_sae(folder, encoder_only=True)


def tune(args: argparse.Namespace, rows: Dataset, run: Run) -> None:
    """Fine-tune all parameters of the base model on the selected rows, and save it."""
    subset = rows.select(json.loads((run.folder / SELECTION).read_text())["indices"])
    tokenizer = tokenizer_of(args.base)
    gpu = torch.cuda.is_available()
    settings = TrainingArguments(
        output_dir=str(part(run.folder / MODEL)),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.per_device,
        gradient_accumulation_steps=BATCH // (args.per_device * processes().num_processes),
        use_cpu=processes().device.type == "cpu",
        bf16=gpu,
        dataloader_pin_memory=gpu,
        save_strategy="no",
        report_to="none",
        seed=args.seed,
        **HYPERPARAMETERS,
    )
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32),  # `bf16` casts the products only
        settings,
        DataCollatorForSeq2Seq(tokenizer),
        [example(tokenizer, row) for row in subset],
        processing_class=tokenizer,
    )
    trainer.train()
    if trainer.is_fsdp_enabled:  # save one model, not its shards
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model()
    finish(run.folder / MODEL)


def tokenizer_of(folder: str | Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # any token will do: padding is masked
    return tokenizer


def prompt(row: dict[str, Any]) -> str:
    """Return an instruction in Alpaca's prompt, with its input if it has one."""
    context = section = ""
    if row.get("input"):
        context, section = ", paired with an input that provides further context", f"### Input:\n{row['input']}\n\n"
    return PROMPT.format(context=context, instruction=row["instruction"], input=section)


def example(tokenizer: Any, row: dict[str, Any]) -> dict[str, list[int]]:
    """Return the tokens of a row, and labels that mask its prompt."""
    question = tokenizer(prompt(row))["input_ids"]
    response = tokenizer(row["output"] or "", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    labels = [-100] * len(question) + response
    return {"input_ids": (question + response)[:WINDOW], "labels": labels[:WINDOW]}


def answer(args: argparse.Namespace, run: Run, ifeval: Dataset, alpaca_eval: Dataset, held_out: Dataset) -> None:
    """Write a model's answers to both benchmarks, in the form of each, and its loss on each held-out row."""
    tokenizer = tokenizer_of(run.folder / MODEL)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(run.folder / MODEL, dtype=dtype).to(processes().device).eval()
    # Greedy decoding: the generation config of the base model may sample.
    model.generation_config = GenerationConfig(
        max_new_tokens=args.max_new_tokens, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    prompts = list(ifeval["prompt"])
    instructions = [*prompts, *alpaca_eval["instruction"]]
    with torch.inference_mode():
        answers = generate(model, tokenizer, [prompt({"instruction": text}) for text in instructions])
        losses = losses_of(model, [example(tokenizer, row) for row in held_out])
    responses = [{"prompt": text, "response": reply} for text, reply in zip(prompts, answers, strict=False)]
    generator = f"{args.out.resolve().name}-{run.folder.name}"
    outputs = [
        {"instruction": row["instruction"], "output": reply, "dataset": row["dataset"], "generator": generator}
        for row, reply in zip(alpaca_eval, answers[len(prompts) :], strict=True)
    ]
    lines = "".join(json.dumps(response) + "\n" for response in responses)
    for name, text in zip(ANSWERS, (lines, json.dumps(outputs, indent=2), json.dumps(losses)), strict=True):
        write(run.folder / name, text)


def generate(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    """Return greedily decoded answers, in the order of the prompts, which the processes share."""
    answers = []
    with processes().split_between_processes(prompts) as share:
        for start in range(0, len(share), GENERATION_BATCH):
            batch = share[start : start + GENERATION_BATCH]
            tokens = tokenizer(batch, padding=True, padding_side="left", return_tensors="pt").to(model.device)
            new_tokens = model.generate(**tokens)[:, tokens["input_ids"].shape[1] :]
            answers += [text.strip() for text in tokenizer.batch_decode(new_tokens, skip_special_tokens=True)]
    return list(gather_object(answers))


def losses_of(model: Any, examples: list[dict[str, list[int]]]) -> list[dict[str, float]]:
    """Return for each row the number of response tokens, and their mean loss."""
    losses = []
    with processes().split_between_processes(examples) as share:
        for row in share:
            count = sum(label != -100 for label in row["labels"])
            if count:  # 0 if the instruction fills the window
                tensors = {name: torch.tensor([values], device=model.device) for name, values in row.items()}
                losses.append({"tokens": count, "loss": model(**tensors).loss.item()})
    return list(gather_object(losses))


def report(args: argparse.Namespace, runs: Sequence[Run]) -> None:
    """Print a table of all runs, and the commands that score their answers."""
    print(f"\n{'method':<20}{'budget':>8}{'rows':>8}{'mean tokens':>14}{'held-out loss':>16}")
    for run in runs:
        selection, loss = json.loads((run.folder / SELECTION).read_text()), "not yet"
        if run.has(*ANSWERS):
            rows = json.loads((run.folder / ANSWERS[-1]).read_text())
            loss = f"{np.average([row['loss'] for row in rows], weights=[row['tokens'] for row in rows]):.4f}"
        sizes = f"{run.budget:>8,}{len(selection['indices']):>8,}{selection['mean_tokens']:>14.0f}"
        print(f"{run.method:<20}{sizes}{loss:>16}")
    print("(tokens of the SAE's model; loss per token of the responses)")
    complete = " ".join(run.folder.name for run in runs if run.has(*ANSWERS))
    print(SCORING.format(out=shlex.quote(str(args.out.resolve())), runs=complete))
    if args.tiny:
        print(TINY_NOTE)


def part(path: Path) -> Path:
    """Return the name of a file or folder while it is incomplete."""
    return path.with_name(f"{path.name}.part")


def finish(path: Path) -> None:
    """Rename a complete file or folder from its `part` name, on the main process."""
    if processes().is_main_process and part(path).exists():
        os.replace(part(path), path)
    processes().wait_for_everyone()


def write(path: Path, text: str) -> None:
    """Write a file, complete or not at all."""
    if processes().is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        part(path).write_text(text)
    finish(path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for all results")
    parser.add_argument("--tiny", action="store_true", help="run all steps on a random model")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--data", default=WIZARDLM, help="instructions: a file or a Hub id (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=COMPARED, choices=sorted(METHODS), metavar="METHOD")
    parser.add_argument("--budgets", nargs="+", type=int, default=[1000, 3000, 5000], metavar="ROWS")
    parser.add_argument("--held-out", type=int, default=500, help="rows to measure the loss on (default: 500)")
    sae = parser.add_mutually_exclusive_group()
    sae.add_argument("--sae", help="folder, file or Hub id for `load_sae` (default: the packaged SAE)")
    sae.add_argument("--train-sae-on", metavar="DATASET", help="texts to train the paper's SAE on: a file or a Hub id")
    parser.add_argument("--sae-subfolder", help="folder of the SAE in the repo `--sae`")
    parser.add_argument("--threshold", type=float, help="of activations; the paper has 10 (default: that of the SAE)")
    parser.add_argument(
        "--base", default="meta-llama/Llama-2-13b-hf", help="model to fine-tune (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument(
        "--per-device", type=int, default=2, help=f"rows per device at a time; a step has {BATCH} rows"
    )
    parser.add_argument("--ifeval", default="google/IFEval", help="prompts: a file or a Hub id")
    parser.add_argument("--alpaca-eval", default=ALPACA_EVAL, help="instructions: a file or a Hub id")
    parser.add_argument("--max-new-tokens", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.tiny:
        parser.set_defaults(**TINY)
        args = parser.parse_args()
        print(TINY_NOTE)
    if args.sae_subfolder and not args.sae:
        parser.error("`--sae-subfolder` needs `--sae`, the repo of the folder")
    for name in ("epochs", "per_device", "max_new_tokens"):
        if getattr(args, name) < 1:
            parser.error(f"`--{name.replace('_', '-')}` must be 1 or more")
    return args


if __name__ == "__main__":
    main()
