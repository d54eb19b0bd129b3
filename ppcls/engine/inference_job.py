"""An exported model on files: embeddings, nearest gallery images, and a benchmark of the whole way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ppcls.configs.inference import InferOptions
from ppcls.engine.figures import rank_list
from ppcls.engine.inference_output import Writer, open_writer, record
from ppcls.engine.predicting import embedded_batches, requested_predictor
from ppcls.retrieval import find_images
from ppcls.retrieval.gallery import Gallery, model_digest
from ppcls.retrieval.gallery_store import MANIFEST
from ppcls.retrieval.neighbours import Found, ListedNeighbours, Neighbours, StoredNeighbours, load_neighbours
from ppcls.retrieval.predictor import FileBatch, Predictor, example_batch
from ppcls.utils.benchmark_log import BenchmarkLog, environment, package_version
from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger

_SHOWN = 20


@dataclass
class InferenceReport:
    """What :func:`infer` did.

    Attributes:
        images: how many were embedded; failures: (file, reason) of those that could not be read, gallery included.
        benchmark: with ``benchmark``, the figures of :meth:`ppcls.utils.benchmark_log.BenchmarkLog.figures`.
    """

    images: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)
    benchmark: dict[str, float] | None = None


def infer(options: InferOptions) -> InferenceReport:
    """Embed the images, search for each if there is a gallery, write the output file.

    An image that cannot be read is named, left out and counted.

    Raises:
        UserError: no model, no image, no readable image, an unreadable one with ``strict``, a gallery of another model,
            an output that cannot be written. No output file is written then.
    """
    paths = find_images(options.img_path)
    with requested_predictor(options) as predictor:
        run = _Run(options, predictor, paths)
        with open_writer(options.output, model_digest(predictor.model)) as writer:
            run.embed(writer)
            if options.picture:
                run.draw(options.picture)
        run.conclude()
    return run.report


class _Run:
    """One inference in progress."""

    def __init__(self, options: InferOptions, predictor: Predictor, paths: Sequence[Path]):
        self.options, self.predictor, self.paths = options, predictor, paths
        self.report = InferenceReport()
        self.neighbours = self._open_gallery() if options.gallery else None
        self.log = _benchmark_log(options, predictor)
        self.seconds = 0.0
        self._shown: list[tuple[Path, list[str]]] = []

    def embed(self, writer: Writer) -> None:
        """All images through the network, the search and the writer."""
        if self.options.benchmark:
            black = example_batch(self.predictor.model, min(self.options.batch_size, len(self.paths)))
            for _ in range(self.options.warmup):
                self.predictor.run(black)
        clock = time.perf_counter()
        for batch in self._batches(self.paths):
            start = time.perf_counter()
            self._deliver(batch, writer)
            self.log.add(
                len(batch.paths),
                preprocess=batch.preprocess_seconds,
                inference=batch.inference_seconds,
                postprocess=time.perf_counter() - start,
            )
        self.seconds = time.perf_counter() - clock
        if not self.report.images:
            raise UserError(f"none of the {len(self.paths)} images of {self.options.img_path} can be read")

    def draw(self, path: str) -> None:
        """The first queries with their nearest images.

        Raises:
            UserError: the gallery does not know the files of its images, or one of them is gone.
        """
        if not all(source for _, sources in self._shown for source in sources):
            raise UserError(f"--picture: gallery {self.options.gallery} does not know the files of its images")
        rank_list([query for query, _ in self._shown], [sources for _, sources in self._shown], None, path)
        get_logger().info("picture in %s", path)

    def conclude(self) -> None:
        """The last lines."""
        logger = get_logger()
        hidden = self.report.images - _SHOWN
        if self.neighbours is not None and hidden > 0:
            logger.info("… and %d more images; all are in the output file", hidden)
        size = self.predictor.model.output.feature_dim
        logger.info("%d embeddings of size %d in %s", self.report.images, size, self.options.output)
        if self.report.failures:
            logger.warning("%d image(s) could not be read and were left out", len(self.report.failures))
        if self.options.benchmark:
            self.report.benchmark = self.log.figures(self.seconds)
            for line in self.log.lines(self.seconds):
                logger.info("%s", line)

    def _batches(self, paths: Sequence[Path]) -> Iterator[FileBatch]:
        return embedded_batches(self.predictor, paths, self.options, self.report.failures)

    def _deliver(self, batch: FileBatch, writer: Writer) -> None:
        if not batch.paths:
            return
        found = self.neighbours.find(batch.embeddings, self.options.top_k) if self.neighbours is not None else None
        writer.write(batch.paths, batch.embeddings, found)
        for row, path in enumerate(batch.paths):
            if self.options.print_embeddings:
                print(f"{self._name(path)}\t{json.dumps(record(batch.embeddings[row], found, row))}")
            if found is not None and self.report.images + row < _SHOWN:
                self._show(path, found, row)
        self.report.images += len(batch.paths)

    def _show(self, path: Path, found: Found, row: int) -> None:
        get_logger().info("%s", path)
        places = zip(found.distances[row], found.ids[row], found.labels[row], found.paths[row], strict=True)
        for place, (distance, entry, label, source) in enumerate(places, 1):
            named = [f"label {label}"] if label else []
            get_logger().info("  %2d  %.4f  %s", place, distance, "  ".join([*named, source or f"id {entry}"]))
        self._shown.append((path, found.paths[row]))

    def _name(self, path: Path) -> str:
        """Of an image, independent of where its folder lies."""
        source = Path(self.options.img_path)
        folder = source if source.is_dir() else source.parent
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name

    def _open_gallery(self) -> Neighbours:
        source, model = Path(self.options.gallery), self.predictor.model
        if (source / MANIFEST).is_file():
            return StoredNeighbours(Gallery.open(source, model_digest(model)))
        if source.suffix == ".npz":
            return load_neighbours(source, model.output.feature_dim, model_digest(model))
        batches = list(self._batches(find_images(source)))
        paths = [str(path) for batch in batches for path in batch.paths]
        if not paths:
            raise UserError(f"none of the images of --gallery {source} can be read")
        return ListedNeighbours(paths, np.concatenate([batch.embeddings for batch in batches]))


def _benchmark_log(options: InferOptions, predictor: Predictor) -> BenchmarkLog:
    paddle = predictor.backend == "paddle"
    spec = predictor.model.input
    shape = f"3,{spec.height},{spec.width}" if spec.layout == "NCHW" else "dynamic"
    return BenchmarkLog(
        {
            "Env info": environment(),
            "Paddle info": {
                "paddle_version": package_version("paddlepaddle"),
                "backend": predictor.backend,
                "backend_version": predictor.version,
            },
            "Conf info": {
                "runtime_device": predictor.device,
                "ir_optim": True,
                "enable_memory_optim": True if paddle else None,
                "enable_tensorrt": False,
                "enable_mkldnn": options.enable_mkldnn if paddle else None,
                "cpu_math_library_num_threads": predictor.cpu_threads,
                "decoding_threads": options.workers,
            },
            "Model info": {"model_name": predictor.model.name, "precision": predictor.precision},
            "Data info": {"batch_size": options.batch_size, "input_shape": shape},
        }
    )
