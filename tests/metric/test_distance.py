"""Similarities and distances against their definitions in float64."""

import numpy as np
import pytest

from ppcls.metric import distance
from ppcls.utils.errors import UserError

RNG = np.random.default_rng(3)
QUERY, GALLERY = RNG.standard_normal((9, 24)), RNG.standard_normal((31, 24))


def exact(metric):
    cosine = QUERY @ GALLERY.T / np.linalg.norm(QUERY, axis=1)[:, None] / np.linalg.norm(GALLERY, axis=1)
    squared = ((QUERY[:, None] - GALLERY) ** 2).sum(axis=2)
    return {"cosine": cosine, "squared": squared, "euclidean": np.sqrt(squared), "reference": 1 / (1 + cosine)}[metric]


@pytest.mark.parametrize("metric", ["cosine", "squared", "euclidean", "reference"])
@pytest.mark.parametrize("block_bytes", [1, 4 * 31 * 4, 2**20])
def test_blocks_cover_the_matrix(metric, block_bytes):
    parts = list(distance.blocks(QUERY, GALLERY, metric, block_bytes))
    assert all(block.nbytes <= max(block_bytes, 4 * 31) and block.dtype == np.float32 for _, block in parts)
    np.testing.assert_array_equal(np.concatenate([np.arange(9)[rows] for rows, _ in parts]), np.arange(9))
    np.testing.assert_allclose(np.concatenate([block for _, block in parts]), exact(metric), rtol=2e-6, atol=2e-6)


def test_zero_rows_and_opposite_vectors():
    assert distance.cosine_similarity(np.zeros((1, 3)), np.ones((2, 3))).tolist() == [[0, 0]]
    assert distance.reference_cosine_distance(np.ones((1, 4)), -np.ones((1, 4))).item() == np.inf


def test_distance_of_a_point_to_itself_is_not_nan():
    far = 1000 + RNG.standard_normal((5, 24))
    assert (distance.euclidean(far, far) >= 0).all()


def test_norms_are_accumulated_in_double():
    large = np.full((1, 2048), 1e19, np.float32)
    assert distance.squared_norms(large)[0] == pytest.approx(2048 * float(np.float32(1e19)) ** 2, rel=1e-12)


def test_errors():
    with pytest.raises(UserError, match="metric"):
        next(distance.blocks(QUERY, GALLERY, "l7"))
    with pytest.raises(UserError, match="block_bytes"):
        next(distance.blocks(QUERY, GALLERY, "cosine", 0))
    with pytest.raises(UserError, match="above 0"):
        distance.as_features(np.zeros((0, 4)))
    with pytest.raises(UserError, match="query features: 1 of 2"):
        distance.squared_euclidean(np.array([[1.0], [np.inf]]), np.ones((1, 1)))
