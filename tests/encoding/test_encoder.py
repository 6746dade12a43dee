import copy
import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, List, Value
from datasets.fingerprint import update_fingerprint
from helpers import tiny

from hf_sae_select import FeatureMatrix, SaeConfig, SparseAutoencoder, encode
from hf_sae_select.encoding import encoder as encoding
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.encoding.pretrained import look_up
from hf_sae_select.features.columns import KEPT, encoding_record

TEXTS = [
    "the cat sat on the mat",
    "",
    "a dog",
    None,
    "the big red bird flew over the moon and then it was small",
    "  ",
]


@pytest.fixture
def ds():
    return Dataset.from_dict({"text": TEXTS, "id": list(range(6))})


@pytest.fixture
def loads(monkeypatch):
    """Count how often a language model is loaded."""
    seen = []
    load = LanguageModel.from_pretrained
    monkeypatch.setattr(LanguageModel, "from_pretrained", lambda *a, **k: seen.append(1) or load(*a, **k))
    return seen


def codes(coded):
    """Each row as {feature id: activation}."""
    return [
        dict(zip(row["sae_ids"], row["sae_acts"], strict=True))
        for row in coded.select_columns(["sae_ids", "sae_acts"])
    ]


def means(coded):
    """Each row as {feature id: mean activation}."""
    return [
        dict(zip(row["sae_ids"], row["sae_means"], strict=True))
        for row in coded.select_columns(["sae_ids", "sae_means"])
    ]


def hidden_states(bert, text):
    """The hidden states [tokens, 16] of a text that fits one window."""
    lm = LanguageModel.from_pretrained(str(bert), "encoder.layer.1")
    ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return lm.model(input_ids=ids, output_hidden_states=True).hidden_states[2][0, 1:-1]


def by_formula(bert, sae, text):
    """The features of a text that fits one window, from the plain equations."""
    pooled = sae.encode(hidden_states(bert, text)).amax(dim=0)
    return {i: act for i, act in enumerate(pooled.tolist()) if act > 0}


def test_features_are_the_maximum_over_the_tokens(ds, sae, bert):
    coded = encode(ds, sae)
    assert coded.column_names == ["text", "id", "sae_ids", "sae_acts", "sae_tokens"]
    assert coded["text"][:] == TEXTS and coded["sae_tokens"][:] == [6, 0, 2, 0, 13, 0]
    for row in (0, 2, 4):
        expected = by_formula(bert, sae, TEXTS[row])
        assert codes(coded)[row] == pytest.approx(expected, abs=1e-4) and len(expected) > 5


def test_means_and_state_are_kept_when_asked_for(ds, sae, bert):
    coded = encode(ds, sae, keep=["means", "state"])
    assert coded.column_names == ["text", "id", "sae_ids", "sae_acts", "sae_tokens", "sae_means", "sae_state"]
    assert coded.features["sae_means"] == List(Value("float32"))
    assert coded.features["sae_state"] == List(Value("float32"), length=16)
    for row in (0, 2, 4):
        hidden = hidden_states(bert, TEXTS[row])
        mean = sae.encode(hidden).mean(dim=0).tolist()
        assert means(coded)[row] == pytest.approx({i: act for i, act in enumerate(mean) if act > 0}, abs=1e-4)
        assert coded["sae_state"][row] == pytest.approx(hidden.mean(dim=0).tolist(), abs=1e-4)
    for row in (1, 3, 5):
        assert coded["sae_means"][row] == [] and coded["sae_state"][row] == [0.0] * 16


def test_what_is_kept_changes_neither_codes_nor_record(ds, sae):
    plain = encode(ds, sae)
    for keep, added in (("means", ["sae_means"]), ("state", ["sae_state"]), ({"state", "means"}, [*KEPT.values()])):
        coded = encode(ds, sae, keep=keep)
        assert coded.column_names == plain.column_names + added
        assert codes(coded) == codes(plain) and encoding_record(coded) == encoding_record(plain)


def test_features_read_what_was_kept(ds, sae):
    coded = encode(ds, sae, keep=("means", "state")).select([4, 1, 0])
    features = FeatureMatrix.from_dataset(coded, vectors="sae_state")
    assert features.means.tolist() == [mean for row in coded["sae_means"] for mean in row]
    assert features.vectors.tolist() == coded["sae_state"][:] and features.vectors.shape == (3, 16)


def test_blank_rows_have_no_features(ds, sae):
    assert [codes(encode(ds, sae))[row] for row in (1, 3, 5)] == [{}, {}, {}]


