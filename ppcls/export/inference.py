"""Writing a Paddle inference model, in the current format or the older one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import paddle
import paddle.inference

from ppcls.export.embedder import Embedder
from ppcls.retrieval.predictor.base import first_line
from ppcls.utils.errors import UserError

STEM = "inference"
PARAMS = f"{STEM}.pdiparams"
#: Decides, when paddle is imported, which of the two formats a process writes.
PIR_FLAG = "FLAGS_enable_pir_api"
_ROOT = Path(__file__).resolve().parents[2]
_TIME_LIMIT = 3600


def model_file(file_format: str) -> str:
    """Name of the graph's file: ``inference.json`` (Paddle 3) or ``inference.pdmodel``."""
    return f"{STEM}.{file_format}"


def writes_here(file_format: str) -> bool:
    """Whether this process writes that format: json, unless paddle was imported with the other setting.

    The older format is always left to a child, which replaces functions of paddle's.
    """
    return file_format == "json" and paddle.get_flags(PIR_FLAG)[PIR_FLAG]


def write_graph(embedder: Embedder, spec: paddle.static.InputSpec, folder: Path) -> None:
    """Trace ``embedder`` and write graph and weights in this process's format.

    Raises:
        UserError: the files cannot be written.
    """
    with _quiet():
        traced = paddle.jit.to_static(embedder, input_spec=[spec], full_graph=True)
        try:
            paddle.jit.save(traced, str(folder / STEM))
        except (OSError, RuntimeError, SystemError) as error:
            raise UserError(f"cannot write {folder / STEM}.*: {last_line(str(error))}") from error
    (folder / f"{PARAMS}.info").unlink(missing_ok=True)  # of the older format: only training goes on from it


def output_name(model: Path) -> str:
    """What the graph of ``model``, with its weights beside it, calls its one output.

    Raises:
        UserError: the files cannot be read back; paddle does not notice when a disk is full.
    """
    config = paddle.inference.Config(str(model), str(model.parent / PARAMS))
    config.disable_glog_info()
    config.switch_ir_optim(False)
    try:
        (name,) = paddle.inference.create_predictor(config).get_output_names()
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{model.name} cannot be read back ({first_line(error)}); is the disk full?") from error
    return name


def run_python(arguments: Sequence[str], variables: Mapping[str, str], text: str = "") -> subprocess.CompletedProcess:
    """A child interpreter that finds this package and has ``variables`` in its environment."""
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", **variables}
    return subprocess.run(
        [sys.executable, *arguments],
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        timeout=_TIME_LIMIT,
        check=False,
    )


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without paddle's advice on layers that it traces as it should."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
