"""Arrays from anywhere: what a FeatureMatrix takes, converts and refuses."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, List, Value
from helpers.pools import RECORD, coded, features_of

from hf_sae_select import FeatureMatrix, select, select_indices
from hf_sae_select.features.columns import column_types

OFFSETS, IDS, ACTS, TOKENS = [0, 2, 2, 3], [1, 7, 0], [0.5, 2.0, 1.0], [4, 0, 9]


def matrix(**arrays):
    """Rows {1: 0.5, 7: 2.0}, {} and {0: 1.0} of an SAE with eight features."""
    fitting = {
        "offsets": np.array(OFFSETS),
        "ids": np.array(IDS, np.uint16),
        "acts": np.array(ACTS, np.float32),
        "d_sae": 8,
        "tokens": np.array(TOKENS, np.int32),
    }
    return FeatureMatrix(**fitting | arrays)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"ids": np.array(IDS, np.uint8)},
        {"ids": np.array(IDS, np.int64)},
        {"ids": np.array(IDS, np.uint64)},
        {"ids": np.array(IDS, ">u2")},
        {"ids": np.array(IDS, ">u4")},
        {"ids": np.array([IDS, IDS], np.uint16, order="F")[0]},
        {"ids": IDS},
        {"offsets": np.array(OFFSETS, np.int32)},
        {"offsets": np.array(OFFSETS, np.uint64)},
        {"offsets": OFFSETS},
        {"acts": np.array(ACTS, np.float64)},
        {"acts": np.array(ACTS, np.float16)},
        {"acts": np.array(ACTS, ">f4")},
        {"acts": np.repeat(np.array(ACTS, np.float32), 2)[::2]},
        {"tokens": np.array(TOKENS, np.int64)},
        {"tokens": np.array(TOKENS, np.uint8)},
        {"tokens": np.array(TOKENS, ">i4")},
        {"d_sae": np.int64(8)},
        {"vectors": np.ones((3, 2))},
        {"vectors": np.ones((2, 3), np.float16).T},
    ],
)
def test_what_fits_is_converted_to_the_types_that_the_loops_read(arrays):
    features = matrix(**arrays)
    assert (features.offsets.tolist(), features.ids.tolist()) == (OFFSETS, IDS)
    assert (features.acts.tolist(), features.tokens.tolist(), features.d_sae) == (ACTS, TOKENS, 8)
    types = [(features.offsets, np.int64), (features.acts, np.float32), (features.tokens, np.int32)]
    types += [] if features.vectors is None else [(features.vectors, np.float32)]
    for array, dtype in types:
        assert array.dtype == dtype and array.dtype.isnative and array.flags.c_contiguous and array.flags.aligned
    assert features.ids.dtype in (np.uint16, np.uint32) and features.ids.dtype.isnative
    assert select_indices(features, 2, "greedy", seed=None).indices.tolist() == [0, 2]


def test_what_has_the_right_type_is_not_copied():
    ids, acts = np.array(IDS, np.uint16), np.array(ACTS, np.float32)
    features = matrix(ids=ids, acts=acts)
    assert np.shares_memory(features.ids, ids) and np.shares_memory(features.acts, acts)


def test_ids_of_a_wide_sae_are_converted_to_uint32():
    assert matrix(ids=np.array([1, 70000, 0]), d_sae=2**17).ids.tolist() == [1, 70000, 0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"offsets": [0, 2, 1, 3]}, "`offsets` must begin with 0, never fall and end with the number of ids, 3"),
        ({"offsets": [0, 1, 2, 4]}, "`offsets` must begin with 0"),
        ({"offsets": [1, 1, 2, 3]}, "`offsets` must begin with 0"),
        ({"offsets": []}, "`offsets` must begin with 0"),
        ({"offsets": [[0, 2, 2, 3]]}, "`offsets` has the shape (1, 4); it must have 1 dimension"),
        ({"offsets": [0.0, 2.0, 2.0, 3.0]}, "`offsets` holds float64; it must hold integers"),
        ({"offsets": np.array([0, 2**64 - 1, 2, 3], np.uint64)}, "beyond int64"),
        ({"ids": [1, 8, 0]}, "`ids` are 0 to 8; they must be from 0 to 7, below `d_sae`"),
        ({"ids": [-1, 7, 0]}, "`ids` are -1 to 7"),
        ({"ids": np.array([1, 2**63, 0], np.uint64)}, "`ids` are 0 to 9223372036854775808"),
        ({"ids": [1.0, 7.0, 0.0]}, "`ids` holds float64; it must hold integers"),
        ({"ids": [True, False, True]}, "`ids` holds bool; it must hold integers"),
        ({"ids": [[1], [7], [0]]}, "`ids` has the shape (3, 1); it must have 1 dimension"),
        ({"ids": ["a", "b", "c"]}, "`ids` holds <U1; it must hold integers"),
        ({"ids": [1, 1, 0]}, "`ids` of row 0 must rise strictly, but 1 follows 1"),
        ({"ids": [7, 1, 0]}, "`ids` of row 0 must rise strictly, but 1 follows 7"),
        ({"offsets": [0, 0, 1, 3]}, "`ids` of row 2 must rise strictly, but 0 follows 7"),
        ({"acts": [0.5, np.nan, 1]}, "`acts` of row 0 hold nan"),
        ({"acts": [0.5, 2, np.inf]}, "`acts` of row 2 hold inf"),
        ({"acts": [0.5, -np.inf, 1]}, "`acts` of row 0 hold -inf"),
        ({"acts": [0.5, 2, -1]}, "`acts` of row 2 hold -1.0 (as float32); an activation is finite and not negative"),
        ({"acts": [0.5, -0.0, 1]}, "`acts` of row 0 hold -0.0"),
        ({"acts": [0.5, 1e39, 1]}, "`acts` of row 0 hold inf (as float32)"),
        ({"acts": [0.5, 2]}, "`acts` has 2 values; 3 go with the offsets"),
        ({"acts": [1j, 1j, 1j]}, "`acts` holds complex128; it must hold numbers"),
        ({"acts": np.array(["0.5", "1", "1"], object)}, "`acts` holds object"),
        ({"tokens": [4, 0]}, "`tokens` has 2 values; 3 go with the offsets"),
        ({"tokens": [4, -1, 9]}, "`tokens` of row 1 is -1; a number of tokens is not negative"),
        ({"tokens": [4.0, 0.0, 9.0]}, "`tokens` holds float64; it must hold integers"),
        ({"tokens": [4, 0, 2**31]}, "`tokens` are 0 to 2147483648, beyond int32"),
        ({"d_sae": 0}, "`d_sae=0` must be a positive integer"),
        ({"d_sae": -8}, "`d_sae=-8` must be a positive integer"),
        ({"d_sae": 8.0}, "`d_sae=8.0` must be a positive integer"),
        ({"d_sae": True}, "`d_sae=True` must be a positive integer"),
        ({"d_sae": None}, "`d_sae=None` must be a positive integer"),
        ({"d_sae": 2**32 + 1}, "`d_sae=4294967297` must be at most 4,294,967,296"),
        ({"vectors": np.ones((2, 2))}, "`vectors` has 2 values; 3 go with the offsets"),
        ({"vectors": np.ones(3)}, "`vectors` has the shape (3,); it must have 2 dimension"),
        ({"vectors": np.ones((3, 2), int)}, "`vectors` holds int64; it must hold floats"),
        ({"vectors": np.array([[1, 2], [3, np.nan], [5, 6]])}, "`vectors` of row 1 holds NaN or infinity"),
        ({"vectors": np.array([[1, 2], [3, 4], [5, 1e39]])}, "`vectors` of row 2 holds NaN or infinity (as float32)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arrays, message):
    with pytest.raises((TypeError, ValueError)) as error:
        matrix(**arrays)
    assert message in str(error.value)
    with pytest.raises((TypeError, ValueError)):
        replace(matrix(), **arrays)


def test_an_array_without_rows_or_ids_passes():
    assert len(features_of([])) == 0 and len(features_of([set(), set()])) == 2
    assert matrix(offsets=[0, 0], ids=[], acts=[], tokens=[0]).ids.dtype == np.uint16


# ---- from dense and sparse matrices

DENSE = [[0.0, 0.5, 0, 0, 0, 0, 0, 2], [0] * 8, [1, 0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_a_dense_matrix_has_the_features_that_are_not_zero(dtype):
    features = FeatureMatrix.from_dense(np.array(DENSE, dtype), vectors=np.ones((3, 2)))
    assert (features.offsets.tolist(), features.ids.tolist(), features.acts.tolist()) == (OFFSETS, IDS, ACTS)
    assert (features.d_sae, features.tokens.tolist(), features.vectors.shape) == (8, [1, 0, 1], (3, 2))
    assert FeatureMatrix.from_dense(np.array(DENSE), tokens=TOKENS).tokens.tolist() == TOKENS


def test_a_dense_matrix_may_be_a_tensor_a_list_or_one_of_counts_or_truths():
    torch = pytest.importorskip("torch")
    for dense in (torch.tensor(DENSE), DENSE, np.array(DENSE).T.copy().T):
        assert FeatureMatrix.from_dense(dense).acts.tolist() == ACTS
    assert FeatureMatrix.from_dense(np.array([[0, 3], [2, 0]])).acts.tolist() == [3, 2]
    assert FeatureMatrix.from_dense(np.array([[False, True]])).acts.tolist() == [1]
    assert FeatureMatrix.from_dense(torch.tensor(DENSE).to_sparse()).acts.tolist() == ACTS


@pytest.mark.parametrize(
    ("dense", "message"),
    [
        ([0.5, 1.0], "`activations` has the shape (2,); it must have 2 dimension"),
        ([[[1.0]]], "`activations` has the shape (1, 1, 1)"),
        ([["a"]], "`activations` holds <U1; it must hold numbers"),
        ([[0.0, -1.0]], "`acts` of row 0 hold -1.0"),
        ([[0.0, 1.0], [np.nan, 0.0]], "`acts` of row 1 hold nan"),
        (np.zeros((2, 0)), "`d_sae=0` must be a positive integer"),
    ],
)
def test_what_is_no_matrix_of_activations_is_refused(dense, message):
    with pytest.raises((TypeError, ValueError)) as error:
        FeatureMatrix.from_dense(dense)
    assert message in str(error.value)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_a_sparse_matrix_equals_the_dense_one(format, kind):
    sparse = pytest.importorskip("scipy.sparse")
    features = FeatureMatrix.from_scipy(getattr(sparse, f"{format}_{kind}")(np.array(DENSE)))
    assert (features.offsets.tolist(), features.ids.tolist(), features.acts.tolist()) == (OFFSETS, IDS, ACTS)
    assert (features.d_sae, features.tokens.tolist()) == (8, [1, 0, 1])


def test_a_sparse_matrix_with_unsorted_double_or_zero_entries_equals_its_dense_form():
    sparse = pytest.importorskip("scipy.sparse")
    arrays = (np.array([2.0, 0.25, 0.25, 0.0, 1.0]), np.array([7, 1, 1, 3, 0]), np.array([0, 3, 4, 5]))
    csr = sparse.csr_array(arrays, shape=(3, 8))
    features, dense = FeatureMatrix.from_scipy(csr), FeatureMatrix.from_dense(csr.toarray())
    for name in ("offsets", "ids", "acts", "tokens"):
        assert getattr(features, name).tolist() == getattr(dense, name).tolist()
    assert csr.nnz == 5  # the caller's matrix is left alone


def test_what_is_not_sparse_is_refused():
    with pytest.raises(TypeError, match="`matrix` is a ndarray; it must be a sparse matrix of SciPy"):
        FeatureMatrix.from_scipy(np.array(DENSE))


# ---- columns of an encoded dataset


def encoded(ids=((1, 7), (), (0,)), acts=((0.5, 2.0), (), (1.0,)), tokens=(4, 0, 9), record=RECORD, **types):
    columns = {"sae_ids": list(ids), "sae_acts": list(acts), "sae_tokens": list(tokens)}
    return Dataset.from_dict(columns, features=Features(column_types(record) | types))


ID = json.dumps(RECORD)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda: encoded(ids=[[1, 1], [], [0]]), "`ids` of row 0 must rise strictly, but 1 follows 1"),
        (lambda: encoded(ids=[[7, 1], [], [0]]), "`ids` of row 0 must rise strictly"),
        (lambda: encoded(ids=[[1, 16], [], [0]]), "`ids` are 0 to 16; they must be from 0 to 15"),
        (lambda: encoded(ids=[[1, None], [], [0]]), "uint16> holds nulls"),
        (lambda: encoded(ids=[[1, 7], None, [0]]), "1 rows have no SAE codes (null)"),
        (lambda: encoded(acts=[[0.5, float("nan")], [], [1.0]]), "`acts` of row 0 hold nan"),
        (lambda: encoded(acts=[[0.5, 2.0], [], [float("inf")]]), "`acts` of row 2 hold inf"),
        (lambda: encoded(acts=[[0.5, -2.0], [], [1.0]]), "`acts` of row 0 hold -2.0"),
        (lambda: encoded(acts=[[0.5], [2.0], [1.0]]), "a row has another number of `sae_ids` than of `sae_acts`"),
        (lambda: encoded(tokens=[4, -1, 9]), "`tokens` of row 1 is -1"),
        (lambda: encoded(tokens=[4, None, 9]), "`sae_tokens` holds nulls"),
        (lambda: encoded(sae_ids=List(Value("uint64", id=ID))), "they hold uint64, float, int32"),
        (lambda: encoded(sae_ids=List(Value("int32", id=ID))), "they hold int32, float, int32"),
        (lambda: encoded(sae_acts=List(Value("float64"))), "they hold uint16, double, int32"),
        (lambda: encoded(sae_acts=List(List(Value("float32"))), acts=[[[1]], [], [[1]]]), "they hold uint16, list<"),
        (lambda: encoded(sae_ids=List(Value("uint16", id='{"d_sae": 0}'))), "`d_sae=0` must be a positive integer"),
        (lambda: encoded(sae_ids=List(Value("uint16", id='{"d_sae": "16"}'))), "`d_sae='16'` must be"),
        (lambda: encoded(sae_ids=List(Value("uint16", id='{"d_sae": true}'))), "`d_sae=True` must be"),
        (lambda: encoded(sae_ids=List(Value("uint16", id="{}"))), "`d_sae=None` must be"),
    ],
)
def test_columns_that_encoding_did_not_make_are_refused(dataset, message, tmp_path):
    for read in (lambda ds: ds, lambda ds: ds.select([0, 1, 2]), published(tmp_path)):
        with pytest.raises(ValueError) as error:
            select(read(dataset()), 1, "greedy", threshold=0.0)
        assert message in str(error.value) and "`sae_ids`" in str(error.value)
    with pytest.raises(ValueError) as error:
        FeatureMatrix.from_dataset(dataset(), threshold=0.0)
    assert message in str(error.value)


def published(folder):
    """Return a function that writes a dataset to a Parquet file and reads it, as a published pool is."""

    def through_parquet(dataset):
        pq.write_table(dataset.data.table, folder / "pool.parquet")
        table = pq.read_table(folder / "pool.parquet")
        return Dataset(pa.table(table.columns, schema=dataset.features.arrow_schema))

    return through_parquet


def test_columns_of_a_fixed_length_are_refused():
    fixed = encoded(
        ids=[[1, 7]] * 3, acts=[[0.5, 2.0]] * 3, tokens=[1] * 3, sae_ids=List(Value("uint16", id=ID), length=2)
    )
    with pytest.raises(ValueError, match="which has no offsets"):
        FeatureMatrix.from_dataset(fixed)


def test_a_threshold_in_the_record_that_is_no_number_is_refused():
    for threshold in ("high", None, float("nan")):
        with pytest.raises(ValueError, match=r"`threshold=.*` must be a finite number"):
            select(coded([{0: 1.0}], record=RECORD | {"threshold": threshold}), 1, "greedy")


@pytest.mark.parametrize("module", ["numpy", "torch", "scipy.sparse", "datasets", "list"])
def test_select_indices_names_the_way_from_other_matrices(module):
    ways = {"numpy": "from_dense", "torch": "from_dense", "scipy.sparse": "from_scipy", "datasets": "from_dataset"}
    made = {"numpy": lambda m: m.array(DENSE), "torch": lambda m: m.tensor(DENSE), "scipy.sparse": lambda m: m.eye(3)}
    made["datasets"] = lambda m: coded([{0: 1.0}])
    value = DENSE if module == "list" else made[module](pytest.importorskip(module))
    with pytest.raises(
        TypeError, match=rf"`features` is a .*FeatureMatrix\.{ways.get(module, 'from_dense')}\(features"
    ):
        select_indices(value, 5)
