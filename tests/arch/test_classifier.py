"""Classifier mathematics, growth and gradients."""

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.arch.gears.classifier import CLASSIFIERS, Arc, Linear, MultiBranch
from ppcls.utils.errors import UserError

NAMES = CLASSIFIERS.names()


def head_of(name, dim=6, classes=4, seed=0):
    return CLASSIFIERS.get(name)(dim, classes, np.random.RandomState(seed))


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from([name for name in NAMES if name != "linear_bias"]),  # drawn otherwise; below
    old=st.integers(1, 6),
    new=st.integers(0, 6),
    dim=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_expand_puts_new_rows_first_and_keeps_the_old(name, old, new, dim, seed):
    head = head_of(name, dim, old, seed)
    before = head.W.numpy()
    head.expand(new, np.random.RandomState(seed + 1))
    assert head.num_classes == old + new
    np.testing.assert_array_equal(head.W.numpy()[new:], before)
    drawn = 0.001 * np.random.RandomState(seed + 1).randn(new, dim)
    np.testing.assert_allclose(head.W.numpy()[:new], drawn, rtol=1e-6)
    assert list(head.state_dict()) == ["W"]
    x = paddle.to_tensor(np.random.RandomState(seed).randn(3, dim).astype("float32"))
    assert head(x).shape == [3, old + new]


def test_biased_classifier_grows_weight_and_bias():
    head = head_of("linear_bias", 4, 3)
    weight, bias = head.W.numpy(), head.b.numpy()
    assert np.abs(weight).max() <= 0.5 and np.abs(bias).max() <= 0.5
    head.expand(2, np.random.RandomState(1))
    assert list(head.state_dict()) == ["W", "b"]
    np.testing.assert_array_equal(head.W.numpy()[2:], weight)
    np.testing.assert_array_equal(head.b.numpy()[2:], bias)
    x = np.random.RandomState(2).randn(5, 4).astype("float32")
    expected = x @ head.W.numpy().T + head.b.numpy()
    np.testing.assert_allclose(head(paddle.to_tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_initial_weight_has_the_stated_spread():
    weight = head_of("linear", 512, 300).W.numpy()
    assert abs(weight.std() - 0.001) < 1e-5
    assert abs(weight.mean()) < 1e-5


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(0.02, math.pi - 0.02), margin=st.floats(0.01, 0.6), scale=st.floats(1, 64))
def test_arc_adds_the_margin_to_the_angle_of_the_label_only(angle, margin, scale):
    head = Arc(2, 2, np.random.RandomState(0), scale=scale, margin=margin)
    head.W.set_value(np.array([[2.0, 0.0], [0.0, 3.0]], "float32"))
    x = paddle.to_tensor([[5 * math.cos(angle), 5 * math.sin(angle)]], dtype="float32")
    logits = head(x, paddle.to_tensor([0])).numpy()[0]
    if angle + margin < math.pi:
        target = math.cos(angle + margin)
    else:
        target = math.cos(angle) - margin * math.sin(math.pi - margin)
    if abs(angle + margin - math.pi) > 1e-3:  # on the seam, rounding chooses the side
        assert logits[0] == pytest.approx(scale * target, abs=scale * 2e-5)
    assert logits[1] == pytest.approx(scale * math.sin(angle), abs=scale * 2e-6)
    plain = head(x).numpy()[0]
    assert plain[0] == pytest.approx(scale * math.cos(angle), abs=scale * 2e-6)


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(["arcface", "cosface", "circle"]), seed=st.integers(0, 999), scale=st.floats(1, 64))
def test_a_margin_makes_the_label_harder_and_nothing_else_easier(name, seed, scale):
    """Against the logits without labels; circle raises the others by its weights, so only its own logit is compared."""
    head = CLASSIFIERS.get(name)(3, 4, np.random.RandomState(seed), scale=scale)
    x = paddle.to_tensor(np.random.RandomState(seed + 1).randn(6, 3).astype("float32"))
    labels = np.random.RandomState(seed + 2).randint(0, 4, 6)
    plain, margined = head(x).numpy(), head(x, paddle.to_tensor(labels)).numpy()
    rows = np.arange(6)
    assert (margined[rows, labels] <= plain[rows, labels] + 1e-4 * scale).all()
    if name != "circle":
        plain[rows, labels] = margined[rows, labels]
        np.testing.assert_allclose(margined, plain, atol=1e-4 * scale)


@pytest.mark.parametrize("name", ["arc", "nonorm_arc", "arcface", "arcface_turned", "cosface", "circle"])
def test_margin_gradient_is_finite_on_the_class_direction(name):
    head = head_of(name, 2, 2)
    head.W.set_value(np.array([[1.0, 0.0], [0.0, 1.0]], "float32"))
    x = paddle.to_tensor([[1.0, 0.0], [-1.0, 0.0]], stop_gradient=False)
    head(x, paddle.to_tensor([0, 0])).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    assert np.isfinite(head.W.grad.numpy()).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "circle"])  # holds its weights constant
def test_gradients_match_finite_differences(name):
    head = head_of(name, 5, 3, seed=4)
    rng = np.random.RandomState(1)
    head.W.set_value(rng.randn(3, 5).astype("float32"))
    x = rng.randn(4, 5).astype("float32")
    labels, weight = paddle.to_tensor([0, 1, 2, 0]), paddle.to_tensor(rng.randn(4, 3).astype("float32"))
    tensor = paddle.to_tensor(x, stop_gradient=False)
    (head(tensor, labels) * weight).sum().backward()
    direction = rng.randn(4, 5).astype("float32")
    step = 1e-2

    def value(shift):
        return float((head(paddle.to_tensor(x + shift * direction), labels) * weight).sum())

    numeric = (value(step) - value(-step)) / (2 * step)
    assert float((tensor.grad.numpy() * direction).sum()) == pytest.approx(numeric, rel=2e-2, abs=2e-2)


def test_expand_by_a_negative_number_is_an_error():
    with pytest.raises(UserError, match="-1 classes"):
        head_of("linear").expand(-1, np.random.RandomState(0))


def test_branches_have_their_own_weights():
    heads = {"global": Linear(4, 3, np.random.RandomState(0)), "local": Linear(2, 3, np.random.RandomState(1))}
    layer = MultiBranch(heads)
    x = {"global": paddle.ones([2, 4]), "local": paddle.ones([2, 2])}
    out = layer(x)
    for name, head in heads.items():
        np.testing.assert_allclose(out[name].numpy(), head(x[name]).numpy())
    assert len(layer.parameters()) == 2
    with pytest.raises(UserError, match="'foot'"):
        layer({"foot": x["local"]})
