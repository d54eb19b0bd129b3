"""Reads pickles that hold arrays, containers, numbers and text, and refuses every other.

A pickle is a program: it may name any importable object and call it. Here the only names it can reach are a
handful of stand-ins, made anew for each file, that record what the real NumPy and PyTorch constructors would
have been given. Nothing is imported on the file's word. Arrays are put together afterwards, with their sizes
checked.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from ppcls.utils.errors import UserError

BFLOAT16 = "bfloat16"  # numpy has no such dtype; values are widened to float32

TORCH_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}

DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    AssertionError,
)
"""What unpickling a truncated or corrupt file may raise."""


class _Refused(Exception):
    """The file asks for something that is no data."""


class Storage:
    """A flat block of a PyTorch file; ``fill`` gives it its bytes."""

    def __init__(self, dtype: str, size: int):
        if dtype not in TORCH_STORAGES.values():
            raise ValueError("a storage of an unknown type")
        self.dtype, self.size, self.values = dtype, size, None

    def fill(self, data: bytes, byteorder: str = "<") -> None:
        """Decode exactly ``size`` values. ValueError if ``data`` is shorter."""
        self.values = decode(data, self.dtype, self.size, byteorder)


def decode(data: bytes, dtype: str, count: int, byteorder: str = "<") -> np.ndarray:
    """``count`` values of ``dtype`` as a 1-D native array (bfloat16 as float32). ValueError if cut off."""
    if dtype == BFLOAT16:
        raw = np.frombuffer(data, np.dtype(byteorder + "u2"), count)
        return (raw.astype(np.uint32) << 16).view(np.float32)
    stored = np.dtype(dtype).newbyteorder(byteorder)
    return np.frombuffer(data, stored, count).astype(stored.newbyteorder("="))


def itemsize(dtype: str) -> int:
    """Bytes per value in the file."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


class _Array:
    """Stands for an array under construction; ``build`` makes it."""

    build: Callable[[], np.ndarray]


def _stand_ins() -> dict[tuple[str, str], Any]:
    """The whole world of a pickle. Made per file, so that no file can tamper with another's."""

    class Dtype:
        def __init__(self, name, *_):
            kind = np.dtype(str(name))
            if kind.kind not in "biufcSU" or kind.fields:
                raise _Refused(f"an array of {name}")
            self.kind, self.order = kind, "="

        def __setstate__(self, state):
            if state[1] in ("<", ">"):
                self.order = state[1]
            if any(part for part in state[2:5]):
                raise _Refused("a structured array")

        def real(self):
            return self.kind.newbyteorder(self.order)

    class NumpyArray(_Array):
        def __init__(self, *_):
            self.state = None

        def __setstate__(self, state):
            self.state = state

        def build(self):
            if self.state is None:
                raise ValueError("an array without values")
            _, shape, dtype, fortran, data = self.state
            if isinstance(data, str):  # protocol 2 files of Python 2
                data = data.encode("latin1")
            return _shape(data, dtype, shape, "F" if fortran else "C")

    class ndarray:  # only ever an argument of the constructor
        pass

    def reconstruct(*_):
        return NumpyArray()

    def scalar(dtype, data):
        if isinstance(data, str):
            data = data.encode("latin1")
        return np.frombuffer(data, dtype.real(), 1)[0].item()

    def from_buffer(data, dtype, shape, order="C"):
        array = NumpyArray()
        array.state = (1, shape, dtype, order == "F", bytes(data))
        return array

    def latin1(text, encoding):
        if encoding != "latin1":
            raise _Refused(f"text in {encoding}")
        return text.encode("latin1")

    class TorchTensor(_Array):
        def __init__(self, storage, offset, size, stride, *_):
            self.args = storage, offset, size, stride

        def build(self):
            return _strided(*self.args)

    def parameter(data, *_):
        return data

    table: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("_codecs", "encode"): latin1,
        ("numpy", "ndarray"): ndarray,
        ("numpy", "dtype"): Dtype,
        ("torch._utils", "_rebuild_tensor_v2"): TorchTensor,
        ("torch._utils", "_rebuild_parameter"): parameter,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = reconstruct
        table[f"{core}.multiarray", "scalar"] = scalar
        table[f"{core}.numeric", "_frombuffer"] = from_buffer
    for kind in (tuple, list, dict, set):
        table["builtins", kind.__name__] = table["__builtin__", kind.__name__] = kind
    for name, dtype in TORCH_STORAGES.items():
        table["torch", name] = dtype
    return table


