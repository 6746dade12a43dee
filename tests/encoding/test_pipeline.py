import copy
import importlib
import shutil
import sys
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, Image, Value
from datasets.fingerprint import update_fingerprint
from helpers import tiny
from helpers.encoded import CODES, TEXTS, codes

from hf_sae_select import SparseAutoencoder, encode
from hf_sae_select.encoding import encoder, pipeline, run
from hf_sae_select.features.columns import RowFlags, column_types, encoding_record


def test_what_is_kept_has_a_store_of_its_own(ds, sae):
    kinds = [(), "state", "all", ("all", "state"), 2, (2, "state"), (2, "float32")]
    kept = [encode(ds, sae, keep=keep) for keep in kinds]
    assert len({part._fingerprint for part in kept}) == len(kinds)
    assert ["sae_state" in part.column_names for part in kept] == ["state" in str(keep) for keep in kinds]
    assert max(map(len, kept[4]["sae_ids"])) < max(map(len, kept[2]["sae_ids"]))
    assert kept[3].remove_columns("sae_state")[:] == kept[2][:]


def test_the_second_time_no_model_is_loaded(ds, sae, loads):
    first = encode(ds, sae)
    again = encode(Dataset.from_dict({"text": TEXTS, "id": list(range(6))}), sae)
    assert len(loads) == 1
    assert codes(again) == codes(first) and again._fingerprint == first._fingerprint


def test_anything_that_decides_the_result_misses_the_cache(ds, sae, loads, monkeypatch):
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
    encode(ds, copy.deepcopy(sae).half())
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "version", lambda library: "other")  # another torch may give other bits
        encode(ds, sae)
        assert len(loads) == 9
        encode(ds, sae)
    encode(ds, sae)
    encode(ds, sae, max_length=3)
    assert len(loads) == 9


def test_what_is_kept_has_files_of_its_own(ds, sae, loads):
    with_state = encode(ds, sae, keep=["state"])
    assert encode(ds, sae, keep=("state", "state"))._fingerprint == with_state._fingerprint
    assert len(loads) == 1
    assert encode(ds, sae)._fingerprint != with_state._fingerprint
    assert len(loads) == 2


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
    before = codes(encode(ds, sae, keep="all"))
    other = tiny.model("bert")
    with torch.no_grad():
        other.encoder.layer[0].attention.self.query.weight.add_(1)
    other.save_pretrained(folder)
    assert codes(encode(ds, sae, keep="all")) != before and len(loads) == 2


def test_disabled_caching_is_respected(ds, sae, loads, cache):
    datasets.disable_caching()
    assert codes(encode(ds, sae)) == codes(encode(ds, sae))
    assert len(loads) == 2 and not cache.exists()


def test_an_interrupted_encoding_goes_on_where_it_stopped(sae, cache, monkeypatch):
    ds = Dataset.from_dict({"text": [f"the {word}" for word in tiny.WORDS[:9]]})
    whole = codes(encode(ds, sae))
    monkeypatch.setattr(encoder, "ENCODING_VERSION", 3)  # another cache file, the same codes
    monkeypatch.setattr(encoder, "GROUP_ROWS", 3)
    encoded = []
    call = encoder.Encoder.tokenized

    def interrupted(self, rows, batch):
        texts = [text for text, _ in batch]
        if "the bird" in texts and not encoded.count("interrupted"):
            encoded.append("interrupted")
            raise KeyboardInterrupt
        encoded.extend(texts)
        return call(self, rows, batch)

    monkeypatch.setattr(encoder.Encoder, "tokenized", interrupted)
    with pytest.raises(KeyboardInterrupt, match=rf"^3 of 9 rows are encoded and kept in {cache}") as caught:
        encode(ds, sae)
    assert "interrupted" not in [frame.name for frame in caught.traceback] and caught.value.__suppress_context__
    assert not list(cache.rglob("*.part"))
    assert codes(encode(ds, sae)) == whole
    assert encoded == [*ds["text"][:3], "interrupted", *ds["text"][3:]]


def test_a_shuffled_dataset_keeps_its_order(ds, sae):
    coded = encode(ds.select([4, 0, 2]), sae)
    assert coded["id"][:] == [4, 0, 2]
    assert codes(coded) == [codes(encode(ds, sae))[i] for i in (4, 0, 2)]


