"""PODNet: every collapse and criterion against numpy, with gradients."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppcls.loss.distillation import build_distillation
from ppcls.loss.distillation.podnet import pod_maps
from ppcls.utils.errors import UserError
from tests.loss.gradcheck import assert_gradient

RNG = np.random.default_rng(0)
NEW, OLD = RNG.standard_normal((2, 3, 4, 5, 2))
COLLAPSES = {
    "channel": lambda x: x.sum(1).reshape(3, -1),
    "vertical": lambda x: x.sum(2).reshape(3, -1),
    "horizon": lambda x: x.sum(3).reshape(3, -1),
    "spatial": lambda x: np.concatenate([x.sum(2).reshape(3, -1), x.sum(3).reshape(3, -1)], 1),
    "global": lambda x: x.sum((2, 3)),
    "none": lambda x: x.reshape(3, -1),
}
CRITERIA = {
    "cosine": lambda u, v: (1 - (u * v).sum(1)).mean(),
    "l1": lambda u, v: np.abs(u - v).sum(1).mean(),
    "l2": lambda u, v: ((u - v) ** 2).sum(1).mean(),
    "euclidean": lambda u, v: np.linalg.norm(u - v, axis=1).mean(),
}


@pytest.mark.parametrize("collapse", COLLAPSES)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_combination(collapse, criterion):
    vectors = [COLLAPSES[collapse](x**2) for x in (NEW, OLD)]
    vectors = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors]
    value = pod_maps([paddle.to_tensor(NEW)], [paddle.to_tensor(OLD)], collapse, criterion)
    assert float(value) == pytest.approx(CRITERIA[criterion](*vectors), rel=1e-9)
    old = [paddle.to_tensor(OLD)]
    assert_gradient(lambda x: pod_maps([x], old, collapse, criterion), NEW, directions=2, rtol=1e-4)


def test_factors_weigh_embedding_and_maps():
    make = lambda maps, seed: SimpleNamespace(  # noqa: E731
        embedding=paddle.to_tensor(np.random.default_rng(seed).standard_normal((3, 6))),
        maps=[paddle.to_tensor(maps)],
    )
    student, teacher = make(NEW, 1), make(OLD, 2)
    flat, maps, both = (
        float(build_distillation("podnet", {"factors": f})(student, teacher)) for f in ([1, 0], [0, 1], (5.0, 8.0))
    )
    assert both == pytest.approx(5 * flat + 8 * maps, rel=1e-9)
    assert both == pytest.approx(float(build_distillation("podnet")(student, teacher)), rel=1e-12)


def test_maps_must_fit():
    new, old = paddle.to_tensor(NEW), paddle.to_tensor(OLD)
    with pytest.raises(UserError, match="maps have shapes"):
        pod_maps([new], [old[:, :, :2]])
    with pytest.raises(UserError, match="one by one"):
        pod_maps([new], [old, old])
