"""What the jobs on exported models share: a predictor as the options ask for it, and files embedded by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ppcls.configs.inference import FilesOptions
from ppcls.configs.predictor import PredictorOptions
from ppcls.retrieval.predictor import FileBatch, Predictor, embed_files, open_predictor
from ppcls.utils.logger import get_logger


def requested_predictor(options: PredictorOptions) -> Predictor:
    """:func:`ppcls.retrieval.predictor.open_predictor` with a command's options."""
    return open_predictor(
        options.model_dir,
        options.backend,
        use_gpu=options.use_gpu,
        cpu_threads=options.cpu_threads,
        enable_mkldnn=options.enable_mkldnn,
        precision=options.precision,
    )


def embedded_batches(
    predictor: Predictor, paths: Sequence[Path], options: FilesOptions, failures: list[tuple[Path, str]]
) -> Iterator[FileBatch]:
    """:func:`ppcls.retrieval.predictor.embed_files` with a command's options.

    Files that cannot be read are named in the log and added to ``failures``.
    """
    for batch in embed_files(
        predictor, paths, batch_size=options.batch_size, workers=options.workers, strict=options.strict
    ):
        for _, reason in batch.failures:
            get_logger().warning("left out: %s", reason)
        failures += batch.failures
        yield batch
