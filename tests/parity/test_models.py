"""Networks against the public PyTorch reference: parameter counts, features, maps, running statistics."""

import numpy as np
import paddle
import pytest

from ppcls.arch.reid_net import build_net, count_parameters
from tests.parity.weights import fill

NETS = {
    "model_r34": {"depth": 34},
    "model_r50_s2": {"depth": 50},
    "model_r50_s1": {"depth": 50, "last_stride": 1},
    "model_r50_max": {"depth": 50, "pooling": "max"},
    "model_ibn50": {"depth": 50, "variant": "ibn_a"},
    "model_cbam50": {"depth": 50, "variant": "cbam"},
    "model_sep50": {"depth": 50, "variant": "separable"},
}
EVAL = 1e-5
TRAIN = 1e-3  # batch statistics of four images amplify rounding: float64 is as far from the float32 reference
STATISTICS = 5e-4


def relative(mine, reference):
    """Largest deviation relative to the largest reference value."""
    return np.abs(np.asarray(mine) - reference).max() / np.abs(reference).max()


def relative_l2(mine, reference):
    return np.linalg.norm(np.asarray(mine) - reference) / np.linalg.norm(reference)


def l2_normalised(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def images():
    return paddle.to_tensor(np.random.RandomState(3).randn(4, 3, 64, 32).astype("float32"))


@pytest.mark.parametrize("name", NETS)
def test_network_equals_the_reference_in_evaluation_and_training(name, parity, images):
    expected = parity(name)
    net = build_net(**NETS[name])
    assert count_parameters(net.backbone) == int(expected["nparam"])
    fill(net.backbone)

    net.eval()
    out = net(images)
    assert relative(out.embedding, expected["embedding"]) < EVAL
    global_feat = out.global_feat.numpy()
    if name == "model_sep50":  # the reference normalises this one output of this one network, in evaluation only
        global_feat = l2_normalised(global_feat)
    assert relative(global_feat, expected["glob"]) < EVAL
    for i, stage in enumerate(out.maps):
        if f"mapmean{i}" in expected:
            assert relative(stage.numpy().mean(axis=(0, 2, 3)), expected[f"mapmean{i}"]) < EVAL

    net.train()
    out = net(images)
    assert relative(out.global_feat, expected["train_glob"]) < TRAIN
    assert relative_l2(out.embedding, expected["train_embedding"]) < TRAIN
    if "bn_var_after" in expected:
        assert relative(net.backbone.bn._mean, expected["bn_mean_after"]) < STATISTICS
        assert relative(net.backbone.bn._variance, expected["bn_var_after"]) < STATISTICS


def test_paddles_own_running_variance_is_what_the_switch_restores(parity, images):
    """On CPU the biased update is off by a quarter of the batch variance with four images: the switch is visible."""
    expected = parity("model_r34")
    net = build_net(34, bn_unbiased=False)
    fill(net.backbone)
    before = net.backbone.bn._variance.numpy()
    net.train()
    out = net(images)
    batch = out.global_feat.numpy().astype("float64").var(axis=0)
    np.testing.assert_allclose(net.backbone.bn._variance.numpy(), 0.9 * before + 0.1 * batch, rtol=1e-4, atol=1e-6)
    assert relative(net.backbone.bn._variance, expected["bn_var_after"]) > 1e-3


def test_mixed_domains_keep_their_order_and_their_own_statistics(images):
    """The reference returns mixed batches grouped by domain; here row i stays row i."""
    net = build_net(18, variant="separable", num_domains=3)
    fill(net.backbone)
    net.eval()
    domains = [2, 0, 1, 0]
    mixed = net(images, domain=domains)
    for row, domain in enumerate(domains):
        alone = net(images[row : row + 1], domain=domain)
        np.testing.assert_allclose(mixed.embedding[row].numpy(), alone.embedding[0].numpy(), rtol=1e-4, atol=1e-4)
    as_tensor = net(images, domain=paddle.to_tensor(domains))
    np.testing.assert_array_equal(as_tensor.embedding.numpy(), mixed.embedding.numpy())
