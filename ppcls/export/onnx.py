"""Paddle inference model → ONNX, with paddle2onnx."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ppcls.export.inference import PARAMS, PIR_FLAG, last_line, model_file, run_python
from ppcls.utils.errors import UserError

OPSET = 17
_PACKAGES = ("onnx", "onnxruntime", "paddle2onnx")


def require_onnx_packages() -> None:
    """Say what is missing before any work is done.

    Raises:
        UserError: naming the packages and the file that lists them.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--onnx needs {' and '.join(missing)}: install the packages that this project names "
            "(pip install -r requirements.txt)"
        )


def write_onnx(source: Path, target: Path, output_name: str) -> None:
    """Convert ``inference.json`` in the folder ``source`` to the file ``target``.

    paddle2onnx runs in a child process: it prints, it may end the process, and its optimiser would install packages by
    itself, which is switched off. The result is checked, and its output is called ``output_name``.

    Raises:
        UserError: paddle2onnx cannot convert an operator, or the result is not valid ONNX.
    """
    arguments = ["--model_dir", str(source), "--model_filename", model_file("json"), "--params_filename", PARAMS]
    arguments += ["--save_file", str(target), "--opset_version", str(OPSET), "--optimize_tool", "None"]
    done = run_python(["-m", "paddle2onnx.command", *arguments], {PIR_FLAG: "1", "POLYGRAPHY_AUTOINSTALL_DEPS": "0"})
    if done.returncode or not target.is_file():
        raise UserError(f"paddle2onnx failed: {last_line(done.stdout + done.stderr)}")
    _check(target, output_name)


def _check(path: Path, output_name: str) -> None:
    import onnx

    from ppcls.export.onnx_graph import finish, replace

    model = onnx.load(str(path))
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset != OPSET:
        raise UserError(f"paddle2onnx wrote opset {opset} instead of {OPSET}: it could not convert all operators to it")
    (output,) = model.graph.output
    for node in model.graph.node:  # all forms of one exported model call their output alike
        replace(node.input, output.name, output_name)
        replace(node.output, output.name, output_name)
    output.name = output_name
    try:
        finish(model, list(model.graph.node), path)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise UserError(f"paddle2onnx wrote a graph that is not valid: {last_line(str(error))}") from error
