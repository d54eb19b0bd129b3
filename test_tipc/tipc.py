"""The runner behind the shell scripts of this folder.

Example: python test_tipc/tipc.py train_infer test_tipc/configs/AGD/train_infer_python.txt lite_train_lite_infer
Exit status: 0 all commands succeeded, 1 one failed, 2 a wrong configuration or missing data, 130 interrupted.
"""

import argparse
import os
import signal
from collections.abc import Mapping
from functools import partial

import _path  # noqa: F401

from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    scripts = parser.add_subparsers(dest="script", required=True, metavar="SCRIPT")
    for name, text in (
        ("prepare", "make or check the data of a mode"),
        ("train_infer", "train, evaluate, export and infer"),
        ("serving", "export, serve over HTTP, ask"),
        ("paddle2onnx", "convert to ONNX and infer"),
        ("benchmark", "speed of training"),
    ):
        script = scripts.add_parser(name, help=text, description=text)
        script.add_argument("config", metavar="CONFIG", help="a file of test_tipc/configs")
        default = {"paddle2onnx": "paddle2onnx_infer"}.get(name)
        script.add_argument("mode", metavar="MODE", nargs="?" if default else None, default=default)
        if name in ("train_infer", "serving"):
            script.add_argument("gpu", metavar="GPUID", nargs="?", help="GPU of the inference")
        if name == "benchmark":
            script.add_argument("model_item", metavar="PARAMS", nargs="?", help="such as dynamic_bs8_fp32_DP_N1C1")
    return parser


def main(args: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from test_tipc.runner import jobs

    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))  # the terminal was closed: end the children too
    if args.script == "prepare":
        return jobs.prepare(args.config, args.mode, environment)
    if args.script == "train_infer":
        return jobs.train_infer(args.config, args.mode, args.gpu, environment)
    if args.script == "serving":
        return jobs.serving(args.config, args.mode, args.gpu, environment)
    if args.script == "paddle2onnx":
        return jobs.paddle2onnx(args.config, args.mode, environment)
    return jobs.benchmark(args.config, args.mode, args.model_item, environment)


if __name__ == "__main__":
    # The commands get the user's own environment, not what tuning this process adds to it.
    run(make_parser, partial(main, environment=dict(os.environ)), uses_paddle=False)
