"""A step for datatrove that lets only the documents of a subset pass.

    pip install hf-sae-select datatrove

    executor = LocalPipelineExecutor([JsonlReader("pool"), SaeSelect(3000), JsonlWriter("subset")], tasks=1)

Tasks of datatrove cannot talk to each other, and a selection needs all documents. So this step runs in one task, and
holds the documents in memory. Of a pool that does not fit, use `hf_sae_select.select("pool/*.jsonl", 3000)`.
Tried with datatrove 0.10.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasets import Dataset
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

import hf_sae_select


class SaeSelect(PipelineStep):  # type: ignore[misc]
    """Pass on the documents that `hf_sae_select.select` picks, in the order in which it picks them.

    Args:
        budget: rows, a share, or an amount such as "2M tokens".
        **options: other arguments of `select`, such as `method` and `target`.
    """

    type, name = "🎯 - SELECTOR", "SAE features"

    def __init__(self, budget: float | str, **options: Any) -> None:
        super().__init__()
        self.budget, self.options = budget, options

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        if world_size > 1:
            raise ValueError(f"`world_size={world_size}`: a selection needs all documents; run this step with tasks=1")
        documents = list(data)
        if not documents:
            return
        pool = Dataset.from_dict({"text": [document.text for document in documents]})
        with self.track_time("selection"):
            subset = hf_sae_select.select(pool, self.budget, text="text", **self.options)
        for row, gain in zip(subset.sae_selection.indices, subset.sae_selection.gains, strict=True):
            documents[row].metadata["sae_gain"] = float(gain)
            self.stat_update("forwarded")
            self.update_doc_stats(documents[row])
            yield documents[row]
        self.stat_update("dropped", value=len(documents) - len(subset))
