"""The recipes for other libraries in `examples/recipes`; each runs where its library is installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset
from helpers import tiny
from transformers import LlamaForCausalLM

from hf_sae_select import stage

RECIPES = Path(__file__).parent.parent / "examples" / "recipes"
TEXTS = ["the cat sat on the mat", "the dog sat on the mat", "a blue bird flew over the moon", "a small log"]


@pytest.fixture
def recipe(monkeypatch):
    """Import a file of the recipes by its name."""
    monkeypatch.setattr(sys, "path", [str(RECIPES), *sys.path])
    return lambda name: __import__(name)


@pytest.fixture
def published(hub, sae, tmp_path):
    """A subset of rows like those of Alpaca, on the local Hub under the name that the configs have."""
    rows = Dataset.from_dict({"instruction": TEXTS, "input": [""] * 4, "output": TEXTS[::-1]})
    folder = stage(rows.sae_select(2, sae=sae), tmp_path / "staged", license="mit")
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    hub.push("me/alpaca-3k", files, kind="dataset")


def of_axolotl():
    return yaml.safe_load((RECIPES / "axolotl.yml").read_text())


def of_llama_factory():
    return json.loads((RECIPES / "llama_factory" / "dataset_info.json").read_text())["alpaca_3k"]


@pytest.mark.slow
def test_the_configs_read_the_rows_of_a_published_subset(published):
    [entry] = of_axolotl()["datasets"]
    rows = load_dataset(entry["path"], split=entry["split"], revision=entry["revision"])
    assert entry["type"] == "alpaca" and {"instruction", "input", "output"} <= set(rows.column_names)
    entry = of_llama_factory()
    rows = load_dataset(entry["hf_hub_url"], split=entry["split"])
    assert len(rows) == 2 and set(entry["columns"].values()) <= set(rows.column_names)


def test_axolotl_reads_its_config():
    schemas = pytest.importorskip("axolotl.utils.schemas.config", reason="axolotl is not installed")
    config = schemas.AxolotlInputConfig(**of_axolotl())
    assert config.datasets[0].path == "me/alpaca-3k" and config.datasets[0].revision == "main"


def test_llama_factory_reads_its_configs():
    parser = pytest.importorskip("llamafactory.data.parser", reason="LLaMA-Factory is not installed")
    from llamafactory.hparams import DataArguments, FinetuningArguments, GeneratingArguments, ModelArguments
    from transformers import HfArgumentParser, TrainingArguments

    [attributes] = parser.get_dataset_list(["alpaca_3k"], str(RECIPES / "llama_factory"))
    assert (attributes.load_from, attributes.dataset_name) == ("hf_hub", "me/alpaca-3k")
    kinds = (ModelArguments, DataArguments, TrainingArguments, FinetuningArguments, GeneratingArguments)
    config = yaml.safe_load((RECIPES / "llama_factory" / "train.yaml").read_text())
    assert HfArgumentParser(kinds).parse_dict(config)[1].dataset == ["alpaca_3k"]


@pytest.mark.slow
def test_trl_tunes_a_tiny_model_on_a_subset(tmp_path):
    pytest.importorskip("trl", reason="TRL is not installed")
    LlamaForCausalLM(tiny.MODELS["llama"][1]).save_pretrained(tmp_path / "model")
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "[SEP]"
    tokenizer.chat_template = "{% for turn in messages %}{{ turn['role'] }} {{ turn['content'] }} {% endfor %}"
    tokenizer.save_pretrained(tmp_path / "model")
    chats = [[{"role": "user", "content": text}, {"role": "assistant", "content": text}] for text in TEXTS]
    Dataset.from_dict({"messages": chats}).to_json(tmp_path / "chats.jsonl")
    command = [sys.executable, RECIPES / "trl_sft.py", tmp_path / "chats.jsonl", "2"]
    command += ["--model", tmp_path / "model", "--out", tmp_path / "tuned"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "2 rows, training loss" in done.stdout and (tmp_path / "tuned" / "model.safetensors").is_file()


def test_datatrove_passes_on_the_documents_of_a_subset(recipe, sae):
    data = pytest.importorskip("datatrove.data", reason="datatrove is not installed")
    documents = [data.Document(text, id=str(i)) for i, text in enumerate(TEXTS)]
    picks = Dataset.from_dict({"text": TEXTS}).sae_select(2, sae=sae).sae_selection
    step = recipe("datatrove_step").SaeSelect(2, sae=sae)
    passed = list(step.run(iter(documents)))
    assert [int(document.id) for document in passed] == picks.indices.tolist()
    assert [document.metadata["sae_gain"] for document in passed] == picks.gains.tolist()
    assert list(step.run(iter([]))) == []
    with pytest.raises(ValueError, match="`world_size=2`"):
        list(step.run(iter(documents), world_size=2))


@pytest.mark.slow
def test_data_juicer_keeps_the_rows_of_a_subset(recipe):
    pytest.importorskip("data_juicer", reason="data-juicer is not installed")
    from data_juicer.core.data import NestedDataset

    rows = Dataset.from_dict({"text": TEXTS})
    operator = recipe("data_juicer_op").SaeSelector(budget=2)
    assert operator.run(NestedDataset(rows))["text"][:] == rows.sae_select(2)["text"][:]


@pytest.mark.slow
def test_evaluate_measures_files(recipe, tmp_path, monkeypatch, capsys):
    evaluate = pytest.importorskip("evaluate", reason="pip install 'hf-sae-select[evaluate]'")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")
    pool, subset = tmp_path / "pool.jsonl", tmp_path / "subset.jsonl"
    for file, texts in ((pool, TEXTS), (subset, TEXTS[:2])):
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    monkeypatch.setattr(sys, "argv", ["measure_diversity.py", str(subset), "--reference", str(pool)])
    recipe("measure_diversity").main()
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[:2] == ["coverage", "richness"] and "reference_share" in names
