"""``test_serving_infer_python.sh``: convert, start the service, wait for its health, ask, end it, compare."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from ppcls.utils.errors import UserError
from test_tipc.runner.chain import Chain, Single, StageFailed, Step
from test_tipc.runner.commands import Command, fill, flag_words, line_words, program, seen_from
from test_tipc.runner.config import AFTER, BEFORE
from test_tipc.runner.devices import parse_devices
from test_tipc.runner.process import Child, running
from test_tipc.runner.status import FAILED, NOT_RUN, SUCCESSFUL
from test_tipc.runner.train_infer import Job

HOST = "127.0.0.1"
START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_CONVERSION = ("dirname", "model_filename", "params_filename", "serving_server", "serving_client")


def serving_plan(job: Job, gpu: str | None) -> list[Step]:
    """The stages before, the conversion, one server with its client per device, the stages after."""
    config, mode = job.config, job.mode
    places = job.places(port=str(free_port()), host=HOST)
    steps: list[Step] = [Single(command) for command in job.blocks(BEFORE, places)]
    convert = config["trans_model"]
    if convert.at(mode) is not None:
        words = program(convert, mode, job.python)
        for name in _CONVERSION:
            words += line_words(config[name], mode)
        words = fill([*words, *job.more("trans_model")], places, convert.where)
        steps.append(Single(Command("convert", tuple(words), job.output / "python_trans_model.log")))
    for device in config["use_gpu"].items(mode):
        # null is the CPU; the third argument of the script names the GPU of the others.
        steps.append(_Service(*_service_commands(job, device and (gpu or device.strip('"')), places), places["port"]))
    return steps + [Single(command) for command in job.blocks(AFTER, places)]


def _service_commands(job: Job, gpu: str | None, places: Mapping[str, str]) -> tuple[Command, Command]:
    config, mode = job.config, job.mode
    line, asks = config["web_service"], config["client"]
    devices = parse_devices(gpu, config["use_gpu"].where)
    cwd = Path(config["serving_dir"].at(mode) or "")
    name = "cpu" if devices.on_cpu else "gpu"
    tail = "usemkldnn_False_threads_1_batchsize_1" if devices.on_cpu else "usetrt_False_precision_False_batchsize_1"
    log = job.output / f"python_client_{name}_pipeline_http_{tail}.log"
    words = program(line, mode, job.python)
    if not devices.on_cpu:
        words += flag_words(
            config["use_gpu"].flag, "True" if config["use_gpu"].key.startswith("--use") else gpu, line.where
        )
    here = {**places, "output": seen_from(job.output, cwd), "log": seen_from(log.with_suffix(""), cwd)}
    words = fill([*words, *job.more("web_service")], here, line.where)
    server = Command("server", tuple(words), job.output / f"python_server_{name}.log", cwd, devices.env)
    words = [*program(asks, mode, job.python), *line_words(config["images"], mode), *job.more("client")]
    words = fill(words, here, asks.where)
    return server, Command("client", tuple(words), log, cwd, {**devices.env, "NO_PROXY": HOST, "no_proxy": HOST})


class _Service:
    """A server, and the client that asks it. The server is ended in any case, and only this one."""

    def __init__(self, server: Command, client: Command, port: str) -> None:
        self.server, self.client = server, client
        self.health = f"http://{HOST}:{port}/health"

    @property
    def title(self) -> str:
        return f"server: {self.server.shown}"

    @property
    def commands(self) -> Sequence[Command]:
        return (self.server, self.client)

    def run(self, chain: Chain) -> None:
        with running(self.server, chain.environment) as server:
            try:
                self._wait(chain, server)
                with running(self.client, chain.environment) as client:
                    status = client.wait(chain.tick)
                seconds = client.seconds
            except KeyboardInterrupt:
                chain.interrupted(self.server, server.seconds)
                raise
            self._finish(chain, server, status, seconds)

    def _wait(self, chain: Chain, server: Child) -> None:
        """Return when the service says that it is ready."""
        ready = False
        while not ready:
            ready = is_healthy(self.health)
            status = server.poll()
            if status is not None:  # whoever answers on the port then, it is not this server
                self._failed(chain, server, status, "the server ended before it was ready")
            if server.seconds > START_SECONDS:
                self._failed(chain, server, server.end(), f"not ready after {START_SECONDS:.0f} s: {self.health}")
            chain.tick(server.seconds)
            time.sleep(0.1)

    def _failed(self, chain: Chain, server: Child, status: int, note: str) -> None:
        try:
            chain.finish(self.server, status or 1, server.seconds, note)
        except StageFailed:
            chain.report.record(self.client, NOT_RUN)
            raise

    def _finish(self, chain: Chain, server: Child, status: int | None, seconds: float) -> None:
        died = server.poll()
        ended = server.end(_STOP_SECONDS) if died is None else died
        # A server that was told to end says so with status 0, with 130, or dies of the signal it got.
        well = died is None and ended in (0, -15, 143, 130)
        note = "" if well else f"the server {'died while it was asked' if died is not None else 'did not end cleanly'}"
        try:
            chain.finish(self.client, status if status is not None else 1, seconds)
        except StageFailed:
            chain.report.record(self.server, SUCCESSFUL if well else FAILED, ended, server.seconds, note)
            raise
        chain.finish(self.server, 0 if well else ended or 1, server.seconds, note)


def is_healthy(url: str) -> bool:
    """Whether a service answers 200 and, where it answers JSON with an ``errorCode``, that this is 0."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            body = answer.read(65536)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False
    try:
        found = json.loads(body)
    except ValueError:
        return True
    return not isinstance(found, dict) or found.get("errorCode", 0) == 0


def free_port() -> int:
    """A TCP port on which nothing listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def require_no_url(job: Job) -> None:
    """Models are made here, never downloaded.

    Raises:
        UserError: the configuration names an address.
    """
    line = job.config["model_url"]
    value = line.at(job.mode)
    if value is not None:
        raise UserError(
            f"{line.where}: {value}: nothing is downloaded; write null, and make the model in before_params"
        )
