"""An exported model in the form that Paddle Serving reads: ``serving_server/`` and ``serving_client/``.

Both hold the same description of the graph's input and output, a ``GeneralModelConfig`` of Paddle Serving 0.9 (proto2,
package ``baidu.paddle_serving.configure``), once as text and once serialised (``*.stream.prototxt``). Paddle Serving's
own converter needs ``paddle.fluid``, which Paddle 2.6 removed; nothing of it is needed to write these files.
"""

from __future__ import annotations

import functools
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from ppcls.configs.exported import SIDECAR, ExportedModel, GraphFile, read_exported, write_exported
from ppcls.configs.paddle_serving import ConvertOptions
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_bytes, atomic_write_text, digest_file
from ppcls.utils.folders import staged_folder

TYPES = {
    "int64": 0, "float32": 1, "int32": 2, "float64": 3, "int16": 4, "float16": 5, "bfloat16": 6, "uint8": 7,
    "int8": 8, "bool": 9, "string": 20,
}  # fmt: skip
"""Numbers of the element types in ``feed_type`` and ``fetch_type``."""

_PACKAGE = "baidu.paddle_serving.configure"
_ALIAS = re.compile(r"[A-Za-z0-9_./@-]+")
_OURS = re.compile(
    r"serving_(server|client)_conf(\.stream)?\.prototxt|.*\.(pdmodel|pdiparams|json)|" + re.escape(SIDECAR)
)


@dataclass(frozen=True)
class Variable:
    """One input or output of the graph. ``shape`` may hold negative numbers for dimensions that vary."""

    name: str
    alias: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ServingConfig:
    """What the graph takes and gives.

    Raises:
        UserError: by its methods, for an element type that Paddle Serving has no number for.
    """

    feeds: tuple[Variable, ...]
    fetches: tuple[Variable, ...]

    def text(self) -> str:
        """The ``.prototxt`` file: two blanks of indentation, one field a line, dimensions that vary left out."""
        return text_format.MessageToString(self._message())

    def serialised(self) -> bytes:
        """The ``.stream.prototxt`` file."""
        return self._message().SerializeToString(deterministic=True)

    def _message(self):
        message = _message_class()()
        for field, kind, variables in (
            ("feed_var", "feed_type", self.feeds),
            ("fetch_var", "fetch_type", self.fetches),
        ):
            for variable in variables:
                entry = getattr(message, field).add()
                entry.name, entry.alias_name, entry.is_lod_tensor = variable.name, variable.alias, False
                setattr(entry, kind, _type_number(variable.dtype))
                entry.shape.extend(size for size in variable.shape if size >= 0)
        return message


def describe(model: ExportedModel, feed_alias: str | None = None, fetch_alias: str = "features") -> ServingConfig:
    """The description of an exported model: float32 [N, 3, H, W] in, float32 [N, feature_dim] out.

    Raises:
        UserError: an alias that is empty or holds other characters than letters, digits and ``_ . / @ -``; a graph with
            the preprocessing in it.
    """
    taken = model.input
    if taken.layout != "NCHW":  # seen: its integer arithmetic for sizes fails on Paddle 2.6.2
        raise UserError(
            "a graph with the preprocessing in it does not run on the Paddle 2.6 that Paddle Serving is used with; "
            "export the model without --preprocess-in-graph: the web service preprocesses"
        )
    feed_alias = taken.name if feed_alias is None else feed_alias
    for flag, alias in (("--feed-alias-names", feed_alias), ("--fetch-alias-names", fetch_alias)):
        if not _ALIAS.fullmatch(alias):
            hint = "; the model has one input and one output, so give one name" if "," in alias else ""
            raise UserError(f"{flag} {alias!r}: expected a name of letters, digits and _ . / @ -{hint}")
    feed = Variable(taken.name, feed_alias, "float32", (-1, 3, taken.height, taken.width))
    fetch = Variable(model.output.name, fetch_alias, "float32", (-1, model.output.feature_dim))
    return ServingConfig((feed,), (fetch,))


def convert_for_serving(options: ConvertOptions) -> ServingConfig:
    """Write both folders (or print the description, with ``show_proto``) and return the description.

    ``serving_server/`` gets copies of graph and weights and a sidecar that names only these; the web service reads its
    preprocessing from it. Each folder appears whole or not at all.

    Raises:
        UserError: no exported model, no graph that Paddle Serving can load, files changed since the export, a target
            folder that holds other things, a full disk.
    """
    folder = Path(options.dirname)
    model = read_exported(folder)
    graph = _choose_graph(folder, model, options)
    config = describe(model, options.feed_alias_names, options.fetch_alias_names)
    if options.show_proto:
        print(config.text(), end="")
        return config
    server, client = Path(options.serving_server), Path(options.serving_client)
    _check_targets(folder, server, client)
    with staged_folder(client) as staging:
        _write_description(staging, "serving_client_conf", config)
    with staged_folder(server) as staging:
        for name in (graph.model, graph.params):
            shutil.copyfile(folder / name, staging / name)
        write_exported(staging, model.model_copy(update={"graphs": [graph]}))
        _write_description(staging, "serving_server_conf", config)
    return config


