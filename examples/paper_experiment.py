"""Tune a model on the rows that each method picks, and have it answer two benchmarks, as in arXiv:2502.14050.

    python examples/paper_experiment.py --out tiny --tiny

takes a minute on a laptop: a random model of two layers, a few rows and one epoch show that every step works. **Its
numbers mean nothing, and we never made the full run**, which wants several large GPUs. The paper's SAE (TopK, k 128,
131,072 latents, last layer of Llama 3.1 8B Instruct, threshold 10) was not released: `--sae` takes any other, and
`--train-sae-on` trains one by that recipe. Each step can be launched in its own way, with the same other arguments;
tuning takes FSDP, bf16 and activation checkpointing from the file that `accelerate config` writes:

    ARGS="--out wizard --train-sae-on texts.parquet --threshold 10"
    accelerate launch --multi_gpu examples/paper_experiment.py --steps select $ARGS
    accelerate launch --config_file fsdp.yaml examples/paper_experiment.py --steps tune $ARGS
    accelerate launch --multi_gpu examples/paper_experiment.py --steps answer $ARGS

`--data tatsu-lab/alpaca` is the paper's other dataset. How the paper tunes is not known to us; the recipe here is that
of "Long Is More for Alignment" (arXiv:2402.04833), without its noise on embeddings. What was interrupted goes on where
it stopped, by method and budget. A model of 13 B is 52 GB on disk; once its answers are there, it can be deleted.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import os
import shlex
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object, parse_flag_from_env
from datasets import Dataset, load_dataset
from quickstart import LOADERS, documented
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from hf_sae_select import METHODS, SparseAutoencoder, load_sae, train_sae
from hf_sae_select.encoding.distributed import processes
from hf_sae_select.publishing.hashing import row_digests
from hf_sae_select.selection.api import check, check_cut, select
from hf_sae_select.training.config import PRESETS

WIZARDLM = "WizardLMTeam/WizardLM_evol_instruct_70k"
ALPACA_EVAL = "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json"  # the repo's script is not run by `datasets` 4
DEFAULT = inspect.signature(select).parameters["method"].default
COMPARED = list(dict.fromkeys(("random", "longest", "greedy", "simscale", DEFAULT)))
STEPS = ("select", "tune", "answer")
SAE_MODEL, SAE_HOOK = "meta-llama/Llama-3.1-8B-Instruct", "layers.31"
BATCH, WINDOW, GENERATED_TOGETHER = 128, 2048, 16
RECIPE = {"learning_rate": 1e-5, "lr_scheduler_type": "linear", "weight_decay": 0.1}
RECIPE |= {"adam_beta1": 0.9, "adam_beta2": 0.95}
ASK = """Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
{instruction}

### Response:"""
ASK_WITH_INPUT = """Below is an instruction that describes a task, paired with an input that provides further \
context. Write a response that appropriately completes the request.

### Instruction:
{instruction}

### Input:
{input}

### Response:"""
RECEIPT, MODEL, ANSWERS = "receipt.json", "model", ("responses.jsonl", "model_outputs.json", "losses.json")
SCORING = """
# IFEval, in a checkout of github.com/google-research/google-research:
for run in {there}; do
    mkdir -p {out}/$run/ifeval
    python -m instruction_following_eval.evaluation_main \\
        --input_data=instruction_following_eval/data/input_data.jsonl \\
        --input_response_data={out}/$run/responses.jsonl --output_dir={out}/$run/ifeval
done
# AlpacaEval 2.0, by a judge that costs money (OPENAI_API_KEY); install alpaca-eval beside datasets<4:
for run in {there}; do
    alpaca_eval --annotators_config weighted_alpaca_eval_gpt4_turbo \\
        --model_outputs {out}/$run/model_outputs.json --output_path {out}/$run/alpaca_eval
done
"""
TINY = {"data": None, "ifeval": None, "alpaca_eval": None, "base": None, "budgets": [8, 16], "held_out": 8}
TINY |= {"epochs": 1, "max_new_tokens": 16}
TINY_SAE = replace(PRESETS["paper"], d_sae=256, k=8, tokens=2048, batch=256, buffer=1024, lr=1e-3)
TINY_NOTE = "--tiny: a random model and a few rows. These numbers mean nothing; the full run was never made by us."


class Run(NamedTuple):
    """Name a method and a budget, and the folder for all that becomes of them."""

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
    runs = [Run(each, budget, args.out / f"{each}-{budget}") for budget in args.budgets for each in args.methods]
    check_runs(args, rows, held_out, runs)
    begin(args, rows)
    if "select" in args.steps:
        pick(args, rows, held_out, [run for run in runs if not run.has(RECEIPT)])
    for run in runs:
        if "tune" in args.steps and not (run.has(MODEL) or run.has(*ANSWERS)):
            tune(args, rows, run)
            gc.collect()  # trainers refer to themselves, and hold their model until they are collected
        if "answer" in args.steps and not run.has(*ANSWERS):
            answer(args, run, ifeval, alpaca_eval, rows.select(held_out))
    if processes().is_main_process:
        report(args, runs)


