import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker, on_main_process
from datasets import Dataset
from helpers.tiny import WORDS
from torch import tensor
from torch.nn import functional as F

from hf_sae_select import SaeTrainingConfig, SparseAutoencoder, evaluate, fit, train_sae
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.encoding.text import find_text
from hf_sae_select.sae.config import SaeConfig
from hf_sae_select.training.activation_stream import Stream, cut
from hf_sae_select.training.config import PRESETS
from hf_sae_select.training.objectives import RULES
from hf_sae_select.training.train import calibrate
from hf_sae_select.training.trainer import Trainer

SOURCE = {"model": "m", "hook": "h"}
SMALL = SaeTrainingConfig(d_sae=64, k=2, tokens=512 * 20, batch=512)
DIRECTIONS = F.normalize(torch.randn(48, 32, generator=torch.Generator().manual_seed(7)), dim=1)


def planted(batches, seed=0):
    """Yield sums of about two of 48 directions of the 32-space."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(batches):
        on = torch.rand(512, 48, generator=generator) < 2 / 48
        yield (on * (1 + torch.rand(512, 48, generator=generator))) @ DIRECTIONS


@pytest.mark.parametrize(
    ("objective", "precision"), [*((objective, "float32") for objective in RULES), ("batchtopk", "bfloat16")]
)
def test_a_planted_dictionary_is_recovered(objective, precision):
    config = replace(SMALL, objective=objective, tokens=512 * 800, lr=1e-2, dead_after=5000, precision=precision)
    # topk alone needs as many latents on each token; a first group too small would have to mix directions
    config = replace(config, k=4 if objective == "topk" else 2, groups=(0.75, 1.0))
    sae = fit(planted(800), config, **SOURCE)
    found = F.normalize(sae.W_dec, dim=1) @ DIRECTIONS.T
    assert (found.max(dim=0).values > 0.95).float().mean() > 0.95
    quality = evaluate(sae, planted(4, seed=1))
    assert quality.explained_variance > 0.95
    assert 1.8 < quality.l0 < (4 if objective == "topk" else 2.2)
    assert quality.dead <= 16 / 64  # 48 directions need no more latents


def test_the_same_seed_gives_the_same_sae():
    first, again, other = (fit(planted(20), replace(SMALL, seed=seed), **SOURCE) for seed in (0, 0, 1))
    assert first.digest() == again.digest() != other.digest()


def test_the_saved_sae_says_how_it_was_trained(tmp_path):
    sae = fit(planted(20), replace(SMALL, objective="topk"), model="m", hook="h", model_revision="abc", window=16)
    sae.save_pretrained(tmp_path)
    read = SparseAutoencoder.from_pretrained(tmp_path)
    assert read.config == sae.config and read.digest() == sae.digest()
    assert (read.config.activation, read.config.k, read.config.context_size) == ("topk", 2, 16)
    assert read.config.training["objective"] == "topk"
    assert read.config.training["lr"] == pytest.approx(7e-4 / (64 / 2**14) ** 0.5)


def test_tokens_of_huge_norm_are_left_out():
    plain = list(planted(20))
    sinks = [torch.cat([batch, 1000 + batch[:3]]) for batch in plain]
    without = fit(plain, SMALL, **SOURCE)
    assert fit(sinks, replace(SMALL, max_norm_ratio=10), **SOURCE).digest() == without.digest()
    assert fit(sinks, SMALL, **SOURCE).digest() != without.digest()


def test_fit_takes_enough_batches():
    with pytest.raises(ValueError, match=r"`batches` ended after 3 of 20 steps; pass more, or fewer `tokens`"):
        fit(planted(3), SMALL, **SOURCE)
    with pytest.raises(ValueError, match="`batches` is empty; 20 are needed"):
        fit([], SMALL, **SOURCE)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"objective": "l1"}, "unknown `objective='l1'`; known: topk, batchtopk, matryoshka, jumprelu"),
        ({"precision": "int8"}, "unknown `precision='int8'`; known: float32, bfloat16"),
        ({"k": 0}, "`k=0`: pass a whole number from 1 on"),
        ({"k": 65}, "`k=65` latents per token of `d_sae=64`"),
        ({"batch": 1 << 20}, "is more than `tokens=10240`"),
        ({"lr": 0.0}, "`lr=0.0`: pass a finite number above 0"),
        ({"max_norm_ratio": float("nan")}, "`max_norm_ratio=nan`: pass a finite number above 0"),
        ({"warmup": 0.9}, "`warmup=0.9` and `decay=0.2` are shares: from 0, together at most 1"),
        ({"aux": -1}, "`aux=-1`: pass a finite number above 0"),
        ({"seed": -1}, "`seed=-1`: pass a whole number from 0 on"),
        ({"lr": "1e-3"}, "`lr='1e-3'`: pass a finite number above 0"),
        ({"warmup": None}, "`warmup=None`"),
        ({"max_norm_ratio": 0.5}, "`max_norm_ratio=0.5`: pass a number from 1 on"),
        ({"objective": "matryoshka", "groups": "all"}, "pass rising"),
        ({"objective": "matryoshka", "groups": (float("nan"), 1)}, "pass rising"),
        (
            {"objective": "matryoshka", "groups": (0.5, 0.25, 1.0)},
            "pass rising shares of the 64 latents",
        ),
    ],
)
def test_a_config_says_what_is_wrong_with_it(wrong, said):
    with pytest.raises(ValueError) as error:
        replace(SMALL, **wrong)
    assert said in str(error.value)


def test_the_step_size_rises_holds_and_falls():
    config = replace(SMALL, lr=1.0, warmup=0.1, decay=0.2)
    assert [config.lr_at(step) for step in (0, 1, 2, 15, 16, 18, 19)] == [0.5, 1, 1, 1, 1, 0.5, 0.25]


def test_the_paper_s_sae():
    paper = PRESETS["paper"]
    assert (paper.objective, paper.k, paper.d_sae, paper.peak_lr, paper.batch) == ("topk", 128, 131_072, 7e-5, 4096)


def test_cut_gives_every_token_once_but_for_the_last_short_batch():
    batches = list(cut(torch.arange(70.0)[:, None], 8, (0,)))
    assert [len(batch) for batch in batches] == [8] * 8
    tokens = torch.cat(batches).flatten().tolist()
    assert len(set(tokens)) == 64 and tokens != sorted(tokens)


# On a dataset: 60 rows of 4 to 11 words, 450 tokens, read 2.3 times in four chunks
ROWS = {"text": [" ".join(WORDS[i % 7 : i % 7 + 4 + i % 8]) for i in range(60)]}
TINY = SaeTrainingConfig(d_sae=32, k=4, tokens=1024, batch=32, buffer=256, lr=1e-2, dead_after=100)


@pytest.fixture
def rows():
    return Dataset.from_dict(ROWS)


def on(bert):
    return {"model": str(bert), "hook": "encoder.layer.1"}


def everything(sae):
    return [parameter.tolist() for parameter in sae.parameters()]


def test_an_sae_trained_on_a_dataset_explains_it_and_encodes_it(rows, bert):
    sae = train_sae(rows, **on(bert), config=replace(TINY, tokens=1024 * 8))
    model = LanguageModel.from_pretrained(str(bert), "encoder.layer.1")
    states = [states for _, states in model.states(model.windows(ROWS["text"]))]
    assert evaluate(sae, states).explained_variance > 0.8
    assert all(rows.sae_encode(sae)["sae_ids"])
    assert sae.config.hook == "encoder.layer.1" and sae.config.d_in == 16


def test_chats_are_rendered_by_the_model_s_template(bert, tmp_path):
    from helpers import tiny

    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% for turn in messages %}[CLS] {{ turn.content }} [SEP]{% endfor %}"
    tiny.save("bert", tmp_path / "chat")
    tokenizer.save_pretrained(tmp_path / "chat")
    chats = Dataset.from_dict({"messages": [[{"role": "user", "content": text}] for text in ROWS["text"]]})
    plain = Dataset.from_dict(ROWS)
    ours, bare = (train_sae(ds, **on(tmp_path / "chat"), config=TINY) for ds in (chats, plain))
    assert everything(ours) == everything(bare)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("objective", RULES)
def test_an_interrupted_training_goes_on_to_the_same_sae(rows, bert, tmp_path, monkeypatch, objective):
    config = replace(TINY, objective=objective)
    whole = train_sae(rows, **on(bert), config=config)
    taken = Trainer.step

    def interrupted(self, batch):
        if self.taken == 21:
            raise Interrupted
        taken(self, batch)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Trainer, "step", interrupted)
        train_sae(rows, **on(bert), config=config, checkpoints=tmp_path)
    steps = []
    monkeypatch.setattr(Trainer, "step", lambda self, batch: (steps.append(self.taken), taken(self, batch)))
    resumed = train_sae(rows, **on(bert), config=config, checkpoints=tmp_path)
    assert steps == list(range(16, 32))  # 8 steps a chunk
    assert everything(resumed) == everything(whole)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    again = train_sae(rows, **on(bert), config=config, checkpoints=tmp_path)
    assert len(steps) == 16 and everything(again) == everything(whole)


def test_a_checkpoint_of_another_training_is_refused(rows, bert, tmp_path):
    train_sae(rows, **on(bert), config=TINY, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"another training, of another `config`: k was 4, is 5; pass another folder"):
        train_sae(rows, **on(bert), config=replace(TINY, k=5), checkpoints=tmp_path)
    with pytest.raises(ValueError, match="holds another training, of another `dataset`: it was"):
        train_sae(rows.select(range(50)), **on(bert), config=TINY, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"another `hook`: it was 'encoder\.layer\.1', is 'encoder\.layer\.0'"):
        train_sae(rows, model=str(bert), hook="encoder.layer.0", config=TINY, checkpoints=tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(OSError, match=r"the checkpoint .* is damaged; delete it to begin anew"):
        train_sae(rows, **on(bert), config=TINY, checkpoints=tmp_path)


def test_bad_input_is_refused_before_a_model_is_loaded(rows):
    nowhere = {"model": "no/model", "hook": "h"}
    with pytest.raises(TypeError, match=r"`dataset` is a dict; pass a datasets\.Dataset"):
        train_sae(ROWS, **nowhere)
    with pytest.raises(ValueError, match="the dataset is empty"):
        train_sae(rows.select([]), **nowhere)
    with pytest.raises(ValueError, match=r"unknown `config='best'`; pass a SaeTrainingConfig or one of: batchtopk"):
        train_sae(rows, **nowhere, config="best")
    with pytest.raises(ValueError, match="`max_length=0`: pass a whole number from 1 on"):
        train_sae(rows, **nowhere, max_length=0)
    with pytest.raises(ValueError, match="no column `body`"):
        train_sae(rows, **nowhere, text="body")
    with pytest.raises(ValueError, match="unknown `side='inptu'`"):
        train_sae(rows, **nowhere, side="inptu")
    with pytest.raises(ValueError, match="`context_size=0` must be a whole number"):
        train_sae(rows, **nowhere, window=0)


def test_a_place_for_checkpoints_that_is_none_is_refused_first(rows, bert, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"`checkpoints='.*file'` is no folder that can be written to"):
        train_sae(rows, **on(bert), checkpoints=tmp_path / "file")


def test_what_cannot_be_said_of_an_sae_is_refused_before_it_is_trained():
    for wrong, said in (
        ({"model": ""}, "`model=''`"),
        ({"side": "up"}, "`side='up'`"),
        ({"window": 0}, "`context_size=0`"),
    ):
        with pytest.raises(ValueError, match=said):
            fit(iter(["never looked at"]), SMALL, **SOURCE | wrong)


@pytest.mark.parametrize("objective", RULES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_hidden_states_that_are_no_numbers_end_the_training(objective, bad):
    batches = list(planted(10))
    batches[5][3, 7] = bad
    with pytest.raises(ValueError, match=r"the gradient of step 6 is not finite"):
        fit(batches, replace(SMALL, objective=objective, tokens=512 * 10), **SOURCE)


@pytest.mark.parametrize("objective", RULES)
def test_with_outliers_left_out_a_vector_that_is_no_number_is_one(objective):
    batches = list(planted(10))
    batches[5][3, 7] = float("nan")
    config = replace(SMALL, objective=objective, tokens=512 * 10, max_norm_ratio=10.0)
    assert fit(batches, config, **SOURCE).W_enc.isfinite().all()


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([torch.zeros(4, 8)], "the first batch have a mean norm of 0.0"),
        ([torch.ones(8)], r"must be tensors \[tokens, d_in\]; the first one is Tensor"),
        ([torch.ones(4, 8), torch.ones(4, 7)], r"must be tensors \[tokens, 8\] of one token or more; one is \[4, 7\]"),
        ([torch.ones(4, 8), torch.ones(0, 8)], r"one is \[0, 8\]"),
        ([torch.ones(4, 8), [1.0]], "one is list"),
    ],
)
def test_batches_that_are_none_are_refused(batches, said):
    with pytest.raises(ValueError, match=said):
        fit(batches, SaeTrainingConfig(d_sae=8, k=2, tokens=8, batch=4), **SOURCE)


@pytest.mark.parametrize("objective", RULES)
def test_a_first_batch_of_equal_vectors_does_not_end_it(objective):
    batches = [torch.ones(512, 32), *planted(19)]
    assert fit(batches, replace(SMALL, objective=objective), **SOURCE).W_enc.isfinite().all()


def test_numpy_s_numbers_are_numbers(tmp_path):
    sae = fit(planted(20), replace(SMALL, k=np.int64(3), d_sae=np.int64(64)), **SOURCE)
    sae.save_pretrained(tmp_path)
    assert (sae.config.l0, sae.config.training["tokens"]) == (3.0, 512 * 20)


def test_a_training_on_books_goes_on_in_the_middle_of_one(bert, tmp_path, monkeypatch):
    book = Dataset.from_dict({"text": [" ".join(WORDS * 20), "", "a dog ran", " ".join(WORDS[::-1] * 9)]})
    config = replace(TINY, tokens=640, buffer=64)
    whole, taken, step = train_sae(book, **on(bert), config=config), [], Trainer.step

    def interrupted(trainer, batch):
        if len(taken) == 7:
            taken.append(None)
            raise KeyboardInterrupt
        taken.append(None)
        step(trainer, batch)

    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_sae(book, **on(bert), config=config, checkpoints=tmp_path)
    assert train_sae(book, **on(bert), config=config, checkpoints=tmp_path).digest() == whole.digest()
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_book_is_read_in_parts(bert):
    book = Dataset.from_dict({"text": [" ".join(WORDS * 40), "a dog ran", "the cat sat"]})
    config = replace(TINY, tokens=2048, buffer=64)
    lm = LanguageModel.from_pretrained(**{"name": str(bert), "hook": "encoder.layer.1"})
    stream = Stream(book, find_text(book, None), lm, None, max_length=None, batch_size=4, most=32, seed=0)
    held, total = 0, 0
    for _ in range(60):
        total += sum(map(len, stream.batches(64, 32)))
        held = max(held, sum(map(len, stream.carry)))
    assert held < 64 + 32  # a chunk ahead and a window at most
    assert stream.epoch >= 3 and total == 60 * 64
    assert train_sae(book, **on(bert), config=config).W_enc.isfinite().all()


def test_a_dataset_without_text_is_no_endless_loop(bert):
    blank = Dataset.from_dict({"text": ["", " "]})
    with pytest.raises(ValueError, match="no row of the dataset has any text"):
        train_sae(blank, **on(bert), config=TINY)


class Notes(GeneralTracker):
    name, requires_logging_directory, tracker = "notes", False, None

    def __init__(self):
        super().__init__()
        self.logged, self.finished = {}, False

    @on_main_process
    def store_init_configuration(self, values):
        self.config = values

    @on_main_process
    def log(self, values, step, **kwargs):
        self.logged[step] = values

    @on_main_process
    def finish(self):
        self.finished = True


def test_a_tracker_is_told_how_it_goes(rows, bert):
    notes = Notes()
    train_sae(rows, **on(bert), config=replace(TINY, tokens=32 * 120), tracker=notes)
    assert list(notes.logged) == [50, 100, 120]
    last = notes.logged[120]
    assert set(last) == {"loss", "explained_variance", "l0", "dead"}
    assert last["explained_variance"] > 0.5 and last["l0"] == pytest.approx(4, abs=0.1)
    assert notes.config["d_sae"] == 32 and notes.finished


SCRIPT = """
import atexit, json, os, sys
from pathlib import Path
end = lambda: Path(f"{out}-{os.environ['RANK']}-threads").write_text(str([
    (task / "comm").read_text() for task in Path("/proc/self/task").glob("*")
]))
atexit.register(end)  # first in, so last out
import torch
from datasets import Dataset
from hf_sae_select import SaeTrainingConfig, train_sae
rows, bert, config, folder, out = json.loads(sys.argv[1])
torch.set_num_threads(1)
config = SaeTrainingConfig(**config)
sae = train_sae(Dataset.from_dict(rows), model=bert, hook="encoder.layer.1", config=config, checkpoints=folder)
Path(f"{out}-{os.environ['RANK']}").write_text(f"{sae.digest()} {sae.threshold[0].item()}")
"""


def test_two_processes_train_one_sae_and_resume(bert, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    torchrun = Path(sys.executable).with_name("torchrun")
    config = asdict(replace(TINY, groups=(1.0,)))
    command = [torchrun, "--nproc_per_node", "2", "--standalone", script]
    told = []
    for i in range(2):
        arguments = json.dumps([ROWS, str(bert), config, str(tmp_path / "checkpoints"), str(tmp_path / f"told-{i}")])
        done = subprocess.run(
            [*command, arguments], env=os.environ | quiet, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        told += [file.read_text() for file in tmp_path.glob(f"told-{i}-?")]
        # threads of the group, were they left when the interpreter ends, would now and then abort it
        assert not any("gloo" in file.read_text() for file in tmp_path.glob("told-*-threads"))
    assert len(told) == 4 and len(set(told)) == 1  # both processes, and both again from the finished checkpoint


def test_a_batch_must_be_shared_equally(rows, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 3)
    with pytest.raises(ValueError, match="`batch=32` tokens cannot be shared equally by 3 processes"):
        train_sae(rows, model="no/model", hook="h", config=TINY)


def test_calibrate_leaves_the_wanted_number_of_features_per_row():
    sae = SparseAutoencoder(SaeConfig(2, 4, "jumprelu", **SOURCE))
    maxima = tensor([[5.0, 4.0, 3.0, 0.0], [2.0, 1.0, 0.0, 0.0]])
    sae = calibrate(sae, maxima, features_per_row=1.5)
    assert sae.config.feature_threshold == 2.0
    assert (maxima > 2.0).sum() / 2 == 1.5
    assert calibrate(sae, maxima, features_per_row=9).config.feature_threshold == 0.0
