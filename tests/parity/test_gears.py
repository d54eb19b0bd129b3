"""GeM, the local branch of AlignedReID++ and the self-distillation branches against public reference code."""

import numpy as np
import paddle
import pytest

from ppcls.arch.gears.local_branch import LocalBranch, stripe_features
from ppcls.arch.gears.pooling import POOLINGS
from ppcls.arch.gears.self_distillation import DistillationBranches
from ppcls.arch.reid_net import build_net, count_parameters
from ppcls.loss import batch_hard_triplet, label_smoothing_cross_entropy
from ppcls.loss.self_distillation import SelfDistillation, feature_hint
from tests.parity.compare import assert_close, assert_loss, assert_sampled, image, variable
from tests.parity.weights import draw, fill


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-7)])
def test_generalized_mean(parity, dtype, tolerance):
    data = parity("losses_cl")
    pool = POOLINGS.get("gem")()
    assert_close(pool(variable(data["gem_x"], dtype)), data["gem3_out"], 1e-5)
    x = variable(np.abs(data["gem_x"]), dtype)
    out = pool(x)
    assert_close(out, data["gem3_absx_out"], tolerance)
    assert_loss(out.square().sum(), data["gem3_sumsq"], [(x, data["gem3_sumsq_dx"])], dtype)
    learned = POOLINGS.get("gemp")()
    learned.to(dtype=dtype)
    learned.p.set_value(np.full([1], data["gemp_p"], dtype))
    x = variable(np.abs(data["gem_x"]), dtype)
    gradients = [(x, data["gemp_sumsq_dx"]), (learned.p, data["gemp_sumsq_dp"])]
    assert_loss(learned(x).square().sum(), data["gemp_sumsq"], gradients, dtype)


ALIGNED_STEM = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


@pytest.mark.slow
def test_aligned_network(parity):
    data = parity("aligned")
    classes = int(data["num_classes"])
    net = build_net(50, classes, classifier="linear_bias", classifier_input="global_feat")
    branch = LocalBranch()
    for part, number in ALIGNED_STEM.items():
        fill(getattr(net.backbone.base, part), f"base.{number}.")
    net.classifier.W.set_value(draw("classifier.weight", (classes, 2048)))
    net.classifier.b.set_value(draw("classifier.bias", (classes,)))
    fill(branch)
    published = count_parameters(net.backbone.base) + count_parameters(net.classifier) + count_parameters(branch)
    assert published == int(data["params"])
    net.eval()
    with paddle.no_grad():
        out = net(image(data, "x_eval"))
        assert_sampled(out.global_feat, data, "eval_f", 1e-5)
        assert_sampled(stripe_features(out.maps[-1]), data, "eval_lf", 1e-5)
        net.train()
        out = net(image(data, "x_train"))
        local = branch(out.maps[-1])
    assert_sampled(out.global_feat, data, "train_f", 3e-4)
    assert_sampled(out.logits, data, "train_logits", 3e-4)
    assert_sampled(local, data, "train_lf", 3e-4)
    assert_sampled(branch.bn._mean, data, "bn_running_mean", 3e-4)
    assert_sampled(branch.bn._variance, data, "bn_running_var", 3e-4)
    assert_sampled(net.backbone.base.bn1._variance, data, "base_1_running_var", 1e-5)


def distilling(depth, classes):
    """The published network: no ReLU in the stem, classifier before the neck."""
    net = build_net(depth, classes, 1, stem_relu=False, neck_bias="frozen", classifier_input="global_feat")
    channels = [count * (4 if depth >= 50 else 1) for count in (64, 128, 256, 512)]
    branches = DistillationBranches(channels)
    fill(net.backbone.base, "base.")
    fill(branches, "base.")
    fill(net.backbone.bn, "bottleneck.")
    net.backbone.bn.bias.set_value(paddle.zeros([channels[-1]]))
    net.classifier.W.set_value(draw("classifier.weight", (classes, channels[-1])))
    return net, branches


def reached(layer, prefix):
    """Published names, two levels, of the parts that have a gradient."""
    gradients = published_gradients(layer, prefix)
    return {".".join(name.split(".")[:2]) for name, grad in gradients.items() if np.abs(grad).max() > 0}


def published_gradients(layer, prefix):
    named = {f"{prefix}{name}": parameter.grad for name, parameter in layer.named_parameters()}
    named = {"classifier.weight" if name == "W" else name: grad for name, grad in named.items()}
    return {name: grad.numpy() for name, grad in named.items() if grad is not None}


def assert_total_gradients(gradients, data, prefix):
    """Norms of all parameters, samples of some."""
    norms = dict(zip(data[f"{prefix}param_names"].tolist(), data[f"{prefix}total_gradnorm"], strict=True))
    compared = [name for name, norm in norms.items() if norm > 1e-3]  # smaller ones are analytically zero
    assert len(compared) > 60
    for name in compared:
        assert np.linalg.norm(gradients[name]) == pytest.approx(norms[name], rel=5e-3), name
    sampled = {f"{prefix}dtotal_{name.replace('.', '_')}": name for name in norms}
    stored = [key for key in sampled if key in data]
    assert len(stored) == 6
    for key in stored:
        assert_sampled(gradients[sampled[key]], data, key, 2e-2)


