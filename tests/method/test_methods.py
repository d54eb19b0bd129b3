"""Every shipped algorithm makes a sound step; the particular ones do what their papers say."""

import numpy as np
import paddle
import pytest

from ppcls.configs.algo import CONFIG_FOLDER, AlgoConfig, load_algo
from ppcls.loss.distillation import build_distillation
from ppcls.method import Supervised, build_method, streams_of
from ppcls.method.augmented import AugmentedDistillation
from ppcls.method.inversion_incremental import InversionIncremental
from ppcls.optimizer import build_optimizer
from ppcls.utils.errors import UserError

ALGORITHMS = sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml"))
PARTS = ("pid_loss", "triplet_loss", "distillation_loss", "penalty", "attention_loss", "memory_loss", "mmd_loss")


def gradients(method, batch):
    """Summed gradients of one batch, with running statistics put back."""
    before = {name: value.numpy().copy() for name, value in method.net.state_dict().items()}
    method.train()
    for terms in method.losses(batch):
        terms["loss"].backward()
    found = {n: p.grad.numpy().copy() for n, p in method.net.named_parameters() if p.grad is not None}
    for parameter in method.net.parameters():
        parameter.clear_gradient(False)
    for name, value in method.net.state_dict().items():
        value.set_value(before[name])
    return found


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_takes_a_step(networks, batch, name):
    student, previous = networks
    algo = load_algo(name)
    views = 2 if algo.method_name == "augmented" else 1
    method = build_method(student, previous, algo, views)
    assert method.streams == streams_of(algo)
    data = batch(views)
    method.prepare(iter([{key: data[key] for key in method.streams}]))
    frozen = {key: value.numpy().copy() for key, value in previous.state_dict().items()}
    optimizer = build_optimizer(method.parameter_groups(), "SGD", 0.001)
    start = student.backbone.base.conv1.weight.numpy().copy()

    for step in range(2):
        method.train()
        seen = 0
        for terms in method.losses({key: data[key] for key in method.streams}):
            total = sum(terms[part].item() for part in PARTS if part in terms)
            assert np.isfinite(total)
            np.testing.assert_allclose(terms["loss"].item(), total / views, rtol=1e-4)
            terms["loss"].backward()
            seen += 1
        assert seen == views, step
        optimizer.step()
        optimizer.clear_grad()

    assert not np.array_equal(start, student.backbone.base.conv1.weight.numpy())
    for key, value in previous.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), frozen[key], err_msg=f"previous network moved: {key}")


def test_one_view_of_ad_is_gd(networks, batch):
    student, previous = networks
    loss = build_distillation("sim-res", {})
    ad = AugmentedDistillation(student, previous, loss, 3.0, views=1, cross_factor=0.9)
    gd = InversionIncremental(student, previous, loss, 3.0, views=1)
    ours, theirs = gradients(ad, batch(1)), gradients(gd, batch(1))
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value)


def test_cross_term_is_what_differs_from_pairwise(networks, batch):
    student, previous = networks
    loss, data = build_distillation("cosine", {}), batch(3)
    losses = {}
    for cross in (0.0, 0.6, 1.0):
        method = AugmentedDistillation(student, previous, loss, 5.0, views=3, cross_factor=cross)
        student.eval()  # equal statistics in all three
        losses[cross] = [terms["distillation_loss"].item() for terms in method.losses(data)]
    np.testing.assert_allclose(losses[0.6], 0.6 * np.array(losses[1.0]) + 0.4 * np.array(losses[0.0]), rtol=1e-5)
    assert np.abs(np.array(losses[0.0]) - losses[1.0]).max() > 1e-3


