"""The arrays of a FeatureMatrix, checked and converted once: compiled loops read them without bounds checks.

An array may come from anywhere: a user, a dataset, a published table. It is converted where the type that the loops
read holds its numbers (activations and vectors: as float32), and otherwise refused by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._validation import check_int

MOST_FEATURES = 2**32  # ids are uint32 at most
INFINITE = 0x7F800000  # bits of float32: those of NaN, of infinity and of negative numbers are at least as large
KINDS = {"integers": "iu", "numbers": "biuf", "floats": "f"}


def array_of(name: str, values: Any, kind: str, dimensions: int = 1) -> NDArray[Any]:
    """Return `values` as an array of a `kind` with so many dimensions.

    Raises:
        TypeError: If it is something else.
    """
    if hasattr(values, "detach"):  # a tensor of PyTorch, of which NumPy knows neither sparse ones nor bfloat16
        values = values.detach().to_dense().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # such as a tensor on a GPU
        raise TypeError(f"`{name}` is a {type(values).__name__} that is no array: {error}") from error
    if array.ndim != dimensions:
        raise TypeError(f"`{name}` has the shape {array.shape}; it must have {dimensions} dimension(s)")
    if array.dtype.kind not in KINDS[kind] and array.size:
        raise TypeError(f"`{name}` holds {array.dtype}; it must hold {kind}")
    return array


def checked_offsets(offsets: Any, n_ids: int) -> NDArray[np.int64]:
    """Return where rows begin, as int64.

    Raises:
        TypeError, ValueError: If they do not cut `n_ids` ids into rows.
    """
    array = _integers("offsets", offsets, np.int64)
    if not len(array) or array[0] != 0 or array[-1] != n_ids or (np.diff(array) < 0).any():
        raise ValueError(f"`offsets` must begin with 0, never fall and end with the number of ids, {n_ids:,}")
    return array


def checked_ids(ids: Any, d_sae: Any) -> NDArray[np.unsignedinteger[Any]]:
    """Return feature ids as uint16 or uint32.

    Raises:
        TypeError, ValueError: If they are not integers from 0 to `d_sae` - 1, or `d_sae` is no number of features.
    """
    check_int("d_sae", d_sae)
    if d_sae > MOST_FEATURES:
        raise ValueError(f"`d_sae={d_sae!r}` must be at most {MOST_FEATURES:,}, the number of ids that uint32 holds")
    array = array_of("ids", ids, "integers")
    if len(array) and not (array.min() >= 0 and int(array.max()) < d_sae):
        raise ValueError(
            f"`ids` are {array.min()} to {array.max()}; they must be from 0 to {d_sae - 1}, below `d_sae`"
        )
    if array.dtype in (np.uint16, np.uint32):
        return _native(array, array.dtype)
    return _native(array, np.dtype(np.uint16 if d_sae <= 2**16 else np.uint32))


def checked_acts(acts: Any, n_ids: int) -> NDArray[np.float32]:
    """Return activations as float32.

    Raises:
        TypeError, ValueError: If they are not numbers, one for each id.
    """
    return _of_length("acts", _native(array_of("acts", acts, "numbers"), np.dtype(np.float32)), n_ids)


def checked_tokens(tokens: Any, n: int) -> NDArray[np.int32]:
    """Return the rows' numbers of tokens as int32.

    Raises:
        TypeError, ValueError: If they are not integers from 0, one for each row.
    """
    array = _of_length("tokens", _integers("tokens", tokens, np.int32), n)
    if (array < 0).any():
        row = int(np.flatnonzero(array < 0)[0])
        raise ValueError(f"`tokens` of row {row} is {array[row]}; a number of tokens is not negative")
    return array


def checked_vectors(vectors: Any, n: int) -> NDArray[np.float32]:
    """Return the rows' vectors as float32.

    Raises:
        TypeError, ValueError: If they are not finite floats, a vector for each row.
    """
    array = _of_length("vectors", _native(array_of("vectors", vectors, "floats", 2), np.dtype(np.float32)), n)
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"`vectors` of row {row} holds NaN or infinity (as float32); fix or drop that row")
    return array


def check_entries(offsets: NDArray[np.int64], ids: NDArray[Any], acts: NDArray[np.float32]) -> None:
    """Check the entries of each row: ids rise strictly, activations are finite and not negative.

    Raises:
        ValueError: If those of a row do not; the message names it.
    """
    bits = acts.view(np.uint32)
    if bits.max(initial=0) >= INFINITE:
        place = int((bits >= INFINITE).argmax())
        raise ValueError(
            f"`acts` of row {_row_of(place, offsets)} hold {acts[place]} (as float32); "
            "an activation is finite and not negative"
        )
    falls = ids[1:] <= ids[:-1]
    starts = offsets[(offsets > 0) & (offsets < len(ids))]
    falls[starts - 1] = False  # the first id of a row may be any
    if falls.any():
        place = int(falls.argmax()) + 1
        raise ValueError(
            f"`ids` of row {_row_of(place, offsets)} must rise strictly, but {ids[place]} follows {ids[place - 1]}; "
            "sort each row, and keep the largest activation of an id that it has twice"
        )


def _row_of(place: int, offsets: NDArray[np.int64]) -> int:
    return int(np.searchsorted(offsets, place, side="right")) - 1


def _integers(name: str, values: Any, dtype: type[np.integer[Any]]) -> NDArray[Any]:
    """Return integers as a type that holds them all."""
    array, limits = array_of(name, values, "integers"), np.iinfo(dtype)
    if len(array) and array.dtype != dtype and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise ValueError(f"`{name}` are {array.min()} to {array.max()}, beyond {np.dtype(dtype)}")
    return _native(array, np.dtype(dtype))


def _native(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array as the loops read it: of this type, in this machine's byte order, contiguous and aligned."""
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinity, which is refused later
        return np.require(array, dtype, ["C", "A"])


def _of_length(name: str, array: NDArray[Any], length: int) -> NDArray[Any]:
    if len(array) != length:
        raise ValueError(f"`{name}` has {len(array):,} values; {length:,} go with the offsets")
    return array
