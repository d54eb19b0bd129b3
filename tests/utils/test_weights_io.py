"""Weights files: what is read, what is refused, what survives damage."""

import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ppcls.utils.errors import UserError
from ppcls.utils.weights_io import read_weights, write_pdparams


def equal(a, b):
    if isinstance(b, dict):
        return isinstance(a, dict) and list(a) == list(b) and all(equal(a[key], b[key]) for key in b)
    if isinstance(b, list):
        return isinstance(a, list) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b


def small_net():
    return paddle.nn.Sequential(paddle.nn.Linear(2, 3), paddle.nn.BatchNorm1D(3))


# ---- Paddle ----------------------------------------------------------------------------------------------------------

values = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(max_size=5),
    st.none(),
    arrays(
        st.sampled_from(["float32", "float64", "float16", "int64", "uint8", "bool"]),
        array_shapes(min_dims=0, max_side=4),
    ),
)
trees = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        values,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(tree=trees)
def test_written_trees_come_back_exactly(tree, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "tree.pdparams"
    write_pdparams(tree, path)
    assert equal(read_weights(path), tree)


def test_paddle_reads_what_we_write(tmp_path):
    net, twin = small_net(), small_net()
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    write_pdparams({"backbone": state, "epoch": np.int64(7)}, tmp_path / "c.pdparams")
    loaded = paddle.load(str(tmp_path / "c.pdparams"))
    twin.set_state_dict(loaded["backbone"])
    np.testing.assert_array_equal(twin[0].weight.numpy(), net[0].weight.numpy())
    assert loaded["epoch"] == 7


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_we_read_what_paddle_writes(tmp_path, protocol):
    net = small_net()
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    paddle.save(net.state_dict(), str(tmp_path / "flat.pdparams"), protocol=protocol)
    assert equal(read_weights(tmp_path / "flat.pdparams"), state)
    nested = {"backbone": net.state_dict(), "epoch": 3, "best": np.float64(0.5), "list": [1, paddle.ones([2])]}
    paddle.save(nested, str(tmp_path / "nested.pdparams"), protocol=protocol)
    expected = {"backbone": state, "epoch": 3, "best": 0.5, "list": [1, np.ones(2, "float32")]}
    assert equal(read_weights(tmp_path / "nested.pdparams"), expected)


def test_arrays_are_native_writable_and_keep_their_order(tmp_path):
    fortran, swapped = np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(3, dtype=">f4")
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"f": fortran, "s": swapped, "five": np.ones(2)}, protocol=5))
    state = read_weights(tmp_path / "x.pdparams")
    np.testing.assert_array_equal(state["f"], fortran)
    np.testing.assert_array_equal(state["s"], swapped)
    assert state["s"].dtype.isnative
    state["f"][0, 0] = 9


def test_slices_of_big_arrays_are_joined(tmp_path):
    """Paddle cuts arrays above 1 GiB for protocols 2 and 3."""
    whole = np.arange(12, dtype="float32").reshape(3, 4)
    file = {
        "other": np.ones(1),
        "w@@.0": whole.ravel()[:7],
        "w@@.1": whole.ravel()[7:],
        "UnpackBigParamInfor@@": {"w": {"OriginShape": (3, 4), "slices": ["w@@.0", "w@@.1"]}},
        "StructuredToParameterName@@": {"w": "linear_0.w_0"},
    }
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(file, protocol=2))
    assert equal(read_weights(tmp_path / "x.pdparams"), {"other": np.ones(1), "w": whole})


# ---- refusals --------------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


