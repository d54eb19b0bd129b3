"""One whole optimiser step of augmented distillation against the published PyTorch trainer."""

import numpy as np
import pytest

from ppcls.arch.reid_net import build_net
from ppcls.data.loader import Batch
from ppcls.engine.trainer import Trainer
from ppcls.loss.distillation import build_distillation
from ppcls.method.augmented import AugmentedDistillation
from ppcls.optimizer import build_optimizer
from tests.parity.weights import draw, fill

OLD, NEW = 9, 7


def networks():
    student, teacher = build_net(34, OLD + NEW), build_net(34, OLD)
    for net, head in ((student, "classifier16."), (teacher, "classifier.")):
        fill(net.backbone, "backbone.")
        net.classifier.W.set_value(draw(f"{head}W", net.classifier.W.shape))
    return student, teacher.freeze()


def batch_of(arrays, peers):
    rng = np.random.RandomState(11)
    views = [rng.randn(8, 3, 64, 32).astype(np.float32) for _ in range(2 * peers)]

    def stream(images, pids):
        return Batch(images, pids.astype(np.int64), np.zeros(8, np.int64), list(range(8)), np.zeros(8, np.int64))

    return {
        "new": stream(views[:peers], arrays["pids_new"]),
        "dreamed": stream(views[peers:], arrays["pids_old_unshifted"]),
    }


@pytest.mark.parametrize("name", ["peers2_cf0.9", "peers2_cf1.0", "peers3_cf0.9"])
def test_one_step_equals_the_reference(parity, name):
    arrays = parity(f"ad_step_{name}")
    peers, cross = int(arrays["peers"]), float(arrays["cf"])
    student, teacher = networks()
    method = AugmentedDistillation(
        student, teacher, build_distillation("sim-res", {}), 3.0, views=peers, cross_factor=cross
    )
    optimizer = build_optimizer(method.parameter_groups(), "SGD", 0.01)
    trainer = Trainer(method, None, optimizer, lambda epoch: 0.01, 1)
    method.train()
    trainer._step(batch_of(arrays, peers))

    losses = [trainer.terms[key] for key in ("pid_loss", "triplet_loss", "distillation_loss")]
    np.testing.assert_allclose(losses, arrays["losses"], rtol=2e-5)
    state = {key: value.numpy() for key, value in student.backbone.state_dict().items()}
    for ours, theirs in (
        (student.classifier.W.numpy(), "W"),
        (state["bn.weight"], "bn_w"),
        (state["bn.bias"], "bn_b"),
        (state["bn._mean"], "bn_mean"),
        (state["bn._variance"], "bn_var"),
    ):
        scale = np.abs(arrays[theirs]).max()
        np.testing.assert_allclose(ours, arrays[theirs], atol=2e-5 * scale, err_msg=theirs)

    # Through 34 layers a few ReLU gates flip between two float32 implementations; the change itself must agree.
    start = draw("backbone.base.conv1.weight", (64, 3, 7, 7))
    ours, theirs = state["base.conv1.weight"] - start, arrays["conv1"] - start
    assert np.linalg.norm(ours - theirs) < 0.02 * np.linalg.norm(theirs)
