"""Images of different requests through the model together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ppcls.serving.logs import LOGGER
from ppcls.serving.problems import InferenceFailed

_BATCH_BYTES = 64 * 1024**2
"""Rows of a batch together; only models that take images of any size ever reach it."""
_PACE_MEMORY = 0.8
"""Weight of what was earlier in a pace."""


def next_pace(pace: float, latest: float) -> float:
    """Moving mean of seconds an image; ``pace`` is 0 before the first."""
    return _PACE_MEMORY * pace + (1 - _PACE_MEMORY) * latest if pace else latest


class _Job:
    """The rows of one request; they may be spread over several batches."""

    def __init__(self, rows: Sequence[np.ndarray], answer: asyncio.Future) -> None:
        self.rows, self.answer = rows, answer
        self.arrived = time.monotonic()
        self.taken = 0
        self.parts: list[np.ndarray] = []

    @property
    def left(self) -> int:
        """Rows that are in no batch yet."""
        return len(self.rows) - self.taken


class Batcher:
    """Collects rows, runs them in one thread, hands each request its own embeddings. Lives on one event loop.

    A batch starts as soon as the model is free and ``max_batch`` images are there, or no other image is on its way
    (:meth:`expect`), or the oldest one has waited ``max_wait`` seconds. A lone request never waits.

    Args:
        run: rows → embeddings [N, D]; called in a thread of its own, one call at a time.
        observe: called after each batch with its images and seconds.
    """

    def __init__(
        self,
        run: Callable[[Sequence[np.ndarray]], np.ndarray],
        max_batch: int,
        max_wait: float,
        observe: Callable[[int, float], None] = lambda images, seconds: None,
    ) -> None:
        self._run, self._max_batch, self._max_wait, self._observe = run, max_batch, max_wait, observe
        self._thread = ThreadPoolExecutor(1, "inference")
        self._jobs: deque[_Job] = deque()
        self._expected = self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._batch: asyncio.Future | None = None
        self._started = self._pace = 0.0

    @property
    def pace(self) -> float:
        """Seconds an image of the latest batches took, a moving mean; 0 before the first batch."""
        return self._pace

    @property
    def waiting(self) -> int:
        """Images that are in no batch yet."""
        return self._waiting

    @property
    def running_for(self) -> float:
        """Seconds since the batch in the model was started; 0 if there is none."""
        return time.monotonic() - self._started if self._batch else 0.0

    def expect(self, images: int) -> None:
        """So many images are being decoded: :meth:`submit` or :meth:`forget` follows."""
        self._expected += images

    def forget(self, images: int) -> None:
        """Images that were expected will not come."""
        self._expected -= images
        self._start_if_due()

    async def submit(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Embeddings [N, D] of images that were expected. If the caller is cancelled, rows in no batch yet are dropped.

        Raises:
            InferenceFailed: the model raised an error for a batch they were in.
        """
        job = _Job(rows, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._waiting += len(rows)
        self._expected -= len(rows)
        self._start_if_due()
        try:
            return await job.answer
        finally:
            if job in self._jobs:
                self._jobs.remove(job)
                self._waiting -= job.left

    async def close(self) -> None:
        """Wait for everything that was submitted, then end the thread."""
        while self._jobs or self._batch:
            await asyncio.sleep(0.01)
        self._thread.shutdown()

    def _start_if_due(self) -> None:
        if self._batch or not self._jobs:
            return
        loop = asyncio.get_running_loop()
        left = self._jobs[0].arrived + self._max_wait - time.monotonic()
        if self._waiting < self._max_batch and self._expected > 0 and left > 0:
            if self._timer is None:
                self._timer = loop.call_later(left, self._on_timer)
            return
        pieces = self._take()
        rows = [row for job, first, last in pieces for row in job.rows[first:last]]
        self._started = time.monotonic()
        self._batch = loop.run_in_executor(self._thread, self._run, rows)
        self._batch.add_done_callback(lambda batch: self._finish(pieces, len(rows), batch))

    def _on_timer(self) -> None:
        self._timer = None
        self._start_if_due()

    def _take(self) -> list[tuple[_Job, int, int]]:
        """(job, first row, last row) of the next batch, oldest first; at least one row."""
        pieces, images, room = [], 0, _BATCH_BYTES
        while self._jobs and images < self._max_batch:
            job = self._jobs[0]
            first = job.taken
            while job.left and images < self._max_batch and (room >= job.rows[job.taken].nbytes or not images):
                room -= job.rows[job.taken].nbytes
                job.taken += 1
                images += 1
            if job.taken > first:
                pieces.append((job, first, job.taken))
            if job.left:
                break
            self._jobs.popleft()
        self._waiting -= images
        return pieces

    def _finish(self, pieces: list[tuple[_Job, int, int]], images: int, batch: asyncio.Future) -> None:
        seconds, self._batch = time.monotonic() - self._started, None
        self._start_if_due()  # first, so that the model is not idle while the answers are handed out
        self._observe(images, seconds)
        self._pace = next_pace(self._pace, seconds / images)
        error, first = batch.exception(), 0
        if error is not None:
            LOGGER.error("the model failed on a batch of %d images", images, exc_info=error)
            _fail(pieces, error)
            return
        for job, start, end in pieces:
            job.parts.append(batch.result()[first : first + end - start])
            first += end - start
            if end == len(job.rows) and not job.answer.done():
                job.answer.set_result(np.concatenate(job.parts) if len(job.parts) > 1 else job.parts[0])


def _fail(pieces: list[tuple[_Job, int, int]], error: BaseException) -> None:
    for job, _start, _end in pieces:
        if not job.answer.done():
            problem = InferenceFailed("the model failed; the service's log says why")
            problem.__cause__ = error
            job.answer.set_exception(problem)
