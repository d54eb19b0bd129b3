"""Priors against plain NumPy formulas and automatic differentiation."""

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.inversion import prior

SHAPES = [(1, 3, 1, 1), (2, 3, 5, 4), (1, 1, 1, 6), (3, 2, 7, 1), (2, 3, 2, 2)]


def differences(x):
    """The four differences by slicing; works on arrays and tensors."""
    return [
        x[:, :, :, :-1] - x[:, :, :, 1:],
        x[:, :, :-1] - x[:, :, 1:],
        x[:, :, :-1, :-1] - x[:, :, 1:, 1:],
        x[:, :, :-1, 1:] - x[:, :, 1:, :-1],
    ]


def draw(shape, seed=0):
    x = paddle.to_tensor(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))
    x.stop_gradient = False
    return x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", [1, 2])
def test_total_variation_equals_slices_in_value_and_gradient(shape, order):
    x = draw(shape)
    if order == 1:
        value = prior.total_variation_l1(x)
        parts = [d.abs().mean() for d in differences(x) if d.size]
    else:
        value = prior.total_variation_l2(x)
        parts = [paddle.sqrt(paddle.square(d).sum()) for d in differences(x) if d.size]
    (gradient,) = paddle.grad(3.0 * value, x)
    np.testing.assert_allclose(value.numpy(), sum(float(p) for p in parts), rtol=1e-5)
    if parts:
        (expected,) = paddle.grad(3.0 * sum(parts), x)
        np.testing.assert_allclose(gradient.numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)
    else:
        assert not gradient.numpy().any()


@pytest.mark.parametrize("term", [prior.total_variation_l1, prior.total_variation_l2, prior.image_l2])
def test_constant_and_black_images_have_a_finite_gradient(term):
    x = paddle.zeros([2, 3, 4, 4])
    x.stop_gradient = False
    (gradient,) = paddle.grad(term(x), x)
    assert np.isfinite(gradient.numpy()).all()
    np.testing.assert_allclose(float(term(x)), 0, atol=1e-12)


def test_image_l2_is_the_mean_norm_of_the_images():
    x = draw((3, 3, 5, 4))
    np.testing.assert_allclose(
        float(prior.image_l2(x)), np.linalg.norm(x.numpy().reshape(3, -1), axis=1).mean(), rtol=1e-6
    )


@pytest.mark.parametrize("steps", [1, 2, 9, 60, 150, 1000, 2000])
def test_learning_rate_reaches_the_peak_and_falls(steps):
    rates = [prior.learning_rate(i, steps, base=0.2) for i in range(steps)]
    warm = prior.warmup_steps(steps)
    assert max(rates) == pytest.approx(0.2)
    assert np.argmax(rates) == max(warm - 1, 0)
    assert all(a >= b for a, b in zip(rates[warm:], rates[warm + 1 :], strict=False))
    assert min(rates) > 0


def test_learning_rate_follows_an_explicit_warm_up():
    assert prior.learning_rate(49, 300, 0.4, warmup=100) == pytest.approx(0.2)
    assert prior.learning_rate(200, 300, 0.4, warmup=100) == pytest.approx(0.2 * (1 + math.cos(math.pi / 2)))
    assert prior.warmup_steps(2000) == prior.warmup_steps(1000) == 100


def test_clip_keeps_what_a_pixel_can_be():
    x = draw((2, 3, 4, 4)) * 5
    low, high = prior.pixel_bounds()
    expected = np.clip(x.numpy(), low[None, :, None, None], high[None, :, None, None])
    np.testing.assert_array_equal(prior.clip_pixels(x).numpy(), expected)


def numpy_js(s, t, temperature):
    def soft(z):
        e = np.exp(z / temperature - (z / temperature).max(1, keepdims=True))
        p = np.clip(e / e.sum(1, keepdims=True), 0.001, 0.999)
        return p / p.sum(1, keepdims=True)

    p, q = soft(s), soft(t)
    m = (p + q) / 2
    return 0.5 * ((p * np.log(p / m)).sum(1) + (q * np.log(q / m)).sum(1)).mean()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(2, 7), st.integers(0, 4), st.floats(0.5, 5), st.integers(0, 99))
def test_jensen_shannon_of_the_old_classes(batch, classes, new, temperature, seed):
    rng = np.random.RandomState(seed)
    student = rng.standard_normal((batch, new + classes)) * 3
    teacher = rng.standard_normal((batch, classes)) * 3
    value = float(prior.jensen_shannon(paddle.to_tensor(student), paddle.to_tensor(teacher), temperature))
    assert value == pytest.approx(numpy_js(student[:, new:], teacher, temperature), rel=1e-6, abs=1e-9)
    assert 0 <= value <= math.log(2)
    swapped = float(prior.jensen_shannon(paddle.to_tensor(teacher), paddle.to_tensor(student[:, new:]), temperature))
    assert swapped == pytest.approx(value, abs=1e-9)


def test_agreement_falls_when_the_student_disagrees():
    teacher = paddle.to_tensor([[8.0, 0, 0], [0, 8.0, 0]])
    same = prior.student_agreement(teacher, teacher)
    other = prior.student_agreement(paddle.to_tensor([[9.0, 0, 8.0, 0], [9.0, 0, 0, 8.0]]), teacher)
    assert float(same) == pytest.approx(math.log(2))
    assert float(other) < float(same) - 0.1
