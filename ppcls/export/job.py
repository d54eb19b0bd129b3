"""The whole export: load, trace, write, convert, compare, and only then put the folder in its place."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ppcls.arch.reid_net import ReIDNet
from ppcls.configs.export import ExportOptions
from ppcls.configs.exported import (
    SIDECAR,
    ExportedModel,
    GraphFile,
    InputSpec,
    OutputSpec,
    SourceSpec,
    read_exported,
    write_exported,
)
from ppcls.data.sample import Sample
from ppcls.data.transform import MEAN, STD
from ppcls.engine.checkpoint import Checkpoint, load_stored
from ppcls.engine.device import select_device
from ppcls.export import parity
from ppcls.export.embedder import EPSILON, build_embedder
from ppcls.export.gate_images import GateImages, calibration_files, gate_images, synthetic_images
from ppcls.export.inference import PARAMS, model_file, output_name, write_graph, writes_here
from ppcls.export.onnx import require_onnx_packages, write_onnx
from ppcls.export.other_format import write_in_child
from ppcls.retrieval import FeatureExtractor
from ppcls.retrieval.predictor import Predictor, open_predictor
from ppcls.utils.errors import UserError
from ppcls.utils.files import digest_file
from ppcls.utils.folders import staged_folder
from ppcls.utils.logger import get_logger, only_warnings

ONNX = "inference.onnx"
_DEFAULT_SIZE = {"height": 256, "width": 128}
_CALIBRATED = 4
"""Images of one calibration batch, all of whose maps are in memory at once."""
_BACKENDS = {"paddle": "paddle", "onnx": "onnxruntime"}


def export_model(options: ExportOptions) -> ExportedModel:
    """Export the network of a checkpoint; the folder appears only if it passes the parity gate.

    Returns:
        The sidecar that was written, with the figures of the gate.

    Raises:
        ParityError: an exported graph does not answer as the network does.
        UserError: no checkpoint or one that cannot be read, options that do not fit it, missing packages or images, a
            target folder that holds something else, a full disk.
    """
    if options.onnx:
        require_onnx_packages()
    _check_target(Path(options.save_inference_dir))
    select_device(options.gpu)
    return export_network(load_stored(options.checkpoint, options), options)


def export_network(loaded: Checkpoint, options: ExportOptions) -> ExportedModel:
    """:func:`export_model` of a network that is loaded already; ``loaded.path`` is recorded as its source."""
    target = Path(options.save_inference_dir)
    _check_target(target)
    with _evaluating(loaded.net), gate_images(options) as images, staged_folder(target) as folder:
        export = _Export(loaded, options, folder, images)
        export.write_paddle()
        if options.onnx:
            export.write_onnx()
        if options.precision != "fp32":
            export.write_reduced()
    get_logger().info("exported %s (epoch %d) to %s", loaded.path, loaded.epoch, target)
    return export.model


class _Export:
    """One export in the making: the folder it grows in, its sidecar, and what it is compared with."""

    def __init__(self, loaded: Checkpoint, options: ExportOptions, folder: Path, images: GateImages):
        self.loaded, self.options, self.folder, self.images = loaded, options, folder, images
        self.shape = {
            "height": _size("height", options, loaded),
            "width": _size("width", options, loaded),
            "feature": options.feature,
            "normalise": options.normalise,
            "domain": _domain(loaded, options.domain),
            "preprocess": options.preprocess_in_graph,
        }
        self.reference = self._of_network(images)
        if not np.isfinite(self.reference).all():
            raise UserError(f"{loaded.path}: the network's own answers are not finite; nothing was written")
        self.model: ExportedModel

    def write_paddle(self) -> None:
        """The Paddle graph, and the sidecar that describes it."""
        self._write_graph(self.folder, self.options.format)
        name = model_file(self.options.format)
        self.model = ExportedModel(
            name=self.options.model_name,
            input=InputSpec(
                height=self.shape["height"],
                width=self.shape["width"],
                layout="NHWC" if self.options.preprocess_in_graph else "NCHW",
                mean=MEAN,
                std=STD,
            ),
            output=OutputSpec(
                name=output_name(self.folder / name),
                feature_dim=self.loaded.net.feature_dim,
                feature=self.options.feature,
                normalised=self.options.normalise,
            ),
            source=self._source(),
            graphs=[],
        )
        self._add(GraphFile(kind="paddle", model=name, params=PARAMS))

    def write_onnx(self) -> None:
        """The ONNX graph; its source is always a graph in Paddle's current format."""
        with tempfile.TemporaryDirectory(prefix=".onnx-", dir=self.folder) as scratch:
            source = self.folder
            if self.options.format != "json":
                source = Path(scratch)
                self._write_graph(source, "json")
            write_onnx(source, self.folder / ONNX, self.model.output.name)
        self._add(GraphFile(kind="onnx", model=ONNX))

    def write_reduced(self) -> None:
        """The fp16 or int8 form of the ONNX graph, judged by what it costs in mAP."""
        precision = self.options.precision
        target = self.folder / f"inference_{precision}.onnx"
        with tempfile.TemporaryDirectory(prefix=".onnx-", dir=self.folder) as scratch:
            self._reduce(target, Path(scratch))
        graph = GraphFile(kind="onnx", precision=precision, model=target.name)
        if self.images.queries:
            self._add_reduced(graph, self.images, self.reference)
            return
        get_logger().info("%s has no ids: mAP is measured on synthetic pedestrians", self.images.origin)
        with synthetic_images() as images:
            self._add_reduced(graph, images, self._of_network(images))

    def _reduce(self, target: Path, scratch: Path) -> None:
        if self.options.precision == "fp16":
            from ppcls.export.fp16 import halve

            halve(self.folder / ONNX, target, scratch)
            return
        from ppcls.export.int8 import quantise

        samples = [Sample(path, 0, 0) for path in calibration_files(self.options)]
        get_logger().info("int8: ranges from %d images", len(samples))
        batches = (batch for _, batch in parity.batches(self.model, samples, _CALIBRATED))
        quantise(self.folder / ONNX, target, batches, scratch)

    def _write_graph(self, folder: Path, file_format: str) -> None:
        if writes_here(file_format):
            write_graph(*build_embedder(self.loaded.net, **self.shape), folder)
            return
        wanted = {key: value for key, value in self.loaded.arch.items() if key not in ("height", "width")}
        request = {"checkpoint": str(self.loaded.path), "wanted": wanted, "shape": self.shape, "folder": str(folder)}
        write_in_child(request, file_format)

    def _add(self, graph: GraphFile) -> None:
        """Enter a full-precision graph into the sidecar, and pass it through the strict gate."""
        found = self._measure(graph, self.images, self.reference)
        parity.require_parity(found, _title(graph), self.images.origin)
        self._record(graph, found)

    def _add_reduced(self, graph: GraphFile, images: GateImages, reference: np.ndarray) -> None:
        found = self._measure(graph, images, reference)
        parity.require_small_drop(found, _title(graph), images.origin, self.options.max_map_drop)
        self._record(graph, found)

    def _measure(self, graph: GraphFile, images: GateImages, reference: np.ndarray) -> parity.Parity:
        """Run a new graph by the predictor that everybody uses."""
        files = [name for name in (graph.model, graph.params) if name]
        graph.digests = {name: digest_file(self.folder / name) for name in files}
        self.model.graphs.append(graph)
        write_exported(self.folder, self.model)
        with self._open(graph) as predictor:
            features = parity.graph_features(predictor.run, self.model, images.samples, graph.precision == "fp32")
        return parity.measure(reference, features, images)

    def _open(self, graph: GraphFile) -> Predictor:
        try:
            with only_warnings():
                return open_predictor(self.folder, _BACKENDS[graph.kind], precision=graph.precision)
        except UserError as error:
            raise parity.ParityError(f"{_title(graph)} does not run: {error}; nothing was written") from error

    def _record(self, graph: GraphFile, found: parity.Parity) -> None:
        graph.parity = found.as_figures()
        write_exported(self.folder, self.model)

    def _of_network(self, images: GateImages) -> np.ndarray:
        """Features of the training network itself, by the code that evaluates it."""
        extractor = FeatureExtractor(
            self.loaded.net,
            self.shape["height"],
            self.shape["width"],
            feature=self.options.feature,
            batch_size=self.options.batch_size,
            workers=self.options.workers,
            domain=self.shape["domain"],
        )
        features = extractor.of_samples(images.samples)
        if self.options.normalise:
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), EPSILON)
        return features

    def _source(self) -> SourceSpec:
        arch = {**self.loaded.arch, "height": self.shape["height"], "width": self.shape["width"]}
        if self.shape["domain"] is not None:
            arch["domain"] = self.shape["domain"]
        return SourceSpec(
            checkpoint=self.loaded.path.name,
            digest=digest_file(self.loaded.path),
            epoch=self.loaded.epoch,
            arch=arch,
            classes_dropped=self.loaded.net.num_classes,
        )


