import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accelerate.tracking import GeneralTracker, on_main_process
from datasets import Dataset
from helpers import tiny
from helpers.training import ROWS, SMALL, SOURCE, TINY, location, planted, weights

from hf_sae_select import (
    SparseAutoencoder,
    evaluate_sae_on_activations,
    train_sae,
    train_sae_on_activations,
)
from hf_sae_select.encoding.language_model import LanguageModel


@pytest.fixture
def rows():
    return Dataset.from_dict(ROWS)


def test_the_saved_sae_records_how_it_was_trained(tmp_path):
    source = SOURCE | {"model_revision": "abc", "context_size": 16}
    sae = train_sae_on_activations(planted(20), replace(SMALL, objective="topk"), **source)
    sae.save_pretrained(tmp_path)
    saved = SparseAutoencoder.from_pretrained(tmp_path)
    assert saved.config == sae.config and saved.digest() == sae.digest()
    assert (saved.config.activation, saved.config.k, saved.config.context_size) == ("topk", 2, 16)
    training = saved.config.training
    assert (training["objective"], training["training_tokens"]) == ("topk", 512 * 20)
    assert training["learning_rate"] == pytest.approx(7e-4 / (64 / 2**14) ** 0.5)
    defaults = {"precision": "float32", "dead_feature_threshold": 20_000, "auxk_latents": 512}  # on a CPU
    assert {name: training[name] for name in defaults} == defaults
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "10,240 tokens, batches of 512 tokens, Adam at 0.0112, seed 0, torch" in card


def test_numpy_integers_are_integers(tmp_path):
    sae = train_sae_on_activations(planted(20), replace(SMALL, k=np.int64(3), d_sae=np.int64(64)), **SOURCE)
    sae.save_pretrained(tmp_path)
    assert (sae.config.l0, sae.config.training["training_tokens"]) == (3.0, 512 * 20)


def test_too_few_batches():
    with pytest.raises(ValueError, match=r"`batches` ended after 3 of 20 steps; .*`training_tokens`"):
        train_sae_on_activations(planted(3), SMALL, **SOURCE)
    with pytest.raises(ValueError, match="`batches` is empty; `config` needs 20"):
        train_sae_on_activations([], SMALL, **SOURCE)


def test_a_wrong_source_is_an_error_before_training():
    for wrong, message in (
        ({"model": ""}, "`model=''`"),
        ({"side": "up"}, "`side='up'`"),
        ({"context_size": 0}, "`context_size=0`"),
    ):
        with pytest.raises(ValueError, match=message):
            train_sae_on_activations(iter(["never read"]), SMALL, **SOURCE | wrong)


def test_an_sae_trained_on_a_dataset_explains_it_and_encodes_it(rows, bert):
    sae = train_sae(rows, **location(bert), config=replace(TINY, training_tokens=1024 * 8))
    model = LanguageModel.from_pretrained(str(bert), "encoder.layer.1")
    states = [states for _, states in model.states(model.windows(ROWS["text"]))]
    assert evaluate_sae_on_activations(sae, states).explained_variance > 0.8
    assert all(rows.sae_encode(sae)["sae_ids"])
    assert sae.config.hook == "encoder.layer.1" and sae.config.d_in == 16


def test_chats_are_rendered_by_the_template_of_the_model(rows, tmp_path):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% for turn in messages %}[CLS] {{ turn.content }} [SEP]{% endfor %}"
    tiny.save("bert", tmp_path / "chat")
    tokenizer.save_pretrained(tmp_path / "chat")
    chats = Dataset.from_dict({"messages": [[{"role": "user", "content": text}] for text in ROWS["text"]]})
    of_chats, of_texts = (train_sae(dataset, **location(tmp_path / "chat"), config=TINY) for dataset in (chats, rows))
    assert weights(of_chats) == weights(of_texts)


def test_wrong_arguments_are_errors_before_the_model_is_loaded(rows):
    nowhere = {"model": "no/model", "hook": "h"}
    with pytest.raises(TypeError, match=r"`dataset` is a dict; it must be a datasets\.Dataset"):
        train_sae(ROWS, **nowhere)
    with pytest.raises(ValueError, match="the dataset is empty"):
        train_sae(rows.select([]), **nowhere)
    with pytest.raises(ValueError, match=r"unknown `config='best'`; pass a SaeTrainingConfig or one of: batchtopk"):
        train_sae(rows, **nowhere, config="best")
    with pytest.raises(ValueError, match="`max_length=0` must be a positive integer, or None"):
        train_sae(rows, **nowhere, max_length=0)
    with pytest.raises(ValueError, match="`batch_size=0` must be a positive integer"):
        train_sae(rows, **nowhere, batch_size=0)
    with pytest.raises(ValueError, match="no column `body`"):
        train_sae(rows, **nowhere, text="body")
    with pytest.raises(ValueError, match="unknown `side='inptu'`"):
        train_sae(rows, **nowhere, side="inptu")
    with pytest.raises(ValueError, match="`context_size=0` must be"):
        train_sae(rows, **nowhere, context_size=0)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("model", 5, TypeError),
        ("model", "", ValueError),
        ("hook", 5, ValueError),
        ("hook", "", ValueError),
        ("config", 5, ValueError),
        ("side", 5, ValueError),
        ("text", 5, TypeError),
        ("model_revision", 5, TypeError),
        ("context_size", "16", ValueError),
        ("max_length", 1.5, ValueError),
        ("batch_size", "8", ValueError),
        ("output_dir", 5, TypeError),
        ("report_to", 5, TypeError),
    ],
)
def test_every_argument_is_refused_by_name(rows, monkeypatch, name, value, error):
    monkeypatch.setattr("hf_sae_select.training.train.look_up", None)
    with pytest.raises(error, match=f"`{name}"):
        train_sae(rows, **{"model": "no/model", "hook": "h"} | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("batches", 5, TypeError),
        ("batches", [5], ValueError),
        ("config", 5, ValueError),
        ("model", 5, ValueError),
        ("hook", None, ValueError),
        ("side", "up", ValueError),
        ("model_revision", 5, TypeError),
        ("context_size", "16", ValueError),
    ],
)
def test_every_argument_of_a_training_on_hidden_states_is_refused_by_name(name, value, error):
    with pytest.raises(error, match=f"`{name}"):
        train_sae_on_activations(**{"batches": planted(1), "config": SMALL} | SOURCE | {name: value})


