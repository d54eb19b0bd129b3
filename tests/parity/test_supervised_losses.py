"""Label smoothing, triplets, circle, center and learned weights against public reference code.

Values and gradients, float32 and float64; the inputs are float32 numbers, the references ran in float64.
"""

import numpy as np
import paddle
import pytest

from ppcls.arch.gears.classifier import CLASSIFIERS
from ppcls.loss import batch_hard_triplet, cross_entropy, label_smoothing_cross_entropy, soft_weighted_triplet
from ppcls.loss.center import center_loss
from ppcls.loss.circle import circle_pairs, cosface_pairs
from ppcls.loss.classification import adaptive_label_smoothing_cross_entropy
from ppcls.loss.improved_triplet import improved_triplet
from ppcls.loss.learned_weights import uncertainty_weighted
from ppcls.loss.pairwise import euclidean_dist
from ppcls.loss.triplet import mine
from ppcls.optimizer import CenterOptimizer
from tests.parity.compare import assert_close, assert_loss, variable

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@both_dtypes
@pytest.mark.parametrize(
    ("key", "function"),
    [
        ("xent", cross_entropy),
        ("ls_epsC", label_smoothing_cross_entropy),
        ("ls_epsCm1", lambda z, y: label_smoothing_cross_entropy(z, y, over="others")),
        ("ls_adaptive", adaptive_label_smoothing_cross_entropy),
    ],
)
def test_label_smoothing(parity, key, function, dtype):
    data = parity("losses_cl")
    z = variable(data["z"], dtype)
    slack = 10 if dtype == "float64" else 1  # the reference's float64 cross entropy holds to 1e-6
    assert_loss(function(z, data["y"]), data[key], [(z, data[f"{key}_dz"])], dtype, slack)


@pytest.mark.parametrize("case", [0, 1])
def test_label_smoothing_over_many_classes(parity, case):
    data = parity("sb_losses")
    z = variable(data["logits"])
    loss = label_smoothing_cross_entropy(z, data["targets"], float(data["eps"][case]))
    assert_loss(loss, data[f"ls_loss{case}"], [(z, data[f"ls_grad{case}"])])


def test_mining(parity):
    data = parity("sb_losses")
    mined = mine(variable(data["feat"]), data["labels"])
    np.testing.assert_array_equal(mined.farthest.numpy(), data["p_inds"])
    np.testing.assert_array_equal(mined.nearest.numpy(), data["n_inds"])
    assert_close(mined.positive, data["ap"], 1e-5)
    assert_close(mined.negative, data["an"], 1e-5)
    assert_close(euclidean_dist(variable(data["feat"]), variable(data["other"])), data["dist_other"], 1e-5)


@both_dtypes
@pytest.mark.parametrize("features", ["raw", "norm"])
@pytest.mark.parametrize("margin", [0, 1, None])
def test_batch_hard_triplet(parity, features, margin, dtype):
    data = parity("sb_losses")
    x = variable(data["feat"], dtype)
    number = None if margin is None else float(data["margins"][margin])
    loss = batch_hard_triplet(x, data["labels"], number, normalize=features == "norm")
    kind, case = ("soft", "") if margin is None else ("tri", margin)
    assert_loss(loss, data[f"{kind}_{features}_loss{case}"], [(x, data[f"{kind}_{features}_grad{case}"])], dtype)


@both_dtypes
@pytest.mark.parametrize(
    ("key", "function"),
    [
        ("triplet_l2norm_0", lambda f, y: batch_hard_triplet(f, y, 0.3, normalize=True)),
        ("triplet_raw_mask_0", lambda f, y: batch_hard_triplet(f, y, 0.3)),
        ("triplet_soft_hard", batch_hard_triplet),
        ("improved_triplet_0", improved_triplet),
        ("twoap_triplet_0", lambda f, y: improved_triplet(f, y, form="inside")),
        ("circle_pair_0", lambda f, y: circle_pairs(f, y, 0.25, 64.0)),
        ("circle_pair_1", lambda f, y: circle_pairs(f, y, 0.25, 32.0)),
        ("cosface_pair_0", lambda f, y: cosface_pairs(f, y, 0.25, 64.0)),
        ("cosface_pair_1", lambda f, y: cosface_pairs(f, y, 0.25, 32.0)),
    ],
)
def test_pair_losses(parity, key, function, dtype):
    data = parity("losses_cl")
    f = variable(data["f"], dtype)
    assert_loss(function(f, data["y"]), data[key], [(f, data[f"{key}_df"])], dtype)