@contextlib.contextmanager
def _evaluating(net: ReIDNet) -> Iterator[None]:
    """Evaluation mode; afterwards the network is in the mode it was in."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        if training:
            net.train()


def _check_target(target: Path) -> None:
    """Only an export, or nothing, may be replaced."""
    if target.is_file():
        raise UserError(f"--save-inference-dir {target} is a file; name a folder")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not (target / SIDECAR).is_file():
        raise UserError(
            f"--save-inference-dir {target} holds files that are no exported model; name another folder or empty it"
        )
    known = {SIDECAR} | {name for graph in read_exported(target).graphs for name in (graph.model, graph.params) if name}
    foreign = sorted(path.name for path in target.iterdir() if path.name not in known)
    if foreign:
        raise UserError(
            f"--save-inference-dir {target} holds {foreign[0]} beside an exported model; move it away or name another "
            "folder"
        )


def _domain(loaded: Checkpoint, wanted: int | None) -> int | None:
    count = loaded.net.backbone.num_domains
    if count is None:
        if wanted is not None:
            raise UserError(f"--domain {wanted}: {loaded.path} has no statistics per domain; leave the flag out")
        return None
    domain = wanted or 0
    if domain >= count:
        raise UserError(f"--domain {domain}: {loaded.path} has {count} domains, numbered from 0")
    get_logger().info("%s has %d domains: exporting domain %d", loaded.path, count, domain)
    return domain


def _title(graph: GraphFile) -> str:
    return f"{graph.model} ({_BACKENDS[graph.kind]}, {graph.precision})"


def _size(which: str, options: ExportOptions, loaded: Checkpoint) -> int:
    return getattr(options, which) or loaded.arch.get(which) or _DEFAULT_SIZE[which]