def test_strings_are_rows_too(rows, bert):
    assert weights(train_sae(ROWS["text"], **location(bert), config=TINY)) == weights(
        train_sae(rows, **location(bert), config=TINY)
    )
    with pytest.raises(TypeError, match="`dataset` must be a list of strings"):
        train_sae(["a", 5], **location(bert), config=TINY)


def test_rows_that_are_read_often_and_a_model_in_a_folder_are_said_once(rows, bert, caplog):
    train_sae(rows, **location(bert), config=replace(TINY, training_tokens=2250))
    folder, epochs = [record.getMessage() for record in caplog.records if "hf_sae_select" in record.name]
    assert folder.startswith(f"`model='{bert}'` is a folder. To push the SAE to the Hub, first set its `config.model`")
    assert epochs.startswith("The 60 rows have about 442 tokens: `training_tokens=2250` reads them 5.1 times.")


def test_the_sae_records_what_it_was_trained_on(rows, bert, tmp_path):
    rows.info.download_checksums = {f"hf://datasets/alice/rows@{'a' * 40}/{n}.parquet": None for n in range(2)}
    sae = train_sae(rows, **location(bert), config=TINY)
    facts = {"datasets": ["alice/rows"], "documents": 60, "columns": ["text"], "context_size": 16}
    assert {name: sae.config.training[name] for name in facts} == facts
    assert 1024 / 442 <= sae.config.training["epochs"] < 1024 / 442 + 1
    sae.save_pretrained(tmp_path, license="mit")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for fact in ("alice/rows", "60 rows", "`text`", "16 tokens", 'license: "mit"', "| license | mit |"):
        assert fact in card


def test_a_tracker_that_is_not_installed_is_an_error(rows, monkeypatch):
    monkeypatch.setattr("accelerate.accelerator.filter_trackers", lambda *names: [])
    with pytest.warns(UserWarning, match="wandb"), pytest.raises(ValueError, match="`report_to='wandb'` is not inst"):
        train_sae(rows, model="no/model", hook="h", report_to="wandb")


def test_processes_share_a_batch_equally_and_each_has_rows(rows, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 3)
    with pytest.raises(ValueError, match=r"`train_batch_size_tokens=32` is not divisible by .*processes, 3"):
        train_sae(rows, model="no/model", hook="h", config=TINY)
    with pytest.raises(ValueError, match="`dataset` has 2 rows for 3 processes"):
        train_sae(rows.select(range(2)), model="no/model", hook="h", config=replace(TINY, train_batch_size_tokens=33))


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


def test_a_tracker_logs_the_statistics(rows, bert):
    notes = Notes()
    train_sae(rows, **location(bert), config=replace(TINY, training_tokens=32 * 120), report_to=notes)
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
sae = train_sae(Dataset.from_dict(rows), model=bert, hook="encoder.layer.1", config=config, output_dir=folder)
Path(f"{out}-{os.environ['RANK']}").write_text(f"{sae.digest()} {sae.threshold[0].item()}")
"""


@pytest.mark.slow
def test_two_processes_train_one_sae_and_resume(bert, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    torchrun = Path(sys.executable).with_name("torchrun")
    config = TINY.to_dict()
    command = [torchrun, "--nproc_per_node", "2", "--standalone", script]
    digests = []
    for i in range(2):
        arguments = json.dumps([ROWS, str(bert), config, str(tmp_path / "checkpoints"), str(tmp_path / f"digest-{i}")])
        done = subprocess.run(
            [*command, arguments], env=os.environ | quiet, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        digests += [file.read_text() for file in tmp_path.glob(f"digest-{i}-?")]
        # threads of the process group that outlive the interpreter sometimes abort it
        assert not any("gloo" in file.read_text() for file in tmp_path.glob("digest-*-threads"))
    assert len(digests) == 4 and len(set(digests)) == 1  # both processes, and both again from the finished checkpoint
