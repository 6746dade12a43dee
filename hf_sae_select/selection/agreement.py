"""What processes that select together must have in common, so that all of them get one result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets or torch
    from datasets import Dataset

    from ..engines.cluster import Cluster
    from ..engines.process_shards import ProcessGroup
    from .request import SelectionRequest
    from .targets import Target

SAMPLED_ROWS = 64  # that are compared: to read all would take as long as the work that is shared


def check_agreement(
    engine: Cluster | ProcessGroup | None, request: SelectionRequest, dataset: Dataset, aim: Target | None
) -> None:
    """Check that all processes select in the same way among the same rows, of which a sample tells.

    Raises:
        RuntimeError: They do not; the message says what differs.
    """
    check_same = getattr(engine, "check_same", None)
    if check_same is None:  # one process asks
        return
    some = np.unique(np.linspace(0, len(dataset) - 1, SAMPLED_ROWS).astype(int))
    check_same(
        {
            "rows": (len(dataset), dataset.with_format("arrow").select(some)[:].to_pydict()),
            "`budget`": request.budget,
            "`method` or its options": (request.name, request.recorded_options),
            "`seed`": request.seed,
            "constraints": vars(request.constraints),
            "`threshold`, `top`, `max_share` or `embedding`": request.cuts,
            "`target`": aim,
        }
    )
