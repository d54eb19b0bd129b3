"""What the routes share: the model behind its batcher, the limits, the decoding threads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import anyio
import numpy as np

from ppcls.configs.serving import ServeOptions
from ppcls.retrieval.predictor import Predictor, embed_rows, preprocess
from ppcls.serving.batcher import Batcher, next_pace
from ppcls.serving.images import read_image
from ppcls.serving.limits import Budget, Share
from ppcls.serving.metrics import Metrics
from ppcls.serving.problems import BadRequest, Busy, InferenceFailed, TimedOut, TooLarge

Result = TypeVar("Result")
_MIB = 1024**2
_SMALL = 64 * 1024
_PROMISED = 0.5
"""Share of the request timeout that the queue may take at the present pace: what is accepted must be answered."""


class Service:
    """One loaded model, ready to embed images of many requests at once.

    Args:
        options: limits and batching.
        predictor: the loaded model; closed by :meth:`close`.
        digest: of its graph's files, as loaded.
    """

    def __init__(self, options: ServeOptions, predictor: Predictor, digest: str, metrics: Metrics) -> None:
        self.options, self.predictor, self.digest, self.metrics = options, predictor, digest, metrics
        self.images = Budget(options.max_queue, "all places in the queue are")
        self.memory = Budget(int(options.max_memory_mb * _MIB), "the memory for requests is")
        self._prepare_image = preprocess(predictor.model)
        self._threads = ThreadPoolExecutor(options.decode_threads, "decode")
        self._decoding_pace = 0.0
        self._batcher = Batcher(self._run, options.max_batch, options.max_wait_ms / 1000, metrics.observe_batch)
        metrics.model.labels(predictor.model.name, digest, predictor.backend).set(1)

    @property
    def stuck_for(self) -> float:
        """Seconds by which the batch in the model exceeds the request timeout; 0 if all is well."""
        return max(0.0, self._batcher.running_for - self.options.request_timeout)

    async def in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """``work(*arguments)`` in a decoding thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def light(self, work: Callable[[bytes], Result], body: bytes) -> Result:
        """``work(body)``: at once if the body is small, else in a thread; parsing 64 KiB takes less than a switch."""
        return work(body) if len(body) <= _SMALL else await self.in_thread(work, body)

    @contextlib.asynccontextmanager
    async def place(self, images: int) -> AsyncIterator[None]:
        """Room in the queue for a request's images, and the time it may take.

        Raises:
            TooLarge, Busy: no room, or those before it would use up the time; TimedOut: the time is over.
        """
        if images > self.images.limit:
            raise TooLarge(f"{images} images in one request; at most {self.images.limit} are accepted")
        with Share(self.images) as share:
            share.take(images)
            before = self.images.used - images
            pace = max(self._batcher.pace, self._decoding_pace)
            if before and self.images.used * pace > _PROMISED * self.options.request_timeout:
                raise Busy(f"the service is busy: {before} image(s) are before this request; try again in a moment")
            self.metrics.queue.inc(images)
            try:
                with anyio.move_on_after(self.options.request_timeout) as limit:
                    yield
            finally:
                self.metrics.queue.dec(images)
            if limit.cancelled_caught:
                raise TimedOut(f"no answer within {self.options.request_timeout:g} s")

    async def embed(self, images: Sequence[tuple[str, str]], memory: Share) -> np.ndarray:
        """Embeddings float32 [N, D] of (name for messages, base64 text) pairs; call it within :meth:`place`.

        Raises:
            BadRequest: an image that cannot be used, by its name; InferenceFailed: the model's fault.
        """
        count = len(images)
        self._batcher.expect(count)
        try:
            work = [self.in_thread(self._prepare, name, text, memory) for name, text in images]
            prepared = await asyncio.gather(*work, return_exceptions=True)
            for row in prepared:
                if isinstance(row, BaseException):
                    raise row
        except BaseException:
            self._batcher.forget(count)
            raise
        features = await self._batcher.submit(prepared)
        if not np.isfinite(features).all():
            raise InferenceFailed("the model gave numbers that are not finite")
        self.metrics.images.inc(count)
        return features

    async def close(self) -> None:
        """Finish the accepted requests, free the model. No new ones may come: the server has stopped accepting."""
        await self._batcher.close()
        self._threads.shutdown()
        self.predictor.close()

    def _prepare(self, name: str, text: str, memory: Share) -> np.ndarray:
        start = time.monotonic()
        try:
            row = self._prepare_image(read_image(text, self.options.max_pixels))
        except BadRequest as problem:
            raise BadRequest(f"{name}: {problem}") from problem
        finally:
            latest = (time.monotonic() - start) / self.options.decode_threads
            self._decoding_pace = next_pace(self._decoding_pace, latest)
        memory.take(row.nbytes)
        return row

    def _run(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        return embed_rows(self.predictor, rows)
