"""The backbone family against public modules: single blocks, whole trunks, parameter counts."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from ppcls.arch.backbone.names import parse_backbone
from ppcls.arch.backbone.resnet import VARIANTS, BasicBlock, Bottleneck, TrunkOptions
from ppcls.arch.reid_net import build_net, count_parameters
from tests.parity.weights import fill

# block → (variant, c_in, planes, stride, further trunk options)
BLOCKS = {
    "plain": ("plain", 256, 64, 1, {}),
    "ibn_a": ("ibn_a", 256, 64, 1, {}),
    "ibn_a_down": ("ibn_a", 256, 128, 2, {}),
    "ibn_a_basic": ("ibn_a", 64, 64, 1, {}),
    "ibn_b": ("ibn_b_all", 256, 64, 1, {}),
    "ibn_b_down": ("ibn_b_all", 256, 128, 2, {}),
    "ibn_b_basic": ("ibn_b_all", 64, 64, 1, {}),
    "se": ("se", 256, 64, 1, {}),
    "se_basic": ("se", 64, 64, 1, {}),
    "se_ibn_a": ("se_ibn_a", 256, 64, 1, {}),
    "se_ibn_b": ("se_ibn_b_all", 256, 64, 1, {}),
    "resnext32x8d": ("plain", 256, 64, 1, {"groups": 32, "width_per_group": 8}),
    "resnext32x8d_down": ("plain", 256, 128, 2, {"groups": 32, "width_per_group": 8}),
    "se_caffe_down": ("se_biased", 256, 128, 2, {"caffe": True}),
    "se_resnext32x4d": ("se_biased", 256, 64, 1, {"groups": 32, "width_per_group": 4}),
}
TRUNKS = {
    "resnet50": {},
    "resnet50_ibn_a": {"variant": "ibn_a"},
    "resnet18_ibn_a": {"depth": 18, "variant": "ibn_a"},
    "ibn_b_resnet50_last": {"variant": "ibn_b"},
    "ibn_b_resnet50_all": {"variant": "ibn_b_all"},
    "se_resnet50": {"variant": "se"},
    "se_ibn_a_resnet50": {"variant": "se_ibn_a"},
    "se_ibn_b_resnet50_all": {"variant": "se_ibn_b_all"},
    "se_resnet50_caffe": {"variant": "se_biased", "caffe": True},
    "resnext101_32x8d": {"depth": 101, "groups": 32, "width_per_group": 8},
}


def image(numbers, name: str) -> np.ndarray:
    """The input ``name``: noise, plus coarse colour for whole networks."""
    rng = np.random.RandomState(int(numbers[f"{name}_seed"]))
    batch, channels, height, width = (int(size) for size in numbers[f"{name}_shape"])
    fine = rng.randn(batch, channels, height, width)
    if name == "x_full":
        coarse = rng.randn(batch, channels, height // 32, width // 32)
        fine = 0.5 * fine + coarse.repeat(32, 2).repeat(32, 3)
    made = fine.astype(np.float32)
    np.testing.assert_allclose(made.ravel()[:6], numbers[f"{name}_check"], rtol=1e-6)
    return made


def compare(mine, numbers, key: str, tolerance: float) -> None:
    """A stored array, whole or sampled, within ``tolerance`` of its largest value."""
    mine = np.asarray(mine, np.float64)
    if f"{key}__step" in numbers:
        assert mine.shape == tuple(numbers[f"{key}__shape"])
        stored = numbers[f"{key}__stat"]
        found = [mine.mean(), mine.std(), mine.min(), mine.max(), np.linalg.norm(mine)]
        np.testing.assert_allclose(found, stored, atol=tolerance * abs(stored).max(), err_msg=key)
        mine = mine.ravel()[:: int(numbers[f"{key}__step"])]
    expected = np.asarray(numbers[key], np.float64)
    assert abs(mine.ravel() - expected.ravel()).max() <= tolerance * abs(expected).max(), key


@pytest.mark.parametrize("name", BLOCKS)
def test_block_equals_the_reference(name, parity):
    numbers = parity("ibn_se")
    variant, c_in, planes, stride, further = BLOCKS[name]
    parts = VARIANTS[variant](TrunkOptions(**further))[1](0, 1, 2)
    if variant == "ibn_b_all":
        assert parts.post_norm is not None
    kind = BasicBlock if "basic" in name else Bottleneck
    block = kind(c_in, planes, stride, parts)
    fill(block, f"blk.{name}.")
    names = [str(item) for item in numbers[f"{name}_param_names"]]
    assert count_parameters(block) == int(numbers[f"{name}_param_numel"].sum())

    x = paddle.to_tensor(image(numbers, f"{name}_x"), stop_gradient=False)
    block.eval()
    compare(block(x).numpy(), numbers, f"{name}_eval", 1e-5)
    block.train()
    out = block(x)
    compare(out.numpy(), numbers, f"{name}_train", 1e-5)
    weights = np.random.RandomState(int(numbers[f"{name}_gseed"])).randn(*numbers[f"{name}_out_shape"])
    (out * paddle.to_tensor(weights.astype("float32"))).sum().backward()
    compare(x.grad.numpy(), numbers, f"{name}_train_dx", 1e-4)
    ours = dict(block.named_parameters())
    for item, norm in zip(names, numbers[f"{name}_param_gradnorm"], strict=True):
        if norm > 1e-3:  # smaller ones are analytically zero
            assert np.linalg.norm(ours[item].grad.numpy()) == pytest.approx(norm, rel=5e-4), item
    for statistic, ending in (("bn2._mean", "bn2_rm"), ("bn2._variance", "bn2_rv")):
        compare(block.state_dict()[statistic].numpy(), numbers, f"{name}_{ending}", 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUNKS)
def test_trunk_equals_the_reference(name, parity):
    numbers = parity("ibn_se")
    net = build_net(last_stride=1, **TRUNKS[name])
    if name == "se_resnet50_caffe":
        fill_caffe(net.backbone.base)
    else:
        fill(net.backbone.base, "full.")
    net.eval()
    x = image(numbers, "x_full")
    with paddle.no_grad():
        out = net(paddle.to_tensor(x[:1] if name == "resnext101_32x8d" else x))
    assert list(out.maps[-1].shape) == numbers[f"{name}_map_shape"].tolist()
    compare(out.global_feat.numpy(), numbers, f"{name}_gap", 1e-5)
    compare(out.maps[-1].numpy(), numbers, f"{name}_map", 1e-5)


def fill_caffe(trunk) -> None:
    """The SENet files call the stem ``layer0``."""
    for name, layer in trunk.named_children():
        fill(layer, f"full.layer0.{name}." if name in ("conv1", "bn1") else f"full.{name}.")


def test_parameter_counts_are_the_published_ones(parity):
    numbers = parity("ibn_se")
    for name, (_, trunk, reid, _) in zip(
        numbers["count_names"], numbers["count_fc1000_trunk_reid751_dead"].tolist(), strict=True
    ):
        plain_name = str(name).replace("_all", "").replace("_last", "")
        parsed = parse_backbone(plain_name)
        if parsed.depth > 50:  # the widest nets take long to draw; their blocks are those counted above
            continue
        variant = f"{parsed.variant}_all" if "_all" in str(name) else parsed.variant
        net = build_net(parsed.depth, 751, variant=variant)
        assert count_parameters(net.backbone.base) == trunk, name
        assert count_parameters(net) == reid, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trunk"),
    [
        ("resnext101_32x8d", 86_742_336),
        ("se_resnext101_32x8d", 91_485_504),
        ("resnext101_32x4d", 42_128_704),
        ("ibn_b_resnet101", 42_501_696),
    ],
)
def test_parameter_counts_of_the_deep_ones(name, trunk):
    parsed = parse_backbone(name)
    net = build_net(parsed.depth, variant=parsed.variant, groups=parsed.groups, width_per_group=parsed.width_per_group)
    assert count_parameters(net.backbone.base) == trunk


def test_non_local_parameter_counts_are_the_published_ones():
    plain = count_parameters(build_net(50).backbone.base)
    assert count_parameters(build_net(50, non_local="half").backbone.base) - plain == 7_358_464
    assert count_parameters(build_net(50, non_local="one").backbone.base) - plain == 28_687
