"""Several workers on one address: started together, replaced when they die, stopped together."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ppcls.configs.exported import SIDECAR, read_exported
from ppcls.configs.serving import ServeOptions
from ppcls.serving.logs import event, log_json
from ppcls.serving.metrics import SHARED_FOLDER
from ppcls.serving.server import announce, bind, grace_seconds, serve
from ppcls.utils.command import EXIT_PROBLEMS, EXIT_USAGE
from ppcls.utils.errors import UserError
from ppcls.utils.tuning import apply_cpu_tuning

_READY = "ready"
_LONGEST_PAUSE = 30.0
_LIVED_WELL = 30.0
_TICK = 0.5


def supervise(options: ServeOptions) -> int:
    """Run ``options.workers`` processes until SIGTERM or SIGINT; the exit status.

    Raises:
        UserError: as :func:`ppcls.serving.server.run_server`.
    """
    listening_log = log_json()
    try:
        with bind(options) as listener, _shared_folder(options) as folder:
            try:
                return _Supervisor(options.model_copy(update={"model_dir": str(folder)}), listener).run()
            except UserError as error:
                raise UserError(str(error).replace(str(folder), options.model_dir)) from error
    finally:
        listening_log.stop()


class _Worker:
    """One process and our end of the pipe to it."""

    def __init__(self, options: ServeOptions, listener: socket.socket) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=work, args=(options.model_dump(), listener, far_end), daemon=False)
        self.started = time.monotonic()
        self.ready = False
        self.process.start()
        far_end.close()

    def first_words(self) -> str | None:
        """What the worker said since its start: "ready", an error, or None."""
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except EOFError:
            return None


class _Supervisor:
    def __init__(self, options: ServeOptions, listener: socket.socket) -> None:
        self._options, self._listener = options, listener
        self._workers: list[_Worker] = []
        self._stopping = 0
        self._pause, self._not_before = 1.0, 0.0

    def run(self) -> int:
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._workers = [_Worker(self._options, self._listener) for _ in range(self._options.workers)]
            problem = self._wait_for_all()
            if problem is not None:
                raise UserError(problem)
            if not self._stopping:
                announce(self._options, self._listener)
            while not self._stopping:
                self._watch()
            return self._end()
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: object) -> None:
        self._stopping += 1
        event("stopping", signal=signal.Signals(number).name, at_once=self._stopping > 1)
        if self._stopping > 1:  # the first one is passed on by _end: a worker that hears it twice drops its requests
            for worker in self._workers:
                worker.process.terminate()

    def _wait_for_all(self) -> str | None:
        """Until every worker is ready; the message of the first that cannot start."""
        while not self._stopping and not all(worker.ready for worker in self._workers):
            self._sleep_until_something_happens()
            for worker in self._workers:
                said = worker.first_words()
                worker.ready = worker.ready or said == _READY
                if said not in (None, _READY):
                    return said
                if not worker.process.is_alive() and not worker.ready:
                    return f"a worker ended with status {worker.process.exitcode} before it was ready"
        return None

    def _watch(self) -> None:
        """Replace the dead; after several short lives, less and less often."""
        self._sleep_until_something_happens()
        for worker in list(self._workers):
            said = worker.first_words()
            if said == _READY:
                worker.ready = True
                event("worker ready", worker=worker.process.pid)
            elif said is not None:
                event("worker failed", worker=worker.process.pid, error=said)
            if worker.process.is_alive():
                continue
            self._bury(worker)
            self._pause = (
                1.0 if time.monotonic() - worker.started > _LIVED_WELL else min(2 * self._pause, _LONGEST_PAUSE)
            )
            self._not_before = time.monotonic() + (self._pause if not worker.ready else 0.0)
        missing = self._options.workers - len(self._workers)
        if missing and time.monotonic() >= self._not_before and not self._stopping:
            self._workers += [_Worker(self._options, self._listener) for _ in range(missing)]

    def _bury(self, worker: _Worker) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        mark_process_dead(worker.process.pid)
        event("worker ended", worker=worker.process.pid, status=worker.process.exitcode)

    def _sleep_until_something_happens(self) -> None:
        pipes = [worker.pipe for worker in self._workers if not worker.ready]
        wait([*(worker.process.sentinel for worker in self._workers), *pipes], _TICK)

    def _end(self) -> int:
        """Stop all workers, by force after the grace period; 0 if all that had begun to serve ended in order."""
        self._listener.close()  # the last one that is open: who comes now is refused, not kept waiting
        deadline = time.monotonic() + grace_seconds(self._options) + 1
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        for worker in self._workers:
            worker.ready = worker.ready or worker.first_words() == _READY
        statuses, self._workers = [worker.process.exitcode for worker in self._workers if worker.ready], []
        return 0 if not any(statuses) else EXIT_PROBLEMS


def work(settings: dict, listener: socket.socket, pipe: Connection) -> None:
    """A worker's life; runs in a process of its own."""
    apply_cpu_tuning()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor passes it on once
    from ppcls.serving.app import create_app

    log = log_json()
    try:
        app = create_app(ServeOptions(**settings))
    except UserError as error:
        log.stop()
        pipe.send(str(error))
        sys.exit(EXIT_USAGE)
    threading.Thread(target=_end_with_supervisor, args=(pipe,), daemon=True).start()
    serve(app, listener, lambda: pipe.send(_READY), stop_signals=[signal.SIGTERM])
    log.stop()


def _end_with_supervisor(pipe: Connection) -> None:
    """A supervisor that was killed closes the pipe: stop as if it had asked for it."""
    try:
        pipe.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _shared_folder(options: ServeOptions) -> Iterator[Path]:
    """A folder with a copy of the model and the workers' figures.

    Workers that are started later must load what the first ones loaded, also if the files have been replaced since:
    embeddings of two models do not compare.
    """
    source = Path(options.model_dir)
    model = read_exported(source)
    with tempfile.TemporaryDirectory(prefix="ppcls-serving-") as name:
        folder = Path(name) / source.resolve().name
        folder.mkdir()
        for file in {SIDECAR, *(name for graph in model.graphs for name in (graph.model, graph.params) if name)}:
            if Path(file).name == file and (source / file).is_file():
                shutil.copyfile(source / file, folder / file)
        figures = Path(name) / "figures"
        figures.mkdir()
        os.environ[SHARED_FOLDER] = str(figures)
        try:
            yield folder
        finally:
            del os.environ[SHARED_FOLDER]