@both_dtypes
@pytest.mark.parametrize(
    ("key", "metric"), [("triplet_soft_weighted", "euclidean"), ("triplet_soft_weighted_cos", "unit_squared")]
)
def test_weighted_triplet(parity, key, metric, dtype):
    data = parity("losses_cl")
    f = variable(data["f"], dtype)
    loss = soft_weighted_triplet(f, data["y"], metric=metric, stabilizer=1e-6)
    assert_loss(loss, data[key], [(f, data[f"{key}_df"])], dtype)


@both_dtypes
@pytest.mark.parametrize(
    ("key", "name", "features", "setting"),
    [
        ("circle_softmax_ce_0", "circle", "f", "softmax_0_s_m"),
        ("cos_softmax_ce_0", "cosface", "f", "softmax_0_s_m"),
        ("arc_softmax_ce_0", "arcface_turned", "f", "softmax_0_s_m"),
        ("arcface_0", "arcface", "f_arc", "arcface_0_s_m"),
        ("arcface_1", "arcface", "f_arc", "arcface_1_s_m"),
    ],
)
def test_margin_heads(parity, key, name, features, setting, dtype):
    data = parity("losses_cl")
    scale, margin = data[setting].tolist()
    head = CLASSIFIERS.get(name)(32, 12, np.random.RandomState(0), scale=scale, margin=margin)
    head.to(dtype=dtype)
    head.W.set_value(data["W"].astype(dtype))
    f = variable(data[features], dtype)
    logits = head(f, paddle.to_tensor(data["y"]))
    if "_ce_" in key:
        assert_close(logits, data[key.replace("_ce_", "_logits_")], 1e-5)
    loss = cross_entropy(logits, data["y"])
    slack = 10 if dtype == "float64" else 1
    assert_loss(loss, data[key], [(f, data[f"{key}_df"]), (head.W, data[f"{key}_dW"])], dtype, slack)


def test_center_loss_and_two_steps_of_its_optimizer(parity):
    data = parity("sb_losses")
    weight = float(data["center_w"])
    centers = variable(data["centers0"], "float64")
    optimizer = CenterOptimizer([centers], weight, float(data["center_lr"]))
    for step, key in enumerate(("feat", "center_feat1")):
        features = variable(data[key], "float64")
        loss = center_loss(features, data["center_labels"], centers)
        np.testing.assert_allclose(float(loss), data[f"center_loss{step}"], rtol=1e-7)
        (weight * loss).backward()
        assert_close(features.grad, data[f"center_dfeat_w{step}"], 1e-7)
        assert_close(centers.grad, data[f"center_dcenters_w{step}"], 1e-7)
        optimizer.step()
        optimizer.clear_grad()
        assert_close(centers, data[f"centers_after{step}"], 1e-6)


def test_unsquared_center_loss_with_momentum_and_decay(parity):
    data = parity("losses_cl")
    centers = variable(data["centers"])
    optimizer = CenterOptimizer([centers], 5e-4, 0.5, momentum=0.9, weight_decay=1e-4)
    for step in range(3):
        features = variable(data["f"])
        loss = center_loss(features, data["y"], centers, squared=False)
        np.testing.assert_allclose(float(loss), data[f"center_l2_loss{step}"], rtol=1e-5)
        (5e-4 * loss).backward()
        if step == 0:
            assert_close(features.grad, data["center_l2_dfeat_w"], 2e-5)
        optimizer.step()
        optimizer.clear_grad()
        assert_close(centers, data[f"center_l2_centers{step}"], 1e-5)


@both_dtypes
def test_strong_baseline_totals(parity, dtype):
    data = parity("sb_losses")
    feat, scores = variable(data["feat"], dtype), variable(data["total_scores"], dtype)
    labels = data["center_labels"]
    total = label_smoothing_cross_entropy(scores, labels, 0.1) + batch_hard_triplet(feat, labels, 0.3)
    gradients = [
        (feat, data["total_softmax_triplet_dfeat"]),
        (scores, data["total_softmax_triplet_dscores"]),
    ]
    slack = 10 if dtype == "float64" else 1
    assert_loss(total, data["total_softmax_triplet"], gradients, dtype, slack)
    feat, centers = variable(data["feat"], dtype), variable(data["centers0"], dtype)
    total = label_smoothing_cross_entropy(scores, labels, 0.1) + batch_hard_triplet(feat, labels, 0.3)
    total = total + float(data["center_w"]) * center_loss(feat, labels, centers)
    gradients = [(feat, data["total_triplet_center_dfeat"]), (centers, data["total_triplet_center_dcenters"])]
    assert_loss(total, data["total_triplet_center"], gradients, dtype, slack)


