"""The whole job of ``pipeline_http_client.py``: files → requests → embeddings, printed or saved."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from ppcls.configs.paddle_serving import ClientOptions
from ppcls.engine.inference_output import record
from ppcls.retrieval import find_images, save_embeddings
from ppcls.serving.client import PipelineClient, read_token
from ppcls.serving.protocol import ErrNo, ServingError
from ppcls.utils.command import EXIT_OK, EXIT_PROBLEMS
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_text
from ppcls.utils.logger import get_logger

_SHOWN, _LONGEST = 4, 500


def embed_files(options: ClientOptions) -> int:
    """Send every image, report each one that the service refuses, and return the exit status: 1 if any was refused.

    Raises:
        UserError: no image there, no token in its file, no service at the address, no image accepted.
    """
    token = read_token(options.token_file) if options.token_file else None
    client = PipelineClient(options.url, token, options.timeout)
    files = list(dict.fromkeys(path for source in options.image for path in find_images(source)))
    log = get_logger()
    done: list[tuple[Path, np.ndarray]] = []
    for start in range(0, len(files), options.batch_size):
        for paths, answer in _ask(client, files[start : start + options.batch_size], options.logid + start):
            if isinstance(answer, ServingError):
                more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
                _complain(f"{paths[0]}{more}: refused: {answer}")
                continue
            done += zip(paths, answer, strict=True)
            if options.output is None:
                log.info("\n".join(_line(path, row) for path, row in zip(paths, answer, strict=True)))
    if not done:
        raise UserError(f"{options.url} accepted none of {len(files)} images")
    _save(options.output, done)
    if options.output not in (None, "-"):
        log.info(f"{len(done)} embeddings of {len(done[0][1])} numbers: {options.output}")
    if len(done) < len(files):
        _complain(f"{len(files) - len(done)} of {len(files)} images were refused")
    return EXIT_OK if len(done) == len(files) else EXIT_PROBLEMS


def _ask(client: PipelineClient, files: list[Path], logid: int) -> list[tuple[list[Path], np.ndarray | ServingError]]:
    """What became of the files: embeddings, or why not. A batch refused for its input is sent again image by image."""
    images = [path.read_bytes() for path in files]
    try:
        return [(files, client.embed(images, logid))]
    except ServingError as error:
        if error.err_no != ErrNo.INPUT or len(files) == 1:
            return [(files, error)]
    return [answer for path in files for answer in _ask(client, [path], logid)]


def _complain(text: str) -> None:
    """One line on standard error, however long the text: Paddle's own errors come with a stack of C++ calls."""
    text = " ".join(text.split())
    print(text if len(text) <= _LONGEST else text[:_LONGEST] + " …", file=sys.stderr)


def _line(path: Path, embedding: np.ndarray) -> str:
    some = ", ".join(f"{value:.4f}" for value in embedding[:_SHOWN])
    more = ", …" if len(embedding) > _SHOWN else ""
    return f"{path}\t{len(embedding)} numbers of norm {np.linalg.norm(embedding):.4f}: [{some}{more}]"


def _save(output: str | None, done: list[tuple[Path, np.ndarray]]) -> None:
    if output is None:
        return
    if output.endswith(".npz"):
        save_embeddings(output, [path for path, _ in done], np.stack([embedding for _, embedding in done]))
        return
    lines = "".join(json.dumps({"path": str(path), **record(embedding, None, 0)}) + "\n" for path, embedding in done)
    if output == "-":
        print(lines, end="")
    else:
        atomic_write_text(output, lines)
