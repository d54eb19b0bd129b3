"""What both sides of a speed comparison work on: weights, images, labels and the arithmetic to be done.

NumPy alone, because the two sides may live in different environments. Everything is drawn by name from a fixed seed,
so both start from equal numbers and must print equal losses. Training repeats one batch at a low rate: losses then
show that both optimisers do the same, and rounding has no time to grow into another trajectory.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass

import numpy as np

TASKS = ("train", "ad", "inversion")
NEW_CLASSES, OLD_CLASSES = 702, 751  # DukeMTMC-reID and Market-1501
INSTANCES = 4  # images per id in a batch
VIEWS = 2
LEARNING_RATE, HEAD_MULTIPLE, MOMENTUM, WEIGHT_DECAY = 3e-5, 10.0, 0.9, 5e-4
DISTILLATION, CROSS_FACTOR = 3.0, 0.9  # of inverXion.yaml
# weights of the inversion loss and Adam, as in ppcls.inversion.DreamConfig's defaults
R_FEATURE, FIRST_NORM, TV_L2, L2 = 0.01, 10.0, 1e-4, 1e-5
PIXEL_RATE, PIXEL_WARMUP = 0.2, 100
PLANES, COUNTS = (64, 128, 256, 512), {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


@dataclass(frozen=True)
class Job:
    """One process's task: ``steps`` timed steps after ``warmup`` others.

    Attributes:
        task: one of ``TASKS``, or "gemm" for the matrix product alone.
        batch: images in one pass of the trained network; for "ad" half of them are dreamed ones.
        gemm: side of the square matrices whose product is timed, 0 for none.
    """

    task: str
    threads: int
    batch: int = 16
    steps: int = 3
    warmup: int = 1
    depth: int = 50
    height: int = 256
    width: int = 128
    gemm: int = 2048

    def as_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def total(self) -> int:
        """Steps made in all."""
        return self.warmup + self.steps

    @property
    def images(self) -> int:
        """Images that one step learns from (training: views count) or improves (inversion)."""
        return self.batch * (VIEWS if self.task == "ad" else 1)


def draw_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight or running statistic by its name in our checkpoints, float32.

    The last norm of each residual branch gets small weights, or activations would double in every block of a network
    with fixed statistics.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rpartition(".")[2]
    if len(shape) == 4:
        value = rng.standard_normal(shape, dtype=np.float32) * np.float32((2 / (shape[0] * shape[2] * shape[3])) ** 0.5)
    elif len(shape) == 2:
        value = 0.01 * rng.standard_normal(shape)
    elif last in ("bias", "_mean"):
        value = 0.1 * rng.standard_normal(shape)
    else:
        value = rng.uniform(0.5, 1.5, shape) * (0.2 if last == "weight" and ends_branch(name) else 1.0)
    return np.ascontiguousarray(value, dtype=np.float32)


def ends_branch(name: str) -> bool:
    """Whether a norm parameter belongs to the last norm of a bottleneck's branch."""
    return name.split(".")[-2] == "bn3"


def draw_images(job: Job, rank: int, stream: str, view: int, count: int) -> np.ndarray:
    """Noise in place of normalised images, float32 [count, 3, H, W]."""
    rng = np.random.default_rng([zlib.crc32(stream.encode()), rank, view])
    return rng.standard_normal((count, 3, job.height, job.width), dtype=np.float32)


def draw_batch(job: Job, rank: int, count: int) -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
    """``{stream: (views, labels)}`` of a training step with ``count`` images in a pass of the network."""
    streams, views = (("new",), 1) if job.task == "train" else (("new", "dreamed"), VIEWS)
    each = count // len(streams)
    pids = np.arange(each) // INSTANCES
    return {stream: ([draw_images(job, rank, stream, view, each) for view in range(views)], pids) for stream in streams}


def dream_draws(job: Job, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start noise [B, 3, H, W], whether each step flips [steps], targets [B], in the order of ``Synthesizer.start``."""
    rng = np.random.RandomState(rank)
    noise = rng.standard_normal((job.batch, 3, job.height, job.width)).astype(np.float32)
    return noise, rng.random_sample(job.total) > 0.5, dream_targets(job)


def dream_targets(job: Job) -> np.ndarray:
    """One class per image, int64 [B]."""
    return np.arange(job.batch) * 7 % OLD_CLASSES


def forward_flops(depth: int, height: int, width: int) -> tuple[float, float]:
    """Floating-point operations of one image's forward pass: (stem convolution, everything else).

    Convolutions and the classifier-free rest only; a multiplication and an addition are two operations. Norms, ReLU,
    pooling, classifier and losses (below 2 %) are left out, as usual.
    """
    height, width = _halved(height), _halved(width)
    stem = 2.0 * 49 * 3 * 64 * height * width
    height, width = _halved(height), _halved(width)
    rest, channels = 0.0, 64
    for stage, (planes, count) in enumerate(zip(PLANES, COUNTS[depth], strict=True)):
        for index in range(count):
            before = height * width
            if stage and index == 0:
                height, width = _halved(height), _halved(width)
            after, out = height * width, planes * (4 if depth == 50 else 1)
            if depth == 50:
                rest += 2.0 * (channels * planes * before + 9 * planes * planes * after + planes * out * after)
            else:
                rest += 2.0 * (9 * channels * planes * after + 9 * planes * planes * after)
            if channels != out or before != after:
                rest += 2.0 * channels * out * after
            channels = out
    return stem, rest


def step_flops(job: Job) -> float:
    """Floating-point operations of one step of ``job``.

    Training needs the forward pass, gradients of the weights and, but for the stem, of the inputs; inversion all
    input gradients and no others; AD also a frozen network's forward pass on the dreamed half.
    """
    stem, rest = forward_flops(job.depth, job.height, job.width)
    if job.task == "inversion":
        return job.batch * 2 * (stem + rest)
    per_pass = job.batch * (2 * stem + 3 * rest)
    return per_pass if job.task == "train" else VIEWS * (per_pass + job.batch / 2 * (stem + rest))


def _halved(size: int) -> int:
    return (size + 1) // 2
