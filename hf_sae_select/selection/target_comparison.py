"""`target_distances`: how far a subset is from its target, beside picks without the target, random and all rows."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from .attachment import Pool, pool_of, selection_of
from .methods import METHODS
from .request import SelectionRequest, arguments_of
from .result import Selection
from .run import run_on_dataset
from .target_distance import distance_of
from .targets import TargetPart

if TYPE_CHECKING:  # annotations only
    import pandas as pd
    from datasets import Dataset


def target_distances(subset: Dataset) -> pd.DataFrame:
    """Return how far a subset is from what it was selected towards, beside other rows of the same dataset.

    The lines are `subset`; `untargeted`, the picks of the same method without the target; `random`, as many random
    rows; and `pool`, all rows that could be selected. The columns are `rows`; `hellinger`, the Hellinger distance of
    the rows' and the target's distributions over features; and `kernel`, the maximum mean discrepancy by the kernel of
    `herding`. Both are of each row's 256 strongest features, and 0 is nearest. This selects once more;
    `Selection.target` has the other lines already.

    Args:
        subset (`Dataset`):
            A subset as `select` returned it, with a `target`.

    Returns:
        `pandas.DataFrame`: The table, one line for each of the rows above.

    Raises:
        AttributeError: If the subset was changed since, so that its selection is gone.
        ValueError: If it was selected without a target, or the rows of the target or of the dataset are not attached.

    Example:

    ```python
    subset = select(dataset, 100, target=["How do I cancel my order?", "Where is my refund?"])
    target_distances(subset)
    ```
    """
    selection, pool = selection_of(subset), pool_of(subset)
    if "target" not in selection.parameters:
        raise ValueError("`subset` was selected without a `target`; pass one to `select`")
    if pool is None or pool.codes is None or pool.target is None:
        raise ValueError("`subset` has lost what it was selected from; pass it as `select` returned it")
    if not all(isinstance(part, TargetPart) for part in pool.target.parts):
        raise ValueError("`subset` has lost the rows of its target; select it again with `target`")
    distance = distance_of(selection, FeatureMatrix.from_dataset(pool.codes), pool.target)
    lines = {"subset": selection.indices}
    if selection.method in METHODS:
        lines["untargeted"] = untargeted_picks(selection, pool)
    lines |= {"random": distance.random(len(selection)), "pool": distance.pool}
    from pandas import DataFrame  # datasets loads it late

    return DataFrame([{"rows": len(rows), **distance.of(rows)} for rows in lines.values()], index=list(lines))


def _untargeted_request(selection: Selection, pool: Pool) -> SelectionRequest:
    """Return the request of a selection, but for the target."""
    arguments = arguments_of(selection) | {"has_target": False}
    method, options = METHODS[selection.method], arguments.pop("options")
    options = {
        name: value
        for name, value in options.items()
        if name not in method.for_targets and value != method.with_target.get(name)
    }
    return SelectionRequest.parse(
        len(pool.source), pool.columns, method=selection.method, options=options, **arguments
    )


def untargeted_picks(selection: Selection, pool: Pool) -> Int64s:
    """Select again without the target; rows that were left out stay so."""
    with warnings.catch_warnings():  # what the selection warned of
        warnings.simplefilter("ignore", UserWarning)
        assert pool.codes is not None
        return run_on_dataset(_untargeted_request(selection, pool), pool.codes).indices
