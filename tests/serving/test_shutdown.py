"""Told to stop: everybody who was let in is answered, nobody is waited for who has nothing to say."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import requests

from tests.serving.conftest import embedding_of, pairs, rows_of
from tests.serving.test_overload import IMAGES, all_of, head, occupied, status_of, wait_until


def test_shutdown_finishes_what_was_accepted(serve):
    server = serve()
    accepted = [occupied(server), *(server.in_background(image) for image in IMAGES[1:5])]
    wait_until(lambda: server.service.images.used == 5)
    server.server.should_exit = True
    wait_until(lambda: not server.server.servers[0].is_serving())
    with pytest.raises(requests.ConnectionError):
        server.predict(IMAGES[5])
    server.predictor.gate.set()
    for image, request in zip(IMAGES, accepted, strict=False):
        np.testing.assert_allclose(rows_of(request.result().json()), embedding_of(image)[None], rtol=1e-5)
    server.thread.join(10)
    assert not server.thread.is_alive() and server.predictor.closed


def test_shutdown_answers_and_closes_who_came_at_that_moment(serve):
    """Accepted in the same turn of the loop in which the service is told to stop; it does not hang up by itself."""
    server, body = serve(), json.dumps(pairs(IMAGES[0])).encode()
    with server.connect() as known:
        wait_until(lambda: server.server.server_state.connections)
        (kept,) = server.server.server_state.connections
        kept.loop.call_soon_threadsafe(time.sleep, 0.5)
        with server.connect() as late:
            late.sendall(head(server, len(body)) + body)
            server.server.should_exit = True
            assert status_of(late) == 200
            server.thread.join(10)
            assert not server.thread.is_alive()
        assert all_of(known) == b""


def test_shutdown_answers_whom_the_system_has_accepted(serve):
    """Connections in the listener's queue, which the service has not even seen when it is told to stop."""
    server, body = serve(), json.dumps(pairs(IMAGES[0])).encode()
    with server.connect() as known:
        wait_until(lambda: server.server.server_state.connections)
        (kept,) = server.server.server_state.connections
        kept.loop.call_soon_threadsafe(time.sleep, 0.5)
        waiting = [server.connect() for _ in range(12)]
        for connection in waiting:
            connection.sendall(head(server, len(body)) + body)
        server.server.should_exit = True
        assert [status_of(connection) for connection in waiting] == [200] * 12
        assert known.recv(1) == b""
    server.thread.join(10)
    assert not server.thread.is_alive()
    for connection in waiting:
        connection.close()
