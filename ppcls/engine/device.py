"""Where to compute."""

from __future__ import annotations

import os
from collections.abc import Sequence

import paddle

from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger


def select_device(gpus: Sequence[str]) -> str:
    """Use the GPU asked for; without any GPU warn once and use the CPU.

    Under ``paddle.distributed.launch`` each process takes its own: that of its rank among ``gpus`` if enough are named,
    else the one that launch gave it.

    Raises:
        UserError: not a number, or a GPU that this machine, which has some, does not have.
    """
    if list(gpus) == ["cpu"]:
        return _use("cpu")
    if not all(gpu.isdigit() for gpu in gpus):
        raise UserError(f"-g {' '.join(gpus)}: give GPU numbers, or cpu")
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if not count:
        get_logger().warning("no GPU here (-g %s): running on the CPU", " ".join(gpus))
        return _use("cpu")
    wanted = _own_gpu(gpus)
    if wanted >= count:
        raise UserError(f"-g {wanted}: this machine has {count} GPU(s), numbered from 0")
    return _use(f"gpu:{wanted}")


def _own_gpu(gpus: Sequence[str]) -> int:
    processes = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
    if processes > 1 and len(gpus) < processes:
        given = os.environ.get("FLAGS_selected_gpus", "0")  # noqa: SIM112  the name that launch uses
        return int(given.split(",")[0])
    if processes == 1 and len(gpus) > 1:
        get_logger().warning("one process uses one GPU: -g %s; start more with paddle.distributed.launch", gpus[0])
    return int(gpus[int(os.environ.get("PADDLE_LOCAL_RANK", "0")) % len(gpus)])


def _use(device: str) -> str:
    if device == "cpu":
        os.environ.setdefault("PADDLE_DISTRI_BACKEND", "gloo")
    paddle.set_device(device)
    return device