@both_dtypes
def test_learned_weight(parity, dtype):
    data = parity("losses_cl")
    z, s = variable(data["z"], dtype), variable(data["lw_s0"], dtype)
    loss = uncertainty_weighted(label_smoothing_cross_entropy(z, data["y"]), s)
    gradients = [(z, data["learned_weight_dz"]), (s, data["learned_weight_ds"])]
    assert_loss(loss, data["learned_weight"], gradients, dtype, 10 if dtype == "float64" else 1)
    f, s = variable(data["f"], dtype), variable(1.64, dtype)
    loss = uncertainty_weighted(improved_triplet(f, data["y"], form="inside"), s, 0.5, 1.0)
    gradients = [(f, data["learned_weight_triplet_005_df"]), (s, data["learned_weight_triplet_005_ds"])]
    assert_loss(loss, data["learned_weight_triplet_005"], gradients, dtype)


@pytest.mark.parametrize(("key", "rate"), [("lr1e-4", 1e-4), ("lr05", 0.5)])
def test_learned_weight_over_six_steps(parity, key, rate):
    data = parity("losses_cl")
    loss, s = (
        label_smoothing_cross_entropy(variable(data["z"], "float64"), data["y"]).detach(),
        variable(0.0, "float64"),
    )
    optimizer = paddle.optimizer.Momentum(rate, 0.9, [s], use_nesterov=True, weight_decay=1e-4)
    trace = []
    for _ in range(6):
        uncertainty_weighted(loss, s).backward()
        optimizer.step()
        optimizer.clear_grad()
        trace.append(float(s))
    np.testing.assert_allclose(trace, data[f"learned_weight_s_trace_{key}"], rtol=1e-5)


def grid(rows, columns, a=0.37, b=0.11, scale=1.0):
    i, j = np.indices((rows, columns))
    return scale * np.sin(a * (i * columns + j) + b * (i + 1) * (j + 1))


def test_closed_form_probes():
    """The same losses on inputs without a random generator; public code gives these numbers in float64."""
    y = np.repeat([0, 1, 2], 4)
    f, z = (paddle.to_tensor(a) for a in (grid(12, 16), grid(12, 5, 0.61, 0.07, 3)))
    offset = grid(3, 16, 1.3, 0.4)[y]
    apart = paddle.to_tensor(grid(12, 16) + offset)
    centers = paddle.to_tensor(grid(5, 16, 0.23, 0.17))
    heads = {name: CLASSIFIERS.get(name)(16, 5, np.random.RandomState(0)) for name in ("arcface", "circle")}
    for head in heads.values():
        head.to(dtype="float64")
        head.W.set_value(grid(16, 5, 0.41, 0.09).T)
    found = {
        "eps/C": label_smoothing_cross_entropy(z, y),
        "eps/(C-1)": label_smoothing_cross_entropy(z, y, over="others"),
        "triplet unit": batch_hard_triplet(f, y, 0.3, normalize=True),
        "triplet raw": batch_hard_triplet(f, y, 0.3),
        "soft raw": batch_hard_triplet(f, y),
        "soft unit": batch_hard_triplet(f, y, normalize=True),
        "improved": improved_triplet(f, y),
        "inside": improved_triplet(f, y, form="inside"),
        "apart, triplet": batch_hard_triplet(apart, y, 0.3, normalize=True),
        "apart, improved": improved_triplet(apart, y),
        "apart, inside": improved_triplet(apart, y, form="inside"),
        "circle pairs": circle_pairs(f, y),
        "center": center_loss(f, y, centers),
        "center unsquared": center_loss(f, y, centers, squared=False),
        "arcface": cross_entropy(heads["arcface"](f, paddle.to_tensor(y)), y),
        "circle": cross_entropy(heads["circle"](f, paddle.to_tensor(y)), y),
    }
    expected = [
        2.838385510197837,
        2.8374471768703855,
        0.576071586983526,
        1.0719048241905025,
        1.2301488399887113,
        0.8528755321223711,
        1.915104867913657,
        1.915104867913657,
        0.07374797153200598,
        1.021086061037586,
        0.9617452472493958,
        59.89043339517145,
        15.311447219893134,
        3.8664189628474244,
        33.897792596938224,
        54.56485112905017,
    ]
    for (name, value), wanted in zip(found.items(), expected, strict=True):
        assert float(value) == pytest.approx(wanted, rel=1e-10), name
    assert float(soft_weighted_triplet(f, y, stabilizer=1e-6)) == pytest.approx(0.6657437273608698, rel=1e-10)
