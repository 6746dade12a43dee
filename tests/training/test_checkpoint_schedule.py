"""When a checkpoint is written, and that its thread keeps the state of that moment."""

from threading import Event

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from helpers.training import ROWS, TINY, location, weights

from hf_sae_select import train_sae
from hf_sae_select.training.checkpoint import Checkpoint
from hf_sae_select.training.checkpoint_schedule import CheckpointSchedule


def schedule(checkpoint):
    return CheckpointSchedule(checkpoint, Accelerator(cpu=True))


def test_checkpoints_are_five_minutes_apart_and_the_last_step_has_one(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with schedule(Checkpoint(tmp_path, {})) as planned:
        due = []
        for clock[0] in (299, 300, 500, 599, 600):
            due.append(planned.is_due(is_last=False))
            if due[-1]:
                planned.write({})
        assert due == [False, True, False, False, True]
        assert planned.is_due(is_last=True)


def test_without_an_output_dir_no_checkpoint_is_due():
    with schedule(None) as planned:
        assert not planned.is_due(is_last=True)


def test_a_checkpoint_holds_the_state_of_the_moment_although_training_goes_on(tmp_path):
    class Slow(Checkpoint):
        def save(self, state):
            assert go_on.wait(timeout=10)
            super().save(state)

    go_on, tensor = Event(), torch.zeros(2)
    with schedule(Slow(tmp_path, {})) as planned:
        planned.write({"tensors": [tensor], "step": 1})
        tensor += 1
        assert not (tmp_path / "checkpoint.pt").exists()
        go_on.set()
    state = Checkpoint(tmp_path, {}).load()
    assert (state["tensors"][0].tolist(), state["step"]) == ([0, 0], 1)


class Full(Checkpoint):
    def save(self, state):
        raise OSError("no space left on device")


def test_a_write_that_fails_ends_the_training(tmp_path):
    with pytest.raises(OSError, match="no space"), schedule(Full(tmp_path, {})) as planned:
        planned.write({})
    with pytest.raises(OSError, match="no space") as failure, schedule(Full(tmp_path, {})) as planned:
        planned.write({})
        planned.write({})
        raise AssertionError("the second write begins, although the first one failed")
    assert not hasattr(failure.value, "__notes__")


def test_an_interruption_says_that_the_last_write_failed(tmp_path):
    with pytest.raises(KeyboardInterrupt) as interruption, schedule(Full(tmp_path, {})) as planned:
        planned.write({})
        raise KeyboardInterrupt
    assert interruption.value.__notes__ == ["the last checkpoint could not be written: no space left on device"]


def test_a_short_training_is_written_once_at_its_end(bert, tmp_path, monkeypatch):
    rows, steps, save = Dataset.from_dict(ROWS), [], Checkpoint.save
    monkeypatch.setattr(
        Checkpoint, "save", lambda self, state: steps.append(state["trainer"]["step_count"]) or save(self, state)
    )
    sae = train_sae(rows, **location(bert), config=TINY, output_dir=tmp_path)
    assert steps == [TINY.steps]
    assert weights(train_sae(rows, **location(bert), config=TINY, output_dir=tmp_path)) == weights(sae)
