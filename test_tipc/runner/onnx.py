"""``test_paddle2onnx.sh``: convert, infer with the ONNX graph, compare."""

from __future__ import annotations

from pathlib import Path

from test_tipc.runner.commands import Command, fill, flag_words, line_words, program, seen_from
from test_tipc.runner.config import AFTER, BEFORE, Line
from test_tipc.runner.dialects import CLAS
from test_tipc.runner.train_infer import Job

_CONVERSION = ("model", "model_filename", "params_filename", "save_file", "opset", "checker")
_CLAS_INFERENCE = ("use_onnx", "onnx_file", "use_gpu")


def onnx_plan(job: Job) -> list[Command]:
    """The stages before, the conversion, the inference, the stages after."""
    config, mode = job.config, job.mode
    places = job.places()
    line = config["convert"]
    words = program(line, mode, job.python)
    for name in _CONVERSION:
        words += line_words(config[name], mode)
    words = fill([*words, *job.more("convert")], places, line.where)
    convert = Command("paddle2onnx", tuple(words), job.output / "trans_model.log")
    return [*job.blocks(BEFORE, places), convert, *_inference(job), *job.blocks(AFTER, places)]


def _inference(job: Job) -> list[Command]:
    config, mode = job.config, job.mode
    line = config["inference"]
    if line.at(mode) is None:
        return []
    words = program(line, mode, job.python)
    if config.layout.dialect == CLAS:
        for name in _CLAS_INFERENCE:
            words += _override(config[name], mode)
        words += line_words(config["infer_config"], mode)
    else:
        words += [*line_words(config["onnx_file"], mode), *line_words(config["images"], mode)]
    log = job.output / "paddle2onnx_infer_cpu.log"
    cwd = Path("deploy") if config.layout.dialect == CLAS else Path()
    places = job.places(output=seen_from(job.output, cwd), log=seen_from(log.with_suffix(""), cwd))
    words = fill([*words, *job.more("inference")], places, line.where)
    return [Command("inference", tuple(words), log, cwd, figures={"benchmark": log})]


def _override(line: Line, mode: str) -> list[str]:
    """PaddleClas names these keys without the ``-o`` that it puts before them."""
    return flag_words(line.flag and f"-o {line.flag}", line.at(mode), line.where)
