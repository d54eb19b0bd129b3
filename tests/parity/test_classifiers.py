"""Classifiers against the public PyTorch reference."""

import numpy as np
import paddle
import pytest

from ppcls.arch.gears.classifier import CLASSIFIERS

NAMES = {"linear": "out_linear", "sphere": "out_sphere", "arc": "out_arc", "nonorm_arc": "out_nonormarc"}


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_the_reference(name, parity):
    data = parity("classifiers")
    head = CLASSIFIERS.get(name)(data["w"].shape[1], data["w"].shape[0], np.random.RandomState(0))
    head.W.set_value(data["w"].astype("float32"))
    x, labels = paddle.to_tensor(data["x"].astype("float32")), paddle.to_tensor(data["labels"])
    np.testing.assert_allclose(head(x, labels).numpy(), data[NAMES[name]], rtol=1e-5, atol=1e-5)
