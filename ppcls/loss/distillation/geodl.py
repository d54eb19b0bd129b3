"""GeoDL: distillation along the geodesic between the subspaces of old and new features.

Simon et al., "On Learning the Geodesic Path for Incremental Learning", CVPR 2021; the geodesic flow kernel
is Gong et al., CVPR 2012. The kernel is a constant of the loss, so it is built with numpy in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import paddle
from scipy.linalg import lapack

from ppcls.loss.distillation.base import Context, Distillation, embeddings, factor_pair
from ppcls.loss.distillation.geometric import cosine
from ppcls.loss.pairwise import l2_normalize
from ppcls.utils.errors import UserError

COMPLEMENT = 60
"""Columns of the orthogonal complement of the student's subspace that take part."""
_TINY = 1e-12


def geodl(new: paddle.Tensor, old: paddle.Tensor) -> paddle.Tensor:
    """mean_i q_i K q_i^T, q = unit(new) - unit(old), K the (constant) geodesic flow kernel of the batches.

    Args:
        new, old: [B, D] embeddings of the same images, 3 <= B, D > B - 2.

    Raises:
        UserError: the batch is too small or the embedding too short for a subspace of B - 2 dimensions, or an
            embedding is not finite.
    """
    new, old = l2_normalize(new), l2_normalize(old)
    basis, core = geodesic_kernel(new.detach().numpy(), old.detach().numpy())
    basis, core = (paddle.to_tensor(array).astype(new.dtype) for array in (basis, core))
    projected = (new - old) @ basis
    return ((projected @ core) * projected).sum(1).mean()


def geodesic_kernel(new: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kernel in factors: K = basis @ core @ basis.T, without a D x D matrix.

    Args:
        new, old: [B, D] unit rows.

    Returns:
        basis [D, s + r] with s = B - 2 and r = min(60, D - s): the student's principal subspace and a
        slice of its complement; core [s + r, s + r]. Both float64.
    """
    samples, dims = new.shape
    size = samples - 2
    if size < 1 or dims <= size:
        raise UserError(
            f"GeoDL spans a subspace of B - 2 = {size} dimensions in {dims}-d embeddings; it needs 0 < B - 2 < D"
        )
    if not (np.isfinite(new).all() and np.isfinite(old).all()):
        raise UserError("GeoDL got NaN or infinite embeddings; training diverged, lower the learning rate")
    first, second = _subspace(new, size), _subspace(old, size)
    rest = complement(first, min(COMPLEMENT, dims - size))
    inside, outside = first.T @ second, rest.T @ second
    directions = _shared_directions(inside, outside)
    cosines, left = _columns(inside @ directions)
    _, right = _columns(outside @ directions)
    angle = np.arccos(np.clip(cosines, -1.0, 1.0))
    return np.concatenate([first, rest], axis=1), _core(left, -right, angle)


def complement(basis: np.ndarray, columns: int) -> np.ndarray:
    """The first ``columns`` vectors of a basis of the complement of orthonormal ``basis`` [D, s].

    These are the trailing Householder vectors of the QR factorisation, hence what
    ``scipy.linalg.null_space(basis.T)`` starts with when D is well above s, without forming its D x D matrix.
    """
    dims, size = basis.shape
    factored, tau, _, _ = lapack.dgeqrf(basis)
    selected = np.zeros((dims, columns), order="F")
    selected[size + np.arange(columns), np.arange(columns)] = 1.0
    work = max(64 * columns, 1)
    product, _, info = lapack.dormqr("L", "N", factored, tau, selected, work)
    if info:
        raise RuntimeError(f"LAPACK dormqr failed with info={info}")
    return product


def _subspace(rows: np.ndarray, size: int) -> np.ndarray:
    columns = rows.astype(np.float64).T
    columns = columns - columns.mean(axis=0, keepdims=True)
    return np.linalg.svd(columns, full_matrices=False)[0][:, :size]


def _shared_directions(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """One rotation for both blocks, as a generalised SVD has, from (G1 G2^-1 + G2 G1^-1) / 2."""
    first, second = inside.T @ inside, outside.T @ outside
    mixed = 0.5 * (first @ _approximate_inverse(second) + second @ _approximate_inverse(first))
    return np.linalg.svd(mixed)[0]


def _approximate_inverse(gram: np.ndarray) -> np.ndarray:
    """Square of one Newton-Schulz step towards the inverse square root of a positive semi-definite matrix."""
    norm = max(np.linalg.norm(gram), _TINY)
    root = 0.5 * (3.0 * np.eye(len(gram)) - gram / norm) / np.sqrt(norm)
    return root @ root


def _columns(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.linalg.norm(matrix, axis=0)
    return lengths, matrix / np.maximum(lengths, _TINY)


def _core(left: np.ndarray, right: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """diag(V1, V2) [[L1, L2], [L2, L4]] diag(V1, V2)^T for principal angles t; sin(2t)/2t is 1 at t = 0."""
    sinc = np.sinc(2.0 * angle / np.pi)
    cosc = (np.cos(2.0 * angle) - 1.0) / (2.0 * angle + _TINY)
    cross = (left * (0.5 * cosc)) @ right.T
    return np.block(
        [
            [(left * (0.5 * (1.0 + sinc))) @ left.T, cross],
            [cross.T, (right * (0.5 * (1.0 - sinc))) @ right.T],
        ]
    )


@dataclass(frozen=True)
class GeoDL(Distillation):
    """Type ``GeoDL``: :func:`geodl` of the embeddings. Published files set ``dim``; it has no effect."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding"})
    dim: int = 1024

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return geodl(*embeddings(student, teacher))


@dataclass(frozen=True)
class GeoDLxLUCIR(Distillation):
    """Type ``GeoDLxLUCIR``: factors[0]·:func:`geodl` + factors[1]·cosine. ``dim`` has no effect."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding"})
    dim: int = 2047
    factors: tuple[float, float] = (4.0, 5.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", factor_pair("GeoDLxLUCIR", self.factors))

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        new, old = embeddings(student, teacher)
        return self.factors[0] * geodl(new, old) + self.factors[1] * cosine(new, old)