def test_two_views_average_their_gradients(networks, batch):
    student, _ = networks
    data = batch(2)
    both = gradients(Supervised(student, 2), data)
    parts = []
    for number in range(2):
        one = dict(data)
        one["new"] = type(data["new"])(images=[data["new"].images[number]], pids=data["new"].pids)
        parts.append(gradients(Supervised(student, 1), one))
    for name, value in both.items():
        scale = max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(value, (parts[0][name] + parts[1][name]) / 2, atol=1e-4 * scale, err_msg=name)


def test_dreamed_labels_come_after_the_new_ones(networks, batch):
    student, previous = networks
    method = InversionIncremental(student, previous, build_distillation("cosine", {}), 1.0)
    labels = method.joint_labels(batch())
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, *[4 + 4] * 4, *[1 + 4] * 4]


def test_ewc_penalty_starts_at_zero_and_grows(networks, batch):
    student, previous = networks
    method = build_method(student, previous, load_algo("ewc"))
    method.prepare(iter([batch(), batch(seed=1)]))
    assert all((value.numpy() >= 0).all() for value in method.importance.values())
    assert any((value.numpy() > 0).any() for value in method.importance.values())
    assert method.penalty().item() == 0.0
    weight = student.backbone.base.conv1.weight
    moved = 0.01
    weight.set_value(weight + moved)
    expected = 0.5 * (method.importance["base.conv1.weight"].numpy() * moved**2).sum()
    np.testing.assert_allclose(method.penalty().item(), expected, rtol=1e-3)

    again = build_method(student, previous, load_algo("ewc"))
    again.load_state_dict(method.state_dict())
    np.testing.assert_allclose(again.penalty().item(), expected, rtol=1e-3)


def test_importance_is_estimated_without_touching_the_networks(networks, batch):
    student, previous = networks
    before = {key: value.numpy().copy() for key, value in student.state_dict().items()}
    build_method(student, previous, load_algo("mas")).prepare(iter([batch()]))
    for key, value in student.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key], err_msg=key)
    assert all(parameter.grad is None for parameter in student.parameters())


def test_memory_bank_starts_at_class_centres_and_moves(networks, batch):
    student, previous = networks
    method = build_method(student, previous, load_algo("metric"))
    method.prepare(iter([batch()]))
    bank = method.bank.numpy()
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1.0, rtol=1e-5)
    list(method.losses(batch(seed=3)))
    moved = np.abs(method.bank.numpy() - bank).max(axis=1)
    assert (moved[[1, 4]] > 0).all() and (moved[[0, 2, 3]] == 0).all()


def test_attention_reaches_the_backbone(networks, batch):
    student, previous = networks
    method = build_method(student, previous, load_algo("lwm"))
    method.train()
    # A last map of one pixel has but one attention: the images must be large enough for several.
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=(8, 3, 96, 64)).astype(np.float32))
    attention = method.attention(student(images), method.remember(images), batch()["new"].pids)
    attention.backward()
    assert np.abs(student.backbone.base.layer4[0].conv1.weight.grad.numpy()).max() > 0


@pytest.mark.parametrize(
    ("algo", "message"),
    [
        ({"method": "agumented"}, "did you mean 'augmented'"),
        ({"method": "augmented"}, "cross_factor"),
        ({"method": "ewc"}, "regularization.factor"),
        ({"method": "co_distillation"}, "co_distillation.factor"),
        ({"distillation": {"type": "cosin"}}, "did you mean 'cosine'"),
        ({"method": "metric_memory", "regularization": {"factor": 1, "config": {"temprature": 1}}}, "temperature"),
    ],
)
def test_unsound_configurations_are_named(networks, algo, message):
    with pytest.raises(UserError, match=message):
        build_method(*networks, AlgoConfig(**algo))


def test_published_files_without_a_method_key_are_understood():
    assert AlgoConfig(distillation={"type": "sim-res", "cross_factor": 0.9}).method_name == "augmented"
    assert AlgoConfig(distillation={"type": "sim-res"}).method_name == "inversion_incremental"
    assert AlgoConfig(co_distillation={"factor": 3}).method_name == "co_distillation"
