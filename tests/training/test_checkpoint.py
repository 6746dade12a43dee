from dataclasses import replace

import pytest
from datasets import Dataset
from helpers.training import ROWS, TINY, location, weights

from hf_sae_select import train_sae
from hf_sae_select.training.checkpoint import Checkpoint
from hf_sae_select.training.config import OBJECTIVES
from hf_sae_select.training.trainer import Trainer


@pytest.fixture
def rows():
    return Dataset.from_dict(ROWS)


class Interrupted(Exception):
    pass


@pytest.mark.usefixtures("after_every_buffer")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_interrupted_training_resumes_to_the_same_sae(rows, bert, tmp_path, monkeypatch, objective):
    config = replace(TINY, objective=objective)
    whole = train_sae(rows, **location(bert), config=config)
    step, steps = Trainer.step, []

    def interrupted(self, batch):
        if self.step_count == 21:
            raise Interrupted
        return step(self, batch)

    def recorded(self, batch):
        steps.append(self.step_count)
        return step(self, batch)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Trainer, "step", interrupted)
        train_sae(rows, **location(bert), config=config, output_dir=tmp_path)
    monkeypatch.setattr(Trainer, "step", recorded)
    resumed = train_sae(rows, **location(bert), config=config, output_dir=tmp_path)
    assert steps == list(range(16, 32))  # 8 steps a chunk
    assert weights(resumed) == weights(whole)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    again = train_sae(rows, **location(bert), config=config, output_dir=tmp_path)
    assert len(steps) == 16 and weights(again) == weights(whole)


def test_a_checkpoint_of_another_training_is_not_loaded(rows, bert, tmp_path):
    train_sae(rows, **location(bert), config=TINY, output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"`output_dir=.*`config` differs: k was 4, is 5; pass another folder"):
        train_sae(rows, **location(bert), config=replace(TINY, k=5), output_dir=tmp_path)
    with pytest.raises(ValueError, match="its `dataset` differs: it was"):
        train_sae(rows.select(range(50)), **location(bert), config=TINY, output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"its `hook` differs: it was 'encoder\.layer\.1', is 'encoder\.layer\.0'"):
        train_sae(rows, model=str(bert), hook="encoder.layer.0", config=TINY, output_dir=tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(OSError, match=r"checkpoint\.pt is damaged; delete it"):
        train_sae(rows, **location(bert), config=TINY, output_dir=tmp_path)


def test_a_checkpoint_of_an_earlier_version_is_named_by_what_it_lacks(tmp_path):
    Checkpoint(tmp_path, {"config": {"k": 4, "precision": "float32"}}).save({})
    now = Checkpoint(tmp_path, {"config": {"k": 4, "precision": None, "auxk_latents": 512}})
    differences = "precision was 'float32', is None, auxk_latents was not recorded, is 512"
    with pytest.raises(ValueError, match=f"its `config` differs: {differences}; pass another folder"):
        now.load()


def test_an_output_dir_that_is_a_file_is_an_error_before_the_model_is_loaded(rows, bert, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"`output_dir='.*file'` is not a writable folder"):
        train_sae(rows, **location(bert), output_dir=tmp_path / "file")


def test_a_state_is_saved_whole(tmp_path):
    checkpoint = Checkpoint(tmp_path / "new", {"k": (1, 2)})
    assert checkpoint.load() is None
    checkpoint.save({"step": 1})
    assert checkpoint.load() == Checkpoint(tmp_path / "new", {"k": [1, 2]}).load() == {"step": 1}
    with pytest.raises(Exception, match="<lambda>"):
        checkpoint.save({"step": lambda: 2})
    assert checkpoint.load() == {"step": 1}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["checkpoint.pt"]