def test_a_dataset_of_blank_rows_encodes(sae):
    coded = encode(Dataset.from_dict({"text": ["", None]}), sae, keep=["means", "state"])
    assert coded["sae_ids"][:] == coded["sae_means"][:] == [[], []]
    assert coded["sae_state"][:] == [[0.0] * 16] * 2


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_neither_order_nor_batch_size_changes_a_bit(sae, batch_size):
    texts = [" ".join((tiny.WORDS * 2)[i : i + 1 + i % 13 + i // 15 * 14]) for i in range(20)]  # the last in windows
    forth = encode(Dataset.from_dict({"text": texts}), sae, keep=["means", "state"])
    datasets.disable_caching()
    try:
        ds = Dataset.from_dict({"text": [*texts[::-1], "the cat"]})
        back = encode(ds, sae, batch_size=batch_size, keep=["means", "state"])
    finally:
        datasets.enable_caching()
    for column in ("sae_ids", "sae_acts", "sae_means", "sae_state"):
        assert back[column][-2::-1] == forth[column][:]


def test_a_long_row_is_the_maximum_over_its_windows(sae):
    words = (tiny.WORDS * 2)[:40]  # windows of 16 tokens hold 14 words
    parts = [" ".join(words[start : start + 14]) for start in (0, 14, 28)]
    whole, *pieces = codes(encode(Dataset.from_dict({"text": [" ".join(words), *parts]}), sae))
    merged = {}
    for piece in pieces:
        for i, act in piece.items():
            merged[i] = max(act, merged.get(i, 0))
    assert whole == merged


def test_the_means_of_a_long_row_are_over_all_its_tokens(sae):
    words = (tiny.WORDS * 2)[:40]
    parts = [" ".join(words[start : start + 14]) for start in (0, 14, 28)]
    coded = encode(Dataset.from_dict({"text": [" ".join(words), *parts]}), sae, keep=["means", "state"])
    whole, *pieces = means(coded)
    tokens, *lengths = coded["sae_tokens"][:]
    assert (tokens, lengths) == (40, [14, 14, 12])
    totals = {i: sum(n * piece.get(i, 0) for n, piece in zip(lengths, pieces, strict=True)) for i in whole}
    assert whole == pytest.approx({i: total / 40 for i, total in totals.items()}, rel=1e-5)
    state, *states = np.array(coded["sae_state"][:])
    assert state == pytest.approx(np.average(states, axis=0, weights=lengths), abs=1e-6)


def test_max_length_reads_the_first_tokens_and_is_recorded(sae):
    ds = Dataset.from_dict({"text": ["the cat sat on the mat"], "short": ["the cat"]})
    cut = encode(ds, sae, text="text", max_length=2)
    assert codes(cut) == codes(encode(ds, sae, text="short")) and cut["sae_tokens"][:] == [2]
    assert encoding_record(cut)["max_length"] == 2


def test_the_record_says_how_the_codes_were_made(ds, sae, bert):
    assert encoding_record(encode(ds, sae)) == {
        "version": 1,
        "sae_sha256": sae.digest(),
        "d_sae": 32,
        "threshold": 0.5,
        "model": str(bert),
        "model_revision": look_up(str(bert), None)[1],
        "hook": "encoder.layer.1",
        "dtype": ["float32", "float32"],
        "window": None,
        "max_length": None,
        "text": {"columns": ["text"], "chat": False},
        "chat_template_sha256": None,
    }


def test_a_wide_sae_takes_32_bit_ids(bert):
    wide = SparseAutoencoder(SaeConfig(16, 2**16 + 1, "relu", model=str(bert), hook="encoder.layer.1"))
    wide.requires_grad_(False).b_enc[-1] = 1.0
    coded = encode(Dataset.from_dict({"text": ["the cat"]}), wide)
    assert coded["sae_ids"][:] == [[2**16]] and FeatureMatrix.from_dataset(coded).ids.dtype == np.uint32


def test_the_second_time_no_model_is_loaded(ds, sae, loads):
    first = encode(ds, sae)
    again = encode(Dataset.from_dict({"text": TEXTS, "id": list(range(6))}), sae)
    assert len(loads) == 1
    assert codes(again) == codes(first) and again._fingerprint == first._fingerprint


def test_anything_that_decides_the_result_misses_the_cache(ds, sae, loads):
    encode(ds, sae)
    shifted = SparseAutoencoder(sae.config).requires_grad_(False)
    shifted.load_state_dict(sae.state_dict())
    shifted.b_enc.add_(0.1)
    encode(ds, shifted)
    for change in ({"feature_threshold": 0.7}, {"model_revision": "0" * 40}, {"hook": "encoder.layer.0"}):
        shifted.config = replace(sae.config, **change)
        encode(ds, shifted)
    encode(ds, sae, max_length=np.int64(3))
    encode(ds, sae, text=lambda row: "the cat")
    encode(ds.select([0, 2, 4]), sae)
    encode(ds, copy.deepcopy(sae).half())
    assert len(loads) == 9
    encode(ds, sae)
    encode(ds, sae, max_length=3)
    assert len(loads) == 9


def test_what_is_kept_has_files_of_its_own(ds, sae, loads):
    both = encode(ds, sae, keep=["means", "state"])
    assert encode(ds, sae, keep=("state", "means", "state"))._fingerprint == both._fingerprint
    assert len(loads) == 1
    for keep in ("means", "state", ()):
        assert encode(ds, sae, keep=keep)._fingerprint != both._fingerprint
    assert len(loads) == 4


def test_without_keep_the_key_of_the_cache_is_the_record(ds, sae):
    coded = encode(ds, sae)
    key = update_fingerprint(ds._fingerprint, "hf_sae_select.encode", encoding_record(coded))
    assert coded._fingerprint == key


def test_a_function_edited_in_its_module_misses_the_cache(ds, sae, loads, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for words in ("the cat", "a big red bird"):
        (tmp_path / "rendering.py").write_text(f"def text(row):\n    return {words!r}\n")
        sys.modules.pop("rendering", None)
        importlib.invalidate_caches()
        coded = encode(ds, sae, text=importlib.import_module("rendering").text)
        assert coded["sae_tokens"][:] == [len(words.split())] * 6


def test_a_damaged_cache_file_is_named(ds, sae, cache):
    encode(ds, sae)
    (file,) = cache.rglob("*.arrow")
    file.write_bytes(b"not arrow")
    with pytest.raises(OSError, match=rf"the cache file {file} is damaged .* delete it"):
        encode(ds, sae)


def test_a_base_model_that_changes_in_its_folder_misses_the_cache(ds, sae, bert, loads, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "model")
    sae.config = replace(sae.config, model=str(folder))
    before = codes(encode(ds, sae))
    other = tiny.model("bert")
    with torch.no_grad():
        other.encoder.layer[0].attention.self.query.weight.add_(1)
    other.save_pretrained(folder)
    assert codes(encode(ds, sae)) != before and len(loads) == 2


def test_disabled_caching_is_respected(ds, sae, loads, cache):
    datasets.disable_caching()
    try:
        assert codes(encode(ds, sae)) == codes(encode(ds, sae))
    finally:
        datasets.enable_caching()
    assert len(loads) == 2 and not cache.exists()


def test_an_interrupted_encoding_goes_on_where_it_stopped(sae, monkeypatch):
    ds = Dataset.from_dict({"text": [f"the {word}" for word in tiny.WORDS[:9]]})
    whole = codes(encode(ds, sae))
    monkeypatch.setattr(encoding, "ENCODING_VERSION", 2)  # another cache file, the same codes
    monkeypatch.setattr(encoding, "SHARD_ROWS", 3)
    encoded = []
    call = encoding._Encoder.__call__

    def interrupted(self, batch):
        if "the bird" in batch["text"] and not encoded.count("interrupted"):
            encoded.append("interrupted")
            raise KeyboardInterrupt
        encoded.extend(batch["text"])
        return call(self, batch)

    monkeypatch.setattr(encoding._Encoder, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode(ds, sae)
    assert codes(encode(ds, sae)) == whole
    assert encoded == [*ds["text"][:3], "interrupted", *ds["text"][3:]]


def test_a_shuffled_dataset_keeps_its_order(ds, sae):
    coded = encode(ds.select([4, 0, 2]), sae)
    assert coded["id"][:] == [4, 0, 2]
    assert codes(coded) == [codes(encode(ds, sae))[i] for i in (4, 0, 2)]


def test_a_format_of_the_dataset_does_not_matter(ds, sae):
    assert codes(encode(ds.with_format("numpy"), sae)) == codes(encode(ds, sae))


def test_encoding_an_encoded_dataset_replaces_its_codes(ds, sae):
    coded = encode(encode(ds, sae), sae, max_length=1)
    assert coded.column_names == ["text", "id", "sae_ids", "sae_acts", "sae_tokens"]
    assert coded["sae_tokens"][:] == [1, 0, 1, 0, 1, 0]


def test_encoding_again_replaces_what_was_kept_too(ds, sae):
    both = encode(ds, sae, keep=["means", "state"])
    assert encode(both, sae, max_length=1).column_names == ["text", "id", "sae_ids", "sae_acts", "sae_tokens"]
    again = encode(both, sae, max_length=1, keep="state")
    assert again.column_names == ["text", "id", "sae_ids", "sae_acts", "sae_tokens", "sae_state"]
    assert again["sae_state"][0] != both["sae_state"][0]


def test_a_chat_template_is_used_without_adding_special_tokens_again(sae, bert, tmp_path):
    folder = tiny.save("bert", tmp_path)
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "[CLS] {% for turn in messages %}{{ turn.content }} [SEP]{% endfor %}"
    tokenizer.save_pretrained(folder)
    sae.config = replace(sae.config, model=str(folder))
    ds = Dataset.from_dict({"messages": [[{"role": "user", "content": "the cat"}]], "plain": ["the cat"]})
    chat = encode(ds, sae)
    assert codes(chat) == codes(encode(ds, sae, text="plain"))
    assert encoding_record(chat)["chat_template_sha256"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "`batch_size=0`: pass a whole number from 1 on"),
        ({"batch_size": True}, ValueError, "`batch_size=True`"),
        ({"max_length": 2.5}, ValueError, "`max_length=2.5`"),
        ({"keep": "mean"}, ValueError, "unknown `keep='mean'`; choose one or several of: means, state"),
        ({"keep": ["means", 3]}, ValueError, r"unknown `keep=\['means', 3\]`"),
        ({"keep": None}, ValueError, "unknown `keep=None`"),
        ({"text": "words"}, ValueError, "no column `words`"),
        ({"text": "id"}, TypeError, "column `id` holds"),
        (
            {"sae": "no/such/folder"},
            FileNotFoundError,
            "'no/such/folder' is neither a local folder nor a valid Hub repo id",
        ),
    ],
)
def test_bad_arguments_are_refused_before_a_model_loads(ds, sae, loads, arguments, error, message):
    with pytest.raises(error, match=message):
        encode(ds, **({"sae": sae} | arguments))
    assert not loads


def test_a_foreign_column_in_the_way_is_not_overwritten(ds, sae, loads):
    with pytest.raises(ValueError, match=r"column `sae_acts` is in the way: .* rename or remove it"):
        encode(ds.rename_column("id", "sae_acts"), sae)
    with pytest.raises(ValueError, match=r"column `sae_means` is in the way"):
        encode(ds.rename_column("id", "sae_means"), sae, keep="means")
    assert not loads
    assert encode(ds.rename_column("id", "sae_means"), sae, keep="state")["sae_means"][:] == list(range(6))


def test_an_empty_dataset_and_another_type_are_refused(ds, sae):
    with pytest.raises(ValueError, match=r"the dataset is empty"):
        encode(ds.select([]), sae)
    with pytest.raises(TypeError, match=r"`ds` is a DatasetDict; pick a split: ds\['train'\]"):
        encode(datasets.DatasetDict({"train": ds}), sae)


def test_an_sae_of_another_width_is_refused_before_the_model_loads(ds, bert, loads):
    narrow = SparseAutoencoder(SaeConfig(8, 32, "relu", model=str(bert), hook="encoder.layer.1"))
    with pytest.raises(ValueError, match=r"this SAE reads vectors of d_in=8, but .* has width 16"):
        encode(ds, narrow)
    assert not loads


SCRIPT = """
from zlib import crc32
import datasets, torch
from accelerate import PartialState
from hf_sae_select import SparseAutoencoder, encode
from hf_sae_select.encoding import encoder as encoding
torch.set_num_threads(1)
encoding.SHARD_ROWS = 2
ds = datasets.Dataset.from_dict({"text": ["the cat", "a dog", "the moon", "it was red", "a log"]})
read = []
call = encoding._Encoder.__call__
encoding._Encoder.__call__ = lambda self, batch: read.extend(batch["text"]) or call(self, batch)
# the hash of a set in a lambda differs from process to process
text = lambda row: " ".join(word for word in row["text"].split() if word not in {"x", "y", "z"})
coded = encode(ds, SparseAutoencoder.from_pretrained("FOLDER"), text=text, keep=["means", "state"])
kept = crc32(str([coded["sae_means"][:], coded["sae_state"][:]]).encode())
# One short write: under torchrun the processes share an unbuffered stdout.
print(f"{PartialState().num_processes} {len(read)} {coded['sae_ids'][:]} {kept}\\n", end="")
"""


@pytest.mark.slow
def test_two_processes_share_the_work_and_agree_with_one(sae, tmp_path):
    sae.save_pretrained(tmp_path / "sae")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("FOLDER", str(tmp_path / "sae")))
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}

    def run(*launcher, cache):
        env = os.environ | quiet | {"HF_DATASETS_CACHE": str(tmp_path / cache)}
        done = subprocess.run([*launcher, str(script)], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line]

    (alone,) = run(sys.executable, cache="one")
    assert alone.startswith("1 5 [[")
    torchrun = Path(sys.executable).with_name("torchrun")
    shared = run(torchrun, "--nproc_per_node", "2", "--standalone", cache="two")
    codes = alone.removeprefix("1 5 ")
    assert sorted(shared) == [f"2 2 {codes}", f"2 3 {codes}"]  # three shards, the last of one row
