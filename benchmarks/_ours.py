"""Our side of a speed comparison: the real trainer and the real synthesizer on the drawn workload.

``python benchmarks/_ours.py JOB REPORT``: reads a job (JSON), does it, writes the report (JSON). Under
``python -m paddle.distributed.launch`` each process takes its share, and rank 0 writes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from ppcls.utils.tuning import apply_cpu_tuning

TUNING = apply_cpu_tuning()

import numpy as np
import paddle

from benchmarks import _workload as workload
from benchmarks._report import best_gemm, write_report
from ppcls.arch.reid_net import ReIDNet, build_net
from ppcls.configs.algo import load_algo
from ppcls.engine.distributed import Group, join_group
from ppcls.engine.trainer import Hook, Trainer
from ppcls.inversion import DreamConfig, Synthesizer, frozen
from ppcls.inversion.small_maps import small_map_convolutions
from ppcls.method import Supervised, build_method
from ppcls.optimizer import build_optimizer


def network(job: workload.Job, classes: int) -> ReIDNet:
    """A network with the drawn weights."""
    net = build_net(depth=job.depth, num_classes=classes)
    drawn = {name: workload.draw_weight(name, tuple(value.shape)) for name, value in net.state_dict().items()}
    missing, unexpected = net.set_state_dict(drawn)
    assert not missing and not unexpected
    return net


class DrawnData:
    """One drawn batch, as often as the trainer wants it; each rank has its own share."""

    def __init__(self, job: workload.Job, group: Group) -> None:
        self._steps = job.total
        drawn = workload.draw_batch(job, group.rank, job.batch // group.world_size)
        self._batch = {name: SimpleNamespace(images=views, pids=pids) for name, (views, pids) in drawn.items()}

    def epoch(self, number: int, start: int = 0) -> Iterator[dict[str, SimpleNamespace]]:
        yield from itertools.repeat(self._batch, self._steps - start)

    def steps(self, number: int) -> int:
        return self._steps


class Record(Hook):
    """Notes each step's duration and loss."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def after_step(self, trainer: Trainer) -> None:
        self.seconds.append(trainer.batch_cost)
        self.losses.append(sum(trainer.terms.values()))


def train(job: workload.Job, group: Group) -> Record:
    """The trainer's steps of task 1 or of AD."""
    if job.task == "train":
        method = Supervised(network(job, workload.NEW_CLASSES))
    else:
        student = network(job, workload.NEW_CLASSES + workload.OLD_CLASSES)
        previous = network(job, workload.OLD_CLASSES).freeze()
        method = build_method(student, previous, load_algo("inverXion"), workload.VIEWS)
    optimizer = build_optimizer(
        method.parameter_groups(), "SGD", workload.LEARNING_RATE, workload.WEIGHT_DECAY, workload.MOMENTUM
    )
    record = Record()
    data = DrawnData(job, group)
    Trainer(method, data, optimizer, lambda epoch: workload.LEARNING_RATE, 1, [record], group=group).train()
    return record


def invert(job: workload.Job, group: Group) -> Record:
    """Full-resolution steps of a dream; processes dream batches of their own, as shards of one job do."""
    net = network(job, workload.OLD_CLASSES)
    config = DreamConfig(
        steps=(0, job.total), height=job.height, width=job.width, batch_size=job.batch, warmup=workload.PIXEL_WARMUP
    )
    record = Record()
    with contextlib.ExitStack() as stack:
        stack.enter_context(frozen(net))
        stack.enter_context(small_map_convolutions(net))
        dream = Synthesizer(net, config).start(workload.dream_targets(job), np.random.RandomState(group.rank))
        while not dream.done:
            group.wait()  # shards that wait for each other count as slow as the slower one
            begin = time.perf_counter()
            record.losses.append(dream.step().numbers()["total"])
            group.wait()
            record.seconds.append(time.perf_counter() - begin)
    return record


def gemm(size: int) -> float:
    """GFLOP/s of a square float32 matrix product."""
    matrix = paddle.to_tensor(np.random.default_rng(0).standard_normal((size, size), dtype=np.float32))
    return best_gemm(lambda: paddle.matmul(matrix, matrix), size)


def main() -> None:
    """Do one job."""
    job = workload.Job(**json.loads(Path(sys.argv[1]).read_text()))
    group = join_group()
    record = Record()
    if job.task != "gemm":
        record = (invert if job.task == "inversion" else train)(job, group)
    rate = gemm(job.gemm) if job.gemm else 0.0
    if group.is_main:
        about = f"paddle {paddle.__version__}; {TUNING}"
        write_report(Path(sys.argv[2]), about, seconds=record.seconds, losses=record.losses, gemm=rate)


if __name__ == "__main__":
    main()
