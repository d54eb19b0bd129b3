"""More than the service can take: it refuses early, keeps what it accepted, forgets nobody, and recovers."""

from __future__ import annotations

import json
import socket
import threading
import time

import numpy as np
import pytest
import requests

from ppcls.serving import service
from ppcls.serving.limits import Budget, Share
from ppcls.serving.problems import Busy
from tests.serving.conftest import Running, embedding_of, pairs, picture, rows_of

IMAGES = [picture(seed) for seed in range(8)]


def wait_until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def occupied(server: Running):
    """A request that stays in the model until the gate opens."""
    server.predictor.gate.clear()
    first = server.in_background(IMAGES[0])
    assert server.predictor.entered.acquire(timeout=10)
    return first


def head(server: Running, length: int | None, more: str = "") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST /reid/prediction HTTP/1.1\r\nHost: x\r\n{size}\r\n{more}\r\n".encode()


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(65536).split(b" ", 2)[1])


def all_of(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection, which is the server's doing."""
    received = b""
    with connection:
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass
    return received


def test_a_full_queue_refuses_and_keeps_its_promises(serve):
    server = serve(max_queue=4, max_batch=2)
    accepted = [occupied(server), server.in_background(*IMAGES[1:4])]
    wait_until(lambda: server.service.images.used == 4)
    refused = server.post("/reid/prediction", pairs(IMAGES[5]))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["err_no"] == 51 and refused.json()["key"] == []
    other = server.post("/reid-embed", {"image": IMAGES[5]})
    assert (other.status_code, other.json()["errorCode"], other.headers["retry-after"]) == (503, 503, "1")
    assert requests.get(f"{server.url}/health", timeout=9).status_code == 200
    assert (server.figure("reid_queue_images"), server.figure('reid_rejected_total{reason="busy"')) == (4, 2)
    server.predictor.gate.set()
    np.testing.assert_allclose(rows_of(accepted[0].result().json()), embedding_of(IMAGES[0])[None], rtol=1e-5)
    assert rows_of(accepted[1].result().json()).shape[0] == 3
    assert server.predict(IMAGES[5])["err_no"] == 0
    assert server.service.images.used == server.service.memory.used == 0


def test_a_slow_model_shortens_the_queue(serve):
    """What is accepted must be answered in time, on slow machines too: at 0.4 s an image, 2 s promise two images."""
    server = serve(max_queue=64, max_batch=1, request_timeout=2.0)
    server.predictor.gate.clear()
    first = server.in_background(IMAGES[0])
    assert server.predictor.entered.acquire(timeout=10)
    time.sleep(0.4)
    server.predictor.gate.set()
    assert first.result().json()["err_no"] == 0

    waiting = occupied(server)
    wait_until(lambda: server.service.images.used == 1)
    refused = server.post("/reid/prediction", pairs(*IMAGES[1:4]))
    assert (refused.status_code, refused.json()["err_no"]) == (503, 51)
    assert "1 image(s) are before" in refused.json()["err_msg"]
    assert server.service.images.used == 1
    server.predictor.gate.set()
    assert waiting.result().json()["err_no"] == 0
    assert server.predict(*IMAGES[1:4])["err_no"] == 0  # with nobody before it a request is always tried


def test_slow_decoding_shortens_the_queue(serve, monkeypatch):
    """As above, with large pictures before a fast model: at 0.4 s a picture."""
    server = serve(max_queue=64, decode_threads=1, request_timeout=2.0)
    read_image = service.read_image
    monkeypatch.setattr(service, "read_image", lambda *how: time.sleep(0.4) or read_image(*how))
    assert server.predict(IMAGES[0])["err_no"] == 0
    assert server.predictor.entered.acquire(timeout=10)  # that one's, so that the next is waited for
    waiting = occupied(server)
    wait_until(lambda: server.service.images.used == 1)
    refused = server.post("/reid/prediction", pairs(*IMAGES[1:4]))
    assert (refused.status_code, refused.json()["err_no"]) == (503, 51)
    server.predictor.gate.set()
    assert waiting.result().json()["err_no"] == 0


def test_ten_times_too_much(serve):
    """Every request is answered: with its own embedding, or with a refusal. Nothing is lost, and all is well after."""
    server = serve(max_queue=6, max_batch=4)
    answers: list[tuple[int, int, requests.Response]] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        for turn in range(3):
            image = (number + turn) % len(IMAGES)
            answer = server.post("/reid/prediction", pairs(IMAGES[image]))
            with lock:
                answers.append((number, image, answer))

    server.predictor.gate.clear()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) >= 100)  # all but the six accepted ones are refused again and again
    server.predictor.gate.set()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 180
    served = [(image, answer) for _, image, answer in answers if answer.status_code == 200]
    assert len(served) >= 6
    for image, answer in served:
        np.testing.assert_allclose(rows_of(answer.json()), embedding_of(IMAGES[image])[None], rtol=1e-5)
    assert {answer.status_code for _, _, answer in answers} == {200, 503}
    assert server.figure("reid_images_total") == len(served)
    assert server.figure('reid_rejected_total{reason="busy"') == 180 - len(served)
    assert server.service.images.used == server.service.memory.used == 0
    assert server.predict(*IMAGES[:6])["err_no"] == 0


