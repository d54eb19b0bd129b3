"""Attention distillation on a small network: values, second derivatives, joint batches, errors."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppcls.loss.distillation import build_distillation
from ppcls.loss.distillation.attention import attention_vector, grad_cam
from ppcls.utils.errors import UserError
from tests.loss.gradcheck import assert_gradient

RNG = np.random.default_rng(0)
IMAGES = paddle.to_tensor(RNG.standard_normal((4, 2, 4, 3)))
STEM, HEAD = RNG.standard_normal((3, 2, 3, 3)), RNG.standard_normal((3, 5))


def _network(stem, head, images, pool=lambda m: m.mean([2, 3])):
    """Convolution, tanh (smooth, so that differences converge), pooling, nonlinear neck, linear classifier."""
    maps = paddle.tanh(paddle.nn.functional.conv2d(images, stem, padding=1))
    return SimpleNamespace(maps=[maps], logits=paddle.tanh(pool(maps)) @ head)


def _teacher(images=IMAGES):
    inputs = images.clone()
    inputs.stop_gradient = False
    stem = paddle.to_tensor(STEM[::-1].copy())
    return _network(stem, paddle.to_tensor(HEAD[:, -3:].copy()), inputs)


def _student(stem, images=IMAGES):
    return _network(stem, paddle.to_tensor(HEAD), images)


@pytest.mark.parametrize("name", ["GradCAM", "LwM"])
def test_value_and_second_order_gradient(name):
    teacher, loss = _teacher(), build_distillation(name)
    gradient = assert_gradient(lambda stem: loss(_student(stem), teacher), STEM, rtol=1e-4)
    assert np.abs(gradient).max() > 0

    student = _student(paddle.to_tensor(STEM, stop_gradient=False))
    top = teacher.logits.numpy().argmax(1)
    vectors = []
    for out, offset in ((student, 2), (teacher, 0)):
        maps = out.maps[0]
        score = sum(out.logits[i, offset + c] for i, c in enumerate(top))
        weights = paddle.grad(score, maps, retain_graph=True)[0].numpy().mean((2, 3), keepdims=True)
        cam = weights * maps.numpy()
        cam = np.maximum(cam.sum(1) if name == "LwM" else cam, 0).reshape(4, -1)
        vectors.append(cam / np.linalg.norm(cam, axis=1, keepdims=True))
    expected = np.abs(vectors[0] - vectors[1]).sum(1).mean()
    assert float(loss(student, teacher)) == pytest.approx(expected, rel=1e-9)


def test_second_half_of_a_joint_batch():
    """Maps cut out of a joint batch are not in the graph of the scores; the joint output is."""
    stem = paddle.to_tensor(STEM, stop_gradient=False)
    new_images = paddle.to_tensor(RNG.standard_normal((4, 2, 4, 3)))
    joint = _student(stem, paddle.concat([new_images, IMAGES]))
    dreamed = SimpleNamespace(maps=[joint.maps[0][4:]], logits=joint.logits[4:])
    value = build_distillation("LwM")(dreamed, _teacher(), joint=joint)
    value.backward()
    alone = paddle.to_tensor(STEM, stop_gradient=False)
    expected = build_distillation("LwM")(_student(alone), _teacher())
    expected.backward()
    assert float(value) == pytest.approx(float(expected), rel=1e-9)
    np.testing.assert_allclose(stem.grad.numpy(), alone.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_max_pooling_works_with_constant_weights_only():
    stem = paddle.to_tensor(STEM, stop_gradient=False)
    student = _network(stem, paddle.to_tensor(HEAD), IMAGES, pool=lambda m: m.max([2, 3]))
    with pytest.raises(UserError, match="second_order: false"):
        build_distillation("GradCAM")(student, _teacher())
    build_distillation("GradCAM", {"second_order": False})(student, _teacher()).backward()
    assert np.abs(stem.grad.numpy()).max() > 0


def test_a_teacher_without_a_graph_is_refused():
    with paddle.no_grad():
        teacher = _teacher()
    student = _student(paddle.to_tensor(STEM, stop_gradient=False))
    with pytest.raises(UserError, match=r"images\.stop_gradient = False"):
        build_distillation("GradCAM")(student, teacher)
    with pytest.raises(UserError, match="layer 3 of a network with 1 stage maps"):
        build_distillation("GradCAM", {"layer": 3})(student, teacher)


def test_vectors_have_unit_length_or_are_zero():
    maps, gradients = paddle.ones([2, 3, 2, 2]), paddle.ones([2, 3, 2, 2])
    gradients[1] = -1.0
    lengths = np.linalg.norm(attention_vector(maps, gradients).numpy(), axis=1)
    np.testing.assert_allclose(lengths, [1.0, 0.0], rtol=1e-6)
    assert attention_vector(maps, gradients, sum_channels=True).shape == [2, 4]


def test_first_order_result_needs_no_second_derivative():
    teacher = _teacher()
    vectors = grad_cam(*teacher.maps, teacher.logits, teacher.logits.argmax(1), create_graph=False)
    assert vectors.shape == [4, 3 * 4 * 3]