def _choose_graph(folder: Path, model: ExportedModel, options: ConvertOptions) -> GraphFile:
    """The graph to copy, its files checked."""
    known = [graph for graph in model.graphs if graph.kind == "paddle" and graph.params]
    wanted = options.model_filename
    if wanted is None:
        known.sort(key=lambda graph: (not graph.model.endswith(".pdmodel"), graph.precision != "fp32"))
    found = next((graph for graph in known if wanted in (None, graph.model)), None)
    if found is None:
        names = ", ".join(graph.model for graph in known) or "none"
        raise UserError(f"{folder} has no Paddle graph {wanted or ''}".rstrip() + f"; those of its {SIDECAR}: {names}")
    if options.params_filename not in (None, found.params):
        raise UserError(f"--params-filename {options.params_filename}: the weights of {found.model} are {found.params}")
    if not found.model.endswith(".pdmodel") and not options.allow_json:
        raise UserError(
            f"{folder / found.model}: Paddle Serving loads .pdmodel graphs only; make one with "
            "tools/export_model.py --ckpt <checkpoint> --save-inference-dir <folder> --format pdmodel "
            "(--allow-json is for servers patched to load .json)"
        )
    for name in (found.model, found.params):
        _check_file(folder / name, found.digests.get(name))
    if model.output.name.encode() not in (folder / found.model).read_bytes():
        raise UserError(f"{folder / found.model} has no output {model.output.name}; {SIDECAR} is of another export")
    return found


def _check_file(path: Path, digest: str | None) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing; export the model again")
    if digest is not None and digest_file(path) != digest:
        raise UserError(f"{path} is not the file that was exported (its digest differs); export the model again")


def _check_targets(source: Path, server: Path, client: Path) -> None:
    """Only an earlier conversion may be overwritten, so that no flag can cost a user other files."""
    if server.resolve() == client.resolve():
        raise UserError(f"--serving-server and --serving-client are the same folder: {server}")
    for target in (server, client):
        if target.resolve() == source.resolve() or source.resolve().is_relative_to(target.resolve()):
            raise UserError(f"{target} holds the exported model itself; name another folder")
        if target.exists() and not target.is_dir():
            raise UserError(f"{target} is a file; name a folder")
        names = sorted(entry.name for entry in target.iterdir()) if target.exists() else []
        others = [name for name in names if not _OURS.fullmatch(name)]
        if others or (names and not any(name.endswith("_conf.prototxt") for name in names)):
            raise UserError(
                f"{target} holds files of another kind ({', '.join((others or names)[:3])}); name a folder of its own"
            )


def _write_description(folder: Path, stem: str, config: ServingConfig) -> None:
    atomic_write_bytes(folder / f"{stem}.stream.prototxt", config.serialised())
    atomic_write_text(folder / f"{stem}.prototxt", config.text())


def _type_number(dtype: str) -> int:
    if dtype not in TYPES:
        raise UserError(f"Paddle Serving has no element type {dtype}; known: {', '.join(TYPES)}")
    return TYPES[dtype]


@functools.cache
def _message_class() -> type:
    """``GeneralModelConfig``, built from its field numbers as Paddle Serving 0.9 uses them."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="general_model_config.proto", package=_PACKAGE, syntax="proto2")
    for name, kind in (("FeedVar", "feed_type"), ("FetchVar", "fetch_type")):
        entry = file.message_type.add(name=name)
        for number, (field, type_) in enumerate(
            [("name", kinds.TYPE_STRING), ("alias_name", kinds.TYPE_STRING), ("is_lod_tensor", kinds.TYPE_BOOL),
             (kind, kinds.TYPE_INT32)], start=1,
        ):  # fmt: skip
            entry.field.add(name=field, number=number, type=type_, label=kinds.LABEL_OPTIONAL)
        entry.field.add(name="shape", number=5, type=kinds.TYPE_INT32, label=kinds.LABEL_REPEATED)
    whole = file.message_type.add(name="GeneralModelConfig")
    for number, (field, type_name) in enumerate([("feed_var", "FeedVar"), ("fetch_var", "FetchVar")], start=1):
        whole.field.add(
            name=field, number=number, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED,
            type_name=f".{_PACKAGE}.{type_name}",
        )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.GeneralModelConfig"))
