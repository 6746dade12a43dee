"""A staged subset, what `verify` says of it, and how it is edited: in one place, or so that all seems to fit."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import Dataset, Features, List, Value, load_dataset
from hub.metadata import problems
from huggingface_hub import DatasetCard

from helpers import tiny
from helpers.pools import coded
from hf_sae_select import stage, verify
from hf_sae_select._cards import section_of
from hf_sae_select._hub import sha256_of
from hf_sae_select.publishing.figures import tables
from hf_sae_select.publishing.hashing import digest_of
from hf_sae_select.publishing.layout import SECTION

ALICE = {"token": "hf_alice"}
RECORD = {"version": 1, "sae_sha256": "ab" * 32, "d_sae": 16, "threshold": 0.5, "model": "org/model"}
RECORD |= {"model_revision": "a" * 40, "hook": "layers.3", "dtype": ["float32", "float32"], "window": 16}
RECORD |= {"max_length": None, "text": {"columns": ["text"], "chat": False}, "chat_template_sha256": None}
POOL = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}, {4: 0.9, 5: 0.5}, {6: 0.7}]
TEXTS = [" ".join((tiny.WORDS * 2)[7 * i % 13 : 7 * i % 13 + 2 + i % 9]) for i in range(12)]
DIGESTS = ["record", "parameters", "indices", "rows", "files", "card"]
SELECT = [*DIGESTS, "source", "encoding", "picks", "counts", "coverage"]
ENCODE = [*SELECT, "source", "sae", "encoding", "features", "picks", "counts", "coverage"]
ROWS_FILE = "data/train-00000.parquet"


CONSTRAINTS = ("must_include", "exclude", "quota", "quality", "cost", "per_token", "extend")
CONSTRAINTS += ("avoid", "require", "require_all", "boost")
CUTS = ("threshold", "top", "max_share", "embedding")


def choose_and_stage(folder, budget=3, method="greedy", *, include_features=True, rows=POOL, **options):
    subset = coded(rows, record=RECORD).sae_select(budget, method, seed=None, **options)
    return stage(subset, folder, license="mit", include_features=include_features)


def publish_source(hub, folder, texts):
    Dataset.from_dict({"text": texts, "n": list(range(len(texts)))}).to_parquet(folder / "rows.parquet")
    files = {"data/train-0.parquet": (folder / "rows.parquet").read_bytes(), "README.md": "---\nlicense: mit\n---\n"}
    return hub.push("alice/rows", files, kind="dataset")


def stage_whole(hub, sae, bert, tmp_path, method="greedy", **options):
    """Stage a subset whose model, SAE and source are all on the local Hub."""
    model = hub.push("alice/bert", {file.name: file.read_bytes() for file in bert.iterdir()})
    sae.config = replace(sae.config, model="alice/bert", model_revision=model)
    sae.push_to_hub("alice/sae", **ALICE)
    publish_source(hub, tmp_path, TEXTS)
    ds = load_dataset("alice/rows", split="train")
    return stage(ds.sae_select(4, method, sae="alice/sae", **options), tmp_path / "staged")


def differences(place, level="digests", **passed):
    """What differs: the names of the checks and what each says."""
    verification = verify(place, level, **passed)
    differ = {f"{item.level}: {item.name}": item.difference for item in verification.checks if item.difference}
    assert bool(verification) == (not differ) == (verification.difference is None)
    return differ


def edit(folder, change):
    """Edit the record, and nothing beside it."""
    record = json.loads((folder / "provenance.json").read_text())
    change(record)
    (folder / "provenance.json").write_text(json.dumps(record))


def reseal(folder, change=lambda record: None):
    """Edit the record as one does who wants to be believed: it fits all files and itself."""

    def consistently(record):
        for name in record["files"]:
            size = (folder / name).stat().st_size
            record["files"][name] = {"sha256": sha256_of(folder / name), "bytes": size}
        change(record)
        del record["sha256"]
        record["sha256"] = digest_of(record)

    edit(folder, consistently)


def reseal_figures(folder, change):
    """Edit the figures of the record, and the tables of the card with them, so that they fit each other."""
    record = json.loads((folder / "provenance.json").read_text())
    card, before = (folder / "README.md").read_text(), tables(record)
    change(record)
    for name, table in tables(record).items():
        card = card.replace(before[name], table)
    (folder / "README.md").write_text(card)
    reseal(folder, lambda record: (change(record), record.update({SECTION: digest_of(section_of(card))})))


def rewrite(file, change, recorded=lambda recorded: None):
    """Change the columns of a Parquet file, and what the schema of the table of picks says."""
    table = pq.read_table(file)
    columns, metadata = table.to_pydict(), dict(table.schema.metadata)
    change(columns)
    if b"sae_selection" in metadata:
        receipt = json.loads(metadata[b"sae_selection"])
        recorded(receipt)
        metadata[b"sae_selection"] = json.dumps(receipt).encode()
    pq.write_table(pa.table(columns, schema=table.schema.with_metadata(metadata)), file)


def put(column, row, value):
    return lambda columns: columns[column].__setitem__(row, value)


def swap(i, j):
    def change(columns):
        for values in columns.values():
            values[i], values[j] = values[j], values[i]

    return change


def nothing(columns):
    pass


def put_parameter(parameters, name, value):
    """Set a parameter in the part that holds it; a name that none knows is an option of the method."""
    known = {"budget": None, "seed": None} | dict.fromkeys(CONSTRAINTS, "constraints") | dict.fromkeys(CUTS, "cuts")
    part = known.get(name, "options")
    (parameters if part is None else parameters[part])[name] = value


def set_parameter(folder, name, value):
    """Change a parameter wherever it is written."""
    rewrite(folder / "selection.parquet", nothing, lambda recorded: put_parameter(recorded["parameters"], name, value))
    reseal(folder, lambda record: put_parameter(record["selection"]["parameters"], name, value))


def set_encoding(folder, change):
    """Change how rows were encoded in the record, in the table of picks and in the pool."""
    rewrite(folder / "selection.parquet", nothing, lambda recorded: change(recorded["parameters"]["encoding"]))
    table = pq.read_table(folder / "pool.parquet")
    info = json.loads(table.schema.metadata[b"huggingface"])
    ids = info["info"]["features"]["sae_ids"]["feature"]
    recorded = json.loads(ids["id"])
    change(recorded)
    ids["id"] = json.dumps(recorded)
    metadata = table.schema.metadata | {b"huggingface": json.dumps(info)}
    pq.write_table(table.replace_schema_metadata(metadata), folder / "pool.parquet")
    reseal(folder, lambda record: change(record["encoding"]))


def store(folder, recorded=None, **columns):
    """Write columns into the pool, of whatever types, and `told` as the record of how the codes were made."""
    table = pq.read_table(folder / "pool.parquet")
    recorded = Features.from_arrow_schema(table.schema)["sae_ids"].feature.id if recorded is None else recorded
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    types = Features.from_arrow_schema(table.schema.remove_metadata())
    types["sae_ids"] = List(
        Value(types["sae_ids"].feature.dtype, id=recorded), length=getattr(types["sae_ids"], "length", -1)
    )
    pq.write_table(table.replace_schema_metadata(types.arrow_schema.metadata), folder / "pool.parquet")
    reseal(folder)


def tell(file, recorded):
    """Write `told` where `datasets` keeps the types of a Parquet file's columns."""
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"huggingface": recorded}), file)


def set_card(folder, change):
    """Change the metadata of the card."""
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    data = yaml.safe_load(head)
    change(data)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(data)}---\n{text}")


def card_of(subset, tmp_path, license="mit", **options):
    """Stage, and return the card's text and metadata once both are sound."""
    text = (stage(subset, tmp_path / "f", license=license, **options) / "README.md").read_text()
    data = DatasetCard(text).data.to_dict()
    assert problems("dataset", data) == ([], [])
    for word in ("None", "Undefined", "{{", "{%", " nan ", "\n\n\n\n"):
        assert word not in text
    return text, data


def from_hub(hub, metadata, sae, id="alice/OpenOrca"):
    rows = "".join(json.dumps({"text": text}) + "\n" for text in ("the cat", "a dog ran", "", "the moon"))
    hub.push(id, {"train.jsonl": rows, "README.md": f"---\n{metadata}---\n# Hi\n"}, kind="dataset")
    return load_dataset(id, split="train").sae_select(2, sae=sae)
