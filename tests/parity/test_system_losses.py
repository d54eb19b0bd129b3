"""Centroid triplet, aligned local distances, mutual learning and self-distillation against public reference code."""

import numpy as np
import paddle
import pytest

from ppcls.arch.gears.norm import BatchNorm1D
from ppcls.loss import batch_hard_triplet, label_smoothing_cross_entropy
from ppcls.loss.aligned_triplet import aligned_triplet
from ppcls.loss.center import center_loss
from ppcls.loss.centroid_triplet import centroid_triplet
from ppcls.loss.dmli import dmli, stripe_cost
from ppcls.loss.mutual import class_mutual, metric_mutual
from ppcls.loss.self_distillation import feature_hint, masked_hint, softened_cross_entropy
from ppcls.optimizer import CenterOptimizer
from tests.parity.compare import assert_close, assert_loss, variable

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.mark.parametrize("scenario", ["full", "mock", "mock2", "cos"])
def test_centroids_reid_step(parity, scenario):
    """All four losses of a training step with their gradients and the step of the centres, float32 both."""
    data = {key[len(scenario) + 1 :]: value for key, value in parity("ctl").items() if key.startswith(f"{scenario}_")}
    labels, real, margin = data["labels"], data["real"].astype(bool), float(data["margin"])
    metric = "cosine" if data["cosine"] else "euclidean"
    feat, fc, centers = (variable(data[key]) for key in ("feat", "fc_weight", "centers"))
    neck = BatchNorm1D(feat.shape[1])
    neck.weight.set_value(data["bn_weight"])
    genuine = paddle.gather(feat, paddle.to_tensor(np.flatnonzero(real)))
    logits = paddle.matmul(neck(genuine), fc, transpose_y=True)
    weight = float(data["center_w"])
    losses = [
        label_smoothing_cross_entropy(logits, labels[real], 0.1),
        batch_hard_triplet(feat, labels, margin, metric=metric, anchors=real),
        weight * center_loss(genuine, labels[real], centers),
        centroid_triplet(feat, labels, margin, real=real, metric=metric),
    ]
    np.testing.assert_allclose([float(loss) for loss in losses], data["losses_xent_triplet_center_ctl"], rtol=1e-5)
    gradients = [(feat, data["dfeat"]), (fc, data["dfc"]), (neck.weight, data["dbn_weight"])]
    assert_loss(paddle.add_n(losses), data["total"], gradients)
    optimizer = CenterOptimizer([centers], weight)
    optimizer.step()
    assert_close(centers.grad, data["dcenters_over_w"], 2e-5)
    assert_close(centers, data["centers_after"], 1e-5)
    assert_close(neck._mean, data["bn_running_mean"], 1e-5)
    assert_close(neck._variance, data["bn_running_var"], 1e-5)


@both_dtypes
def test_aligned_triplets(parity, dtype):
    data = parity("aligned")
    x, local = variable(data["tri_feat"], dtype), variable(data["tri_local"], dtype)
    losses = aligned_triplet(x, local, data["tri_labels"], float(data["tri_margin"]))
    np.testing.assert_allclose(float(losses.global_loss), data["tri_global_loss"], rtol=1e-5)
    np.testing.assert_allclose(float(losses.local_loss), data["tri_local_loss"], rtol=1e-5)
    (losses.global_loss + losses.local_loss).backward()
    tolerance = 2e-5 if dtype == "float32" else 1e-7
    assert_close(x.grad, data["tri_dfeat"], tolerance)
    assert_close(local.grad, data["tri_dlocal"], tolerance)


@both_dtypes
def test_local_distance_of_pairs(parity, dtype):
    data = parity("aligned")
    x, y = (variable(data[key].transpose(0, 2, 1), dtype) for key in ("pair_x", "pair_y"))
    assert_close(dmli(x, y), data["pair_dmli"], 1e-6 if dtype == "float32" else 1e-9)
    squared = paddle.to_tensor(data["pair_stripe_euclid"] ** 2)
    np.testing.assert_allclose(stripe_cost(squared).numpy(), data["pair_stripe_tanh"], atol=1e-9)


def test_unaligned_and_unequal_numbers_of_stripes(parity):
    data = parity("aligned")

    def matrix(left, right, **kwargs):
        i, j = (index.ravel() for index in np.indices((len(left), len(right))))
        x, y = (variable(array.transpose(0, 2, 1)) for array in (left[i], right[j]))
        return dmli(x, y, **kwargs).numpy().reshape(len(left), len(right))

    cases = [
        (matrix(data["rect_q"], data["rect_g"]), data["rect_aligned"]),
        (matrix(data["rect_q"], data["rect_g"], aligned=False), data["rect_unaligned"]),
        (matrix(data["rect_q_stripes6"], data["rect_g_stripes9"]), data["rect_aligned_6x9"]),
    ]
    for found, expected in cases:
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_mutual_learning(parity):
    data = parity("aligned")
    logits = variable(data["kl_p1"], "float64")
    other = variable(data["kl_p2"], "float64")
    assert_loss(class_mutual(logits, other), data["kl_mutual"], [(logits, data["kl_mutual_dp1"])], "float64")
    assert other.grad is None
    x = variable(data["tri_feat"], "float64")
    loss = metric_mutual(x, float(data["metric_mutual_scale"]) * x.detach())
    np.testing.assert_allclose(float(loss), data["metric_mutual"], rtol=1e-6)


@both_dtypes
@pytest.mark.parametrize(
    ("key", "function", "student", "teacher", "letter"),
    [
        ("torch_dist", feature_hint, "f", "f0", "f"),
        ("byot_hint_relu_mask", masked_hint, "f", "f0", "f"),
        ("byot_kd_T3", softened_cross_entropy, "z", "z0", "z"),
    ],
)
def test_self_distillation_terms(parity, key, function, student, teacher, letter, dtype):
    data = parity("losses_cl")
    x, target = variable(data[student], dtype), variable(data[teacher], dtype)
    assert_loss(function(x, target), data[key], [(x, data[f"{key}_d{letter}"])], dtype)
    assert target.grad is None
