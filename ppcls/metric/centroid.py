"""Centroid retrieval: rank persons by the mean of their gallery features instead of single images.

Wieczorek et al., "On the Unreasonable Effectiveness of Centroids in Image Retrieval", ICONIP 2021. Centroids are
built with the gallery's *labels*, so the figures are not comparable with those of ``ranking.rank`` on the same
features: print both.

Respecting cameras. A query must not meet a centroid that contains images of its own person and camera. So an id
gets one centroid for each camera c that its queries come from: the mean of its gallery images from cameras other
than c (nothing if there are none; once only if two cameras give the same set of cameras). A query ignores those
centroids of its own id whose cameras include its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppcls.metric.distance import DEFAULT_BLOCK_BYTES, Scorer, as_features, feature_pair, score_strips
from ppcls.metric.ranking import JUNK_PID, Labels, RankingResult, rank_strips
from ppcls.utils.errors import UserError

UNKNOWN_PID = 0
CAMERA_RULES = ("respect", "reference", "all")
DISTRACTORS = ("images", "centroids", "none")


@dataclass(frozen=True)
class Centroids:
    """A gallery of means.

    Attributes:
        features: float32 [M, D], not normalised.
        pids: int64 [M].
        has_camera: bool [M, C]: images of this camera take part, for those in ``cameras``; all False where
            cameras do not matter.
        cameras: the distinct camera numbers, rising, [C].
    """

    features: np.ndarray
    pids: np.ndarray
    has_camera: np.ndarray
    cameras: np.ndarray


class CentroidLabels(Labels):
    """:class:`Labels` whose gallery items hold a set of cameras each."""

    def __init__(self, q_pids: np.ndarray, q_cams: np.ndarray, centroids: Centroids) -> None:
        super().__init__(q_pids, centroids.pids, q_cams, np.zeros(len(centroids.pids), np.int64))
        self._has_camera = centroids.has_camera
        place = np.searchsorted(centroids.cameras, self.q_cams).clip(max=len(centroids.cameras) - 1)
        self._place = np.where(centroids.cameras[place] == self.q_cams, place, -1)

    def same_camera(self, queries: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Does the centroid contain images of the query's camera, for each listed pair of one id."""
        place = self._place[queries]
        return self._has_camera[columns, place] & (place >= 0)


def gallery_centroids(
    gf: np.ndarray, labels: Labels, *, cameras: str = "respect", distractors: str = "images"
) -> Centroids:
    """Centroids of the gallery features ``gf`` [Ng, D] with the ids and cameras in ``labels``.

    Args:
        gf: gallery features; they go into the means as they are.
        labels: of all queries and gallery images. Junk (pid −1) takes no part.
        cameras: "respect" as above. "all": one centroid per id, cameras ignored (galleries without cameras, such
            as fashion; "how well would the gallery serve a new photo"). "reference": as "respect", but with the
            cameras that the published code uses by mistake, those at the gallery images' places in the list of
            all query and gallery images; for comparison with published figures.
        distractors: gallery ids that no query asks for. "images": one centroid of all its images for each such
            id, while the images of pid 0, which show many unknown people, stay single. "centroids": pid 0 is an
            id like any other. "none": left out, as the published code does when it respects cameras; it makes
            the gallery easier.

    Raises:
        UserError: unknown option, shapes that disagree, features that are not finite, or no centroid at all.
    """
    for name, value, known in (("cameras", cameras, CAMERA_RULES), ("distractors", distractors, DISTRACTORS)):
        if value not in known:
            raise UserError(f"unknown centroid option {name}={value!r}; choose one of {', '.join(known)}")
    gf = as_features(gf, "gallery features")
    labels.check(len(labels.q_pids), len(gf))
    g_cams = labels.g_cams
    if cameras == "reference":
        g_cams = np.concatenate((labels.q_cams, g_cams))[: len(g_cams)]
    known_cameras = np.unique(g_cams)
    groups: list[tuple[int, np.ndarray]] = []
    for pid in np.unique(labels.g_pids[labels.g_pids != JUNK_PID]).tolist():
        images = np.flatnonzero(labels.g_pids == pid)
        asked = np.unique(labels.q_cams[labels.q_pids == pid])
        groups += [(pid, chosen) for chosen in _groups(pid, images, g_cams[images], asked, cameras, distractors)]
    if not groups:
        raise UserError("no centroid: no gallery id is asked for from another camera; check the labels")
    has_camera = np.zeros((len(groups), len(known_cameras)), bool)
    if cameras != "all":
        for row, (_, images) in enumerate(groups):
            has_camera[row, np.searchsorted(known_cameras, g_cams[images])] = True
    means = np.stack([gf[images].mean(axis=0, dtype=np.float64) for _, images in groups])
    return Centroids(means.astype(np.float32), np.array([pid for pid, _ in groups]), has_camera, known_cameras)


def _groups(
    pid: int, images: np.ndarray, cams: np.ndarray, asked: np.ndarray, cameras: str, distractors: str
) -> list[np.ndarray]:
    """The sets of ``images`` (of one id, with ``cams``) that become centroids; ``asked``: its queries' cameras."""
    if not len(asked):
        if distractors == "none":
            return []
        if distractors == "images" and pid == UNKNOWN_PID:
            return list(images[:, None])
    if cameras == "all" or not len(asked):
        return [images]
    groups: dict[tuple[int, ...], np.ndarray] = {}
    for camera in asked.tolist():
        others = cams != camera
        if others.any():
            groups.setdefault(tuple(np.unique(cams[others]).tolist()), images[others])
    return list(groups.values())


def rank_centroids(
    qf: np.ndarray,
    gf: np.ndarray,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_cams: np.ndarray,
    g_cams: np.ndarray,
    *,
    cameras: str = "respect",
    distractors: str = "images",
    metric: str = "cosine",
    max_rank: int = 100,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> RankingResult:
    """mAP and CMC of queries against centroids; arguments and errors of ``ranking.rank``, and the options above.

    With "respect" an id can have several valid centroids for one query, hence mAP ≠ mean reciprocal rank.
    """
    qf, gf = feature_pair(qf, gf)
    labels = Labels(q_pids, g_pids, q_cams, g_cams)
    labels.check(len(qf), len(gf))
    centroids = gallery_centroids(gf, labels, cameras=cameras, distractors=distractors)
    strips = score_strips(Scorer(qf, centroids.features, metric), block_bytes)
    return rank_strips(strips, CentroidLabels(labels.q_pids, labels.q_cams, centroids), max_rank=max_rank)