ATTACKS = {
    "system": Evil(os.system, "touch PWNED"),
    "nested": {"backbone": {"w": (np.ones(2), [Evil(os.system, "touch PWNED")])}},
    "eval": Evil(eval, "open('PWNED', 'w')"),
    "getattr": Evil(getattr, np.ndarray, "tofile"),
    "import": Evil(__import__, "os"),
    "object array": {"w": np.array([Evil(os.system, "touch PWNED")], dtype=object)},
    "structured": {"w": np.zeros(2, [("a", "f4")])},
    "numpy function": Evil(np.load, "PWNED"),
    "memory": Evil(np.ndarray, (10**15,)),
    "class": {"w": collections.Counter("ab")},
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("attack", ATTACKS)
def test_anything_but_data_is_refused(attack, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pdparams"
    path.write_bytes(pickle.dumps(ATTACKS[attack], protocol=protocol))
    with pytest.raises(UserError, match="refused|damaged"):
        read_weights(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["evil.pdparams"]


def test_the_refusal_names_the_culprit(tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"w": Evil(os.system, "true")}))
    with pytest.raises(UserError, match=rf"refused to read .*evil.pth: it holds {os.system.__module__}.system"):
        read_weights(tmp_path / "evil.pth")


def test_a_file_cannot_change_how_the_next_one_is_read(tmp_path):
    """A pickle may set attributes of what it names; that must be lost with the file."""
    tamper = b"\x80\x02cnumpy\ndtype\nN}X\x08\x00\x00\x00__call__K\x01s\x86b."
    (tmp_path / "tamper.pdparams").write_bytes(tamper)
    with pytest.raises(UserError):
        read_weights(tmp_path / "tamper.pdparams")
    write_pdparams({"w": np.ones(3)}, tmp_path / "good.pdparams")
    assert equal(read_weights(tmp_path / "good.pdparams"), {"w": np.ones(3)})


def test_shared_references_do_not_explode(tmp_path):
    level = [np.ones(1)]
    for _ in range(60):
        level = [level, level]
    (tmp_path / "laugh.pdparams").write_bytes(pickle.dumps({"w": level}))
    assert len(read_weights(tmp_path / "laugh.pdparams")["w"]) == 2


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"hello, this is text", b"\x00" * 64, pickle.dumps([1, 2]), pickle.dumps(7)]
)
def test_other_files_are_explained(content, tmp_path):
    (tmp_path / "x.pdparams").write_bytes(content)
    with pytest.raises(UserError, match="x.pdparams"):
        read_weights(tmp_path / "x.pdparams")


def test_a_missing_file_or_a_folder_is_explained(tmp_path):
    for path in (tmp_path / "none.pdparams", tmp_path):
        with pytest.raises(UserError, match="cannot read weights"):
            read_weights(path)


def test_writing_an_object_names_its_place(tmp_path):
    with pytest.raises(TypeError, match=r"set at /a/b\[1\]"):
        write_pdparams({"a": {"b": [1, {2}]}}, tmp_path / "x.pdparams")
    assert list(tmp_path.iterdir()) == []


# ---- PyTorch, written by hand ----------------------------------------------------------------------------------------


