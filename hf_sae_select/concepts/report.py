"""The report of a selection: one HTML file, complete in itself, to look at what was picked and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._datasets import check_dataset, select_rows
from .._files import check_own_target, whole_file
from .._optional import extra
from .._validation import check_int, check_text, check_type
from ..sae.labels import Labels, labels_of
from ..selection.attachment import as_pool, attach, pool_of, selection_of, with_target
from ..selection.result import Selection
from .contents import full_contents, short_contents
from .page import is_report, page
from .summary import title_of

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource
    from ..selection.target_argument import TargetSource


def report(
    subset: Dataset | Selection,
    path: str | Path,
    *,
    pool: Dataset | None = None,
    target: TargetSource | None = None,
    labels: Labels | None = None,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    spans: int = 20,
    picks: int = 3000,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a report of a selection: one HTML file that loads nothing, for anybody with a browser.

    It shows what the subset is like beside random and the longest rows, which features it has more and less of than
    all rows, and every pick with its text and the reason why it was picked. Where the rows that it was selected from
    are not known, it is short: what the selection itself records.

    Args:
        subset (`Dataset` or `Selection`):
            What `select` returned, or a saved `Selection`.
        path (`str` or `Path`):
            The file to write. A report that is there is replaced.
        pool (`Dataset`, *optional*):
            The encoded dataset that the rows were selected from, for a saved `Selection`. A subset knows its own.
        target (`Dataset`, `list[str]`, `FeatureMatrix`, `str` or `dict`, *optional*):
            What the rows were selected towards, as it was passed to `select`, where the subset does not know it.
        labels (`Labels`, *optional*):
            Names of the features. By default those that ship with the SAE.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The autoencoder, for `spans`, where the encoding record does not say where it is.
        text (`str`, `list` or `Callable`, *optional*):
            The function that wrote the text of the rows, where a function did.
        spans (`int`, *optional*, defaults to `20`):
            Number of picks that the model reads again, to mark the tokens on which their features fire; 0 for none.
        picks (`int`, *optional*, defaults to `3000`):
            Number of picks that are shown; the page says how many are not.
        title (`str`, *optional*):
            The heading. By default the number of rows.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether a file that is no report may be replaced.

    Returns:
        `Path`: The file.

    Raises:
        TypeError: If an argument has another type than above, or `subset` has no selection.
        ValueError: If an argument is not allowed, or the arguments do not belong together.
        ImportError: If the extra `report` is not installed.
        FileExistsError: If `path` is a file of another kind.
        OSError: If `path` cannot be written.

    Example:

    ```python
    subset = dataset.sae_encode().sae_select(300)
    subset.sae_report("report.html")
    ```
    """
    for module in ("altair", "vl_convert"):  # before the model reads rows
        extra(module, "report")
    for name, number, least in (("spans", spans, 0), ("picks", picks, 0)):
        check_int(name, number, least)
    check_text("title", title, optional=True)
    check_type("labels", labels, Labels, "a Labels, see `load_labels`", optional=True)
    file = check_own_target(path, overwrite, "report.html", is_report, "report", "report")
    selection, known = _parsed(subset, pool, target, sae)
    record = selection.parameters.get("encoding", {})
    if labels is not None:
        labels.check(record)
    elif record:
        labels = labels_of(record)
    if known is None:
        values, data = short_contents(selection, picks, labels)
    else:
        values, data = full_contents(known, labels=labels, sae=sae, text=text, spans=spans, picks=picks)
    text = page(values | {"title": title or title_of(selection)}, data)
    with whole_file(file) as part:
        part.write_text(text, encoding="utf-8")
    return file


def _parsed(subset: Any, pool: Any, target: Any, sae: Any) -> tuple[Selection, Dataset | None]:
    """Return the selection, and the subset with its pool where it is known.

    Raises:
        TypeError, ValueError: They do not belong together.
    """
    if isinstance(subset, Selection):
        if pool is None:
            if target is not None:
                raise ValueError("`target` tells nothing without the rows that were selected from; pass `pool` too")
            return subset, None
        return subset, _with_codes(_subset_of(subset, pool), target, sae)
    check_dataset("subset", subset, "report")
    if pool is not None:
        raise ValueError("`pool` is for a saved Selection; a subset knows the rows that it was selected from")
    try:
        selection = selection_of(subset)
    except AttributeError as error:
        raise TypeError(
            "`subset` has no `sae_selection`: pass what `sae_select` returned, unchanged, or a saved Selection, with "
            "the dataset that it was selected from as `pool`"
        ) from error
    return selection, _with_codes(subset, target, sae)


def _with_codes(subset: Dataset, target: Any, sae: Any) -> Dataset | None:
    """Return a subset whose pool has codes, with the target where it was passed; None for another one."""
    pool = pool_of(subset)
    if pool is None or pool.codes is None:
        return None
    if target is None:
        return subset
    selection = selection_of(subset)
    known = subset.with_format(None)  # the user's own dataset keeps its attachment
    attach(known, selection, with_target(pool, selection, target, sae))
    return known


def _subset_of(selection: Selection, pool: Dataset) -> Dataset:
    """Return the subset that a saved selection picked from an encoded dataset."""
    attached = as_pool(pool, selection)
    subset = select_rows(pool, selection.indices)
    attach(subset, selection, attached, was_encoded=True)
    return subset