def inputs(args: argparse.Namespace) -> tuple[Dataset, Dataset, Dataset]:
    """Return the instructions to pick from, and the prompts of IFEval and AlpacaEval."""
    rows = from_library("statistics", "random", "shutil", "textwrap") if args.data is None else read(args.data)
    few = from_library("heapq", "bisect").select(range(4))["instruction"]
    ifeval = Dataset.from_dict({"prompt": few}) if args.ifeval is None else read(args.ifeval)
    plain = {"instruction": few, "dataset": ["standard library"] * len(few)}
    alpaca_eval = Dataset.from_dict(plain) if args.alpaca_eval is None else read(args.alpaca_eval)
    wanted = {"instruction", "output"}, {"prompt"}, {"instruction", "dataset"}
    for name, ds, columns in zip(("data", "ifeval", "alpaca-eval"), (rows, ifeval, alpaca_eval), wanted, strict=True):
        if missing := sorted(columns - set(ds.column_names)):
            has = ", ".join(ds.column_names)
            raise ValueError(f"`--{name}` has no column `{missing[0]}`; it has: {has}. Rename one, or pass other data")
    return rows, ifeval, alpaca_eval


def from_library(*modules: str) -> Dataset:
    """Make instructions of the docstrings of some modules of Python's standard library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found = dict(pair for name in modules for pair in documented(library / f"{name}.py", name))
    asked = [f"What is `{name}` of Python's standard library for?" for name in found]
    return Dataset.from_dict({"instruction": asked, "output": list(found.values())})


def read(source: str) -> Dataset:
    """Load a file by its suffix, or the train split of a Hub dataset."""
    loader = LOADERS.get(Path(source).suffix)
    return load_dataset(loader, data_files=source, split="train") if loader else load_dataset(source, split="train")


def check_runs(args: argparse.Namespace, rows: Dataset, held_out: list[int], runs: Sequence[Run]) -> None:
    """Refuse what could not be run to its end, before anything slow."""
    check_cut(args.threshold, None, None)
    if not 1 <= args.held_out < len(rows):
        raise ValueError(f"`--held-out {args.held_out}` of {len(rows)} rows; pass a number from 1 to {len(rows) - 1}")
    together = args.per_device * processes().num_processes
    if BATCH % together:
        given = f"`--per-device {args.per_device}` makes {together} rows at a time in all"
        raise ValueError(f"{given}; pass a number that makes a divisor of {BATCH}")
    if parse_flag_from_env("ACCELERATE_USE_FSDP") and args.steps != ["tune"]:
        raise ValueError("`--steps`: FSDP is for `--steps tune`; launch the others without it")
    for run in runs:
        check(rows, run.budget, run.method, args.seed, exclude=held_out)
        if "select" not in args.steps and not run.has(RECEIPT):
            raise FileNotFoundError(f"`--steps`: no {run.folder / RECEIPT}; run `--steps select` first")
        if args.steps == ["answer"] and not (run.has(MODEL) or run.has(*ANSWERS)):
            raise FileNotFoundError(f"`--steps`: no {run.folder / MODEL}; run `--steps tune` first")


def begin(args: argparse.Namespace, rows: Dataset) -> None:
    """Note in the folder what decides its results, refuse a folder of other settings, and make the tiny model."""
    free = ("out", "methods", "budgets", "steps", "per_device")
    settings = {name: value for name, value in vars(args).items() if name not in free}
    digest = sha256(row_digests(rows).tobytes()).hexdigest()  # a name stays when its rows change
    settings["data"] = f"{args.data}, SHA-256 {digest}"
    file = args.out / "settings.json"
    before = json.loads(file.read_text()) if file.exists() else settings
    for name, value in settings.items():
        if before.get(name) != value:
            was = f"`--{name.replace('_', '-')}` was {before.get(name)!r}"
            raise ValueError(f"`--out {args.out}` holds results of other settings: {was}; pass another folder")
    write(file, json.dumps(settings, indent=2))
    if args.base is None:
        args.base = str(args.out / "base")
        make_tiny_model(Path(args.base), rows["output"])


def make_tiny_model(folder: Path, texts: Sequence[str]) -> None:
    """Save a random Llama of two layers, and a tokenizer trained on the texts."""
    if processes().is_main_process and not folder.exists():
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        letters, special = pre_tokenizers.ByteLevel.alphabet(), ["<s>", "</s>"]
        merging = trainers.BpeTrainer(special_tokens=special, initial_alphabet=letters, vocab_size=512)
        backend.train_from_iterator(texts, merging)
        names = {"bos_token": "<s>", "eos_token": "</s>", "model_input_names": ["input_ids", "attention_mask"]}
        PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(part(folder))
        torch.manual_seed(0)
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        tokens = {"vocab_size": backend.get_vocab_size(), "bos_token_id": 0, "eos_token_id": 1}
        LlamaForCausalLM(LlamaConfig(**sizes, **tokens)).save_pretrained(part(folder))
    finish(folder)


def pick(args: argparse.Namespace, rows: Dataset, held_out: list[int], runs: Sequence[Run]) -> None:
    """Encode the rows once, and write a receipt for each method and budget; rows held out are never picked."""
    if not runs:
        return
    keep = {METHODS[method].keep for method in args.methods} - {None}
    coded = rows.sae_encode(the_sae(args), keep=keep)
    for run in runs:
        subset = coded.sae_select(run.budget, run.method, threshold=args.threshold, seed=args.seed, exclude=held_out)
        receipt = asdict(subset.sae_selection) | {"mean_tokens": float(np.mean(subset["sae_tokens"]))}
        write(run.folder / RECEIPT, json.dumps(receipt, default=np.ndarray.tolist))


def the_sae(args: argparse.Namespace) -> SparseAutoencoder:
    """Load the SAE that was asked for; train it first, if it is to be trained and was not yet."""
    if args.train_sae_on is None:
        return load_sae(args.sae, subfolder=args.sae_subfolder, encoder_only=True)
    folder = args.out / "sae"
    if not folder.exists():
        model, hook, config = SAE_MODEL, SAE_HOOK, PRESETS["paper"]
        if args.tiny:
            model, hook, config = args.base, "layers.1", TINY_SAE
        ds, kept = read(args.train_sae_on), args.out / "sae-checkpoints"
        trained = train_sae(ds, model=model, hook=hook, config=config, window=WINDOW, checkpoints=kept)
        if processes().is_main_process:
            trained.save_pretrained(part(folder))
        finish(folder)
    return load_sae(folder, encoder_only=True)


def tune(args: argparse.Namespace, rows: Dataset, run: Run) -> None:
    """Fine-tune all of the base model on the rows of a receipt, and save it."""
    picked = rows.select(json.loads((run.folder / RECEIPT).read_text())["indices"])
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
        **RECIPE,
    )
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32),  # bf16 is for products, not for sums
        settings,
        DataCollatorForSeq2Seq(tokenizer),
        [example(tokenizer, row) for row in picked],
        processing_class=tokenizer,
    )
    trainer.train()
    if trainer.is_fsdp_enabled:  # shards are no model that can be loaded
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model()
    finish(run.folder / MODEL)


def tokenizer_of(folder: str | Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # padding is masked, whatever it is
    return tokenizer


def question(row: dict[str, Any]) -> str:
    """Write an instruction out as Alpaca does."""
    return (ASK_WITH_INPUT if row.get("input") else ASK).format_map(row)


def example(tokenizer: Any, row: dict[str, Any]) -> dict[str, list[int]]:
    """Return a row's tokens, and the labels that only its response has."""
    asked = tokenizer(question(row))["input_ids"]
    said = tokenizer(row["output"] or "", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return {"input_ids": (asked + said)[:WINDOW], "labels": ([-100] * len(asked) + said)[:WINDOW]}


def answer(args: argparse.Namespace, run: Run, ifeval: Dataset, alpaca_eval: Dataset, unseen: Dataset) -> None:
    """Write a model's answers to both benchmarks, each in its own form, and its loss on each row held out."""
    tokenizer = tokenizer_of(run.folder / MODEL)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(run.folder / MODEL, dtype=dtype).to(processes().device).eval()
    # Base models come with settings for sampling.
    model.generation_config = GenerationConfig(
        max_new_tokens=args.max_new_tokens, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    prompts = list(ifeval["prompt"])
    asked = [question({"instruction": each}) for each in [*prompts, *alpaca_eval["instruction"]]]
    with torch.inference_mode():
        said = generated(model, tokenizer, asked)
        losses = losses_of(model, [example(tokenizer, row) for row in unseen])
    responses = [{"prompt": ask, "response": say} for ask, say in zip(prompts, said, strict=False)]
    shared = {"generator": f"{args.out.resolve().name}-{run.folder.name}"}
    outputs = [
        {"instruction": row["instruction"], "output": say, "dataset": row["dataset"]} | shared
        for row, say in zip(alpaca_eval, said[len(prompts) :], strict=True)
    ]
    texts = "".join(json.dumps(each) + "\n" for each in responses), json.dumps(outputs, indent=2), json.dumps(losses)
    for name, text in zip(ANSWERS, texts, strict=True):
        write(run.folder / name, text)


def generated(model: Any, tokenizer: Any, asked: list[str]) -> list[str]:
    """Return the likeliest answers, in the order of the questions; the processes share them."""
    said = []
    with processes().split_between_processes(asked) as share:
        for start in range(0, len(share), GENERATED_TOGETHER):
            batch = share[start : start + GENERATED_TOGETHER]
            tokens = tokenizer(batch, padding=True, padding_side="left", return_tensors="pt").to(model.device)
            grown = model.generate(**tokens)[:, tokens["input_ids"].shape[1] :]
            said += [text.strip() for text in tokenizer.batch_decode(grown, skip_special_tokens=True)]
    return list(gather_object(said))


def losses_of(model: Any, examples: list[dict[str, list[int]]]) -> list[dict[str, float]]:
    """Return of each row how many response tokens it has, and their mean loss."""
    found = []
    with processes().split_between_processes(examples) as share:
        for each in share:
            tokens = sum(label != -100 for label in each["labels"])
            if tokens:  # none, where the instruction fills the window
                row = {name: torch.tensor([values], device=model.device) for name, values in each.items()}
                found.append({"tokens": tokens, "loss": model(**row).loss.item()})
    return list(gather_object(found))


def report(args: argparse.Namespace, runs: Sequence[Run]) -> None:
    """Print a table of all runs, and the commands that score their answers."""
    print(f"\n{'method':<20}{'budget':>8}{'rows':>8}{'mean tokens':>14}{'held-out loss':>16}")
    for run in runs:
        receipt, loss = json.loads((run.folder / RECEIPT).read_text()), "not yet"
        if run.has(*ANSWERS):
            rows = json.loads((run.folder / ANSWERS[-1]).read_text())
            loss = f"{np.average([row['loss'] for row in rows], weights=[row['tokens'] for row in rows]):.4f}"
        sizes = f"{run.budget:>8,}{len(receipt['indices']):>8,}{receipt['mean_tokens']:>14.0f}"
        print(f"{run.method:<20}{sizes}{loss:>16}")
    print("(tokens of the SAE's model; loss per token of the responses)")
    there = " ".join(run.folder.name for run in runs if run.has(*ANSWERS))
    print(SCORING.format(out=shlex.quote(str(args.out.resolve())), there=there))
    if args.tiny:
        print(TINY_NOTE)


def part(path: Path) -> Path:
    """Return the name under which a file or folder is written, before it is whole."""
    return path.with_name(f"{path.name}.part")


def finish(path: Path) -> None:
    """Give what was written its name, once."""
    if processes().is_main_process and part(path).exists():
        os.replace(part(path), path)
    processes().wait_for_everyone()


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    if processes().is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        part(path).write_text(text)
    finish(path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--tiny", action="store_true", help="try all steps on a random model; numbers mean nothing")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--data", default=WIZARDLM, help="instructions, a file or a Hub id (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=COMPARED, choices=sorted(METHODS), metavar="METHOD")
    parser.add_argument("--budgets", nargs="+", type=int, default=[1000, 3000, 5000], metavar="ROWS")
    parser.add_argument("--held-out", type=int, default=500, help="rows that are only for the loss (default: 500)")
    sae = parser.add_mutually_exclusive_group()
    sae.add_argument("--sae", help="a folder, file or Hub id that `load_sae` takes (default: the packaged one)")
    sae.add_argument("--train-sae-on", metavar="DATASET", help="train the paper's first, on texts: a file or a Hub id")
    parser.add_argument("--sae-subfolder", help="which SAE of `--sae`, where that holds many")
    parser.add_argument("--threshold", type=float, help="the paper's: 10 (default: the one calibrated for the SAE)")
    parser.add_argument("--base", default="meta-llama/Llama-2-13b-hf", help="the model to tune (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--per-device", type=int, default=2, help=f"rows at a time; {BATCH} make a step anyway")
    parser.add_argument("--ifeval", default="google/IFEval", help="prompts, a file or a Hub id")
    parser.add_argument("--alpaca-eval", default=ALPACA_EVAL, help="instructions, a file or a Hub id")
    parser.add_argument("--max-new-tokens", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.tiny:
        parser.set_defaults(**TINY)
        args = parser.parse_args()
        print(TINY_NOTE)
    if args.sae_subfolder and not args.sae:
        parser.error("`--sae-subfolder` needs `--sae`, the repo that it is in")
    for name in ("epochs", "per_device", "max_new_tokens"):
        if getattr(args, name) < 1:
            parser.error(f"`--{name.replace('_', '-')}` must be 1 or more")
    return args


if __name__ == "__main__":
    main()
