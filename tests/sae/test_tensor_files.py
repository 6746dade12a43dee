"""Damaged and malicious tensor files are refused, by name and reason."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from helpers.published import (
    CONNOR,
    D_IN,
    GEMMA,
    PARAMS,
    SAELENS,
    WEIGHTS,
    X_PT,
    changed,
    hypothesaes,
    js,
    pt,
    refused,
    written,
)
from safetensors.torch import save

from hf_sae_select import load_sae
from hf_sae_select.sae import tensor_files


def file_of(suffix):
    return {
        ".safetensors": (SAELENS, WEIGHTS),
        ".npz": (GEMMA, PARAMS),
        ".pt": (CONNOR, X_PT),
    }[suffix]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
@pytest.mark.parametrize("damage", ["pointer", "empty", "noise", "half", "end"])
def test_damaged_weights_are_refused_by_name(tmp_path, suffix, damage):
    repo, path = file_of(suffix)
    whole = repo.files[path]
    content = {
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "empty": b"",
        "noise": np.random.default_rng(0).bytes(500),
        "half": whole[: len(whole) // 2],
        "end": whole[:-20],
    }[damage]
    message = refused(changed(repo, tmp_path, {path: content}), path.rpartition("/")[2])
    assert ("git lfs pull" in message) == (damage == "pointer")


class Bomb:
    """Opens a file for writing as it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("container", ["torch", "legacy", "pickle", "npz"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch, of what is no archive
def test_code_in_a_file_is_not_run(tmp_path, container):
    bomb, file = Bomb(tmp_path / "bang"), io.BytesIO()
    repo, path = file_of(".npz" if container == "npz" else ".pt")
    match container:
        case "torch":
            torch.save(repo.tensors | {"x": bomb}, file)
        case "legacy":
            torch.save(repo.tensors | {"x": bomb}, file, _use_new_zipfile_serialization=False)
        case "pickle":
            pickle.dump({"W_enc": bomb}, file)
        case "npz":
            arrays = {name: tensor.numpy() for name, tensor in repo.tensors.items()}
            np.savez(file, **arrays | {"W_enc": np.array([[bomb]], dtype=object)})
    message = refused(changed(repo, tmp_path, {path: file.getvalue()}), path.rpartition("/")[2])
    assert not (tmp_path / "bang").exists()
    assert "weights_only" not in message  # torch tells how to run the code all the same
    assert "\x1b" not in message


def shape_only(shape):
    """An npz member that says it is huge, and is not."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(64)


def test_arrays_larger_than_their_file_are_refused(tmp_path):
    huge, file = 2**43, io.BytesIO()
    sizes = {"W_enc": (D_IN, huge), "W_dec": (huge, D_IN), "b_enc": (huge,), "b_dec": (D_IN,), "threshold": (huge,)}
    with zipfile.ZipFile(file, "w") as archive:
        for name, shape in sizes.items():
            archive.writestr(f"{name}.npy", shape_only(shape))
    refused(changed(GEMMA, tmp_path, {PARAMS: file.getvalue()}), "W_enc")


def test_tensors_larger_than_their_file_are_refused(tmp_path):
    huge, one = 2**43, torch.zeros(1)
    tensors = {"W_enc": one.expand(D_IN, huge), "W_dec": one.expand(huge, D_IN), "b_enc": one.expand(huge)}
    about = js(act_size=D_IN, act_name="blocks.3.attn.hook_z")
    content = pt(tensors | {"b_dec": torch.zeros(D_IN)})
    refused(changed(CONNOR, tmp_path, {X_PT: content, f"{X_PT[:-3]}_cfg.json": about}), "W_enc")


@pytest.mark.parametrize(
    "kind",
    [lambda w: w.to_sparse(), lambda w: w.to("meta"), lambda w: w.to(torch.complex64)],
    ids=["sparse", "meta", "complex"],
)
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path, kind):
    tensors = CONNOR.tensors | {"W_enc": kind(CONNOR.tensors["W_enc"])}
    refused(changed(CONNOR, tmp_path, {X_PT: pt(tensors)}), "W_enc")


def test_weights_of_eight_bits_are_read_or_refused_by_name(tmp_path):
    tensors = SAELENS.tensors | {"W_enc": SAELENS.tensors["W_enc"].to(torch.float8_e4m3fn)}
    folder = changed(SAELENS, tmp_path, {WEIGHTS: save(tensors)})
    try:
        assert torch.equal(load_sae(folder).W_enc, tensors["W_enc"].float())
    except ValueError as error:
        assert "W_enc" in str(error)


@pytest.mark.parametrize("extra", [np.array("x"), np.array(1j), np.array(["x", "y"]), np.array(1.0)], ids=repr)
def test_arrays_that_nobody_asked_for_are_refused_by_name(tmp_path, extra):
    file = io.BytesIO()
    np.savez(file, surprise=extra, **{name: tensor.numpy() for name, tensor in GEMMA.tensors.items()})
    refused(changed(GEMMA, tmp_path, {PARAMS: file.getvalue()}), "surprise")


def test_arrays_of_the_other_byte_order_or_precision(tmp_path):
    def load(kind):
        file = io.BytesIO()
        np.savez(
            file, **{name: np.asfortranarray(tensor.numpy().astype(kind)) for name, tensor in GEMMA.tensors.items()}
        )
        return load_sae(changed(GEMMA, tmp_path, {PARAMS: file.getvalue()}))

    assert torch.equal(load("<f8").W_enc, GEMMA.tensors["W_enc"])
    with pytest.raises(ValueError, match=r"`W_enc`.*byte order"):
        load(">f4")


# Files that unpack to far more than they are


@pytest.fixture
def no_reading(monkeypatch):
    """Fail where anything of an array but its header is unpacked."""

    def never(*arguments, **options):
        raise AssertionError("it was unpacked")

    monkeypatch.setattr(np, "load", never)


def test_an_npz_of_zeros_is_refused_by_its_declared_size(tmp_path, no_reading):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        shape = {"descr": "<f4", "fortran_order": False, "shape": (2**26,)}
        np.lib.format.write_array_header_1_0(header, shape)
        with archive.open("W_enc.npy", "w") as member:
            member.write(header.getvalue())
            for _ in range(256):
                member.write(bytes(2**20))
    assert len(file.getvalue()) < 2**20
    refused(changed(GEMMA, tmp_path, {PARAMS: file.getvalue()}), "params.npz", "268,435,584 bytes", "20 times")


def npz_member(header, size, compression=zipfile.ZIP_STORED):
    """An npz with one array whose header says `header` and that has `size` bytes."""
    content, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("W_enc.npy", content.getvalue() + bytes(size))
    return file.getvalue()


@pytest.mark.parametrize(("shape", "size"), [((6, 16), 100), ((6, 2**40), 384), ((2**62, 2**62), 0), ((6,), 0)])
def test_a_header_that_does_not_fit_its_array_is_refused(tmp_path, no_reading, shape, size):
    content = npz_member({"descr": "<f4", "fortran_order": False, "shape": shape}, size)
    refused(changed(GEMMA, tmp_path, {PARAMS: content}), "W_enc.npy", str(list(shape)))


def test_more_arrays_than_an_sae_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "MOST_TENSORS", 3)
    refused(GEMMA.at(tmp_path), "params.npz", "5 arrays")


def test_a_file_with_holes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "SMALL", 2**20)
    huge = save({"W_enc": torch.zeros(6, 2**20)})
    folder = changed(SAELENS, tmp_path, {WEIGHTS: huge[:200]})
    with open(folder / WEIGHTS, "r+b") as file:
        file.truncate(len(huge))
    refused(folder, "sae_weights.safetensors", "20 times")


def test_an_honest_file_may_be_large(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "SMALL", 0)
    for repo in (GEMMA, SAELENS, CONNOR):
        assert load_sae(repo.at(tmp_path)).config.d_in == D_IN


def test_a_huge_header_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "MOST_HEADER_BYTES", 100)
    refused(SAELENS.at(tmp_path), "sae_weights.safetensors", "header")


def test_a_compressed_torch_file_is_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(CONNOR.files[X_PT])) as source, zipfile.ZipFile(file, "w") as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member), zipfile.ZIP_DEFLATED)
    refused(changed(CONNOR, tmp_path, {X_PT: file.getvalue()}), X_PT, "compressed")


def test_a_buffer_of_any_size_is_not_made(tmp_path):
    refused(changed(CONNOR, tmp_path, {X_PT: pt(CONNOR.tensors | {"x": bytearray(3)})}), X_PT, "bytearray")


def test_a_dict_that_holds_itself_or_one_dict_many_times_is_refused(tmp_path):
    endless = {}
    endless["again"] = endless
    refused(changed(CONNOR, tmp_path / "a", {X_PT: pt(CONNOR.tensors | {"x": endless})}), X_PT, "10,000 entries")
    many = {}
    for _ in range(40):
        many = {"a": many, "b": many}
    refused(changed(CONNOR, tmp_path / "b", {X_PT: pt(CONNOR.tensors | {"x": many})}), X_PT, "10,000 entries")


def test_two_names_of_one_tensor_are_refused(tmp_path):
    tensors = SAELENS.tensors | {"module.W_enc": SAELENS.tensors["W_enc"].clone()}
    refused(changed(SAELENS, tmp_path, {WEIGHTS: save(tensors)}), "sae_weights.safetensors", "`module.`")


# Checkpoints whose tensors are not in the file


def forged(values, legacy=False):
    """A checkpoint whose pickle is written by hand: name -> opcodes."""
    entries = b"".join(b"X" + struct.pack("<I", len(name)) + name.encode() + code for name, code in values.items())
    pickled = b"\x80\x02}(" + entries + b"u."
    if legacy:
        whole = io.BytesIO()
        torch.save({}, whole, _use_new_zipfile_serialization=False)
        stream, heads = io.BytesIO(whole.getvalue()), b""
        for _ in range(3):
            pickle.load(stream)
        heads = whole.getvalue()[: stream.tell()]
        return heads + pickled + pickle.dumps([], protocol=2)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def called(module, name, *numbers):
    integers = b"".join(b"J" + struct.pack("<i", number) for number in numbers)
    return f"c{module}\n{name}\n(".encode() + integers + b"tR"


CALLS = [
    ("torch", "Tensor"),
    ("torch", "FloatTensor"),
    ("torch", "FloatStorage"),
    ("torch.storage", "UntypedStorage"),
    ("torch.nn.parameter", "Parameter"),
    ("__builtin__", "bytearray"),
    ("collections", "Counter"),
]


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_tensor_that_the_file_does_not_store_is_refused(tmp_path, monkeypatch, call, legacy):
    monkeypatch.setattr(torch, "load", None)
    tensors = {name: called(*call, *tensor.shape) for name, tensor in CONNOR.tensors.items()}
    refused(changed(CONNOR, tmp_path, {X_PT: forged(tensors, legacy)}), X_PT)


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
def test_a_buffer_of_any_number_of_bytes_is_not_made(tmp_path, monkeypatch, legacy):
    monkeypatch.setattr(torch, "load", None)
    content = forged({"x": called("__builtin__", "bytearray", 2_000_000_000)}, legacy)
    refused(changed(CONNOR, tmp_path, {X_PT: content}), X_PT, "bytearray")


def storage(items):
    """The opcodes of a tensor whose storage has a name, but no bytes in the file."""
    number = b"J" + struct.pack("<i", items)
    pid = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number + b"tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + pid
        + b"K\x00("
        + number
        + b"t(K\x01t\x89ccollections\nOrderedDict\n)RtR"
    )


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
@pytest.mark.parametrize("items", [2, 500_000_000])
def test_a_storage_that_the_file_lacks_is_refused(tmp_path, monkeypatch, legacy, items):
    monkeypatch.setattr(torch, "load", None)
    refused(changed(CONNOR, tmp_path, {X_PT: forged({"W_enc": storage(items)}, legacy)}), X_PT, f"{4 * items:,} bytes")


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "legacy"])
def test_honest_checkpoints_are_read(tmp_path, legacy):
    layer, file = torch.nn.Linear(2, 3), io.BytesIO()
    content = {"state_dict": layer.state_dict(), "view": torch.arange(9.0)[3:], "k": 3, "names": ["a", ("b", None)]}
    content |= {"parameter": torch.nn.Parameter(torch.ones(2)), "half": torch.ones(2).bfloat16(), "bytes": b"\xff"}
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    (tmp_path / "x.pt").write_bytes(file.getvalue())
    read = tensor_files.TensorFile.open(tmp_path / "x.pt")
    assert torch.equal(read.read("weight"), layer.weight) and read.values["names"] == ["a", ("b", None)]
    assert torch.equal(read.read("view"), torch.arange(3.0, 9.0)) and read.read("half").dtype == torch.bfloat16


@pytest.mark.parametrize("depth", [12, 18, 40])
def test_an_error_does_not_repeat_a_long_value(tmp_path, depth):
    value = ["aaaaaaaa"]
    for _ in range(depth):
        value = [value, value]
    config = {"input_dim": D_IN, "m_total_neurons": 16, "k_active_neurons": value, "use_batch_topk": False}
    content = pt({"state_dict": hypothesaes().tensors, "config": config})
    with pytest.raises(ValueError, match=r"k=|too long to print") as error:
        load_sae(written(tmp_path, {"x.pt": content}), config={"model": "a/b", "hook": "layers.1"})
    assert len(str(error.value)) < 1500


def test_two_arrays_of_one_name_are_refused(tmp_path):
    file = io.BytesIO(GEMMA.files[PARAMS])
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("W_enc.npy", archive.read("W_enc.npy"))
    refused(changed(GEMMA, tmp_path, {PARAMS: file.getvalue()}), "params.npz", "one name")


def test_a_long_header_of_an_array_is_refused_without_advice_to_trust_it(tmp_path):
    content = npz_member({"descr": [("a" * 20_000, "<f4")], "fortran_order": False, "shape": (1,)}, 4)
    assert "allow_pickle" not in refused(changed(GEMMA, tmp_path, {PARAMS: content}), "W_enc.npy", "header")