def torch_stand_ins(monkeypatch):
    """Modules with PyTorch's names, so that a pickle can refer to them; PyTorch itself is not needed."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "BFloat16Storage"):
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))

    def _rebuild_tensor_v2(*args):
        raise AssertionError("must not be called by the reader")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch, utils


class Tensor:
    def __init__(self, rebuild, storage, offset, size, stride):
        self.reduced = rebuild, (storage, offset, size, stride, False, collections.OrderedDict())

    def __reduce__(self):
        return self.reduced


class Stored:
    def __init__(self, kind, key, data, count):
        self.pid, self.key, self.data, self.count = ("storage", kind, key, "cpu", count), key, data, count


class TorchPickler(pickle.Pickler):
    legacy = False

    def persistent_id(self, obj):
        if isinstance(obj, Stored):
            return (*obj.pid, None) if self.legacy else obj.pid
        return None


def torch_tree(monkeypatch):
    """(tree to pickle, its storages, what must be read)"""
    torch, utils = torch_stand_ins(monkeypatch)
    matrix = np.arange(12, dtype="<f4")
    wide = np.array([1.5, -2.0, 3.25], "<f4")
    stored = [
        Stored(torch.FloatStorage, "0", matrix.tobytes(), 12),
        Stored(torch.LongStorage, "1", struct.pack("<q", 41), 1),
        Stored(torch.BFloat16Storage, "2", (wide.view("<u4") >> 16).astype("<u2").tobytes(), 3),
    ]

    def tensor(*args):
        return Tensor(utils._rebuild_tensor_v2, *args)

    state = collections.OrderedDict(
        w=tensor(stored[0], 0, (3, 4), (4, 1)),
        transposed=tensor(stored[0], 0, (4, 3), (1, 4)),
        part=tensor(stored[0], 5, (2, 2), (4, 2)),
        steps=tensor(stored[1], 0, (), ()),
        half=tensor(stored[2], 0, (3,), (1,)),
    )
    state._metadata = collections.OrderedDict(version=1)  # PyTorch hangs this onto its state dicts
    expected = {
        "w": matrix.reshape(3, 4),
        "transposed": np.ascontiguousarray(matrix.reshape(3, 4).T),
        "part": np.array([[5, 7], [9, 11]], "float32"),
        "steps": np.array(41),
        "half": wide,
    }
    return {"state_dict": state, "epoch": 3}, stored, {"state_dict": expected, "epoch": 3}


def write_zip(path, tree, stored, compression=zipfile.ZIP_STORED, drop=()):
    stream = io.BytesIO()
    TorchPickler(stream, protocol=2).dump(tree)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", "little")
        for storage in stored:
            if storage.key not in drop:
                archive.writestr(f"archive/data/{storage.key}", storage.data)
        archive.writestr("archive/version", "3\n")


def test_pytorch_zip_file(tmp_path, monkeypatch):
    tree, stored, expected = torch_tree(monkeypatch)
    write_zip(tmp_path / "x.pth", tree, stored)
    assert equal(read_weights(tmp_path / "x.pth"), expected)


def test_pytorch_legacy_file(tmp_path, monkeypatch):
    """The format before PyTorch 1.6, of ``resnet50-19c8e357.pth``: pickles one after another, then the values."""
    tree, stored, expected = torch_tree(monkeypatch)
    stream = io.BytesIO()
    for head in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(head, stream, protocol=2)
    pickler = TorchPickler(stream, protocol=2)
    pickler.legacy = True
    pickler.dump(tree)
    pickle.dump([storage.key for storage in stored], stream, protocol=2)
    for storage in stored:
        stream.write(struct.pack("<q", storage.count) + storage.data)
    (tmp_path / "x.pth").write_bytes(stream.getvalue())
    assert equal(read_weights(tmp_path / "x.pth"), expected)
    (tmp_path / "cut.pth").write_bytes(stream.getvalue()[:-3])
    with pytest.raises(UserError, match="damaged"):
        read_weights(tmp_path / "cut.pth")


@pytest.mark.parametrize(
    "offset, size, stride",
    [(0, (13,), (1,)), (10, (2, 2), (1, 2)), (-1, (2,), (1,)), (0, (9, 9), (0, 0)), (4, (3,), (-1,))],
)
def test_tensors_beyond_their_storage_are_refused(offset, size, stride, tmp_path, monkeypatch):
    _, stored, _ = torch_tree(monkeypatch)
    rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
    write_zip(tmp_path / "x.pth", {"w": Tensor(rebuild, stored[0], offset, size, stride)}, stored)
    with pytest.raises(UserError, match="damaged"):
        read_weights(tmp_path / "x.pth")


def test_broken_zip_files_are_explained(tmp_path, monkeypatch):
    tree, stored, _ = torch_tree(monkeypatch)
    write_zip(tmp_path / "missing.pth", tree, stored, drop=("1",))
    with pytest.raises(UserError, match="damaged"):
        read_weights(tmp_path / "missing.pth")
    write_zip(tmp_path / "packed.pth", tree, stored, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="not compressed"):
        read_weights(tmp_path / "packed.pth")
    np.savez(tmp_path / "arrays.npz", w=np.ones(2))
    with pytest.raises(UserError, match="not of PyTorch"):
        read_weights(tmp_path / "arrays.npz")
    write_zip(tmp_path / "evil.pth", {"w": Evil(os.system, "true")}, [])
    with pytest.raises(UserError, match="refused"):
        read_weights(tmp_path / "evil.pth")


# ---- safetensors -----------------------------------------------------------------------------------------------------


def test_safetensors(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    state = {
        "w": np.arange(6, dtype="float32").reshape(2, 3),
        "i": np.arange(3),
        "h": np.ones(2, "float16"),
        "s": np.array(2.5),
    }
    library.save_file(state, tmp_path / "x.safetensors", metadata={"format": "np"})
    loaded = read_weights(tmp_path / "x.safetensors")
    assert sorted(loaded) == sorted(state) and all(equal(loaded[name], state[name]) for name in state)


def test_safetensors_with_bfloat16_or_wrong_sizes(tmp_path):
    def write(entry, data):
        header = b'{"w": ' + entry + b"}"
        (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
        return tmp_path / "x.safetensors"

    wide = np.array([1.0, -0.5], "<f4")
    data = (wide.view("<u4") >> 16).astype("<u2").tobytes()
    loaded = read_weights(write(b'{"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}', data))
    assert equal(loaded, {"w": wide})
    for entry in (
        b'{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}',
        b'{"dtype": "BF16", "shape": [3], "data_offsets": [0, 4]}',
        b'{"dtype": "BF16", "shape": [-2], "data_offsets": [4, 0]}',
        b'{"dtype": "F8", "shape": [4], "data_offsets": [0, 4]}',
        b'{"shape": [4]}',
    ):
        with pytest.raises(UserError, match="damaged"):
            read_weights(write(entry, data))


# ---- damage ----------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(cut=st.floats(0, 0.999), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3))
def test_damage_is_a_user_error_or_harmless(cut, flips, tmp_path_factory):
    """Truncated always fails; flipped bytes may go unnoticed in values, but raise nothing else."""
    path = tmp_path_factory.getbasetemp() / "damaged.pdparams"
    write_pdparams({"backbone": {"w": np.arange(20.0)}, "epoch": 3}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(UserError):
        read_weights(path)
    flipped = bytearray(whole)
    for where, value in flips:
        flipped[int(where * len(whole))] = value
    path.write_bytes(flipped)
    try:
        read_weights(path)
    except UserError as error:
        assert "damaged.pdparams" in str(error)
