"""Weights files in, NumPy arrays out (and back): ``.pdparams``, PyTorch ``.pth``, ``.safetensors``.

The format is told by the content, not by the name. No file is unpickled freely (see
:mod:`restricted_pickle`), and neither Paddle nor PyTorch is needed to read any of them.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ppcls.utils import restricted_pickle as restricted
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_path

_TORCH_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_LEGACY_PROTOCOL = 1001
_PADDLE_NAMES = "StructuredToParameterName@@"
_PADDLE_SLICES = "UnpackBigParamInfor@@"

_SAFETENSORS_DTYPES = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "BF16": restricted.BFLOAT16,
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U64": "u8",
    "U32": "u4",
    "U16": "u2",
    "U8": "u1",
    "BOOL": "?",
}


def read_weights(path: str | Path) -> dict:
    """Read a weights file.

    Args:
        path: ``.pdparams`` (any pickle protocol), PyTorch ``.pth``/``.pt``/``.pth.tar`` (zip or the older
            plain format), or ``.safetensors``.

    Returns:
        A dict, possibly nested, of native writable arrays (bfloat16 of PyTorch and safetensors files as
        float32), numbers, text and lists, in the file's order.

    Raises:
        UserError: no such file, another format, damaged, or holding anything that is no data.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read weights {path}: {error.strerror or error}; check the path") from error
    if data[:4] == b"PK\x03\x04":
        tree = _read_torch_zip(data, path)
    elif _is_safetensors(data):
        tree = _read_safetensors(data, path)
    elif data[:1] == b"\x80" or path.suffix == ".pdparams":
        tree = _read_pickle(data, path)
    else:
        raise UserError(f"{path} is no weights file: expected .pdparams, a PyTorch .pth or .safetensors")
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds a {type(tree).__name__}; a weights file holds a dict of arrays")
    return tree


def write_pdparams(obj: dict, path: str | Path) -> None:
    """Write a nested dict of arrays, numbers, text and lists to ``path``, atomically.

    ``paddle.load`` and :func:`read_weights` read it. TypeError, naming the place, on any other kind of value.
    """
    plain = _plain(obj, "")
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        pickle.dump(plain, stream, protocol=4)


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry, f"{where}/{key}") for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return np.asarray(value, order="C")
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot write {type(value).__name__} at {where or '/'} of a weights file")


# ---- pickles of Paddle, and PyTorch's older format ---------------------------------------------------


def _read_pickle(data: bytes, path: Path) -> Any:
    stream = io.BytesIO(data)
    tree = restricted.load(stream, path)
    if tree == _TORCH_LEGACY_MAGIC:
        return _read_torch_legacy(stream, path)
    return _without_paddle_extras(restricted.finish(tree, path), path)


def _without_paddle_extras(tree: Any, path: Path) -> Any:
    """Drop Paddle's table of parameter names; join arrays that it cut into slices (old protocols)."""
    if not isinstance(tree, dict):
        return tree
    tree.pop(_PADDLE_NAMES, None)
    try:
        for key, info in tree.pop(_PADDLE_SLICES, {}).items():
            parts = [tree.pop(part) for part in info["slices"]]
            tree[key] = np.concatenate(parts).reshape([int(n) for n in info["OriginShape"]])
    except restricted.DAMAGE as error:
        raise restricted.damaged(path, error) from error
    return tree


def _read_torch_legacy(stream: io.BytesIO, path: Path) -> Any:
    """Magic number, protocol, system, object, list of storage keys, then count and values of each storage."""
    storages: dict[str, restricted.Storage] = {}

    def storage_of(pid):
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or view is not None:
            raise ValueError("a storage that is a view of another")
        return storages.setdefault(key, restricted.Storage(dtype, int(size)))

    if restricted.load(stream, path) != _TORCH_LEGACY_PROTOCOL:
        raise UserError(f"{path} is of an unknown PyTorch format; save it again with a recent PyTorch")
    restricted.load(stream, path)  # byte order and integer sizes; always little endian in practice
    tree = restricted.load(stream, path, storage_of)
    keys = restricted.load(stream, path)
    try:
        for key in keys:
            storage = storages[key]
            if int.from_bytes(stream.read(8), "little") != storage.size:
                raise ValueError("a storage of another size than announced")
            storage.fill(stream.read(storage.size * restricted.itemsize(storage.dtype)))
    except restricted.DAMAGE as error:
        raise restricted.damaged(path, error) from error
    return restricted.finish(tree, path)


# ---- PyTorch's zip format ----------------------------------------------------------------------------


def _read_torch_zip(data: bytes, path: Path) -> Any:
    """``<top>/data.pkl`` names storages; ``<top>/data/<key>`` are their values, stored uncompressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise UserError(f"{path} is a zip archive, but not of PyTorch weights (no data.pkl in it)")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise UserError(f"refused to read {path}: PyTorch files are not compressed; save it again")
            top = pickles[0].removesuffix("data.pkl")
            order = ">" if _entry(archive, top + "byteorder") == b"big" else "<"
            storages: dict[str, restricted.Storage] = {}

            def storage_of(pid):
                kind, dtype, key, _, size = pid
                if kind != "storage" or not isinstance(key, str):
                    raise ValueError("an unknown kind of storage")
                if key not in storages:
                    storages[key] = restricted.Storage(dtype, int(size))
                    storages[key].fill(archive.read(f"{top}data/{key}"), order)
                return storages[key]

            tree = restricted.load(io.BytesIO(archive.read(pickles[0])), path, storage_of)
            return restricted.finish(tree, path)
    except (zipfile.BadZipFile, *restricted.DAMAGE) as error:
        raise restricted.damaged(path, error) from error


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    return archive.read(name) if name in archive.namelist() else b""


# ---- safetensors -------------------------------------------------------------------------------------


def _is_safetensors(data: bytes) -> bool:
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 100_000_000


def _read_safetensors(data: bytes, path: Path) -> dict:
    """Eight bytes header length, a JSON header {name: dtype, shape, data_offsets}, the values."""
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:start])
        header.pop("__metadata__", None)
        return {name: _safetensor(data, start, entry) for name, entry in header.items()}
    except restricted.DAMAGE as error:
        raise restricted.damaged(path, error) from error


def _safetensor(data: bytes, start: int, entry: dict) -> np.ndarray:
    if entry["dtype"] not in _SAFETENSORS_DTYPES:
        raise ValueError(f"dtype {entry['dtype']} is not supported")
    dtype, shape = _SAFETENSORS_DTYPES[entry["dtype"]], [int(n) for n in entry["shape"]]
    begin, end = entry["data_offsets"]
    count = math.prod(shape)
    if not 0 <= begin <= end <= len(data) - start or end - begin != count * restricted.itemsize(dtype):
        raise ValueError("a tensor's values do not fill its shape")
    return restricted.decode(data[start + begin : start + end], dtype, count).reshape(shape)
