"""Pooling, stripe features, self-distillation branches: shapes, invariants, growth into networks."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.arch.gears.classifier import CLASSIFIERS
from ppcls.arch.gears.local_branch import LocalBranch, stripe_features
from ppcls.arch.gears.pooling import POOLINGS
from ppcls.arch.gears.self_distillation import BranchClassifiers, DistillationBranches
from ppcls.arch.reid_net import build_net
from ppcls.loss.self_distillation import SelfDistillation
from ppcls.optimizer import build_optimizer
from ppcls.utils.errors import UserError


def positive(seed, shape):
    return paddle.to_tensor(np.random.default_rng(seed).uniform(0.1, 2.0, shape).astype("float32"))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0.5, 20), st.floats(0.1, 10))
def test_generalized_mean_lies_between_mean_and_maximum(seed, p, scale):
    x = positive(seed, (2, 3, 4, 5))
    pool = POOLINGS.get("gem")(p=p)
    out = pool(x).numpy()
    assert (out <= x.numpy().max((2, 3)) * (1 + 1e-4)).all()
    if p >= 1:
        assert (out >= x.numpy().mean((2, 3)) * (1 - 1e-4)).all()
    np.testing.assert_allclose(pool(scale * x).numpy(), scale * out, rtol=1e-3)


def test_generalized_mean_with_exponent_one_is_the_mean_and_stays_in_float32():
    x = positive(0, (2, 3, 4, 5))
    np.testing.assert_allclose(POOLINGS.get("gem")(p=1)(x), POOLINGS.get("avg")()(x), rtol=1e-5)
    assert POOLINGS.get("gemp")()(x.astype("float16")).dtype == paddle.float32
    dead = paddle.zeros([1, 2, 3, 3])
    dead.stop_gradient = False
    POOLINGS.get("gemp")()(dead).sum().backward()
    assert np.isfinite(dead.grad.numpy()).all()


def test_every_trainable_parameter_of_a_network_is_in_an_optimizer():
    """The exponent of the pooling and the weight of a margin classifier are where one looks in vain."""
    for pooling in POOLINGS.names():
        for classifier in CLASSIFIERS.names():
            net = build_net(18, 3, pooling=pooling, classifier=classifier)
            grouped = {id(p) for _, members in net.param_groups() for p in members}
            assert grouped == {id(p) for p in net.parameters() if not p.stop_gradient}, (pooling, classifier)


def test_trained_exponent_and_margin_classifier_learn():
    net = build_net(18, 3, pooling="gemp", classifier="circle")
    optimizer = build_optimizer(net.param_groups(), "SGD", 0.1)
    before = [net.backbone.pool.p.numpy().copy(), net.classifier.W.numpy().copy()]
    x, labels = paddle.randn([3, 3, 32, 16]), paddle.to_tensor([0, 1, 2])
    paddle.nn.functional.cross_entropy(net(x, labels).logits, labels).backward()
    optimizer.step()
    assert float(net.backbone.pool.p) != before[0]
    assert (net.classifier.W.numpy() != before[1]).any()
    twin = build_net(18, 3, pooling="gemp", classifier="circle")
    twin.backbone.set_state_dict(net.backbone.state_dict())
    assert float(twin.backbone.pool.p) == float(net.backbone.pool.p)
    assert net.copy().freeze().param_groups()[-1] == ("pooling", [])


@pytest.mark.parametrize("pooling", ["gem", "gemp"])
def test_pooling_can_be_traced(pooling, tmp_path):
    pool = POOLINGS.get(pooling)()
    pool.eval()
    traced = paddle.jit.to_static(pool, input_spec=[paddle.static.InputSpec([None, 3, 4, 2], "float32")])
    paddle.jit.save(traced, str(tmp_path / "pool"))
    x = positive(1, (5, 3, 4, 2))
    np.testing.assert_allclose(paddle.jit.load(str(tmp_path / "pool"))(x).numpy(), pool(x).numpy(), rtol=1e-6)


def test_classifier_before_the_neck():
    net = build_net(18, 3, classifier="linear_bias", classifier_input="global_feat")
    net.eval()
    out = net(paddle.randn([2, 3, 32, 16]))
    np.testing.assert_allclose(out.logits.numpy(), net.classifier(out.global_feat).numpy(), rtol=1e-6)
    with pytest.raises(UserError, match="'embedding' or 'global_feat'"):
        build_net(18, 3, classifier_input="maps")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_stripes_are_unit_vectors_and_ignore_places_in_a_row(batch, height, width, seed):
    rng = np.random.default_rng(seed)
    maps = rng.random((batch, 8, height, width)).astype("float32")
    out = stripe_features(paddle.to_tensor(maps)).numpy()
    assert out.shape == (batch, 8, height)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, rtol=1e-5)
    mirrored = stripe_features(paddle.to_tensor(maps[..., ::-1].copy())).numpy()
    np.testing.assert_array_equal(mirrored, out)
    branch = LocalBranch(8, 4)
    local = branch(paddle.to_tensor(maps)).numpy()
    assert local.shape == (batch, 4, height)
    np.testing.assert_allclose(np.linalg.norm(local, axis=1), 1, rtol=1e-4)


def test_dead_stripes_have_a_finite_gradient():
    maps = paddle.zeros([1, 4, 3, 2])
    maps.stop_gradient = False
    stripe_features(maps).sum().backward()
    assert np.isfinite(maps.grad.numpy()).all()


def test_names_of_the_local_branch_are_the_published_ones():
    names = {"bn.weight", "bn.bias", "bn._mean", "bn._variance", "conv1.weight", "conv1.bias"}
    assert set(LocalBranch(8, 4).state_dict()) == names


@pytest.mark.parametrize("size", [(64, 32), (128, 64), (96, 48), (384, 128)])
@pytest.mark.parametrize("last_stride", [1, 2])
def test_branches_of_any_picture_have_one_shape(size, last_stride):
    height, width = size[0] // 4, size[1] // 4
    shapes = [(8, height, width), (16, height // 2, width // 2), (32, height // 4, width // 4)]
    shapes.append((64, height // (4 * last_stride), width // (4 * last_stride)))
    branches = DistillationBranches([shape[0] for shape in shapes])
    vectors = branches([paddle.randn([2, *shape]) for shape in shapes])
    assert list(vectors) == [4, 3, 2, 1]
    cells = max(1, height // 32) * max(1, width // 32)
    assert {tuple(vector.shape) for vector in vectors.values()} == {(2, 64 * cells)}
    logits = BranchClassifiers(64, 5, (3, 2, 1), np.random.RandomState(0))(vectors)
    assert {stage: tuple(z.shape) for stage, z in logits.items()} == {3: (2, 5), 2: (2, 5), 1: (2, 5)}


def test_branches_need_stages_that_double():
    with pytest.raises(ValueError, match="double"):
        DistillationBranches([8, 16, 32])
    with pytest.raises(ValueError, match="double"):
        DistillationBranches([8, 8, 16, 32])


def test_branches_train_in_the_fixed_mode_and_leave_embeddings_alone():
    """Every parameter of branches and their classifiers gets a gradient; the network's output does not know of them."""
    net = build_net(18, 3, stem_relu=False)
    branches, heads = DistillationBranches([64, 128, 256, 512]), None
    heads = BranchClassifiers(branches.dim, 3, (3, 2, 1), np.random.RandomState(0))
    x, labels = paddle.randn([4, 3, 64, 32]), [0, 1, 2, 0]
    net.eval()
    before = net(x).embedding.numpy()
    out = net(x)
    vectors = branches(out.maps)
    plan = SelfDistillation("fixed")
    hard, soft = plan.branch_terms(heads(vectors), out.logits, labels)
    (plan.feature_term(vectors) + hard + soft).backward()
    for layer in (branches, heads):
        for name, parameter in layer.named_parameters():
            if not parameter.stop_gradient:
                assert float(parameter.grad.abs().max()) > 0, name
    assert net.classifier.W.grad is None  # the deepest classifier teaches only
    np.testing.assert_array_equal(net(x).embedding.numpy(), before)


def test_branch_weights_depend_on_the_seed_alone():
    first, again, other = (DistillationBranches([8, 16, 32, 64], seed).state_dict() for seed in (1, 1, 2))
    name = "scala1.0.op.1.weight"
    np.testing.assert_array_equal(first[name].numpy(), again[name].numpy())
    assert (first[name].numpy() != other[name].numpy()).any()