def _shape(data: bytes, dtype, shape, order: str) -> np.ndarray:
    shape = tuple(int(length) for length in shape)
    real = dtype.real()
    if len(data) != math.prod(shape) * real.itemsize:
        raise ValueError("an array's values do not fill its shape")
    flat = np.frombuffer(data, real).astype(real.newbyteorder("="))  # a copy: writable and native
    return flat.reshape(shape, order=order)


def _strided(storage: Storage, offset: int, size, stride) -> np.ndarray:
    size, stride = tuple(map(int, size)), tuple(map(int, stride))
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if offset < 0 or any(n < 0 for n in size) or any(step < 0 for step in stride):
        raise ValueError("a tensor with a negative size")
    if 0 not in size and last >= storage.size:
        raise ValueError("a tensor reaches beyond its storage")
    values = storage.values
    if values is None:
        raise ValueError("a tensor without values")
    if 0 in size:
        return np.zeros(size, values.dtype)
    if math.prod(size) > storage.size:
        raise ValueError("a tensor is larger than its storage")  # expanded views could fill the memory
    steps = tuple(step * values.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(values[offset:], size, steps).copy()


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream, storage_of):
        super().__init__(stream, encoding="latin1")
        self._world = _stand_ins()
        self._storage_of = storage_of

    def find_class(self, module, name):
        try:
            return self._world[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid):
        if self._storage_of is None:
            raise _Refused("an outside object")
        return self._storage_of(pid)


def load(stream: io.BufferedIOBase, path, storage_of: Callable[[tuple], Storage] | None = None) -> Any:
    """Unpickle one object from ``stream``; arrays are still to be put together by :func:`finish`.

    Args:
        stream: at the start of the pickle; left behind its end.
        path: the file's name for messages.
        storage_of: gives the storage of a PyTorch "persistent id"; None refuses such ids.

    Raises:
        UserError: the pickle asks for anything but data ("refused"), or it is damaged.
    """
    try:
        return _Unpickler(stream, storage_of).load()
    except _Refused as refusal:
        raise UserError(
            f"refused to read {path}: it holds {refusal}; weights are arrays, numbers and text only"
        ) from refusal
    except DAMAGE as error:
        raise damaged(path, error) from error


def damaged(path, error: Exception | str) -> UserError:
    """The error for a truncated or corrupt file."""
    reason = str(error) or type(error).__name__
    return UserError(f"{path} is damaged or no weights file ({reason}); fetch it again")


def finish(tree: Any, path) -> Any:
    """Put the arrays of a loaded tree together; leaves are arrays, numbers, text, bytes and None.

    Paddle saves a tensor as the pair (its name, its values); such pairs become the array.
    """
    try:
        return _Finisher().finish(tree)
    except _Refused as refusal:
        raise UserError(f"refused to read {path}: it holds {refusal}") from refusal
    except DAMAGE as error:
        raise damaged(path, error) from error


class _Finisher:
    """Walks a loaded tree once: what the file shares stays shared, so that a small file stays small."""

    def __init__(self):
        self._done: dict[int, Any] = {}

    def finish(self, value: Any) -> Any:
        if id(value) not in self._done:
            self._done[id(value)] = self._make(value)
        return self._done[id(value)]

    def _make(self, value: Any) -> Any:
        if isinstance(value, _Array):
            return value.build()
        if isinstance(value, dict):
            if not all(isinstance(key, (str, int)) for key in value):
                raise _Refused("a dict with a key that is neither text nor a number")
            return {key: self.finish(entry) for key, entry in value.items()}
        if isinstance(value, (list, set, frozenset)):
            return [self.finish(entry) for entry in value]
        if isinstance(value, tuple):
            parts = tuple(self.finish(entry) for entry in value)
            named = len(parts) == 2 and isinstance(parts[0], str) and isinstance(parts[1], np.ndarray)
            return parts[1] if named else parts
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return value
        raise _Refused(f"an object of type {type(value).__name__}")
