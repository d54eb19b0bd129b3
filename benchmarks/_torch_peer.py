"""The PyTorch side of a speed comparison: an equal network and equal loops, written plainly.

``python benchmarks/_torch_peer.py JOB REPORT``: reads a job (JSON), does it, writes the report (JSON). Needs torch and
numpy, nothing else: it may run in an environment of its own. Names are those of our checkpoints.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import _workload as workload
from benchmarks._report import best_gemm, write_report

Output = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # pooled feature, embedding, logits
MEAN, STD = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))


class Bottleneck(nn.Module):
    """1×1, 3×3 with the stride, 1×1 to four times the planes."""

    expansion = 4

    def __init__(self, c_in: int, planes: int, stride: int) -> None:
        super().__init__()
        c_out = planes * self.expansion
        self.conv1, self.bn1 = nn.Conv2d(c_in, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        self.downsample = shortcut(c_in, c_out, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu(out, inplace=True)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions."""

    expansion = 1

    def __init__(self, c_in: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False), nn.BatchNorm2d(planes)
        self.downsample = shortcut(c_in, planes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu(out, inplace=True)


def shortcut(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """The 1×1 convolution of a block that changes the shape; None for the others."""
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


class Trunk(nn.Module):
    """ResNet without its head."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        block = Bottleneck if depth == 50 else BasicBlock
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for stage, (planes, count) in enumerate(zip(workload.PLANES, workload.COUNTS[depth], strict=True)):
            blocks = []
            for index in range(count):
                blocks.append(block(channels, planes, 2 if stage and index == 0 else 1))
                channels = planes * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class Net(nn.Module):
    """Trunk, mean pooling, neck, linear classifier, with the drawn weights."""

    def __init__(self, job: workload.Job, classes: int) -> None:
        super().__init__()
        base = Trunk(job.depth)
        self.backbone = nn.ModuleDict({"base": base, "bn": nn.BatchNorm1d(base.channels)})
        self.classifier = nn.ParameterDict({"W": nn.Parameter(torch.empty(classes, base.channels))})
        with torch.no_grad():
            for name, value in self.state_dict().items():
                ours = name.replace("running_mean", "_mean").replace("running_var", "_variance")
                if value.is_floating_point():
                    value.copy_(torch.from_numpy(workload.draw_weight(ours, tuple(value.shape))))

    def forward(self, x: torch.Tensor) -> Output:
        feature = self.backbone["base"](x).mean((2, 3))
        embedding = self.backbone["bn"](feature)
        return feature, embedding, F.linear(embedding, self.classifier["W"])


def identity_terms(feature: torch.Tensor, logits: torch.Tensor, pids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and batch-hard triplet with the soft margin."""
    square = feature.pow(2).sum(1, keepdim=True)
    distance = (square + square.t() - 2 * feature @ feature.t()).clamp(min=1e-12).sqrt()
    same = pids[:, None] == pids[None, :]
    positive = distance.masked_fill(~same, -math.inf).amax(1)
    negative = distance.masked_fill(same, math.inf).amin(1)
    return F.cross_entropy(logits, pids) + F.softplus(positive - negative).mean()


def sim_res(new: torch.Tensor, old: torch.Tensor, pids: torch.Tensor) -> torch.Tensor:
    """Mean of 1 − cosine of the differences within each id."""
    first, second = torch.triu(pids[:, None] == pids[None, :], 1).nonzero(as_tuple=True)
    return (1 - F.cosine_similarity(new[second] - new[first], old[second] - old[first])).mean()


Batch = dict[str, tuple[list[torch.Tensor], torch.Tensor]]


def supervised_losses(net: Net, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(what is differentiated, what is printed) of each view."""
    views, pids = batch["new"]
    for images in views:
        feature, _, logits = net(images)
        loss = identity_terms(feature, logits, pids)
        yield loss / len(views), loss


def ad_losses(net: Net, previous: Net, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Views of [new; dreamed], each distilled from its own and from the other views of the previous network."""
    (new, new_pids), (dreamed, old_pids) = batch["new"], batch["dreamed"]
    pids = torch.cat([new_pids, old_pids + workload.NEW_CLASSES])
    with torch.no_grad():
        remembered = [previous(images)[1] for images in dreamed]
    for number in range(len(new)):
        feature, embedding, logits = net(torch.cat([new[number], dreamed[number]]))
        distilled = torch.zeros(())
        for other, old in enumerate(remembered):
            weight = workload.CROSS_FACTOR if other == number else (1 - workload.CROSS_FACTOR) / (len(new) - 1)
            distilled = distilled + weight * sim_res(embedding[len(new_pids) :], old, old_pids)
        loss = identity_terms(feature, logits, pids) + workload.DISTILLATION * distilled
        yield loss / len(new), loss


def train(job: workload.Job) -> tuple[list[float], list[float]]:
    """Steps of task 1 or of AD with the same checks for finite numbers that our trainer makes."""
    if job.task == "train":
        net = Net(job, workload.NEW_CLASSES)

        def losses(batch: Batch) -> Iterator:
            return supervised_losses(net, batch)
    else:
        net = Net(job, workload.NEW_CLASSES + workload.OLD_CLASSES)
        previous = Net(job, workload.OLD_CLASSES).eval().requires_grad_(False)

        def losses(batch: Batch) -> Iterator:
            return ad_losses(net, previous, batch)

    net.train()
    head = [*net.backbone["bn"].parameters(), *net.classifier.parameters()]
    groups = [
        {"params": list(net.backbone["base"].parameters())},
        {"params": head, "lr": workload.LEARNING_RATE * workload.HEAD_MULTIPLE},
    ]
    optimizer = torch.optim.SGD(
        groups, workload.LEARNING_RATE, workload.MOMENTUM, weight_decay=workload.WEIGHT_DECAY, nesterov=True
    )
    drawn = workload.draw_batch(job, 0, job.batch)
    return timed(lambda _: train_step(optimizer, losses, drawn), job.total)


def train_step(optimizer: torch.optim.Optimizer, losses: Callable[[Batch], Iterator], drawn: dict) -> float:
    """One step over all views; the last view's loss is what is printed."""
    batch = {
        name: ([torch.from_numpy(images) for images in views], torch.from_numpy(pids))
        for name, (views, pids) in drawn.items()
    }
    optimizer.zero_grad()
    for loss, printed in losses(batch):
        require_finite(loss)
        loss.backward()
        value = printed.item()
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
    require_finite(torch.nn.utils.get_total_norm(gradients))
    optimizer.step()
    return value


def require_finite(value: torch.Tensor) -> None:
    """Stop at a loss or a gradient that is no number."""
    if not math.isfinite(value.item()):
        raise RuntimeError("not finite")


class StatisticsProbe:
    """Sums the distances of batch statistics from running statistics over all norms of a network, by hooks."""

    def __init__(self, net: Net) -> None:
        self.terms: list[torch.Tensor] = []
        for layer in net.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                layer.register_forward_pre_hook(self._note)

    def _note(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        channels = inputs[0].transpose(0, 1).reshape(inputs[0].shape[1], -1)
        mean, variance = channels.mean(1), channels.var(1, correction=0)
        self.terms.append(torch.norm(variance - layer.running_var) + torch.norm(mean - layer.running_mean))

    def take(self) -> torch.Tensor:
        """The sum, the stem's term multiplied; forgets the terms."""
        terms, self.terms = self.terms, []
        return sum(terms) + (workload.FIRST_NORM - 1) * terms[0]


def total_variation(x: torch.Tensor) -> torch.Tensor:
    """Frobenius norms of the four neighbour differences over the whole batch."""
    return (
        torch.norm(x[..., :, :-1] - x[..., :, 1:])
        + torch.norm(x[..., :-1, :] - x[..., 1:, :])
        + torch.norm(x[..., :-1, :-1] - x[..., 1:, 1:])
        + torch.norm(x[..., :-1, 1:] - x[..., 1:, :-1])
    )


def invert(job: workload.Job) -> tuple[list[float], list[float]]:
    """Full-resolution steps of Adam on pixels, in the linear warm-up of the learning rate."""
    net = Net(job, workload.OLD_CLASSES).eval().requires_grad_(False)
    probe = StatisticsProbe(net)
    noise, flips, classes = workload.dream_draws(job, 0)
    pixels, targets = torch.from_numpy(noise).requires_grad_(), torch.from_numpy(classes)
    optimizer = torch.optim.Adam([pixels], betas=(0.5, 0.9), eps=1e-8)
    low, high = (((bound - MEAN) / STD)[:, None, None] for bound in (0.0, 1.0))
    best, best_loss = pixels.detach().clone(), math.inf

    def step(number: int) -> float:
        nonlocal best, best_loss
        optimizer.param_groups[0]["lr"] = workload.PIXEL_RATE * (number + 1) / workload.PIXEL_WARMUP
        optimizer.zero_grad()
        seen = torch.flip(pixels, (3,)) if flips[number] else pixels
        entropy = F.cross_entropy(net(seen)[2], targets)
        length = torch.norm(seen.flatten(1), dim=1).mean()
        loss = entropy + workload.R_FEATURE * probe.take() + workload.TV_L2 * total_variation(seen)
        loss = loss + workload.L2 * length
        require_finite(loss)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            pixels.copy_(torch.minimum(torch.maximum(pixels, low), high))
            if loss.item() < best_loss:
                best, best_loss = pixels.detach().clone(), loss.item()
        return loss.item()

    return timed(step, job.total)


def timed(step: Callable[[int], float], count: int) -> tuple[list[float], list[float]]:
    """Durations and results of ``step`` for each number below ``count``."""
    seconds, results = [], []
    for number in range(count):
        begin = time.perf_counter()
        results.append(step(number))
        seconds.append(time.perf_counter() - begin)
    return seconds, results


def gemm(size: int) -> float:
    """GFLOP/s of a square float32 matrix product."""
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((size, size), dtype=np.float32))
    return best_gemm(lambda: matrix @ matrix, size)


def main() -> None:
    """Do one job."""
    job = workload.Job(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(job.threads)
    seconds: list[float] = []
    losses: list[float] = []
    if job.task != "gemm":
        seconds, losses = invert(job) if job.task == "inversion" else train(job)
    rate = gemm(job.gemm) if job.gemm else 0.0
    about = f"torch {torch.__version__}, {job.threads} threads"
    write_report(Path(sys.argv[2]), about, seconds=seconds, losses=losses, gemm=rate)


if __name__ == "__main__":
    main()
