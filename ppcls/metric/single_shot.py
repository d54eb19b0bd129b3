"""Single-gallery-shot sampling, the classic protocol of CUHK03.

Li et al., "DeepReID", CVPR 2014: the gallery holds *one* image per person. Data sets with several images each
are therefore sampled: for every query, ``repeats`` times, one kept image of every gallery id at random, and the
figures are means over all these trials. CUHK03 is tested so on its 20 classic splits of 100 persons, query set =
gallery set = the test images of the split.

The newer 767/700 split of CUHK03 (Zhong et al., CVPR 2017) is measured like Market-1501, that is by
``ranking.rank`` as it is. Toolboxes differ in the mAP they print beside the sampled CMC: here it is sampled too;
others print the full gallery's, which is ``ranking.rank`` without sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppcls.metric.distance import Parts
from ppcls.utils.errors import UserError
from ppcls.utils.seeding import numpy_rng


@dataclass(frozen=True)
class SingleShot:
    """How often, and with which seed, one image per gallery id is drawn.

    A draw depends on the seed and on the query's place in the query set, and picks places in the ranked list; so
    neither the order of the gallery nor the memory budget changes a result.

    Raises:
        UserError: ``repeats`` < 1.
    """

    repeats: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise UserError(f"single-shot evaluation with {self.repeats} repeats; it needs at least 1")

    def draw(self, query: int, sizes: np.ndarray) -> np.ndarray:
        """Which of its ``sizes`` [G] kept images stands for each gallery id: int64 [repeats, G] from 0.

        Ids come in the order of their best image; the images of an id from best to worst.
        """
        return numpy_rng(self.seed, "single_shot", int(query)).integers(0, sizes, (self.repeats, len(sizes)))

    def ranks(
        self, parts: Parts, queries: np.ndarray, strip: slice, q_pids: np.ndarray, g_pids: np.ndarray
    ) -> np.ndarray:
        """1-based rank of the query's id in every trial, int64 [len(queries) · repeats], query by query.

        ``parts``: scores of the query rows ``strip``, −∞ for images that do not count; ``queries``: those with a
        valid positive. Holds the strip's scores: 2 KiB per gallery image.
        """
        # Parts share a buffer, so several must be copied.
        blocks = [block if block.shape[1] == len(g_pids) else block.copy() for _, block in parts()]
        scores = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
        found = [np.empty(0, np.int64)]
        for query in queries.tolist():
            row = scores[query - strip.start]
            order = np.argsort(-row, kind="stable")
            found.append(self._trial_ranks(query, g_pids[order[row[order] > -np.inf]], q_pids[query]))
        return np.concatenate(found)

    def _trial_ranks(self, query: int, ranked_pids: np.ndarray, pid: int) -> np.ndarray:
        """Rank of ``pid`` among the drawn images, int64 [repeats]; ``ranked_pids``: the kept list, best first."""
        pids, best, ids = np.unique(ranked_pids, return_index=True, return_inverse=True)
        by_best = np.argsort(best)
        sizes = np.bincount(ids)[by_best]
        # Places of the ranked list, grouped by id: the ids by their best place, each id's places rising.
        place_of_id = np.empty(len(pids), np.int64)
        place_of_id[by_best] = np.arange(len(pids))
        places = np.argsort(place_of_id[ids], kind="stable")
        drawn = places[np.cumsum(sizes) - sizes + self.draw(query, sizes)]
        own = drawn[:, [place_of_id[np.searchsorted(pids, pid)]]]
        return 1 + np.count_nonzero(drawn < own, axis=1)
