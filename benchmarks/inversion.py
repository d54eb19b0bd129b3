"""Inversion step of ResNet-50 at 256 x 128, images/s: ours against an equal network and loop in PyTorch.

One step of phase 2: forward through a frozen network, batch-norm statistics of all layers, total variation,
cross-entropy, gradient of the pixels, Adam. Ours is the real synthesizer: by itself, as two shards of a job, and with
the processor tuning off. All rows run in turn, each in a process of its own, with equal weights and noise; equal
losses show equal work.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks._measure import command

if __name__ == "__main__":
    command(__doc__, {"inversion": "inversion step at full resolution"})