def shout(batch):
    return {"loud": [str(text).upper() for text in batch["text"]]}


FORMATS = {  # set on a dataset with the columns `text` and `id`
    "numpy": lambda ds: ds.with_format("numpy"),
    "pandas": lambda ds: ds.with_format("pandas"),
    "arrow": lambda ds: ds.with_format("arrow"),
    "torch with options": lambda ds: ds.with_format("torch", columns=["id"], dtype=torch.int32),
    "some columns": lambda ds: ds.with_format("numpy", columns=["id"]),
    "some columns and all others": lambda ds: ds.with_format("numpy", columns=["id"], output_all_columns=True),
    "transform": lambda ds: ds.with_transform(shout),
    "transform of some columns": lambda ds: ds.with_transform(shout, columns=["text"], output_all_columns=True),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("arrange", [lambda ds: ds, lambda ds: ds.select([5, 4, 3, 2, 1, 0])])
def test_the_format_stays_as_with_a_column_that_is_added(ds, sae, name, arrange):
    formatted = FORMATS[name](arrange(ds))
    coded = encode(formatted, sae)
    added = FORMATS[name](ds).add_column("sae_tokens", [0] * 6).format
    columns = {"sae_ids", "sae_acts", "sae_tokens", "sae_flags", "sae_digest"}
    assert set(coded.format.pop("columns")) == set(added.pop("columns")) | columns
    assert {name: coded.format[name] for name in added} == added
    assert codes(coded.with_format(None)) == codes(encode(arrange(ds), sae))
    assert type(coded[:2]) is type(formatted[:2])
    again = encode(coded, sae, max_length=1)  # its old code columns were among the formatted ones
    assert set(again.format["columns"]) == set(coded.format["columns"]) and again.split == ds.split


def test_a_transform_does_not_change_what_is_encoded(ds, sae):
    upper = ds.with_transform(lambda batch: {"text": ["a dog"] * len(batch["text"])})
    assert codes(encode(upper, sae).with_format(None)) == codes(encode(ds, sae))


def test_encoding_an_encoded_dataset_replaces_its_codes(ds, sae):
    coded = encode(encode(ds, sae), sae, max_length=1)
    assert coded.column_names == ["text", "id", *CODES]
    assert coded["sae_tokens"][:] == [1, 0, 1, 0, 1, 0]


def test_encoding_again_replaces_what_was_kept_too(ds, sae):
    with_state = encode(ds, sae, keep="state")
    assert encode(with_state, sae, max_length=1).column_names == [
        *("text", "id", "sae_ids", "sae_acts", "sae_tokens", "sae_flags", "sae_digest"),
    ]
    again = encode(with_state, sae, max_length=1, keep="state")
    assert again.column_names == ["text", "id", *CODES, "sae_state"]
    assert again["sae_state"][0] != with_state["sae_state"][0]


def test_a_foreign_column_in_the_way_is_not_overwritten(ds, sae, loads):
    with pytest.raises(ValueError, match=r"column `sae_acts` is in the way: .* rename or remove it"):
        encode(ds.rename_column("id", "sae_acts"), sae)
    with pytest.raises(ValueError, match=r"column `sae_state` is in the way"):
        encode(ds.rename_column("id", "sae_state"), sae, keep="state")
    assert not loads
    assert encode(ds.rename_column("id", "sae_state"), sae)["sae_state"][:] == list(range(6))


def test_an_empty_dataset_and_another_type_are_refused(ds, sae):
    with pytest.raises(ValueError, match=r"the dataset is empty"):
        encode(ds.select([]), sae)
    with pytest.raises(TypeError, match=r"`dataset` is a DatasetDict; pick a split: dataset\['train'\]"):
        encode(datasets.DatasetDict({"train": ds}), sae)


def test_the_codes_alone_are_those_of_encode(ds, sae, loads):
    alone = pipeline.codes(ds, sae, keep="state")
    assert alone.column_names == ["sae_ids", "sae_acts", "sae_tokens", "sae_flags", "sae_digest", "sae_state"]
    assert alone[:] == encode(ds, sae, keep="state").remove_columns(["text", "id"])[:] and len(loads) == 1
    assert pipeline.codes(ds.rename_column("id", "sae_acts"), sae).column_names == alone.column_names[:5]


def test_columns_that_are_not_read_are_not_decoded(sae):
    ds = Dataset.from_dict({"text": ["the cat"], "picture": [{"path": None, "bytes": b"no picture"}]})
    ds = ds.cast(datasets.Features({"text": Value("string"), "picture": Image()}))
    assert encode(ds, sae)["sae_tokens"][:] == [2]


def test_the_file_of_a_shard_is_one_that_datasets_reads(ds, sae, cache):
    coded = encode(ds, sae)
    (file,) = cache.rglob("*.arrow")
    stored = Dataset.from_file(str(file))
    assert stored.features == column_types(encoding_record(coded), digested={})
    assert stored[:] == coded.select_columns(stored.column_names)[:]


class Recorder:
    """Stand in for tqdm."""

    def __init__(self, **options):
        self.options, self.rows, self.notes = options, 0, []
        Recorder.last = self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def update(self, rows):
        self.rows += rows

    def set_postfix_str(self, note, refresh):
        self.notes.append(note)

    def format_interval(self, seconds):
        return f"{seconds:.0f}"

    def unpause(self):
        pass

    def refresh(self):
        pass


@pytest.mark.parametrize(
    ("enabled", "show", "hidden"),
    [(True, None, False), (False, None, True), (True, False, True), (False, True, False)],
)
def test_one_progress_bar_is_shown_as_asked(ds, sae, monkeypatch, enabled, show, hidden):
    monkeypatch.setattr(run, "tqdm", Recorder)
    monkeypatch.setattr(run, "are_progress_bars_disabled", lambda: not enabled)
    monkeypatch.setattr(run, "TASK_ROWS", 4)
    monkeypatch.setattr(encoder, "GROUP_ROWS", 3)
    encode(ds, sae, show_progress_bar=show)
    bar = Recorder.last
    assert (bar.options["total"], bar.options["disable"], bar.rows) == (6, hidden, 6)
    assert bar.notes[-1].endswith(" tokens/s")


def test_encoding_leaves_the_progress_bars_of_datasets_alone(ds, sae, monkeypatch, capfd):
    encode(ds, sae, show_progress_bar=True)
    assert datasets.utils.are_progress_bars_disabled() and "Encoding `text`: 100%" in capfd.readouterr().err


REFUSES = "{% for turn in messages %}{% if turn.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
REFUSES += "{% if turn.role != 'tool' %}{{ turn.content }} {% endif %}{% endfor %}"


def test_chats_that_the_template_does_not_write_are_counted_each_time(sae, bert, tmp_path, loads):
    folder = shutil.copytree(bert, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(REFUSES)
    sae.config = replace(sae.config, model=str(folder))
    chats = [
        [("user", "the cat")],
        [("system", "a dog"), ("user", "the moon")],
        [("user", "a log"), ("tool", "it ran")],
    ]
    turns = [[{"role": role, "content": content} for role, content in chat] for chat in chats]
    for rows in (turns, turns, turns[::-1]):
        with (
            pytest.warns(UserWarning, match=r"^1 of 3 rows: the chat template of .* refused them.*, so they were ren"),
            pytest.warns(UserWarning, match=r"^1 of 3 rows: the chat template of .* left out words of their turns"),
        ):
            coded = encode(Dataset.from_dict({"messages": rows}), sae)
        assert sorted(coded["sae_flags"][:]) == [0, RowFlags.REFUSED, RowFlags.LEFT_OUT]
        encoding = coded.sae_select(1).sae_selection.parameters["encoding"]
        assert encoding["rows"] == {"refused": 1, "left_out": 1}
    assert len(loads) == 1


def test_a_chat_that_cannot_be_read_is_named_before_the_model_loads(sae, loads):
    ds = Dataset.from_dict({"messages": [[{"role": "user", "content": c}] for c in (b"a cat", b"a dog", b"\xff\xfe")]})
    with pytest.raises(ValueError, match="row 2, column `messages`: cannot read 2 bytes that are no UTF-8 text"):
        encode(ds, sae)
    assert not loads


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, "`text` has no text"), (lambda row: "", "what `text` returns has no text")],
)
def test_a_dataset_of_mostly_blank_rows_is_warned_of(sae, text, expected):
    with pytest.warns(UserWarning, match=rf"rows are blank: {expected} there; pass another `text`"):
        encode(Dataset.from_dict({"text": ["", "the cat", " ", None]}), sae, text=text)
