"""Where to compute."""

from __future__ import annotations

import os
from collections.abc import Sequence

import paddle

from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger


def select_device(gpus: Sequence[str]) -> str:
    """Use the GPU asked for; without any GPU warn once and use the CPU.

    Under ``paddle.distributed.launch`` each process takes the entry of its local rank.

    Raises:
        UserError: not a number, or a GPU that this machine, which has some, does not have.
    """
    if list(gpus) == ["cpu"]:
        paddle.set_device("cpu")
        return "cpu"
    if not all(gpu.isdigit() for gpu in gpus):
        raise UserError(f"-g {' '.join(gpus)}: give GPU numbers, or cpu")
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if not count:
        get_logger().warning("no GPU here (-g %s): running on the CPU", " ".join(gpus))
        paddle.set_device("cpu")
        return "cpu"
    wanted = int(gpus[int(os.environ.get("PADDLE_LOCAL_RANK", "0")) % len(gpus)])
    if wanted >= count:
        raise UserError(f"-g {wanted}: this machine has {count} GPU(s), numbered from 0")
    paddle.set_device(f"gpu:{wanted}")
    return f"gpu:{wanted}"
