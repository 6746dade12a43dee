"""The methods on the dicts of splits, `DatasetDict` and `IterableDatasetDict`: each split alone, as by its `map`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from .._datasets import by_split, check_dataset, in_split

if TYPE_CHECKING:
    from ..sae.loading import SaeSource
    from ..selection.lines import Methods
    from ..selection.method import MethodFunction
    from ..selection.table import Comparison

Splits: TypeAlias = DatasetDict | IterableDatasetDict
OF_ROWS = ("must_include", "exclude", "extend")  # arguments that are about rows of one split


def sae_select(
    self: Splits,
    budget: float | str | Mapping[str, float | str],
    method: str | MethodFunction = "herding",
    **arguments: Any,
) -> DatasetDict:
    """Select a subset of each split, and return a DatasetDict of them.

    A single `budget` is that of each split, as `map` acts on each split alone: 3000 picks 3,000 rows of every split,
    "10%" a tenth of every split. A dict has the budget of each split, and must name all of them. For one budget over
    all splits, join them: `concatenate_datasets(list(splits.values())).sae_select(budget)`.

    `must_include`, `exclude` and `extend` are about rows, so they are dicts by split. Other arguments are those of
    `hf_sae_select.select`, the same for all splits. Each subset has its own `sae_selection`.
    """
    calls = _calls(self, budget, arguments)
    subsets = {}
    for split, (amount, own) in calls.items():
        with in_split(split):
            subsets[split] = self[split].sae_select(amount, method, **own)
    return DatasetDict(subsets)


def sae_compare(
    self: Splits,
    budget: float | str | Mapping[str, float | str],
    methods: Methods | None = None,
    **arguments: Any,
) -> Comparison:
    """Compare methods on each split: one table, whose first column `split` names the split of a line.

    `budget` and `arguments` are as in `sae_select` and `hf_sae_select.compare`.
    """
    calls = _calls(self, budget, arguments)
    tables = {}
    for split, (amount, own) in calls.items():
        with in_split(split):
            tables[split] = self[split].sae_compare(amount, methods, **own)
    from ..selection.table import joined  # needs pandas, which datasets loads late

    return joined(tables)


def sae_encode(self: Splits, sae: SaeSource | None = None, **arguments: Any) -> Splits:
    """Add the SAE features of each row to each split; arguments as in `hf_sae_select.encode`."""
    encoded = {}
    for split, rows in self.items():
        with in_split(split):
            encoded[split] = rows.sae_encode(sae, **arguments)
    return type(self)(encoded)


METHODS = (sae_select, sae_compare, sae_encode)


def _calls(splits: Splits, budget: Any, arguments: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the budget and the arguments of each split, checked before any slow work.

    Raises:
        TypeError, ValueError: A budget or a constraint is not allowed, or an argument about rows is not by split.
    """
    if not splits:
        raise ValueError("the dict has no splits; there is no row to select")
    budgets = by_split("budget", budget, splits) if isinstance(budget, Mapping) else dict.fromkeys(splits, budget)
    if missing := [split for split in splits if split not in budgets]:
        raise ValueError(
            f"`budget={budget!r}` has no budget for the split {missing[0]!r}; name all splits ({', '.join(splits)}), "
            f"or leave some out: DatasetDict({{split: splits[split] for split in {list(budgets)}}})"
        )
    own = _by_split(splits, arguments)
    for split, rows in splits.items():
        with in_split(split):
            if isinstance(rows, Dataset):
                check_dataset(f"dataset[{split!r}]", rows, "select")
            _check_constraints(rows, budgets[split], own[split])
    return {split: (budgets[split], own[split]) for split in splits}


def _by_split(splits: Splits, arguments: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of each split.

    Raises:
        TypeError, ValueError: An argument about rows is not by split, or names a split that there is not.
    """
    own: dict[str, dict[str, Any]] = {split: dict(arguments) for split in splits}
    for name in OF_ROWS:
        value = arguments.get(name)
        if value is None or (isinstance(value, list | tuple) and not value):
            continue
        values = by_split(name, value, splits)
        for split in splits:
            del own[split][name]
            if split in values:
                own[split][name] = values[split]
    return own


def _check_constraints(rows: Dataset | IterableDataset, budget: Any, arguments: Mapping[str, Any]) -> None:
    """Check the budget and the constraints of a split as `select` does; of a stream, what needs no row.

    Raises:
        TypeError, ValueError: One is not allowed, or they leave fewer rows than the budget.
    """
    from ..selection.budget import Budget
    from ..selection.constraints import ConstraintArguments
    from ..selection.early import CONSTRAINTS, check_budget
    from ..selection.extension import check_known

    parsed = Budget.parse(budget, arguments.get("cost"))
    constraints = {name: arguments[name] for name in CONSTRAINTS if name in arguments} | {"cost": parsed.unit}
    if isinstance(rows, Dataset):
        check_known(constraints.pop("extend", None), rows)  # to find its rows takes long, and `select` does it
        ConstraintArguments(**constraints).parse(len(rows), rows, parsed)
    else:
        check_budget(parsed)
        ConstraintArguments(**constraints).check()
