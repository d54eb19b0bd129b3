"""Building, copying, freezing and growing networks."""

import numpy as np
import paddle
import pytest

from ppcls.arch.gears.classifier import CLASSIFIERS
from ppcls.arch.reid_net import ReIDOutput, build_net, check_embedding, count_parameters, feature_dim_of
from ppcls.utils.errors import UserError


def state_of(layer):
    return {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a) and list(a) == list(b)


@pytest.fixture(scope="module")
def images():
    return paddle.to_tensor(np.random.RandomState(0).randn(4, 3, 64, 32).astype("float32"))


@pytest.fixture
def net():
    return build_net(18, num_classes=5)


# trunk figures of the literature plus the neck (two numbers per feature)
COUNTS = {
    (18, "plain"): 11_176_512 + 1024,
    (34, "plain"): 21_285_696,
    (50, "plain"): 23_512_128,
    (101, "plain"): 42_500_160 + 4096,
    (34, "ibn_a"): 21_285_696,
    (50, "cbam"): 26_028_640,
    (50, "separable"): 23_569_344,
}


@pytest.mark.parametrize("depth, variant", COUNTS)
def test_parameter_counts(depth, variant):
    net = build_net(depth, variant=variant)
    assert count_parameters(net.backbone) == COUNTS[depth, variant]
    assert net.feature_dim == feature_dim_of(depth)


def test_num_domains_is_honoured():
    one, two, four = (count_parameters(build_net(18, variant="separable", num_domains=number)) for number in (1, 2, 4))
    assert one == count_parameters(build_net(18))
    assert four - two == 2 * (two - one) > 0


def test_weights_depend_on_the_seed_alone():
    paddle.seed(1)
    first = state_of(build_net(18, num_classes=3, seed=7))
    paddle.seed(2)
    build_net(34)
    assert same(first, state_of(build_net(18, num_classes=3, seed=7)))
    other = state_of(build_net(18, num_classes=3, seed=8))
    assert not np.array_equal(first["backbone.base.conv1.weight"], other["backbone.base.conv1.weight"])
    deeper = state_of(build_net(34, seed=7))
    assert not np.array_equal(first["backbone.base.conv1.weight"], deeper["backbone.base.conv1.weight"])


def test_convolutions_have_the_spread_of_he():
    for name, tensor in build_net(34).backbone.base.state_dict().items():
        if len(tensor.shape) == 4:
            c_out, _, height, width = tensor.shape
            expected = (2 / (c_out * height * width)) ** 0.5
            assert float(tensor.numpy().std()) == pytest.approx(expected, rel=0.05), name


def test_state_names_are_those_of_public_checkpoints(net):
    names = list(net.backbone.state_dict())
    assert names[0] == "base.conv1.weight"
    assert {"base.layer2.0.downsample.1._variance", "base.layer4.1.bn2.bias", "bn.weight", "bn._mean"} <= set(names)
    assert list(net.classifier.state_dict()) == ["W"]


