"""From settings to a process that serves until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import resource
import signal
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from fastapi import FastAPI
from PIL import Image

from ppcls.configs.serving import ServeOptions
from ppcls.serving.app import create_app, find_token
from ppcls.serving.connections import Connection, connection_class, cut_off_hoarders
from ppcls.serving.logs import event, log_json
from ppcls.utils.errors import UserError

_IDLE_SECONDS = 65
_BACKLOG = 1024
_SPARE_FILES = 128
_LEFT_OVER_SECONDS = 5.0
_ONE_TURN_SECONDS, _LAST_ARRIVALS_SECONDS = 0.01, 0.1


def run_server(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT; finish what was accepted; the exit status.

    Prints ``listening on http://<host>:<port>`` to standard output once requests are answered.

    Raises:
        UserError: the address cannot be had, or there is no usable model, token or index folder.
    """
    if options.workers > 1:
        from ppcls.serving.supervisor import supervise

        return supervise(options)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(bind(options))
        stack.callback(log_json().stop)
        app = create_app(options)
        serve(app, listener, lambda: announce(options, listener))
    return 0


def serve(
    app: FastAPI,
    listener: socket.socket,
    ready: Callable[[], None],
    stop_signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT),
) -> None:
    """Answer requests on a bound socket; ``ready()`` is called when the first can come. Returns after a shutdown."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # --max-pixels is the limit, and it refuses
    Server(app, ready, stop_signals).run(sockets=[listener])


def announce(options: ServeOptions, listener: socket.socket) -> None:
    """Tell people and programs where the service is."""
    event("listening", url=url_of(listener), name=options.name, workers=options.workers)
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback and find_token(options) is None:
        event("open to the network without a token", level=logging.WARNING, mend="give --token-file")
    print(f"listening on {url_of(listener)}", flush=True)


def url_of(listener: socket.socket) -> str:
    """``http://<host>:<port>`` of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bind(options: ServeOptions) -> socket.socket:
    """A listening socket on the address. Callers who come before the model is loaded are answered when it is.

    (Of two services that are started on one port at the same time, one must fail at once, not after loading: the
    system takes note of a port when somebody listens on it.)

    Raises:
        UserError: the port is in use, no such address, too few open files allowed.
    """
    _allow_files(options.max_connections + _SPARE_FILES)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"--host {options.host}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on {options.host} port {options.port}: {error.strerror or error}; "
            "choose another --port (0: a free one) or --host"
        ) from error
    return listener


def grace_seconds(options: ServeOptions) -> float:
    """How long a shutdown may take: a request that is still coming in, then its answer."""
    return options.client_timeout + options.request_timeout + _LEFT_OVER_SECONDS


class Server(uvicorn.Server):
    """uvicorn with our connections, a ready call, and an exit status of its own (it would die of the signal)."""

    def __init__(self, app: FastAPI, ready: Callable[[], None], stop_signals: Sequence[int] = ()) -> None:
        service = app.state.service
        options = service.options
        rejected = service.metrics.rejected.labels("connections")
        config = uvicorn.Config(
            app,
            http=connection_class(options.max_connections, options.client_timeout, rejected.inc),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=1,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=int(grace_seconds(options)),
        )
        super().__init__(config)
        self._ready, self._service, self._stop_signals = ready, service, stop_signals

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """asyncio accepts ``backlog`` connections in one go. With one at a time workers share them evenly; the
        queue that the kernel keeps is made longer afterwards."""
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_BACKLOG)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets in whom the system has accepted already and gives them a moment to send their requests.

        uvicorn would drop them: it tells the connections that it knows now to end, and with the listener go those
        that wait in its queue. One that is just being made would even stay open, and be waited for.
        """
        loop, listeners = asyncio.get_running_loop(), sockets or []
        for listener in listeners:
            loop.remove_reader(listener)
        await asyncio.sleep(_ONE_TURN_SECONDS)  # those that asyncio has taken become connections
        waiting = [connection for listener in listeners for connection in _accept_all(listener)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await loop.connect_accepted_socket(self._new_connection, connection)
        await asyncio.sleep(_LAST_ARRIVALS_SECONDS)
        await super().shutdown(sockets)

    def _new_connection(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def on_tick(self, counter: int) -> bool:
        """Once a second, hang up on clients that take too long or leave too much unread."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            connections = [kept for kept in self.server_state.connections if isinstance(kept, Connection)]
            for connection in connections:
                connection.cut_off_if_overdue(now)
            cut_off_hoarders(connections, self._service.memory.limit)
            self._service.metrics.memory.set(self._service.memory.used)  # for scrapes that another worker answers
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first of the signals ends the service in order, the second at once. Without any, set should_exit."""
        before = {number: signal.signal(number, self._stop) for number in self._stop_signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: object) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        event("stopping", signal=signal.Signals(number).name, at_once=self.force_exit)


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections in the queue of a listener that does not block."""
    with contextlib.suppress(OSError):  # there are no more, or no more files may be opened
        while True:
            yield listener.accept()[0]


def _allow_files(needed: int) -> None:
    """Raise the soft limit on open files where it is too low for the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise UserError(f"--max-connections needs {needed} open files, {hard} are allowed; lower it (ulimit -n)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


__all__ = ["announce", "bind", "grace_seconds", "run_server", "serve", "url_of"]
