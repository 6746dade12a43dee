"""The Space in `hub_cards/space`: what it reads and refuses, and the page in a browser where gradio is installed."""

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset
from helpers.reports import HOSTILE, browser
from packaging.requirements import Requirement

from hf_sae_select import METHODS, __version__

FOLDER = Path(__file__).parent.parent / "hub_cards" / "space"
ROWS = [f"{verb} {noun}." for verb in ("Boil", "Paint", "Sell") for noun in ("an egg", "a house", "a poem")]


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    import worker

    return worker


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in ROWS))
    return file


def test_its_card_names_what_it_needs():
    _, metadata, _ = (FOLDER / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(metadata)
    assert card["sdk"] == "gradio" and (FOLDER / card["app_file"]).is_file()
    [requirement] = (FOLDER / "requirements.txt").read_text().splitlines()
    assert Requirement(requirement).specifier.contains(__version__)


def test_its_methods_are_methods_that_read_features(worker):
    assert not any(METHODS[name].needs_vectors for name in worker.METHODS)


@pytest.mark.slow
def test_a_file_gives_a_subset_and_a_report(worker, file, tmp_path):
    result = worker.run({"file": str(file), "budget": "3", "method": "herding"}, tmp_path)
    assert result["status"] == "3 of 9 rows, picked by herding."
    subset = load_dataset("parquet", data_files=str(tmp_path / "subset.parquet"), split="train")
    assert (
        [text for _, _, text in result["picks"]]
        == subset["text"][:]
        == [ROWS[int(row)] for row, _, _ in result["picks"]]
    )
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!")


def test_only_the_first_rows_are_read(worker, file, monkeypatch):
    assert worker.read({"file": str(file)})[1]
    monkeypatch.setattr(worker, "MOST_ROWS", 4)
    rows, is_all = worker.read({"file": str(file)})
    assert (rows["text"][:], is_all) == (ROWS[:4], False)


def test_an_empty_file_has_no_rows(worker, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match="There are no rows in it"):
        worker.read({"file": str(tmp_path / "empty.jsonl")})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"budget": ""}, "Say how many rows you want"),
        ({"method": "kcenter"}, "Choose a method: herding, match"),
        ({}, "Name a dataset of the Hub or upload a file"),
        ({"dataset": "a/b", "file": "rows.jsonl"}, "one of the two"),
        ({"file": "rows.exe"}, r"Files of the type '\.exe' are not read"),
        ({"dataset": "rows"}, "'rows' is not the id of a dataset"),
        ({"dataset": "../rows"}, "'../rows' is not the id"),
        ({"dataset": "a/b/c"}, "'a/b/c' is not the id"),
    ],
)
def test_what_it_refuses_before_it_reads(worker, asked, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        worker.run({"budget": "3", "method": "herding"} | asked, tmp_path)


def test_budgets(worker):
    assert [worker.budget_of(text) for text in ("4", " 0.5", "5%", "2k tokens")] == [4, 0.5, "5%", "2k tokens"]


def test_a_public_dataset_of_the_hub(worker, hub, tmp_path):
    Dataset.from_dict({"text": ROWS}).to_parquet(tmp_path / "rows.parquet")
    data = (tmp_path / "rows.parquet").read_bytes()
    hub.push("alice/rows", {"data/train-0.parquet": data}, kind="dataset")
    hub.push("alice/private", {"data/train-0.parquet": data}, kind="dataset", private=True)
    assert worker.read({"dataset": "alice/rows"})[0]["text"][:] == ROWS
    with pytest.raises(ValueError, match="alice/rows has no split 'test'; choose one of: train"):
        worker.read({"dataset": "alice/rows", "split": "test"})
    os.environ["HF_TOKEN"] = "hf_alice"  # the fixture `hub` deletes it
    with pytest.raises(OSError, match="alice/private"):
        worker.read({"dataset": "alice/private"})


def test_a_repo_cannot_name_files_of_this_machine(worker, hub, file):
    card = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": str(file)}]})
    hub.push("alice/rows", {"train.csv": "text\nhello\n", "README.md": f"---\n{card}---\n"}, kind="dataset")
    with pytest.raises(ValueError, match=r"don't belong to alice/rows|no files of rows of its own"):
        worker.read({"dataset": "alice/rows"})


@pytest.mark.slow
def test_a_selection_that_takes_too_long_is_stopped(worker, file, tmp_path):
    result = worker.run_apart({"file": str(file), "budget": "3", "method": "herding"}, tmp_path, seconds=0.01)
    assert "was stopped" in result["error"] and not (tmp_path / "subset.parquet").exists()


def test_the_process_says_an_error_and_sees_no_secrets(worker, monkeypatch, tmp_path):
    seen = []
    run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda *args, **options: seen.append(options["env"]) or run(*args, **options)
    )
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    monkeypatch.setenv("MY_SECRET", "1")
    result = worker.run_apart({"budget": ""}, tmp_path)
    assert result == {"error": "Say how many rows you want: a number such as 100, a share such as 5%, or 20k tokens."}
    assert "PATH" in seen[0] and not {"HF_TOKEN", "MY_SECRET"} & seen[0].keys()


@contextmanager
def served(tmp_path):
    """Run the page in a process of its own, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = {"GRADIO_TEMP_DIR": str(tmp_path / "files"), "GRADIO_SERVER_PORT": port, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(FOLDER / "app.py")]
    app = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True)
    try:
        yield next(match[0] for line in app.stdout if (match := re.search(r"http://127\S+", line)))
    finally:
        app.terminate()
        app.communicate()


@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path):
    pytest.importorskip("gradio", reason="pip install gradio, in an environment of its own: it needs an older Pillow")
    file = tmp_path / "rows.jsonl"
    texts = [f"{row} {bad}" for row, bad in zip(ROWS, HOSTILE, strict=False)]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with browser() as chromium, served(tmp_path) as address:
        page = chromium.new_page()
        page.set_default_timeout(120_000)
        page.goto(address)
        button = page.get_by_role("button", name="Select", exact=True)
        button.click()
        status = "text => [...document.querySelectorAll('textarea')].some(area => area.value.includes(text))"
        page.wait_for_function(status, arg="one of the two")
        page.set_input_files("input[type=file]", str(file))
        page.get_by_text(re.compile(r"\.jsonl$")).wait_for()  # gradio shows the type of a file apart from its name
        page.get_by_label("Budget").fill("4")
        button.click()
        page.wait_for_function(status, arg="4 of 9 rows, picked by herding.")
        page.frame_locator("iframe").get_by_role("heading", name="Selected rows").wait_for()
        with page.expect_download() as download:
            page.locator("a[download='subset.parquet']").first.click()
        subset = load_dataset("parquet", data_files=str(download.value.path()), split="train")
        assert len(subset) == 4
        assert page.evaluate("window.pwned") is None
        assert page.locator("table img, table script, table b").count() == 0
