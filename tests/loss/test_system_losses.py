"""Invariants of the losses of the published systems, and their bad inputs."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.loss import batch_hard_triplet, label_smoothing_cross_entropy, soft_weighted_triplet
from ppcls.loss.aligned_triplet import aligned_triplet
from ppcls.loss.center import center_loss, draw_centers
from ppcls.loss.centroid_triplet import centroid_triplet, slot_numbers
from ppcls.loss.circle import circle_pairs, cosface_pairs
from ppcls.loss.classification import adaptive_label_smoothing_cross_entropy
from ppcls.loss.dmli import dmli, shortest_path
from ppcls.loss.improved_triplet import improved_triplet
from ppcls.loss.learned_weights import LearnedLossWeights, uncertainty_weighted
from ppcls.loss.mutual import class_mutual, metric_mutual
from ppcls.loss.self_distillation import ROLES, SelfDistillation, feature_hint
from ppcls.utils.errors import UserError
from tests.loss.gradcheck import assert_gradient

IDS = np.array([7, 3, 7, 3, 3, 9, 11, 11, 7, 9])
FEATURES = np.random.default_rng(1).standard_normal((len(IDS), 5))
seeds = st.integers(0, 10**6)

PAIR_LOSSES = {
    "circle": circle_pairs,
    "cosface": cosface_pairs,
    "improved": improved_triplet,
    "improved, inside": lambda x, ids: improved_triplet(x, ids, form="inside"),
    "centroid": centroid_triplet,
    "centroid, paper": lambda x, ids: centroid_triplet(x, ids, variant="paper"),
    "batch hard, cosine": lambda x, ids: batch_hard_triplet(x, ids, 0.3, metric="cosine"),
    "batch hard, unit": lambda x, ids: batch_hard_triplet(x, ids, 0.3, normalize=True),
    "weighted, stabilised": lambda x, ids: soft_weighted_triplet(x, ids, stabilizer=1e-6),
}


def tensor(array, grad=False):
    return paddle.to_tensor(np.asarray(array), stop_gradient=not grad)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_order_of_the_batch_has_no_influence(name, data):
    """(Centroids: rows of an id keep their slots, so ids are shuffled as a whole.)"""
    ids = np.repeat(data.draw(st.permutations(range(4)))[:3], data.draw(st.integers(2, 4)))
    features = np.random.default_rng(data.draw(seeds)).standard_normal((len(ids), 4))
    order = np.array(data.draw(st.permutations(range(len(ids)))))
    if name.startswith("centroid"):
        order = np.argsort(ids, kind="stable")
    loss = PAIR_LOSSES[name]
    shuffled = float(loss(tensor(features[order]), ids[order]))
    assert shuffled == pytest.approx(float(loss(tensor(features), ids)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in PAIR_LOSSES if name != "circle"])  # holds its weights constant
def test_gradients(name):
    assert_gradient(lambda x: PAIR_LOSSES[name](x, IDS), FEATURES)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_equal_features_have_a_finite_loss_and_gradient(name):
    x = tensor(np.full((4, 3), 17.3, np.float32), grad=True)
    loss = PAIR_LOSSES[name](x, [0, 0, 1, 1])
    loss.backward()
    assert np.isfinite(float(loss)) and np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("name", [name for name in PAIR_LOSSES if not name.startswith("centroid")])
def test_a_batch_of_one_id_is_refused(name):
    with pytest.raises(UserError, match="at least two ids"):
        PAIR_LOSSES[name](tensor(FEATURES), np.zeros(len(IDS), int))


def test_half_precision_is_widened():
    half = paddle.to_tensor(FEATURES.astype("float16"))
    for loss in PAIR_LOSSES.values():
        assert loss(half, IDS).dtype == paddle.float32


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 6), st.floats(0, 1))
def test_smoothing_forms_agree_where_they_must(seed, classes, epsilon):
    """epsilon over all classes is epsilon·(C-1)/C over the others; logits may be shifted."""
    rng = np.random.default_rng(seed)
    logits, labels = tensor(rng.standard_normal((5, classes))), rng.integers(0, classes, 5)
    everywhere = float(label_smoothing_cross_entropy(logits, labels, epsilon))
    others = label_smoothing_cross_entropy(logits, labels, epsilon * (classes - 1) / classes, "others")
    assert float(others) == pytest.approx(everywhere, rel=1e-9)
    assert float(label_smoothing_cross_entropy(logits + 5.0, labels, epsilon)) == pytest.approx(everywhere, rel=1e-9)
    none = float(adaptive_label_smoothing_cross_entropy(logits, labels, 0.0))
    assert none == pytest.approx(float(label_smoothing_cross_entropy(logits, labels, 0.0)), rel=1e-9)


@pytest.mark.parametrize("kwargs", [{"squared": True}, {"squared": False}])
def test_center_loss_moves_the_batchs_classes_only(kwargs):
    centers = draw_centers(13, 5, np.random.RandomState(0))
    x = tensor(FEATURES.astype("float32"), grad=True)
    center_loss(x, IDS, centers, **kwargs).backward()
    moved = np.flatnonzero(np.abs(centers.grad.numpy()).sum(1))
    assert moved.tolist() == sorted(set(IDS))
    np.testing.assert_allclose(centers.grad.numpy().sum(0), -x.grad.numpy().sum(0), rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="label 13 for a table of centres"):
        center_loss(x, IDS + 2, centers)


def centroids_by_hand(features, ids, real, margin, variant):
    """The definition in loops."""
    slots = slot_numbers(ids)
    terms = []
    for slot in range(slots.max() + 1):
        queries, centroids, names = [], [], []
        for row in np.flatnonzero((slots == slot) & real):
            others = [k for k in np.flatnonzero((ids == ids[row]) & real) if k != row]
            if others:
                queries.append(features[row])
                centroids.append(features[others].mean(0))
                names.append(ids[row])
        if len(names) < 2:
            continue
        names = np.array(names)
        if variant == "paper":
            d = np.linalg.norm(np.array(queries)[:, None] - np.array(centroids)[None], axis=2)
            gaps = [d[i, i] - np.delete(d[i], i).min() for i in range(len(names))]
        else:
            both, names = np.array(queries + centroids), np.concatenate([names, names])
            d = np.linalg.norm(both[:, None] - both[None], axis=2)
            gaps = [row[names == name].max() - row[names != name].min() for row, name in zip(d, names, strict=True)]
        terms.append(np.maximum(np.array(gaps) + margin, 0).mean())
    return np.mean(terms) if terms else 0.0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), seeds, st.sampled_from(["reference", "paper"]))
def test_centroids_follow_the_definition(ids, seed, variant):
    """Any counts per id, ids in any place, any rows mock."""
    ids, rng = np.array(ids), np.random.default_rng(seed)
    features, real = rng.standard_normal((len(ids), 4)), rng.random(len(ids)) < 0.8
    loss = float(centroid_triplet(tensor(features), ids, 0.5, real=real, variant=variant))
    assert loss == pytest.approx(centroids_by_hand(features, ids, real, 0.5, variant), rel=1e-6, abs=1e-9)


def test_centroids_of_mock_rows_and_wrong_arguments():
    x = tensor(FEATURES, grad=True)
    real = np.ones(len(IDS), bool)
    real[[2, 4]] = False
    centroid_triplet(x, IDS, 5.0, real=real).backward()
    assert (x.grad.numpy()[~real] == 0).all() and (x.grad.numpy()[real] != 0).any()
    assert float(centroid_triplet(x, np.arange(len(IDS)))) == 0.0  # nobody has a second image
    with pytest.raises(ValueError, match="reference or paper"):
        centroid_triplet(x, IDS, variant="other")
    with pytest.raises(ValueError, match="3 marks"):
        centroid_triplet(x, IDS, real=np.ones(3, bool))


def test_mock_anchors_do_not_count_but_are_candidates():
    x, real = tensor(FEATURES), IDS != 7
    loss = float(batch_hard_triplet(x, IDS, 0.3, anchors=real))
    alone = [float(batch_hard_triplet(x, IDS, 0.3, anchors=np.arange(len(IDS)) == k)) for k in np.flatnonzero(real)]
    assert loss == pytest.approx(np.mean(alone), rel=1e-9)


def path_by_hand(cost):
    total = np.full(cost.shape, np.inf)
    for i, j in np.ndindex(*cost.shape):
        before = min(total[i - 1, j] if i else np.inf, total[i, j - 1] if j else np.inf)
        total[i, j] = cost[i, j] + (before if i or j else 0.0)
    return total


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), seeds)
def test_shortest_path(height, width, pairs, seed):
    cost = np.random.default_rng(seed).random((height, width, pairs))
    variable = tensor(cost, grad=True)
    totals = shortest_path(variable)
    totals.sum().backward()
    on_path = variable.grad.numpy()
    for pair in range(pairs):
        assert float(totals[pair]) == pytest.approx(path_by_hand(cost[..., pair])[-1, -1], rel=1e-12)
    assert set(np.unique(on_path)) <= {0.0, 1.0}
    np.testing.assert_allclose((on_path * cost).sum((0, 1)), totals.numpy(), rtol=1e-12)
    assert (on_path.sum((0, 1)) == height + width - 1).all()
    assert (on_path[0, 0] == 1).all() and (on_path[-1, -1] == 1).all()


def stripes(rng, bodies, dim=5, count=4):
    x = rng.standard_normal((bodies, dim, count))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 5), st.booleans())
def test_local_distances_are_symmetric_and_bounded(seed, n, aligned):
    rng = np.random.default_rng(seed)
    x, y = tensor(stripes(rng, n)), tensor(stripes(rng, n))
    distance = dmli(x, y, aligned=aligned).numpy()
    np.testing.assert_allclose(dmli(y, x, aligned=aligned).numpy(), distance, rtol=1e-12)
    assert (distance >= 0).all() and (distance <= 7 * np.tanh(1.0)).all()
    # upside down, both bodies are matched from the other end
    flipped = dmli(x.flip(2), y.flip(2), aligned=aligned).numpy()
    np.testing.assert_allclose(flipped, distance, rtol=1e-12)


def test_equal_bodies_keep_their_digits_and_have_a_finite_gradient():
    x = tensor(stripes(np.random.default_rng(3), 2, 64, 8).astype("float32"), grad=True)
    exact = dmli(x.astype("float64"), x.astype("float64")).numpy()
    distance = dmli(x, x)
    np.testing.assert_allclose(distance.numpy(), exact, atol=1e-6)
    distance.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_gradients_of_local_distances():
    rng = np.random.default_rng(0)
    x, y = stripes(rng, 3), tensor(stripes(rng, 3))
    assert_gradient(lambda z: dmli(z, y).sum(), x)
    assert_gradient(lambda z: dmli(z, y, aligned=False).sum(), x)
    assert_gradient(lambda z: sum(aligned_triplet(tensor(FEATURES[:3]), z, [0, 0, 1], 3.0)), x)


def test_shapes_that_do_not_fit():
    x = paddle.zeros([2, 3, 4])
    for other in ([2, 5, 4], [3, 3, 4]):
        with pytest.raises(ValueError, match="equal N and d"):
            dmli(x, paddle.zeros(other))
    with pytest.raises(ValueError, match="no common heights"):
        dmli(x, paddle.zeros([2, 3, 6]), aligned=False)


def test_aligned_triplet_mines_with_global_distances():
    rng = np.random.default_rng(5)
    local = tensor(stripes(rng, len(IDS)))
    both = aligned_triplet(tensor(FEATURES), local, IDS, 0.3)
    assert float(both.global_loss) == pytest.approx(float(batch_hard_triplet(tensor(FEATURES), IDS, 0.3)), rel=1e-9)
    d = np.linalg.norm(FEATURES[:, None] - FEATURES[None], axis=2)
    same = IDS[:, None] == IDS[None]
    far, near = np.where(same, d, -1).argmax(1), np.where(same, np.inf, d).argmin(1)
    to_far, to_near = (dmli(local, tensor(local.numpy()[rows])).numpy() for rows in (far, near))
    expected = np.maximum(to_far - to_near + 0.3, 0).mean()
    assert float(both.local_loss) == pytest.approx(expected, rel=1e-6)


def test_networks_that_agree_teach_each_other_nothing():
    x = tensor(FEATURES, grad=True)
    assert float(class_mutual(x, x)) == pytest.approx(0, abs=1e-12)
    assert float(metric_mutual(x, x + 3.0)) == pytest.approx(0, abs=1e-12)
    assert_gradient(lambda z: metric_mutual(z, tensor(2 * FEATURES[::-1].copy())), FEATURES)


def test_learned_weights_settle_where_theory_says():
    """At e^{-s} = 1/(2L) for a classification, 1/L for a regression; weight decay leaves s alone."""
    weights = LearnedLossWeights({"id": "classification", "triplet": "regression"})
    optimizer = paddle.optimizer.Momentum(0.1, 0.9, weights.parameters(), use_nesterov=True, weight_decay=0.5)
    losses = {"id": paddle.to_tensor(1.5), "triplet": paddle.to_tensor(0.4)}
    for _ in range(300):
        weights(losses).backward()
        optimizer.step()
        optimizer.clear_grad()
        weights.clamp()
    found = weights.weights()
    assert found["id"] == pytest.approx(1 / 3.0, rel=1e-3)
    assert found["triplet"] == pytest.approx(0.5 / 0.4, rel=1e-3)
    assert sorted(weights.state_dict()) == ["s_id", "s_triplet"]


def test_learned_weights_stay_in_bounds_and_know_their_losses():
    weights = LearnedLossWeights({"id": "classification"})
    weights.s_id.set_value(paddle.to_tensor([9.0]))
    weights.clamp()
    assert float(weights.s_id) == 3.0
    expected = uncertainty_weighted(paddle.to_tensor(2.0), paddle.to_tensor(3.0))
    assert float(weights({"id": paddle.to_tensor(2.0)})) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="'triplet'"):
        weights({"triplet": paddle.to_tensor(1.0)})
    with pytest.raises(ValueError, match="classification or regression"):
        LearnedLossWeights({"id": "other"})


def branch_vectors(seed=0, batch=4, grad=True):
    rng = np.random.default_rng(seed)
    return {stage: tensor(rng.standard_normal((batch, 6)), grad) for stage in (4, 3, 2, 1)}


@pytest.mark.parametrize("mode", ROLES)
@pytest.mark.parametrize("reduction", ["batch_fro", "mean"])
def test_only_students_learn_from_features(mode, reduction):
    vectors = branch_vectors()
    SelfDistillation(mode, reduction=reduction).feature_term(vectors).backward()
    learned = {stage for stage, vector in vectors.items() if vector.grad is not None}
    assert learned == set(ROLES[mode][1])


def test_branch_classifiers_of_the_fixed_mode():
    rng = np.random.default_rng(0)
    logits = {stage: tensor(rng.standard_normal((4, 3)), grad=True) for stage in (4, 3, 2, 1)}
    hard, soft = SelfDistillation("fixed", alpha=0.3).branch_terms(logits, logits[4], [0, 1, 2, 0])
    (hard + soft).backward()
    assert logits[4].grad is None
    assert all(np.abs(logits[stage].grad.numpy()).max() > 0 for stage in (1, 2, 3))
    plain = [float(label_smoothing_cross_entropy(logits[s], [0, 1, 2, 0], 0.0)) for s in (1, 2, 3)]
    assert float(hard) == pytest.approx(0.7 * sum(plain), rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 5))
def test_mean_hint_ignores_batch_size_and_length(seed, times):
    vectors = branch_vectors(seed, grad=False)
    once = float(feature_hint(vectors[1], vectors[4], "mean"))
    repeated = [paddle.concat([vectors[stage]] * times) * 3.0 for stage in (1, 4)]
    assert float(feature_hint(*repeated, "mean")) == pytest.approx(once, rel=1e-9)
    assert 0 <= once <= 4
    fro = float(feature_hint(vectors[1], vectors[4]))
    doubled = [paddle.concat([vectors[stage]] * times) for stage in (1, 4)]
    assert float(feature_hint(*doubled)) == pytest.approx(fro * times**0.5, rel=1e-9)


def test_equal_branches_have_a_finite_gradient():
    x = tensor(np.ones((2, 3)), grad=True)
    feature_hint(x, x).backward()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mode": "other"}, "unknown self-distillation mode"),
        ({"teacher": 3, "students": (3,)}, "do not fit"),
        ({"teacher": 1, "students": (1,)}, "do not fit"),
        ({"students": ()}, "do not fit"),
        ({"alpha": 2.0}, "alpha must be"),
        ({"temperature": 0.0}, "temperature > 0"),
    ],
)
def test_impossible_self_distillation(kwargs, message):
    with pytest.raises(UserError, match=message):
        SelfDistillation(**kwargs)
