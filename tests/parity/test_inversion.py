"""DeepInversion's terms, pixel gradient and learning rates against the public reference."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppcls.arch.reid_net import build_net
from ppcls.inversion import prior
from ppcls.inversion.config import DreamConfig
from ppcls.inversion.statistics import NormProbe, statistics_loss, statistics_terms
from ppcls.inversion.synthesizer import Synthesizer
from tests.parity.weights import fill


@pytest.fixture(scope="module")
def data(parity):
    return parity("inversion")


@pytest.fixture(scope="module")
def teacher():
    net = build_net(50, 20)
    fill(net.backbone)
    fill(net.classifier, "classifier20.")
    return net.freeze()


def leaf(data):
    x = paddle.to_tensor(data["x"].astype(np.float32))
    x.stop_gradient = False
    return x


def test_terms_total_and_pixel_gradient(data, teacher):
    x = leaf(data)
    synthesizer = Synthesizer(teacher, DreamConfig(tv_l1=0.3))
    terms = synthesizer.forward(x, paddle.to_tensor(data["targets"]))
    np.testing.assert_allclose(terms.cross_entropy.numpy(), data["ce"], rtol=1e-5)
    np.testing.assert_allclose(terms.prior.numpy(), data["image"], rtol=1e-5)
    np.testing.assert_allclose(0.01 * terms.statistics.numpy(), data["bn"], rtol=1e-5)
    terms.total.backward()
    error = np.abs(x.grad.numpy() - data["grad"]).max() / np.abs(data["grad"]).max()
    assert error < 1e-4


def test_each_batch_norm_term(data, teacher):
    with NormProbe(teacher) as probe, paddle.no_grad():
        teacher(leaf(data))
        terms = statistics_terms(probe.take())
    np.testing.assert_allclose(terms.numpy(), data["per_bn"], rtol=1e-5)
    np.testing.assert_allclose(0.01 * float(statistics_loss(terms)), data["bn"], rtol=1e-5)


def test_total_variation(data):
    x = leaf(data)
    np.testing.assert_allclose(prior.total_variation_l1(x).numpy(), data["tv_l1"], rtol=1e-5)
    np.testing.assert_allclose(prior.total_variation_l2(x).numpy(), data["tv_l2"], rtol=1e-5)


def test_learning_rates_of_both_phases(data):
    rates = [prior.learning_rate(i, steps) for steps in (2000, 1000) for i in range(steps)]
    np.testing.assert_allclose(rates, data["lr"], rtol=1e-12)


def test_clip(data):
    clipped = prior.clip_pixels(paddle.to_tensor(data["clip_in"].astype(np.float32)))
    np.testing.assert_allclose(clipped.numpy(), data["clip"], rtol=1e-6)


def test_student_term(data, parity):
    """The file holds the teacher's logits; the student's are those of the loss fixture."""
    student = paddle.to_tensor(parity("losses")["preds_new"].astype(np.float32))
    teacher = paddle.to_tensor(data["js_t"].astype(np.float32))
    value = prior.student_agreement(student, teacher, reference=True)
    np.testing.assert_allclose(value.numpy(), data["js"], rtol=1e-5)
    soft = F.softmax(student[:, -9:] / 3, axis=1).numpy()
    assert soft.std() > 0.02  # the published double softmax is far flatter: the default must not be
    assert abs(float(prior.student_agreement(student, teacher)) - float(value)) > 1e-3
