"""Names of backbones as the field writes them."""

import itertools

import paddle
import pytest

from ppcls.arch.backbone.names import BackboneName, parse_backbone
from ppcls.arch.backbone.resnet import VARIANTS
from ppcls.arch.reid_net import build_net
from ppcls.utils.errors import UserError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", BackboneName(50, "plain")),
        ("resnet50_ibn_a", BackboneName(50, "ibn_a")),
        ("ibn_b_resnet101", BackboneName(101, "ibn_b")),
        ("se_resnet18", BackboneName(18, "se")),
        ("ibn_a_se_resnet34", BackboneName(34, "se_ibn_a")),
        ("se_ibn_b_resnext101_32x8d", BackboneName(101, "se_ibn_b", 32, 8)),
        ("resnext101_32x4d_ibn_a", BackboneName(101, "ibn_a", 32, 4)),
    ],
)
def test_published_spellings(name, expected):
    assert parse_backbone(name) == expected


def test_every_combination_is_a_variant():
    for se, ibn in itertools.product(("", "se_"), ("", "ibn_a_", "ibn_b_")):
        assert parse_backbone(f"{se}{ibn}resnet50").variant in VARIANTS


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("vgg16", "unknown"),
        ("resnext101", "groups and width"),
        ("resnet50_32x4d", "groups and width"),
        ("ibn_a_resnet50_ibn_b", "twice"),
        ("se_resnet50_se", "twice"),
    ],
)
def test_other_names_are_refused(name, word):
    with pytest.raises(UserError, match=word):
        parse_backbone(name)


def test_a_fresh_non_local_block_passes_its_input():
    plain, attended = build_net(50, seed=1), build_net(50, seed=1, non_local="one")
    attended.backbone.base.set_state_dict(plain.backbone.base.state_dict())
    for net in (plain, attended):
        net.eval()
    x = paddle.randn([1, 3, 32, 32])
    assert paddle.allclose(plain(x).embedding, attended(x).embedding, rtol=1e-6)


def test_groups_need_bottlenecks_and_non_local_needs_its_places():
    with pytest.raises(UserError, match="bottleneck"):
        build_net(18, groups=32, width_per_group=8)
    with pytest.raises(UserError, match="no published places"):
        build_net(34, non_local="half")
    with pytest.raises(UserError, match="half"):
        build_net(50, non_local="third")
