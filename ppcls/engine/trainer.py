"""The only loop over training data."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import paddle

from ppcls.engine.checkpoint import (
    network_state,
    optimizer_state,
    set_network_state,
    set_optimizer_state,
)
from ppcls.engine.distributed import Group
from ppcls.engine.meters import Meters
from ppcls.method import Method, Terms
from ppcls.utils.errors import UserError


class Diverged(UserError):
    """A loss or a gradient is not finite."""


class Data(Protocol):
    """Batches of one epoch from a given one on, and how many an epoch has."""

    def epoch(self, number: int, start: int = 0) -> Iterator[dict[str, Any]]: ...

    def steps(self, number: int) -> int: ...


class Hook:
    """Something that happens beside training. Hooks run on the main process only and must not change the weights."""

    def before_training(self, trainer: Trainer) -> None:
        """Before the first step, with the position to start from already set."""

    def after_step(self, trainer: Trainer) -> None:
        """After each optimiser step."""

    def after_epoch(self, trainer: Trainer) -> None:
        """After the last step of an epoch; again if a run is resumed exactly there."""

    def after_training(self, trainer: Trainer) -> None:
        """At the very end; not after a failure."""

    def close(self) -> None:
        """Free what the hook holds; after a failure too."""


@dataclass
class Trainer:
    """Loops over epochs and batches, calls the method, steps the optimiser, calls hooks.

    ``epoch`` (1-based) and ``iteration`` (steps done in it) are the position; :meth:`state_dict` there is all that an
    exact resume needs, because data and learning rate are functions of the position alone.
    """

    method: Method
    data: Data
    optimizer: paddle.optimizer.Optimizer
    learning_rate: Callable[[int], float]
    epochs: int
    hooks: Sequence[Hook] = ()
    amp: str = "off"
    group: Group = field(default_factory=Group)
    epoch: int = 1
    iteration: int = 0
    meters: Meters = field(default_factory=Meters)
    terms: dict[str, float] = field(default_factory=dict)
    reader_cost: float = 0.0
    batch_cost: float = 0.0
    prepared: bool = False

    def __post_init__(self) -> None:
        self._scaler = paddle.amp.GradScaler(enable=self.amp != "off")
        self._grown = [p for _, members in self.method.parameter_groups() for p in members if not p.stop_gradient]

    @property
    def steps(self) -> int:
        """Steps of the current epoch."""
        return self.data.steps(self.epoch)

    def train(self) -> None:
        """From the current position to the end of the last epoch."""
        if not self.prepared:
            self._prepare()
        try:
            self._call("before_training")
            while self.epoch <= self.epochs:
                self._train_epoch()
                self._call("after_epoch")
                self.group.wait()
                self.epoch, self.iteration = self.epoch + 1, 0
            self._call("after_training")
        finally:
            for hook in self.hooks:
                hook.close()

    def _prepare(self) -> None:
        """Let the method look at the data once; ranks see different shards and agree on the mean."""
        self.method.prepare(self.data.epoch(0))
        if self.group.world_size > 1:
            gathered = {name: paddle.to_tensor(value) for name, value in self.method.state_dict().items()}
            self.group.average(list(gathered.values()))
            self.method.load_state_dict({name: value.numpy() for name, value in gathered.items()})
        self.prepared = True

    def _train_epoch(self) -> None:
        self.optimizer.set_lr(self.learning_rate(self.epoch))
        self.method.train()
        clock = time.perf_counter()
        with contextlib.closing(self.data.epoch(self.epoch, start=self.iteration)) as batches:
            for batch in batches:
                self.reader_cost = time.perf_counter() - clock
                self._step(batch)
                self.iteration += 1
                self.batch_cost = time.perf_counter() - clock
                self.images = len(batch["new"].pids) * self.group.world_size
                self.meters.update(batch_time=self.batch_cost, **self.terms)
                self._call("after_step")
                clock = time.perf_counter()

    def _step(self, batch: dict[str, Any]) -> None:
        self.optimizer.clear_grad(set_to_zero=False)
        for terms in self._forward(batch):
            self.terms = {name: value.item() for name, value in terms.items() if name != "loss"}
            self._require_finite(terms["loss"].item(), "the loss")
            self._scaler.scale(terms["loss"]).backward()
        gradients = [p.grad for p in self._grown if p.grad is not None]
        self.group.average([*gradients, *self._statistics()])
        if not self._scaler.is_enable():
            self._require_finite(paddle.add_n([g.sum() for g in gradients]).item(), "the gradient")
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._scaler.is_enable() and self._loss_scale() < 1:  # halved at each gradient that is not finite
            self._require_finite(math.nan, "the gradient of the last steps")

    def _loss_scale(self) -> float:
        return float(np.asarray(self._scaler.state_dict()["scale"]).reshape(-1)[0])

    def _forward(self, batch: dict[str, Any]) -> Iterator[Terms]:
        """The method's losses, each computed under mixed precision where that is on."""
        losses = iter(self.method.losses(batch))
        while True:
            with paddle.amp.auto_cast(enable=self.amp != "off", level="O2" if self.amp == "O2" else "O1"):
                terms = next(losses, None)
            if terms is None:
                return
            yield terms

    def _statistics(self) -> list[paddle.Tensor]:
        """Running statistics, which differ between ranks because each normalises its own shard."""
        if self.group.world_size == 1:
            return []
        state = self.method.net.state_dict()
        statistics = [value for name, value in state.items() if name.endswith(("._mean", "._variance"))]
        return [*statistics, *self.method.buffers()]

    def _require_finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            parts = ", ".join(f"{name} {number:.4g}" for name, number in self.terms.items())
            raise Diverged(
                f"{what} is {value} in epoch {self.epoch}, iteration {self.iteration} ({parts}); "
                "the last saved state is unharmed: lower --learning-rate, or lengthen --warmup"
            )

    def state_dict(self) -> dict[str, Any]:
        """Position, weights, moments, meters and what the method has gathered, as numpy arrays and numbers."""
        return {
            "epoch": self.epoch,
            "iteration": self.iteration,
            "network": network_state(self.method.net),
            "optimizer": optimizer_state(self.optimizer, self.method.net),
            "meters": self.meters.state_dict(),
            "method": self.method.state_dict(),
            "scaler": dict(self._scaler.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any], where: str) -> None:
        """Take back :meth:`state_dict`."""
        self.epoch, self.iteration = int(state["epoch"]), int(state["iteration"])
        set_network_state(self.method.net, state["network"], where)
        set_optimizer_state(self.optimizer, self.method.net, state["optimizer"])
        self.meters.load_state_dict(state["meters"])
        self.method.load_state_dict(state["method"])
        if state["scaler"] and self._scaler.is_enable():
            self._scaler.load_state_dict(state["scaler"])
        self.prepared = True

    def _call(self, event: str) -> None:
        if self.group.is_main:
            for hook in self.hooks:
                getattr(hook, event)(self)
