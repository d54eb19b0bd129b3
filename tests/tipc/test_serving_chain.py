"""The serving chain on stand-in servers: waiting, asking, ending exactly the server that was started."""

from __future__ import annotations

import http.server
import threading

import pytest

from ppcls.utils.errors import UserError
from test_tipc.runner import jobs, serving
from test_tipc.runner.dialects import SERVING_CLAS
from tests.tipc.conftest import file_of, results, stages, status_lines
from tests.tipc.test_chain import alive

MODE = "serving_infer"
CONFIG = """\
==========serving_params==========
model_name:toy
python:python
trans_model:convert.py
--dirname:{output}/model
--model_filename:null
--params_filename:null
--serving_server:null
--serving_client:null
serving_dir:null
web_service:server.py --port {port}
--use-gpu:null
pipline:client.py --url http://{host}:{port}/reid/prediction
--image-dir:images
==========after_params==========
last:last.py
"""

#: Ready at the third question. Options: --die-at-start, --die-when-asked, --ignore (SIGTERM), --status N (at the end).
SERVER = """
import http.server, os, signal, subprocess, sys, threading
words = sys.argv[1:]
if "--die-at-start" in words:
    sys.exit("no model")
questions = 0
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global questions
        questions += 1
        if self.path != "/health":
            if "--die-when-asked" in words:
                os._exit(4)
            questions = 3
        self.send_response(200 if questions > 2 else 503)
        self.end_headers()
        self.wfile.write(b'{"errorCode": 0}')
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(words[words.index("--port") + 1])), Answers)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
def end(*_):
    if "--ignore" not in words:
        os._exit(int(words[words.index("--status") + 1]) if "--status" in words else 0)
signal.signal(signal.SIGTERM, end)
server.serve_forever()
"""

ASK = """
import socket, sys, urllib.request
url = sys.argv[sys.argv.index("--url") + 1]
print(urllib.request.urlopen(url, timeout=10).read())
"""


@pytest.fixture
def serve(place, monkeypatch):
    """``serve(replace)`` → exit status of the chain with words of CONFIG replaced."""
    monkeypatch.setattr(serving, "_STOP_SECONDS", 1.0)
    (place.folder / "server.py").write_text(SERVER, encoding="utf-8")
    (place.folder / "client.py").write_text(ASK, encoding="utf-8")

    def run(replace: dict[str, str] | None = None) -> int:
        return jobs.serving(place.write(CONFIG, replace), MODE, None, place.environment)

    return run


def no_process_is_left(place) -> bool:
    """Whether server and the child it had are gone."""
    return not any(alive(int(pid)) for pid in (place.folder / "pids").read_text().split())


def test_the_server_is_asked_when_it_is_ready_and_ended_after(place, serve):
    assert serve() == 0
    folder = place.output / MODE
    assert stages(folder) == [(name, "successful") for name in ("convert", "client", "server", "last")]
    assert place.calls()[0] == ["convert.py", "--dirname", f"test_tipc/output/toy/{MODE}/model"]
    assert (folder / "python_trans_model.log").is_file() and (folder / "python_server_cpu.log").is_file()
    client = "python_client_cpu_pipeline_http_usemkldnn_False_threads_1_batchsize_1.log"
    assert (folder / client).read_text() == "b'{\"errorCode\": 0}'\n"
    lines = status_lines(folder, "serving_infer_python.log")
    assert len(lines) == 4 and all("Run successfully with command - python " in line for line in lines)
    assert no_process_is_left(place)


@pytest.mark.parametrize(
    ("replace", "failed"),
    [
        ({"server.py": "server.py --die-at-start"}, "server"),
        ({"server.py": "server_DOES_NOT_EXIST.py"}, "server"),
        ({"server.py": "server.py --die-when-asked"}, "client"),
        ({"server.py": "server.py --ignore"}, "server"),
        ({"server.py": "server.py --status 3"}, "server"),
        ({"client.py": "convert.py --die"}, "client"),
        ({"client.py": "client_DOES_NOT_EXIST.py"}, "client"),
        ({"trans_model:convert.py": "trans_model:convert.py --die"}, "convert"),
        ({"last:last.py": "last:last.py --die"}, "last"),
    ],
)
def test_whatever_breaks_fails_the_chain_and_leaves_no_process(place, serve, replace, failed):
    assert serve(replace) == 1
    found = dict(stages(place.output / MODE))
    assert found[failed] == "failed" and results(place.output / MODE)["status"] == "failed"
    assert found["last"] == ("failed" if failed == "last" else "not run")
    lines = [line for line in status_lines(place.output / MODE, "serving_infer_python.log") if "Run failed" in line]
    assert len(lines) == 1 and lines[0].startswith("\033[33m Run failed with command - python ")
    if (place.folder / "pids").exists():
        assert no_process_is_left(place)


def test_a_server_that_is_never_ready_is_ended(place, serve, monkeypatch):
    monkeypatch.setattr(serving, "START_SECONDS", 1.0)
    (place.folder / "server.py").write_text(SERVER.replace("questions > 2", "False"), encoding="utf-8")
    assert serve() == 1
    entry = next(entry for entry in results(place.output / MODE)["commands"] if entry["stage"] == "server")
    assert "not ready after 1 s: http://127.0.0.1:" in entry["note"]
    assert no_process_is_left(place)


class _Other(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_another_server_on_the_port_is_not_taken_for_ours(place, serve, monkeypatch):
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    monkeypatch.setattr(serving, "free_port", lambda: other.server_address[1])
    try:
        assert serve({"server.py": "server.py --die-at-start"}) == 1
        assert dict(stages(place.output / MODE))["server"] == "failed"
        assert serving.is_healthy(f"http://127.0.0.1:{other.server_address[1]}/health")  # and it was left alone
    finally:
        other.shutdown()
        other.server_close()


def test_nothing_is_downloaded(place):
    values = {"model_name": "toy", "python": "python", "model_url": "https://host/model.tar"}
    name = place.write("\n".join(file_of(SERVING_CLAS, **values)))
    with pytest.raises(
        UserError, match=r"line 4 \(inference_model_url\): https://host/model.tar: nothing is downloaded"
    ):
        jobs.serving(name, MODE, None, place.environment)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("--use-gpu", ["--use-gpu"]),
        ("--opt op.reid.local_service_conf.devices", ["--opt", "op.reid.local_service_conf.devices:0"]),
    ],
)
def test_each_device_of_the_list_is_served_in_turn(place, serve, key, words):
    assert serve({"--use-gpu:null": f'{key}:"0"|null'}) == 0
    found = results(place.output / MODE)["commands"]
    assert [entry["stage"] for entry in found] == ["convert", "client", "server", "client", "server", "last"]
    on_gpu, on_cpu = (entry for entry in found if entry["stage"] == "server")
    assert on_gpu["argv"] == ["python", "server.py", "--port", on_gpu["argv"][3], *words]
    assert on_cpu["argv"] == on_gpu["argv"][:4] and on_cpu["log"] != on_gpu["log"]
