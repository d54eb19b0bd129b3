"""Ordered results of jobs that run ahead in threads.

Threads, not processes: Pillow releases the interpreter lock while it decodes and resizes, nothing is copied
between processes, and an exception arrives with its own type and message.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
Job = Callable[[threading.Event], Result]
"""Does one piece of work; it should look at the event now and then and raise `Cancelled` once it is set."""


class Cancelled(Exception):
    """Raised inside a job whose result nobody wants any more."""


def run_ahead(jobs: Iterable[Job[Result]], workers: int) -> Iterator[Result]:
    """Yield the results of `jobs` in order; `workers` threads keep up to `workers` + 1 results ready.

    With 0 workers each job runs when its result is asked for. Work is only handed out when a result is taken,
    so no thread ever waits for the consumer: closing (or dropping) the iterator cancels what is left and
    returns as soon as the running jobs notice.
    """
    stop = threading.Event()
    if workers == 0:
        for job in jobs:
            yield job(stop)
        return
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
    try:
        for job in jobs:
            pending.append(pool.submit(job, stop))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
