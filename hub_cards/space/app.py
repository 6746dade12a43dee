"""The Space: name a dataset or upload a file, select rows, read the report, download the subset.

Each selection runs in a process and a folder of its own (`worker.py`): it can be stopped, it knows no token, and no
file of one visitor is in the reach of another. What comes from outside is shown as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from worker import METHODS, MOST_ROWS, run_apart

MOST_UPLOAD = "20mb"
KEPT_SECONDS = 3600  # of files that a visitor uploads or may download
# The scripts of a report run in a frame that is no part of the page.
FRAME = '<iframe sandbox="allow-scripts" title="Report" srcdoc="{}"></iframe>'
HEADERS = ["row", "gain", "text"]

INTRODUCTION = f"""# Select training data by SAE features

A small subset that stands for the rows of a dataset, and why each row was picked. The Space reads the first
{MOST_ROWS:,} rows; the library [hf-sae-select](https://github.com/hf-sae-select/hf-sae-select) reads all of them.
"""


def select(
    dataset: str, config: str, split: str, file: str | None, budget: str, method: str, text: str
) -> Iterator[tuple[Any, ...]]:
    """Yield what the page shows: the status, then whether there are results, and these.

    Gradio copies the files when they are yielded; the folder is deleted when it asks for more.
    """
    asked = {"dataset": dataset, "config": config, "split": split, "file": file}
    asked |= {"budget": budget, "method": method, "text": text}
    nothing = (gr.update(visible=False), None, None, [], "")
    yield ("Reading, encoding, selecting: up to a few minutes.", *nothing)
    with TemporaryDirectory() as name:
        folder = Path(name)
        result = run_apart(asked, folder)
        if "error" in result:
            yield (result["error"], *nothing)
            return
        subset, report = folder / "subset.parquet", folder / "report.html"
        frame = FRAME.format(escape(report.read_text("utf-8")))
        yield result["status"], gr.update(visible=True), str(subset), str(report), result["picks"], frame


def page() -> gr.Blocks:
    """Return the page."""
    with gr.Blocks(
        title="hf-sae-select", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
    ) as blocks:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                dataset = gr.Textbox(label="Dataset on the Hub", placeholder="owner/name")
                with gr.Row():
                    config = gr.Textbox(label="Configuration, if it has several")
                    split = gr.Textbox(label="Split", value="train")
                types = [".parquet", ".jsonl", ".json", ".csv", ".txt"]
                file = gr.File(label="or a file of rows", file_types=types, height=120)
            with gr.Column():
                budget = gr.Textbox(label="Budget: rows, a share or tokens (100, 5%, 20k tokens)", value="100")
                choices = [(f"{name}: {summary}", name) for name, summary in METHODS.items()]
                method = gr.Dropdown(choices, value="herding", label="Method")
                text = gr.Textbox(label="Column of the text, if it is not found by itself")
                button = gr.Button("Select", variant="primary")
        status = gr.Textbox(label="Result", lines=2, interactive=False)
        with gr.Column(visible=False) as results:
            with gr.Row():
                subset = gr.File(label="The subset, as Parquet", interactive=False)
                report = gr.File(label="The report, as one page", interactive=False)
            widths = ["8%", "10%", "82%"]
            picks = gr.Dataframe(
                headers=HEADERS,
                datatype="str",
                label="The first picks",
                wrap=True,
                column_widths=widths,
                interactive=False,
            )
            shown = gr.HTML(label="Report")
        inputs, outputs = (
            [dataset, config, split, file, budget, method, text],
            [status, results, subset, report, picks, shown],
        )
        button.click(select, inputs, outputs, api_visibility="private", concurrency_limit=1)
    return blocks.queue(max_size=20)


if __name__ == "__main__":
    css = "iframe {width: 100%; height: 85vh; border: 0}"
    page().launch(max_file_size=MOST_UPLOAD, css=css, show_error=False, footer_links=[])
