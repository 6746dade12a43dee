"""The methods on `datasets.Dataset`: full signatures, and one-line doors to the functions.

`datasets` has no registry for extensions, and its own methods return plain Datasets, so a subclass would not survive
the first `map`. So the methods are set on the class, once, and never over an attribute of somebody else. The
functions are imported when a method is called: torch and numba cost seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from . import splits, streams
from .concepts import sae_diff, sae_explain, sae_find_features, sae_missing, sae_report, sae_why_not

if TYPE_CHECKING:
    import torch
    from huggingface_hub import CommitInfo

    from .._hub import Token
    from ..encoding.text import TextSource
    from ..engines.engine import Ray
    from ..publishing.licence import License
    from ..publishing.source import SourceName
    from ..sae.labels import Labels
    from ..sae.loading import SaeSource
    from ..selection.concept_rules import Boost, Concepts
    from ..selection.lines import Methods
    from ..selection.method import MethodFunction
    from ..selection.quota import Quota
    from ..selection.references import References
    from ..selection.removals import Removals
    from ..selection.result import Selection
    from ..selection.table import Comparison
    from ..selection.target_argument import TargetSource


def sae_select(
    self: Dataset,
    budget: float | str,
    method: str | MethodFunction = "herding",
    *,
    target: TargetSource | None = None,
    overlap: str = "exclude",
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    threshold: float | None = None,
    top: int | None = None,
    max_share: float | None = None,
    embedding: str | None = None,
    seed: int | None = 0,
    must_include: Sequence[int] = (),
    exclude: Sequence[int] = (),
    exclude_near: References | None = None,
    quota: Quota | None = None,
    quality: str | None = None,
    cost: str | None = None,
    per_token: float = 0.0,
    extend: Selection | Dataset | None = None,
    avoid: Concepts | None = None,
    require: Concepts | None = None,
    require_all: Concepts | None = None,
    boost: Boost | None = None,
    labels: Labels | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    keep_codes: bool = False,
    engine: str | Ray | None = None,
    **options: Any,
) -> Dataset:
    """Select a small subset by the features that an SAE gives each row: `hf_sae_select.select` of this dataset."""
    from ..selection.api import select

    return select(
        self,
        budget,
        method,
        target=target,
        overlap=overlap,
        sae=sae,
        text=text,
        threshold=threshold,
        top=top,
        max_share=max_share,
        embedding=embedding,
        seed=seed,
        must_include=must_include,
        exclude=exclude,
        exclude_near=exclude_near,
        quota=quota,
        quality=quality,
        cost=cost,
        per_token=per_token,
        extend=extend,
        avoid=avoid,
        require=require,
        require_all=require_all,
        boost=boost,
        labels=labels,
        max_length=max_length,
        batch_size=batch_size,
        keep_codes=keep_codes,
        engine=engine,
        **options,
    )


def sae_compare(
    self: Dataset,
    budget: float | str,
    methods: Methods | None = None,
    *,
    target: TargetSource | None = None,
    overlap: str = "exclude",
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    threshold: float | None = None,
    top: int | None = None,
    max_share: float | None = None,
    embedding: str | None = None,
    seed: int | None = 0,
    must_include: Sequence[int] = (),
    exclude: Sequence[int] = (),
    exclude_near: References | None = None,
    quota: Quota | None = None,
    quality: str | None = None,
    cost: str | None = None,
    per_token: float = 0.0,
    extend: Selection | Dataset | None = None,
    avoid: Concepts | None = None,
    require: Concepts | None = None,
    require_all: Concepts | None = None,
    boost: Boost | None = None,
    labels: Labels | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    **options: Any,
) -> Comparison:
    """Select by several methods and compare what each covers: `hf_sae_select.compare` of this dataset."""
    from ..selection.comparison import compare

    return compare(
        self,
        budget,
        methods,
        target=target,
        overlap=overlap,
        sae=sae,
        text=text,
        threshold=threshold,
        top=top,
        max_share=max_share,
        embedding=embedding,
        seed=seed,
        must_include=must_include,
        exclude=exclude,
        exclude_near=exclude_near,
        quota=quota,
        quality=quality,
        cost=cost,
        per_token=per_token,
        extend=extend,
        avoid=avoid,
        require=require,
        require_all=require_all,
        boost=boost,
        labels=labels,
        max_length=max_length,
        batch_size=batch_size,
        **options,
    )


def sae_encode(
    self: Dataset,
    sae: SaeSource | None = None,
    *,
    text: TextSource | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    tokens_per_batch: int | None = None,
    keep: int | str | Collection[int | str] = 256,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    precision: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    show_progress_bar: bool | None = None,
    engine: str | Ray | None = None,
) -> Dataset:
    """Add the SAE features of each row: `hf_sae_select.encode` of this dataset."""
    from ..encoding.pipeline import encode

    return encode(
        self,
        sae,
        text=text,
        max_length=max_length,
        batch_size=batch_size,
        tokens_per_batch=tokens_per_batch,
        keep=keep,
        device=device,
        dtype=dtype,
        precision=precision,
        model_kwargs=model_kwargs,
        chat_template_kwargs=chat_template_kwargs,
        show_progress_bar=show_progress_bar,
        engine=engine,
    )


def sae_dedup(
    self: Dataset,
    threshold: float = 0.9,
    *,
    minhash: float | None = None,
    quality: str | None = None,
    labels: Labels | None = None,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
) -> Dataset:
    """Remove the rows that repeat other rows, by texts and features: `hf_sae_select.dedup` of this dataset."""
    from ..selection.deduplication import dedup

    return dedup(
        self,
        threshold,
        minhash=minhash,
        quality=quality,
        labels=labels,
        sae=sae,
        text=text,
        max_length=max_length,
        batch_size=batch_size,
    )


def sae_publish(
    self: Dataset,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = "Publish a subset and its provenance",
    token: Token = None,
    selection: Selection | Mapping[str, Selection] | None = None,
    pool: Dataset | Mapping[str, Dataset] | None = None,
    license: License | None = None,
    source: SourceName | None = None,
    target: TargetSource | None = None,
    include_features: bool = True,
    labels: Labels | None = None,
    report: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> CommitInfo:
    """Write this selected subset to a Hub repo, with proof of its provenance: `hf_sae_select.publish` of it."""
    from ..publishing.pushing import publish

    return publish(
        self,
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        commit_message=commit_message,
        token=token,
        selection=selection,
        pool=pool,
        license=license,
        source=source,
        target=target,
        include_features=include_features,
        labels=labels,
        report=report,
        metadata=metadata,
    )


def sae_selection(self: Dataset) -> Selection:
    """The selection that picked the rows of this dataset; an error where it describes other rows."""
    from ..selection.attachment import selection_of

    return selection_of(self)


def sae_removals(self: Dataset) -> Removals:
    """The rows that `sae_dedup` removed, for which row and why; an error where it describes other rows."""
    from ..selection.removals import removals_of

    return removals_of(self)


def _repr_html_(self: Dataset) -> str | None:
    """Show a subset in a notebook; of other datasets a notebook shows the text, as it does where this is None."""
    from ..selection.attachment import ATTRIBUTE

    if not hasattr(self, ATTRIBUTE):
        return None
    from ..concepts.notebook import short_form

    return short_form(self)


def attach() -> None:
    """Set the methods on `Dataset` and on the containers of `datasets`, where some only say what to do instead.

    Raises:
        AttributeError: If one of these classes has an attribute of the same name from somebody else.
    """
    methods = (
        sae_select,
        sae_encode,
        sae_compare,
        sae_dedup,
        sae_missing,
        sae_diff,
        sae_find_features,
        sae_explain,
        sae_why_not,
        sae_report,
        sae_publish,
    )
    members = {method.__name__: method for method in methods}
    properties = {member.__name__: property(member) for member in (sae_selection, sae_removals)}
    _set(Dataset, {**members, **properties})
    if not hasattr(Dataset, "_repr_html_"):  # should `datasets` have its own one day, it stays
        setattr(Dataset, "_repr_html_", _repr_html_)  # noqa: B010  (an attribute that the class does not declare)
    containers = {DatasetDict: splits, IterableDatasetDict: splits, IterableDataset: streams}
    for container, own in containers.items():
        _set(container, members | {method.__name__: method for method in own.METHODS})


def _set(owner: type, members: Mapping[str, Any]) -> None:
    for name, member in members.items():
        present = getattr(owner, name, None)
        present = present.fget if isinstance(present, property) else present
        if present is not None and not str(getattr(present, "__module__", None)).startswith(__name__):
            raise AttributeError(
                f"datasets.{owner.__name__} already has an attribute `{name}` that is not of hf_sae_select; "
                "import hf_sae_select in another process, and use its functions select, encode, compare and publish"
            )
        setattr(owner, name, member)