@pytest.mark.parametrize("last_stride, size", [(2, [2, 1]), (1, [4, 2])])
def test_output_shapes(images, last_stride, size):
    out = build_net(18, num_classes=5, last_stride=last_stride)(images)
    assert [m.shape[1:] for m in out.maps] == [[64, 16, 8], [128, 8, 4], [256, 4, 2], [512, *size]]
    assert (out.global_feat.shape, out.embedding.shape, out.logits.shape) == ([4, 512], [4, 512], [4, 5])
    np.testing.assert_allclose(out.global_feat.numpy(), out.maps[3].numpy().mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_no_classes_no_logits(images):
    net = build_net(18)
    assert net(images).logits is None
    assert (net.num_classes, net.param_groups()[2]) == (0, ("classifier", []))
    with pytest.raises(UserError, match="no classifier"):
        net.expand(1, np.random.RandomState(0))


def test_split_and_detach(images, net):
    out = net(images)
    halves = out.split(2)
    assert [isinstance(half, ReIDOutput) for half in halves] == [True, True]
    np.testing.assert_array_equal(halves[1].embedding.numpy(), out.embedding.numpy()[2:])
    np.testing.assert_array_equal(halves[0].maps[2].numpy(), out.maps[2].numpy()[:2])
    np.testing.assert_array_equal(halves[1].logits.numpy(), out.logits.numpy()[2:])
    assert out.detach().embedding.stop_gradient and out.detach().maps[0].stop_gradient
    assert not out.embedding.stop_gradient
    with pytest.raises(ValueError, match="3 equal parts"):
        out.split(3)


def test_a_copy_shares_nothing(images, net):
    twin, before = net.copy(), state_of(net)
    assert same(before, state_of(twin))
    twin.train()
    twin(images).logits.sum().backward()
    optimizer = paddle.optimizer.SGD(0.1, parameters=[p for p in twin.parameters() if not p.stop_gradient])
    optimizer.step()
    twin.expand(2, np.random.RandomState(0))
    assert same(before, state_of(net))
    assert net.backbone.base.conv1.weight.grad is None
    after = state_of(twin)
    for name in ("backbone.base.conv1.weight", "backbone.bn._mean", "backbone.base.bn1._variance"):
        assert not np.array_equal(before[name], after[name]), name
    assert (net.num_classes, twin.num_classes) == (5, 7)


def test_frozen_is_frozen_for_good(images, net):
    teacher = net.copy().freeze()
    before = state_of(teacher)
    reference = teacher(images).embedding.numpy()
    teacher.train()
    holder = paddle.nn.LayerList([teacher])
    holder.train()  # sets the mode of all sublayers, past ``ReIDNet.train``
    out = teacher(images)
    assert out.logits.stop_gradient
    np.testing.assert_array_equal(out.embedding.numpy(), reference)
    assert same(before, state_of(teacher))
    assert not net.backbone.base.conv1.weight.stop_gradient
    pixels = images.clone()
    pixels.stop_gradient = False
    teacher(pixels).logits.sum().backward()
    assert float(pixels.grad.abs().sum()) > 0


@pytest.mark.parametrize("neck_bias, trained", [("train", ["weight", "bias"]), ("frozen", ["weight"])])
def test_parameter_groups(neck_bias, trained):
    net = build_net(50, num_classes=5, neck_bias=neck_bias)
    groups = dict(net.param_groups())
    assert list(groups) == ["base", "neck", "classifier"]
    assert len(groups["base"]) == 159
    assert [p.shape for p in groups["neck"]] == [[2048]] * len(trained)
    assert groups["classifier"][0] is net.classifier.W
    np.testing.assert_array_equal(net.backbone.bn.bias.numpy(), np.zeros(2048, "float32"))


def test_idle_channel_gates_are_not_trained():
    idle, applied = (build_net(18, variant="cbam", cbam_channel=flag) for flag in (False, True))
    assert len(dict(applied.param_groups())["base"]) - len(dict(idle.param_groups())["base"]) == 8 * 2


def test_every_trained_parameter_receives_a_gradient(images):
    for variant in ("plain", "ibn_a", "cbam"):
        net = build_net(18, num_classes=3, variant=variant, cbam_channel=True)
        out = net(images)
        (out.logits**2).sum().backward()
        for group, parameters in net.param_groups():
            assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in parameters), (variant, group)


def test_margin_classifier_gets_its_labels(images):
    net = build_net(18, num_classes=5, classifier="arc")
    net.classifier.W.set_value(np.random.RandomState(0).randn(5, 512).astype("float32"))
    net.eval()
    labels = paddle.to_tensor([0, 1, 2, 3])
    free, held = net(images).logits.numpy(), net(images, labels).logits.numpy()
    changed = free != held
    assert changed[range(4), range(4)].all() and changed.sum() == 4


def test_unbiased_switch_reaches_every_norm():
    for flag in (True, False):
        layers = build_net(18, variant="ibn_a", bn_unbiased=flag).sublayers()
        assert {layer.unbiased for layer in layers if hasattr(layer, "unbiased")} == {flag}


def test_tracing_in_evaluation(tmp_path, images, net):
    net.eval()
    spec = [paddle.static.InputSpec([None, 3, 64, 32], "float32")]
    expected = net(images).embedding.numpy()
    paddle.jit.save(paddle.jit.to_static(net.backbone, input_spec=spec), str(tmp_path / "net"))
    *_, embedding = paddle.jit.load(str(tmp_path / "net"))(images)
    np.testing.assert_allclose(embedding.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_classifier_names_are_registered():
    margins = {"arc", "nonorm_arc", "arcface", "arcface_turned", "cosface", "circle"}
    assert set(CLASSIFIERS.names()) == {"linear", "linear_bias", "sphere", *margins}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"depth": 20}, "choose one of"),
        ({"depth": 18, "last_stride": 3}, "choose 1 or 2"),
        ({"depth": 18, "variant": "ibn"}, "ibn"),
        ({"depth": 18, "pooling": "mean"}, "pooling"),
        ({"depth": 18, "neck_bias": "no"}, "'train' or 'frozen'"),
        ({"depth": 18, "classifier": "lineal", "num_classes": 2}, "linear"),
        ({"depth": 18, "num_classes": -1}, "-1"),
        ({"depth": 18, "variant": "separable", "num_domains": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_explained(options, message):
    with pytest.raises(UserError, match=message):
        build_net(**options)


def test_embedding_must_fit_the_depth():
    check_embedding(18, 512)
    check_embedding(50, 2048)
    with pytest.raises(UserError, match="--embedding 512"):
        check_embedding(34, 2048)
    with pytest.raises(UserError, match="18, 34, 50, 101"):
        feature_dim_of(22)


def test_domains_need_a_separable_network(images, net):
    with pytest.raises(UserError, match="separable"):
        net(images, domain=1)
