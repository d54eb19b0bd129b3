"""Addresses, limits of the system, options."""

from __future__ import annotations

import resource
import socket

import pytest

from ppcls.configs.options import validate
from ppcls.configs.serving import ServeOptions
from ppcls.serving import create_app, server
from ppcls.serving.logs import LOGGER
from ppcls.serving.server import bind, url_of
from ppcls.utils.errors import UserError
from tests.serving.conftest import SlowPixels


def test_free_port_and_url():
    with bind(ServeOptions(port=0)) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}" and port > 0
        with pytest.raises(UserError, match=f"port {port}.*--port"):
            bind(ServeOptions(port=port))
    with bind(ServeOptions(port=port)):  # free again at once
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 in this Python")
def test_ipv6():
    try:
        listener = bind(ServeOptions(port=0, host="::1"))
    except UserError:
        pytest.skip("this machine has no IPv6 loopback address")
    with listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


@pytest.mark.parametrize("host", ["no such host", "203.0.113.7"])
def test_addresses_that_are_not_ours(host):
    with pytest.raises(UserError, match="--host"):
        bind(ServeOptions(port=0, host=host))


def test_more_connections_than_open_files(monkeypatch):
    allowed = {}
    monkeypatch.setattr(server.resource, "getrlimit", lambda _: (256, 1000))
    monkeypatch.setattr(server.resource, "setrlimit", lambda what, limits: allowed.update({what: limits}))
    bind(ServeOptions(port=0, max_connections=500)).close()
    assert allowed == {resource.RLIMIT_NOFILE: (628, 1000)}
    with pytest.raises(UserError, match="--max-connections needs 2128 open files, 1000 are allowed"):
        bind(ServeOptions(port=0, max_connections=2000))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "a/b"}, "URL"),
        ({"name": ""}, "URL"),
        ({"workers": 0}, "workers=0"),
        ({"port": 70000}, "port=70000"),
        ({"max_body_mb": 300}, "at least twice --max-body-mb"),
        ({"default_index": "a"}, "--default-index needs --index-dir"),
        ({"max_qeue": 5}, "did you mean|max_queue"),
        ({"backend": "tensorrt"}, "backend"),
    ],
)
def test_options_that_make_no_sense(values, said):
    with pytest.raises(UserError, match=said):
        validate(ServeOptions, values, "the command line")


def test_a_missing_model_or_folder_ends_the_start(tmp_path):
    with pytest.raises(UserError, match="no exported model"):
        create_app(ServeOptions(model_dir=str(tmp_path)))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--index-dir"):
        create_app(ServeOptions(index_dir=str(tmp_path / "file" / "indexes")), SlowPixels())


def test_the_line_to_wait_for_and_the_open_door(caplog, monkeypatch, capsys):
    monkeypatch.setattr(LOGGER, "propagate", True)
    for host, doors in (("127.0.0.1", 0), ("0.0.0.0", 1)):
        with bind(ServeOptions(port=0, host=host)) as listener:
            server.announce(ServeOptions(host=host), listener)
            assert capsys.readouterr().out == f"listening on http://{host}:{listener.getsockname()[1]}\n"
        assert caplog.text.count("open to the network without a token") == doors
