"""The loop: exact continuation from any position, finite checks, hooks."""

from types import SimpleNamespace

import numpy as np
import pytest

from ppcls.arch.reid_net import build_net
from ppcls.engine.meters import Meter
from ppcls.engine.trainer import Diverged, Hook, Trainer
from ppcls.method import Supervised
from ppcls.optimizer import build_optimizer, warmup_multistep
from ppcls.utils.seeding import numpy_rng

STEPS = 3


class Noise:
    """Batches drawn from (epoch, batch) alone."""

    def __init__(self, poison=None):
        self.poison = poison

    def steps(self, number):
        return STEPS

    def epoch(self, number, start=0):
        for step in range(start, STEPS):
            images = numpy_rng(0, number, step).normal(size=(8, 3, 32, 16)).astype(np.float32)
            if self.poison == (number, step):
                images[0, 0, 0, 0] = np.inf
            yield {"new": SimpleNamespace(images=[images], pids=np.repeat(np.arange(4), 2))}


def trainer(name="SGD", hooks=(), data=None):
    method = Supervised(build_net(18, 4, seed=3))
    optimizer = build_optimizer(method.parameter_groups(), name, 0.01)
    return Trainer(method, data or Noise(), optimizer, lambda e: warmup_multistep(e, 0.01, 2, [3]), 3, hooks)


class StopAt(Hook):
    def __init__(self, epoch, iteration):
        self.where = (epoch, iteration)

    def after_step(self, trainer):
        if (trainer.epoch, trainer.iteration) == self.where:
            self.state = trainer.state_dict()
            raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("where", [(1, 1), (2, 3), (3, 2)])
def test_a_continued_run_is_the_uninterrupted_one(optimizer, where):
    whole = trainer(optimizer)
    whole.train()

    stop = StopAt(*where)
    with pytest.raises(KeyboardInterrupt):
        trainer(optimizer, [stop]).train()
    rest = trainer(optimizer)
    rest.load_state_dict(stop.state, "memory")
    rest.train()

    for name, value in whole.method.net.state_dict().items():
        np.testing.assert_array_equal(rest.method.net.state_dict()[name].numpy(), value.numpy(), err_msg=name)
    assert rest.meters.state_dict().keys() == whole.meters.state_dict().keys()
    assert rest.meters["pid_loss"].average == whole.meters["pid_loss"].average


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(Diverged, match=r"epoch 2, iteration 1 .*--learning-rate"):
        trainer(data=Noise(poison=(2, 1))).train()


def test_a_gradient_that_is_not_finite_stops_the_run(monkeypatch):
    running = trainer()
    weight = running.method.net.backbone.base.conv1.weight
    before = weight.numpy().copy()
    weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(Diverged, match="the gradient is nan"):
        running.train()
    np.testing.assert_array_equal(weight.numpy(), before)


def test_hooks_are_called_in_order():
    class Recorder(Hook):
        def __init__(self):
            self.calls = []

        def __getattribute__(self, name):
            if name in ("before_training", "after_step", "after_epoch", "after_training"):
                return lambda trainer: self.calls.append((name, trainer.epoch, trainer.iteration))
            return super().__getattribute__(name)

    recorder = Recorder()
    trainer(hooks=[recorder]).train()
    steps = [(name, e, i) for name, e, i in recorder.calls if name == "after_step"]
    assert steps == [("after_step", e, i) for e in (1, 2, 3) for i in (1, 2, 3)]
    assert [call[0] for call in recorder.calls][0::4][:3] == ["before_training", "after_epoch", "after_epoch"]
    assert recorder.calls[-1][0] == "after_training"


def test_the_rate_follows_the_schedule():
    rates = []

    class Rates(Hook):
        def after_epoch(self, trainer):
            rates.append(trainer.optimizer.get_lr())

    trainer(hooks=[Rates()]).train()
    np.testing.assert_allclose(rates, [0.005, 0.01, 0.001])


def test_meter_starts_at_its_first_value_and_is_clipped():
    meter = Meter()
    meter.update(2.0)
    assert str(meter) == "2.0000/2.0000"
    meter.update(5000.0)
    assert (meter.value, meter.average) == (1024.0, pytest.approx(0.9 * 2 + 0.1 * 1024))
