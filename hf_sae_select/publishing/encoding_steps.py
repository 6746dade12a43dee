"""The steps of a verification that encodes again: the source, the SAE, the encoding, and the features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets import Dataset

from .._hub import NoSuchFile
from ..features.columns import encoding_record, without_codes
from ..features.matrix import FeatureMatrix
from . import checks, devices
from .hashing import row_digests
from .provenance import public
from .published import PublishedSubset
from .refetching import NotAsRecorded, encode_again, refetch_sae, refetch_source
from .tables import needs_state, stored
from .verdict import Check
from .verify_arguments import VerifyArguments

if TYPE_CHECKING:  # annotations only
    from ..sae.model import SparseAutoencoder


def source_step(subset: PublishedSubset, arguments: VerifyArguments) -> tuple[Dataset | None, Check]:
    """Return the source, as passed or from the Hub, if it has the recorded content."""
    record, passed = subset.record, arguments.source
    name = "source" if passed is None else "source (as passed)"
    try:
        rows = refetch_source(record, arguments.token) if passed is None else without_codes(passed)
    except NotAsRecorded as error:
        return None, Check("encode", name, str(error))
    difference = checks.of_columns(record, rows.features.to_dict()) or checks.of_source(
        record, subset.selection, subset.row_digests, row_digests(rows, "Hashing the source")
    )
    return None if difference else rows, Check("encode", name, difference)


def sae_step(subset: PublishedSubset, arguments: VerifyArguments) -> tuple[SparseAutoencoder | None, Check]:
    """Return the SAE, as passed or from the Hub, even if it is another one: the features show what that changes."""
    recorded = subset.record["encoding"]
    file_digest = None
    if arguments.sae is None:
        try:
            sae = refetch_sae(recorded, arguments.token)
        except NotAsRecorded as error:
            return None, Check("encode", "sae", str(error))
        file_digest = sae.config.source.get("sha256")
    else:
        from ..sae.loading import load_sae  # needs torch

        sae = load_sae(arguments.sae, encoder_only=True)
    return sae, Check("encode", "sae", checks.of_sae(recorded, sae.digest(), file_digest))


def encoding_step(
    subset: PublishedSubset, arguments: VerifyArguments, rows: Dataset, sae: SparseAutoencoder
) -> tuple[Dataset | None, Check]:
    """Return the source, encoded again."""
    recorded = subset.record["encoding"]
    keep = ["state"] if needs_state(subset.recorded_selection) else []
    try:
        encoded = encode_again(subset.record, rows, sae, arguments.text, arguments.batch_size, keep)
    except NotAsRecorded as error:
        return None, Check("encode", "encoding", str(error))
    encoding = public(encoding_record(encoded))
    if arguments.text is not None:  # a function's hash depends on the lines around it; the features show what it wrote
        encoding |= {"text": recorded["text"]}
    return encoded, Check("encode", "encoding", checks.of_encoding(recorded, encoding))


def compared_features(subset: PublishedSubset, encoded: Dataset) -> tuple[bool, str | None]:
    """Compare the published features with those of the rows encoded again: whether they are equal, and how not.

    Without published features nobody knows whether they are.
    """
    if not subset.has_pool:
        return False, None
    selection = subset.recorded_selection
    try:
        published = FeatureMatrix.from_dataset(subset.read_pool()[0])
        again = stored(FeatureMatrix.from_dataset(encoded), selection, subset.lacks_likeness)
        if devices.has_equal_codes(published, again):
            return True, None
        return False, devices.of_codes(published, again, selection.parameters["cuts"])
    except (ValueError, ArithmeticError, NoSuchFile) as error:
        return False, str(error)