def branch_vectors(net, branches, out, data, prefix, tolerance):
    vectors = branches(out.maps)
    assert list(vectors) == [4, 3, 2, 1]
    for stage, vector in vectors.items():
        assert_sampled(vector, data, f"{prefix}vec{stage}", tolerance)
    for stage in (1, 2, 3):
        gate = branches.gate(stage, out.maps[stage - 1])
        assert_sampled(gate, data, f"{prefix}gate{stage}", tolerance)
        assert_sampled(gate * out.maps[stage - 1], data, f"{prefix}map{stage}", tolerance)
    students21 = [float(feature_hint(vectors[s], vectors[3])) for s in (2, 1)]
    students321 = [float(feature_hint(vectors[s], vectors[4])) for s in (3, 2, 1)]
    np.testing.assert_allclose(students21, data[f"{prefix}dist_teacher3_students21"], rtol=3e-4)
    np.testing.assert_allclose(students321, data[f"{prefix}dist_teacher4_students321"], rtol=3e-4)
    return vectors


def assert_modes(vectors, data, prefix):
    coefficient = float(data[f"{prefix}lambda"])
    sums = {
        "reference": float(data[f"{prefix}kd_reference"]),
        "seed": coefficient * data[f"{prefix}dist_teacher3_students21"].sum(),
        "fixed": coefficient * data[f"{prefix}dist_teacher4_students321"].sum(),
    }
    for mode, expected in sums.items():
        term = SelfDistillation(mode, coefficient).feature_term(vectors)
        assert float(term) == pytest.approx(expected, rel=3e-4)


@pytest.mark.slow
def test_self_distilling_resnet18(parity):
    data, prefix = parity("kd"), "resnet18_kd_"
    net, branches = distilling(18, int(data[f"{prefix}num_classes"]))
    scalers = [count_parameters(getattr(branches, f"scala{stage}")) for stage in (1, 2, 3)]
    gates = [count_parameters(getattr(branches, f"attention{stage}")) for stage in (1, 2, 3)]
    assert scalers + gates == data[f"{prefix}params_scala123_attention123"].tolist()
    assert count_parameters(branches) == data[f"{prefix}params_base_extra_total"][1]
    labels = data[f"{prefix}labels"]
    out = net(image(data, f"{prefix}x"))
    vectors = branch_vectors(net, branches, out, data, prefix, 3e-4)
    assert_modes(vectors, data, prefix)
    assert_sampled(out.logits, data, f"{prefix}logits", 3e-4)
    assert_sampled(net.backbone.bn._mean, data, f"{prefix}neck_rm", 3e-4)
    assert_sampled(net.backbone.bn._variance, data, f"{prefix}neck_rv", 3e-4)
    parts = [(net.backbone.base, "base."), (branches, "base."), (net.backbone.bn, "bottleneck."), (net.classifier, "")]
    identity = label_smoothing_cross_entropy(out.logits, labels, 0.1) + batch_hard_triplet(out.global_feat, labels, 0.3)
    np.testing.assert_allclose(float(identity), data[f"{prefix}id_triplet_loss"], rtol=1e-5)

    def modules():
        return set().union(*(reached(*part) for part in parts))

    SelfDistillation("reference").feature_term(vectors).backward(retain_graph=True)
    assert modules() == set(data[f"{prefix}kdterm_grad_modules"].tolist())
    identity.backward(retain_graph=True)
    gradients = {}
    for part in parts:
        gradients |= published_gradients(*part)
    assert_total_gradients(gradients, data, prefix)
    assert modules() == set(data[f"{prefix}total_grad_modules"].tolist())

    for layer in (net, branches):
        for parameter in layer.parameters():
            parameter.clear_gradient(set_to_zero=False)
    SelfDistillation("fixed").feature_term(vectors).backward()
    assert modules() == set(data[f"{prefix}teacher4_grad_modules"].tolist())


@pytest.mark.slow
def test_self_distilling_resnet50(parity):
    data, prefix = parity("kd"), "resnet50_kd_"
    net, branches = distilling(50, int(data[f"{prefix}num_classes"]))
    assert count_parameters(branches) == data[f"{prefix}params_base_extra_total"][1]
    x = image(data, f"{prefix}x")
    net.eval()
    with paddle.no_grad():
        out = net(x[:2])
        assert_sampled(out.global_feat, data, f"{prefix}eval_before", 1e-5)
        assert_sampled(out.embedding, data, f"{prefix}eval_after", 1e-5)
        net.train()
        vectors = branch_vectors(net, branches, net(x), data, prefix, 3e-4)
    assert_modes(vectors, data, prefix)
