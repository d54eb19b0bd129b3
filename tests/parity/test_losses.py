"""Every loss value and gradient of the public PyTorch reference, in float32.

Values hold to 1e-5 relative, gradients to 1e-4 of their largest entry.
"""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppcls.loss import (
    batch_hard_triplet,
    cosine_matrix,
    cross_entropy,
    euclidean_dist,
    label_smoothing_cross_entropy,
    mmd,
    soft_weighted_triplet,
)
from ppcls.loss.distillation import build_distillation
from ppcls.loss.distillation.attention import attention_distance, attention_vector
from ppcls.loss.distillation.logits import always_be_dreaming

GRADIENT_TOLERANCE = 1e-4


def _tensor(array, trainable=True):
    return paddle.to_tensor(array.astype(np.float32), stop_gradient=not trainable)


def _outputs(data):
    """Student and teacher outputs as the networks return them."""
    student = SimpleNamespace(
        embedding=_tensor(data["emb_new"]),
        logits=_tensor(data["preds_new"]),
        maps=[_tensor(data[f"map_new{i}"]) for i in range(4)],
    )
    teacher = SimpleNamespace(
        embedding=_tensor(data["emb_old"]),
        logits=_tensor(data["preds_old"]),
        maps=[_tensor(data[f"map_old{i}"]) for i in range(4)],
    )
    return student, teacher


def _assert_gradient(tensor, expected):
    actual = tensor.grad.numpy()
    assert np.abs(actual - expected).max() <= GRADIENT_TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("cosine", {}),
        ("sim-res", {}),
        ("triangle", {}),
        ("res-triangle", {}),
        ("l1", {}),
        ("l2", {}),
        ("relation", {"p": 2, "normalize": False}),
        ("similitude", {"grouping": "consecutive"}),
        ("metric", {"T": 2}),
        ("podnet", {"collapse": "spatial", "criterion": "cosine"}),
        ("hinton", {"T": 2}),
    ],
)
def test_distillation(parity, name, config):
    data = parity("losses")
    student, teacher = _outputs(data)
    loss = build_distillation(name, config)(student, teacher, paddle.to_tensor(data["ids"]))
    loss.backward()
    key = name.replace("-", "_")
    np.testing.assert_allclose(float(loss), data[f"loss_{key}"], rtol=1e-5)
    if name == "hinton":
        _assert_gradient(student.logits, data["gpred_hinton"])
    else:
        _assert_gradient(student.embedding, data[f"gemb_{key}"])
    if name == "podnet":
        _assert_gradient(student.maps[3], data["gmap3_podnet"])
    assert teacher.embedding.grad is None
    assert teacher.logits.grad is None


def test_always_be_dreaming(parity):
    data = parity("losses")
    old = _tensor(data["preds_old"])
    loss = always_be_dreaming(_tensor(data["preds_new"][:, : old.shape[1]]), old)
    np.testing.assert_allclose(float(loss), data["loss_abd"], rtol=1e-5)


def test_gradcam(parity):
    data = parity("losses")
    new, new_gradient, old, old_gradient = (_tensor(data[f"cam{i}"]) for i in range(4))
    loss = attention_distance(attention_vector(new, new_gradient), attention_vector(old, old_gradient))
    np.testing.assert_allclose(float(loss), data["loss_gradcam"], rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "margin", "key"),
    [
        (batch_hard_triplet, None, "trihardplus"),
        (batch_hard_triplet, 0.3, "trihard03"),
        (soft_weighted_triplet, None, "trisoftplus"),
        (soft_weighted_triplet, 0.3, "trisoft03"),
    ],
)
def test_triplet(parity, function, margin, key):
    data = parity("losses")
    features = _tensor(data["emb_new"])
    loss = function(features, data["ids"], margin)
    loss.backward()
    np.testing.assert_allclose(float(loss), data[f"loss_{key}"], rtol=1e-5)
    _assert_gradient(features, data[f"gemb_{key}"])


@pytest.mark.parametrize(("key", "margin"), [("m03", 0.3), ("soft", None)])
@pytest.mark.parametrize(("dtype", "rtol", "gradient"), [("float32", 1e-5, 2e-5), ("float64", 1e-7, 1e-7)])
def test_triplet_with_unequal_counts_per_id(parity, key, margin, dtype, rtol, gradient):
    data = parity("triplet_unequal")
    assert len(set(np.unique(data["uneq_labels"], return_counts=True)[1])) > 1
    features = paddle.to_tensor(data["uneq_feat"].astype(dtype), stop_gradient=False)
    loss = batch_hard_triplet(features, data["uneq_labels"], margin)
    loss.backward()
    expected = data[f"uneq_{key}_grad"]
    np.testing.assert_allclose(float(loss), data[f"uneq_{key}_loss"], rtol=rtol)
    assert np.abs(features.grad.numpy() - expected).max() <= gradient * np.abs(expected).max()


def test_cross_entropies(parity):
    data = parity("losses")
    logits, labels = _tensor(data["preds_new"]), data["ids"] % 15
    np.testing.assert_allclose(float(cross_entropy(logits, labels)), data["loss_ce"], rtol=1e-5)
    smoothed = label_smoothing_cross_entropy(logits, labels, 0.1)
    np.testing.assert_allclose(float(smoothed), data["loss_ls01"], rtol=1e-5)


def test_mmd(parity):
    """1e-3: the published float32 code leaves up to 5e-3 where a point's distance to itself should be zero."""
    data = parity("losses")
    loss = mmd(_tensor(data["emb_new"]), _tensor(data["emb_old"]))
    np.testing.assert_allclose(float(loss), data["loss_mmd"], rtol=1e-3)


def test_pairwise(parity):
    data = parity("losses")
    new, old = _tensor(data["emb_new"]), _tensor(data["emb_old"])
    np.testing.assert_allclose(euclidean_dist(new, old).numpy(), data["euclid"], rtol=1e-5)
    np.testing.assert_allclose(cosine_matrix(new, old).numpy(), data["cos"], rtol=1e-5, atol=1e-6)