def test_requests_of_many_clients_share_batches(serve):
    server = serve(max_batch=8)
    first = occupied(server)
    others = [server.in_background(image) for image in IMAGES[1:]]
    wait_until(lambda: server.service._batcher.waiting == 7)
    server.predictor.gate.set()
    for image, request in zip(IMAGES, [first, *others], strict=True):
        np.testing.assert_allclose(rows_of(request.result().json()), embedding_of(image)[None], rtol=1e-5)
    assert server.predictor.batches == [1, 7]


def test_more_images_than_could_ever_be_taken(serve):
    server = serve(max_queue=3)
    answer = server.post("/reid/prediction", pairs(*IMAGES[:4]))
    assert (answer.status_code, answer.json()["err_no"]) == (413, 5000)
    assert "at most 3" in server.post("/reid-embed", {"images": IMAGES[:4]}).json()["errorMsg"]


def test_an_image_that_takes_too_long(serve):
    server = serve(request_timeout=0.3)
    stuck = occupied(server)
    answer = server.post("/reid-embed", {"image": IMAGES[1]})
    assert (answer.status_code, answer.json()["errorCode"]) == (504, 504)
    late = stuck.result()
    assert (late.status_code, late.json()["err_no"]) == (200, 6000)
    wait_until(lambda: requests.get(f"{server.url}/health", timeout=9).status_code == 503)
    server.predictor.gate.set()
    wait_until(lambda: requests.get(f"{server.url}/health", timeout=9).status_code == 200)
    assert server.predictor.batches == [1]  # the late one was dropped
    assert server.predict(IMAGES[2])["err_no"] == 0


def test_a_caller_who_hangs_up_is_dropped(serve):
    server = serve()
    first = occupied(server)
    body = json.dumps(pairs(*IMAGES[1:5])).encode()
    with server.connect() as connection:
        connection.sendall(head(server, len(body)) + body)
        wait_until(lambda: server.service._batcher.waiting == 4)
    wait_until(lambda: server.service._batcher.waiting == 0)
    wait_until(lambda: server.service.images.used == 1)
    server.predictor.gate.set()
    assert first.result().status_code == 200
    assert server.predictor.batches == [1]


@pytest.mark.parametrize("chunked", [False, True])
def test_fifty_megabytes(serve, chunked):
    """Refused without being read into memory, whether the size is announced or not."""
    server = serve(max_body_mb=1)
    block = b"A" * 65536
    sent = 0

    def blocks():
        nonlocal sent
        while sent < 50 * 2**20:
            sent += len(block)
            yield block

    if not chunked:
        answer = server.post("/reid/prediction", headers={"Expect": "100-continue"}, data=b"A" * (50 * 2**20))
        assert (answer.status_code, answer.json()["err_no"]) == (413, 5000)
    else:
        try:
            answer = server.post("/reid-embed", data=blocks(), headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["errorCode"]) == (413, 413)
        except requests.ConnectionError:  # the answer was there, and this client would not look while it sent
            pass
    assert server.figure('reid_rejected_total{reason="size"') == 1
    assert server.service.memory.used == 0
    assert server.predict(IMAGES[0])["err_no"] == 0


def test_announced_size_is_refused_before_the_body(serve):
    server = serve(max_body_mb=1)
    with server.connect() as connection:
        connection.sendall(head(server, 50 * 2**20, "Expect: 100-continue\r\n"))
        assert status_of(connection) == 413


