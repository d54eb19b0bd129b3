"""Distillation objects by name: configuration errors, needs, invariants all of them share."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.loss.distillation import DISTILLATIONS, build_distillation
from ppcls.utils.errors import UserError
from tests.loss.gradcheck import assert_gradient

IDS = np.array([5, 2, 5, 2, 2, 5, 8, 8, 8, 5, 4])
ON_EMBEDDINGS = {
    "cosine": {},
    "sim-res": {},
    "triangle": {},
    "res-triangle": {},
    "l1": {},
    "l2": {},
    "relation": {},
    "metric": {"T": 0.7},
    "similitude": {},
    "tri-distillation": {},
}
ZERO_FOR_EQUAL = ["cosine", "sim-res", "triangle", "res-triangle", "l1", "l2", "relation", "similitude"]
ZERO_FOR_EQUAL += ["podnet", "hinton", "no", "GeoDL", "GeoDLxLUCIR"]
# Which of two images of an id comes first decides the signs that residuals of residuals are made of.
ANY_ORDER = sorted(set(ON_EMBEDDINGS) - {"res-triangle"})


def _output(seed, dtype=np.float64):
    batch, classes = len(IDS), 6
    rng = np.random.default_rng(seed)
    draw = lambda *shape: paddle.to_tensor(rng.standard_normal(shape).astype(dtype))  # noqa: E731
    return SimpleNamespace(
        embedding=draw(batch, 12), logits=draw(batch, classes), maps=[draw(batch, 3, 4, 2), draw(batch, 5, 2, 1)]
    )


def _with_embedding(embedding):
    return SimpleNamespace(embedding=embedding)


@pytest.mark.parametrize(("name", "config"), ON_EMBEDDINGS.items())
def test_gradient_with_unequal_counts_per_id(name, config):
    teacher, loss = _output(1), build_distillation(name, config)
    gradient = assert_gradient(
        lambda x: loss(_with_embedding(x), teacher, IDS), _output(2).embedding.numpy(), step=1e-7, rtol=1e-4
    )
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("config", [{"p": 1}, {"p": 3}, {"p": 1.5}, {"p": float("inf")}, {"normalize": True}])
def test_relation_of_any_order(config):
    teacher, loss = _output(1), build_distillation("relation", config)
    embedding = _output(2).embedding.numpy()
    assert_gradient(lambda x: loss(_with_embedding(x), teacher), embedding, step=1e-7, rtol=1e-4)
    first, second = np.triu_indices(len(IDS), 1)

    def norms(x):
        x = x / np.linalg.norm(x, axis=1, keepdims=True) if config.get("normalize") else x
        return np.linalg.norm(x[first] - x[second], ord=config.get("p", 2), axis=1)

    expected = np.abs(norms(embedding) - norms(teacher.embedding.numpy())).mean()
    assert float(loss(_output(2), teacher)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ZERO_FOR_EQUAL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_outputs_cost_nothing(name, dtype):
    student = _output(3, dtype=dtype)
    student.embedding.stop_gradient = False
    value = build_distillation(name)(student, _output(3, dtype=dtype), IDS)
    assert float(value) == pytest.approx(0, abs=5e-6 if dtype == np.float32 else 1e-10)
    value.backward()
    if student.embedding.grad is not None:
        assert np.isfinite(student.embedding.grad.numpy()).all()


@pytest.mark.parametrize("name", ANY_ORDER)
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(len(IDS))))
def test_order_of_the_batch_has_no_influence(name, order):
    order = np.array(order)
    student, teacher, loss = _output(1), _output(2), build_distillation(name, ON_EMBEDDINGS[name])
    moved = [_with_embedding(out.embedding[paddle.to_tensor(order)]) for out in (student, teacher)]
    assert float(loss(*moved, IDS[order])) == pytest.approx(float(loss(student, teacher, IDS)), rel=1e-9)


def test_the_teacher_is_constant():
    student, teacher = _output(1), _output(2)
    for tensor in (teacher.embedding, teacher.logits, *teacher.maps):
        tensor.stop_gradient = False
    student.embedding.stop_gradient = False
    for name in DISTILLATIONS.names():
        if not build_distillation(name).needs & {"attention", "old_head"}:
            (build_distillation(name)(student, teacher, IDS) + student.embedding.sum()).backward()
    assert all(t.grad is None for t in (teacher.embedding, teacher.logits, *teacher.maps))


def test_no_distillation_is_zero_and_can_be_differentiated():
    value = build_distillation("no")(None, None)
    assert float(value) == 0.0
    value.backward()
    weight = paddle.to_tensor([2.0], stop_gradient=False)
    (weight.sum() + build_distillation("no")(None, None)).backward()
    assert weight.grad.item() == 1.0


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("sim-rez", {}, "unknown distillation type 'sim-rez'; did you mean 'sim-res'"),
        ("podnet", {"colapse": "none"}, "no setting 'colapse'; did you mean 'collapse'"),
        ("podnet", {"collapse": "chanel"}, "unknown collapse 'chanel'; did you mean 'channel'"),
        ("podnet", {"criterion": 3}, "unknown criterion '3'"),
        ("podnet", {"factors": [1]}, "factors must be two numbers"),
        ("cosine", {"T": 2}, "no setting 'T'; it takes none"),
        ("hinton", {"T": 0}, "T must be a number above 0"),
        ("hinton", {"T": "two"}, "T must be a number above 0"),
        ("metric", {"T": True}, "T must be a number above 0"),
        ("relation", {"p": 0.5}, "p must be at least 1"),
        ("relation", {"normalize": "no"}, "normalize must be true or false"),
        ("similitude", {"grouping": "rows"}, "grouping must be"),
        ("GradCAM", {"layer": 1.5}, "layer must be"),
        ("tri-distillation", {"margin": "x"}, "margin must be"),
    ],
)
def test_configuration_errors(name, config, message):
    with pytest.raises(UserError, match=message):
        build_distillation(name, config)


def test_needs():
    needs = {name: set(build_distillation(name).needs) for name in DISTILLATIONS.names()}
    assert needs["no"] == set()
    assert needs["sim-res"] == {"embedding", "pids"}
    assert needs["podnet"] == {"embedding", "maps"}
    assert needs["hinton"] == {"logits"}
    assert needs["GradCAM"] == needs["LwM"] == {"maps", "logits", "attention"}
    assert needs["always-be-dreaming"] == {"embedding", "logits", "old_head"}


def test_missing_inputs():
    student, teacher = _output(1), _output(2)
    with pytest.raises(UserError, match="needs the person ids"):
        build_distillation("sim-res")(student, teacher)
    with pytest.raises(UserError, match="needs the previous classifier"):
        build_distillation("always-be-dreaming")(student, teacher)
    student.embedding = student.embedding[:, :5]
    with pytest.raises(UserError, match=r"\[11, 5\] and \[11, 12\]"):
        build_distillation("cosine")(student, teacher)
