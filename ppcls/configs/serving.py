"""Options of the HTTP service."""

from __future__ import annotations

import re

from pydantic import field_validator, model_validator

from ppcls.configs.options import option
from ppcls.configs.predictor import PredictorOptions

_MODEL, _ADDRESS, _BATCH, _LIMITS, _INDEX = "model", "address", "batching", "limits", "indexes"

#: Environment variable that may hold the bearer token instead of a file.
TOKEN_VARIABLE = "PPCLS_SERVING_TOKEN"


class ServeOptions(PredictorOptions):
    """``deploy/serving/app.py``: one exported model as an HTTP service."""

    cpu_threads: int = option(
        0,
        "--cpu-threads",
        help="inference threads of each worker; 0: the cores, shared by the workers",
        group=_MODEL,
        ge=0,
    )

    host: str = option(
        "127.0.0.1", "--host", help="address to listen on; 0.0.0.0 for all, as inside a container", group=_ADDRESS
    )
    port: int = option(
        18080, "--port", help="TCP port; 0: a free one, which is printed", group=_ADDRESS, ge=0, le=65535
    )
    name: str = option("reid", "--name", help="service name: POST /<name>/prediction", group=_ADDRESS)
    workers: int = option(
        1, "--workers", help="processes; each holds the model, one that dies is replaced", group=_ADDRESS, ge=1, le=256
    )
    token_file: str | None = option(
        None,
        "--token-file",
        help=f"file with a bearer token that every request must carry (or the variable {TOKEN_VARIABLE})",
        group=_ADDRESS,
    )

    max_batch: int = option(16, "--max-batch", help="images of different requests run together", group=_BATCH, ge=1)
    max_wait_ms: float = option(
        5.0, "--max-wait-ms", help="how long an image may wait for others that are being decoded", group=_BATCH, ge=0
    )
    decode_threads: int = option(2, "--decode-threads", help="decoding threads of each worker", group=_BATCH, ge=1)

    max_queue: int = option(
        256, "--max-queue", help="images accepted and not yet answered, in each worker", group=_LIMITS, ge=1
    )
    max_body_mb: float = option(16.0, "--max-body-mb", help="largest request body, in MiB", group=_LIMITS, gt=0)
    max_memory_mb: float = option(
        512.0,
        "--max-memory-mb",
        help="bodies and prepared images in memory, in each worker, in MiB",
        group=_LIMITS,
        gt=0,
    )
    max_pixels: int = option(16_777_216, "--max-pixels", help="largest image, width times height", group=_LIMITS, ge=1)
    max_connections: int = option(512, "--max-connections", help="open connections of each worker", group=_LIMITS, ge=1)
    request_timeout: float = option(
        30.0, "--request-timeout", help="seconds from the whole request to its answer", group=_LIMITS, gt=0
    )
    client_timeout: float = option(
        20.0, "--client-timeout", help="seconds a client may take to send a request or to read on", group=_LIMITS, gt=0
    )

    index_dir: str | None = option(
        None, "--index-dir", help="folder of the galleries; without it there are no index routes", group=_INDEX
    )
    default_index: str | None = option(
        None, "--default-index", help="indexKey of requests that name none", group=_INDEX
    )
    max_indexes: int = option(100, "--max-indexes", help="galleries in the folder", group=_INDEX, ge=1)
    max_index_images: int = option(100_000, "--max-index-images", help="images in a gallery", group=_INDEX, ge=1)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            raise ValueError(f"'{name}' does not fit into a URL; use up to 64 letters, digits, '.', '_' and '-'")
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> ServeOptions:
        if 2 * self.max_body_mb > self.max_memory_mb:  # a body is there twice: as it came, and as text
            raise ValueError("--max-memory-mb must be at least twice --max-body-mb")
        if self.default_index and not self.index_dir:
            raise ValueError("--default-index needs --index-dir")
        return self