def test_expected_continue_comes(serve):
    server = serve()
    body = json.dumps(pairs(IMAGES[0])).encode()
    with server.connect() as connection:
        connection.sendall(head(server, len(body), "Expect: 100-continue\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert status_of(connection) == 200


def test_bodies_together_stay_within_the_memory(serve):
    """Many half-sent bodies: the one too many is refused, and those before it are answered."""
    server = serve(max_body_mb=1, max_memory_mb=2)
    body = json.dumps({**pairs(IMAGES[0]), "clientip": "x" * 300_000}).encode()
    connections = [server.connect() for _ in range(3)]
    for connection in connections:
        connection.sendall(head(server, len(body)) + body[:-10])
    wait_until(lambda: server.service.memory.used > 3 * 2 * 290_000)
    with server.connect() as one_more:
        one_more.sendall(head(server, len(body)) + body)
        assert status_of(one_more) == 503
    for connection in connections:
        connection.sendall(body[-10:])
        assert status_of(connection) == 200
        connection.close()
    wait_until(lambda: server.service.memory.used == 0)


def test_prepared_images_count_as_memory(serve):
    server = serve(max_body_mb=0.02, max_memory_mb=0.04)
    small = [picture(0)] * 4
    refused = server.post("/reid/prediction", pairs(*[picture(0)] * 70))
    assert refused.status_code == 503 and "memory" in refused.json()["err_msg"]
    assert server.predict(*small)["err_no"] == 0
    assert server.service.memory.used == 0


def test_slow_clients_are_not_waited_for(serve):
    server = serve(client_timeout=0.4)
    silent, slow_head, slow_body = server.connect(), server.connect(), server.connect()
    slow_head.sendall(b"POST /reid/prediction HTTP/1.1\r\nHost: x\r\n")
    slow_body.sendall(head(server, 1000) + b"{")
    assert server.predict(IMAGES[0])["err_no"] == 0  # nobody else is held up
    answer = all_of(slow_body)
    assert answer.startswith(b"HTTP/1.1 408") and b'"err_no":6000' in answer
    assert all_of(silent) == all_of(slow_head) == b""
    wait_until(lambda: not server.server.server_state.connections)


def test_a_client_that_does_not_read_is_cut_off(serve, monkeypatch):
    """It asks for more and more and reads nothing: what is kept for it is bounded, and so is the time."""
    monkeypatch.setattr("ppcls.serving.connections._SLOWEST_READER", 10**7)
    server = serve(client_timeout=0.3)
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wait_until(lambda: server.server.server_state.connections)
        (kept,) = server.server.server_state.connections
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
        most = 0
        while kept in server.server.server_state.connections:
            most = max(most, kept.transport.get_write_buffer_size())
            time.sleep(0.005)
    assert 0 < most < 2**20
    assert server.predict(IMAGES[0])["err_no"] == 0


def test_too_many_connections(serve):
    server = serve(max_connections=3)
    held = [server.connect() for _ in range(3)]
    wait_until(lambda: len(server.server.server_state.connections) == 3)
    with server.connect() as one_more:
        assert status_of(one_more) == 503
    held.pop().close()
    wait_until(lambda: len(server.server.server_state.connections) == 2)
    assert server.predict(IMAGES[0])["err_no"] == 0
    assert server.figure('reid_rejected_total{reason="connections"') == 1
    for connection in held:
        connection.close()


@pytest.mark.parametrize(
    "rubbish",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"\0" * 100]
    + [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"]
    + [b"POST /reid/p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", b"GET /" + b"a" * 100_000],
)
def test_what_is_no_http_ends_its_own_connection_only(shared, rubbish):
    with shared.connect() as connection:
        connection.sendall(rubbish)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 4"))
    assert shared.predict(IMAGES[0])["err_no"] == 0


def test_pipelined_requests_are_answered_in_order(shared):
    body = json.dumps(pairs(IMAGES[0])).encode()
    with shared.connect() as connection:
        for number in range(3):
            connection.sendall(head(shared, len(body), f"X-Request-Id: r{number}\r\n") + body)
        answer = b""
        while answer.count(b"x-request-id") < 3:
            answer += connection.recv(65536)
    assert [answer.index(b"x-request-id: r%d" % number) for number in range(3)] == sorted(
        answer.index(b"x-request-id: r%d" % number) for number in range(3)
    )


def test_what_nobody_reads_is_bounded_together(serve, monkeypatch):
    server = serve(max_body_mb=0.2, max_memory_mb=0.4)
    with server.connect() as greedy, server.connect() as modest:
        wait_until(lambda: len(server.server.server_state.connections) == 2)
        for connection in (greedy, modest):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        by_port = {kept.client[1]: kept for kept in server.server.server_state.connections}
        large, small = (by_port[connection.getsockname()[1]] for connection in (greedy, modest))
        small.loop.call_soon_threadsafe(large.transport.write, b"x" * 8 * 2**20)  # far more than a socket takes in
        wait_until(lambda: large not in server.server.server_state.connections)
        assert small in server.server.server_state.connections
    assert server.predict(IMAGES[0])["err_no"] == 0


@pytest.mark.parametrize("values", [b'"images":[' + b"1," * 400_000, b'"images":[' + b"[]," * 300_000])
def test_millions_of_values(serve, values):
    """As objects they would take a hundred times the memory of the body."""
    server = serve()
    for route, error in (("/reid/prediction", "err_no"), ("/reid-embed", "errorCode")):
        answer = server.post(route, data=b"{" + values + b"1]}", headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()[error]) == (413, 5000 if error == "err_no" else 413)
    assert server.service.memory.used == 0


def test_budget():
    budget = Budget(10, "all bytes are")
    with Share(budget) as first, Share(budget) as second:
        first.take(6)
        with pytest.raises(Busy, match="all bytes are used up"):
            second.take(5)
        second.take(4)
        assert budget.used == 10
    assert budget.used == 0
    first.take(5)  # a decoding thread that is late: its request has ended
    assert budget.used == 0
