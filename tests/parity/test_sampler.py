"""P×K batches equal those of the public reference, drawn with Python and numpy seeds 1."""

import random

import numpy as np

from ppcls.data.sampler import draw_pk_batches


def test_batches_equal_the_reference(parity):
    ref = parity("sampler")
    batches = draw_pk_batches(
        ref["pids"].tolist(), ref["cams"].tolist(), 16, 4, random.Random(1), np.random.RandomState(1)
    )
    assert batches == ref["batches"].tolist()
