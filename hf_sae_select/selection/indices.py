"""`select_indices`: features, a budget, a method and constraints to the rows to keep, without a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..features.kept import check_kept
from ..features.matrix import FeatureMatrix
from .concept_rules import ConceptArguments
from .extension import earlier_picks, feature_digests
from .method import MethodFunction
from .quota import Quota
from .request import SelectionRequest
from .result import Selection
from .run import by_concepts, run
from .target_argument import TargetArgument
from .target_distance import target_record
from .target_overlap import TargetOverlap
from .vocabulary import Vocabulary

if TYPE_CHECKING:  # annotations only
    from ..sae.labels import Labels
    from .concept_rules import Boost, Concepts


def select_indices(
    features: FeatureMatrix,
    budget: float | str,
    method: str | MethodFunction = "herding",
    *,
    target: FeatureMatrix | Mapping[str, Any] | None = None,
    overlap: str = "exclude",
    seed: int | None = 0,
    columns: Any = None,
    must_include: Sequence[int] = (),
    exclude: Sequence[int] = (),
    quota: Quota | None = None,
    quality: str | None = None,
    cost: str | None = None,
    per_token: float = 0.0,
    extend: Selection | None = None,
    avoid: Concepts | None = None,
    require: Concepts | None = None,
    require_all: Concepts | None = None,
    boost: Boost | None = None,
    labels: Labels | None = None,
    **options: Any,
) -> Selection:
    """Select rows by their features, without a dataset.

    Features count as they are. `select` cuts them first: by `features.top(256)` for "herding" and "match", and by
    `features.above(threshold)` for most other methods. A warning says where fewer rows than `budget` qualify.

    Args:
        features (`FeatureMatrix`):
            The features of all rows.
        budget (`int`, `float` or `str`):
            Number of rows, a fraction of them, or an amount of what rows cost, see `select`.
        method (`str` or `Callable`, *optional*, defaults to `'herding'`):
            A name in `METHODS`, or a function of your own, see `select`.
        target (`FeatureMatrix` or `dict`, *optional*):
            The features of the rows to select towards, or several by name, see `select`.
        overlap (`str`, *optional*, defaults to `'exclude'`):
            What happens with rows whose features are those of a row of the target, see `select`.
        seed (`int`, *optional*, defaults to `0`):
            Seed that orders equal rows; None keeps their order.
        columns (`Dataset` or `dict`, *optional*):
            The columns that `quota`, `quality` and `cost` name, each of n values.
        must_include (`Sequence[int]`, *optional*, defaults to `()`):
            Rows that are picked first.
        exclude (`Sequence[int]`, *optional*, defaults to `()`):
            Rows that are ignored.
        quota (`str` or `dict`, *optional*):
            The most rows of each value of a column, or shares of the budget, see `select`.
        quality (`str`, *optional*):
            A column of factors of the rows' gains.
        cost (`str`, *optional*):
            What the budget is an amount of.
        per_token (`float`, *optional*, defaults to `0.0`):
            The power of a row's tokens that divides its gain.
        extend (`Selection`, *optional*):
            An earlier selection to grow.
        avoid (`int`, `str`, `list` or `dict`, *optional*):
            Features: rows that have any of them are left out. Any activation counts, unless a threshold is passed, see
            `select`.
        require (`int`, `str`, `list` or `dict`, *optional*):
            Features: rows that have none of them are left out.
        require_all (`int`, `str`, `list` or `dict`, *optional*):
            Features: rows that lack one of them are left out, see `select`.
        boost (`dict`, *optional*):
            Factors of features' weights, see `select`.
        labels (`Labels`, *optional*):
            The labels that have the names, where a feature is named.
        **options (`Any`):
            Options of the method.

    Returns:
        `Selection`: The selected rows in the order they were picked, with their gains.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If an argument is not allowed; the message names it.

    Example:

    ```python
    selection = select_indices(features.above(0.5), 100, "greedy", exclude=[3])
    ```
    """
    _check_features(features)
    argument = TargetArgument.parse(target, overlap)
    request = SelectionRequest.parse(
        len(features),
        {} if columns is None else columns,
        budget,
        method,
        options,
        seed=seed,
        must_include=must_include,
        exclude=exclude,
        quota=quota,
        quality=quality,
        cost=cost,
        per_token=per_token,
        extend=earlier_picks(extend, features, method),
        has_target=argument is not None,
    )
    concepts = ConceptArguments(avoid, require, require_all, boost, labels)
    if concepts.are_passed:
        request = request.with_concepts(concepts.rules(Vocabulary.of(labels, {"d_sae": features.d_sae})))
    if argument is None:
        selection = run(by_concepts(request, features), features)
    else:
        aim = argument.of_features(features.d_sae)
        repeated = TargetOverlap(argument.overlap).with_features(aim, features)
        request = by_concepts(repeated.left_out_of(request), features)
        selection = run(request, features, target=aim)
        selection = replace(selection, target=target_record(selection, features, aim, repeated))
    return replace(selection, row_digests=feature_digests(features, selection.indices))


def _check_features(features: Any) -> None:
    """Check that `features` is a FeatureMatrix.

    Raises:
        TypeError: If it is something else; the message says how to make one of it.
    """
    if isinstance(features, FeatureMatrix):
        check_kept(features, 0.0)
        return
    maker = "from_scipy" if hasattr(features, "tocsr") else "from_dense"
    maker = "from_dataset" if hasattr(features, "column_names") else maker
    raise TypeError(
        f"`features` is a {type(features).__name__}; pass a FeatureMatrix: FeatureMatrix.{maker}(features)"
    )
