"""The optimisation: pixels move, the loss falls, the teacher stays, the update is Adam's."""

import dataclasses

import numpy as np
import paddle
import pytest

from ppcls.arch.reid_net import build_net
from ppcls.inversion import DreamConfig, Synthesizer, frozen
from ppcls.inversion.prior import pixel_bounds
from ppcls.inversion.synthesizer import normalise, to_uint8
from ppcls.utils.errors import UserError
from tests.inversion.tiny import CONFIG, TinyNet

TARGETS = np.array([0, 3, 4, 4])


def rng(seed=0):
    return np.random.RandomState(seed)


def test_loss_falls_and_the_teacher_sees_its_classes_but_stays_as_it_was():
    config = dataclasses.replace(CONFIG, steps=(30, 40), lr=0.1)
    net = TinyNet()
    before = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    with frozen(net):
        synthesizer = Synthesizer(net, config)
        dream = synthesizer.start(TARGETS, rng())
        start = dream.state()["x"]
        steps = []
        while not dream.done:
            steps.append(dream.step().numbers())
        result = dream.finish()
    losses = [step["total"] for step in steps]
    assert np.abs(dream.state()["x"] - start).mean() > 0.3
    assert min(losses[30:]) < 0.85 * losses[30]
    assert steps[-1]["cross_entropy"] < 0.7 * steps[0]["cross_entropy"]
    assert steps[-1]["statistics"] < steps[30]["statistics"]
    assert steps[-1]["accuracy"] >= 0.75 > steps[0]["accuracy"]
    assert result.best_loss == pytest.approx(min(losses[30:]))
    assert result.images.shape == (4, 16, 8, 3) and result.images.dtype == np.uint8
    np.testing.assert_allclose(result.confidence, np.exp(-result.cross_entropy), rtol=1e-6)
    assert net.training
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name], err_msg=name)
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("steps", [(3, 3), (0, 6)])
def test_update_is_adam_with_one_set_of_moments(steps):
    """Follows the job with paddle's own Adam on pooled, flipped pixels."""
    config = dataclasses.replace(CONFIG, steps=steps, warmup=0, tv_l1=0.1)
    net = TinyNet()
    with frozen(net):
        synthesizer = Synthesizer(net, config)
        dream = synthesizer.start(TARGETS, rng(5))
        draws = rng(5)
        x = paddle.create_parameter([4, 3, 16, 8], "float32")
        x.set_value(draws.standard_normal((4, 3, 16, 8)).astype(np.float32))
        flips = draws.random_sample(6) > 0.5
        adam = paddle.optimizer.Adam(0.1, beta1=0.5, beta2=0.9, epsilon=1e-8, parameters=[x])
        low, high = (bound[None, :, None, None] for bound in pixel_bounds())
        best, best_loss = None, np.inf
        for i in range(6):
            adam.set_lr(dream.learning_rate())
            seen = paddle.nn.functional.avg_pool2d(x, 2) if i < steps[0] else x
            loss = synthesizer.forward(seen.flip([3]) if flips[i] else seen, paddle.to_tensor(TARGETS)).total
            loss.backward()
            adam.step()
            adam.clear_grad()
            x.set_value(np.clip(x.numpy(), low, high))
            if i >= steps[0] and float(loss) < best_loss:
                best, best_loss = x.numpy(), float(loss)
            dream.step()
            np.testing.assert_allclose(dream.state()["x"], x.numpy(), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(dream.state()["best"], best, rtol=1e-4, atol=2e-5)


def test_every_pixel_of_an_odd_image_is_optimised_in_phase_1():
    config = dataclasses.replace(CONFIG, steps=(2, 1), height=15, width=7)
    net = TinyNet()
    with frozen(net):
        dream = Synthesizer(net, config).start(TARGETS, rng())
        dream.step()
    assert (dream.state()["moment1"] != 0).mean() > 0.99


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_restored_batch_goes_on_bit_for_bit(stop):
    net = TinyNet()
    with frozen(net):
        synthesizer = Synthesizer(net, CONFIG)
        whole = synthesizer.generate(TARGETS, rng(2))
        first = synthesizer.start(TARGETS, rng(2))
        for _ in range(stop):
            first.step()
        second = synthesizer.start(TARGETS, rng(2))
        second.restore(first.state())
        while not second.done:
            second.step()
        result = second.finish()
        other = synthesizer.generate(TARGETS, rng(3))
    np.testing.assert_array_equal(result.images, whole.images)
    np.testing.assert_array_equal(result.cross_entropy, whole.cross_entropy)
    assert result.best_loss == whole.best_loss
    assert not np.array_equal(whole.images, other.images)


def test_the_student_term_changes_the_images():
    net, student = TinyNet(), TinyNet(num_classes=9, seed=7)
    with frozen(net), frozen(student):
        plain = Synthesizer(net, CONFIG).generate(TARGETS, rng())
        results = [
            Synthesizer(net, dataclasses.replace(CONFIG, adi_scale=10.0, adi_reference=flag), student)
            .generate(TARGETS, rng())
            .images
            for flag in (False, True)
        ]
        with pytest.raises(UserError, match="both a student and adi_scale"):
            Synthesizer(net, CONFIG, student)
    assert (results[0] != plain.images).any()
    assert (results[0] != results[1]).any()


def test_mistakes_are_told():
    with pytest.raises(UserError, match="training mode"):
        Synthesizer(TinyNet(), CONFIG)
    with pytest.raises(UserError, match="steps"):
        DreamConfig(steps=(10, 0))
    net = TinyNet()
    net.head.weight.set_value(paddle.full_like(net.head.weight, float("nan")))
    with frozen(net), pytest.raises(UserError, match="diverged"):
        Synthesizer(net, CONFIG).generate(TARGETS, rng())


def test_pixels_are_truncated_not_rounded():
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    x = normalise(images)
    np.testing.assert_array_equal(to_uint8(x + 0.9 / 255 / 0.23), images)
    assert to_uint8(np.full((1, 3, 1, 1), 99, np.float32)).tolist() == [[[[255, 255, 255]]]]


def test_a_real_network_dreams():
    net = build_net(18, 6).freeze()
    config = DreamConfig(steps=(2, 4), height=32, width=16, batch_size=3)
    dream = Synthesizer(net, config).start(np.array([1, 2, 5]), rng())
    losses = []
    while not dream.done:
        losses.append(dream.step().numbers()["total"])
    assert losses[-1] < losses[2]
    assert dream.finish().images.std() > 10
