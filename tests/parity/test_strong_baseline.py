"""One whole training step of the strong baseline: losses, gradients, the network's and the centres' optimisers."""

from __future__ import annotations

import zlib

import numpy as np
import paddle
import pytest

from ppcls.arch.reid_net import build_net
from ppcls.loss import batch_hard_triplet, label_smoothing_cross_entropy
from ppcls.loss.center import center_loss
from ppcls.loss.triplet import mine
from ppcls.optimizer import CenterOptimizer
from tests.parity.compare import assert_sampled, image
from tests.parity.weights import draw, fill

CENTER_WEIGHT = 5e-4


def strong_baseline():
    """ResNet-18 with a frozen shift in its neck, its parameters by published names."""
    net = build_net(18, 20, last_stride=1, neck_bias="frozen", stem_relu=False)
    fill(net.backbone.base, "base.")
    fill(net.backbone.bn, "bottleneck.")
    net.backbone.bn.bias.set_value(paddle.zeros([512]))
    net.classifier.W.set_value(draw("classifier.weight", (20, 512)))
    named = {f"base.{name}": p for name, p in net.backbone.base.named_parameters()}
    named |= {"bottleneck.weight": net.backbone.bn.weight, "classifier.weight": net.classifier.W}
    return net, {name: p for name, p in named.items() if not p.stop_gradient}


@pytest.mark.slow
def test_training_step(parity):
    data = parity("sb_models")
    net, named = strong_baseline()
    drawn = np.random.RandomState(zlib.crc32(b"centers")).randn(20, 512).astype(np.float32)
    centers = paddle.to_tensor(drawn, stop_gradient=False)
    rate, decay = float(data["step_lr"]), float(data["step_wd_bias"])
    assert float(data["step_bias_lr_factor"]) == 1
    adam = paddle.optimizer.Adam(rate, parameters=list(named.values()), weight_decay=paddle.regularizer.L2Decay(decay))
    center_sgd = CenterOptimizer([centers], CENTER_WEIGHT)

    labels = data["step_labels"]
    out = net(image(data, "x_step"))
    mined = mine(out.global_feat, labels)
    np.testing.assert_allclose(mined.positive.numpy(), data["step_ap"], rtol=1e-4)
    np.testing.assert_allclose(mined.negative.numpy(), data["step_an"], rtol=1e-4)
    losses = [
        label_smoothing_cross_entropy(out.logits, labels, 0.1),
        batch_hard_triplet(out.global_feat, labels, 0.3),
        center_loss(out.global_feat, labels, centers),
    ]
    total = losses[0] + losses[1] + CENTER_WEIGHT * losses[2]
    np.testing.assert_allclose([float(loss) for loss in (total, *losses)], data["step_losses"], rtol=1e-4)
    total.backward()

    for name, norm in zip(data["step_gradnorm_names"].tolist(), data["step_gradnorms"], strict=True):
        if norm > 1e-3:
            assert float(named[name].grad.norm()) == pytest.approx(norm, rel=5e-3), name
    assert_sampled(centers.grad, data, "step_dcenters_w", 1e-4)
    before = {name: named[name].numpy().copy() for name in data["step_names"].tolist()}
    for name in before:
        assert_sampled(named[name].grad, data, f"step_grad_{name.replace('.', '_')}", 2e-2)
    adam.step()
    center_sgd.step()
    assert_sampled(centers, data, "step_centers_after", 1e-4)
    for name, old in before.items():
        if name != "base.bn1.bias":  # its gradient is analytically small
            assert_moved(named[name].numpy() - old, data, f"step_delta_{name.replace('.', '_')}", rate)


def assert_moved(change, data, key, rate):
    """At most 2 % of the entries differ by more than 2 % of the learning rate."""
    change = change.ravel()[:: int(data.get(f"{key}__step", 1))]
    assert (np.abs(change - data[key].ravel()) > 0.02 * rate).mean() <= 0.02, key
